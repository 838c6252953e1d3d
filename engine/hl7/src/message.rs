//! Parses messages into segments, fields and components (HL7 v2, chapter 2; HL7-20 to HL7-26).
//!
//! The crate `hl7-parser` splits the text. What it would ignore silently is normalised or refused
//! here before: blank lines, at which it stops, and line feeds, which it reads as text.

use std::borrow::Cow;
use std::ops::Range;

use domain::MessageType;
use encoding::hl7::charset::{Hl7Charset, NamedCharset};
use encoding::hl7::escape::Delimiters;

use crate::{message_type, segment_name};

/// Upper bound of the segments of a message.
const SEGMENTS_MAX: usize = 10_000;

/// Upper bound of the repetitions of a field (HL7-02).
const REPETITIONS_MAX: usize = 1_000;

/// Length of a segment name.
const NAME_BYTES: usize = 3;

/// A parsed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Field, component, repetition, escape and subcomponent separator of the message.
    pub delimiters: Delimiters,
    /// The character set of MSH-18, or the default of the endpoint.
    pub charset: Hl7Charset,
    /// Whether MSH-18 names the character set as table 0211 does.
    pub is_charset_by_the_table: bool,
    /// Whether every byte could be decoded.
    pub is_lossless: bool,
    segments: Vec<Segment>,
}

/// A segment with its fields, not decoded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `MSH`, `PID`, …
    pub name: String,
    text: String,
    /// The place of each field in the text, field 1 first; in `MSH` that is the separator itself.
    fields: Vec<Range<usize>>,
}

/// Error condition codes of ERR-3 that the engine answers with (HL7 v2.5.1, table 0357).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// 100: the segments are not in order, or one is missing.
    SegmentSequence,
    /// 101: a required field is missing.
    RequiredFieldMissing,
    /// 102: a value cannot be decoded.
    DataTypeError,
    /// 200: the message type is not supported.
    UnsupportedMessageType,
    /// 201: the event code is not supported.
    UnsupportedEventCode,
    /// 202: the processing id is not supported.
    UnsupportedProcessingId,
    /// 203: the version is not supported.
    UnsupportedVersion,
    /// 204: an identifier does not fit what is known.
    UnknownKeyIdentifier,
    /// 207: any other reason within the receiving application.
    ApplicationInternalError,
}

impl ErrorCode {
    /// The code in table 0357.
    pub const fn number(self) -> u16 {
        match self {
            Self::SegmentSequence => 100,
            Self::RequiredFieldMissing => 101,
            Self::DataTypeError => 102,
            Self::UnsupportedMessageType => 200,
            Self::UnsupportedEventCode => 201,
            Self::UnsupportedProcessingId => 202,
            Self::UnsupportedVersion => 203,
            Self::UnknownKeyIdentifier => 204,
            Self::ApplicationInternalError => 207,
        }
    }
}

/// Why a message is refused, as the acknowledgement states it (HL7-10).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Problem {
    /// Whether the sender must not send it again (`AR`, `CR`), or may once it is corrected (`AE`,
    /// `CE`).
    pub is_final: bool,
    /// ERR-3.
    pub code: ErrorCode,
    /// ERR-2: segment ^ sequence ^ field, or nothing.
    pub location: Cow<'static, str>,
    /// ERR-8: what is wrong, without any patient data.
    pub text: String,
}

impl Problem {
    /// A problem after which the sender must not send the message again.
    pub fn refused(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { is_final: true, code, location: Cow::Borrowed(""), text: text.into() }
    }

    /// A problem that the sender may correct.
    pub fn wrong(
        code: ErrorCode,
        location: impl Into<Cow<'static, str>>,
        text: impl Into<String>,
    ) -> Self {
        Self { is_final: false, code, location: location.into(), text: text.into() }
    }
}

