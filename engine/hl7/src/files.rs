//! Files in observations (OBX-5): what they are and how they are encoded, by their bytes (HL7-60).
//!
//! Senders spell type, subtype and encoding in many ways, leave them out, send a file in pieces, or
//! as an observation of text. What the bytes say is right, and what is unusual is flagged.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use domain::{Attachment, MessageFlag};
use encoding::file_type::{FileType, HEAD_BYTES};

use crate::message::{Message, Repetition, Segment};

/// Shortest text that may be a file in base64 or hexadecimal digits.
const TEXT_FILE_CHARACTERS_MIN: usize = 64;

/// Characters of the end of a PDF in which its mark has to be, a multiple of four.
const TAIL_CHARACTERS: usize = 1400;

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What an observation is to the files of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It has no file.
    Nothing,
    /// It has a file, or its beginning.
    File,
    /// It has a further piece of the file before it.
    Piece,
}

/// How a file is encoded in OBX-5.5 (table 0299).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Base64,
    Hex,
    /// `A`: as it is.
    Text,
    Unstated,
}

impl Encoding {
    fn parse(name: &str) -> Self {
        match name.trim().to_ascii_lowercase().as_str() {
            "base64" | "base-64" | "b64" => Self::Base64,
            "hex" | "hexadecimal" => Self::Hex,
            "a" => Self::Text,
            _ => Self::Unstated,
        }
    }

    /// The first bytes of a file that is encoded in this way; nothing if it cannot be.
    fn head(self, data: &Data) -> Option<Vec<u8>> {
        let compact = data.compact.as_bytes();
        let start = compact.get(..HEAD_BYTES).unwrap_or(compact);
        match self {
            // Of a piece that was cut anywhere, one character may be left over.
            Self::Base64 if start.len() % 4 == 1 => BASE64.decode(start.split_last()?.1).ok(),
            Self::Base64 => BASE64.decode(start).ok(),
            Self::Hex => hex::decode(start).ok(),
            Self::Text | Self::Unstated => {
                let text = data.text.as_bytes();
                Some(text.get(..HEAD_BYTES).unwrap_or(text).to_vec())
            }
        }
    }

    /// The file in base64; nothing if it is not encoded in this way.
    fn as_base64(self, data: &Data) -> Option<String> {
        match self {
            Self::Base64 => Some(data.compact.clone()),
            Self::Hex => hex::decode(&data.compact).ok().map(|it| BASE64.encode(it)),
            Self::Text | Self::Unstated => Some(BASE64.encode(&data.text)),
        }
    }
}

/// OBX-5.5.
struct Data {
    text: String,
    /// Without white space.
    compact: String,
}

/// A file as far as it has come.
struct File {
    name: String,
    /// OBX-3, not decoded, and OBX-5.2 to OBX-5.4: those of a piece are the same.
    head: [String; 4],
    media_type: String,
    found: Option<FileType>,
    /// Base64, in order.
    pieces: Vec<String>,
}

/// The files of a message.
#[derive(Default)]
pub(crate) struct Files {
    found: Vec<File>,
    /// Whether the last observation had a file, of which a piece may follow.
    is_open: bool,
    flags: BTreeSet<MessageFlag>,
}

impl Files {
    /// Takes the file of an observation, if it has one.
    pub(crate) fn take(&mut self, message: &Message, obx: &Segment) -> Taken {
        let taken = self.take_any(message, obx);
        self.is_open = taken != Taken::Nothing;
        taken
    }

    fn take_any(&mut self, message: &Message, obx: &Segment) -> Taken {
        let value_type = message.value(obx, 2, 1);
        let Some(value) = message.repetitions(obx, 5).next() else { return Taken::Nothing };
        match value_type.as_str() {
            "RP" => {
                self.flags.insert(MessageFlag::DocumentByPointer);
                Taken::Nothing
            }
            "ED" => self.take_data(message, obx, value),
            _ => self.take_text(message, obx, value),
        }
    }

