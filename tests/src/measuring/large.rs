//! Senders of objects that are too large for memory: a header, then the same pixels repeatedly.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dicom_ul::pdu::{PDataValue, PDataValueType, Pdu};
use dicom_ul::{ClientAssociation, ClientAssociationOptions};

/// Ultrasound Multi-frame Image Storage.
const MULTI_FRAME: &str = "1.2.840.10008.5.1.4.1.1.3.1";

const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";

/// Size of the block of pixels that is sent repeatedly.
const CHUNK_BYTES: usize = 1 << 20;

/// A slow sender pauses after each block of this size, which makes 10 KB per second.
const TRICKLE_BYTES: usize = 1_000;
const TRICKLE_PAUSE: Duration = Duration::from_millis(100);

/// An element in explicit little endian, with a short length.
fn explicit(group: u16, element: u16, vr: [u8; 2], text: &str) -> Vec<u8> {
    let mut value = text.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(if &vr == b"UI" { 0 } else { b' ' });
    }
    let length = u16::try_from(value.len()).unwrap();
    let tag = [group.to_le_bytes(), element.to_le_bytes()].concat();
    [tag.as_slice(), &vr, &length.to_le_bytes(), &value].concat()
}

/// An element of a command set, in implicit little endian.
fn implicit(element: u16, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap();
    [&[0, 0], element.to_le_bytes().as_slice(), &length.to_le_bytes(), value].concat()
}

fn uid() -> String {
    format!("2.25.{}", uuid::Uuid::now_v7().as_u128())
}

/// C-STORE-RQ (PS3.7, 9.3.1.1).
fn command(instance: &str) -> Vec<u8> {
    let padded = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes
    };
    let rest = [
        implicit(0x0002, &padded(MULTI_FRAME)),
        implicit(0x0100, &1_u16.to_le_bytes()),
        implicit(0x0110, &1_u16.to_le_bytes()),
        implicit(0x0700, &0_u16.to_le_bytes()),
        implicit(0x0800, &1_u16.to_le_bytes()),
        implicit(0x1000, &padded(instance)),
    ]
    .concat();
    let length = u32::try_from(rest.len()).unwrap();
    [implicit(0, &length.to_le_bytes()), rest].concat()
}

/// The data set up to its pixels, whose length is `pixel_bytes`.
fn header(instance: &str, pixel_bytes: u32) -> Vec<u8> {
    let mut bytes = [
        explicit(0x0008, 0x0016, *b"UI", MULTI_FRAME),
        explicit(0x0008, 0x0018, *b"UI", instance),
        explicit(0x0008, 0x0060, *b"CS", "US"),
        explicit(0x0010, 0x0010, *b"PN", "LARGE^OBJECT"),
        explicit(0x0010, 0x0020, *b"LO", "LARGE"),
        explicit(0x0020, 0x000D, *b"UI", &uid()),
        explicit(0x0020, 0x000E, *b"UI", &uid()),
    ]
    .concat();
    bytes.extend([0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0]);
    bytes.extend(pixel_bytes.to_le_bytes());
    bytes
}

/// An association on which a C-STORE request was sent, but no data set yet.
struct PendingStore {
    association: ClientAssociation<TcpStream>,
    context: u8,
    instance: String,
}

/// Opens an association and sends the C-STORE request of an object.
fn request_store(address: &str, called: &str) -> PendingStore {
    let mut association = ClientAssociationOptions::new()
        .calling_ae_title("CT1")
        .called_ae_title(called)
        .max_pdu_length(131_072)
        .with_presentation_context(MULTI_FRAME, vec![EXPLICIT_LITTLE_ENDIAN])
        .establish(address)
        .unwrap();
    let context = association.presentation_contexts()[0].id;
    let instance = uid();
    let value = PDataValue {
        presentation_context_id: context,
        value_type: PDataValueType::Command,
        is_last: true,
        data: command(&instance),
    };
    association.send(&Pdu::PData { data: vec![value] }).unwrap();
    PendingStore { association, context, instance }
}

/// Sends an object with `pixel_bytes` of pixels and returns the time until its acknowledgement.
pub fn store_large(address: &str, called: &str, pixel_bytes: u32) -> Duration {
    let mut pending = request_store(address, called);
    let start = Instant::now();
    write_data_set(&mut pending, pixel_bytes);
    let Pdu::PData { data } = pending.association.receive().unwrap() else { panic!("no answer") };
    // (0000,0900) Status of the response must be zero.
    let status = implicit(0x0900, &0_u16.to_le_bytes());
    assert!(data[0].data.windows(status.len()).any(|it| it == status), "it was not taken");
    let time = start.elapsed();
    pending.association.release().unwrap();
    time
}

fn write_data_set(pending: &mut PendingStore, pixel_bytes: u32) {
    let chunk = vec![7; CHUNK_BYTES];
    let mut writer = pending.association.send_pdata(pending.context);
    writer.write_all(&header(&pending.instance, pixel_bytes)).unwrap();
    let mut remaining = usize::try_from(pixel_bytes).unwrap();
    while remaining > 0 {
        let length = remaining.min(CHUNK_BYTES);
        writer.write_all(chunk.get(..length).unwrap()).unwrap();
        remaining -= length;
    }
    writer.finish().unwrap();
}

/// Sends `count` objects on parallel associations and returns the time until the last
/// acknowledgement.
pub fn store_large_at_once(
    address: &str,
    called: &str,
    count: usize,
    pixel_bytes: u32,
) -> Duration {
    let start = Instant::now();
    let mut senders = Vec::with_capacity(count);
    for _ in 0..count {
        let address = address.to_owned();
        let called = called.to_owned();
        senders.push(thread::spawn(move || store_large(&address, &called, pixel_bytes)));
    }
    for sender in senders {
        sender.join().unwrap();
    }
    start.elapsed()
}

/// A sender of an endless object, just fast enough that the receiver does not abort.
pub struct Slow {
    must_stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<bool>,
}

impl Slow {
    /// Starts to send, in a thread.
    pub fn begin(address: &str, called: &str) -> Self {
        let must_stop = Arc::<AtomicBool>::default();
        let stop = Arc::clone(&must_stop);
        let mut pending = request_store(address, called);
        let thread = thread::spawn(move || {
            let mut data = header(&pending.instance, u32::MAX - 1);
            while !stop.load(Ordering::Relaxed) {
                let value = PDataValue {
                    presentation_context_id: pending.context,
                    value_type: PDataValueType::Data,
                    is_last: false,
                    data: std::mem::replace(&mut data, vec![7; TRICKLE_BYTES]),
                };
                if pending.association.send(&Pdu::PData { data: vec![value] }).is_err() {
                    return false;
                }
                thread::sleep(TRICKLE_PAUSE);
            }
            true
        });
        Self { must_stop, thread }
    }

    /// Stops the sender. Returns whether its association was still open.
    pub fn end(self) -> bool {
        self.must_stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
