//! Reads results and documents: ORU, OUL and MDM (HL7-60, and the table of `standards.md` §2.4).

use contracts::MessageEffect;
use domain::{DocumentAbout, ExchangedDocument, Observation, PatientId};

use crate::files::{Files, Taken};
use crate::groups::PatientGroup;
use crate::message::{Message, Segment};

/// The observations or the document of a message about one patient, with the files in it.
pub(crate) fn document(
    message: &Message,
    groups: &[PatientGroup<'_>],
    patient: Option<PatientId>,
) -> MessageEffect {
    let mut document = ExchangedDocument {
        message_type: message.message_type().to_string(),
        about: groups.iter().find_map(|it| it.segment("TXA")).map(|it| about(message, it)),
        ..ExchangedDocument::default()
    };
    let mut files = Files::default();
    for obx in groups.iter().flat_map(|it| it.named("OBX")) {
        let mut observation = observation(message, obx);
        // A file under a status without a result is none either.
        if observation.no_result().is_none() {
            match files.take(message, obx) {
                Taken::Nothing => {}
                Taken::File => {
                    // Files travel beside the table, not in it.
                    "ED".clone_into(&mut observation.value_type);
                    observation.value.clear();
                }
                Taken::Piece => continue,
            }
        }
        document.observations.push(observation);
    }
    document.flags = files.flags();
    document.attachments = files.into_attachments();
    let request = groups.iter().find_map(|it| it.segment("OBR"));
    let accession = request.map(|it| message.value(it, 18, 1)).unwrap_or_default();
    MessageEffect::Document { patient, document, accession }
}

fn observation(message: &Message, obx: &Segment) -> Observation {
    let either = |field, first, second| {
        let value = message.value(obx, field, first);
        if value.is_empty() { message.value(obx, field, second) } else { value }
    };
    let value_type = message.value(obx, 2, 1);
    Observation {
        code: either(3, 1, 4),
        name: either(3, 2, 5),
        scheme: either(3, 3, 6),
        value: observed(message, obx, &value_type),
        unit: either(6, 1, 2),
        reference: message.text(obx, 7).trim().to_owned(),
        flag: message.value(obx, 8, 1),
        status: message.value(obx, 11, 1),
        value_type,
    }
}

/// OBX-5 as text, by its type (HL7-60).
fn observed(message: &Message, obx: &Segment, value_type: &str) -> String {
    match value_type {
        // Comparator, first number, separator, second number (2.A.70).
        "SN" => (1..=4).map(|number| message.value(obx, 5, number)).collect(),
        "CE" | "CWE" | "CNE" | "CF" => {
            let text = message.value(obx, 5, 2);
            if text.is_empty() { message.value(obx, 5, 1) } else { text }
        }
        "ED" | "RP" => String::new(),
        _ => message.text(obx, 5).trim().to_owned(),
    }
}

fn about(message: &Message, txa: &Segment) -> DocumentAbout {
    let value = |field| message.value(txa, field, 1);
    DocumentAbout {
        kind: value(2),
        number: value(12),
        parent: value(13),
        completion: value(17),
        availability: value(19),
    }
}

#[cfg(test)]
mod tests {
    use encoding::hl7::charset::Hl7Charset;

    use super::*;
    use crate::groups;

    fn of(kind: &str, rest: &str) -> ExchangedDocument {
        let text = format!("MSH|^~\\&|RIS|H|ISO|H|20260101||{kind}|M1|P|2.5.1\r{rest}");
        let message = Message::parse(text.as_bytes(), Hl7Charset::Utf8).unwrap();
        let effect = document(&message, &groups::patients(&message), None);
        let MessageEffect::Document { document, .. } = effect else { panic!() };
        document
    }

    #[test]
    fn a_file_is_found_however_its_type_is_written() {
        for ed in [
            "^application^pdf^Base64^JVBERi0=",
            "^AP^PDF^Base64^JVBERi0=",
            "^TEXT^PDF^Base64^JVBERi0=",
            "^^application/pdf^BASE64^JVBERi0=",
        ] {
            let found = of("MDM^T02", &format!("TXA|1|DI\rOBX|1|ED|18748-4^Report^LN||{ed}"));
            let [file] = found.attachments.as_slice() else { panic!("{ed}") };
            assert_eq!(
                (file.media_type.as_str(), file.base64.as_str()),
                ("application/pdf", "JVBERi0=")
            );
        }
    }

    #[test]
    fn a_document_says_what_it_is() {
        let txa = "TXA|1|DI|FT|||||||||DOC7^X|DOC6^X||||LA||AV";
        let about = of("MDM^T10", &format!("{txa}\rOBX|1|TX|a||Text")).about.unwrap();
        assert_eq!((about.number.as_str(), about.parent.as_str()), ("DOC7", "DOC6"));
        assert_eq!((about.completion.as_str(), about.availability.as_str()), ("LA", "AV"));
    }

    /// A PDF as an observation of text would go to the EHR as two kilobytes of result.
    #[test]
    fn hl7_60_the_text_of_a_file_is_no_value() {
        let pdf = "JVBERi0x".repeat(10);
        let obx = format!("OBX|1|TX|PDF^Report^L||{pdf}||||||F");
        let found = of("ORU^R01", &format!("OBR|1\r{obx}\rOBX|2|NM|a||1"));
        let values: Vec<&str> = found.observations.iter().map(|it| it.value.as_str()).collect();
        assert_eq!((values, found.attachments.len()), (vec!["", "1"], 1));
        assert_eq!(found.observations[0].value_type, "ED");
        assert_eq!(found.flags, [domain::MessageFlag::DocumentAsText]);
    }

    /// What workflows count: a pointer is neither a result nor a file.
    #[test]
    fn hl7_60_a_pointer_to_a_document_is_not_counted_as_a_result() {
        let pointer = "OBX|1|RP|PDF^Report^L||server/report.pdf^LAB^application^pdf||||||F";
        let found = of("ORU^R01", &format!("OBR|1\r{pointer}"));
        assert_eq!((found.observations.len(), found.reported().count()), (1, 0));
    }

    #[test]
    fn hl7_60_a_file_under_a_status_without_a_result_is_not_taken() {
        let obx = "OBX|1|ED|18748-4^Report^LN||^application^pdf^Base64^JVBERi0=||||||";
        assert_eq!(of("ORU^R01", &format!("OBR|1\r{obx}F")).attachments.len(), 1);
        let withdrawn = of("ORU^R01", &format!("OBR|1\r{obx}W"));
        assert_eq!(withdrawn.attachments, []);
        assert_eq!(withdrawn.observations[0].status, "W");
    }
}
