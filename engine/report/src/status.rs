//! How far a result may be trusted, in the codes of each encoding (OUT-02, HL7-51).

use domain::ResultStatus;

/// The codes of one status: a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusCodes {
    /// Completion Flag (0040,A491).
    pub completion: &'static str,
    /// Verification Flag (0040,A493).
    pub verification: &'static str,
    /// Preliminary Flag (0040,A496).
    pub preliminary: &'static str,
    /// OBR-25: the status of the report (table 0123).
    pub order: &'static str,
    /// OBX-11: the status of each observation (table 0085).
    pub observation: &'static str,
    /// TXA-17: the status of the document (table 0271).
    pub document: &'static str,
    /// `DiagnosticReport.status`.
    pub fhir_report: &'static str,
    /// `Observation.status`.
    pub fhir_observation: &'static str,
    /// Whether a node failed, so that findings may be missing.
    pub is_partial: bool,
    /// Whether every output shows [`BANNER`].
    pub needs_banner: bool,
    /// Whether the result was withdrawn: outputs state only that there was one.
    pub is_withdrawn: bool,
}

/// The banner of every unsigned result (OUT-03).
pub const BANNER: &str = "AI-generated - not verified by a physician";

/// The text in place of a result that was withdrawn.
pub const WITHDRAWAL_NOTICE: &str = "This result was taken back and is not to be used";

/// The codes of a result that a machine has made and nobody has verified.
const DRAFT: StatusCodes = StatusCodes {
    completion: "COMPLETE",
    verification: "UNVERIFIED",
    preliminary: "PRELIMINARY",
    // Tables 0123 and 0085: results entered, not verified. `P` would state that they are.
    order: "R",
    observation: "R",
    document: "DO",
    fhir_report: "preliminary",
    fhir_observation: "preliminary",
    is_partial: false,
    needs_banner: true,
    is_withdrawn: false,
};

/// The codes of a result that a person has signed.
const SIGNED: StatusCodes = StatusCodes {
    verification: "VERIFIED",
    preliminary: "FINAL",
    order: "F",
    observation: "F",
    document: "LA",
    fhir_report: "final",
    fhir_observation: "final",
    needs_banner: false,
    ..DRAFT
};

impl StatusCodes {
    /// The row of a status.
    pub const fn of(status: ResultStatus) -> Self {
        match status {
            ResultStatus::AiDraft => DRAFT,
            ResultStatus::AiPartial => Self {
                completion: "PARTIAL",
                document: "IN",
                fhir_report: "partial",
                is_partial: true,
                ..DRAFT
            },
            ResultStatus::HumanEdited => Self { order: "P", observation: "P", ..DRAFT },
            ResultStatus::Signed => SIGNED,
            ResultStatus::Amended => Self {
                order: "C",
                observation: "C",
                fhir_report: "amended",
                fhir_observation: "amended",
                ..SIGNED
            },
            ResultStatus::Withdrawn => Self {
                order: "X",
                observation: "W",
                fhir_report: "entered-in-error",
                fhir_observation: "entered-in-error",
                is_withdrawn: true,
                ..DRAFT
            },
        }
    }

    /// Whether a person has verified the result.
    pub const fn is_verified(&self) -> bool {
        !self.needs_banner
    }

    /// A Series Description which states that a machine made the series (OUT-03).
    pub fn series_description(&self, description: &str) -> String {
        let prefix = if self.needs_banner { "AI: " } else { "" };
        format!("{prefix}{description}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ResultStatus; 6] = [
        ResultStatus::AiDraft,
        ResultStatus::AiPartial,
        ResultStatus::HumanEdited,
        ResultStatus::Signed,
        ResultStatus::Amended,
        ResultStatus::Withdrawn,
    ];

    #[test]
    fn out_03_only_what_a_person_has_signed_goes_without_a_banner() {
        for status in ALL {
            let codes = StatusCodes::of(status);
            let is_signed = matches!(status, ResultStatus::Signed | ResultStatus::Amended);
            assert_eq!(!codes.needs_banner, is_signed, "{status:?}");
            assert_eq!(codes.is_verified(), is_signed, "{status:?}");
            assert_eq!(codes.verification == "VERIFIED", is_signed, "{status:?}");
            assert_eq!(codes.preliminary == "FINAL", is_signed, "{status:?}");
        }
    }

    #[test]
    fn hl7_51_obr_25_and_obx_11_never_state_verification_of_a_draft() {
        for status in ALL {
            let StatusCodes { order, observation, needs_banner, .. } = StatusCodes::of(status);
            let is_final = ["F", "C"].contains(&order) || ["F", "C"].contains(&observation);
            assert!(!(needs_banner && is_final), "{status:?}: {order} {observation}");
        }
        let edited = StatusCodes::of(ResultStatus::HumanEdited);
        assert_eq!((edited.order, edited.observation), ("P", "P"));
    }

    #[test]
    fn out_02_a_failed_node_shows_in_completion_document_and_report() {
        let partial = StatusCodes::of(ResultStatus::AiPartial);
        assert_eq!(partial.completion, "PARTIAL");
        assert_eq!(partial.document, "IN");
        assert_eq!(partial.fhir_report, "partial");
        let complete = ALL.iter().filter(|it| **it != ResultStatus::AiPartial);
        assert!(complete.map(|it| StatusCodes::of(*it)).all(|it| it.completion == "COMPLETE"));
    }

    #[test]
    fn out_02_a_withdrawn_result_is_an_error_in_every_encoding() {
        let withdrawn = StatusCodes::of(ResultStatus::Withdrawn);
        assert!(withdrawn.is_withdrawn);
        assert_eq!((withdrawn.order, withdrawn.observation), ("X", "W"));
        assert_eq!(withdrawn.fhir_report, "entered-in-error");
        assert_eq!(withdrawn.fhir_observation, "entered-in-error");
    }

    #[test]
    fn a_series_of_a_machine_is_named_as_one() {
        let draft = StatusCodes::of(ResultStatus::AiDraft);
        assert_eq!(draft.series_description("report"), "AI: report");
        let signed = StatusCodes::of(ResultStatus::Signed);
        assert_eq!(signed.series_description("report"), "report");
    }
}
