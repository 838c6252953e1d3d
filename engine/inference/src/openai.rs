//! The interface that servers of language models share (`POST /v1/chat/completions`), as the release of
//! Citrus-V is served: its clients work with ours. Pure.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{AnswerMask, InferAnswer, InferRequest, Priority, Role, Sampling, Utterance};
use imaging::picture::smart_size;
use imaging::{FlatMask, Picture};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::wire::{InferFault, answer_of, mask_of};

/// A picture's place in a text, as the release's clients write it.
const TAG: &str = "<image>";

/// What a client asks. What it says beyond this has no effect here.
#[derive(Debug, Deserialize)]
struct Completion {
    model: String,
    messages: Vec<Said>,
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
    /// Beyond what others have: [`InferRequest::mask_pictures`].
    #[serde(default)]
    mask_pictures: Vec<usize>,
}

/// What a client asks, and how it wants its answer.
#[derive(Debug)]
pub struct Asked {
    /// The question.
    pub request: InferRequest,
    /// Word by word, rather than whole.
    pub is_streamed: bool,
}

#[derive(Debug, Deserialize)]
struct Said {
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

/// Reads what a client asks of the model called `name`.
///
/// # Errors
///
/// Says what cannot be done: an unknown model, a picture by address (SEC-33), several answers.
pub fn request(body: &[u8], name: &str) -> Result<Asked, InferFault> {
    let completion: Completion = serde_json::from_slice(body)
        .map_err(|it| InferFault::refused(format!("the request cannot be read: {it}")))?;
    if completion.model != name {
        let text = format!("there is no model `{}` here; there is `{name}`", completion.model);
        return Err(InferFault::refused(text));
    }
    if completion.n.is_some_and(|it| it != 1) {
        return Err(InferFault::refused("one answer at a time: `n` has to be 1"));
    }
    let (mut messages, mut pictures) = (Vec::new(), Vec::new());
    for said in completion.messages {
        messages.push(utterance(said, &mut pictures)?);
    }
    let usual = Sampling::default();
    let sampling = Sampling {
        tokens_max: completion
            .max_tokens
            .or(completion.max_completion_tokens)
            .unwrap_or(usual.tokens_max),
        temperature: completion.temperature.unwrap_or(usual.temperature),
        top_p: completion.top_p.unwrap_or(usual.top_p),
        repetition_penalty: completion.repetition_penalty.unwrap_or(usual.repetition_penalty),
        seed: completion.seed.unwrap_or(usual.seed),
    };
    let (priority, deadline_ms, pixels) = (Priority::default(), None, None);
    let mask_pictures = completion.mask_pictures;
    let request =
        InferRequest { priority, deadline_ms, messages, pictures, mask_pictures, pixels, sampling };
    Ok(Asked { request, is_streamed: completion.stream })
}

fn utterance(said: Said, pictures: &mut Vec<String>) -> Result<Utterance, InferFault> {
    let (mut text, before) = (String::new(), pictures.len());
    let parts = match said.content {
        Content::Text(text) => vec![Part::Text { text }],
        Content::Parts(parts) => parts,
    };
    for part in parts {
        match part {
            Part::Text { text: more } => text.push_str(&more),
            Part::ImageUrl { image_url: Url::Plain(url) | Url::Object { url } } => {
                pictures.push(embedded(&url)?);
            }
            Part::Image { image } => pictures.push(embedded(&image)?),
        }
    }
    let count = pictures.len() - before;
    // Tags in front of the text are the places of the pictures, which stand in front anyway.
    let mut rest = text.as_str();
    let mut tags = 0;
    while let Some(after) = rest.strip_prefix(TAG) {
        (rest, tags) = (after, tags + 1);
    }
    if (tags != 0 && tags != count) || rest.contains(TAG) {
        let text = format!("{count} pictures, and `{TAG}` not as often in front of the text");
        return Err(InferFault::refused(text));
    }
    Ok(Utterance { role: said.role, text: rest.to_owned(), pictures: count })
}

/// The picture in base 64 that a `data:` address holds. No other address is ever followed.
fn embedded(url: &str) -> Result<String, InferFault> {
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

/// What an answer is called, and when it was begun, in seconds since 1970.
#[derive(Clone, Debug)]
pub struct Label {
    /// Its name.
    pub id: String,
    /// When.
    pub created: i64,
    /// The model.
    pub model: String,
}

/// The answer as a client of the release reads it: masks as the network drew them.
pub fn response(answer: &InferAnswer, label: &Label) -> Value {
    let message = json!({"role": "assistant", "content": answer.text});
    let choice = json!({"index": 0, "message": message, "finish_reason": finish_reason(answer)});
    labelled("chat.completion", label, &choice, Some(answer))
}

/// Words of an answer that comes bit by bit; the first of them says who speaks.
pub fn piece(text: &str, is_first: bool, label: &Label) -> Value {
    let delta = if is_first {
        json!({"role": "assistant", "content": text})
    } else {
        json!({"content": text})
    };
    let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
    labelled("chat.completion.chunk", label, &choice, None)
}

/// The end of an answer that came bit by bit, with what is only known then.
pub fn last_piece(answer: &InferAnswer, label: &Label) -> Value {
    let choice = json!({"index": 0, "delta": {}, "finish_reason": finish_reason(answer)});
    labelled("chat.completion.chunk", label, &choice, Some(answer))
}

const fn finish_reason(answer: &InferAnswer) -> &'static str {
    if answer.is_cut { "length" } else { "stop" }
}

/// A choice with what there is beside the text, once it is known.
fn labelled(object: &str, label: &Label, choice: &Value, answer: Option<&InferAnswer>) -> Value {
    let mut fields = vec![
        ("id", json!(label.id)),
        ("object", json!(object)),
        ("created", json!(label.created)),
        ("model", json!(label.model)),
        ("choices", json!([choice])),
    ];
    if let Some(answer) = answer {
        let mask = |it: &AnswerMask| json!({"size": it.drawn.size, "counts": it.drawn.counts, "picture": it.picture});
        let masks: Vec<Value> = answer.masks.iter().map(mask).collect();
        let [asked, said] = answer.tokens;
        let usage = json!({
            "prompt_tokens": asked,
            "completion_tokens": said,
            "total_tokens": asked + said,
            "prompt_tokens_details": {"cached_tokens": answer.recalled},
        });
        fields.extend([
            ("usage", usage),
            ("raw_response", json!({"seg_masks_rle": masks})),
            ("digest", json!(answer.digest)),
            ("warning", json!(answer.warning)),
        ]);
    }
    fields.into_iter().map(|(name, it)| (name.to_owned(), it)).collect()
}

/// What a server is asked: pictures inside of the request, before the text.
pub fn body(request: &InferRequest, name: &str) -> Value {
    let mut pictures = request.pictures.iter();
    let content = |it: &Utterance, pictures: &mut dyn Iterator<Item = &String>| {
        let picture = |it: &String| {
            let url = format!("data:{};base64,{it}", kind(it));
            json!({"type": "image_url", "image_url": {"url": url}})
        };
        let mut parts: Vec<Value> = pictures.take(it.pictures).map(picture).collect();
        parts.push(json!({"type": "text", "text": it.text}));
        json!({"role": it.role, "content": parts})
    };
    let messages: Vec<Value> =
        request.messages.iter().map(|it| content(it, &mut pictures)).collect();
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

/// What a picture in base 64 is, by how it begins.
fn kind(base64: &str) -> &'static str {
    if base64.starts_with("/9j/") { "image/jpeg" } else { "image/png" }
}

/// Reads a server's answer. `pixels` are the least and the most that it shows the model of a picture.
///
/// # Errors
///
/// Fails if it has no text, or masks that are none or not as many as the text says.
pub fn answer(
    value: &Value,
    request: &InferRequest,
    pixels: Option<[u64; 2]>,
) -> Result<InferAnswer, InferFault> {
    let Some(text) = at(value, "/choices/0/message/content").as_str() else {
        return Err(InferFault::unavailable("the answer has no choices[0].message.content"));
    };
    let sources = request.pictures.iter().map(|it| size_of(it));
    let sources: Vec<[u32; 2]> = sources.collect::<Result<_, _>>()?;
    // How large the server made the picture, it does not say. Where the site does not either, boxes stay
    // where they are cited.
    let seen = pixels.zip(sources.first()).and_then(|(bounds, [width, height])| {
        let [least, most] = bounds;
        let (rows, columns) = smart_size(*height, *width, BLOCK, least..=most).ok()?;
        Some([columns, rows])
    });
    let mut answer = answer_of(text.to_owned(), seen, sources.first().copied());
    answer.is_cut = at(value, "/choices/0/finish_reason") != "stop";
    let count = |it: &str| usize::try_from(at(value, it).as_u64().unwrap_or(0)).unwrap_or(0);
    answer.tokens = [count("/usage/prompt_tokens"), count("/usage/completion_tokens")];
    answer.recalled = count("/usage/prompt_tokens_details/cached_tokens");
    at(value, "/digest").as_str().unwrap_or_default().clone_into(&mut answer.digest);
    answer.warning = at(value, "/warning").as_str().map(str::to_owned);
    let Some(masks) = at(value, "/raw_response/seg_masks_rle").as_array() else {
        // A server that draws nothing is no mistake; one that says it drew and does not show it is.
        answer.flaws.push("NoMasksSaid".to_owned());
        return Ok(answer);
    };
    // Those of the question are drawn, too, by servers that keep to the release.
    let count = |text: &str| text.matches("[SEG]").count();
    let said = count(text);
    let all = said + request.messages.iter().map(|it| count(&it.text)).sum::<usize>();
    if all != 0 && ![said, all].contains(&masks.len()) {
        let text = format!(
            "question and answer have {all} [SEG], the answer {said}, and there are {} masks",
            masks.len()
        );
        return Err(InferFault::unavailable(text));
    }
    for (seg, mask) in masks.iter().enumerate() {
        let said = at(mask, "/picture").as_u64().and_then(|it| usize::try_from(it).ok());
        let picture = said.unwrap_or_else(|| request.mask_picture(seg));
        if picture >= sources.len() && !sources.is_empty() {
            return Err(InferFault::unavailable("a mask lies on a picture that was not sent"));
        }
        let read = read_mask(mask, sources.get(picture).copied())?;
        answer.masks.push(AnswerMask { picture, ..read });
    }
    Ok(answer)
}

/// Sides of pictures are in whole multiples of this, as the vision tower of Qwen2.5-VL is given them.
const BLOCK: u32 = 28;

/// What lies at a path, or nothing.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

fn size_of(picture: &str) -> Result<[u32; 2], InferFault> {
    let bytes = BASE64_STANDARD.decode(picture);
    let bytes =
        bytes.map_err(|it| InferFault::refused(format!("a picture is not base 64: {it}")))?;
    let picture = Picture::decode(&bytes).map_err(|it| InferFault::refused(it.to_string()))?;
    Ok([picture.width, picture.height])
}

fn read_mask(mask: &Value, source: Option<[u32; 2]>) -> Result<AnswerMask, InferFault> {
    let bad = || InferFault::unavailable("a mask of the answer has no `size` and `counts`");
    let side = |it: &str| u32::try_from(at(mask, it).as_u64()?).ok();
    let (height, width) = side("/size/0").zip(side("/size/1")).ok_or_else(bad)?;
    let counts = at(mask, "/counts").as_str().ok_or_else(bad)?;
    let drawn = FlatMask::parse(height, width, counts)
        .map_err(|it| InferFault::unavailable(format!("a mask of the answer is none: {it}")))?;
    Ok(mask_of(&drawn, source.unwrap_or([width, height]), None))
}

/// A fault as clients read it.
pub fn fault(fault: &InferFault) -> Value {
    let kind = if fault.is_retryable { "server_error" } else { "invalid_request_error" };
    json!({"error": {"message": fault.reason, "type": kind, "code": null}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(messages: &Value) -> Result<InferRequest, InferFault> {
        let body = json!({"model": "m", "max_tokens": 5, "messages": messages});
        Ok(request(body.to_string().as_bytes(), "m")?.request)
    }

    #[test]
    fn pap_01_questions_of_the_release_s_clients_are_read() {
        let picture =
            json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}});
        let text = |it: &str| json!({"type": "text", "text": it});
        for (content, pictures, words) in [
            (json!([picture, text("Segment it.")]), 1, "Segment it."),
            (json!([picture, text("<image>\nSegment it.")]), 1, "\nSegment it."),
            (json!([picture, {"type": "image", "image": "QUJD"}, text("Compare.")]), 2, "Compare."),
            (json!("Only words."), 0, "Only words."),
        ] {
            let found = asked(&json!([{"role": "user", "content": content}])).unwrap();
            let message = &found.messages[0];
            assert_eq!((message.pictures, message.text.as_str()), (pictures, words));
            assert_eq!(found.pictures, vec!["QUJD"; pictures]);
            assert_eq!((found.sampling.tokens_max, found.sampling.temperature), (5, 0.0));
        }
    }

    #[test]
    fn sec_33_no_address_is_followed_and_what_cannot_be_done_is_told() {
        for url in ["http://169.254.169.254/", "https://x/y.png", "file:///etc/passwd"] {
            let content = json!([{"type": "image_url", "image_url": {"url": url}}]);
            let told = asked(&json!([{"role": "user", "content": content}])).unwrap_err();
            assert!(told.reason.contains("inside of the request"), "{url}: {told}");
        }
        let read = |body: &Value| request(body.to_string().as_bytes(), "m").unwrap_err().reason;
        assert!(read(&json!({"model": "x", "messages": []})).contains("there is `m`"));
        assert!(read(&json!({"model": "m", "messages": [], "n": 2})).contains("one answer"));
        assert!(read(&json!({"model": "m"})).contains("messages"));
        let misplaced = json!([{"role": "user", "content": "see <image> here"}]);
        assert!(asked(&misplaced).unwrap_err().reason.contains("<image>"));
    }
}
