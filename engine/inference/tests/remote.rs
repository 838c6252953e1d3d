//! A model on another machine, simulated by a small server with prepared replies (PAP-01).
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{AnswerFlaw, ChatMessage, InferRequest, Priority, Role, Sampling, TokenUsage};
use imaging::{FlatMask, Picture};
use inference::{RemoteConfig, RemoteModel};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The reply of the server to a request.
#[derive(Clone)]
enum Reply {
    /// A status and a body.
    Sends(u16, String),
    /// Half of the announced body, and then nothing.
    Breaks,
    /// Nothing for a long time.
    Sleeps,
}

/// A server with replies in order, the last one repeated, and the requests it received.
struct Stub {
    url: String,
    received: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    async fn open(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let received = Arc::<Mutex<Vec<String>>>::default();
        let requests = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = request(&mut stream).await;
                let count = {
                    let mut requests = requests.lock().unwrap();
                    requests.push(request);
                    requests.len()
                };
                match &replies[count.min(replies.len()) - 1] {
                    Reply::Sends(status, body) => {
                        let head = format!(
                            "HTTP/1.1 {status} x\r\nLocation: http://127.0.0.1:9/\r\n\
                             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        stream.write_all(head.as_bytes()).await.unwrap();
                    }
                    Reply::Breaks => {
                        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"choices\"";
                        stream.write_all(head).await.unwrap();
                    }
                    Reply::Sleeps => tokio::time::sleep(Duration::from_secs(20)).await,
                }
            }
        });
        Self { url, received }
    }

    fn model(&self) -> Arc<RemoteModel> {
        let config = RemoteConfig {
            url: self.url.clone(),
            name: "citrus".to_owned(),
            key: Some("secret".to_owned()),
            pixels: None,
            clinical_use_decided_by: None,
        };
        RemoteModel::new(config).unwrap()
    }

    fn count(&self) -> usize {
        self.received.lock().unwrap().len()
    }
}

async fn request(stream: &mut tokio::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        stream.read_buf(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let lower = head.to_lowercase();
        let length = lower.lines().find_map(|it| it.strip_prefix("content-length: "));
        if body.len() >= length.unwrap().parse::<usize>().unwrap() {
            return text;
        }
    }
}

fn picture() -> String {
    let picture = Picture::new(60, 30, vec![9; 5400]).unwrap();
    BASE64_STANDARD.encode(picture.to_png().unwrap())
}

fn chat_request(deadline_ms: Option<u64>) -> InferRequest {
    let text = "Segment it.".to_owned();
    InferRequest {
        priority: Priority::Routine,
        deadline_ms,
        messages: vec![ChatMessage { role: Role::User, text, pictures: 1 }],
        pictures: vec![picture()],
        mask_pictures: Vec::new(),
        pixels: None,
        sampling: Sampling::default(),
    }
}

fn good(text: &str, masks: &Value) -> Reply {
    let body = json!({
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        "raw_response": {"seg_masks_rle": masks},
    });
    Reply::Sends(200, body.to_string())
}

fn mask() -> Value {
    let pixels = (0..16).map(|it| it % 4 < 2).collect();
    let mask = FlatMask { height: 4, width: 4, pixels };
    json!({"size": [4, 4], "counts": mask.to_text()})
}

#[tokio::test]
async fn pap_01_a_request_contains_the_picture_and_masks_of_the_response_are_read() {
    let stub = Stub::open(vec![good("<think>a</think>it is [SEG]", &json!([mask()]))]).await;
    let answer = stub.model().infer(&chat_request(None)).await.unwrap();
    assert_eq!((answer.answer.as_str(), answer.think.as_deref()), ("it is [SEG]", Some("a")));
    let usage = TokenUsage { prompt_tokens: 7, completion_tokens: 3, cached_tokens: 0 };
    assert_eq!((answer.usage, answer.is_truncated), (usage, false));
    assert_eq!(answer.warning.as_deref(), Some("not for clinical use"));
    // The left half of the picture, as it was sent: 60 x 30.
    assert_eq!(answer.masks[0].size, [30, 60]);
    let mask = FlatMask::parse(30, 60, &answer.masks[0].counts).unwrap();
    assert!((0..1800).all(|it| mask.pixels[it] == (it % 60 < 30)));
    let received = stub.received.lock().unwrap()[0].clone();
    let (head, body) = received.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /v1/chat/completions") && head.contains("Bearer secret"),
        "{head}"
    );
    let body: Value = serde_json::from_str(body).unwrap();
    let url = format!("data:image/png;base64,{}", picture());
    assert_eq!(body["messages"][0]["content"][0]["image_url"]["url"], url);
    assert_eq!((&body["model"], &body["temperature"]), (&json!("citrus"), &json!(0.0)));
}

