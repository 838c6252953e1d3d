//! The fuzzing targets: each reader of external bytes, with samples of valid input.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use dimse::message::{Assembler, Command, CommandField, Step, fragments};
use dimse::negotiation::{self, Load};
use dimse::{Config, Peer, Timers};
use encoding::dicom::header::{Encoding, inflated_header, read_encoded};
use hl7::frame::{Decoder, Frame, framed};
use imaging::rle::FlatMask;
use plugin_host::protocol::{HostMessage, PluginMessage, read_frame, write_frame};
use simulators::order_message;
use simulators::phantom::Phantom;

use super::Target;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";

/// All targets.
pub fn all() -> Vec<Target> {
    vec![
        Target::new("pdu", vec![association_request(&[1, 3]), association_request(&[5])], pdu),
        Target::new("dimse", vec![conversation(16), conversation(4096)], dimse),
        Target::new("dicom_header", data_sets(), dicom_header),
        Target::new(
            "mllp",
            vec![framed(&order()), [framed(&order()), framed(b"MSH|")].concat()],
            mllp,
        ),
        Target::new("hl7", messages(), hl7_message),
        Target::new("workflow", workflows(), workflow_file),
        Target::new("rle", masks(), rle),
        Target::new("plugin_protocol", frames(), plugin_protocol),
    ]
}

/// An A-ASSOCIATE-RQ (PS3.8, 9.3.2) that asks for CT images in each of these contexts.
fn association_request(contexts: &[u8]) -> Vec<u8> {
    let item = |kind: u8, body: &[u8]| {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[kind, 0], &length[..], body].concat()
    };
    let mut body = vec![0, 1, 0, 0];
    body.extend(b"ISOCENTER       CT1             ");
    body.extend([0; 32]);
    body.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
    for id in contexts {
        let syntaxes = [item(0x40, EXPLICIT.as_bytes()), item(0x40, b"1.2.840.10008.1.2")].concat();
        body.extend(item(
            0x20,
            &[&[*id, 0, 0, 0], &item(0x30, CT.as_bytes())[..], &syntaxes].concat(),
        ));
    }
    let roles = item(0x54, &[&[0, 25], CT.as_bytes(), &[1, 1]].concat());
    let user =
        [item(0x51, &[0, 2, 0, 0]), item(0x52, b"1.2.3"), roles, item(0x55, b"PEER")].concat();
    body.extend(item(0x50, &user));
    [&[1, 0], &u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

fn pdu(bytes: &[u8]) {
    let networks = vec!["0.0.0.0/0".parse().unwrap()];
    let peer = Peer { ae_title: None, networks, associations_max: None };
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        ae_title: "ISOCENTER".parse().unwrap(),
        peers: Arc::new(contracts::Live::new(vec![peer])),
        associations_max: 10,
        associations_per_peer_max: 10,
        pdu_bytes_max: 131_072,
        accept_unknown_storage: false,
        association_bytes_max: 8 << 20,
        timers: Timers::default(),
    };
    let answer =
        negotiation::answer(&config, Load::default(), IpAddr::V4(Ipv4Addr::LOCALHOST), bytes);
    if let negotiation::Answer::Accept(negotiated, _) = answer {
        let ids: BTreeSet<u8> = negotiated.contexts.iter().map(|it| it.id).collect();
        assert_eq!(ids.len(), negotiated.contexts.len(), "a context was accepted twice");
    }
}

/// P-DATA of a C-STORE in fragments of `size` bytes. Two bytes with its length precede each PDU.
fn conversation(size: usize) -> Vec<u8> {
    let command = Command::request(1, CommandField::C_STORE, 7, CT, "1.2.3").to_bytes();
    let data = vec![7; 300];
    let mut bytes = Vec::new();
    for (content, is_command) in [(command, 1_u8), (data, 0)] {
        let count = content.chunks(size).count();
        for (at, piece) in content.chunks(size).enumerate() {
            let control = is_command | if at + 1 == count { 2 } else { 0 };
            let length = u32::try_from(piece.len() + 2).unwrap().to_be_bytes();
            let value = [&length[..], &[1, control], piece].concat();
            let whole = u32::try_from(value.len()).unwrap().to_be_bytes();
            let pdu = [&[4, 0], &whole[..], &value].concat();
            bytes.extend(u16::try_from(pdu.len()).unwrap().to_be_bytes());
            bytes.extend(pdu);
        }
    }
    bytes
}

