//! A model on another machine, played by a small server that says what it is told to (PAP-01).
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic says no")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{InferRequest, Priority, Role, Sampling, Utterance};
use imaging::{FlatMask, Picture};
use inference::{RemoteConfig, RemoteModel};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What the server says to a request.
#[derive(Clone)]
enum Reply {
    /// A status and a body.
    Says(u16, String),
    /// Half of what it announces, and then nothing.
    Breaks,
    /// Nothing, for a while.
    Sleeps,
}

/// A server with replies in order, the last one for ever; and what it was asked.
struct Stub {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    async fn open(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = request(&mut stream).await;
                let count = {
                    let mut noted = noted.lock().unwrap();
                    noted.push(request);
                    noted.len()
                };
                match &replies[count.min(replies.len()) - 1] {
                    Reply::Says(status, body) => {
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
        Self { url, asked }
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
        self.asked.lock().unwrap().len()
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

fn question(deadline_ms: Option<u64>) -> InferRequest {
    let text = "Segment it.".to_owned();
    InferRequest {
        priority: Priority::Routine,
        deadline_ms,
        messages: vec![Utterance { role: Role::User, text, pictures: 1 }],
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
    Reply::Says(200, body.to_string())
}

fn mask() -> Value {
    let pixels = (0..16).map(|it| it % 4 < 2).collect();
    let mask = FlatMask { height: 4, width: 4, pixels };
    json!({"size": [4, 4], "counts": mask.to_text()})
}

#[tokio::test]
async fn pap_01_it_is_asked_with_the_picture_inside_and_its_masks_are_read() {
    let stub = Stub::open(vec![good("<think>a</think>it is [SEG]", &json!([mask()]))]).await;
    let answer = stub.model().infer(&question(None)).await.unwrap();
    assert_eq!((answer.answer.as_str(), answer.think.as_deref()), ("it is [SEG]", Some("a")));
    assert_eq!((answer.tokens, answer.is_cut), ([7, 3], false));
    assert_eq!(answer.warning.as_deref(), Some("not for clinical use"));
    // The left half of the picture, as it was sent: 60 x 30.
    assert_eq!(answer.masks[0].size, [30, 60]);
    let mask = FlatMask::parse(30, 60, &answer.masks[0].counts).unwrap();
    assert!((0..1800).all(|it| mask.pixels[it] == (it % 60 < 30)));
    let asked = stub.asked.lock().unwrap()[0].clone();
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
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
fn check(told: &inference::InferFault, is_retryable: bool, expected: &str) {
    assert_eq!(told.is_retryable, is_retryable, "{told}");
    assert!(told.reason.contains(expected), "{expected} is not in: {told}");
}

#[tokio::test]
async fn pap_01_what_may_help_is_tried_again_and_what_may_not_is_told() {
    let fails = Reply::Says(500, json!({"error": {"message": "no memory"}}).to_string());
    let stub = Stub::open(vec![fails.clone(), fails.clone(), good("fine", &json!([]))]).await;
    assert_eq!(stub.model().infer(&question(None)).await.unwrap().text, "fine");
    assert_eq!(stub.count(), 3);

    let refuses = Reply::Says(400, json!({"error": {"message": "too many pictures"}}).to_string());
    for (reply, is_retryable, expected, tries) in [
        (refuses, false, "too many pictures", 1),
        (fails, true, "no memory", 3),
        (Reply::Says(200, "<html>".to_owned()), true, "no JSON", 3),
        (Reply::Says(200, "{}".to_owned()), true, "no choices[0]", 1),
        (Reply::Breaks, true, "does not answer", 3),
        // Nobody is followed elsewhere (SEC-33).
        (Reply::Says(302, String::new()), true, "302", 1),
        (Reply::Says(401, String::new()), true, "401", 1),
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
        check(&stub.model().infer(&question(None)).await.unwrap_err(), is_retryable, expected);
        assert_eq!(stub.count(), tries, "{expected}");
    }
}

#[tokio::test]
async fn pap_06_a_server_that_says_nothing_of_masks_is_told_from_one_that_found_none() {
    let body = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]});
    let stub = Stub::open(vec![Reply::Says(200, body.to_string())]).await;
    let silent = stub.model().infer(&question(None)).await.unwrap();
    assert!(silent.masks.is_empty() && silent.flaws.contains(&"NoMasksSaid".to_owned()));
    let stub = Stub::open(vec![good("x", &json!([]))]).await;
    let none = stub.model().infer(&question(None)).await.unwrap();
    assert!(none.masks.is_empty() && !none.flaws.contains(&"NoMasksSaid".to_owned()));
}

#[tokio::test]
async fn a_late_answer_is_not_waited_for_and_a_server_that_keeps_failing_is_left_alone() {
    let stub = Stub::open(vec![Reply::Sleeps]).await;
    let begin = Instant::now();
    let told = stub.model().infer(&question(Some(300))).await.unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(10), "{told}");
    check(&told, false, "not answered in time");

    let stub = Stub::open(vec![Reply::Says(503, String::new())]).await;
    let model = stub.model();
    for _ in 0..2 {
        assert!(model.infer(&question(None)).await.is_err());
    }
    let before = stub.count();
    check(&model.infer(&question(None)).await.unwrap_err(), true, "left alone");
    assert_eq!(stub.count(), before, "nobody is asked");
}

/// What would take a process down with everybody else's questions is refused before it gets there.
#[tokio::test]
async fn what_is_beyond_all_limits_is_refused_before_it_is_asked() {
    let stub = Stub::open(vec![good("x", &json!([]))]).await;
    let model = stub.model();
    let with = |sampling: Sampling| InferRequest { sampling, ..question(None) };
    let usual = Sampling::default();
    for request in [
        with(Sampling { temperature: f32::INFINITY, ..usual.clone() }),
        with(Sampling { top_p: f32::NAN, ..usual.clone() }),
        with(Sampling { repetition_penalty: 0.0, ..usual.clone() }),
        with(Sampling { tokens_max: usize::MAX, ..usual }),
        InferRequest { pixels: Some([1, u64::MAX]), ..question(None) },
        InferRequest { pixels: Some([9, 3]), ..question(None) },
        InferRequest { pictures: vec![picture(); 17], ..question(None) },
    ] {
        assert!(!model.infer(&request).await.unwrap_err().is_retryable, "{:?}", request.sampling);
    }
    assert_eq!(stub.count(), 0);
}
