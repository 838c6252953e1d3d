//! What a message is answered with (HL7 v2, 2.9; requirements HL7-10..12). Pure.

use contracts::Answers;
use encoding::hl7_escape::Delimiters;

use crate::message::{Message, Problem};
use crate::message_type::response;

/// When a sender wants an acknowledgement (table 0155).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Always,
    Never,
    OnError,
    OnSuccess,
}

impl Condition {
    fn of(text: &str) -> Self {
        match text {
            "AL" => Self::Always,
            "ER" => Self::OnError,
            "SU" => Self::OnSuccess,
            _ => Self::Never,
        }
    }

    const fn holds(self, is_good: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::OnError => !is_good,
            Self::OnSuccess => is_good,
        }
    }
}

/// The answers to `message`, and MSA-1 of the one that counts for the trail.
///
/// Without MSH-15 and MSH-16 it is one, of the original mode. With either of them it may be two: an
/// accept acknowledgement, and an application acknowledgement as a message of its own. What is wrong
/// with the content is said in the latter; where none is wanted, the former says it, so that the
/// sender hears of it. A sender who wants neither still gets the one of the original mode: over MLLP
/// it would wait for ever.
pub fn answers(
    message: &Message,
    problem: Option<&Problem>,
    own_ids: [&str; 2],
    now: &str,
) -> (Answers, &'static str) {
    let [accept_id, application_id] = own_ids;
    let (accept, application) = (message.msh(15, 1), message.msh(16, 1));
    let original = original_code(problem);
    let plain = kind_of_plain(message);
    let neither = |it: &str| matches!(it, "" | "NE");
    if neither(&accept) && neither(&application) {
        let first = acknowledge(message, &plain, (original, problem), accept_id, now);
        return (Answers { first: Some(first), application: None }, original);
    }
    let is_good = problem.is_none();
    let is_refused = problem.is_some_and(|it| it.is_final);
    let by_application = Condition::of(&application).holds(is_good) && !is_refused;
    let code = match problem {
        None => "CA",
        Some(_) if is_refused => "CR",
        Some(_) if by_application => "CA",
        Some(_) => "CE",
    };
    let told = problem.filter(|_| code != "CA");
    let first = Condition::of(&accept)
        .holds(code == "CA")
        .then(|| acknowledge(message, &plain, (code, told), accept_id, now));
    let type_code = message.delimiters.escaped(&message.msh(9, 1));
    let kind = response(&type_code, &event(message), message.delimiters.component);
    let application = by_application
        .then(|| acknowledge(message, &kind, (original, problem), application_id, now));
    let code = if first.is_none() && application.is_some() { original } else { code };
    (Answers { first, application }, code)
}

/// The answer that says that nothing was kept, and the sender must try again.
pub fn not_kept(message: &Message, problem: &Problem, own_id: &str, now: &str) -> Vec<u8> {
    let neither = |it: String| matches!(it.as_str(), "" | "NE");
    let is_original = neither(message.msh(15, 1)) && neither(message.msh(16, 1));
    let code = if is_original { "AE" } else { "CE" };
    acknowledge(message, &kind_of_plain(message), (code, Some(problem)), own_id, now)
}

fn original_code(problem: Option<&Problem>) -> &'static str {
    match problem {
        None => "AA",
        Some(problem) if problem.is_final => "AR",
        Some(_) => "AE",
    }
}

/// MSH-9.2, as it may stand in a message: what it means may hold what separates segments.
fn event(message: &Message) -> String {
    message.delimiters.escaped(&message.msh(9, 2))
}

fn kind_of_plain(message: &Message) -> String {
    let (event, c) = (event(message), message.delimiters.component);
    if event.is_empty() { "ACK".to_owned() } else { format!("ACK{c}{event}{c}ACK") }
}

/// One answer, in the delimiters and character set of the message.
fn acknowledge(
    message: &Message,
    kind: &str,
    (code, problem): (&str, Option<&Problem>),
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
        kind.to_owned(),
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
    text = format!("{text}MSA{f}{code}{f}{}\r", raw(10));
    if let Some(problem) = problem {
        text.push_str(&error_segment(d, problem, &message.msh(12, 1)));
    }
    // What came in this character set goes out in it.
    message.charset.encode(&text).unwrap_or_else(|_| text.into_bytes())
}

