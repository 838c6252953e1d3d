//! The minimal lower layer protocol (MLLP): messages between 0x0B and 0x1C 0x0D (HL7-01, HL7-02).

use std::time::Duration;

/// Start block character: comes before a message.
pub const START: u8 = 0x0B;
/// End block character: comes after a message, before a carriage return.
pub const END: u8 = 0x1C;
const RETURN: u8 = 0x0D;

/// Longest message that is accepted. Reports with images need it.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// How much of a longer message is read, to acknowledge it, before the connection is closed.
const DRAINED_BYTES_MAX: usize = 64 << 20;

/// Upper bound of the bytes between messages that are skipped.
const GARBAGE_BYTES_MAX: usize = 4096;

/// How much of the bytes outside of any message is retained, to show it to people.
const SKIPPED_BYTES_MAX: usize = 200;

/// How long the carriage return after the end of a frame may take before it counts as missing
/// (HL7-01).
pub(crate) const RETURN_WAIT: Duration = Duration::from_millis(500);

/// How much of an over-long message is retained to acknowledge it.
const HEAD_BYTES: usize = 4096;

/// One frame of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The bytes of a message.
    Message(Vec<u8>),
    /// The first bytes of a message that is too long. The stream is of no further use.
    TooLong(Vec<u8>),
}

/// A stream that is not MLLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {GARBAGE_BYTES_MAX} bytes outside of any message")]
pub struct Garbage;

/// Finds frames in a stream, however it is split into pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    is_inside: bool,
    /// How far the buffer has been searched for the end.
    searched: usize,
    garbage: usize,
    /// The first bytes that came outside of any message.
    skipped: Vec<u8>,
    drained: usize,
}

impl Decoder {
    /// Appends bytes that were received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a message has begun and not ended.
    pub const fn is_inside(&self) -> bool {
        self.is_inside
    }

    /// The first bytes since the last frame that came outside of any.
    pub fn skipped(&self) -> &[u8] {
        &self.skipped
    }

    /// The next frame, once it is complete.
    ///
    /// # Errors
    ///
    /// Fails if the peer does not speak MLLP.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Garbage> {
        if !self.is_inside {
            let start = self.buffer.iter().position(|byte| *byte == START);
            let skipped = self.buffer.drain(..start.unwrap_or(self.buffer.len()));
            self.garbage += skipped.len();
            let room = SKIPPED_BYTES_MAX.saturating_sub(self.skipped.len());
            self.skipped.extend(skipped.take(room));
            self.buffer.drain(..usize::from(start.is_some()));
            if self.garbage > GARBAGE_BYTES_MAX {
                return Err(Garbage);
            }
            self.is_inside = start.is_some();
            if start.is_none() {
                return Ok(None);
            }
            self.searched = 0;
            self.drained = 0;
        }
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        let found = rest.windows(2).position(|it| it == [END, RETURN]);
        let Some(end) = found.map(|it| it + self.searched) else {
            return Ok(self.unfinished());
        };
        let is_long = self.drained > 0 || end > MESSAGE_BYTES_MAX;
        let mut message: Vec<u8> = self.buffer.drain(..end + 2).collect();
        message.truncate(if is_long { HEAD_BYTES.min(end) } else { end });
        self.is_inside = false;
        self.garbage = 0;
        self.skipped.clear();
        Ok(Some(if is_long { Frame::TooLong(message) } else { Frame::Message(message) }))
    }

    fn unfinished(&mut self) -> Option<Frame> {
        self.searched = self.buffer.len().saturating_sub(1);
        if self.buffer.len() <= MESSAGE_BYTES_MAX + 1 && self.drained == 0 {
            return None;
        }
        // Retain the head, to acknowledge it, and the last byte, which may begin the end block.
        let last = self.buffer.last().copied();
        self.drained += self.buffer.len().saturating_sub(HEAD_BYTES + 1);
        self.buffer.truncate(HEAD_BYTES);
        self.searched = self.buffer.len();
        self.buffer.extend(last);
        if self.drained <= DRAINED_BYTES_MAX {
            return None;
        }
        self.is_inside = false;
        self.buffer.truncate(HEAD_BYTES);
        Some(Frame::TooLong(std::mem::take(&mut self.buffer)))
    }

    /// Whether the buffer is a message that lacks only its final carriage return: some senders
    /// never send it (HL7-01).
    pub fn ends_without_return(&self) -> bool {
        self.is_inside && self.buffer.last() == Some(&END)
    }
}

/// The frame of a message.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 3);
    bytes.push(START);
    bytes.extend_from_slice(message);
    bytes.extend([END, RETURN]);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<Frame> {
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                found.push(frame);
            }
        }
        found
    }

    #[test]
    fn hl7_01_an_end_without_a_return_is_text() {
        let found = all(&[b"\r\n\x0bMSH|a\x1cb\x1c\r\x0bMSH|c\x1c\r"]);
        let expected = [b"MSH|a\x1cb".to_vec(), b"MSH|c".to_vec()].map(Frame::Message);
        assert_eq!(found, expected);
    }

    #[test]
    fn hl7_01_too_much_garbage_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&[b'x'; 5000]);
        assert_eq!(decoder.next_frame(), Err(Garbage));
    }

    #[test]
    fn hl7_14_what_came_outside_of_a_frame_is_remembered_until_the_next() {
        let mut decoder = Decoder::default();
        decoder.push(b"HTTP/1.1 400");
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.push(&[b'x'; 300]);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.skipped().starts_with(b"HTTP/1.1 400xx"));
        assert_eq!(decoder.skipped().len(), SKIPPED_BYTES_MAX);
        decoder.push(b"\x0bMSH|a\x1c\r");
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Message(b"MSH|a".to_vec()))));
        assert_eq!(decoder.skipped(), b"");
    }

    #[test]
    fn hl7_02_a_message_that_is_too_long_is_read_to_its_end_and_its_head_is_kept() {
        let piece = vec![b'A'; 1 << 20];
        let mut pieces: Vec<&[u8]> = vec![b"\x0bMSH|^~\\&|"];
        pieces.extend(std::iter::repeat_n(piece.as_slice(), 20));
        pieces.extend([b"\x1c".as_slice(), b"\r\x0bMSH|next\x1c\r"]);
        let found = all(&pieces);
        assert!(matches!(&found[0], Frame::TooLong(head) if head.starts_with(b"MSH|^~\\&|")));
        assert_eq!(found[1], Frame::Message(b"MSH|next".to_vec()));
    }

    #[test]
    fn hl7_02_an_endless_message_does_not_fill_the_memory() {
        let mut decoder = Decoder::default();
        decoder.push(b"\x0bMSH|");
        let piece = vec![b'A'; 1 << 20];
        for _ in 0..200 {
            decoder.push(&piece);
            if decoder.next_frame().unwrap().is_some() {
                return;
            }
            assert!(decoder.buffer.len() <= MESSAGE_BYTES_MAX + (1 << 20));
        }
        panic!("200 MiB were taken");
    }

    proptest! {
        #[test]
        fn hl7_01_pieces_do_not_matter(
            messages in prop::collection::vec("MSH[a-z\r\x1c]{0,40}x", 1..5),
            cuts in prop::collection::vec(1_usize..7, 1..80),
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|it| framed(it.as_bytes())).collect();
            let mut pieces = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            let expected: Vec<_> = all(&[&stream]);
            prop_assert_eq!(all(&pieces), expected);
        }
    }
}
