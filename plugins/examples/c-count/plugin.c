/* Counts the voxels of CT volumes above a threshold. A complete plugin in C.
 *
 * Settings: { "threshold": 300 }, in Hounsfield units. */
#include "plugin.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_int cancelled;

static void release(uint8_t *data, size_t length, size_t capacity) {
    (void)length;
    (void)capacity;
    free(data);
}

/* Responds with a text. */
static isocenter_status answer(isocenter_status status, const char *text,
                               isocenter_buffer *response) {
    size_t length = strlen(text);
    uint8_t *data = malloc(length + 1);
    if (data == NULL) {
        length = 0;
        status = ISOCENTER_UNAVAILABLE;
    } else {
        memcpy(data, text, length);
    }
    *response = (isocenter_buffer){data, length, length, release};
    return status;
}

static isocenter_status rejected(const char *code, const char *reason,
                                 isocenter_buffer *response) {
    char text[512];
    snprintf(text, sizeof text, "{\"code\": \"%s\", \"reason\": \"%s\"}", code, reason);
    return answer(ISOCENTER_REJECTED, text, response);
}

/* A copy of lent bytes as a C string; NULL if there is no memory. */
static char *text_of(isocenter_bytes bytes) {
    char *text = malloc(bytes.length + 1);
    if (text != NULL) {
        memcpy(text, bytes.data, bytes.length);
        text[bytes.length] = '\0';
    }
    return text;
}

/* The number behind "threshold" in JSON. Not zero if there is one. */
static int threshold_of(const char *json, double *threshold) {
    const char *at = strstr(json, "\"threshold\":");
    if (at == NULL) {
        return 0;
    }
    char *end;
    at += strlen("\"threshold\":");
    *threshold = strtod(at, &end);
    return end != at;
}

static isocenter_status describe(isocenter_buffer *response) {
    return answer(ISOCENTER_OK, "{\"name\": \"c-count\", \"version\": \"1.0.0\"}", response);
}

static isocenter_status check(isocenter_bytes settings, isocenter_buffer *response) {
    char *json = text_of(settings);
    double threshold;
    int is_good = json != NULL && threshold_of(json, &threshold);
    free(json);
    if (!is_good) {
        return answer(ISOCENTER_REJECTED, "`threshold` must be a number", response);
    }
    return answer(ISOCENTER_OK, "", response);
}

/* Counts one series. Writes the engine's response to `problem` if the volume cannot be had: it must
 * be released then. */
static isocenter_status count_series(const isocenter_host *host, const char *series,
                                     double threshold, size_t *above, size_t *all,
                                     isocenter_buffer *problem) {
    isocenter_bytes name = {(const uint8_t *)series, strlen(series)};
    isocenter_volume volume = {{NULL, 0}, NULL, 0};
    isocenter_status status = host->read_volume(host->context, name, &volume, problem);
    if (status == ISOCENTER_OK) {
        problem->release(problem->data, problem->length, problem->capacity);
    }
    for (size_t i = 0; status == ISOCENTER_OK && i < volume.count; i++) {
        *above += volume.values[i] > threshold;
        *all += 1;
    }
    return status;
}

static isocenter_status process(const isocenter_host *host, isocenter_bytes request,
                                isocenter_buffer *response) {
    atomic_store(&cancelled, 0);
    char *json = text_of(request);
    double threshold;
    if (json == NULL) {
        return answer(ISOCENTER_UNAVAILABLE, "no memory", response);
    }
    if (!threshold_of(json, &threshold)) {
        free(json);
        return rejected("settings_invalid", "`threshold` must be a number", response);
    }
    size_t above = 0, all = 0, count = 0;
    int is_cancelled = 0;
    /* Where "series" is a text, it is the UID of one. */
    const char *key = "\"series\":\"";
    for (char *at = strstr(json, key); at != NULL; at = strstr(at, key)) {
        if (atomic_load(&cancelled) || host->is_cancelled(host->context)) {
            is_cancelled = 1;
            break;
        }
        at += strlen(key);
        char *end = strchr(at, '"');
        if (end == NULL) {
            break;
        }
        *end = '\0';
        isocenter_status status = count_series(host, at, threshold, &above, &all, response);
        if (status != ISOCENTER_OK) {
            /* The engine's response is ours: a code and a reason if it rejects the series. */
            free(json);
            return status;
        }
        count++;
        at = end + 1;
    }
    free(json);
    if (is_cancelled) {
        return answer(ISOCENTER_UNAVAILABLE, "the run was cancelled", response);
    }
    if (count == 0) {
        return rejected("no_series", "the study has no series", response);
    }
    const char *line = "counted";
    host->log(host->context, ISOCENTER_INFORMATION,
              (isocenter_bytes){(const uint8_t *)line, strlen(line)});
    char output[512];
    snprintf(output, sizeof output,
             "{\"findings\": [{\"code\": {\"value\": \"voxels-above\", \"scheme\": "
             "\"99ISOCENTER\", \"meaning\": \"Voxels above a threshold\"}, \"site\": null, "
             "\"presence\": \"%s\", \"text\": \"%zu of %zu voxels in %zu series are above %g\"}]}",
             above > 0 ? "present" : "absent", above, all, count, threshold);
    return answer(ISOCENTER_OK, output, response);
}

static void cancel(void) { atomic_store(&cancelled, 1); }

const isocenter_plugin *isocenter_plugin_v1(void) {
    static const isocenter_plugin table = {
        sizeof(isocenter_plugin), 0, describe, check, process, cancel,
    };
    return &table;
}
