//! Batches: several messages in one frame, answered as a batch (HL7 v2, 2.10.3; HL7-27).

use encoding::hl7::escape::Delimiters;

/// A batch of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    header: String,
    /// The messages, each as it would have arrived in a frame of its own.
    pub messages: Vec<Vec<u8>>,
    /// Number of messages that the sender declares (BTS-1), if it declares one.
    pub declared: Option<usize>,
}

/// The messages of a frame that begins with a file or batch header; nothing if it does not.
pub fn split(frame: &[u8]) -> Option<Batch> {
    let frame = frame.strip_prefix(b"\xef\xbb\xbf").unwrap_or(frame);
    if !frame.starts_with(b"FHS") && !frame.starts_with(b"BHS") {
        return None;
    }
    let mut batch = Batch { header: String::new(), messages: Vec::new(), declared: None };
    // A carriage return is never the second byte of a character.
    for line in frame.split(|it| *it == b'\r' || *it == b'\n').filter(|it| !it.is_empty()) {
        match line.get(..3) {
            Some(b"FHS" | b"FTS") => {}
            Some(b"BHS") => batch.header = String::from_utf8_lossy(line).into_owned(),
            Some(b"BTS") => {
                let text = String::from_utf8_lossy(line);
                let separator = text.chars().nth(3).unwrap_or('|');
                batch.declared = text.split(separator).nth(1).and_then(|it| it.parse().ok());
            }
            Some(b"MSH") => batch.messages.push([line, b"\r"].concat()),
            _ => {
                if let Some(message) = batch.messages.last_mut() {
                    message.extend(line);
                    message.push(b'\r');
                }
            }
        }
    }
    Some(batch)
}

impl Batch {
    /// Whether messages are missing: then the answer states so, and those that arrived are stored.
    pub fn is_incomplete(&self) -> bool {
        self.declared.is_some_and(|it| it != self.messages.len())
    }

    /// The batch of the acknowledgements of its messages.
    pub fn answered(&self, answers: &[Vec<u8>], own_id: &str, now: &str) -> Vec<u8> {
        let as_message = self.header.replacen("BHS", "MSH", 1);
        let d = Delimiters::of_message(&as_message).unwrap_or_default();
        let fields: Vec<&str> = self.header.split(d.field).collect();
        let raw = |number: usize| fields.get(number - 1).copied().unwrap_or_default();
        let (f, c, r, e, s) = (d.field, d.component, d.repetition, d.escape, d.subcomponent);
        // Names, ids and the reference to their batch (BHS-3..6, 7, 11, 12).
        let header =
            [raw(5), raw(6), raw(3), raw(4), now, "", "", "", own_id, raw(11)].join(&f.to_string());
        let mut bytes = format!("BHS{f}{c}{r}{e}{s}{f}{header}\r").into_bytes();
        for answer in answers {
            bytes.extend(answer);
        }
        let comment = match self.declared {
            Some(declared) if self.is_incomplete() => {
                format!("{f}{declared} messages were announced, {} came", self.messages.len())
            }
            _ => String::new(),
        };
        bytes.extend(format!("BTS{f}{}{comment}\r", answers.len()).bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"FHS|^~\\&|RIS\rBHS|^~\\&|RIS|H|ISO|AI|20260101||||B7\r\
        MSH|^~\\&|RIS|H|ISO|AI|20260101||ADT^A01|M1|P|2.5\rPID|1||7\r\
        MSH|^~\\&|RIS|H|ISO|AI|20260101||ADT^A01|M2|P|2.5\rPID|1||8\rBTS|2\rFTS|1\r";

    #[test]
    fn hl7_27_a_batch_is_its_messages() {
        let batch = split(TWO).unwrap();
        assert_eq!(batch.messages.len(), 2);
        assert!(batch.messages[1].ends_with(b"|M2|P|2.5\rPID|1||8\r"));
        assert!(!batch.is_incomplete());
        assert_eq!(split(b"MSH|^~\\&|A\r"), None);
    }

    #[test]
    fn hl7_27_its_answers_are_a_batch_that_refers_to_it() {
        let batch = Batch { declared: Some(3), ..split(TWO).unwrap() };
        let answered = batch.answered(&[b"MSH|1\r".to_vec(), b"MSH|2\r".to_vec()], "A9", "2026");
        let text = String::from_utf8(answered).unwrap();
        assert!(text.starts_with("BHS|^~\\&|ISO|AI|RIS|H|2026||||A9|B7\rMSH|1\rMSH|2\r"), "{text}");
        assert!(text.ends_with("BTS|2|3 messages were announced, 2 came\r"), "{text}");
    }
}
