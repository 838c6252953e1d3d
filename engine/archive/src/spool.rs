//! Writes a data set to the disk while it arrives: one piece is written by a blocking thread while
//! the next is received.
//!
//! Whole blocks bypass the page cache (`O_DIRECT`): finding room in it costs more processor time
//! than the rest of a write, and the data must be on the disk before the sender is answered in any
//! case.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use async_trait::async_trait;
use contracts::{Incoming, Quarantined};
use rustix::fs::{OFlags, fcntl_setfl};
use sha2::{Digest as _, Sha256};
use tokio::task::{JoinHandle, spawn_blocking};

/// How much is written at once: an image of 512 × 512 × 2 bytes is two pieces, with its header. At
/// most two pieces of a data set are in memory.
const PIECE_BYTES: usize = 288 * 1024;

/// Direct writes begin and end at multiples of this, in memory and in the file: the block size of
/// most file systems, and a multiple of that of most disks.
const BLOCK_BYTES: usize = 4096;

/// Shorter writes go through the page cache.
const DIRECT_BYTES_MIN: usize = 64 * 1024;

/// How much of a data set is retained in memory: more than the header of most images needs.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// A data set that is being received. Dropping it removes its file.
pub(crate) struct Spool {
    hasher: Sha256,
    bytes: u64,
    head: Vec<u8>,
    /// The piece that is being filled.
    piece: Piece,
    state: State,
}

enum State {
    /// No piece is being written.
    Idle(Writer),
    /// A piece is being written.
    Writing(JoinHandle<io::Result<Written>>),
    /// A write has failed.
    Failed,
}

/// A writer after its last piece, whose memory is used again.
struct Written {
    writer: Writer,
    piece: Piece,
}

impl Spool {
    /// A file at `path` that begins with `meta`. It is created with the first piece.
    pub(crate) fn new(path: PathBuf, meta: &[u8]) -> Self {
        let mut piece = Piece::default();
        // File Meta Information is shorter than a piece.
        piece.fill(meta);
        let state = State::Idle(Writer::new(path, meta.len() as u64));
        Self { hasher: Sha256::new(), bytes: 0, head: Vec::new(), piece, state }
    }

    /// Hashes what arrives and retains its head, while it is still in the cache of the processor.
    fn digest(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        let wanted = HEAD_BYTES_MAX - self.head.len().min(HEAD_BYTES_MAX);
        self.head.extend_from_slice(bytes.get(..wanted).unwrap_or(bytes));
    }

    /// Begins to write a full piece, after the previous one is written.
    async fn flush_piece(&mut self) -> io::Result<()> {
        let Written { mut writer, piece: empty } = self.idle().await?;
        let mut piece = std::mem::replace(&mut self.piece, empty);
        self.state = State::Writing(spawn_blocking(move || {
            writer.write(piece.bytes())?;
            piece.clear();
            Ok(Written { writer, piece })
        }));
        Ok(())
    }

    /// Waits until no piece is being written.
    async fn idle(&mut self) -> io::Result<Written> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(writer) => Ok(Written { writer, piece: Piece::default() }),
            State::Writing(writing) => writing.await.map_err(io::Error::other)?,
            State::Failed => Err(io::Error::other("it failed before")),
        }
    }
}

#[async_trait]
impl Incoming for Spool {
    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.digest(bytes);
        loop {
            let filled = self.piece.fill(bytes);
            bytes = bytes.get(filled..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            self.flush_piece().await?;
        }
    }

    async fn finish(mut self: Box<Self>) -> io::Result<Quarantined> {
        let Written { mut writer, .. } = self.idle().await?;
        let Self { hasher, bytes, head, piece, .. } = *self;
        let written = spawn_blocking(move || {
            writer.write(piece.bytes())?;
            Ok(writer.quarantined)
        });
        let sha256 = hex::encode(hasher.finalize());
        let mut quarantined = written.await.map_err(io::Error::other).flatten()?;
        quarantined.sha256 = sha256;
        quarantined.bytes = bytes;
        quarantined.head = head;
        Ok(quarantined)
    }
}

/// The buffer of a piece. At full size its bytes are aligned to a block in memory.
#[derive(Default)]
struct Piece {
    buffer: Vec<u8>,
    /// Unused bytes before the first aligned one.
    offset: usize,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.offset..).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.buffer.truncate(self.offset);
    }

    /// Appends as many of `bytes` as fit, and returns how many.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let length = self.buffer.len() - self.offset;
        let now = bytes.get(..PIECE_BYTES - length).unwrap_or(bytes);
        let needed = length + now.len();
        if self.offset + needed > self.buffer.capacity() {
            self.grow(if needed > DIRECT_BYTES_MIN { PIECE_BYTES } else { 2 * needed });
        }
        self.buffer.extend_from_slice(now);
        now.len()
    }

    fn grow(&mut self, bytes: usize) {
        let mut buffer: Vec<u8> = Vec::with_capacity(bytes + BLOCK_BYTES);
        // The buffer is one block longer than needed, so that an aligned byte is within it.
        let offset = buffer.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        buffer.resize(offset, 0);
        buffer.extend_from_slice(self.bytes());
        *self = Self { buffer, offset };
    }
}

/// Writes the file of a data set.
struct Writer {
    quarantined: Quarantined,
    file: Option<File>,
    /// Whether writes bypass the page cache at present.
    is_direct: bool,
    /// Where the next write begins.
    at: u64,
}

