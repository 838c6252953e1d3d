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

/// What a message or a batch begins with.
const HEADERS: [&[u8]; 3] = [b"MSH", b"BHS", b"FHS"];

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How many of the last bytes may be the beginning of an end block, or of a message that begins
/// inside another: a start block, a byte order mark and a header, less one.
const PENDING_BYTES: usize = 6;

/// One frame of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The bytes of a message.
    Message(Vec<u8>),
    /// The first bytes of a message that is too long. The stream is of no further use.
    TooLong(Vec<u8>),
    /// A message that never ended: its sender began again. The next frame is the new message.
    BrokenOff {
        /// How many bytes of it came.
        bytes: usize,
    },
}

/// A stream that is not MLLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {GARBAGE_BYTES_MAX} bytes outside of any message")]
pub struct Garbage;

/// What a frame ends with.
enum Boundary {
    /// The end block.
    End,
    /// The start block of another message.
    Start,
}

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
    outside: usize,
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

    /// How many bytes came outside of any message so far, without line ends and blanks: many
    /// senders write some between messages.
    pub const fn bytes_outside(&self) -> usize {
        self.outside
    }

    /// The next frame, once it is complete.
    ///
    /// # Errors
    ///
    /// Fails if the peer does not speak MLLP.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Garbage> {
        loop {
            if !self.is_inside && !self.find_start()? {
                return Ok(None);
            }
            match self.find_boundary() {
                Some((end, Boundary::End)) => return Ok(Some(self.ended(end))),
                Some((start, Boundary::Start)) => {
                    if let Some(frame) = self.restarted(start) {
                        return Ok(Some(frame));
                    }
                }
                None => return Ok(self.unfinished()),
            }
        }
    }

    /// Skips what is outside of any message. Whether a message begins after it.
    fn find_start(&mut self) -> Result<bool, Garbage> {
        let start = self.buffer.iter().position(|byte| *byte == START);
        let skipped = start.unwrap_or(self.buffer.len());
        self.garbage += skipped;
        let outside = self.buffer.iter().take(skipped).filter(|it| !it.is_ascii_whitespace());
        self.outside += outside.count();
        let room = SKIPPED_BYTES_MAX.saturating_sub(self.skipped.len());
        self.skipped.extend(self.buffer.iter().take(skipped.min(room)));
        self.buffer.drain(..start.map_or(skipped, |it| it + 1));
        if self.garbage > GARBAGE_BYTES_MAX {
            return Err(Garbage);
        }
        self.is_inside = start.is_some();
        self.searched = 0;
        self.drained = 0;
        Ok(self.is_inside)
    }

    /// The first end or beginning of a message in what was not searched yet, and its place.
    fn find_boundary(&self) -> Option<(usize, Boundary)> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        unsearched.iter().enumerate().find_map(|(place, byte)| {
            let rest = unsearched.get(place + 1..).unwrap_or_default();
            let boundary = match *byte {
                END if rest.first() == Some(&RETURN) => Boundary::End,
                START if is_header(rest) => Boundary::Start,
                _ => return None,
            };
            Some((self.searched + place, boundary))
        })
    }

    fn ended(&mut self, end: usize) -> Frame {
        let is_long = self.drained > 0 || end > MESSAGE_BYTES_MAX;
        let mut message: Vec<u8> = self.buffer.drain(..end + 2).collect();
        message.truncate(if is_long { HEAD_BYTES.min(end) } else { end });
        self.is_inside = false;
        self.garbage = 0;
        self.skipped.clear();
        if is_long { Frame::TooLong(message) } else { Frame::Message(message) }
    }

    /// Continues with the message that begins at `start`. Returns what came before it: a message
    /// that lacks the carriage return after its end block is whole. Nothing, if nothing came.
    fn restarted(&mut self, start: usize) -> Option<Frame> {
        let mut before: Vec<u8> = self.buffer.drain(..=start).collect();
        let bytes = self.drained + start;
        let is_long = self.drained > 0 || start > MESSAGE_BYTES_MAX;
        self.searched = 0;
        self.drained = 0;
        while before.last().is_some_and(|it| it.is_ascii_whitespace() || *it == START) {
            before.pop();
        }
        if before.pop_if(|it| *it == END).is_some() && !is_long {
            return Some(Frame::Message(before));
        }
        (!before.is_empty()).then_some(Frame::BrokenOff { bytes })
    }

    fn unfinished(&mut self) -> Option<Frame> {
        self.searched = self.buffer.len().saturating_sub(PENDING_BYTES);
        if self.buffer.len() <= MESSAGE_BYTES_MAX + 1 && self.drained == 0 {
            return None;
        }
        // Retain the head, to acknowledge it, and the last bytes, which may begin a boundary.
        let pending = self.buffer.split_off(self.searched);
        self.drained += self.buffer.len().saturating_sub(HEAD_BYTES);
        self.buffer.truncate(HEAD_BYTES);
        self.searched = self.buffer.len();
        self.buffer.extend(pending);
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

/// Whether a message or a batch begins here. A start block before anything else is text: a vertical
/// tab, as word processors write.
fn is_header(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    HEADERS.iter().any(|it| bytes.starts_with(it))
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
    fn hl7_01_a_message_that_begins_inside_another_breaks_it_off() {
        let second = Frame::Message(b"MSH|b".to_vec());
        let again = [Frame::BrokenOff { bytes: 9 }, second.clone()];
        assert_eq!(all(&[b"\x0bMSH|a\rPID\x0bMSH|b\x1c\r"]), again);
        assert_eq!(all(&[b"\x0bMSH|a\rPI", b"D", b"\x0b", b"MS", b"H|b\x1c", b"\r"]), again);
        assert_eq!(all(&[b"\x0b\x0b\r\x0bMSH|b\x1c\r"]), [second]);
        let marked = all(&[b"\x0bMSH|a\x0b\xef\xbb", b"\xbfMSH|b\x1c\r"]);
        let expected =
            [Frame::BrokenOff { bytes: 5 }, Frame::Message(b"\xef\xbb\xbfMSH|b".to_vec())];
        assert_eq!(marked, expected);
    }

    #[test]
    fn hl7_01_an_end_without_a_return_before_the_next_message_is_an_end() {
        let found = all(&[b"\x0bMSH|a\x1c\x0bMSH|b\x1c\n\x0bMSH|c\x1c\r"]);
        assert_eq!(found, ["MSH|a", "MSH|b", "MSH|c"].map(|it| Frame::Message(it.into())));
    }

    #[test]
    fn hl7_01_a_vertical_tab_in_a_text_begins_nothing() {
        let found = all(&[b"\x0bMSH|a\rOBX|1|TX|||one\x0btwo\x1c\r"]);
        assert_eq!(found, [Frame::Message(b"MSH|a\rOBX|1|TX|||one\x0btwo".to_vec())]);
    }

    #[test]
    fn hl7_01_what_is_outside_of_messages_is_counted_and_blanks_are_not() {
        let mut decoder = Decoder::default();
        decoder.push(b"\r\nMSH|a\x1c\r\x0bMSH|b\x1c\r\r\n");
        while decoder.next_frame().unwrap().is_some() {}
        assert_eq!(decoder.bytes_outside(), 6);
    }

    #[test]
    fn hl7_02_a_message_after_one_that_was_too_long_to_end_is_read() {
        let piece = vec![b'A'; 1 << 20];
        let mut pieces: Vec<&[u8]> = vec![b"\x0bMSH|^~\\&|"];
        pieces.extend(std::iter::repeat_n(piece.as_slice(), 20));
        pieces.push(b"\x0bMSH|next\x1c\r");
        let broken_off = Frame::BrokenOff { bytes: 9 + (20 << 20) };
        assert_eq!(all(&pieces), [broken_off, Frame::Message(b"MSH|next".to_vec())]);
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
