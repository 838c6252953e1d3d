//! Walks the elements of a data set once, from its first byte to its last.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufReader, Cursor, ErrorKind, Read, Seek};

use super::{
    ACCESSION_NUMBER, DEPTH_MAX, ELEMENTS_MAX, Encoding, Header, HeaderError, Peculiarity,
    REQUEST_ATTRIBUTES, RETAINED_BYTES_MAX, RETAINED_SEQUENCES, VALUE_BYTES_MAX,
};

/// The tag of an element: group and element number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u16, pub u16);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:04X},{:04X})", self.0, self.1)
    }
}

/// A source that can skip bytes without returning them.
pub trait Skip {
    /// Skips `count` bytes.
    ///
    /// # Errors
    ///
    /// Fails if the source ends before, or cannot be read. A source that can be positioned may
    /// find out only at the next read.
    fn skip(&mut self, count: u64) -> std::io::Result<()>;
}

impl<R: Read + Seek> Skip for BufReader<R> {
    fn skip(&mut self, count: u64) -> std::io::Result<()> {
        self.seek_relative(i64::try_from(count).map_err(|_| ErrorKind::UnexpectedEof)?)
    }
}

impl<T: AsRef<[u8]>> Skip for Cursor<T> {
    fn skip(&mut self, count: u64) -> std::io::Result<()> {
        self.set_position(self.position().saturating_add(count));
        Ok(())
    }
}

/// A source without positions: it skips by reading.
pub(super) struct Forward<R>(pub(super) R);

impl<R: Read> Read for Forward<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Skip for Forward<R> {
    fn skip(&mut self, count: u64) -> std::io::Result<()> {
        let skipped = std::io::copy(&mut (&mut self.0).take(count), &mut std::io::sink())?;
        if skipped == count { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }
}

/// Begins an item of a sequence (PS3.5, 7.5).
pub(crate) const ITEM: Tag = Tag(0xFFFE, 0xE000);

/// Ends an item of undefined length.
pub(crate) const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);

/// Ends a sequence of undefined length.
pub(crate) const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// Undefined length: the end is marked by a delimiter (PS3.5, 7.1).
pub(crate) const UNDEFINED: u32 = 0xFFFF_FFFF;

/// Transfer Syntax UID (0002,0010), which belongs before a data set and not in one.
const TRANSFER_SYNTAX: Tag = Tag(0x0002, 0x0010);

/// Fewest zeros after the last element that are taken for filling: as many as an empty element has
/// bytes. Fewer may as well be the beginning of an element that was cut off.
const FILLING_BYTES_MIN: u64 = 8;

/// A sequence or item that has begun and not ended.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its encoding")]
struct Open {
    /// The tag of the sequence, or the Item tag.
    tag: Tag,
    is_item: bool,
    /// Where it ends; nothing, if a delimiter ends it.
    end: Option<u64>,
    is_explicit: bool,
    is_big_endian: bool,
    /// Whether its items are fragments of pixel data: bytes, not elements (PS3.5, A.4).
    is_fragmented: bool,
}

struct Walk<R> {
    source: R,
    position: u64,
    end: Option<u64>,
    is_big_endian: bool,
    open: Vec<Open>,
    elements: u64,
    retained: u64,
    header: Header,
    /// Number of items so far of each retained sequence.
    items: BTreeMap<Tag, u32>,
    /// Where the elements of the top level begin, if the caller wants to know.
    starts: Option<Vec<(Tag, u64)>>,
}

/// Reads a data set, of `length` bytes if that is known.
///
/// # Errors
///
/// See [`HeaderError`].
pub fn read<R: Read + Skip>(
    source: R,
    length: Option<u64>,
    encoding: Encoding,
) -> Result<Header, HeaderError> {
    let mut walk = Walk::new(source, length, encoding);
    while walk.step(encoding.is_explicit)? {}
    Ok(walk.header)
}

/// Where the elements of the top level of a data set begin, in their order.
///
/// # Errors
///
/// See [`HeaderError`].
pub fn starts<R: Read + Skip>(
    source: R,
    length: u64,
    encoding: Encoding,
) -> Result<Vec<(Tag, u64)>, HeaderError> {
    starts_of(source, Some(length), encoding)
}

/// The same for a data set whose length may be unknown.
pub(super) fn starts_of<R: Read + Skip>(
    source: R,
    length: Option<u64>,
    encoding: Encoding,
) -> Result<Vec<(Tag, u64)>, HeaderError> {
    let walk = Walk::new(source, length, encoding);
    let mut walk = Walk { starts: Some(Vec::new()), ..walk };
    while walk.step(encoding.is_explicit)? {}
    Ok(walk.starts.unwrap_or_default())
}

