//! A data set on its way to the disk: written in pieces by threads that may wait for the disk, while the next
//! piece comes in.

use std::io;
use std::sync::Arc;

use contracts::{Archive, Incoming, Quarantined};
use encoding::file_meta::FileMeta;
use tokio::task::{JoinHandle, spawn_blocking};

/// How much is written at once. Two pieces at most are in memory.
const PIECE_BYTES: usize = 256 * 1024;

/// What the file will say of itself.
pub(crate) struct Meta {
    pub(crate) sop_class: String,
    pub(crate) sop_instance: String,
    pub(crate) transfer_syntax: String,
    pub(crate) sending_ae: String,
    pub(crate) receiving_ae: String,
}

/// A data set on its way to the disk. Dropping it gives it up.
pub(crate) struct Spool {
    /// What has not been handed over to be written.
    piece: Vec<u8>,
    state: State,
}

enum State {
    /// Nothing is written just now.
    Resting(Begun),
    /// A piece is being written. Its room comes back to be used again.
    Writing(JoinHandle<io::Result<(Begun, Vec<u8>)>>),
    /// It failed before.
    Broken,
}

/// How far it is.
enum Begun {
    /// There is no file yet.
    New(Arc<dyn Archive>, Meta),
    Open(Box<dyn Incoming>),
}

impl Begun {
    /// Writes a piece. Blocks on the disk.
    fn write(self, piece: &[u8]) -> io::Result<Box<dyn Incoming>> {
        let mut incoming = match self {
            Self::Open(incoming) => incoming,
            Self::New(archive, meta) => archive.begin(&FileMeta {
                sop_class: &meta.sop_class,
                sop_instance: &meta.sop_instance,
                transfer_syntax: &meta.transfer_syntax,
                sending_ae: &meta.sending_ae,
                receiving_ae: &meta.receiving_ae,
            })?,
        };
        incoming.write(piece)?;
        Ok(incoming)
    }
}

impl Spool {
    /// A data set of which nothing has come yet.
    pub(crate) fn new(archive: &Arc<dyn Archive>, meta: Meta) -> Self {
        let state = State::Resting(Begun::New(Arc::clone(archive), meta));
        Self { piece: Vec::new(), state }
    }

    /// Takes the next bytes. Waits for the disk if it is behind.
    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.piece.len()));
            let needed = self.piece.len() + now.len();
            if needed > self.piece.capacity() {
                self.piece.reserve_exact(PIECE_BYTES.min(2 * needed) - self.piece.len());
            }
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE_BYTES {
                self.hand_over().await?;
            }
        }
        Ok(())
    }

    /// Has a whole piece written, once the one before is.
    async fn hand_over(&mut self) -> io::Result<()> {
        let (begun, room) = self.settled().await?;
        let mut piece = std::mem::replace(&mut self.piece, room);
        self.state = State::Writing(spawn_blocking(move || {
            let incoming = begun.write(&piece)?;
            piece.clear();
            Ok((Begun::Open(incoming), piece))
        }));
        Ok(())
    }

    /// Writes what is left, and ends the file.
    pub(crate) async fn finish(mut self) -> io::Result<Quarantined> {
        let (begun, _) = self.settled().await?;
        let last = self.piece;
        let finished = spawn_blocking(move || begun.write(&last)?.finish());
        finished.await.map_err(io::Error::other)?
    }

    /// Waits until nothing is being written.
    async fn settled(&mut self) -> io::Result<(Begun, Vec<u8>)> {
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Resting(begun) => Ok((begun, Vec::new())),
            State::Writing(writing) => writing.await.map_err(io::Error::other)?,
            State::Broken => Err(io::Error::other("it failed before")),
        }
    }
}