impl Message {
    /// Parses the bytes of a frame. `default` is the character set if MSH-18 names none.
    ///
    /// # Errors
    ///
    /// Fails if any part of the message cannot be parsed: it is never read in part.
    pub fn parse(bytes: &[u8], default: Hl7Charset) -> Result<Self, Problem> {
        Self::parse_in(charset_of(bytes, default)?, bytes)
    }

    /// Parses the bytes of a frame that are in this character set.
    pub(crate) fn parse_in(named: NamedCharset, bytes: &[u8]) -> Result<Self, Problem> {
        let bytes = without_mark(bytes);
        let NamedCharset { charset, is_by_the_table: is_charset_by_the_table } = named;
        let decoded = charset.decode(bytes);
        let is_lossless = decoded.is_lossless && !decoded.text.contains('\0');
        let text = normalised(&decoded.text.replace('\0', "\u{FFFD}"));
        let delimiters = Delimiters::of_message(&text).ok_or_else(no_header)?;
        let text = joined(&standard_header(&text, delimiters), delimiters);
        let segments = segments(&text, delimiters)?;
        let message = Self { delimiters, charset, is_charset_by_the_table, is_lossless, segments };
        if message.header().fields.len() < 9 {
            return Err(no_header());
        }
        Ok(message)
    }

    /// Parses the header of a message whose character set is unknown: MSH is ASCII up to MSH-17.
    /// What follows is not read, since it may be of another field (SEC-37).
    ///
    /// # Errors
    ///
    /// Fails if the segments seem to be separated by other bytes than CR or LF, or the header
    /// cannot be parsed.
    pub(crate) fn parse_header(bytes: &[u8]) -> Result<Self, Problem> {
        let line = header_line(bytes);
        if line.iter().any(|it| it.is_ascii_control() && !matches!(it, b'\t' | 0x1b)) {
            return Err(no_header());
        }
        let character = |it: &u8| if it.is_ascii() { char::from(*it) } else { '\u{FFFD}' };
        let line: String = line.iter().map(character).collect();
        let delimiters = Delimiters::of_message(&line).ok_or_else(no_header)?;
        // MSH-1 is the separator itself.
        let fields = line.split(delimiters.field).take(17);
        let header = fields.collect::<Vec<_>>().join(&delimiters.field.to_string());
        let named = NamedCharset { charset: Hl7Charset::Utf8, is_by_the_table: true };
        Ok(Self { is_lossless: false, ..Self::parse_in(named, header.as_bytes())? })
    }

    /// The segments, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The first segment of this name.
    pub fn segment(&self, name: &str) -> Option<&Segment> {
        self.segments.iter().find(|it| it.name == name)
    }

    /// Whether another message follows in the same frame.
    pub fn has_second_header(&self) -> bool {
        self.segments.iter().skip(1).any(|it| it.name == "MSH")
    }

    /// The message with its header only: enough to acknowledge it.
    #[must_use]
    pub fn header_only(&self) -> Self {
        let segments = self.segments.first().cloned().into_iter().collect();
        let Self { delimiters, charset, is_charset_by_the_table, is_lossless, .. } = *self;
        Self { delimiters, charset, is_charset_by_the_table, is_lossless, segments }
    }

    fn header(&self) -> &Segment {
        const EMPTY: &Segment =
            &Segment { name: String::new(), text: String::new(), fields: Vec::new() };
        self.segments.first().unwrap_or(EMPTY)
    }

    /// A component of the first repetition of a field of MSH.
    pub fn msh(&self, field: usize, component: usize) -> String {
        self.value(self.header(), field, component)
    }

    /// Message code and trigger event (MSH-9). Where the event is missing it is that of the message
    /// structure, or the one that the type had in the versions that know no other.
    pub fn message_type(&self) -> MessageType {
        message_type::message_type(&self.msh(9, 1), &self.msh(9, 2), &self.msh(9, 3))
    }