    /// Takes OBX-5 of type ED: source ^ type ^ subtype ^ encoding ^ data.
    fn take_data(&mut self, message: &Message, obx: &Segment, value: Repetition<'_>) -> Taken {
        let data = Data::of(value.whole(5));
        if data.compact.is_empty() {
            return Taken::Nothing;
        }
        let [kind, subtype, stated] = [2, 3, 4].map(|it| value.component(it));
        let stated_type = media_type(&kind, &subtype);
        let head = [obx.field(3).to_owned(), kind, subtype, stated.clone()];
        let stated = Encoding::parse(&stated);
        let Recognised { encoding, found } = Recognised::of(stated, &data);
        if self.is_continued(&head, found) {
            self.flags.insert(MessageFlag::DocumentInPieces);
            self.push_piece(encoding, &data);
            return Taken::Piece;
        }
        if encoding != stated || stated == Encoding::Unstated {
            self.flags.insert(MessageFlag::DocumentEncodingDiffers);
        }
        let typed = Typed::of(stated_type, found);
        if typed.differs {
            self.flags.insert(MessageFlag::DocumentTypeDiffers);
        }
        let name = message.value(obx, 3, 2);
        let pieces = Vec::new();
        self.found.push(File { name, head, media_type: typed.media_type, found, pieces });
        self.push_piece(encoding, &data);
        Taken::File
    }

    /// Takes an observation of text whose text is a file: what a person would read is base64.
    fn take_text(&mut self, message: &Message, obx: &Segment, value: Repetition<'_>) -> Taken {
        let is_typed = Encoding::parse(&value.component(4)) != Encoding::Unstated;
        let field = if is_typed { value.whole(5) } else { message.text(obx, 5) };
        if field.len() < TEXT_FILE_CHARACTERS_MIN {
            return Taken::Nothing;
        }
        let data = Data::of(field);
        let encodings = [Encoding::Base64, Encoding::Hex];
        let recognised = encodings.into_iter().find_map(|it| Recognised::certain(it, &data));
        let Some(Recognised { encoding, found: Some(found) }) = recognised else {
            return Taken::Nothing;
        };
        self.flags.insert(MessageFlag::DocumentAsText);
        self.found.push(File {
            name: message.value(obx, 3, 2),
            head: [obx.field(3).to_owned(), String::new(), String::new(), String::new()],
            media_type: found.name().to_owned(),
            found: Some(found),
            pieces: Vec::new(),
        });
        self.push_piece(encoding, &data);
        Taken::File
    }

    /// Whether an observation with this head and type is a piece of the file before it: that one
    /// has begun and not ended, and this one begins none.
    fn is_continued(&self, head: &[String; 4], found: Option<FileType>) -> bool {
        let Some(file) = self.found.last().filter(|_| self.is_open) else { return false };
        let begins = found.is_some_and(FileType::is_certain);
        file.head == *head
            && file.found.is_some_and(FileType::is_certain)
            && !begins
            && !file.has_ended()
    }

    fn push_piece(&mut self, encoding: Encoding, data: &Data) {
        let Some(file) = self.found.last_mut() else { return };
        let is_readable = encoding.head(data).is_some();
        if let Some(piece) = encoding.as_base64(data).filter(|_| is_readable) {
            file.pieces.push(piece);
            return;
        }
        self.flags.insert(MessageFlag::DocumentUnreadable);
        if encoding == Encoding::Hex {
            // Kept as it came: its digits would be read as base64.
            "application/octet-stream".clone_into(&mut file.media_type);
            file.pieces.push(BASE64.encode(&data.text));
        } else {
            file.pieces.push(data.compact.clone());
        }
    }

    /// What is unusual about the files.
    pub(crate) fn flags(&self) -> Vec<MessageFlag> {
        self.flags.iter().copied().collect()
    }

