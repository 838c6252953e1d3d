//! What a message is answered with (HL7 v2, 2.9; requirements HL7-10..12). Pure.

use encoding::hl7_escape::Delimiters;

use crate::message::{Message, Problem};

/// Whether the sender wants one answer or two (HL7-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One: `AA`, `AE`, `AR`.
    Original,
    /// An accept acknowledgement first: `CA`, `CE`, `CR`.
    Enhanced,
}

impl Mode {
    /// The mode MSH-15 and MSH-16 ask for.
    ///
    /// A sender who wants no accept acknowledgement gets the one of the original mode: over MLLP it
    /// would wait for an answer.
    pub fn of(message: &Message) -> Self {
        let wants_accept = matches!(message.msh(15, 1).as_str(), "AL" | "ER" | "SU");
        if wants_accept { Self::Enhanced } else { Self::Original }
    }
}

/// MSA-1 for an outcome.
pub fn code(mode: Mode, problem: Option<&Problem>) -> &'static str {
    match (mode, problem) {
        (Mode::Original, None) => "AA",
        (Mode::Original, Some(problem)) if problem.is_final => "AR",
        (Mode::Original, Some(_)) => "AE",
        (Mode::Enhanced, None) => "CA",
        (Mode::Enhanced, Some(problem)) if problem.is_final => "CR",
        (Mode::Enhanced, Some(_)) => "CE",
    }
}

/// The answer to `message`, in its delimiters and character set.
pub fn acknowledge(
    message: &Message,
    problem: Option<&Problem>,
    own_id: &str,
    now: &str,
) -> Vec<u8> {
    let d = message.delimiters;
    let code = code(Mode::of(message), problem);
    let raw = |field| message.segments().first().map_or("", |it| it.field(field)).to_owned();
    let event = message.msh(9, 2);
    let c = d.component;
    let kind = if event.is_empty() { "ACK".to_owned() } else { format!("ACK{c}{event}{c}ACK") };
    let mut fields = vec![
        raw(5),
        raw(6),
        raw(3),
        raw(4),
        now.to_owned(),
        String::new(),
        kind,
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
        text.push_str(&error_segment(d, problem));
    }
    // What came in this character set goes out in it.
    message.charset.encode(&text).unwrap_or_else(|_| text.into_bytes())
}

fn error_segment(d: Delimiters, problem: &Problem) -> String {
    let (f, c) = (d.field, d.component);
    let location = problem.location.replace('^', &c.to_string());
    let (code, text) = (problem.code, d.escaped(&problem.text));
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
    format!("MSH{f}{c}{r}{e}{s}{f}{header}\r{msa}\r{}", error_segment(d, problem)).into_bytes()
}
