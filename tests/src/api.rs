//! A client of the HTTP interface of the engine.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::Hospital;

/// Creates a token for a person with this role.
pub fn token(hospital: &Hospital, role: &str, name: &str) -> String {
    let output = hospital.command(&[
        "token",
        "create",
        "--role",
        role,
        "--name",
        name,
        "--organization",
        "Hospital",
    ]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Sends an HTTP request with a JSON body. Returns the status, and the body of the response: null
/// where it is no JSON.
pub fn call(
    address: &str,
    token: Option<&str>,
    (method, path): (&str, &str),
    body: Option<&Value>,
) -> (u16, Value) {
    let body = body.map(Value::to_string).unwrap_or_default();
    let (status, answer) = call_raw(address, token, (method, path), body.as_bytes());
    (status, serde_json::from_slice(&answer).unwrap_or_default())
}

/// Like [`call`], with bytes as bodies.
pub fn call_raw(
    address: &str,
    token: Option<&str>,
    (method, path): (&str, &str),
    body: &[u8],
) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let bearer = token.map(|it| format!("Authorization: Bearer {it}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: isocenter\r\nConnection: close\r\n{bearer}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let status = answer.get(9..12).and_then(|it| std::str::from_utf8(it).ok()).unwrap();
    (status.parse().unwrap(), answer.split_off(end + 4))
}
