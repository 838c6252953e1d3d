//! The beginning of a DICOM file: preamble, prefix and File Meta Information (PS3.10, 7.1).

/// Where and by whom a file was written (DIN-23).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta<'a> {
    /// Media Storage SOP Class UID (0002,0002).
    pub sop_class: &'a str,
    /// Media Storage SOP Instance UID (0002,0003).
    pub sop_instance: &'a str,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax: &'a str,
    /// Sending AE title (0002,0017), also written as source (0002,0016). May be empty.
    pub sending_ae: &'a str,
    /// Receiving AE title (0002,0018). May be empty.
    pub receiving_ae: &'a str,
}

/// Upper bound of the bytes before the data set of a file that the engine has written.
pub const META_BYTES_MAX: u64 = 64 * 1024;

/// Implementation Class UID: names this program in files and associations (DIN-12). Derived once
/// from a random UUID.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.147853229484763842817650937486501287443";

/// Version of this program in files and associations, at most 16 characters.
pub const IMPLEMENTATION_VERSION_NAME: &str = "ISOCENTER_0_1";

impl FileMeta<'_> {
    /// The bytes before the data set. The preamble is all zero (SEC-20).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut group = Vec::new();
        group.extend([0x02, 0, 0x01, 0, b'O', b'B', 0, 0, 2, 0, 0, 0, 0, 1]);
        for (number, vr, value, padding) in [
            (0x02, b"UI", self.sop_class, 0),
            (0x03, b"UI", self.sop_instance, 0),
            (0x10, b"UI", self.transfer_syntax, 0),
            (0x12, b"UI", IMPLEMENTATION_CLASS_UID, 0),
            (0x13, b"SH", IMPLEMENTATION_VERSION_NAME, b' '),
            (0x16, b"AE", self.sending_ae, b' '),
            (0x17, b"AE", self.sending_ae, b' '),
            (0x18, b"AE", self.receiving_ae, b' '),
        ] {
            if value.is_empty() {
                continue;
            }
            let padded = value.len() + value.len() % 2;
            group.extend([0x02, 0, number, 0]);
            group.extend(vr);
            group.extend(u16::try_from(padded).unwrap_or(u16::MAX).to_le_bytes());
            group.extend(value.as_bytes());
            group.resize(group.len() + padded - value.len(), padding);
        }
        let mut bytes = vec![0; 128];
        bytes.extend(b"DICM");
        bytes.extend([0x02, 0, 0x00, 0, b'U', b'L', 4, 0]);
        bytes.extend(u32::try_from(group.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(group);
        bytes
    }
}

/// Splits a file that [`FileMeta::to_bytes`] has begun: where its data set starts, and its transfer
/// syntax. Other files are not read.
pub fn split(file: &[u8]) -> Option<(usize, String)> {
    if file.get(128..132)? != b"DICM" || file.get(132..140)? != [2, 0, 0, 0, b'U', b'L', 4, 0] {
        return None;
    }
    let length: [u8; 4] = file.get(140..144)?.try_into().ok()?;
    let end = 144_usize.checked_add(usize::try_from(u32::from_le_bytes(length)).ok()?)?;
    let group = file.get(144..end)?;
    let at = group.windows(6).position(|it| it == [2, 0, 0x10, 0, b'U', b'I'])?;
    let length = usize::from(u16::from_le_bytes(group.get(at + 6..at + 8)?.try_into().ok()?));
    let syntax = std::str::from_utf8(group.get(at + 8..at + 8 + length)?).ok()?;
    Some((end, syntax.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_20_the_preamble_is_zero_and_the_group_is_whole() {
        let meta = FileMeta {
            sop_class: "1.2.840.10008.5.1.4.1.1.2",
            sop_instance: "1.2.3",
            transfer_syntax: "1.2.840.10008.1.2.1",
            sending_ae: "CT1",
            receiving_ae: "ISOCENTER",
        };
        let bytes = meta.to_bytes();

        assert!(bytes[..128].iter().all(|byte| *byte == 0));
        assert_eq!(split(&bytes), Some((bytes.len(), "1.2.840.10008.1.2.1".to_owned())));
        assert_eq!(bytes.len() % 2, 0);
    }
}
