//! The messages between the engine and a plugin's process, and their frames on a Unix socket.
//!
//! A frame is a header of two lengths of 32 bits in little-endian order, then that many bytes of
//! JSON and that many bytes of an attachment. The engine sends [`HostMessage`]s, one request at a
//! time; the plugin answers with [`PluginMessage`]s, and may send log lines, artifacts and
//! questions for the shared model while it works on a node.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use domain::{NodeInput, SopInstanceUid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Upper bound of the JSON of a frame, in bytes.
pub const JSON_BYTES_MAX: u32 = 64 << 20;

/// Upper bound of the attachment of a frame, in bytes: the mask of a whole body.
pub const ATTACHMENT_BYTES_MAX: u32 = 1 << 30;

/// Length of a header, in bytes.
pub const HEADER_BYTES: usize = 8;

/// A message of the engine to a plugin.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HostMessage {
    /// A request to check settings. The plugin answers with [`PluginMessage::Checked`].
    Check {
        /// The settings under `with:` of a workflow.
        settings: Value,
    },
    /// A request to work on a node. The plugin answers with [`PluginMessage::Done`].
    Process {
        /// The settings under `with:` of a workflow.
        settings: Value,
        /// The data of the node.
        input: Box<NodeInput>,
        /// Paths of the files of the input's instances.
        files: BTreeMap<SopInstanceUid, PathBuf>,
    },
    /// The response to [`PluginMessage::Infer`].
    Inferred {
        /// A status of the contract.
        status: u32,
        /// The answer as JSON, a `plugin_api::Rejection` as JSON, or a text for people, by status.
        body: String,
    },
    /// A request to end the running call of `process` soon.
    Cancel,
}

/// A message of a plugin to the engine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PluginMessage {
    /// The plugin is loaded. Sent once, first.
    Ready {
        /// Name of the plugin.
        name: String,
        /// Version of the plugin.
        version: String,
    },
    /// The plugin cannot be loaded. Sent once, instead of [`PluginMessage::Ready`].
    Unusable {
        /// The reason, for people.
        reason: String,
    },
    /// The response to [`HostMessage::Check`].
    Checked {
        /// The problem with the settings; nothing if they are valid.
        problem: Option<String>,
    },
    /// A line for the log.
    Log {
        /// Severity: 1 error, 2 warning, 3 information, 4 detail.
        level: u32,
        /// The text of the line.
        message: String,
    },
    /// A request to store the attachment.
    Artifact,
    /// A question for the shared model, in the attachment. The engine answers with
    /// [`HostMessage::Inferred`].
    Infer,
    /// The response to [`HostMessage::Process`].
    Done {
        /// A status of the contract.
        status: u32,
        /// The output as JSON, a `plugin_api::Rejection` as JSON, or a text for people, by status.
        body: String,
    },
}

/// The lengths in the header of a frame, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLengths {
    /// Length of the JSON, at most [`JSON_BYTES_MAX`].
    pub json: u32,
    /// Length of the attachment, at most [`ATTACHMENT_BYTES_MAX`].
    pub attachment: u32,
}

impl FrameLengths {
    /// The lengths of a frame of these parts.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] if a part is longer than its upper bound.
    pub fn of(json: &[u8], attachment: &[u8]) -> io::Result<Self> {
        Ok(Self {
            json: bounded_length(json, JSON_BYTES_MAX)?,
            attachment: bounded_length(attachment, ATTACHMENT_BYTES_MAX)?,
        })
    }

    /// Decodes a header.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] if a length is beyond its upper bound: nothing is allocated
    /// for such a frame.
    pub fn decode(header: [u8; HEADER_BYTES]) -> io::Result<Self> {
        let [a, b, c, d, e, f, g, h] = header;
        let lengths = Self {
            json: u32::from_le_bytes([a, b, c, d]),
            attachment: u32::from_le_bytes([e, f, g, h]),
        };
        if lengths.json > JSON_BYTES_MAX || lengths.attachment > ATTACHMENT_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(lengths)
    }