impl Writer {
    fn new(path: PathBuf, meta_bytes: u64) -> Self {
        let quarantined =
            Quarantined { path, meta_bytes, bytes: 0, sha256: String::new(), head: Vec::new() };
        Self { quarantined, file: None, is_direct: false, at: 0 }
    }

    /// Writes the next piece. Blocks until the system has accepted it.
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let blocks = piece.len() - piece.len() % BLOCK_BYTES;
        let can_be_direct =
            blocks >= DIRECT_BYTES_MIN && self.at.is_multiple_of(BLOCK_BYTES as u64);
        let (blocks, rest) = piece.split_at(if can_be_direct { blocks } else { 0 });
        if !blocks.is_empty() {
            self.write_blocks(blocks)?;
        }
        if !rest.is_empty() {
            self.write_cached(rest)?;
        }
        Ok(())
    }

    /// Writes whole blocks past the page cache, if the file system supports it.
    fn write_blocks(&mut self, blocks: &[u8]) -> io::Result<()> {
        if self.set_direct(true).is_ok() {
            let at = self.at;
            match self.file()?.write_all_at(blocks, at) {
                Ok(()) => {
                    self.at += blocks.len() as u64;
                    return Ok(());
                }
                // Not supported, or its blocks are larger than ours.
                Err(error) if is_refused(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.write_cached(blocks)
    }

    fn write_cached(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.set_direct(false)?;
        let at = self.at;
        self.file()?.write_all_at(bytes, at)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn set_direct(&mut self, is_direct: bool) -> io::Result<()> {
        if self.is_direct != is_direct {
            let flags = if is_direct { OFlags::DIRECT } else { OFlags::empty() };
            fcntl_setfl(self.file()?, flags)?;
            self.is_direct = is_direct;
        }
        Ok(())
    }

    /// The file, which is created with the first write.
    fn file(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            let mut options = fs::OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600);
            self.file = Some(file.open(&self.quarantined.path)?);
        }
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Whether the system refused the kind of write, before it wrote anything.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: usize) -> Vec<u8> {
        (0_u32..).map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes()[2]).take(count).collect()
    }

    fn path() -> PathBuf {
        std::env::temp_dir().join(format!("isocenter-spool-{}", uuid::Uuid::now_v7()))
    }

    #[tokio::test]
    async fn din_20_what_comes_in_is_what_lies_on_the_disk_however_long_it_is() {
        let meta = bytes(334);
        let sizes = [0, 1, 4096, DIRECT_BYTES_MIN - 334, PIECE_BYTES - 335, PIECE_BYTES - 334];
        let more = [PIECE_BYTES - 333, PIECE_BYTES, 2 * PIECE_BYTES, 3 * PIECE_BYTES + 12_345];
        for size in sizes.into_iter().chain(more) {
            let (path, data) = (path(), bytes(size));
            let mut spool = Box::new(Spool::new(path.clone(), &meta));
            for some in data.chunks(100_001) {
                spool.write(some).await.unwrap();
            }
            let file = spool.finish().await.unwrap();
            assert_eq!(fs::read(&path).unwrap(), [meta.as_slice(), &data].concat(), "{size}");
            assert_eq!(file.sha256, hex::encode(Sha256::digest(&data)), "{size}");
            assert_eq!((file.meta_bytes, file.bytes), (334, size as u64));
            assert_eq!(file.head, data[..size.min(HEAD_BYTES_MAX)]);
            drop(file);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_piece_that_goes_past_the_cache_begins_at_the_border_of_a_block() {
        let mut piece = Piece::default();
        let data = bytes(PIECE_BYTES);
        let mut taken = 0;
        while taken < data.len() {
            taken += piece.fill(&data[taken..data.len().min(taken + 30_000)]);
        }
        assert_eq!(piece.bytes(), data);
        assert_eq!(piece.bytes().as_ptr().align_offset(BLOCK_BYTES), 0);
        assert_eq!(piece.fill(&data), 0);
        let room = piece.buffer.capacity();
        piece.clear();
        assert_eq!(piece.fill(&data), data.len());
        assert_eq!((piece.bytes(), piece.buffer.capacity()), (data.as_slice(), room));
    }

    #[test]
    fn what_a_file_system_refuses_to_write_directly_goes_through_the_cache() {
        let (path, data) = (path(), bytes(DIRECT_BYTES_MIN + 1));
        let mut writer = Writer::new(path.clone(), 0);
        // Begins at an odd address, which a file system on a disk does not take directly.
        let odd =
            if data.as_ptr().align_offset(2) == 0 { &data[1..] } else { &data[..DIRECT_BYTES_MIN] };
        writer.write(odd).unwrap();
        assert_eq!(fs::read(&path).unwrap(), odd);
        drop(writer);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn who_goes_away_in_the_middle_leaves_nothing_behind() {
        let folder = path();
        fs::create_dir(&folder).unwrap();
        for size in [0, 10, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let mut spool = Spool::new(folder.join("it"), &bytes(334));
            spool.write(&bytes(size)).await.unwrap();
            drop(spool);
            // Who is writing just now notices when it is done.
            let begin = std::time::Instant::now();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            while fs::read_dir(&folder).unwrap().count() > 0 {
                assert!(begin.elapsed().as_secs() < 10, "a file stays");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        fs::remove_dir(folder).unwrap();
    }
}