/// ERR, as the version of the message has it: one field before 2.5, several since (2.15.5).
fn error_segment(d: Delimiters, problem: &Problem, version: &str) -> String {
    let (f, c, s) = (d.field, d.component, d.subcomponent);
    let (code, text) = (problem.code, d.escaped(&problem.text));
    if matches!(version, "2.1" | "2.2" | "2.3" | "2.3.1" | "2.4") {
        let mut place = problem.location.split('^').map(ToOwned::to_owned).collect::<Vec<_>>();
        place.resize(3, String::new());
        let place = place.join(&c.to_string());
        return format!("ERR{f}{place}{c}{code}{s}{text}{s}HL70357\r");
    }
    let location = problem.location.replace('^', &c.to_string());
    format!("ERR{f}{f}{location}{f}{code}{c}{text}{c}HL70357{f}E\r")
}

/// The answer to what is no message, or to one that is too long: as much as its head tells.
pub fn refuse_unreadable(head: &[u8], problem: &Problem, own_id: &str, now: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(head);
    let line = text.split(['\r', '\n']).next().unwrap_or_default();
    let d = Delimiters::of_message(line).unwrap_or_default();
    let fields: Vec<&str> =
        if line.starts_with("MSH") { line.split(d.field).collect() } else { Vec::new() };
    let raw = |number: usize| fields.get(number - 1).copied().unwrap_or_default();
    let (f, c, r, e, s) = (d.field, d.component, d.repetition, d.escape, d.subcomponent);
    let header = [raw(5), raw(6), raw(3), raw(4), now, "", "ACK", own_id, "P", "2.5.1"];
    let header = header.join(&f.to_string());
    let msa = format!("MSA{f}AR{f}{}", raw(10));
    format!("MSH{f}{c}{r}{e}{s}{f}{header}\r{msa}\r{}", error_segment(d, problem, "2.5.1"))
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use encoding::hl7_charset::Hl7Charset;

    use super::*;

    fn answered(kind: &str, version: &str, wants: &str, problem: Option<&Problem>) -> [String; 2] {
        let text =
            format!("MSH|^~\\&|RIS|H|ISO|AI|20260101||{kind}|M1|P|{version}|||{wants}\rPID|1||7");
        let message = Message::parse(text.as_bytes(), Hl7Charset::Utf8).unwrap();
        let (answers, _) = answers(&message, problem, ["A1", "A2"], "20260102");
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
        let wrong = Problem::wrong(101, "PID^1^3", "no patient");
        let refused = Problem::refused(203, "no such version");
        for (wants, good, bad, worst) in [
            ("|", ["AA", ""], ["AE", ""], ["AR", ""]),
            ("NE|NE", ["AA", ""], ["AE", ""], ["AR", ""]),
            ("AL|NE", ["CA", ""], ["CE", ""], ["CR", ""]),
            ("AL|AL", ["CA", "AA"], ["CA", "AE"], ["CR", ""]),
            ("NE|AL", ["", "AA"], ["", "AE"], ["", ""]),
            ("ER|ER", ["", ""], ["", "AE"], ["CR", ""]),
            ("ER|SU", ["", "AA"], ["CE", ""], ["CR", ""]),
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

    /// Found by the attack of `cargo fuzzing`: what the trigger event means may be the end of a segment.
    #[test]
    fn hl7_12_an_event_that_is_none_breaks_no_answer() {
        let [answer, _] = answered("ORU^R01\\\\.br\\", "2.5.1", "|", None);
        assert!(Message::parse(answer.as_bytes(), Hl7Charset::Utf8).is_ok(), "{answer}");
        assert_eq!(answer.matches('\r').count(), 2, "{answer}");
    }

    #[test]
    fn hl7_12_an_error_is_written_as_the_version_of_the_message_has_it() {
        let problem = Problem::wrong(101, "PID^1^3", "no patient");
        let [new, _] = answered("ADT^A01", "2.5.1", "|", Some(&problem));
        assert!(new.contains("\rERR||PID^1^3|101^no patient^HL70357|E\r"), "{new}");
        let [old, _] = answered("ADT^A01", "2.3.1", "|", Some(&problem));
        assert!(old.contains("\rERR|PID^1^3^101&no patient&HL70357\r"), "{old}");
    }
}