/// Whether elements of a VR have a length of 16 bits (PS3.5, Table 7.1-2). All others, and VRs
/// still to come, have one of 32 bits.
pub(crate) const fn has_short_length(vr: [u8; 2]) -> bool {
    matches!(
        &vr,
        b"AE"
            | b"AS"
            | b"AT"
            | b"CS"
            | b"DA"
            | b"DS"
            | b"DT"
            | b"FL"
            | b"FD"
            | b"IS"
            | b"LO"
            | b"LT"
            | b"PN"
            | b"SH"
            | b"SL"
            | b"SS"
            | b"ST"
            | b"TM"
            | b"UI"
            | b"UL"
            | b"US"
    )
}

/// Whether two bytes stand where a VR belongs and name none: senders write `??`, spaces or zeros
/// for a VR that they do not know, and a length of 16 bits after it.
pub(crate) const fn is_placeholder(vr: [u8; 2]) -> bool {
    matches!(&vr, b"??" | b"  " | b"\0\0")
}

/// Whether an element of the top level belongs to a command or to the meta information of a file.
pub(crate) const fn is_foreign(tag: Tag) -> bool {
    matches!(tag.0, 0x0000 | 0x0002)
}

impl<R> Walk<R> {
    fn new(source: R, end: Option<u64>, encoding: Encoding) -> Self {
        let is_big_endian = encoding.is_big_endian;
        let header = Header { is_big_endian, ..Header::default() };
        Self {
            source,
            position: 0,
            end,
            is_big_endian,
            open: Vec::new(),
            elements: 0,
            retained: 0,
            header,
            items: BTreeMap::new(),
            starts: None,
        }
    }
}

