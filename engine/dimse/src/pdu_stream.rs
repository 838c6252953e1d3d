//! PDUs on a socket: one at a time, never longer than was negotiated (PS3.8, 9.3).

use std::time::Duration;

use dicom_ul::pdu::Pdu;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes before the variable field of a PDU: its type, a spare byte, its length.
const HEADER_BYTES: usize = 6;

/// Longest A-ASSOCIATE-RQ: 128 contexts with many transfer syntaxes each.
const ASSOCIATE_BYTES_MAX: u32 = 1 << 20;

/// Length of A-ASSOCIATE-RJ, A-RELEASE and A-ABORT (PS3.8, 9.3.4 to 9.3.8; DIN-14).
const SHORT_BYTES: u32 = 4;

/// How much is read from the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// The type of a PDU (PS3.8, 9.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PduKind {
    AssociateRq,
    AssociateAc,
    AssociateRj,
    Data,
    ReleaseRq,
    ReleaseRp,
    Abort,
}

/// Why no PDU could be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PduError {
    /// The peer closed the connection between PDUs.
    #[error("the peer closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    /// The peer neither sent nor received anything in time.
    #[error("the peer was silent for too long")]
    Silent,
    /// The peer announces a PDU longer than was negotiated.
    #[error("the peer announced a PDU of {length} bytes, more than the {limit} agreed on")]
    TooLong {
        /// The announced length, in bytes.
        length: u32,
        /// The negotiated limit, in bytes.
        limit: u32,
    },
    /// A PDU type that the standard does not define.
    #[error("the peer sent a PDU of the unknown type {0:#04x}")]
    Unknown(u8),
    /// A length that the standard does not allow for this PDU type.
    #[error("the peer sent a PDU of a wrong length")]
    WrongLength,
}

/// One connection, read PDU by PDU through a buffer.
pub(crate) struct PduStream {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Length of the PDU at the start of the buffer that was handed out last.
    used: usize,
    data_bytes_max: u32,
}

impl PduStream {
    /// Reads PDUs from a connection. P-DATA of more than `data_bytes_max` bytes is refused.
    pub(crate) fn new(stream: TcpStream, data_bytes_max: u32) -> Self {
        // Without it responses wait for the delayed acknowledgement of the peer. A socket that
        // cannot set it is slow, not wrong.
        _ = stream.set_nodelay(true);
        Self { stream, buffer: Vec::new(), used: 0, data_bytes_max }
    }

    /// The next PDU, header included. Waits at most `wait` for each arrival of bytes.
    pub(crate) async fn next(&mut self, wait: Duration) -> Result<(PduKind, &[u8]), PduError> {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.fill(HEADER_BYTES, wait).await?;
        let [kind, _, a, b, c, d] = *self.buffer.first_chunk().ok_or(PduError::Closed)?;
        let length = u32::from_be_bytes([a, b, c, d]);
        let (kind, limit) = match kind {
            0x01 => (PduKind::AssociateRq, ASSOCIATE_BYTES_MAX),
            0x02 => (PduKind::AssociateAc, ASSOCIATE_BYTES_MAX),
            0x03 => (PduKind::AssociateRj, SHORT_BYTES),
            0x04 => (PduKind::Data, self.data_bytes_max),
            0x05 => (PduKind::ReleaseRq, SHORT_BYTES),
            0x06 => (PduKind::ReleaseRp, SHORT_BYTES),
            0x07 => (PduKind::Abort, SHORT_BYTES),
            other => return Err(PduError::Unknown(other)),
        };
        if limit == SHORT_BYTES && length != SHORT_BYTES {
            return Err(PduError::WrongLength);
        }
        if length > limit {
            return Err(PduError::TooLong { length, limit });
        }
        let whole = HEADER_BYTES + usize::try_from(length).unwrap_or(usize::MAX);
        self.fill(whole, wait).await?;
        self.used = whole;
        Ok((kind, self.buffer.get(..whole).unwrap_or_default()))
    }

    /// Reads until the buffer holds `length` bytes. Memory is reserved only as bytes arrive.
    async fn fill(&mut self, length: usize, wait: Duration) -> Result<(), PduError> {
        while self.buffer.len() < length {
            self.buffer.reserve(READ_BYTES.min(length.max(READ_BYTES) - self.buffer.len()));
            let read = timeout(wait, self.stream.read_buf(&mut self.buffer));
            match read.await.map_err(|_| PduError::Silent)?? {
                0 if self.buffer.is_empty() => return Err(PduError::Closed),
                0 => return Err(PduError::Io(std::io::ErrorKind::UnexpectedEof.into())),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends a PDU.
    pub(crate) async fn send(&mut self, pdu: &Pdu, wait: Duration) -> Result<(), PduError> {
        let mut bytes = Vec::new();
        dicom_ul::pdu::write_pdu(&mut bytes, pdu)
            .map_err(|error| PduError::Io(std::io::Error::other(error)))?;
        self.send_bytes(&bytes, wait).await
    }

    /// Sends a PDU that is encoded already.
    pub(crate) async fn send_bytes(
        &mut self,
        bytes: &[u8],
        wait: Duration,
    ) -> Result<(), PduError> {
        write(&mut self.stream, bytes, wait).await
    }

    /// Waits for the peer to close the connection, so that it can read the last PDU sent to it.
    pub(crate) async fn wait_for_close(mut self, wait: Duration) {
        let stream = &mut self.stream;
        let buffer = &mut self.buffer;
        let drained = async {
            // The write half is closed: the peer sees that nothing more will come.
            if stream.shutdown().await.is_err() {
                return;
            }
            loop {
                buffer.clear();
                match stream.read_buf(buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        // Whether it closed or the timer ran out, the connection ends now.
        _ = timeout(wait, drained).await;
    }
}

async fn write(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    bytes: &[u8],
    wait: Duration,
) -> Result<(), PduError> {
    timeout(wait, stream.write_all(bytes)).await.map_err(|_| PduError::Silent)??;
    Ok(())
}

/// The PDUs that carry a data set, none of them longer than `bytes_max`.
pub(crate) fn data_pdus(
    context_id: u8,
    bytes_max: u32,
    data: &[u8],
) -> impl Iterator<Item = Vec<u8>> {
    // Twelve bytes of headers; fragments have an even length (PS3.8, D.1).
    let size = (usize::try_from(bytes_max).unwrap_or(1024).max(1024) - 12) & !1;
    let count = data.chunks(size).count();
    let pdu = move |(index, piece)| data_pdu(context_id, false, index + 1 == count, piece);
    data.chunks(size).enumerate().map(pdu)
}

/// The PDU that carries `data` as one last or not last fragment.
pub(crate) fn data_pdu(context_id: u8, is_command: bool, is_last: bool, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX - 6);
    let mut bytes = Vec::with_capacity(data.len() + 12);
    bytes.extend([0x04, 0]);
    bytes.extend((length + 6).to_be_bytes());
    bytes.extend((length + 2).to_be_bytes());
    bytes.extend([context_id, u8::from(is_command) | u8::from(is_last) << 1]);
    bytes.extend(data);
    bytes
}
