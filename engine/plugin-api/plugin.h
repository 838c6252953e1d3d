/* What a plugin in C is written against: the first edition of the contract between the engine and a
 * plugin. The same tables in Rust, with their rules, are in src/abi/v1.rs; a test compiles this file
 * against them. A complete plugin in C is in plugins/examples/c-count.
 *
 * A plugin is a shared library with one exported function, isocenter_plugin_v1. Nothing here changes
 * after its first release, but for fields added at the end of a table: look at `size` before you use
 * one that was added. What is lent is lent for the length of one call. Who allocates, frees: a buffer
 * carries the function that releases it. */
#ifndef ISOCENTER_PLUGIN_H
#define ISOCENTER_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

/* How a call ended. */
typedef uint32_t isocenter_status;
#define ISOCENTER_OK 0u          /* The call succeeded. */
#define ISOCENTER_REJECTED 1u    /* The input is at fault: the same call would fail again. */
#define ISOCENTER_UNAVAILABLE 2u /* Something around it is at fault: another try may help. */
#define ISOCENTER_PANICKED 3u    /* The callee has a bug. */

/* Levels of lines for the log. */
#define ISOCENTER_ERROR 1u
#define ISOCENTER_WARNING 2u
#define ISOCENTER_INFORMATION 3u
#define ISOCENTER_DETAIL 4u

/* Bytes lent for the length of one call. Not terminated by a zero. */
typedef struct isocenter_bytes {
    const uint8_t *data;
    size_t length;
} isocenter_bytes;

/* Bytes given to the other side, which gives them back through `release`. */
typedef struct isocenter_buffer {
    uint8_t *data;
    size_t length;
    size_t capacity;
    void (*release)(uint8_t *data, size_t length, size_t capacity);
} isocenter_buffer;

/* A volume in Hounsfield units, lent: `geometry` is JSON, `values` go slice by slice, row by row. A
 * voxel of padding, which stands for no tissue, is NaN: no comparison with a threshold holds. */
typedef struct isocenter_volume {
    isocenter_bytes geometry;
    const float *values;
    size_t count;
} isocenter_volume;

/* What the engine lends to a plugin, for the length of one call of `process`. Pass `context` back to
 * every function, untouched. Every `problem`, `reference` and `response` is filled in whatever the
 * status: release it. If the status is ISOCENTER_REJECTED, it holds {"code": …, "reason": …} as JSON,
 * which `process` may pass on as its own response; otherwise a text for people. */
typedef struct isocenter_host {
    uint32_t size;
    uint32_t reserved;
    const void *context;
    /* Writes one line to the engine's log. The line must not identify a patient. */
    void (*log)(const void *context, uint32_t level, isocenter_bytes message);
    /* Reports the share of the work that is done, from 0 to 1000. */
    void (*progress)(const void *context, uint32_t per_mille);
    /* Not zero once the run was cancelled. */
    uint32_t (*is_cancelled)(const void *context);
    /* Lends the file of an instance, by its UID. */
    isocenter_status (*read_instance)(const void *context, isocenter_bytes instance,
                                      isocenter_bytes *file, isocenter_buffer *problem);
    /* Decodes the instances of a series, by its UID, and lends the volume. */
    isocenter_status (*read_volume)(const void *context, isocenter_bytes series,
                                    isocenter_volume *volume, isocenter_buffer *problem);
    /* Stores bytes; `reference` becomes JSON with their SHA-256 and length. */
    isocenter_status (*put_artifact)(const void *context, isocenter_bytes content,
                                     isocenter_buffer *reference);
    /* Asks the shared model; `response` becomes JSON. */
    isocenter_status (*infer)(const void *context, isocenter_bytes request,
                              isocenter_buffer *response);
} isocenter_host;

/* What a plugin offers to the engine. */
typedef struct isocenter_plugin {
    uint32_t size;
    uint32_t reserved;
    /* Describes the plugin: JSON with `name` and `version`. */
    isocenter_status (*describe)(isocenter_buffer *response);
    /* Checks the settings that a workflow sets under `with:`, as JSON. With any status but ISOCENTER_OK,
     * `response` names the problem as a text for people. */
    isocenter_status (*check)(isocenter_bytes settings, isocenter_buffer *response);
    /* Works on one node. `request` is JSON: {"settings": …, "input": …}. `response` must be
     * filled in, whatever the status: with the output as JSON, with {"code": …, "reason": …} if the
     * status is ISOCENTER_REJECTED, with a text for people otherwise. */
    isocenter_status (*process)(const isocenter_host *host, isocenter_bytes request,
                                isocenter_buffer *response);
    /* Requests a running call of `process` to end soon. Called from another thread. */
    void (*cancel)(void);
} isocenter_plugin;

/* The one exported function. What it returns lives as long as the library. */
const isocenter_plugin *isocenter_plugin_v1(void);

#endif
