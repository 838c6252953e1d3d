//! Reads results and documents: ORU, OUL and MDM (HL7-60, and the table of `standards.md` §2.4).

use std::mem;

use contracts::MessageEffect;
use domain::{
    Circumstances, DocumentAbout, ExchangedDocument, Observation, OrderNumber, PatientId,
};
use jiff::Timestamp;

use crate::files::{Files, Taken};
use crate::groups::PatientGroup;
use crate::message::{Message, Problem, Segment};
use crate::observation::{self, Name, Surroundings};
use crate::order_number::{filler_number, placer_number};
use crate::time::timestamp;

/// The observations or the document of a message about one patient, with the files in it.
///
/// # Errors
///
/// Fails if the number of an order cannot be decoded: a correction would miss what it corrects.
pub(crate) fn document(
    message: &Message,
    groups: &[PatientGroup<'_>],
    patient: Option<PatientId>,
) -> Result<MessageEffect, Problem> {
    let mut document = ExchangedDocument {
        message_type: message.message_type().to_string(),
        about: groups.iter().find_map(|it| it.segment("TXA")).map(|it| about(message, it)),
        ..ExchangedDocument::default()
    };
    let mut files = Files::default();
    for group in groups {
        let mut request = Request::default();
        let surroundings = Surroundings::of(message, &group.segments);
        for (at, segment) in group.segments.iter().enumerate() {
            request.read(message, segment)?;
            if segment.name != "OBX" {
                continue;
            }
            let mut observation = observation(message, segment, &request);
            observation.circumstances = surroundings.circumstances(at, segment);
            // A file under a status without a result is none either.
            if observation.no_result().is_none() {
                match files.take(message, segment) {
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
    }
    document.flags = files.flags();
    document.attachments = files.into_attachments();
    let request = groups.iter().find_map(|it| it.segment("OBR"));
    let accession = request.map(|it| message.value(it, 18, 1)).unwrap_or_default();
    Ok(MessageEffect::Document { patient, document, accession })
}

/// What ORC and OBR say of the observations that follow them.
#[derive(Default)]
struct Request {
    filler: OrderNumber,
    /// That of the ORC before: it stands for the next OBR, if that has none.
    filler_of_control: OrderNumber,
    placer: OrderNumber,
    placer_of_control: OrderNumber,
    /// OBR-18.
    accession: String,
    /// OBR-22: when the results were reported, or changed.
    changed_at: Option<Timestamp>,
}

impl Request {
    fn read(&mut self, message: &Message, segment: &Segment) -> Result<(), Problem> {
        match segment.name.as_str() {
            // In OUL, the ORC of an order comes after its OBR.
            "ORC" if message.msh(9, 1) != "OUL" => {
                self.filler_of_control = filler_number(message, segment)?;
                self.filler = self.filler_of_control.clone();
                self.placer_of_control = placer_number(message, segment);
                self.placer = self.placer_of_control.clone();
                self.accession.clear();
                self.changed_at = None;
            }
            "OBR" => {
                let of_control = mem::take(&mut self.filler_of_control);
                self.filler = of_control.updated(filler_number(message, segment)?);
                let of_control = mem::take(&mut self.placer_of_control);
                self.placer = of_control.updated(placer_number(message, segment));
                self.accession = message.value(segment, 18, 1);
                self.changed_at = timestamp(&message.value(segment, 22, 1));
            }
            _ => {}
        }
        Ok(())
    }
}

fn observation(message: &Message, obx: &Segment, request: &Request) -> Observation {
    let value_type = message.value(obx, 2, 1);
    let Name { code, text: name, scheme } = observation::name(message, obx);
    Observation {
        code,
        name,
        scheme,
        value: observation::value(message, obx, &value_type),
        unit: observation::unit_of(message, obx),
        reference: message.text(obx, 7).trim().to_owned(),
        flag: observation::flags(message, obx),
        status: message.value(obx, 11, 1),
        sub_id: message.value(obx, 4, 1),
        filler: Some(request.filler.clone()).filter(|it| !it.is_empty()),
        placer: Some(request.placer.clone()).filter(|it| !it.is_empty()),
        accession: request.accession.clone(),
        stated_at: request.changed_at.or_else(|| timestamp(&message.msh(7, 1))),
        is_reported: false,
        circumstances: Circumstances::default(),
        value_type,
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
        let effect = document(&message, &groups::patients(&message), None).unwrap();
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

    /// Two quotation marks would be read as a result.
    #[test]
    fn hl7_60_a_null_value_is_no_text() {
        let obx = "OBX|1|ST|5804-0^Protein||\"\"||\"\"||||F\rOBX|2|NM|a||\"\"";
        let found = of("ORU^R01", &format!("OBR|1\r{obx}"));
        let values = found.observations.iter().map(|it| (it.value.as_str(), it.reference.as_str()));
        assert_eq!(values.collect::<Vec<_>>(), [("", ""), ("", "")]);
    }

    /// The numbers of the orders that the observations of a message answer.
    fn fillers(kind: &str, rest: &str) -> Vec<String> {
        let observations = of(kind, rest).observations.into_iter();
        let fillers = observations.map(|it| it.filler.unwrap_or_default());
        fillers.map(|it| it.text()).collect()
    }

    #[test]
    fn hl7_53_an_observation_has_the_whole_number_of_its_order() {
        let two = "OBR|1||F1^LAB\rOBX|1|NM|a\rOBR|2||F2^LAB^1.2.3^ISO\rOBX|1|NM|b";
        assert_eq!(fillers("ORU^R01", two), ["F1^LAB", "F2^LAB^1.2.3^ISO"]);
        let control = "ORC|RE||F1\rOBR|1\rOBX|1|NM|a\rOBR|2\rOBX|1|NM|b";
        assert_eq!(fillers("ORU^R01", control), ["F1", ""]);
        let after = "OBR|1||F1\rORC|RE||F1\rOBX|1|NM|a\rOBR|2\rOBX|1|NM|b";
        assert_eq!(fillers("OUL^R22", after), ["F1", ""]);
        assert_eq!(fillers("ORU^R01", "OBX|1|NM|a"), [""]);
        // The authority that one of the two segments names, and subcomponents in its place.
        let once = "ORC|RE||F1^LAB\rOBR|1||F1\rOBX|1|NM|a";
        assert_eq!(fillers("ORU^R01", once), ["F1^LAB"]);
        let nested = "OBR|1||F1^LAB&1.2.3&ISO\rOBX|1|NM|a";
        assert_eq!(fillers("ORU^R01", nested), ["F1^LAB^1.2.3^ISO"]);
    }

    #[test]
    fn hl7_64_an_observation_has_the_numbers_of_its_order() {
        let orders = |rest: &str| {
            let all = of("ORU^R01", rest).observations.into_iter().map(|it| it.order());
            all.map(|it| [it.placer.text(), it.filler.text(), it.accession]).collect::<Vec<_>>()
        };
        let two = "ORC|RE|P1^EHR|F1\rOBR|1|P1|F1|||||||||||||||A1\rOBX|1|NM|a\r\
            OBR|2|P2|F2\rOBX|1|NM|b";
        assert_eq!(orders(two), [["P1^EHR", "F1", "A1"], ["P2", "F2", ""]]);
        assert_eq!(orders("OBX|1|NM|a"), [["", "", ""]]);
    }

    /// Under another number, a withdrawal would withdraw nothing.
    #[test]
    fn hl7_53_a_number_that_cannot_be_decoded_is_refused() {
        let header = b"MSH|^~\\&|RIS|H|ISO|H|20260101||ORU^R01|M1|P|2.5.1\rOBR|1||F";
        let bytes = [header.as_slice(), b"\xff1\rOBX|1|NM|a||1||||||W"].concat();
        let message = Message::parse(&bytes, Hl7Charset::Utf8).unwrap();
        let problem = document(&message, &groups::patients(&message), None).unwrap_err();
        assert_eq!(problem.location, "OBR^1^3");
    }

    #[test]
    fn hl7_53_an_observation_is_of_the_time_of_its_last_change() {
        let changed = "OBR|1||F1|||||||||||||||||||20260103121500+0000\rOBX|1|NM|a";
        let stated = of("ORU^R01", changed).observations[0].stated_at;
        assert_eq!(stated.unwrap().to_string(), "2026-01-03T12:15:00Z");
        // MSH-7 is a date alone here.
        assert_eq!(of("ORU^R01", "OBR|1||F1\rOBX|1|NM|a").observations[0].stated_at, None);
    }
}
