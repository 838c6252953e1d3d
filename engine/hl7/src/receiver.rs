//! Decides whether a message is accepted, and which effects it has (HL7-10, HL7-11).

use std::sync::Arc;

use contracts::{AuthoritiesAsWritten, MessageEffect, PatientAuthorities};
use domain::MessageFlag;
use encoding::hl7::charset::Hl7Charset;

use crate::acknowledgement::has_unknown_condition;
use crate::mapping::effects;
use crate::message::{ErrorCode, Message, Problem, charset_of};
use crate::message_type::{is_event, is_type};

/// Versions of the standard that are accepted in MSH-12 (HL7-24).
pub const VERSIONS: &[&str] = &[
    "2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1",
    "2.8.2", "2.9",
];

/// Which messages an endpoint accepts.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Character set of messages whose MSH-18 is empty.
    pub charset: Hl7Charset,
    /// Processing ids (MSH-11.1) that are accepted: production, training, debugging.
    pub processing_ids: Vec<String>,
    /// Processing ids (MSH-11.1) whose messages have effects. They are accepted, too. A message
    /// without a processing id is one of production.
    pub processing: Vec<String>,
    /// Message types that are not of the standard and are accepted all the same, such as `ZDX^Z01`.
    pub types: Vec<String>,
    /// Sending applications (MSH-3) that are accepted; all, if the list is empty.
    pub applications: Vec<String>,
    /// How the site compares the authorities of patient identifiers.
    pub authorities: Arc<dyn PatientAuthorities>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            charset: Hl7Charset::Utf8,
            processing_ids: ["P", "T", "D"].map(ToOwned::to_owned).into(),
            processing: vec!["P".to_owned()],
            types: Vec::new(),
            applications: Vec::new(),
            authorities: Arc::new(AuthoritiesAsWritten),
        }
    }
}

impl Rules {
    /// Whether messages with this processing id (MSH-11.1) have effects.
    fn gives_effect(&self, processing_id: &str) -> bool {
        processing_id.is_empty() || self.processing.iter().any(|it| it == processing_id)
    }
}

/// A parsed message, with its effects or the reason why it is refused.
#[derive(Debug)]
pub struct Judged {
    /// The parsed message.
    pub message: Message,
    /// Its effects, or why it is refused.
    pub effects: Result<Vec<MessageEffect>, Problem>,
    /// What is unusual about it.
    pub flags: Vec<MessageFlag>,
}

/// Parses a message and decides on it.
///
/// # Errors
///
/// Fails if the bytes cannot be read as a message: there is no usable MSH. Such a message is
/// refused and not stored; its sender retains it.
pub fn judge(bytes: &[u8], rules: &Rules) -> Result<Judged, Problem> {
    let named = match charset_of(bytes, rules.charset) {
        Ok(named) => named,
        Err(problem) => return judge_header(bytes, problem, rules),
    };
    let message = Message::parse_in(named, bytes)?;
    let mut effects =
        check_header(&message, rules).and_then(|()| effects(&message, &*rules.authorities));
    let mut flags = flags(&message);
    for effect in effects.iter().flatten() {
        match effect {
            MessageEffect::Document { document, .. } => flags.extend(&document.flags),
            MessageEffect::Order(order) if order.is_accession_too_long() => {
                flags.push(MessageFlag::AccessionTooLong);
            }
            _ => {}
        }
    }
    // Several orders of a message may have the same flag.
    flags.dedup();
    if !rules.gives_effect(&message.msh(11, 1)) && effects.is_ok() {
        effects = Ok(Vec::new());
        flags.push(MessageFlag::WithoutEffect);
    }
    Ok(Judged { message, effects, flags })
}

/// Judges a message in an unknown character set, by its header. Where that is not as it has to be,
/// the segments may be separated in another way, and nothing is read.
fn judge_header(bytes: &[u8], problem: Problem, rules: &Rules) -> Result<Judged, Problem> {
    let message = Message::parse_header(bytes)?;
    check_header(&message, rules)?;
    Ok(Judged { message, effects: Err(problem), flags: Vec::new() })
}

/// What is unusual about a message.
fn flags(message: &Message) -> Vec<MessageFlag> {
    let mut flags = Vec::new();
    if !message.is_charset_by_the_table {
        flags.push(MessageFlag::CharsetNameUnusual);
    }
    if !message.is_lossless {
        flags.push(MessageFlag::TextUndecodable);
    }
    let patients = message.segments().iter().filter(|it| it.name == "PID");
    if patients.clone().any(|it| it.field(5).contains('\u{fffd}')) {
        flags.push(MessageFlag::NameUndecodable);
    }
    if message.msh(9, 2).is_empty() {
        flags.push(MessageFlag::EventMissing);
    }
    if has_unknown_condition(message) {
        flags.push(MessageFlag::AcknowledgementConditionUnknown);
    }
    flags
}

