//! PDUs on a socket: one at a time, never longer than we asked for (PS3.8, 9.3).

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

/// How much is asked of the system at once.
const READ_BYTES: usize = 64 * 1024;

/// What kind of PDU (PS3.8, 9.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    AssociateRq,
    AssociateAc,
    AssociateRj,
    Data,
    ReleaseRq,
    ReleaseRp,
    Abort,
}

/// Why there is no PDU.
#[derive(Debug, thiserror::Error)]
pub enum PduError {
    /// The peer closed the connection between PDUs.
    #[error("the peer closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    /// Nothing came in time.
    #[error("the peer was silent for too long")]
    Silent,
    /// The peer says it sends more than we asked for.
    #[error("the peer announced a PDU of {length} bytes, more than the {limit} agreed on")]
    TooLong {
        /// What it announced.
        length: u32,
        /// What was agreed.
        limit: u32,
    },
    /// A type the standard does not know.
    #[error("the peer sent a PDU of the unknown type {0:#04x}")]
    Unknown(u8),
    /// A length the standard does not allow for this type.
    #[error("the peer sent a PDU of a wrong length")]
    WrongLength,
}

/// Buffered PDUs of one connection.
pub(crate) struct PduStream {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// How much of the buffer has been handed out.
    used: usize,
    data_bytes_max: u32,
}

impl PduStream {
    /// Takes over a connection; P-DATA of more than `data_bytes_max` bytes will be refused.
    pub(crate) fn new(stream: TcpStream, data_bytes_max: u32) -> Self {
        // Without it answers wait for the peer's delayed acknowledgement. A socket that cannot is
        // slow, not wrong.
        _ = stream.set_nodelay(true);
        Self { stream, buffer: Vec::new(), used: 0, data_bytes_max }
    }

    /// The next PDU, header included. Waits at most `wait` for each arrival of bytes.
    pub(crate) async fn next(&mut self, wait: Duration) -> Result<(Kind, &[u8]), PduError> {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.fill(HEADER_BYTES, wait).await?;
        let [kind, _, a, b, c, d] = *self.buffer.first_chunk().ok_or(PduError::Closed)?;
        let length = u32::from_be_bytes([a, b, c, d]);
        let (kind, limit) = match kind {
            0x01 => (Kind::AssociateRq, ASSOCIATE_BYTES_MAX),
            0x02 => (Kind::AssociateAc, ASSOCIATE_BYTES_MAX),
            0x03 => (Kind::AssociateRj, SHORT_BYTES),
            0x04 => (Kind::Data, self.data_bytes_max),
            0x05 => (Kind::ReleaseRq, SHORT_BYTES),
            0x06 => (Kind::ReleaseRp, SHORT_BYTES),
            0x07 => (Kind::Abort, SHORT_BYTES),
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

    /// Reads until the buffer holds `length` bytes. What has not come takes no memory.
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

    pub(crate) async fn send(&mut self, pdu: &Pdu, wait: Duration) -> Result<(), PduError> {
        let mut bytes = Vec::new();
        dicom_ul::pdu::write_pdu(&mut bytes, pdu)
            .map_err(|error| PduError::Io(std::io::Error::other(error)))?;
        self.send_bytes(&bytes, wait).await
    }

    pub(crate) async fn send_bytes(
        &mut self,
        bytes: &[u8],
        wait: Duration,
    ) -> Result<(), PduError> {
        write(&mut self.stream, bytes, wait).await
    }

    /// Waits for the peer to close, so that it reads our last words before the connection is gone.
    pub(crate) async fn wait_for_close(mut self, wait: Duration) {
        let (stream, buffer) = (&mut self.stream, &mut self.buffer);
        let drained = async {
            // Half a close tells the peer that nothing more comes.
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
pub(crate) fn data_pdus(context: u8, bytes_max: u32, data: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    // Twelve bytes of headers; fragments have an even length (PS3.8, D.1).
    let size = (usize::try_from(bytes_max).unwrap_or(1024).max(1024) - 12) & !1;
    let count = data.chunks(size).count();
    let pdu = move |(index, piece)| data_pdu(context, false, index + 1 == count, piece);
    data.chunks(size).enumerate().map(pdu)
}

/// The PDU that carries `data` as one last or not last fragment.
pub(crate) fn data_pdu(context: u8, is_command: bool, is_last: bool, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX - 6);
    let mut bytes = Vec::with_capacity(data.len() + 12);
    bytes.extend([0x04, 0]);
    bytes.extend((length + 6).to_be_bytes());
    bytes.extend((length + 2).to_be_bytes());
    bytes.extend([context, u8::from(is_command) | u8::from(is_last) << 1]);
    bytes.extend(data);
    bytes
}
