//! A model on another machine that says and draws what a test wants it to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// The server of such a model. It keeps what it was asked.
pub struct Script {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Value>>>,
}

/// What it answers.
pub fn said(text: &str, masks: &[Value]) -> Value {
    json!({
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
        "raw_response": {"seg_masks_rle": masks},
    })
}

impl Script {
    /// Answers what it is asked by `answer`.
    pub fn open(mut answer: impl FnMut(&Value) -> Value + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Value>>>::default();
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let question = read(&stream);
                kept.lock().unwrap().push(question.clone());
                let body = answer(&question).to_string();
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
                );
                (&stream).write_all((head + &body).as_bytes()).unwrap();
            }
        });
        Self { address, asked }
    }

    /// What it was asked.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    /// The line of the site file that names it.
    pub fn as_model(&self) -> String {
        format!(
            "model: {{ name: scripted, url: \"http://{}/v1\", pixels: [3136, 1003520] }}\n",
            self.address
        )
    }
}

/// The body of a request.
fn read(stream: &TcpStream) -> Value {
    let mut reader = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line).unwrap() > 2 {
        let lower = line.to_lowercase();
        let said = lower.strip_prefix("content-length:");
        length = said.map_or(length, |it| it.trim().parse().unwrap());
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}
