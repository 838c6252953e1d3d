//! A simulated RIS: sends orders over MLLP.

use encoding::hl7::charset::Hl7Charset;
use hl7::{MllpDestination, MllpError};

use crate::phantom::Phantom;

/// The order that a RIS sends for a phantom: ORM^O01 with the accession number in OBR-18 and the
/// Study Instance UID in ZDS, as IHE Radiology has it.
pub fn order_message(phantom: &Phantom, control_id: &str) -> String {
    let Phantom { patient_id, patient_name, accession, .. } = phantom;
    let study = phantom.study_uid();
    [
        format!("MSH|^~\\&|RIS|HOSP|ISOCENTER|AI|20260102100000||ORM^O01|{control_id}|P|2.3.1"),
        format!("PID|1||{patient_id}^^^^MR||{patient_name}||19700101|O"),
        "PV1|1|O".to_owned(),
        format!("ORC|NW|P-{accession}|F-{accession}||SC"),
        format!(
            "OBR|1|P-{accession}|F-{accession}|24627-2^CT Chest^LN||||||||||||||{accession}|RP1|||||CT|||^^^^^R"
        ),
        format!("ZDS|{study}^100^Application^DICOM"),
    ]
    .join("\r")
}

/// Sends a message to the engine at `address`, and returns MSA-1 of its answer.
///
/// # Errors
///
/// Fails if there is no answer.
pub async fn send_order(address: &str, message: &str) -> Result<String, MllpError> {
    let engine = MllpDestination::new(address.to_owned(), Hl7Charset::Utf8);
    let answer = engine.exchange(message).await?;
    Ok(answer.segment("MSA").map(|it| answer.value(it, 1, 1)).unwrap_or_default())
}
