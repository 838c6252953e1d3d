//! MLLP as odd peers write it, and headers as real senders write them.

use std::collections::BTreeMap;
use std::time::Duration;

use system_tests::Hospital;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::case::run;
use crate::images::python_lines;
use crate::message::settled;
use crate::site::Kind;

const START: &[u8] = b"\x0b";
const END: &[u8] = b"\x1c\r";

/// Longest wait for an answer.
const SILENCE: Duration = Duration::from_millis(1500);

/// The message of the case.
fn message(id: &str) -> Vec<u8> {
    format!(
        "MSH|^~\\&|LAB|HOSP|ISO|HOSP|20260103101500||ADT^A08|H15{id}|P|2.5.1\r\
         PID|1||H15^^^HOSP^MR||DOE^JANE||19800101|F\r"
    )
    .into_bytes()
}

fn framed(id: &str) -> Vec<u8> {
    [START, &message(id), END].concat()
}

/// Writes the parts one after the other, and reads until nothing comes any more.
async fn talk(hospital: &Hospital, parts: &[Vec<u8>], pause: Duration) -> String {
    let mut stream = TcpStream::connect(&hospital.engine.mllp).await.unwrap();
    for part in parts {
        if stream.write_all(part).await.is_err() {
            break;
        }
        sleep(pause).await;
    }
    let mut answer = Vec::new();
    while let Ok(Ok(read)) = timeout(SILENCE, stream.read_buf(&mut answer)).await {
        if read == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A name, the parts that are written one after the other, and the control ids that are answered
/// with AA, in order.
type Conversation = (&'static str, Vec<Vec<u8>>, &'static [&'static str]);

fn conversations() -> Vec<Conversation> {
    let bytes = |it: Vec<u8>| it.into_iter().map(|byte| vec![byte]).collect::<Vec<_>>();
    let cut = [START, message("N").get(..60).unwrap()].concat();
    let utf_16: Vec<u8> = String::from_utf8(message("P"))
        .unwrap()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    vec![
        ("no 0x0B", vec![[&message("A"), END].concat()], &[]),
        ("no frame", vec![message("B")], &[]),
        ("no end", vec![[START, &message("C")].concat()], &[]),
        ("end without CR", vec![[START, &message("D"), b"\x1c"].concat()], &["H15D"]),
        ("two in one write", vec![[framed("F"), framed("G")].concat()], &["H15F", "H15G"]),
        ("byte by byte", bytes(framed("J")), &["H15J"]),
        (
            "CRLF between frames",
            vec![[framed("K"), b"\r\n".to_vec(), framed("L")].concat()],
            &["H15K", "H15L"],
        ),
        ("0x0B twice", vec![[START, &framed("M")].concat()], &["H15M"]),
        ("cut and begun again", vec![cut, framed("O")], &["H15O"]),
        ("empty frame", vec![[START, END].concat()], &[]),
        ("HTTP", vec![b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()], &[]),
        ("nothing", vec![], &[]),
        ("UTF-16", vec![[START, b"\xff\xfe", &utf_16, END].concat()], &[]),
        ("BOM", vec![[START, b"\xef\xbb\xbf", &message("Q"), END].concat()], &["H15Q"]),
    ]
}

/// The control ids that an answer accepts.
fn accepted(answer: &str) -> Vec<String> {
    let lines = answer.split('\r').filter_map(|it| it.strip_prefix("MSA|AA|"));
    lines.map(|it| it.split('|').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn field_h15_mllp_framing() {
    run(Kind::Hospital, "h15-mllp-framing", async |site, case| {
        let hospital = &site.hospital;
        for (name, parts, expected) in conversations() {
            let pause = if parts.len() > 9 { 0 } else { 100 };
            let answer = talk(hospital, &parts, Duration::from_millis(pause)).await;
            case.check(name, accepted(&answer) == expected, &answer);
        }
        // 0x1C is a part of the message if no CR follows; a peer may mean its end all the same.
        let end = [START, &message("E"), b"\x1c\n"].concat();
        let answer = talk(hospital, &[end], Duration::ZERO).await;
        let is_right = accepted(&answer).is_empty() || accepted(&answer) == ["H15E"];
        case.check("end with LF", is_right, &answer);
        let two = [START, &message("H"), &message("I"), END].concat();
        let answer = talk(hospital, &[two], Duration::ZERO).await;
        let accepted = accepted(&answer);
        let is_refused = accepted.is_empty() && answer.contains("MSA|A");
        let is_right = is_refused || accepted == ["H15H", "H15I"];
        case.check("two messages in one frame", is_right, &answer);
        let is_told = hospital.log().contains("outside of any MLLP frame");
        case.check("bytes without 0x0B are told", is_told, "not in the log");
    });
}

/// Messages that are legal, or that leave no doubt.
const TAKEN: [&str; 13] = [
    "type without event",
    "version 2.3.1^USA",
    "P^T",
    "MSH-6 |^^|",
    "no time",
    "CR before MSH",
    "tab in a name",
    "segment of Z",
    "NTE after PID",
    "DSC at the end",
    "short segment",
    "trailing bars",
    "version empty",
];

/// The case prints each kind of message with its answer.
#[test]
fn field_h19_odd_headers() {
    run(Kind::Hospital, "h19-odd-headers", async |site, case| {
        let hospital = &site.hospital;
        let lines = python_lines(site, case, "run.py");
        let answers: BTreeMap<&str, &str> = lines
            .iter()
            .filter_map(|it| Some((it.get(..28)?.trim(), it.get(28..)?.trim())))
            .collect();
        case.check("all are answered", answers.len() == 36, answers.len());
        for (name, answer) in &answers {
            let is_taken = answer.starts_with("MSA|AA|");
            let says_why = answer.contains("ERR|") && answer.contains("^HL70357");
            let is_right = is_taken || (says_why && !TAKEN.contains(name));
            case.check(*name, is_right, answer);
        }
        // The first message of the case.
        let why = settled(hospital, "H19N01").await;
        let runs = why["message_runs"].as_array().map_or(0, Vec::len);
        case.check("a run on the type without event", runs == 1, runs);
    });
}
