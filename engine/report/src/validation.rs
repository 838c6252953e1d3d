//! Reads every output back before it is sent. What fails is not sent, and goes to a person.

use contracts::Output;
use domain::OutputKind;

use crate::{dicom, fhir, hl7};

/// The problems of an output. Empty, if it may be sent.
pub(crate) fn problems(output: &Output) -> Vec<String> {
    let problems = match output.kind {
        OutputKind::Seg
        | OutputKind::Sr
        | OutputKind::Narrative
        | OutputKind::Reasoning
        | OutputKind::Pr
        | OutputKind::Sc
        | OutputKind::Pdf
        | OutputKind::Rejection => dicom::validation::problems(output),
        OutputKind::Oru => hl7::validation::problems(output, &["PID", "OBR", "OBX"]),
        OutputKind::Mdm => hl7::validation::problems(output, &["EVN", "PID", "PV1", "TXA"]),
        OutputKind::Fhir => fhir::validation::problems(output),
        // An image is passed on as it was received; JSON is written by the serializer alone.
        OutputKind::Json | OutputKind::Images => Vec::new(),
    };
    problems.into_iter().map(|problem| format!("{}: {problem}", output.kind.name())).collect()
}
