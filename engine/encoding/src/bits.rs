//! Masks with one bit for each voxel: the lowest bit of the first byte is the first voxel (PS3.5,
//! 8.1.1; OUT-11).

/// Packs flags into bits, lowest bit first. Only the end is padded to a whole byte.
pub fn pack(flags: impl IntoIterator<Item = bool>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, flag) in flags.into_iter().enumerate() {
        if index % 8 == 0 {
            bytes.push(0);
        }
        if let Some(last) = bytes.last_mut() {
            *last |= u8::from(flag) << (index % 8);
        }
    }
    bytes
}

/// The `index`th flag. Beyond the end it is unset.
pub fn is_set(bytes: &[u8], index: usize) -> bool {
    bytes.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

/// Number of flags that are set.
pub fn count(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(byte.count_ones())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The golden vector of `standards.md` §9.1: rows 1–2, columns 1–3 of a 4 × 5 mask.
    #[test]
    fn out_11_frames_follow_each_other_without_a_gap() {
        let frame = || (0..20).map(|i| (1..3).contains(&(i / 5)) && (1..4).contains(&(i % 5)));

        assert_eq!(pack(frame()), [0xC0, 0x39, 0x00]);
        assert_eq!(pack(frame().chain(frame())), [0xC0, 0x39, 0x00, 0x9C, 0x03]);
        assert_eq!(count(&pack(frame())), 6);
        assert!(is_set(&pack(frame()), 6) && !is_set(&pack(frame()), 5));
    }
}