    /// A component of the first repetition of a field, decoded. Numbers count from 1. The explicit
    /// null `""` reads as empty (HL7-21).
    pub fn value(&self, segment: &Segment, field: usize, component: usize) -> String {
        self.repetitions(segment, field)
            .next()
            .map_or_else(String::new, |it| it.component(component))
    }

    /// A field as decoded text, for fields whose components have no meaning. Repetitions are lines.
    /// The null value (`""`) is no text.
    pub fn text(&self, segment: &Segment, field: usize) -> String {
        let raw = segment.field(field);
        if raw.trim() == "\"\"" {
            return String::new();
        }
        let lines: Vec<String> =
            raw.split(self.delimiters.repetition).map(|it| self.unescaped(it)).collect();
        lines.join("\n")
    }

    /// The repetitions of a field.
    pub fn repetitions<'a>(
        &'a self,
        segment: &'a Segment,
        field: usize,
    ) -> impl Iterator<Item = Repetition<'a>> {
        let raw = segment.field(field);
        raw.split(self.delimiters.repetition).map(move |text| Repetition { text, message: self })
    }

    fn unescaped(&self, text: &str) -> String {
        self.delimiters.unescaped(text, self.charset)
    }
}

impl Segment {
    fn all_fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter_map(|it| self.text.get(it.clone()))
    }

    /// A field, not decoded; empty if the segment has no such field. Numbers count from 1.
    pub fn field(&self, number: usize) -> &str {
        let place = number.checked_sub(1).and_then(|it| self.fields.get(it));
        place.and_then(|it| self.text.get(it.clone())).unwrap_or_default()
    }
}

/// One repetition of a field.
#[derive(Clone, Copy, Debug)]
pub struct Repetition<'a> {
    text: &'a str,
    message: &'a Message,
}

impl Repetition<'_> {
    /// A component, decoded: its first subcomponent, since the others qualify it.
    pub fn component(&self, number: usize) -> String {
        self.subcomponent(number, 1)
    }

    /// A component with its subcomponents, decoded, for components whose subcomponents have no
    /// meaning.
    pub fn whole(&self, component: usize) -> String {
        let place = component.checked_sub(1);
        let separator = self.message.delimiters.component;
        let part = place.and_then(|it| self.text.split(separator).nth(it));
        self.message.unescaped(part.unwrap_or_default())
    }

    /// The components, decoded, each with its subcomponents. The explicit null reads as empty.
    pub fn components(&self) -> Vec<String> {
        let parts = self.text.split(self.message.delimiters.component);
        parts
            .map(|it| if it == "\"\"" { String::new() } else { self.message.unescaped(it) })
            .collect()
    }

    /// The whole, decoded, for fields whose components have no meaning.
    pub fn all(&self) -> String {
        self.message.unescaped(self.text)
    }

    /// A subcomponent, decoded.
    pub fn subcomponent(&self, component: usize, number: usize) -> String {
        let nth = |text: &str, separator: char, number: usize| {
            let part = number.checked_sub(1).and_then(|it| text.split(separator).nth(it));
            part.unwrap_or_default().to_owned()
        };
        let Delimiters { component: between, subcomponent, .. } = self.message.delimiters;
        let component = nth(self.text, between, component);
        let part = nth(&component, subcomponent, number);
        if part == "\"\"" { String::new() } else { self.message.unescaped(&part) }
    }
}

fn no_header() -> Problem {
    Problem::refused(ErrorCode::SegmentSequence, "the message has no usable MSH segment")
}

/// The bytes without a byte order mark.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// The first line of a message.
fn header_line(bytes: &[u8]) -> &[u8] {
    let mut lines = without_mark(bytes).split(|it| matches!(it, b'\r' | b'\n'));
    lines.next().unwrap_or_default()
}