fn check_header(message: &Message, rules: &Rules) -> Result<(), Problem> {
    let kind = message.msh(9, 1);
    let event = message.msh(9, 2);
    if message.has_second_header() {
        let text = "a second message in the frame: several in one frame need a batch header (BHS)";
        let problem = Problem::refused(ErrorCode::SegmentSequence, text);
        return Err(Problem { location: "MSH^2".into(), ..problem });
    }
    if message.msh(10, 1).is_empty() {
        return Err(Problem::wrong(
            ErrorCode::RequiredFieldMissing,
            "MSH^1^10",
            "no message control id in MSH-10",
        ));
    }
    let version = message.msh(12, 1);
    if !version.is_empty() && !VERSIONS.contains(&version.as_str()) {
        return Err(Problem::refused(
            ErrorCode::UnsupportedVersion,
            "the version in MSH-12 is not supported",
        ));
    }
    let application = message.msh(3, 1);
    if !rules.applications.is_empty() && !rules.applications.contains(&application) {
        let text = "the sending application in MSH-3 is not one this endpoint takes from";
        return Err(Problem::refused(ErrorCode::ApplicationInternalError, text));
    }
    let processing = message.msh(11, 1);
    if !rules.gives_effect(&processing) && !rules.processing_ids.contains(&processing) {
        return Err(Problem::refused(
            ErrorCode::UnsupportedProcessingId,
            "the processing id in MSH-11 is not taken here",
        ));
    }
    if rules.types.contains(&format!("{kind}^{event}")) {
        return Ok(());
    }
    if !is_type(&kind) {
        return Err(Problem::refused(
            ErrorCode::UnsupportedMessageType,
            "the message type in MSH-9 is not supported",
        ));
    }
    if !is_event(&event) {
        return Err(Problem::refused(
            ErrorCode::UnsupportedEventCode,
            "the event in MSH-9 is not supported",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, rules: &Rules, expected: Option<u16>) {
        let text = format!("MSH|^~\\&|RIS|H|ISO|H|20260101||{header}\rPID|1||7^^^H^MR");
        let judged = judge(text.as_bytes(), rules).unwrap();
        assert_eq!(judged.effects.err().map(|it| it.code.number()), expected, "{header}");
    }

    #[test]
    fn hl7_10_what_is_not_taken_is_refused_with_its_code() {
        let usual = Rules::default();
        check("ADT^A01|M1|P|2.5.1", &usual, None);
        check("ADT^A01|M1|T|2.5.1", &usual, None);
        check("ADT^A01|M1|X|2.5.1", &usual, Some(202));
        check("ADT^A01|M1|P|9.9", &usual, Some(203));
        check("ADT^A99|M1|P|2.5.1", &usual, Some(201));
        check("ZDX^Z01|M1|P|2.5.1", &usual, Some(200));
        check("ADT^A01||P|2.5.1", &usual, Some(101));
        let strict = Rules {
            processing_ids: vec!["P".to_owned()],
            types: vec!["ZDX^Z01".to_owned()],
            applications: vec!["RIS".to_owned()],
            ..Rules::default()
        };
        check("ADT^A01|M1|T|2.5.1", &strict, Some(202));
        check("ADT^A01|M1||2.5.1", &strict, None);
        check("ZDX^Z01|M1|P|2.5.1", &strict, None);
        let others = Rules { applications: vec!["ADT".to_owned()], ..Rules::default() };
        check("ADT^A01|M1|P|2.5.1", &others, Some(207));
    }

    #[track_caller]
    fn check_effect(processing_id: &str, rules: &Rules, has_effect: bool) {
        let order = format!(
            "MSH|^~\\&|RIS|H|ISO|H|20260101||ORM^O01|M1|{processing_id}|2.5.1\rPID|1||7^^^H^MR\r\
             ORC|NW|P1\rOBR|1|P1"
        );
        let judged = judge(order.as_bytes(), rules).unwrap();
        assert_eq!(!judged.effects.unwrap().is_empty(), has_effect, "{processing_id}");
        let is_flagged = judged.flags.contains(&MessageFlag::WithoutEffect);
        assert_eq!(is_flagged, !has_effect, "{processing_id}");
    }

    #[track_caller]
    fn check_charset(name: &str, patient: &[u8], expected: Option<u16>, flags: &[MessageFlag]) {
        let head = format!("MSH|^~\\&|RIS|H|ISO|H|20260101||ADT^A08|M1|P|2.5.1||||||{name}\r");
        let bytes = [head.as_bytes(), b"PID|1||7^^^H^MR||", patient].concat();
        let judged = judge(&bytes, &Rules::default()).unwrap();
        assert_eq!(judged.flags, flags, "{name}");
        assert_eq!(judged.message.msh(10, 1), "M1", "{name}");
        let problem = judged.effects.err();
        assert!(problem.as_ref().is_none_or(|it| !it.is_final), "{name}");
        assert_eq!(problem.map(|it| it.code.number()), expected, "{name}");
    }

    #[test]
    fn hl7_23_an_unknown_character_set_is_an_error_and_the_message_is_kept() {
        check_charset("KLINGON", b"A^B", Some(102), &[]);
        check_charset("~KLINGON", b"A^B", Some(102), &[]);
        check_charset("8859/1~KLINGON", b"A^B", Some(102), &[]);
        check_charset("CNS 11643-1992", b"\xa4\xa1^B", Some(102), &[]);
    }

    #[test]
    fn hl7_23_names_of_character_sets_that_leave_no_doubt_are_read_and_flagged() {
        let unusual = [MessageFlag::CharsetNameUnusual];
        check_charset("8859/1", b"M\xdcLLER", None, &[]);
        check_charset("WINDOWS-1252", b"M\xdcLLER", None, &unusual);
        check_charset("iso_8859-1", b"M\xdcLLER", None, &unusual);
        check_charset("~8859/1", b"M\xdcLLER", None, &unusual);
        check_charset("~ISO IR87", b"\x1b$B5\\K\\\x1b(B^\x1b$BB@O:\x1b(B", None, &[]);
    }

    #[test]
    fn hl7_23_a_name_does_not_disappear_in_silence() {
        let damaged = [MessageFlag::TextUndecodable, MessageFlag::NameUndecodable];
        check_charset("", b"M\xdcLLER", None, &damaged);
        check_charset("~ISO IR87", b"M\xdcLLER", None, &damaged);
        check_charset("", b"DOE||||||B\xdcLOW", None, &[MessageFlag::TextUndecodable]);
    }

    #[test]
    fn hl7_10_a_condition_that_is_not_in_the_table_is_flagged() {
        for (conditions, is_flagged) in
            [("|", false), ("NE|NE", false), ("AL|SU", false), ("Y|", true), ("AL|al", true)]
        {
            let text = format!("MSH|^~\\&|A|B|C|D|2026||ADT^A08|1|P|2.5|||{conditions}\rPID|1||7");
            let flags = judge(text.as_bytes(), &Rules::default()).unwrap().flags;
            let flag = MessageFlag::AcknowledgementConditionUnknown;
            assert_eq!(flags.contains(&flag), is_flagged, "{conditions}");
        }
    }

    /// Another field stands in the place of MSH-18, and nothing of the header is what it seems.
    #[test]
    fn sec_37_a_header_of_other_separators_is_not_kept() {
        let start = "MSH|^~\\&|A|B|C|D|2026||ADT^A08|9|P|2.5.1";
        for separator in ["\u{1e}", "\u{85}", " ", ""] {
            let text = format!("{start}{separator}PID|1||CANARYID|||CANARYNAME^X");
            let problem = judge(text.as_bytes(), &Rules::default()).unwrap_err();
            assert!(problem.is_final && !problem.to_string().contains("CANARY"), "{problem}");
        }
    }

    #[test]
    fn hl7_41_an_order_that_images_cannot_name_is_flagged() {
        let flags = |kind: &str, accession: &str| {
            let header = format!("MSH|^~\\&|RIS|H|ISO|H|20260101||{kind}|M1|P|2.5.1");
            let obr = format!("OBR|1|||||||||||||||||{accession}");
            let text = format!("{header}\rPID|1||7\rORC|NW|P1\r{obr}\rORC|NW|P2\r{obr}");
            judge(text.as_bytes(), &Rules::default()).unwrap().flags
        };
        assert_eq!(flags("ORM^O01", "2026-00000012345"), []);
        assert_eq!(flags("ORM^O01", "RIS-2026-0000012345"), [MessageFlag::AccessionTooLong]);
        // Nobody looks for images by an order of a laboratory.
        assert_eq!(flags("OML^O21", "RIS-2026-0000012345"), []);
    }

    /// An order of a training system would change the patients of the hospital.
    #[test]
    fn hl7_10_only_messages_of_production_have_effects_unless_the_site_says_otherwise() {
        let usual = Rules::default();
        for (processing_id, has_effect) in
            [("P", true), ("", true), ("P^T", true), ("T", false), ("D", false), ("T^T", false)]
        {
            check_effect(processing_id, &usual, has_effect);
        }
        let training =
            Rules { processing: ["P", "T"].map(ToOwned::to_owned).into(), ..Rules::default() };
        check_effect("T", &training, true);
        check_effect("D", &training, false);
        let other = Rules { processing: vec!["X".to_owned()], ..Rules::default() };
        check_effect("X", &other, true);
        check_effect("P", &other, false);
        // What is wrong with a message is said, whatever it is for.
        check("ADT^A99|M1|T|2.5.1", &usual, Some(201));
    }

    /// The results of the second would be filed under the patient of the first.
    #[test]
    fn hl7_10_two_messages_in_one_frame_are_refused_as_one() {
        let one =
            "MSH|^~\\&|LAB|H|ISO|H|20260101||ORU^R01|M1|P|2.5.1\rPID|1||7\rOBR|1\rOBX|1|NM|a||1";
        for text in [format!("{one}\r{one}"), format!("{one}\nFTS|1\r\n{one}")] {
            let problem = judge(text.as_bytes(), &Rules::default()).unwrap().effects.unwrap_err();
            assert_eq!((problem.code.number(), problem.is_final), (100, true), "{text}");
            assert_eq!(problem.location, "MSH^2");
        }
    }
}
