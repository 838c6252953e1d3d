//! What kind of file bytes are, by how they begin: senders say so in many ways, and not always
//! truly.

use domain::named_enum;

/// How many bytes of a file are needed to know its type.
pub const HEAD_BYTES: usize = 2048;

/// How far into a file the mark of a PDF may be.
const PDF_MARK_WITHIN: usize = 1024;

named_enum! {
    /// The type of a file, by its media type.
    pub enum FileType {
        /// PDF.
        Pdf = "application/pdf",
        /// PNG.
        Png = "image/png",
        /// JPEG.
        Jpeg = "image/jpeg",
        /// GIF.
        Gif = "image/gif",
        /// TIFF.
        Tiff = "image/tiff",
        /// A DICOM file.
        Dicom = "application/dicom",
        /// Rich Text Format.
        Rtf = "text/rtf",
        /// A ZIP archive, or what is one inside: documents of office programs.
        Zip = "application/zip",
        /// A compound file: documents of older office programs.
        Compound = "application/x-ole-storage",
        /// HTML.
        Html = "text/html",
        /// XML: a clinical document, for instance.
        Xml = "text/xml",
        /// Text without a mark.
        Text = "text/plain",
    }
}

/// Bytes at a place of a file that are there in files of one type only.
struct Mark {
    at: usize,
    bytes: &'static [u8],
    of: FileType,
}

const fn mark(at: usize, bytes: &'static [u8], of: FileType) -> Mark {
    Mark { at, bytes, of }
}

const MARKS: &[Mark] = &[
    mark(0, b"\x89PNG\r\n\x1a\n", FileType::Png),
    mark(0, b"\xff\xd8\xff", FileType::Jpeg),
    mark(0, b"GIF87a", FileType::Gif),
    mark(0, b"GIF89a", FileType::Gif),
    mark(0, b"II*\0", FileType::Tiff),
    mark(0, b"MM\0*", FileType::Tiff),
    mark(128, b"DICM", FileType::Dicom),
    mark(0, b"{\\rtf", FileType::Rtf),
    mark(0, b"PK\x03\x04", FileType::Zip),
    mark(0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileType::Compound),
];

impl FileType {
    /// The type of a file that begins with these bytes; nothing if they are of no known type.
    pub fn of(head: &[u8]) -> Option<Self> {
        let is_there = |it: &&Mark| head.get(it.at..).is_some_and(|at| at.starts_with(it.bytes));
        if let Some(mark) = MARKS.iter().find(is_there) {
            return Some(mark.of);
        }
        let beginning = head.get(..PDF_MARK_WITHIN).unwrap_or(head);
        if beginning.windows(5).any(|it| it == b"%PDF-") {
            return Some(Self::Pdf);
        }
        let text = text_of(head)?;
        let start = text.trim_start_matches(|it: char| it == '\u{feff}' || it.is_whitespace());
        let start: String = start.chars().take(20).collect::<String>().to_ascii_lowercase();
        let begins = |with: &[&str]| with.iter().any(|it| start.starts_with(it));
        if begins(&["<!doctype html", "<html"]) {
            Some(Self::Html)
        } else if begins(&["<?xml", "<clinicaldocument"]) {
            Some(Self::Xml)
        } else {
            (!start.is_empty()).then_some(Self::Text)
        }
    }

    /// The type that a media type names, by one of its usual names.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            "image/jpg" | "image/pjpeg" => Some(Self::Jpeg),
            "image/tif" => Some(Self::Tiff),
            "application/x-pdf" => Some(Self::Pdf),
            "application/rtf" | "text/richtext" => Some(Self::Rtf),
            "application/xml" => Some(Self::Xml),
            _ => Self::parse(media_type),
        }
    }

    /// Whether its bytes cannot be of another type: others may be texts and archives of any kind.
    pub const fn is_certain(self) -> bool {
        match self {
            Self::Pdf
            | Self::Png
            | Self::Jpeg
            | Self::Gif
            | Self::Tiff
            | Self::Dicom
            | Self::Rtf => true,
            Self::Zip | Self::Compound | Self::Html | Self::Xml | Self::Text => false,
        }
    }
}

/// The beginning of a text in UTF-8, which may end inside a character; nothing for other bytes.
fn text_of(head: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(head.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let is_control = |it: char| it.is_control() && !matches!(it, '\t' | '\r' | '\n' | '\x0c');
    (!text.contains(is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Option<FileType>) {
        assert_eq!(FileType::of(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn hl7_60_a_file_is_what_its_first_bytes_say() {
        check(b"%PDF-1.7\n%\xe2", Some(FileType::Pdf));
        check(b"\r\n%PDF-1.3", Some(FileType::Pdf));
        check(b"\x89PNG\r\n\x1a\n\0\0", Some(FileType::Png));
        check(b"\xff\xd8\xff\xe0", Some(FileType::Jpeg));
        check(b"II*\0\x08\0", Some(FileType::Tiff));
        check(b"MM\0*\0\0", Some(FileType::Tiff));
        check(b"{\\rtf1\\ansi", Some(FileType::Rtf));
        check(b"PK\x03\x04", Some(FileType::Zip));
        check(b"<?xml version='1.0'?><ClinicalDocument/>", Some(FileType::Xml));
        check(b" <HTML><body>", Some(FileType::Html));
        check("Befund: unauffällig\r\n".as_bytes(), Some(FileType::Text));
        check(&[&[0; 128][..], b"DICM"].concat(), Some(FileType::Dicom));
        check(b"\x01\x02\x03", None);
        check(b"M\xdcLLER", None);
        check(b"", None);
        // Cut inside a character.
        check(&"ä".as_bytes()[..1], None);
        check(&"aä".as_bytes()[..2], Some(FileType::Text));
    }

    #[test]
    fn a_media_type_has_several_names() {
        assert_eq!(FileType::of_media_type("image/jpg"), Some(FileType::Jpeg));
        assert_eq!(FileType::of_media_type("application/pdf"), Some(FileType::Pdf));
        assert_eq!(FileType::of_media_type("application/octet-stream"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            FileType::of(&bytes);
        }
    }
}