/// The character set of MSH-18, read from the bytes before they can be decoded: MSH is ASCII.
///
/// # Errors
///
/// Fails if it is unknown. The name is not repeated: where other bytes separate the segments,
/// another field stands in the place of MSH-18, which may be the name of a patient (SEC-37).
pub(crate) fn charset_of(bytes: &[u8], default: Hl7Charset) -> Result<NamedCharset, Problem> {
    let line = header_line(bytes);
    // MSH-1, and the second of MSH-2.
    let separator = line.get(3).copied().unwrap_or(b'|');
    let repetition = line.get(5).copied().unwrap_or(b'~');
    let field = line.split(|it| *it == separator).nth(17).unwrap_or_default();
    let field = field.split(|it| !it.is_ascii_graphic() && *it != b' ').next();
    let names: Vec<Cow<'_, str>> = field
        .unwrap_or_default()
        .split(|it| *it == repetition)
        .map(String::from_utf8_lossy)
        .collect();
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    Hl7Charset::parse_repetitions(&names, default).map_err(|_| {
        let text = "MSH-18 names a character set that is not supported";
        Problem::wrong(ErrorCode::DataTypeError, "MSH^1^18", text)
    })
}

/// One carriage return between segments, and none elsewhere.
fn normalised(text: &str) -> String {
    let lines = text.split(['\r', '\n']).map(str::trim_end).filter(|it| !it.is_empty());
    lines.collect::<Vec<_>>().join("\r")
}

/// The message with exactly four encoding characters in MSH-2, as the parser requires. A fifth (the
/// truncation character of 2.7, or an escape character written twice) is removed.
fn standard_header(text: &str, d: Delimiters) -> String {
    let rest = text.split_once(d.field).and_then(|(_, it)| it.split_once(d.field));
    match rest {
        Some((encoding, rest)) if encoding.chars().count() == 5 => {
            let (f, c, r, e, s) = (d.field, d.component, d.repetition, d.escape, d.subcomponent);
            format!("MSH{f}{c}{r}{e}{s}{f}{rest}")
        }
        _ => text.to_owned(),
    }
}

fn is_segment(line: &str, delimiters: Delimiters) -> bool {
    let name: String = line.chars().take_while(|it| *it != delimiters.field).collect();
    name.len() == NAME_BYTES
        && name.chars().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
}

/// Whether a line begins a segment. A segment may have no field (HL7 v2.5.1, 2.5.1), but not every
/// word of three letters is one.
fn begins_segment(line: &str, delimiters: Delimiters) -> bool {
    is_segment(line, delimiters) && (line.len() > NAME_BYTES || segment_name::is_known(line))
}

/// Whether a line begins a message, even one with other delimiters or behind a byte order mark.
fn is_header(line: &str) -> bool {
    let line = line.trim_start_matches(|it: char| it == '\u{feff}' || it.is_whitespace());
    Delimiters::of_message(line).is_some()
}

/// The message with observations and notes in one piece: some senders break long ones into lines.
/// Broken base64 is joined, broken text becomes lines of text. A segment that is only its name gets
/// a field, without which the parser would not take it.
fn joined(text: &str, delimiters: Delimiters) -> String {
    let e = delimiters.escape;
    let line_break = format!("{e}.br{e}");
    let mut joined = String::with_capacity(text.len());
    // Whether the last segment may continue, and if so whether it is a document.
    let mut open: Option<bool> = None;
    for line in text.split('\r') {
        match open {
            Some(is_document) if !begins_segment(line, delimiters) && !is_header(line) => {
                if !is_document {
                    joined.push_str(&line_break);
                }
            }
            _ => {
                if !joined.is_empty() {
                    joined.push('\r');
                }
                let may_continue = line.starts_with("OBX") || line.starts_with("NTE");
                open = may_continue.then(|| line.split(delimiters.field).nth(2) == Some("ED"));
            }
        }
        joined.push_str(line);
        if line.len() == NAME_BYTES && begins_segment(line, delimiters) {
            joined.push(delimiters.field);
        }
    }
    joined
}