    /// Encodes the header.
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.json.to_le_bytes();
        let [e, f, g, h] = self.attachment.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

fn bounded_length(bytes: &[u8], bytes_max: u32) -> io::Result<u32> {
    let length = u32::try_from(bytes.len()).ok().filter(|it| *it <= bytes_max);
    length.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Writes a frame of a message and its attachment.
///
/// # Errors
///
/// Fails if `writer` fails, or if a part is beyond its upper bound.
pub fn write_frame(
    writer: &mut impl Write,
    message: &impl Serialize,
    attachment: &[u8],
) -> io::Result<()> {
    let json = serde_json::to_vec(message).map_err(io::Error::other)?;
    writer.write_all(&FrameLengths::of(&json, attachment)?.encode())?;
    writer.write_all(&json)?;
    writer.write_all(attachment)
}

/// Reads the message of a frame, and discards its attachment.
///
/// # Errors
///
/// Fails if `reader` fails or ends within the frame, or if the message cannot be parsed.
pub fn read_frame<T: DeserializeOwned>(reader: &mut impl Read) -> io::Result<T> {
    let mut header = [0; HEADER_BYTES];
    reader.read_exact(&mut header)?;
    let lengths = FrameLengths::decode(header)?;
    let mut json = Vec::new();
    reader.take(lengths.json.into()).read_to_end(&mut json)?;
    io::copy(&mut reader.take(lengths.attachment.into()), &mut io::sink())?;
    serde_json::from_slice(&json).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn frame(message: &impl Serialize, attachment: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, message, attachment).unwrap();
        bytes
    }

    #[test]
    fn a_frame_is_two_little_endian_lengths_then_json_then_the_attachment() {
        let bytes = frame(&HostMessage::Cancel, b"xyz");
        assert_eq!(bytes[..8], [17, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(&bytes[8..25], br#"{"type":"cancel"}"#);
        assert_eq!(&bytes[25..], b"xyz");
    }

    #[test]
    fn frames_are_read_one_after_the_other_and_attachments_are_skipped() {
        let mut bytes = frame(&PluginMessage::Artifact, &[7; 1000]);
        bytes.extend(frame(&PluginMessage::Checked { problem: Some("no".to_owned()) }, &[]));
        let mut reader = bytes.as_slice();
        assert!(matches!(read_frame(&mut reader).unwrap(), PluginMessage::Artifact));
        let second = read_frame(&mut reader).unwrap();
        assert!(matches!(second, PluginMessage::Checked { problem: Some(it) } if it == "no"));
        assert!(reader.is_empty());
    }

    #[test]
    fn sec_24_a_header_beyond_the_bounds_is_refused_before_anything_is_read() {
        for (json, attachment) in
            [(JSON_BYTES_MAX + 1, 0), (0, ATTACHMENT_BYTES_MAX + 1), (u32::MAX, u32::MAX)]
        {
            let header = FrameLengths { json, attachment }.encode();
            let error = FrameLengths::decode(header).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let widest = FrameLengths { json: JSON_BYTES_MAX, attachment: ATTACHMENT_BYTES_MAX };
        assert_eq!(FrameLengths::decode(widest.encode()).unwrap(), widest);
    }

    #[test]
    fn a_frame_that_ends_early_is_an_error() {
        let whole = frame(&HostMessage::Check { settings: json!({"a": 1}) }, &[]);
        for length in [0, 7, 8, whole.len() - 1] {
            let outcome = read_frame::<HostMessage>(&mut &whole[..length]);
            assert!(outcome.is_err(), "{length} of {} bytes", whole.len());
        }
    }

    #[test]
    fn a_message_of_another_type_is_an_error() {
        let bytes = frame(&json!({"type": "shout"}), &[]);
        assert!(read_frame::<HostMessage>(&mut bytes.as_slice()).is_err());
        assert!(read_frame::<PluginMessage>(&mut bytes.as_slice()).is_err());
        let other_side = frame(&HostMessage::Cancel, &[]);
        assert!(read_frame::<PluginMessage>(&mut other_side.as_slice()).is_err());
    }
}
