//! Receivers of HL7 messages to compare with, and a sender at their full speed.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hl7::frame::framed;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Hospital, Scratch, python};

/// Longest wait until a receiver accepts its first connection.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// A server with python-hl7 that parses each message, stores nothing, and acknowledges.
const PYTHON_HL7: &str = "
import asyncio, sys, hl7
from hl7.mllp import start_hl7_server
async def serve(reader, writer):
    try:
        while not writer.is_closing():
            message = await reader.readmessage()
            writer.writemessage(message.create_ack())
            await writer.drain()
    except asyncio.IncompleteReadError:
        pass
async def main():
    async with await start_hl7_server(serve, host='127.0.0.1', port=int(sys.argv[1])) as server:
        await server.serve_forever()
asyncio.run(main())
";

/// A running server for HL7 v2.
pub struct Acknowledger {
    /// Name in tables.
    pub name: &'static str,
    /// Address of the MLLP listener.
    pub address: String,
    /// The hospital, where this is the engine.
    pub hospital: Option<Hospital>,
    child: Option<(Child, Scratch)>,
}

impl Acknowledger {
    /// The engine with its private database.
    pub async fn isocenter() -> Self {
        let hospital = super::peer::idle_hospital().await;
        let address = hospital.engine.mllp.clone();
        Self { name: "isocenter", address, hospital: Some(hospital), child: None }
    }

    /// A server with python-hl7, where it can be started.
    pub async fn python_hl7() -> Option<Self> {
        let python = python();
        let scratch = Scratch::default();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(python);
        command.arg(scratch.write("server.py", PYTHON_HL7)).arg(port.to_string());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let address = format!("127.0.0.1:{port}");
        let start = Instant::now();
        while TcpStream::connect(&address).await.is_err() {
            assert!(start.elapsed() < START_TIME_MAX, "python-hl7 does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let child = Some((child, scratch));
        Some(Self { name: "python-hl7", address, hospital: None, child })
    }
}

impl Drop for Acknowledger {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.child {
            // The child may have ended already.
            _ = child.kill();
            _ = child.wait();
        }
    }
}

/// A laboratory report (ORU^R01) of about 7.5 KB.
fn laboratory_report(control_id: &str) -> Vec<u8> {
    let mut text = format!(
        "MSH|^~\\&|LAB|HOSP|ISOCENTER|AI|20260102101500||ORU^R01^ORU_R01|{control_id}|P|2.5.1\r\
         PID|1||4711^^^HOSP^MR||DEMO^PHANTOM||19700101|O\rPV1|1|O\r\
         OBR|1|P1|{control_id}|24323-8^Comprehensive metabolic panel^LN|||20260102093000\r"
    );
    for number in 1..=75 {
        _ = write!(
            text,
            "OBX|{number}|NM|2345-{number}^Substance number {number} in serum^LN||{}.{}|mmol/L|3.9-6.1|N|||F|||20260102\r",
            number % 9,
            number % 7
        );
    }
    text.into_bytes()
}

/// Sends `each` messages on every connection, one after the acknowledgement of the other. Returns
/// the total time, and the milliseconds from each message to its acknowledgement.
pub async fn acknowledge_all(
    address: &str,
    connections: usize,
    each: usize,
) -> (Duration, Vec<f64>) {
    let start = Instant::now();
    let sending = (0..connections).map(|_| {
        let address = address.to_owned();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut times = Vec::with_capacity(each);
            let mut answer = Vec::new();
            for _ in 0..each {
                let id = uuid::Uuid::now_v7().simple().to_string();
                let message = framed(&laboratory_report(id.get(12..).unwrap()));
                let sent = Instant::now();
                stream.write_all(&message).await.unwrap();
                answer.clear();
                while !answer.ends_with(&[0x1C, b'\r']) {
                    assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the peer hung up");
                }
                times.push(sent.elapsed().as_secs_f64() * 1000.0);
                let text = String::from_utf8_lossy(&answer);
                assert!(text.contains("MSA|AA"), "{text}");
            }
            times
        })
    });
    let mut times = Vec::new();
    for sender in sending.collect::<Vec<_>>() {
        times.extend(sender.await.unwrap());
    }
    (start.elapsed(), times)
}
