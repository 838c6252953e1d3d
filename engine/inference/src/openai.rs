//! Requests and responses of the chat completions interface (`POST /v1/chat/completions`) that
//! servers of language models share, in both directions and without I/O.
//!
//! - As a server, [`parse_request`] reads what clients of the Citrus-V release send, and
//!   [`response`], [`chunk`], [`last_chunk`] and [`error_body`] write what they expect.
//! - As a client, [`request_body`] asks such a server, and [`parse_response`] reads its response.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{
    AnswerFlaw, AnswerMask, ChatMessage, InferRequest, InferResponse, Priority, Role, Sampling,
};
use imaging::FlatMask;
use imaging::picture::{size_of, smart_size};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::wire::{InferFault, answer_mask, response_of_text};

/// The place of a picture in a text, as clients of the release write it.
const IMAGE_TAG: &str = "<image>";

/// The body of a request. Other fields are ignored.
#[derive(Debug, Deserialize)]
struct CompletionBody {
    model: String,
    messages: Vec<ReceivedMessage>,
    #[serde(default)]
    max_tokens: Option<usize>,
    #[serde(default)]
    max_completion_tokens: Option<usize>,
    #[serde(default)]
    temperature: Option<f32>,
    #[serde(default)]
    top_p: Option<f32>,
    #[serde(default)]
    repetition_penalty: Option<f32>,
    #[serde(default)]
    seed: Option<u64>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    n: Option<u32>,
    /// An extension of the interface: [`InferRequest::mask_pictures`].
    #[serde(default)]
    mask_pictures: Vec<usize>,
}

/// A request of a client, and how it wants the response.
#[derive(Debug)]
pub struct ChatCompletion {
    /// The request.
    pub request: InferRequest,
    /// Whether the text is sent as server-sent events while it is generated.
    pub is_streamed: bool,
}

