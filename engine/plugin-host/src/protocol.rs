//! What the engine and a child say to each other, on a unix socket.
//!
//! A frame is two lengths of 32 bits, lowest byte first, then that many bytes of JSON and of
//! anything. The engine asks, the child answers; while it works it may say more in between.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use domain::{NodeInput, SopInstanceUid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest JSON of a frame.
pub const JSON_BYTES_MAX: u32 = 64 << 20;

/// Longest attachment of a frame: the mask of a whole body.
pub const BLOB_BYTES_MAX: u32 = 1 << 30;

/// What the engine asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// Are these settings good?
    Check {
        /// What a workflow sets under `with:`.
        settings: Value,
    },
    /// Work on this.
    Process {
        /// What a workflow sets under `with:`.
        settings: Value,
        /// What to work on.
        input: Box<NodeInput>,
        /// Where the instances of the input lie.
        files: BTreeMap<SopInstanceUid, PathBuf>,
    },
    /// The model has answered, or says why not.
    Inferred {
        /// A status of the contract.
        status: u32,
        /// Answer or reason.
        body: String,
    },
    /// Stop working on it.
    Cancel,
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Say {
    /// This is a plugin, and this is which.
    Ready {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
    /// This cannot be loaded.
    Unusable {
        /// Why.
        reason: String,
    },
    /// These settings are good, or not.
    Checked {
        /// What is wrong.
        problem: Option<String>,
    },
    /// A line for the log.
    Log {
        /// 1 error, 2 warning, 3 information, 4 detail.
        level: u32,
        /// The line.
        message: String,
    },
    /// Keep what is attached.
    Artifact,
    /// Ask the model what is attached.
    Infer,
    /// The work has ended.
    Done {
        /// A status of the contract.
        status: u32,
        /// Output or reason.
        body: String,
    },
}

/// The header of a frame.
///
/// # Errors
///
/// Fails if a part is longer than it may be.
pub fn header(json: &[u8], blob: &[u8]) -> io::Result<[u8; 8]> {
    let length = |bytes: &[u8], limit: u32| {
        u32::try_from(bytes.len()).ok().filter(|it| *it <= limit).ok_or(io::ErrorKind::InvalidData)
    };
    let [a, b, c, d] = length(json, JSON_BYTES_MAX)?.to_le_bytes();
    let [e, f, g, h] = length(blob, BLOB_BYTES_MAX)?.to_le_bytes();
    Ok([a, b, c, d, e, f, g, h])
}

/// The lengths in a header.
///
/// # Errors
///
/// Fails if they are not within their limits.
pub fn lengths(header: [u8; 8]) -> io::Result<(u32, u32)> {
    let [a, b, c, d, e, f, g, h] = header;
    let (json, blob) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    if json > JSON_BYTES_MAX || blob > BLOB_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((json, blob))
}

/// Writes a frame.
///
/// # Errors
///
/// Fails if `out` does, or a part is too long.
pub fn write_frame(out: &mut impl Write, what: &impl Serialize, blob: &[u8]) -> io::Result<()> {
    let json = serde_json::to_vec(what).map_err(io::Error::other)?;
    out.write_all(&header(&json, blob)?)?;
    out.write_all(&json)?;
    out.write_all(blob)
}

/// Reads a frame, and steps over what is attached.
///
/// # Errors
///
/// Fails if `source` does or ends, or what it says is not understood.
pub fn read_frame<T: DeserializeOwned>(source: &mut impl Read) -> io::Result<T> {
    let mut header = [0; 8];
    source.read_exact(&mut header)?;
    let (json, blob) = lengths(header)?;
    let mut text = Vec::new();
    source.take(json.into()).read_to_end(&mut text)?;
    io::copy(&mut source.take(blob.into()), &mut io::sink())?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}
