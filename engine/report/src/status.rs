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
    /// OBR-25.
    pub order: &'static str,
    /// OBX-11.
    pub observation: &'static str,
    /// TXA-17.
    pub document: &'static str,
    /// `DiagnosticReport.status`.
    pub report: &'static str,
    /// `Observation.status`.
    pub fhir_observation: &'static str,
    /// Whether the banner has to be shown.
    pub needs_banner: bool,
    /// Whether it is no result any more, only the word that there was one.
    pub is_void: bool,
}

impl Words {
    /// A Series Description that says who made it (OUT-03).
    pub fn series(&self, description: &str) -> String {
        let prefix = if self.needs_banner { "AI: " } else { "" };
        format!("{prefix}{description}")
    }
}

/// What every unsigned result says of itself (OUT-03).
pub const BANNER: &str = "AI-generated - not verified by a physician";

/// What stands in the place of a result that was taken back.
pub const VOID: &str = "This result was taken back and is not to be used";

/// The row of a status.
pub const fn words(status: ResultStatus) -> Words {
    let draft = Words {
        completion: "COMPLETE",
        verification: "UNVERIFIED",
        preliminary: "PRELIMINARY",
        // Tables 0123 and 0085: results entered, not verified. `P` would say verified.
        order: "R",
        observation: "R",
        document: "DO",
        report: "preliminary",
        fhir_observation: "preliminary",
        needs_banner: true,
        is_void: false,
    };
    let signed = Words {
        verification: "VERIFIED",
        preliminary: "FINAL",
        order: "F",
        observation: "F",
        document: "LA",
        report: "final",
        fhir_observation: "final",
        needs_banner: false,
        ..draft
    };
    match status {
        ResultStatus::AiDraft => draft,
        ResultStatus::AiPartial => {
            Words { completion: "PARTIAL", document: "IN", report: "partial", ..draft }
        }
        ResultStatus::HumanEdited => Words { order: "P", observation: "P", ..draft },
        ResultStatus::Signed => signed,
        ResultStatus::Amended => Words {
            order: "C",
            observation: "C",
            report: "amended",
            fhir_observation: "amended",
            ..signed
        },
        ResultStatus::Withdrawn => Words {
            order: "X",
            observation: "W",
            report: "entered-in-error",
            fhir_observation: "entered-in-error",
            is_void: true,
            ..draft
        },
    }
}
