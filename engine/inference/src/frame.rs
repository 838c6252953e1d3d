//! How the engine and the model's process tell apart what they say: JSON behind its length, four bytes,
//! the lowest first.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most bytes of what is said at once.
pub(crate) const FRAME_BYTES_MAX: u32 = 256 << 20;

/// What is said, ready to be written.
pub(crate) fn written(say: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, say)?;
    let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    if let Some(head) = frame.first_chunk_mut() {
        *head = length.to_le_bytes();
    }
    Ok(frame)
}

/// How many bytes come behind a length.
pub(crate) fn length(head: [u8; 4]) -> io::Result<u64> {
    let length = u32::from_le_bytes(head);
    if length > FRAME_BYTES_MAX {
        Err(io::ErrorKind::InvalidData.into())
    } else {
        Ok(length.into())
    }
}

/// What was said.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> io::Result<T> {
    serde_json::from_slice(json).map_err(io::Error::other)
}
