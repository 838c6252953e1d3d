//! Inflates deflated data sets, and deflates them again (PS3.5, A.5).

use std::io::{self, Read as _, Write as _};

/// Inflates a data set. `None` if it has more than `bytes_max` bytes then (SEC-23).
///
/// # Errors
///
/// Fails if the bytes are not deflated.
pub fn inflated(data: &[u8], bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut inflated = Vec::new();
    let limit = bytes_max.saturating_add(1);
    flate2::read::DeflateDecoder::new(data).take(limit).read_to_end(&mut inflated)?;
    Ok((inflated.len() as u64 <= bytes_max).then_some(inflated))
}

/// Deflates a data set.
///
/// # Errors
///
/// Fails never in practice: the bytes are written to memory.
pub fn deflated(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(data)?;
    let mut packed = out.finish()?;
    // A data set has an even number of bytes (PS3.5, A.5).
    packed.resize(packed.len().next_multiple_of(2), 0);
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_23_what_is_inflated_has_an_upper_bound() {
        let plain = vec![7; 100_000];
        let packed = deflated(&plain).unwrap();
        assert!(packed.len() < 1000 && packed.len().is_multiple_of(2));
        assert_eq!(inflated(&packed, 100_000).unwrap().as_deref(), Some(plain.as_slice()));
        assert_eq!(inflated(&packed, 99_999).unwrap(), None);
        assert!(inflated(b"no deflate", 10).is_err());
    }
}
