//! DICOM unique identifiers: checked where they are built, and derived where the engine names
//! objects.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest UID, in bytes (PS3.5, 9.1).
const UID_BYTES_MAX: usize = 64;

/// Namespace of the UIDs that the engine derives (RFC 9562, 5.5).
const NAME_SPACE: Uuid = Uuid::from_u128(0x6f2a_8a10_5d0e_4c39_9c58_1f0b_7f3c_21d4);

/// Why a string is not a DICOM UID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a DICOM UID: at most 64 digits and dots, no component with a leading zero")]
pub struct InvalidUid;

/// A UID under `2.25.` that depends on nothing but `parts`: the same parts give the same UID on
/// every attempt and after every crash (PS3.5, B.2; requirement DIN-64).
pub fn derived_uid(parts: &[&str]) -> String {
    // The separator cannot occur in a UID, a node's name or a number.
    let name = parts.join("\u{1f}");
    format!("2.25.{}", Uuid::new_v5(&NAME_SPACE, name.as_bytes()).as_u128())
}

/// Whether a malformed UID can at least be stored and shown: it is short, of printable characters,
/// and no list of values. Equipment gets UIDs wrong, and its images must not be lost for that.
pub fn is_harmless_uid(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    !text.is_empty() && text.len() <= UID_BYTES_MAX && text.bytes().all(is_plain)
}

/// Whether text is a UID as PS3.5, 9.1 defines them.
pub fn is_uid(text: &str) -> bool {
    let is_component = |component: &str| {
        component.bytes().all(|byte| byte.is_ascii_digit())
            && !component.is_empty()
            && (component == "0" || !component.starts_with('0'))
    };
    text.len() <= UID_BYTES_MAX && text.split('.').all(is_component)
}

macro_rules! uid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the UID without padding.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidUid;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                // Peers pad UIDs of odd length with one NUL, some with a space (PS3.5, 9.1).
                let uid = text.trim_end_matches(['\0', ' ']);
                if is_uid(uid) { Ok(Self(uid.to_owned())) } else { Err(InvalidUid) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidUid;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(uid: $name) -> Self {
                uid.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

uid! {
    /// Study Instance UID (0020,000D): identifies a study.
    StudyInstanceUid
}
uid! {
    /// Series Instance UID (0020,000E): identifies a series.
    SeriesInstanceUid
}
uid! {
    /// SOP Instance UID (0008,0018): identifies one object.
    SopInstanceUid
}
uid! {
    /// SOP Class UID (0008,0016): identifies the kind of an object.
    SopClassUid
}
uid! {
    /// Transfer Syntax UID (0002,0010): identifies the encoding of an object.
    TransferSyntaxUid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_26_a_path_is_not_a_uid() {
        assert!("../../etc/passwd".parse::<SopInstanceUid>().is_err());
    }

    #[test]
    fn nul_padding_is_dropped() {
        let uid: StudyInstanceUid = "1.2.840.113619.2\0".parse().unwrap();
        assert_eq!(uid.to_string(), "1.2.840.113619.2");
    }

    #[test]
    fn leading_zeroes_and_empty_components_are_refused() {
        assert!("1.02".parse::<StudyInstanceUid>().is_err());
        assert!("1..2".parse::<StudyInstanceUid>().is_err());
        assert!("".parse::<StudyInstanceUid>().is_err());
    }

    #[test]
    fn din_64_derived_uids_repeat_and_are_valid() {
        let uid = derived_uid(&["run", "node", "0"]);
        assert_eq!(uid, derived_uid(&["run", "node", "0"]));
        assert_ne!(uid, derived_uid(&["run", "node", "1"]));
        assert!(uid.parse::<SopInstanceUid>().is_ok());
    }
}