    /// The files, whole.
    pub(crate) fn into_attachments(self) -> Vec<Attachment> {
        let attachment = |File { name, media_type, pieces, .. }: File| Attachment {
            name,
            media_type,
            base64: joined(pieces),
        };
        self.found.into_iter().map(attachment).collect()
    }
}

impl Data {
    fn of(text: String) -> Self {
        let compact = text.split_whitespace().collect();
        Self { text, compact }
    }
}

impl File {
    /// Whether the file is whole. Only the end of a PDF can be told.
    fn has_ended(&self) -> bool {
        let Some(last) = self.pieces.last().filter(|_| self.found == Some(FileType::Pdf)) else {
            return false;
        };
        let start = last.len().saturating_sub(TAIL_CHARACTERS).next_multiple_of(4);
        let tail = last.get(start..).and_then(|it| BASE64.decode(it).ok()).unwrap_or_default();
        tail.windows(5).any(|it| it == b"%%EOF")
    }
}

/// The pieces of a file as one: each encoded by itself, or one text that was cut.
fn joined(mut pieces: Vec<String>) -> String {
    let others = pieces.split_last().map(|(_, others)| others).unwrap_or_default();
    if others.iter().any(|it| it.ends_with('=')) {
        let bytes: Option<Vec<Vec<u8>>> = pieces.iter().map(|it| BASE64.decode(it).ok()).collect();
        if let Some(bytes) = bytes {
            return BASE64.encode(bytes.concat());
        }
    }
    match pieces.pop() {
        Some(only) if pieces.is_empty() => only,
        Some(last) => pieces.concat() + &last,
        None => String::new(),
    }
}

/// How data is encoded, and of which type it is.
struct Recognised {
    encoding: Encoding,
    found: Option<FileType>,
}

impl Recognised {
    /// As stated, unless another encoding makes a file of it.
    fn of(stated: Encoding, data: &Data) -> Self {
        let encodings = [stated, Encoding::Base64, Encoding::Hex];
        let certain = encodings.into_iter().find_map(|it| Self::certain(it, data));
        certain.unwrap_or_else(|| {
            let found = stated.head(data).and_then(|it| FileType::of(&it));
            Self { encoding: stated, found }
        })
    }

    /// With this encoding, if that makes a file of it whose bytes can be of no other type.
    fn certain(encoding: Encoding, data: &Data) -> Option<Self> {
        let found = FileType::of(&encoding.head(data)?).filter(|it| it.is_certain())?;
        Some(Self { encoding, found: Some(found) })
    }
}

/// The media type of a file, and whether it is another than its sender states.
struct Typed {
    media_type: String,
    differs: bool,
}

impl Typed {
    fn of(stated: Option<String>, found: Option<FileType>) -> Self {
        let stated_type = stated.as_deref().and_then(FileType::of_media_type);
        let differs = match (&stated, found) {
            (None, _) | (_, None) => false,
            (Some(_), Some(found)) if found.is_certain() => stated_type != Some(found),
            // A text or an archive may be of many types, but not of one that bytes would show.
            (Some(_), Some(_)) => stated_type.is_some_and(FileType::is_certain),
        };
        let media_type = match (stated, found) {
            (Some(stated), Some(found)) if !differs && !found.is_certain() => stated,
            (_, Some(found)) => found.name().to_owned(),
            (stated, None) => stated.unwrap_or_else(|| "application/octet-stream".to_owned()),
        };
        Self { media_type, differs }
    }
}

/// The media type that OBX-5.2 and OBX-5.3 state, if they state one.
fn media_type(kind: &str, subtype: &str) -> Option<String> {
    let [kind, subtype] = [kind, subtype].map(|it| it.trim().to_ascii_lowercase());
    let stated = match (kind.as_str(), subtype.as_str()) {
        (_, it) if it == "pdf" || it.ends_with("/pdf") => "application/pdf".to_owned(),
        ("pdf", _) => "application/pdf".to_owned(),
        (it, _) | (_, it) if it.contains('/') => it.to_owned(),
        ("application" | "ap", it) if !matches!(it, "" | "octet-stream") => {
            format!("application/{it}")
        }
        ("image" | "im", it) if !it.is_empty() => format!("image/{it}"),
        ("text" | "ft" | "tx", "" | "plain") => "text/plain".to_owned(),
        ("text" | "ft" | "tx", it) => format!("text/{it}"),
        (_, "" | "octet-stream") => return None,
        (it, subtype) => format!("{it}/{subtype}"),
    };
    Some(stated)
}

