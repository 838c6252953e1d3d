//! How far a result may be trusted, in the words of each encoding (OUT-02, HL7-51).

use domain::ResultStatus;

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// Completion Flag (0040,A491).
    pub completion: &'static str,
    /// Verification Flag (0040,A493).
    pub verification: &'static str,
    /// Preliminary Flag (0040,A496).
    pub preliminary: &'static str,
    /// Segment Algorithm Type (0062,0008).
    pub segment_algorithm: &'static str,
    /// OBR-25 and OBX-11.
    pub hl7: &'static str,
    /// Whether the banner has to be shown.
    pub needs_banner: bool,
}

/// What every unsigned result says of itself (OUT-03).
pub const BANNER: &str = "AI-generated - not verified by a physician";

/// The row of a status. Nothing may be sent for one that has none.
pub const fn words(status: ResultStatus) -> Option<Words> {
    let draft = Words {
        completion: "COMPLETE",
        verification: "UNVERIFIED",
        preliminary: "PRELIMINARY",
        segment_algorithm: "AUTOMATIC",
        // Table 0085: results entered, not verified. `P` would say verified.
        hl7: "R",
        needs_banner: true,
    };
    match status {
        ResultStatus::AiDraft => Some(draft),
        ResultStatus::AiPartial => Some(Words { completion: "PARTIAL", ..draft }),
        ResultStatus::HumanEdited => {
            Some(Words { segment_algorithm: "SEMIAUTOMATIC", hl7: "P", ..draft })
        }
        // Signing needs a verifying observer, which no result carries yet.
        ResultStatus::Signed | ResultStatus::Amended | ResultStatus::Withdrawn => None,
    }
}
