//! What a site says about the numbers of its patients and orders.

use domain::ACCESSION_MAX;

use crate::patient::identity::IdentityDomains;

/// What a site says about the numbers of its patients and orders.
#[derive(Clone, Debug)]
pub struct Numbering {
    /// Who issues patient identifiers.
    pub domains: IdentityDomains,
    /// How images carry an accession number that is too long for them.
    pub long_accession: LongAccession,
}

/// How images carry an accession number that is longer than an attribute of DICOM may be (HL7-41).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongAccession {
    /// The site says nothing: only whole numbers are compared.
    #[default]
    Unknown,
    /// Its first sixteen characters.
    First,
    /// Its last sixteen characters.
    Last,
}

impl Numbering {
    /// Identifiers of these domains, and no rule for long accession numbers.
    pub const fn new(domains: IdentityDomains) -> Self {
        Self { domains, long_accession: LongAccession::Unknown }
    }
}

impl LongAccession {
    /// What images carry of a long accession number; empty for one that they carry whole, and where
    /// the site says nothing.
    pub(crate) fn in_images(self, accession: &str) -> String {
        let length = accession.chars().count();
        let excess = length.saturating_sub(ACCESSION_MAX);
        if excess == 0 {
            return String::new();
        }
        let cut: String = match self {
            Self::Unknown => return String::new(),
            Self::First => accession.chars().take(ACCESSION_MAX).collect(),
            Self::Last => accession.chars().skip(excess).collect(),
        };
        cut.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hl7_41_a_long_accession_number_is_cut_as_the_site_says() {
        let long = "RIS-2026-0000012345";
        assert_eq!(LongAccession::First.in_images(long), "RIS-2026-0000012");
        assert_eq!(LongAccession::Last.in_images(long), "-2026-0000012345");
        assert_eq!(LongAccession::Unknown.in_images(long), "");
        assert_eq!(LongAccession::First.in_images("2026-00000012345"), "");
        assert_eq!(LongAccession::Last.in_images(""), "");
    }
}
