//! Framing of the messages between engine and host process: JSON behind its length, which is four
//! bytes in little-endian order.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The maximum size of a message: a request with all its pictures fits.
pub(crate) const FRAME_BYTES_MAX: u32 = 256 << 20;

/// Encodes a message with its length in front.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    if let Some(header) = frame.first_chunk_mut() {
        *header = length.to_le_bytes();
    }
    Ok(frame)
}

/// Reads the length of the JSON that follows a header.
pub(crate) fn payload_length(header: [u8; 4]) -> io::Result<u64> {
    let length = u32::from_le_bytes(header);
    if length > FRAME_BYTES_MAX {
        Err(io::ErrorKind::InvalidData.into())
    } else {
        Ok(length.into())
    }
}

/// Decodes the JSON of a message.
pub(crate) fn decode<T: DeserializeOwned>(json: &[u8]) -> io::Result<T> {
    serde_json::from_slice(json).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_encoding_and_a_length_beyond_the_limit_is_refused() {
        let frame = encode(&["a", "b"]).unwrap();
        let (header, json) = frame.split_first_chunk::<4>().unwrap();
        assert_eq!(payload_length(*header).unwrap(), json.len() as u64);
        assert_eq!(decode::<Vec<String>>(json).unwrap(), ["a", "b"]);
        assert!(payload_length((FRAME_BYTES_MAX + 1).to_le_bytes()).is_err());
        assert!(decode::<Vec<String>>(b"[1]").is_err());
    }
}