#[derive(Debug, Deserialize)]
struct ReceivedMessage {
    role: Role,
    content: Content,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text { text: String },
    ImageUrl { image_url: Url },
    Image { image: String },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Url {
    Plain(String),
    Object { url: String },
}

/// Reads the request of a client to the model `name`.
///
/// # Errors
///
/// Returns what is not supported: an unknown model, a picture by address (SEC-33), several choices.
pub fn parse_request(body: &[u8], name: &str) -> Result<ChatCompletion, InferFault> {
    let body: CompletionBody = serde_json::from_slice(body)
        .map_err(|error| InferFault::refused(format!("the request cannot be read: {error}")))?;
    if body.model != name {
        let reason = format!("there is no model `{}` here; there is `{name}`", body.model);
        return Err(InferFault::refused(reason));
    }
    if body.n.is_some_and(|it| it != 1) {
        return Err(InferFault::refused("one answer at a time: `n` has to be 1"));
    }
    let sampling = sampling_of(&body);
    let mut messages = Vec::new();
    let mut pictures = Vec::new();
    for message in body.messages {
        messages.push(parse_message(message, &mut pictures)?);
    }
    let request = InferRequest {
        priority: Priority::default(),
        deadline_ms: None,
        messages,
        pictures,
        mask_pictures: body.mask_pictures,
        pixels: None,
        sampling,
    };
    Ok(ChatCompletion { request, is_streamed: body.stream })
}

fn sampling_of(body: &CompletionBody) -> Sampling {
    let default = Sampling::default();
    let tokens_max = body.max_tokens.or(body.max_completion_tokens);
    Sampling {
        tokens_max: tokens_max.unwrap_or(default.tokens_max),
        temperature: body.temperature.unwrap_or(default.temperature),
        top_p: body.top_p.unwrap_or(default.top_p),
        repetition_penalty: body.repetition_penalty.unwrap_or(default.repetition_penalty),
        seed: body.seed.unwrap_or(default.seed),
    }
}

/// Reads a message, and appends its pictures to those of the request.
fn parse_message(
    message: ReceivedMessage,
    pictures: &mut Vec<String>,
) -> Result<ChatMessage, InferFault> {
    let first = pictures.len();
    let mut text = String::new();
    let parts = match message.content {
        Content::Text(text) => vec![Part::Text { text }],
        Content::Parts(parts) => parts,
    };
    for part in parts {
        match part {
            Part::Text { text: more } => text.push_str(&more),
            Part::ImageUrl { image_url: Url::Plain(url) | Url::Object { url } } => {
                pictures.push(embedded_picture(&url)?);
            }
            Part::Image { image } => pictures.push(embedded_picture(&image)?),
        }
    }
    let count = pictures.len() - first;
    // Tags in front of the text stand for the pictures, which come before the text anyway.
    let mut rest = text.as_str();
    let mut tags = 0;
    while let Some(after) = rest.strip_prefix(IMAGE_TAG) {
        rest = after;
        tags += 1;
    }
    if (tags != 0 && tags != count) || rest.contains(IMAGE_TAG) {
        let reason =
            format!("{count} pictures, and `{IMAGE_TAG}` not as often in front of the text");
        return Err(InferFault::refused(reason));
    }
    Ok(ChatMessage { role: message.role, text: rest.to_owned(), pictures: count })
}

/// The picture in base 64 that a `data:` URL holds. No other URL is ever fetched (SEC-33).
fn embedded_picture(url: &str) -> Result<String, InferFault> {
    let is_address = url.contains("://");
    let data = match url.strip_prefix("data:") {
        Some(data) => data.split_once(";base64,").map(|(_, data)| data),
        None => Some(url).filter(|_| !is_address),
    };
    let data = data.ok_or_else(|| {
        InferFault::refused("pictures come inside of the request, as data:image/png;base64,…")
    })?;
    Ok(data.to_owned())
}

/// What identifies a response, in all of its chunks.
#[derive(Clone, Debug)]
pub struct ResponseMetadata {
    /// The id of the response.
    pub id: String,
    /// When it was created, in seconds since 1970.
    pub created: i64,
    /// The name of the model.
    pub model: String,
}

/// The whole response, with masks at the resolution of the mask decoder, as in the release.
pub fn response(response: &InferResponse, metadata: &ResponseMetadata) -> Value {
    let message = json!({"role": "assistant", "content": response.text});
    let choice = json!({"index": 0, "message": message, "finish_reason": finish_reason(response)});
    body_of("chat.completion", metadata, &choice, Some(response))
}

/// A chunk of a streamed response; the first one names the role.
pub fn chunk(text: &str, is_first: bool, metadata: &ResponseMetadata) -> Value {
    let delta = if is_first {
        json!({"role": "assistant", "content": text})
    } else {
        json!({"content": text})
    };
    let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
    body_of("chat.completion.chunk", metadata, &choice, None)
}

/// The last chunk of a streamed response, with masks and token usage.
pub fn last_chunk(response: &InferResponse, metadata: &ResponseMetadata) -> Value {
    let choice = json!({"index": 0, "delta": {}, "finish_reason": finish_reason(response)});
    body_of("chat.completion.chunk", metadata, &choice, Some(response))
}

const fn finish_reason(response: &InferResponse) -> &'static str {
    if response.is_truncated { "length" } else { "stop" }
}

/// The body around a choice; `response` is given once it is complete.
fn body_of(
    object: &str,
    metadata: &ResponseMetadata,
    choice: &Value,
    response: Option<&InferResponse>,
) -> Value {
    let mut fields = vec![
        ("id", json!(metadata.id)),
        ("object", json!(object)),
        ("created", json!(metadata.created)),
        ("model", json!(metadata.model)),
        ("choices", json!([choice])),
    ];
    if let Some(response) = response {
        let masks: Vec<Value> = response.masks.iter().map(mask_json).collect();
        let usage = response.usage;
        let usage = json!({
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        });
        fields.extend([
            ("usage", usage),
            ("raw_response", json!({"seg_masks_rle": masks})),
            ("digest", json!(response.digest)),
            ("warning", json!(response.warning)),
        ]);
    }
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn mask_json(mask: &AnswerMask) -> Value {
    json!({"size": mask.drawn.size, "counts": mask.drawn.counts, "picture": mask.picture})
}

/// The body of a request to a server: pictures inside of the request, before the text.
pub fn request_body(request: &InferRequest, name: &str) -> Value {
    let mut pictures = request.pictures.iter();
    let messages: Vec<Value> =
        request.messages.iter().map(|it| message_json(it, &mut pictures)).collect();
    let sampling = &request.sampling;
    json!({
        "model": name,
        "messages": messages,
        "max_tokens": sampling.tokens_max,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "repetition_penalty": sampling.repetition_penalty,
        "seed": sampling.seed,
        "stream": false,
        "mask_pictures": request.mask_pictures,
    })
}

/// A message with its pictures, which are the next of the request.
fn message_json(message: &ChatMessage, pictures: &mut std::slice::Iter<'_, String>) -> Value {
    let mut parts: Vec<Value> = Vec::new();
    for picture in pictures.take(message.pictures) {
        let url = format!("data:{};base64,{picture}", media_type(picture));
        parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
    }
    parts.push(json!({"type": "text", "text": message.text}));
    json!({"role": message.role, "content": parts})
}

/// The media type of a picture, by the first bytes of its base 64.
fn media_type(base64: &str) -> &'static str {
    if base64.starts_with("/9j/") { "image/jpeg" } else { "image/png" }
}

