//! Writes acknowledgements (HL7 v2.5.1, 2.9; HL7-10 to HL7-12).

use contracts::Answers;
use encoding::hl7::escape::Delimiters;

use crate::message::{Message, Problem};
use crate::message_type::response;

/// MSA-1 (table 0008).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcknowledgementCode {
    /// `AA`: application accept.
    ApplicationAccept,
    /// `AE`: application error.
    ApplicationError,
    /// `AR`: application reject.
    ApplicationReject,
    /// `CA`: commit accept.
    CommitAccept,
    /// `CE`: commit error.
    CommitError,
    /// `CR`: commit reject.
    CommitReject,
}

impl AcknowledgementCode {
    const ALL: [Self; 6] = [
        Self::ApplicationAccept,
        Self::ApplicationError,
        Self::ApplicationReject,
        Self::CommitAccept,
        Self::CommitError,
        Self::CommitReject,
    ];

    /// The code in table 0008.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApplicationAccept => "AA",
            Self::ApplicationError => "AE",
            Self::ApplicationReject => "AR",
            Self::CommitAccept => "CA",
            Self::CommitError => "CE",
            Self::CommitReject => "CR",
        }
    }

    /// The code with this name in table 0008.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// The code of the original mode and of application acknowledgements.
    const fn of_application(problem: Option<&Problem>) -> Self {
        match problem {
            None => Self::ApplicationAccept,
            Some(problem) if problem.is_final => Self::ApplicationReject,
            Some(_) => Self::ApplicationError,
        }
    }
}

/// When a sender wants an acknowledgement: MSH-15 and MSH-16 (table 0155).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcknowledgementCondition {
    Always,
    Never,
    OnError,
    OnSuccess,
}

impl AcknowledgementCondition {
    /// What a value of MSH-15 or MSH-16 asks for; nothing, if it is none of table 0155.
    fn parse(name: &str) -> Option<Self> {
        match name {
            "AL" => Some(Self::Always),
            "ER" => Some(Self::OnError),
            "SU" => Some(Self::OnSuccess),
            "" | "NE" => Some(Self::Never),
            _ => None,
        }
    }

    /// What a message asks for in MSH-15 or MSH-16. Whoever writes something else there means to be
    /// answered, and would wait forever over MLLP.
    fn of(message: &Message, field: usize) -> Self {
        Self::parse(message.msh(field, 1).trim()).unwrap_or(Self::Always)
    }

    const fn applies(self, is_success: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::OnError => !is_success,
            Self::OnSuccess => is_success,
        }
    }
}

/// Message control ids (MSH-10) for the acknowledgements of one message.
#[derive(Clone, Debug)]
pub struct OwnIds {
    /// For the first one.
    pub accept: String,
    /// For the application acknowledgement of the enhanced mode.
    pub application: String,
}

/// The acknowledgements of a message, before they are sent.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// The messages to send.
    pub answers: Answers,
    /// The code of the one that counts for the trail.
    pub code: AcknowledgementCode,
}

/// Writes the acknowledgements of `message`. `now` is their MSH-7.
///
/// Without MSH-15 and MSH-16 there is one, of the original mode. With either of them there may be
/// two: an accept acknowledgement, and an application acknowledgement as a message of its own.
/// A problem with the content is stated in the latter; where none is wanted, in the former, so that
/// the sender learns of it. A sender that wants neither still gets the one of the original mode:
/// over MLLP it would wait forever.
pub fn acknowledge(
    message: &Message,
    problem: Option<&Problem>,
    ids: &OwnIds,
    now: &str,
) -> Acknowledged {
    let original = AcknowledgementCode::of_application(problem);
    let plain = plain_type(message);
    if is_original_mode(message) {
        let first = write(message, &plain, original, problem, &ids.accept, now);
        let answers = Answers { first: Some(first), application: None };
        return Acknowledged { answers, code: original };
    }
    let wants_accept = AcknowledgementCondition::of(message, 15);
    let wants_application = AcknowledgementCondition::of(message, 16);
    let is_final = problem.is_some_and(|it| it.is_final);
    // A refusal is stated once: in the accept acknowledgement, if there is one.
    let is_stated_first = is_final && wants_accept.applies(false);
    let has_application = wants_application.applies(problem.is_none()) && !is_stated_first;
    let commit = match problem {
        None => AcknowledgementCode::CommitAccept,
        Some(_) if is_final => AcknowledgementCode::CommitReject,
        Some(_) if has_application => AcknowledgementCode::CommitAccept,
        Some(_) => AcknowledgementCode::CommitError,
    };
    let is_accepted = commit == AcknowledgementCode::CommitAccept;
    let stated = problem.filter(|_| !is_accepted);
    let first = wants_accept
        .applies(is_accepted)
        .then(|| write(message, &plain, commit, stated, &ids.accept, now));
    let request_type = message.delimiters.escaped(&message.msh(9, 1));
    let response_type = response(&request_type, &event(message), message.delimiters.component);
    let application = has_application
        .then(|| write(message, &response_type, original, problem, &ids.application, now));
    let code = if first.is_none() && application.is_some() { original } else { commit };
    Acknowledged { answers: Answers { first, application }, code }
}

