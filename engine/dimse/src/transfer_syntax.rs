//! Which transfer syntax is chosen from those that a peer proposes for a presentation context.
//!
//! The engine never transcodes what it receives: the choice decides how an instance is stored.

/// Explicit VR Little Endian (PS3.5, A.2).
pub(crate) const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";

/// Implicit VR Little Endian, which every peer can send (PS3.5, A.1).
pub(crate) const IMPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";

/// Prefix of all transfer syntaxes of the standard (PS3.6, Table A-1).
const TRANSFER_SYNTAX_ROOT: &str = "1.2.840.10008.1.2";

/// Compressed without loss (PS3.5, Clause 10): chosen first, since the peer need not decompress
/// (DIN-05).
pub(crate) const LOSSLESS: &[&str] = &[
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.92",
    "1.2.840.10008.1.2.4.110",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.1.99",
];

/// How a service chooses among the transfer syntaxes proposed for one presentation context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferSyntaxChoice {
    /// Explicit, else Implicit VR Little Endian: for data sets that the engine reads itself.
    Uncompressed,
    /// The first proposed without loss, else Explicit, else Implicit VR Little Endian, else the
    /// first of the standard: for data sets that are stored as they come (DIN-05).
    LosslessFirst,
}

impl TransferSyntaxChoice {
    /// The one transfer syntax to accept, or nothing if none of those proposed is accepted.
    pub(crate) fn choose(self, proposed: &[String]) -> Option<&str> {
        let proposed: Vec<&str> = proposed.iter().map(|it| it.trim_end_matches('\0')).collect();
        let uncompressed = [EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN]
            .into_iter()
            .find_map(|wanted| proposed.iter().copied().find(|it| *it == wanted));
        match self {
            Self::Uncompressed => uncompressed,
            Self::LosslessFirst => proposed
                .iter()
                .copied()
                .find(|it| LOSSLESS.contains(it))
                .or(uncompressed)
                .or_else(|| proposed.iter().copied().find(|it| is_of_standard(it))),
        }
    }
}

fn is_of_standard(transfer_syntax: &str) -> bool {
    transfer_syntax
        .strip_prefix(TRANSFER_SYNTAX_ROOT)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