#[cfg(test)]
mod tests {
    use encoding::hl7::charset::Hl7Charset;

    use super::*;

    /// A report on paper, with bytes that are no text.
    const PDF: &[u8] = b"%PDF-1.3\n%\x93\x8c\x8b\x9e\n1 0 obj << /Type /Catalog >> endobj (Kalium 4.1) Tj\n%%EOF\n";

    /// The files of a message with these observations: media type and content, and the flags.
    fn files_of(observations: &[String]) -> (Vec<(String, Vec<u8>)>, Vec<MessageFlag>) {
        let header = "MSH|^~\\&|LAB|H|ISO|H|20260101||ORU^R01|M1|P|2.5.1\rPID|1||7\rOBR|1\r";
        let text = format!("{header}{}", observations.join("\r"));
        let message = Message::parse(text.as_bytes(), Hl7Charset::Utf8).unwrap();
        let mut files = Files::default();
        for obx in message.segments().iter().filter(|it| it.name == "OBX") {
            files.take(&message, obx);
        }
        let flags = files.flags();
        let content =
            |it: Attachment| (it.media_type, BASE64.decode(it.base64).unwrap_or_default());
        (files.into_attachments().into_iter().map(content).collect(), flags)
    }

    fn obx(value_type: &str, value: &str) -> String {
        format!("OBX|1|{value_type}|PDF^Report^L||{value}||||||F")
    }

    #[track_caller]
    fn check(observations: &[String], content: &[u8], media_type: &str, flags: &[MessageFlag]) {
        let (files, found_flags) = files_of(observations);
        assert_eq!(files, [(media_type.to_owned(), content.to_vec())], "{observations:?}");
        assert_eq!(found_flags, flags, "{observations:?}");
    }

    #[test]
    fn hl7_60_a_pdf_is_a_pdf_however_it_is_described() {
        let base64 = BASE64.encode(PDF);
        let digits = hex::encode_upper(PDF);
        let check_pdf = |value: String, flags: &[MessageFlag]| {
            check(&[obx("ED", &value)], PDF, "application/pdf", flags);
        };
        for good in ["^application^pdf^Base64^", "^AP^PDF^BASE64^", "^^application/pdf^Base64^"] {
            check_pdf(format!("{good}{base64}"), &[]);
        }
        check_pdf(format!("^^^Base64^{base64}"), &[]);
        check_pdf(format!("^PDF^^Base64^{base64}"), &[]);
        check_pdf(format!("^application^octet-stream^Base64^{base64}"), &[]);
        check_pdf(format!("^application^pdf^Hex^{digits}"), &[]);
        let encoding = [MessageFlag::DocumentEncodingDiffers];
        check_pdf(format!("^^^^{base64}"), &encoding);
        check_pdf(format!("^application^pdf^A^{base64}"), &encoding);
        check_pdf(format!("^application^pdf^Base64^{digits}"), &encoding);
        check_pdf(format!("^application^pdf^Hex^{base64}"), &encoding);
        let differs = [MessageFlag::DocumentTypeDiffers];
        check_pdf(format!("^text^plain^Base64^{base64}"), &differs);
        check_pdf(format!("^image^tiff^Base64^{base64}"), &differs);
        let (start, end) = base64.split_at(40);
        check_pdf(format!("^application^pdf^Base64^{start}\\.br\\{end}"), &[]);
    }

