//! A model served over HTTP with the chat completions interface of OpenAI.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use system_tests::{Scratch, model_set, program};

use crate::model::{differences, import_tiny, model, output_text, read};

/// A child process that is killed at the end of the test.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        _ = self.0.kill();
    }
}

/// Posts a body to a server over HTTP. Returns the head and the body of the response.
fn exchange(address: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.0\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Posts a body. Returns the status and the parsed body of the response.
fn post(address: &str, body: &str) -> (u16, Value) {
    let (head, body) = exchange(address, body);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(&body).unwrap_or_default())
}

/// Starts `isocenter model serve` and returns its address.
fn serve_model(scratch: &Scratch, pixels: &Value) -> (Server, String) {
    let [min, max] = ["min_pixels", "max_pixels"].map(|it| pixels[it].to_string());
    let mut command = Command::new(program());
    command.args(["model", "serve", "tiny", "--listen", "127.0.0.1:0"]);
    command.args(["--min-pixels", &min, "--max-pixels", &max]);
    command.arg("--data").arg(scratch.path("data")).stdout(std::process::Stdio::piped());
    let mut server = Server(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("ready http=").unwrap().to_owned();
    (server, address)
}

/// PAP-01: requests as clients of the published model send them, with masks in the format that they
/// read.
#[test]
fn pap_01_clients_of_the_release_are_answered_over_http() {
    let set = model_set();
    let scratch = Scratch::default();
    import_tiny(&scratch, &set);
    let reference = read(&set.join("citrus/infer.json"));
    let (_server, address) = serve_model(&scratch, &read(&set.join("qwen/preprocess.json")));
    let ask = |content: Value, tokens: usize| {
        let messages = json!([{"role": "user", "content": content}]);
        let body = json!({"model": "tiny", "max_tokens": tokens, "messages": messages});
        post(&address, &body.to_string())
    };
    for query in reference["queries"].as_array().unwrap() {
        let picture = std::fs::read(set.join(query["image"].as_str().unwrap())).unwrap();
        let url = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(picture));
        let text = format!("<image>{}", query["query"].as_str().unwrap());
        let content = json!([
            {"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text},
        ]);
        let (status, answer) = ask(content, query["generated_ids"].as_array().unwrap().len());
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["choices"][0]["message"]["content"], query["text"]);
        let masks = answer["raw_response"]["seg_masks_rle"].as_array().unwrap();
        let expected = query["masks"].as_array().unwrap();
        assert_eq!(masks.len(), expected.len());
        for (mask, expected) in masks.iter().zip(expected) {
            let different = differences(mask, &expected["rle"]);
            assert!(different <= expected["near_zero_pixels"].as_u64().unwrap(), "{different}");
        }
    }
    let elsewhere = json!([{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]);
    let (status, answer) = ask(elsewhere, 1);
    assert_eq!((status, &answer["error"]["type"]), (400, &json!("invalid_request_error")));
    let open = ["serve", "tiny", "--listen", "0.0.0.0:0"];
    assert!(output_text(&model(&scratch, &open)).contains("on this machine only"));
}

/// The small model of the project, served over HTTP.
struct Served {
    set: PathBuf,
    address: String,
    /// Questions with the answers of the reference implementation.
    reference: Value,
    _scratch: Scratch,
    _server: Server,
}

impl Served {
    fn open() -> Self {
        let set = model_set();
        let scratch = Scratch::default();
        import_tiny(&scratch, &set);
        let reference = read(&set.join("citrus/infer.json"));
        let (server, address) = serve_model(&scratch, &read(&set.join("qwen/preprocess.json")));
        Self { set, address, reference, _scratch: scratch, _server: server }
    }

    /// The request with a question about pictures of the set.
    fn body(&self, text: &str, pictures: &[&Value], more: &Value) -> Value {
        let picture = |it: &&Value| {
            let bytes = std::fs::read(self.set.join(it.as_str().unwrap())).unwrap();
            let url = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(bytes));
            json!({"type": "image_url", "image_url": {"url": url}})
        };
        let mut content: Vec<Value> = pictures.iter().map(picture).collect();
        content.push(json!({"type": "text", "text": text}));
        let mut body = json!({"model": "tiny", "messages": [{"role": "user", "content": content}]});
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        body
    }

    fn post(&self, body: &Value) -> Value {
        let (status, answer) = post(&self.address, &body.to_string());
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

/// The data of each server-sent event in the response.
fn events(address: &str, body: &Value) -> Vec<String> {
    let (head, body) = exchange(address, &body.to_string());
    assert!(head.contains("200 OK") && head.contains("text/event-stream"), "{head}");
    body.lines().filter_map(|it| it.strip_prefix("data: ")).map(str::to_owned).collect()
}

/// PAP-01: a streamed response has the same text as a whole one, and the masks at its end.
#[test]
fn pap_01_a_streamed_response_is_the_same_as_a_whole_one() {
    let served = Served::open();
    let query = &served.reference["queries"][0];
    let text = query["query"].as_str().unwrap();
    let tokens = query["generated_ids"].as_array().unwrap().len();
    let pictures = [&query["image"]];
    let whole = served.post(&served.body(text, &pictures, &json!({"max_tokens": tokens})));
    let more = json!({"max_tokens": tokens, "stream": true});
    let mut events = events(&served.address, &served.body(text, &pictures, &more));
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let events: Vec<Value> = events.iter().map(|it| serde_json::from_str(it).unwrap()).collect();
    let piece = |it: &Value| it["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
    let pieces: Vec<String> = events.iter().filter_map(piece).collect();
    assert!(pieces.len() > 2, "{pieces:?}");
    assert_eq!(pieces.concat(), whole["choices"][0]["message"]["content"].as_str().unwrap());
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let last = events.last().unwrap();
    assert_eq!(last["raw_response"], whole["raw_response"]);
    assert_eq!(last["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"]);
    // The second request finds all but its last prompt token in the prefix cache.
    assert_eq!(whole["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let prompt_tokens = last["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(last["usage"]["prompt_tokens_details"]["cached_tokens"], prompt_tokens - 1);
}

#[test]
fn an_invalid_request_is_refused_before_anything_is_streamed() {
    let served = Served::open();
    let more = json!({"stream": true, "mask_pictures": [3]});
    let body = served.body("?", &[], &more).to_string();
    let (status, answer) = post(&served.address, &body);
    assert_eq!(status, 400);
    assert!(answer["error"]["message"].as_str().unwrap().contains("mask_pictures"), "{answer}");
}

/// Each `[SEG]` is segmented in the picture that the request names for it.
#[test]
fn each_seg_is_segmented_in_the_picture_that_the_request_names() {
    let served = Served::open();
    let queries = served.reference["queries"].as_array().unwrap();
    let one = &queries[0]["image"];
    let other = queries.iter().map(|it| &it["image"]).find(|it| *it != one).unwrap_or(one);
    let ask = |mask_pictures: Value| {
        let more = json!({"max_tokens": 1, "mask_pictures": mask_pictures});
        let answer = served.post(&served.body("this [SEG] and that [SEG]", &[one, other], &more));
        answer["raw_response"]["seg_masks_rle"].as_array().unwrap().clone()
    };
    let first = ask(json!([]));
    let second = ask(json!([1]));
    let swapped = ask(json!([1, 0]));
    let pictures =
        |masks: &[Value]| masks.iter().map(|it| it["picture"].clone()).collect::<Vec<_>>();
    assert_eq!(pictures(&first), [0, 0]);
    assert_eq!(pictures(&second), [1, 1]);
    assert_eq!(swapped, [second[0].clone(), first[1].clone()]);
    assert_ne!(first[0]["counts"], second[0]["counts"], "the pictures differ");
}