/// The acknowledgement that nothing was stored, and the sender must try again.
pub fn not_stored(message: &Message, problem: &Problem, own_id: &str, now: &str) -> Vec<u8> {
    let code = if is_original_mode(message) {
        AcknowledgementCode::ApplicationError
    } else {
        AcknowledgementCode::CommitError
    };
    write(message, &plain_type(message), code, Some(problem), own_id, now)
}

/// Whether the sender asks for no acknowledgement of the enhanced mode.
fn is_original_mode(message: &Message) -> bool {
    [15, 16].into_iter().all(|field| {
        AcknowledgementCondition::of(message, field) == AcknowledgementCondition::Never
    })
}

/// Whether MSH-15 or MSH-16 has a value that is not in table 0155.
pub(crate) fn has_unknown_condition(message: &Message) -> bool {
    [15, 16]
        .into_iter()
        .any(|field| AcknowledgementCondition::parse(message.msh(field, 1).trim()).is_none())
}

/// MSH-9.2, escaped: its decoded value may contain a segment separator.
fn event(message: &Message) -> String {
    message.delimiters.escaped(&message.msh(9, 2))
}

/// MSH-9 of a general acknowledgement.
fn plain_type(message: &Message) -> String {
    let event = event(message);
    let c = message.delimiters.component;
    if event.is_empty() { "ACK".to_owned() } else { format!("ACK{c}{event}{c}ACK") }
}

/// Writes one acknowledgement, in the delimiters and the character set of the message.
fn write(
    message: &Message,
    message_type: &str,
    code: AcknowledgementCode,
    problem: Option<&Problem>,
    own_id: &str,
    now: &str,
) -> Vec<u8> {
    let d = message.delimiters;
    let raw = |field| message.segments().first().map_or("", |it| it.field(field)).to_owned();
    let mut fields = vec![
        raw(5),
        raw(6),
        raw(3),
        raw(4),
        now.to_owned(),
        String::new(),
        message_type.to_owned(),
        own_id.to_owned(),
        raw(11),
        raw(12),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        raw(18),
    ];
    while fields.last().is_some_and(String::is_empty) {
        fields.pop();
    }
    let f = d.field.to_string();
    let mut text = format!("MSH{f}{}{f}{}\r", raw(2), fields.join(&f));
    text = format!("{text}MSA{f}{}{f}{}\r", code.name(), raw(10));
    if let Some(problem) = problem {
        text.push_str(&error_segment(d, problem, &message.msh(12, 1)));
    }
    // The message was received in this character set: the acknowledgement is sent in it.
    message.charset.encode(&text).unwrap_or_else(|_| text.into_bytes())
}

/// ERR in the form of the version of the message: one field before 2.5, several since (2.15.5).
fn error_segment(d: Delimiters, problem: &Problem, version: &str) -> String {
    let (f, c, s) = (d.field, d.component, d.subcomponent);
    let code = problem.code.number();
    let text = d.escaped(&problem.text);
    if matches!(version, "2.1" | "2.2" | "2.3" | "2.3.1" | "2.4") {
        let mut place = problem.location.split('^').map(ToOwned::to_owned).collect::<Vec<_>>();
        place.resize(3, String::new());
        let place = place.join(&c.to_string());
        return format!("ERR{f}{place}{c}{code}{s}{text}{s}HL70357\r");
    }
    let location = problem.location.replace('^', &c.to_string());
    format!("ERR{f}{f}{location}{f}{code}{c}{text}{c}HL70357{f}E\r")
}

/// The acknowledgement of what is no message, or of one that is too long, from as much of its head
/// as can be read. None for an acknowledgement (HL7-12).
pub fn refuse_unreadable(
    head: &[u8],
    problem: &Problem,
    own_id: &str,
    now: &str,
) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(head);
    let line = text.split(['\r', '\n']).next().unwrap_or_default();
    let d = Delimiters::of_message(line).unwrap_or_default();
    let fields: Vec<&str> =
        if line.starts_with("MSH") { line.split(d.field).collect() } else { Vec::new() };
    let raw = |number: usize| fields.get(number - 1).copied().unwrap_or_default();
    if raw(9).split(d.component).next() == Some("ACK") {
        return None;
    }
    let (f, c, r, e, s) = (d.field, d.component, d.repetition, d.escape, d.subcomponent);
    let header = [raw(5), raw(6), raw(3), raw(4), now, "", "ACK", own_id, "P", "2.5.1"];
    let header = header.join(&f.to_string());
    let msa = format!("MSA{f}AR{f}{}", raw(10));
    let error = error_segment(d, problem, "2.5.1");
    Some(format!("MSH{f}{c}{r}{e}{s}{f}{header}\r{msa}\r{error}").into_bytes())
}

#[cfg(test)]
mod tests {
    use encoding::hl7::charset::Hl7Charset;

    use super::*;
    use crate::message::ErrorCode;