    #[test]
    fn hl7_60_other_files_are_what_their_bytes_say_too() {
        let differs = [MessageFlag::DocumentTypeDiffers];
        for (content, media_type) in [
            (&b"II*\0\x08\0\0\0"[..], "image/tiff"),
            (b"{\\rtf1\\ansi Befund}", "text/rtf"),
            (b"\x89PNG\r\n\x1a\n\0", "image/png"),
            (b"Kalium 4.1 mmol/l", "text/plain"),
        ] {
            let value = format!("^application^pdf^Base64^{}", BASE64.encode(content));
            check(&[obx("ED", &value)], content, media_type, &differs);
        }
        let xml = b"<?xml version='1.0'?><ClinicalDocument/>";
        let value = format!("^multipart^x-hl7-cda-level-one^Base64^{}", BASE64.encode(xml));
        check(&[obx("ED", &value)], xml, "multipart/x-hl7-cda-level-one", &[]);
        let text = "^TEXT^^A^Kalium \\T\\ Natrium&Chlorid";
        check(&[obx("ED", text)], b"Kalium & Natrium&Chlorid", "text/plain", &[]);
    }

    #[test]
    fn hl7_60_a_file_in_an_observation_of_text_is_no_result() {
        let base64 = BASE64.encode(PDF);
        let as_text = [MessageFlag::DocumentAsText];
        check(&[obx("TX", &base64)], PDF, "application/pdf", &as_text);
        check(&[obx("FT", &base64)], PDF, "application/pdf", &as_text);
        check(&[obx("ST", &hex::encode(PDF))], PDF, "application/pdf", &as_text);
        let typed = format!("^application^pdf^Base64^{base64}");
        check(&[obx("TX", &typed)], PDF, "application/pdf", &as_text);
        for text in ["4.1", "Befund ".repeat(20).as_str(), "A".repeat(200).as_str()] {
            assert_eq!(files_of(&[obx("TX", text)]), (Vec::new(), Vec::new()), "{text}");
        }
    }

    #[test]
    fn hl7_60_a_file_in_pieces_is_one() {
        let pieces = |all: &[String]| {
            let obx = |it: &String| obx("ED", &format!("^application^pdf^Base64^{it}"));
            all.iter().map(obx).collect::<Vec<_>>()
        };
        let base64 = BASE64.encode(PDF);
        let flags = [MessageFlag::DocumentInPieces];
        let (first, rest) = base64.split_at(41);
        let (second, third) = rest.split_at(39);
        let cut = [first, second, third].map(ToOwned::to_owned);
        check(&pieces(&cut), PDF, "application/pdf", &flags);
        let own = [&PDF[..31], &PDF[31..60], &PDF[60..]].map(|it| BASE64.encode(it));
        check(&pieces(&own), PDF, "application/pdf", &flags);
        // Two files are two, also where the second is none that is known.
        let two = [base64.clone(), base64.clone(), BASE64.encode(b"Kalium 4.1")];
        assert_eq!(files_of(&pieces(&two)).0.len(), 3);
        let between = [pieces(&cut[..1]), vec![obx("NM", "4.1")], pieces(&cut[1..2])].concat();
        assert_eq!(files_of(&between).0.len(), 2);
    }

    #[test]
    fn hl7_60_what_cannot_be_read_or_is_elsewhere_is_told() {
        let pointer = obx("RP", "\\E\\\\E\\server\\E\\report.pdf^LAB^application^pdf");
        assert_eq!(files_of(&[pointer]), (Vec::new(), vec![MessageFlag::DocumentByPointer]));
        let unreadable = [MessageFlag::DocumentUnreadable];
        let digits = "2550444g";
        let value = format!("^application^pdf^Hex^{digits}");
        check(&[obx("ED", &value)], digits.as_bytes(), "application/octet-stream", &unreadable);
        assert_eq!(files_of(&[obx("ED", "^application^pdf^Base64^")]), (Vec::new(), Vec::new()));
    }
}