fn dimse(mut bytes: &[u8]) {
    let mut assembler = Assembler::default();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (pdu, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        let Ok(fragments) = fragments(pdu) else { return };
        for fragment in fragments {
            match assembler.push(fragment) {
                Ok(Step::Command(command)) => {
                    _ = command.response(dimse::message::Status::SUCCESS, "ä").to_bytes();
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
        bytes = rest;
    }
}

/// Transfer syntaxes of data sets. The first byte of an input is an index into this list.
const SYNTAXES: [&str; 5] = [
    EXPLICIT,
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.50",
];

fn data_sets() -> Vec<Vec<u8>> {
    let phantom = Phantom { size: 8, slices: 1, placer: "P1".to_owned(), ..Phantom::default() };
    let file = phantom.files().remove(0);
    let (start, _) = encoding::dicom::file_meta::split(&file).unwrap();
    let explicit = &file[start..];
    // A sequence of undefined length in another one, and a name in Japanese.
    let implicit = b"\x08\x00\x05\x00\x0e\x00\x00\x00\\ISO 2022 IR 87\x10\x00\x10\x00\x0a\x00\x00\x00Y^T=\x1b$B;3\x1b\
        \x40\x00\x75\x02\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff\x40\x00\x75\x02\xff\xff\xff\xff\
        \xfe\xff\xdd\xe0\x00\x00\x00\x00\xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00";
    let encapsulated =
        b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\x00\x00\x00\x00\
        \xfe\xff\x00\xe0\x04\x00\x00\x00\x01\x02\x03\x04\xfe\xff\xdd\xe0\x00\x00\x00\x00";
    let pixels_start = explicit.windows(4).position(|it| it == [0xE0, 0x7F, 0x10, 0]).unwrap();
    vec![
        with_syntax(0, explicit),
        with_syntax(1, implicit),
        with_syntax(2, explicit),
        with_syntax(3, &[0x4B, 0x04, 0x00]),
        with_syntax(4, &[&explicit[..pixels_start], encapsulated].concat()),
    ]
}

/// A data set after the index of its transfer syntax.
fn with_syntax(syntax: u8, bytes: &[u8]) -> Vec<u8> {
    [&[syntax], bytes].concat()
}

fn dicom_header(bytes: &[u8]) {
    let Some((first, data_set)) = bytes.split_first() else { return };
    let encoding = Encoding::of(SYNTAXES[usize::from(*first) % SYNTAXES.len()]);
    let length = data_set.len() as u64;
    let header = if encoding.is_deflated {
        inflated_header(data_set, length).and_then(|it| {
            read_encoded(Cursor::new(it.as_slice()), it.len() as u64, Encoding::INFLATED)
        })
    } else {
        read_encoded(Cursor::new(data_set), length, encoding)
    };
    if let Ok(header) = header {
        for (group, element) in [(8, 0x0060), (0x10, 0x0010), (0x10, 0x0020), (0x20, 0x0032)] {
            let tag = encoding::dicom::header::Tag(group, element);
            _ = (
                header.text(tag),
                header.ascii(tag),
                header.decimals(tag),
                header.unsigned_short(tag),
            );
        }
    }
}

fn order() -> Vec<u8> {
    order_message(&Phantom::default(), "1").into_bytes()
}

/// The frames of a stream must not depend on the pieces in which it arrives.
fn mllp(bytes: &[u8]) {
    let size = usize::from(bytes.first().copied().unwrap_or(1)).max(1);
    let whole = decoded(bytes, bytes.len().max(1));
    let in_pieces = decoded(bytes, size);
    assert!(whole == in_pieces, "cut into {size} it is something else");
}

/// The frames of a stream that arrives in pieces of `size` bytes, up to the first error.
fn decoded(bytes: &[u8], size: usize) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in bytes.chunks(size) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

fn messages() -> Vec<Vec<u8>> {
    let merge = "MSH|^~\\&|ADT|H|I|AI|20260102||ADT^A40^ADT_A39|7|P|2.5.1\rEVN||20260102\rPID|1||A^^^MR~B^^^NI||D^J\rMRG|C^^^MR";
    let report = "MSH|^~\\&|LAB|H|I|AI|20260102||ORU^R01|8|P|2.4|||AL|NE||UNICODE UTF-8\rPID|1||A^^^MR\rOBR|1|P|F|L^Labor^L\r\
        OBX|1|NM|718-7^Hb^LN||13,5|g/dL|12-16|N|||F\rOBX|2|ED|P^^L||^application^pdf^Base64^JVBERi0=\rNTE|1||a\\F\\b\\X41\\\\.br\\";
    let mut all = vec![order()];
    all.extend([merge, report].map(|it| it.as_bytes().to_vec()));
    all.push([&b"FHS|^~\\&\rBHS|^~\\&\r"[..], &order(), b"\rBTS|1\rFTS|1"].concat());
    all
}

fn hl7_message(bytes: &[u8]) {
    let rules = hl7::Rules::default();
    let all = match hl7::batch::split(bytes) {
        Some(batch) => batch.messages,
        None => vec![bytes.to_vec()],
    };
    for message in all {
        if let Ok(judged) = hl7::receiver::judge(&message, &rules) {
            let problem = hl7::Problem::wrong(hl7::ErrorCode::ApplicationInternalError, "", "no");
            let answer = hl7::acknowledgement::not_stored(&judged.message, &problem, "1", "2026");
            let parsed = hl7::Message::parse(&answer, rules.charset);
            assert!(parsed.is_ok(), "our answer cannot be read");
        }
    }
}

fn workflows() -> Vec<Vec<u8>> {
    let files = fs::read_dir(crate::root().join("workflows")).unwrap().map(|it| it.unwrap().path());
    files
        .filter(|it| it.extension().is_some_and(|it| it == "yaml"))
        .map(|it| fs::read(it).unwrap())
        .collect()
}

fn workflow_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match workflow::reread("fuzz.yaml", &text) {
        Ok(workflow) => _ = workflow::trial(&workflow),
        Err(invalid) => assert!(!invalid.problems.is_empty(), "refused without a reason"),
    }
}

/// Run-length encoded masks, each after its height and width.
fn masks() -> Vec<Vec<u8>> {
    let mask = |height: u32, width: u32| {
        let pixels = (0..height * width).map(|it| it % 7 < 3).collect();
        let text = FlatMask { height, width, pixels }.to_text();
        [&height.to_le_bytes()[..], &width.to_le_bytes(), text.as_bytes()].concat()
    };
    vec![mask(1, 1), mask(24, 40), mask(100, 3)]
}

fn rle(bytes: &[u8]) {
    let Some((height, rest)) = bytes.split_first_chunk::<4>() else { return };
    let Some((width, text)) = rest.split_first_chunk::<4>() else { return };
    let height = u32::from_le_bytes(*height);
    let width = u32::from_le_bytes(*width);
    let Ok(mask) = FlatMask::parse(height, width, &String::from_utf8_lossy(text)) else { return };
    let again = FlatMask::parse(height, width, &mask.to_text()).unwrap();
    assert!(again.pixels == mask.pixels, "a mask comes back otherwise");
}

fn frames() -> Vec<Vec<u8>> {
    let mut check = Vec::new();
    let settings = serde_json::json!({"targets": ["bone"]});
    write_frame(&mut check, &HostMessage::Check { settings }, &[]).unwrap();
    let ready = PluginMessage::Ready { name: "a".to_owned(), version: "1".to_owned() };
    let done = PluginMessage::Done { status: 0, body: "{\"findings\":[]}".to_owned() };
    vec![
        plugin_frame(&PluginMessage::Artifact, &[1; 100]),
        plugin_frame(&PluginMessage::Log { level: 1, message: "hm".to_owned() }, &[]),
        [plugin_frame(&ready, &[]), plugin_frame(&done, &[])].concat(),
        check,
    ]
}

fn plugin_frame(message: &PluginMessage, blob: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, message, blob).unwrap();
    bytes
}

/// Reads the same bytes as messages of a plugin, and as messages to a plugin.
fn plugin_protocol(bytes: &[u8]) {
    let mut from_plugin = Cursor::new(bytes);
    while read_frame::<PluginMessage>(&mut from_plugin).is_ok() {}
    let mut to_plugin = Cursor::new(bytes);
    while read_frame::<HostMessage>(&mut to_plugin).is_ok() {}
}