fn segments(text: &str, delimiters: Delimiters) -> Result<Vec<Segment>, Problem> {
    let count = text.split('\r').count();
    if count > SEGMENTS_MAX {
        return Err(Problem::refused(
            ErrorCode::ApplicationInternalError,
            "the message has too many segments",
        ));
    }
    if !text.split('\r').all(|it| is_segment(it, delimiters)) {
        return Err(Problem::refused(
            ErrorCode::SegmentSequence,
            "a line of the message is no segment",
        ));
    }
    let parsed = hl7_parser::parse_message(text).map_err(|_| {
        Problem::refused(ErrorCode::SegmentSequence, "the message cannot be taken apart")
    })?;
    // The library stops early rather than fail: compare what it parsed with the whole text.
    let segments: Vec<Segment> = parsed.segments().map(segment).collect();
    if segments.len() != count || parsed.raw_value().len() != text.len() {
        return Err(Problem::refused(
            ErrorCode::SegmentSequence,
            "the message cannot be taken apart",
        ));
    }
    let is_long = |it: &str| it.matches(delimiters.repetition).count() >= REPETITIONS_MAX;
    let others = segments.iter().filter(|it| it.name != "MSH");
    if others.flat_map(Segment::all_fields).any(is_long) {
        return Err(Problem::refused(
            ErrorCode::ApplicationInternalError,
            "a field of the message has too many repetitions",
        ));
    }
    Ok(segments)
}

