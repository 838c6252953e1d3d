//! What the site signs of its trail: the form that is signed, and a batch of events (AUD-02).

use ed25519_dalek::{Signature, VerifyingKey};
use encoding::canonical_json::canonical;
use serde::{Deserialize, Serialize};

/// Events that were signed together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SealedBatch {
    /// Its number, without gaps, from 1.
    pub batch: u64,
    /// Its first event.
    pub first_seq: u64,
    /// Its last event.
    pub last_seq: u64,
    /// Merkle root of the hashes (RFC 6962, 2.1), in hex.
    pub root: String,
    /// Hash of the last event, in hex.
    pub last_hash: String,
    /// When it was signed.
    pub sealed_at: String,
    /// Ed25519 over the canonical form of all of the above, in hex.
    pub signature: String,
}

/// The bytes that are signed: everything of `value` but its signature.
pub(crate) fn signed_bytes(value: &impl Serialize) -> Option<Vec<u8>> {
    let mut value = serde_json::to_value(value).ok()?;
    value.as_object_mut()?.remove("signature");
    Some([b"isocenter trail\n".as_slice(), canonical(&value).ok()?.as_bytes()].concat())
}

/// Whether the site with this key has signed it.
pub(crate) fn is_signed(value: &impl Serialize, signature: &str, key: &VerifyingKey) -> bool {
    let bytes = hex::decode(signature).ok().and_then(|it| Signature::from_slice(&it).ok());
    bytes.zip(signed_bytes(value)).is_some_and(|(it, bytes)| key.verify_strict(&bytes, &it).is_ok())
}
