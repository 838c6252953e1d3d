//! Tests of what a receiver may answer, and what is concluded from it.

use tokio::net::TcpListener;

use super::*;

const MESSAGE: &str =
    "MSH|^~\\&|ISOCENTER|AI|EHR|HOSP|2026||ORU^R01|C1|P|2.5.1\rPID|1||77^^^HOSP^MR\r";

/// An acknowledgement with these segments after its MSH.
fn answer(segments: &str) -> String {
    format!("MSH|^~\\&|EHR|HOSP|ISOCENTER|AI|2026||ACK|9|P|2.5.1\r{segments}\r")
}

/// Sends a message to a receiver that answers these bytes, and leaves the connection open.
async fn sent(bytes: Vec<u8>) -> Result<(), MllpError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let receiver = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        let mut received = Vec::new();
        while !received.ends_with(b"\x1c\r") {
            stream.read_buf(&mut received).await.unwrap();
        }
        stream.write_all(&bytes).await.unwrap();
        stream
    });
    let destination = MllpDestination::new(address, Hl7Charset::Utf8);
    let outcome = destination.send_one(MESSAGE).await;
    receiver.abort();
    outcome
}

/// The end of a delivery to a receiver that answers these bytes.
async fn failure(bytes: &[u8]) -> SendError {
    sent(bytes.to_vec()).await.unwrap_err().into()
}

#[tokio::test]
async fn hl7_14_the_reasons_of_a_refusal_are_kept() {
    let rejected = framed(answer("MSA|AR|C1|patient unknown").as_bytes());
    let expected = SendError::Refused("the peer answered AR: patient unknown".to_owned());
    assert_eq!(failure(&rejected).await, expected);

    let segments = "MSA|AE|C1|not filed\r\
        ERR||PID^1^3|204^Unknown key identifier^HL70357|E|||no patient 77|ask the ward\r\
        ERR|PID^1^3^101&Required field missing";
    let expected = "the peer answered AE: not filed; 204 Unknown key identifier; no patient 77; \
        ask the ward; 101";
    let failure = failure(&framed(answer(segments).as_bytes())).await;
    let SendError::NotApplied(text) = failure else { panic!("{failure:?}") };
    assert!(text.starts_with(expected), "{text}");

    let silent = sent(framed(answer("MSA|CE|C1").as_bytes())).await.unwrap_err();
    assert_eq!(silent.to_string(), "the peer answered CE");
}

#[tokio::test]
async fn hl7_01_an_acknowledgement_without_its_last_return_is_one() {
    let whole = framed(answer("MSA|AA|C1").as_bytes());
    sent(whole.clone()).await.unwrap();
    sent(whole[..whole.len() - 1].to_vec()).await.unwrap();
    let unfinished = sent(whole[..whole.len() - 2].to_vec());
    let unfinished = timeout(Duration::from_secs(1), unfinished).await;
    assert!(unfinished.is_err(), "an acknowledgement without its end is awaited");
}

#[tokio::test]
async fn hl7_14_an_answer_without_a_frame_is_told_as_one() {
    for bytes in [b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), answer("MSA|AA|C1").into()] {
        let failure = failure(&bytes).await;
        let SendError::NotApplied(text) = failure else { panic!("{failure:?}") };
        let head = quoted(&String::from_utf8_lossy(&bytes));
        assert_eq!(text, format!("the peer answered outside of MLLP (no 0x0B): `{head}`"));
    }
}

#[tokio::test]
async fn hl7_14_what_acknowledges_nothing_is_told_as_what_it_is() {
    let echo = failure(&framed(MESSAGE.as_bytes())).await;
    let SendError::NotApplied(text) = echo else { panic!("{echo:?}") };
    assert!(text.contains("our own message"), "{text}");
    let other = sent(framed(answer("NTE|1||hello").as_bytes())).await;
    assert!(matches!(other, Err(MllpError::NoAcknowledgement)), "{other:?}");
    let mismatch = failure(&framed(answer("MSA|AA|XYZ").as_bytes())).await;
    let text = "the acknowledgement is of another message (MSA-2 `XYZ`)".to_owned();
    assert_eq!(mismatch, SendError::Retryable(text));
}