/// Reads the response of a server. `pixels` are the bounds within which it resizes pictures.
///
/// # Errors
///
/// Fails if there is no text, or the masks are malformed or not as many as the `[SEG]` in the text.
pub fn parse_response(
    value: &Value,
    request: &InferRequest,
    pixels: Option<[u64; 2]>,
) -> Result<InferResponse, InferFault> {
    let Some(text) = at(value, "/choices/0/message/content").as_str() else {
        return Err(InferFault::unavailable("the answer has no choices[0].message.content"));
    };
    let source_sizes: Vec<[u32; 2]> =
        request.pictures.iter().map(|it| picture_size(it)).collect::<Result<_, _>>()?;
    let first_size = source_sizes.first().copied();
    // The server does not report the size to which it resizes pictures. If the site does not
    // specify it either, boxes are not mapped.
    let resized = pixels.zip(first_size).and_then(|(bounds, size)| resized_size(bounds, size));
    let mut response = response_of_text(text.to_owned(), resized, first_size);
    response.is_truncated = at(value, "/choices/0/finish_reason") != "stop";
    response.usage.prompt_tokens = count_at(value, "/usage/prompt_tokens");
    response.usage.completion_tokens = count_at(value, "/usage/completion_tokens");
    response.usage.cached_tokens = count_at(value, "/usage/prompt_tokens_details/cached_tokens");
    at(value, "/digest").as_str().unwrap_or_default().clone_into(&mut response.digest);
    response.warning = at(value, "/warning").as_str().map(str::to_owned);
    let Some(masks) = at(value, "/raw_response/seg_masks_rle").as_array() else {
        // A server need not segment at all, but then its response says nothing about findings.
        response.flaws.push(AnswerFlaw::MasksNotReported);
        return Ok(response);
    };
    check_mask_count(text, request, masks.len())?;
    for (seg, mask) in masks.iter().enumerate() {
        let reported = at(mask, "/picture").as_u64().and_then(|it| usize::try_from(it).ok());
        let picture = reported.unwrap_or_else(|| request.mask_picture(seg));
        if picture >= source_sizes.len() && !source_sizes.is_empty() {
            return Err(InferFault::unavailable("a mask lies on a picture that was not sent"));
        }
        let parsed = parse_mask(mask, source_sizes.get(picture).copied())?;
        response.masks.push(AnswerMask { picture, ..parsed });
    }
    Ok(response)
}

/// Checks that there is a mask for every `[SEG]` of the answer. Servers that follow the release
/// segment those of the messages, too.
fn check_mask_count(
    text: &str,
    request: &InferRequest,
    mask_count: usize,
) -> Result<(), InferFault> {
    let in_answer = seg_count(text);
    let in_messages: usize = request.messages.iter().map(|it| seg_count(&it.text)).sum();
    let all = in_answer + in_messages;
    if all == 0 || mask_count == in_answer || mask_count == all {
        return Ok(());
    }
    Err(InferFault::unavailable(format!(
        "question and answer have {all} [SEG], the answer {in_answer}, and there are {mask_count} \
         masks"
    )))
}

fn seg_count(text: &str) -> usize {
    text.matches("[SEG]").count()
}

/// Width and height of a picture after resizing within these bounds on its pixels.
fn resized_size([min, max]: [u64; 2], [width, height]: [u32; 2]) -> Option<[u32; 2]> {
    let (rows, columns) = smart_size(height, width, SIZE_FACTOR, min..=max).ok()?;
    Some([columns, rows])
}

