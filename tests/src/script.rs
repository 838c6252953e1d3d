//! A model server whose responses a test decides, in place of a model on another machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A running model server, which records the requests that it receives.
pub struct Script {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Value>>>,
}

/// The response of a model with this text and these masks.
pub fn model_response(text: &str, masks: &[Value]) -> Value {
    json!({
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
        "raw_response": {"seg_masks_rle": masks},
    })
}

impl Script {
    /// Starts a server that responds to each request with the result of `answer`.
    pub fn open(mut answer: impl FnMut(&Value) -> Value + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<Value>>>::default();
        let recorded = Arc::clone(&requests);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let question = read_body(&stream);
                recorded.lock().unwrap().push(question.clone());
                let body = answer(&question).to_string();
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
                );
                (&stream).write_all((head + &body).as_bytes()).unwrap();
            }
        });
        Self { address, requests }
    }

    /// The bodies of all requests so far.
    pub fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }

    /// The line of a site file that makes this server the model of the site.
    pub fn as_model(&self) -> String {
        format!(
            "model: {{ name: scripted, url: \"http://{}/v1\", pixels: [3136, 1003520] }}\n",
            self.address
        )
    }
}

/// Reads an HTTP request and returns its body.
fn read_body(stream: &TcpStream) -> Value {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}