fn segment(parsed: &hl7_parser::message::Segment<'_>) -> Segment {
    let text = parsed.raw_value();
    let place = |field: &str| {
        let start = field.as_ptr().addr().saturating_sub(text.as_ptr().addr());
        start..start + field.len()
    };
    let fields = parsed.fields().map(|it| place(it.raw_value())).collect();
    Segment { name: parsed.name.to_owned(), text: text.to_owned(), fields }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "MSH|^~\\&|RIS|HOSP|ISO|HOSP|20260101||ORM^O01|M1|P|2.5.1";

    fn parse(text: &str) -> Result<Message, Problem> {
        Message::parse(text.as_bytes(), Hl7Charset::Utf8)
    }

    #[test]
    fn hl7_20_any_line_ending_and_blank_lines_are_read_whole() {
        for ending in ["\r", "\n", "\r\n", "\r\r", "\r\n\r\n"] {
            let text = format!("{HEADER}{ending}PID|1||77^^^A&1.2&ISO^MR{ending}OBR|1{ending}");
            let message = parse(&text).unwrap();
            assert_eq!(message.segments().len(), 3);
            let pid = message.segment("PID").unwrap();
            assert_eq!(
                (message.value(pid, 3, 1), message.value(pid, 3, 4)),
                ("77".into(), "A".into())
            );
            assert_eq!((message.msh(9, 2), message.msh(10, 1)), ("O01".into(), "M1".into()));
        }
    }

    #[test]
    fn hl7_20_delimiters_of_the_message_hold() {
        let message = parse("MSH#*~\\&#A#B#C#D#1##ADT*A01#X#P#2.5\rPID#1##7***H~8").unwrap();
        let pid = message.segment("PID").unwrap();
        assert_eq!(message.value(pid, 3, 4), "H");
        assert_eq!(message.repetitions(pid, 3).count(), 2);
        assert_eq!(message.msh(10, 1), "X");
    }

    #[test]
    fn hl7_20_a_fifth_encoding_character_does_not_move_the_fields() {
        for header in ["MSH|^~\\&#|", "MSH|^~\\\\&|"] {
            let text = format!("{header}A|B|C|D|1||ORU^R01|X1|P|2.7\rPID|1||7^^^H");
            let message = parse(&text).unwrap();
            assert_eq!((message.msh(3, 1), message.msh(10, 1)), ("A".into(), "X1".into()));
        }
    }

    #[test]
    fn a_document_broken_into_lines_is_put_together() {
        let text =
            format!("{HEADER}\rOBX|1|ED|x||^a^PDF^Base64^AAAA\rBBBB||||||F\rOBX|2|TX|y||one\rtwo");
        let message = parse(&text).unwrap();
        let [_, pdf, words] = message.segments() else { panic!() };
        assert_eq!(message.value(pdf, 5, 5), "AAAABBBB");
        assert_eq!(message.text(words, 5), "one\ntwo");
    }

    #[test]
    fn hl7_20_a_segment_may_be_its_name_only() {
        let text = format!("{HEADER}\rPID|1||7\rPV1\rOBR|1\rOBX|1|TX|y||one\rZPI\rNTE");
        let message = parse(&text).unwrap();
        let names: Vec<&str> = message.segments().iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["MSH", "PID", "PV1", "OBR", "OBX", "ZPI", "NTE"]);
        assert_eq!(message.segment("PV1").unwrap().field(1), "");
        // A word of a broken text is none.
        let message = parse(&format!("{HEADER}\rOBX|1|TX|y||one\rNEG\rtwo")).unwrap();
        assert_eq!(message.text(message.segment("OBX").unwrap(), 5), "one\nNEG\ntwo");
        assert!(parse(&format!("{HEADER}\rPID|1||7\rNEG")).is_err());
    }

    #[test]
    fn hl7_24_a_message_without_event_has_the_one_of_its_type() {
        let kind = |msh_9: &str| {
            let text = HEADER.replace("ORM^O01", msh_9);
            parse(&text).unwrap().message_type().to_string()
        };
        assert_eq!(kind("ORU"), "ORU^R01");
        assert_eq!(kind("ORM"), "ORM^O01");
        assert_eq!(kind("ADT^^ADT_A05"), "ADT^A05");
        assert_eq!(kind("ORU^^ORU"), "ORU^R01");
        assert_eq!(kind("OUL^R22^OUL_R22"), "OUL^R22");
        assert_eq!(kind("ADT"), "ADT^");
        assert_eq!(kind("ADT^^ORU_R01"), "ADT^");
    }

    /// The second would be an observation of the first.
    #[test]
    fn hl7_10_a_second_header_is_no_broken_line_of_an_observation() {
        for header in ["\u{feff}MSH|^~\\&|A", " MSH|^~\\&|A", "MSH#^~\\&#A"] {
            let text = format!("{HEADER}\rOBX|1|TX|y||one\r{header}");
            assert!(parse(&text).unwrap_err().is_final, "{header}");
        }
        let message = parse(&format!("{HEADER}\rOBX|1|TX|y||one\rMSH is low")).unwrap();
        assert_eq!(message.text(&message.segments()[1], 5), "one\nMSH is low");
    }

    #[test]
    fn hl7_10_what_is_no_message_is_refused() {
        for text in ["", "hello world", "MSH|^~\\&|A", "PID|1", "MSH", "MSH|^~\\&|\rtext"] {
            let problem = parse(text).unwrap_err();
            assert!(problem.is_final, "{text}");
        }
    }

    #[test]
    fn hl7_23_the_character_set_is_read_before_the_message() {
        let mut bytes = format!("{HEADER}||||||GB 18030-2000\rPID|1||7||").into_bytes();
        bytes.extend(b"\x96\x7c\xd5\x5c^\xc8\xfd");
        let message = Message::parse(&bytes, Hl7Charset::Utf8).unwrap();
        let pid = message.segment("PID").unwrap();
        assert_eq!(message.value(pid, 5, 1), "東誠");
        assert_eq!(message.value(pid, 5, 2), "三");
        let unknown = format!("{HEADER}||||||KLINGON");
        assert_eq!(parse(&unknown).unwrap_err().code, ErrorCode::DataTypeError);
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            _ = Message::parse(&bytes, Hl7Charset::Utf8);
            let mut message = HEADER.as_bytes().to_vec();
            message.push(b'\r');
            message.extend(bytes);
            _ = Message::parse(&message, Hl7Charset::Utf8);
        }
    }
}
