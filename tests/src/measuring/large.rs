//! Objects that are larger than a sender should hold: a header, and pixels that repeat.

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

/// Pixels that are sent again and again.
const CHUNK_BYTES: usize = 1 << 20;

/// What a slow sender sends, and how long it rests after it: 10 KB a second.
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

/// The data set up to its pixels, of which so many bytes follow.
fn header(instance: &str, pixel_bytes: u32) -> Vec<u8> {
    let (study, series) = (uid(), uid());
    let mut bytes = [
        explicit(0x0008, 0x0016, *b"UI", MULTI_FRAME),
        explicit(0x0008, 0x0018, *b"UI", instance),
        explicit(0x0008, 0x0060, *b"CS", "US"),
        explicit(0x0010, 0x0010, *b"PN", "LARGE^OBJECT"),
        explicit(0x0010, 0x0020, *b"LO", "LARGE"),
        explicit(0x0020, 0x000D, *b"UI", &study),
        explicit(0x0020, 0x000E, *b"UI", &series),
    ]
    .concat();
    bytes.extend([0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0]);
    bytes.extend(pixel_bytes.to_le_bytes());
    bytes
}

/// An association, the context it may send in, and the instance it has announced.
struct Begun {
    association: ClientAssociation<TcpStream>,
    context: u8,
    instance: String,
}

/// Opens an association and announces an object.
fn begin(address: &str, called: &str) -> Begun {
    let mut association = ClientAssociationOptions::new()
        .calling_ae_title("CT1")
        .called_ae_title(called)
        .max_pdu_length(131_072)
        .with_presentation_context(MULTI_FRAME, vec![EXPLICIT_LITTLE_ENDIAN])
        .establish(address)
        .unwrap();
    let context = association.presentation_contexts()[0].id;
    let instance = uid();
    let set = PDataValue {
        presentation_context_id: context,
        value_type: PDataValueType::Command,
        is_last: true,
        data: command(&instance),
    };
    association.send(&Pdu::PData { data: vec![set] }).unwrap();
    Begun { association, context, instance }
}

/// Sends an object with so many bytes of pixels, and gives the time until it was taken.
pub fn store_large(address: &str, called: &str, pixel_bytes: u32) -> Duration {
    let mut begun = begin(address, called);
    let begin = Instant::now();
    write_pixels(&mut begun, pixel_bytes);
    let Pdu::PData { data } = begun.association.receive().unwrap() else { panic!("no answer") };
    // (0000,0900) Status stands in the answer, and is zero.
    let status = implicit(0x0900, &0_u16.to_le_bytes());
    assert!(data[0].data.windows(status.len()).any(|it| it == status), "it was not taken");
    let time = begin.elapsed();
    begun.association.release().unwrap();
    time
}

fn write_pixels(begun: &mut Begun, pixel_bytes: u32) {
    let chunk = vec![7; CHUNK_BYTES];
    let mut writer = begun.association.send_pdata(begun.context);
    writer.write_all(&header(&begun.instance, pixel_bytes)).unwrap();
    let mut left = usize::try_from(pixel_bytes).unwrap();
    while left > 0 {
        let now = left.min(CHUNK_BYTES);
        writer.write_all(chunk.get(..now).unwrap()).unwrap();
        left -= now;
    }
    writer.finish().unwrap();
}

/// Sends so many objects at once, and gives the time until the last was taken.
pub fn store_large_at_once(
    address: &str,
    called: &str,
    count: usize,
    pixel_bytes: u32,
) -> Duration {
    let begin = Instant::now();
    let send = |_| {
        let (address, called) = (address.to_owned(), called.to_owned());
        thread::spawn(move || store_large(&address, &called, pixel_bytes))
    };
    let all: Vec<_> = (0..count).map(send).collect();
    for one in all {
        one.join().unwrap();
    }
    begin.elapsed()
}

/// A sender that is not slow enough to be sent away, and never comes to an end.
pub struct Slow {
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<bool>,
}

impl Slow {
    /// Begins to send.
    pub fn begin(address: &str, called: &str) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let (over, mut begun) = (Arc::clone(&is_over), begin(address, called));
        let thread = thread::spawn(move || {
            let mut data = header(&begun.instance, u32::MAX - 1);
            while !over.load(Ordering::Relaxed) {
                let set = PDataValue {
                    presentation_context_id: begun.context,
                    value_type: PDataValueType::Data,
                    is_last: false,
                    data: std::mem::replace(&mut data, vec![7; TRICKLE_BYTES]),
                };
                if begun.association.send(&Pdu::PData { data: vec![set] }).is_err() {
                    return false;
                }
                thread::sleep(TRICKLE_PAUSE);
            }
            true
        });
        Self { is_over, thread }
    }

    /// Stops, and says whether it was still being listened to.
    pub fn end(self) -> bool {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