impl<R: Read + Skip> Walk<R> {
    /// Reads one element or delimiter. False at the end of the data set.
    fn step(&mut self, is_explicit: bool) -> Result<bool, HeaderError> {
        while self.open.last().is_some_and(|it| it.end == Some(self.position)) {
            self.open.pop();
        }
        let at = self.position;
        let Some(tag) = self.next_tag()? else { return Ok(false) };
        if self.open.is_empty() && tag == Tag(0, 0) {
            self.filling(at)?;
            return Ok(false);
        }
        if let (true, Some(starts)) = (self.open.is_empty(), &mut self.starts) {
            starts.push((tag, at));
        }
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            return Err(HeaderError::Limit { what: "elements" });
        }
        if tag.0 == 0xFFFE {
            self.delimiter(tag)?;
            return Ok(true);
        }
        if self.open.last().is_some_and(|it| !it.is_item) {
            return Err(HeaderError::OutOfPlace { at: tag });
        }
        let is_explicit = self.open.last().map_or(is_explicit, |it| it.is_explicit);
        let (vr, length) = self.vr_and_length(tag, is_explicit)?;
        if self.open.is_empty() && is_foreign(tag) {
            self.foreign(tag, length)?;
            return Ok(true);
        }
        self.element(tag, vr, length, is_explicit)?;
        Ok(true)
    }

    /// Reads zeros up to the end of the data set: some senders fill it up with them.
    fn filling(&mut self, at: u64) -> Result<(), HeaderError> {
        let mut bytes = [0; 512];
        loop {
            match self.source.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => {
                    if bytes.iter().take(count).any(|it| *it != 0) {
                        return Err(HeaderError::ForeignGroup { at: Tag(0, 0) });
                    }
                    self.position += count as u64;
                }
                Err(source) => return Err(HeaderError::Io(source)),
            }
        }
        let is_cut = self.end.is_some_and(|it| it > self.position);
        if is_cut || self.position - at < FILLING_BYTES_MIN {
            return Err(HeaderError::Truncated { at: Tag(0, 0) });
        }
        self.header.filling_start = Some(at);
        self.header.peculiarities.insert(Peculiarity::TrailingZeros);
        Ok(())
    }

    /// Steps over an element of a command or of meta information, which means nothing in a data set
    /// (DIN-23).
    fn foreign(&mut self, tag: Tag, length: u32) -> Result<(), HeaderError> {
        self.check_fits(tag, length)?;
        self.header.peculiarities.insert(Peculiarity::ForeignGroup);
        if tag == TRANSFER_SYNTAX && u64::from(length) <= VALUE_BYTES_MAX {
            let value = self.value(tag, length)?;
            self.header.retain(tag, value);
            return Ok(());
        }
        self.skip(tag, u64::from(length))
    }

    fn element(
        &mut self,
        tag: Tag,
        vr: Option<[u8; 2]>,
        length: u32,
        is_explicit: bool,
    ) -> Result<(), HeaderError> {
        let is_top = self.open.is_empty();
        let is_pixels = tag.0 == 0x7FE0 && matches!(tag.1, 0x0008..=0x0010);
        self.header.has_pixels |= is_top && is_pixels;
        if length == UNDEFINED {
            let is_fragmented = is_pixels && vr.is_some();
            let open = self.sequence(tag, None, is_explicit, vr);
            return self.enter(tag, Open { is_fragmented, ..open });
        }
        self.check_fits(tag, length)?;
        let is_unnamed = vr.is_none_or(|it| it == *b"UN");
        if vr == Some(*b"SQ") || is_top && is_unnamed && RETAINED_SEQUENCES.contains(&tag) {
            let end = Some(self.position + u64::from(length));
            let open = self.sequence(tag, end, is_explicit, vr);
            return self.enter(tag, open);
        }
        let sequence = self.enclosing_first_item();
        let is_further = tag == ACCESSION_NUMBER && self.is_in_further_request();
        if (is_top && !is_pixels || sequence.is_some() || is_further)
            && u64::from(length) <= VALUE_BYTES_MAX
        {
            let value = self.value(tag, length)?;
            self.retained += u64::from(length);
            if self.retained > RETAINED_BYTES_MAX {
                return Err(HeaderError::Limit { what: "bytes of its header" });
            }
            match sequence {
                Some(sequence) => self.header.retain_nested(sequence, tag, value),
                None if is_further => self.header.retain_further_accession(value),
                None => self.header.retain(tag, value),
            }
            return Ok(());
        }
        self.skip(tag, u64::from(length))
    }

    /// A sequence that begins. What is in a UN is in Implicit VR Little Endian, whatever encloses
    /// it (PS3.5, 6.2.2).
    fn sequence(&self, tag: Tag, end: Option<u64>, is_explicit: bool, vr: Option<[u8; 2]>) -> Open {
        let is_unknown = vr == Some(*b"UN");
        Open {
            tag,
            is_item: false,
            end,
            is_explicit: is_explicit && !is_unknown,
            is_big_endian: self.is_big_endian() && !is_unknown,
            is_fragmented: false,
        }
    }

    /// Whether the next bytes have the most significant first.
    fn is_big_endian(&self) -> bool {
        self.open.last().map_or(self.is_big_endian, |it| it.is_big_endian)
    }

    /// The retained sequence in whose first item the next element is directly, if it is in one.
    fn enclosing_first_item(&self) -> Option<Tag> {
        let [sequence, _] = self.open.as_slice() else { return None };
        (self.items.get(&sequence.tag) == Some(&1)).then_some(sequence.tag)
    }

    /// Whether the next element is directly in an item of the Request Attributes Sequence that is
    /// not its first.
    fn is_in_further_request(&self) -> bool {
        let [sequence, _] = self.open.as_slice() else { return false };
        sequence.tag == REQUEST_ATTRIBUTES
            && self.items.get(&sequence.tag).is_some_and(|it| *it > 1)
    }

    fn delimiter(&mut self, tag: Tag) -> Result<(), HeaderError> {
        let length = self.u32(tag)?;
        match (tag, self.open.last().copied()) {
            (ITEM, Some(Open { is_item: false, is_fragmented: true, .. })) => {
                self.check_fits(tag, length)?;
                self.skip(tag, u64::from(length))
            }
            (ITEM, Some(sequence @ Open { is_item: false, .. })) => {
                let end = if length == UNDEFINED {
                    None
                } else {
                    self.check_fits(tag, length)?;
                    Some(self.position + u64::from(length))
                };
                self.enter(tag, Open { tag, is_item: true, end, ..sequence })
            }
            (ITEM_END, Some(Open { is_item: true, .. }))
            | (SEQUENCE_END, Some(Open { is_item: false, .. })) => {
                self.open.pop();
                Ok(())
            }
            _ => Err(HeaderError::OutOfPlace { at: tag }),
        }
    }

    fn enter(&mut self, tag: Tag, open: Open) -> Result<(), HeaderError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(HeaderError::Limit { what: "nesting" });
        }
        if open.end.is_none() && self.end == Some(self.position) {
            return Err(HeaderError::Truncated { at: tag });
        }
        self.open.push(open);
        if let [sequence, _] = self.open.as_slice()
            && RETAINED_SEQUENCES.contains(&sequence.tag)
        {
            let count = self.items.entry(sequence.tag).or_default();
            *count = count.saturating_add(1);
        }
        Ok(())
    }

    /// Refuses a length that exceeds the nearest known end.
    fn check_fits(&self, tag: Tag, length: u32) -> Result<(), HeaderError> {
        let enclosing_end = self.open.iter().rev().find_map(|it| it.end).or(self.end);
        let end = self.position + u64::from(length);
        if enclosing_end.is_some_and(|it| it < end) || length == UNDEFINED {
            return Err(HeaderError::TooLong { at: tag });
        }
        Ok(())
    }

    /// The tag of the next element, or nothing at the end of the data set.
    fn next_tag(&mut self) -> Result<Option<Tag>, HeaderError> {
        let truncated = HeaderError::Truncated { at: Tag(0, 0) };
        if self.end == Some(self.position) {
            return if self.open.is_empty() { Ok(None) } else { Err(truncated) };
        }
        let mut first = [0; 1];
        match self.source.read(&mut first) {
            Ok(0) if self.open.is_empty() && self.end.is_none() => return Ok(None),
            Ok(0) => return Err(truncated),
            Ok(_) => self.position += 1,
            Err(source) => return Err(HeaderError::Io(source)),
        }
        let mut rest = [0; 3];
        self.fill(Tag(0, 0), &mut rest)?;
        let [a] = first;
        let [b, c, d] = rest;
        let pair = |bytes| {
            if self.is_big_endian() { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
        };
        Ok(Some(Tag(pair([a, b]), pair([c, d]))))
    }

    /// Value representation and length of an element (PS3.5, 7.1.2 and 7.1.3).
    fn vr_and_length(
        &mut self,
        tag: Tag,
        is_explicit: bool,
    ) -> Result<(Option<[u8; 2]>, u32), HeaderError> {
        if !is_explicit {
            return Ok((None, self.u32(tag)?));
        }
        let mut vr = [0; 2];
        self.fill(tag, &mut vr)?;
        let is_placeholder = is_placeholder(vr) && tag != Tag(0, 0);
        if !is_placeholder && !vr.iter().all(u8::is_ascii_uppercase) {
            return Err(HeaderError::BadVr { at: tag });
        }
        let mut short = [0; 2];
        self.fill(tag, &mut short)?;
        if !is_placeholder && !has_short_length(vr) {
            let length = self.u32(tag)?;
            if vr == *b"UN" && (length == UNDEFINED || tag.0.is_multiple_of(2)) {
                self.header.peculiarities.insert(Peculiarity::UnknownRepresentation);
            }
            return Ok((Some(vr), length));
        }
        let is_big_endian = self.is_big_endian();
        let length =
            if is_big_endian { u16::from_be_bytes(short) } else { u16::from_le_bytes(short) };
        if is_placeholder {
            self.header.peculiarities.insert(Peculiarity::Placeholder);
            return Ok((Some(*b"UN"), u32::from(length)));
        }
        Ok((Some(vr), u32::from(length)))
    }

    fn u32(&mut self, tag: Tag) -> Result<u32, HeaderError> {
        let mut bytes = [0; 4];
        self.fill(tag, &mut bytes)?;
        let is_big_endian = self.is_big_endian();
        Ok(if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn value(&mut self, tag: Tag, length: u32) -> Result<Vec<u8>, HeaderError> {
        // At most `VALUE_BYTES_MAX`: the caller has checked.
        let mut value = vec![0; usize::try_from(length).unwrap_or_default()];
        self.fill(tag, &mut value)?;
        Ok(value)
    }

    fn fill(&mut self, tag: Tag, buffer: &mut [u8]) -> Result<(), HeaderError> {
        self.source.read_exact(buffer).map_err(|source| ended(tag, source))?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    fn skip(&mut self, tag: Tag, count: u64) -> Result<(), HeaderError> {
        self.source.skip(count).map_err(|source| ended(tag, source))?;
        self.position += count;
        Ok(())
    }
}

fn ended(at: Tag, source: std::io::Error) -> HeaderError {
    match source.kind() {
        ErrorKind::UnexpectedEof => HeaderError::Truncated { at },
        _ => HeaderError::Io(source),
    }
}