/// Width and height of pictures are multiples of this for the vision encoder of Qwen2.5-VL.
const SIZE_FACTOR: u32 = 28;

/// The value at a JSON pointer, or null.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// The number at a JSON pointer, or zero.
fn count_at(value: &Value, pointer: &str) -> usize {
    usize::try_from(at(value, pointer).as_u64().unwrap_or(0)).unwrap_or(0)
}

/// Width and height of a picture in base 64.
fn picture_size(base64: &str) -> Result<[u32; 2], InferFault> {
    let bytes = BASE64_STANDARD
        .decode(base64)
        .map_err(|error| InferFault::refused(format!("a picture is not base 64: {error}")))?;
    size_of(&bytes).map_err(|error| InferFault::refused(error.to_string()))
}

/// Reads a mask and scales it to its picture, which has this width and height.
fn parse_mask(mask: &Value, source_size: Option<[u32; 2]>) -> Result<AnswerMask, InferFault> {
    let height = side_at(mask, "/size/0");
    let width = side_at(mask, "/size/1");
    let counts = at(mask, "/counts").as_str();
    let (Some(height), Some(width), Some(counts)) = (height, width, counts) else {
        let reason = "a mask of the answer has no `size` and `counts`";
        return Err(InferFault::unavailable(reason));
    };
    let decoded = FlatMask::parse(height, width, counts).map_err(|error| {
        InferFault::unavailable(format!("a mask of the answer is malformed: {error}"))
    })?;
    Ok(answer_mask(&decoded, source_size.unwrap_or([width, height]), None))
}

fn side_at(mask: &Value, pointer: &str) -> Option<u32> {
    u32::try_from(at(mask, pointer).as_u64()?).ok()
}

/// The body of an error response.
pub fn error_body(fault: &InferFault) -> Value {
    let kind = if fault.is_retryable() { "server_error" } else { "invalid_request_error" };
    json!({"error": {"message": fault.reason, "type": kind, "code": null}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(messages: &Value) -> Result<InferRequest, InferFault> {
        let body = json!({"model": "m", "max_tokens": 5, "messages": messages});
        Ok(parse_request(body.to_string().as_bytes(), "m")?.request)
    }

    #[test]
    fn pap_01_requests_of_clients_of_the_release_are_read() {
        let picture =
            json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}});
        let text = |it: &str| json!({"type": "text", "text": it});
        for (content, pictures, words) in [
            (json!([picture, text("Segment it.")]), 1, "Segment it."),
            (json!([picture, text("<image>\nSegment it.")]), 1, "\nSegment it."),
            (json!([picture, {"type": "image", "image": "QUJD"}, text("Compare.")]), 2, "Compare."),
            (json!("Only words."), 0, "Only words."),
        ] {
            let found = parsed(&json!([{"role": "user", "content": content}])).unwrap();
            let message = &found.messages[0];
            assert_eq!((message.pictures, message.text.as_str()), (pictures, words));
            assert_eq!(found.pictures, vec!["QUJD"; pictures]);
            assert_eq!((found.sampling.tokens_max, found.sampling.temperature), (5, 0.0));
        }
    }

    #[test]
    fn sec_33_no_address_is_fetched_and_what_is_not_supported_is_refused() {
        for url in ["http://169.254.169.254/", "https://x/y.png", "file:///etc/passwd"] {
            let content = json!([{"type": "image_url", "image_url": {"url": url}}]);
            let fault = parsed(&json!([{"role": "user", "content": content}])).unwrap_err();
            assert!(fault.reason.contains("inside of the request"), "{url}: {fault}");
        }
        let refused =
            |body: &Value| parse_request(body.to_string().as_bytes(), "m").unwrap_err().reason;
        assert!(refused(&json!({"model": "x", "messages": []})).contains("there is `m`"));
        assert!(refused(&json!({"model": "m", "messages": [], "n": 2})).contains("one answer"));
        assert!(refused(&json!({"model": "m"})).contains("messages"));
        let misplaced = json!([{"role": "user", "content": "see <image> here"}]);
        assert!(parsed(&misplaced).unwrap_err().reason.contains("<image>"));
    }
}
