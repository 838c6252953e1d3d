//! Public keys as people name them: on the command line and in the site file.

use ed25519_dalek::VerifyingKey;

use crate::output::Failure;

/// Parses the name of a public key: the path of a file that holds one, or the key in hex.
pub(crate) fn public_key(name: &str) -> Result<VerifyingKey, Failure> {
    let text = std::fs::read_to_string(name).unwrap_or_else(|_| name.to_owned());
    parse(text.trim())
        .ok_or_else(|| Failure::new("the key is neither a file with a public key nor one in hex"))
}

/// Parses 64 hex digits as an Ed25519 public key.
fn parse(hex_digits: &str) -> Option<VerifyingKey> {
    let bytes = <[u8; 32]>::try_from(hex::decode(hex_digits).ok()?).ok()?;
    VerifyingKey::from_bytes(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn key() -> VerifyingKey {
        SigningKey::from_bytes(&[7; 32]).verifying_key()
    }

    #[test]
    fn a_key_is_named_by_its_digits_or_by_its_file() {
        let digits = hex::encode(key().as_bytes());
        assert_eq!(public_key(&digits).unwrap(), key());
        let path = std::env::temp_dir().join(format!("isocenter-{}.pub", uuid::Uuid::now_v7()));
        std::fs::write(&path, format!("{digits}\n")).unwrap();
        assert_eq!(public_key(path.to_str().unwrap()).unwrap(), key());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let digits = hex::encode(key().as_bytes());
        for name in
            ["", "xyz", digits.get(2..).unwrap(), &format!("{digits}00"), "/nowhere/trail.pub"]
        {
            assert!(public_key(name).is_err(), "{name}");
        }
        // Thirty-two bytes that are no point of the curve.
        assert!(public_key(&format!("02{}", "00".repeat(31))).is_err());
    }
}