#[track_caller]
fn check(fault: &inference::InferFault, is_retryable: bool, expected: &str) {
    assert_eq!(fault.is_retryable(), is_retryable, "{fault}");
    assert!(fault.reason.contains(expected), "{expected} is not in: {fault}");
}

#[tokio::test]
async fn pap_01_transient_faults_are_retried_and_others_are_reported_at_once() {
    let fails = Reply::Sends(500, json!({"error": {"message": "no memory"}}).to_string());
    let stub = Stub::open(vec![fails.clone(), fails.clone(), good("fine", &json!([]))]).await;
    assert_eq!(stub.model().infer(&chat_request(None)).await.unwrap().text, "fine");
    assert_eq!(stub.count(), 3);

    let refuses = Reply::Sends(400, json!({"error": {"message": "too many pictures"}}).to_string());
    for (reply, is_retryable, expected, tries) in [
        (refuses, false, "too many pictures", 1),
        (fails, true, "no memory", 3),
        (Reply::Sends(200, "<html>".to_owned()), true, "no JSON", 3),
        (Reply::Sends(200, "{}".to_owned()), true, "no choices[0]", 1),
        (Reply::Breaks, true, "does not answer", 3),
        // Redirects are not followed (SEC-33).
        (Reply::Sends(302, String::new()), true, "302", 1),
        (Reply::Sends(401, String::new()), true, "401", 1),
        (good("[SEG] and [SEG]", &json!([mask()])), true, "the answer 2, and there are 1 masks", 1),
        (good("[SEG]", &json!([{"size": [4, 4]}])), true, "no `size` and `counts`", 1),
        (
            good("x", &json!([{"size": [999_999_999, 999_999_999], "counts": "0"}])),
            true,
            "too large",
            1,
        ),
    ] {
        let stub = Stub::open(vec![reply]).await;
        check(&stub.model().infer(&chat_request(None)).await.unwrap_err(), is_retryable, expected);
        assert_eq!(stub.count(), tries, "{expected}");
    }
}

#[tokio::test]
async fn pap_06_a_server_that_does_not_report_masks_is_distinguished_from_one_that_found_none() {
    let body = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]});
    let stub = Stub::open(vec![Reply::Sends(200, body.to_string())]).await;
    let silent = stub.model().infer(&chat_request(None)).await.unwrap();
    assert!(silent.masks.is_empty() && silent.flaws.contains(&AnswerFlaw::MasksNotReported));
    let stub = Stub::open(vec![good("x", &json!([]))]).await;
    let none = stub.model().infer(&chat_request(None)).await.unwrap();
    assert!(none.masks.is_empty() && !none.flaws.contains(&AnswerFlaw::MasksNotReported));
}

#[tokio::test]
async fn a_deadline_ends_a_request_and_repeated_failures_open_the_circuit_breaker() {
    let stub = Stub::open(vec![Reply::Sleeps]).await;
    let start = Instant::now();
    let fault = stub.model().infer(&chat_request(Some(300))).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10), "{fault}");
    check(&fault, false, "not answered in time");

    let stub = Stub::open(vec![Reply::Sends(503, String::new())]).await;
    let model = stub.model();
    for _ in 0..2 {
        assert!(model.infer(&chat_request(None)).await.is_err());
    }
    let before = stub.count();
    check(&model.infer(&chat_request(None)).await.unwrap_err(), true, "left alone");
    assert_eq!(stub.count(), before, "no request is sent");
}

/// A request that could exhaust the memory of the host process is refused before it gets there.
#[tokio::test]
async fn a_request_beyond_the_limits_is_refused_before_it_is_sent() {
    let stub = Stub::open(vec![good("x", &json!([]))]).await;
    let model = stub.model();
    let with = |sampling: Sampling| InferRequest { sampling, ..chat_request(None) };
    let usual = Sampling::default();
    for request in [
        with(Sampling { temperature: f32::INFINITY, ..usual.clone() }),
        with(Sampling { top_p: f32::NAN, ..usual.clone() }),
        with(Sampling { repetition_penalty: 0.0, ..usual.clone() }),
        with(Sampling { tokens_max: usize::MAX, ..usual }),
        InferRequest { pixels: Some([1, u64::MAX]), ..chat_request(None) },
        InferRequest { pixels: Some([9, 3]), ..chat_request(None) },
        InferRequest { pictures: vec![picture(); 17], ..chat_request(None) },
    ] {
        assert!(!model.infer(&request).await.unwrap_err().is_retryable(), "{:?}", request.sampling);
    }
    assert_eq!(stub.count(), 0);
}