    fn answered(kind: &str, version: &str, wants: &str, problem: Option<&Problem>) -> [String; 2] {
        let text =
            format!("MSH|^~\\&|RIS|H|ISO|AI|20260101||{kind}|M1|P|{version}|||{wants}\rPID|1||7");
        let message = Message::parse(text.as_bytes(), Hl7Charset::Utf8).unwrap();
        let ids = OwnIds { accept: "A1".to_owned(), application: "A2".to_owned() };
        let answers = acknowledge(&message, problem, &ids, "20260102").answers;
        let text = |it: Option<Vec<u8>>| String::from_utf8(it.unwrap_or_default()).unwrap();
        [text(answers.first), text(answers.application)]
    }

    /// MSA-1 of both answers; nothing where none is given.
    #[track_caller]
    fn check(wants: &str, problem: Option<&Problem>, expected: [&str; 2]) {
        let codes = answered("OMI^O23^OMI_O23", "2.5.1", wants, problem).map(|it| {
            let msa = it.split('\r').find(|it| it.starts_with("MSA"));
            msa.and_then(|it| it.split('|').nth(1)).unwrap_or_default().to_owned()
        });
        assert_eq!(codes, expected, "{wants} {problem:?}");
    }

    #[test]
    fn hl7_10_each_sender_gets_the_answers_it_asks_for() {
        let wrong = Problem::wrong(ErrorCode::RequiredFieldMissing, "PID^1^3", "no patient");
        let refused = Problem::refused(ErrorCode::UnsupportedVersion, "no such version");
        for (wants, good, bad, worst) in [
            ("|", ["AA", ""], ["AE", ""], ["AR", ""]),
            ("NE|NE", ["AA", ""], ["AE", ""], ["AR", ""]),
            ("AL|NE", ["CA", ""], ["CE", ""], ["CR", ""]),
            ("AL|AL", ["CA", "AA"], ["CA", "AE"], ["CR", ""]),
            ("NE|AL", ["", "AA"], ["", "AE"], ["", "AR"]),
            ("ER|ER", ["", ""], ["", "AE"], ["CR", ""]),
            ("ER|SU", ["", "AA"], ["CE", ""], ["CR", ""]),
            // Values that are not in table 0155 are read as AL.
            ("Y|", ["CA", ""], ["CE", ""], ["CR", ""]),
            ("|Y", ["", "AA"], ["", "AE"], ["", "AR"]),
            ("AA|AA", ["CA", "AA"], ["CA", "AE"], ["CR", ""]),
            ("al|NE", ["CA", ""], ["CE", ""], ["CR", ""]),
            (" | ", ["AA", ""], ["AE", ""], ["AR", ""]),
        ] {
            check(wants, None, good);
            check(wants, Some(&wrong), bad);
            check(wants, Some(&refused), worst);
        }
    }

    #[test]
    fn hl7_12_the_application_answers_an_order_with_its_own_response() {
        let [accept, application] = answered("OMI^O23^OMI_O23", "2.5.1", "AL|AL", None);
        assert_eq!(accept, "MSH|^~\\&|ISO|AI|RIS|H|20260102||ACK^O23^ACK|A1|P|2.5.1\rMSA|CA|M1\r");
        assert!(application.contains("|ORI^O24^ORI_O24|A2|"), "{application}");
    }

    /// Found by the attack of `cargo fuzzing`: what the trigger event means may be the end of a
    /// segment.
    #[test]
    fn hl7_12_an_event_that_is_none_breaks_no_answer() {
        let [answer, _] = answered("ORU^R01\\\\.br\\", "2.5.1", "|", None);
        assert!(Message::parse(answer.as_bytes(), Hl7Charset::Utf8).is_ok(), "{answer}");
        assert_eq!(answer.matches('\r').count(), 2, "{answer}");
    }

    #[test]
    fn hl7_12_an_error_is_written_as_the_version_of_the_message_has_it() {
        let problem = Problem::wrong(ErrorCode::RequiredFieldMissing, "PID^1^3", "no patient");
        let [new, _] = answered("ADT^A01", "2.5.1", "|", Some(&problem));
        assert!(new.contains("\rERR||PID^1^3|101^no patient^HL70357|E\r"), "{new}");
        let [old, _] = answered("ADT^A01", "2.3.1", "|", Some(&problem));
        assert!(old.contains("\rERR|PID^1^3^101&no patient&HL70357\r"), "{old}");
    }
    /// Two systems that cannot read each other would acknowledge each other forever.
    #[test]
    fn hl7_12_an_acknowledgement_that_cannot_be_read_is_not_answered() {
        let problem = Problem::wrong(ErrorCode::DataTypeError, "MSH^1^18", "unknown set");
        let refused = |message_type: &str| {
            let head =
                format!("MSH|^~\\&|A|B|C|D|2026||{message_type}|1|P|2.5|||||||KLINGON\rMSA|AA|7");
            refuse_unreadable(head.as_bytes(), &problem, "2", "2026")
        };
        assert_eq!(refused("ACK"), None);
        assert_eq!(refused("ACK^A01^ACK"), None);
        assert!(refused("ADT^A01").is_some());
        assert!(refuse_unreadable(b"not a message", &problem, "2", "2026").is_some());
    }
}
