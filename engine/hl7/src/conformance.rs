//! The HL7 profile: tables from what the program does, and prose.
//!
//! The table of acknowledgements is what the program answers to an example of each case; the
//! messages that are sent are those of [`OutputKind`].

use std::fmt::Write as _;

use contracts::Answers;
use domain::{OutputFormat, OutputKind};
use encoding::hl7::charset::Hl7Charset;

use crate::acknowledgement::{OwnIds, acknowledge, not_stored, refuse_unreadable};
use crate::frame::MESSAGE_BYTES_MAX;
use crate::message::{ErrorCode, Message, Problem};
use crate::receiver::{Rules, VERSIONS, judge};

/// What is done with messages: type and event, and what follows. Others of the standard are stored.
pub const MEANINGS: &[(&str, &str)] = &[
    (
        "ADT^A01",
        "the patient is added or brought up to date (so for all ADT events not named below)",
    ),
    ("ADT^A18", "two patients become one: PID-3 stays, MRG-1 goes (also A30, A34, A36, A39, A40)"),
    ("ADT^A24", "two patients belong together and stay two; A37 parts them"),
    (
        "ADT^A40",
        "two patients become one, in any order of messages; what was sent goes out again where the \
         destination has `on_identity_change: resend`",
    ),
    ("ADT^A41", "an account has another number (also A35, A49); A42, A50: a visit"),
    ("ADT^A43", "what is filed under MRG-1 belongs to PID-3"),
    ("ADT^A44", "an account moves to another patient with its orders and images; A45: a visit"),
    ("ADT^A47", "a patient has another identifier (also A46)"),
    (
        "ORM^O01",
        "order: ORC-2 and ORC-3 with their authority (EI), else the sender's own; OBR-18 accession \
         number, ZDS-1 Study Instance UID; ORC-1, or CA, DC or RP in ORC-5, cancels \
         every OBR under it, also as replaced (RP, RQ, RU; RO is the order in its place); ORC-1 SC opens nothing again",
    ),
    ("OMI^O23", "order: IPC-1 accession number with its issuer, IPC-3 Study Instance UID"),
    ("OMG^O19", "order"),
    ("OML^O21", "order"),
    (
        "ORU^R01",
        "results, with files out of OBX-5: what they are is told by their bytes, and flagged where ED \
         states something else; what OBX-11 calls no result (D, W, X, N, I, O) is none; of what is \
         reported again (same patient, OBR-3, OBX-3, OBX-4) the later message holds",
    ),
    ("OUL^R22", "results"),
    ("MDM^T01", "document: TXA, and text or file out of OBX (all events T01 to T11)"),
];

/// The profile, as Markdown.
pub fn profile() -> String {
    let rules = Rules::default();
    let mut text = String::from(
        "# HL7 v2 profile\n\nWritten by `isocenter conformance hl7` from the program itself; a test \
         compares the two.\n\n## Received\n\n",
    );
    _ = writeln!(
        text,
        "MLLP (release 1), versions {}; processing ids {} (`hl7.processing_ids`), of which {} has an \
         effect (`hl7.processing`): messages with others are acknowledged and stored, and change nothing; \
         character sets as in MSH-18 (table 0211 but CNS 11643, UTF-16 and UTF-32; \
         every repetition, with escape sequences of ISO 2022), by other names where they leave no doubt, which \
         is flagged; delimiters are those of MSH-1 and MSH-2. A message has at most {} MiB; a longer one is read to a limit, answered \
         with AR and its MSH-10, and the connection is closed. Segments end with CR; LF and CRLF are \
         read, too. A frame may hold a batch (FHS, BHS, BTS, FTS): each message is answered, in a \
         batch. A message that begins inside another (0x0B, then MSH, BHS or FHS) breaks it off: only \
         the new one is answered.\n",
        VERSIONS.join(", "),
        rules.processing_ids.join(", "),
        rules.processing.join(", "),
        MESSAGE_BYTES_MAX >> 20,
    );
    text.push_str("| message | what follows |\n|---|---|\n");
    for (kind, meaning) in MEANINGS {
        _ = writeln!(text, "| {kind} | {meaning} |");
    }
    text.push_str(ACCEPTED_TOO);
    write_acknowledgements(&mut text);
    write_sent(&mut text);
    text
}

const ACCEPTED_TOO: &str = "\n\
Every other message of tables 0076 and 0003 is stored, acknowledged and may start a workflow; one that \
is in neither, and not among `hl7.types`, is answered with AR, stored and shown. Orders, results and \
documents are of one patient: a further PID has to name the same, or belong to earlier results that come \
with an order (`PRIOR_RESULT`; they are not read). ORU without a trigger event is read as R01, ORM as O01, and flagged.\n\n";

const ACKNOWLEDGED: &str = "\
## Acknowledged\n\n\
A positive answer is sent once the message would survive a loss of power. MSH-15 and MSH-16 both empty \
or NE: one answer of the original mode (a sender that wants none would wait forever over MLLP). \
Otherwise an accept acknowledgement as MSH-15 says (AL, NE, ER, SU; another value is read as AL and flagged), and an application acknowledgement \
as MSH-16 says, as a message of its own on the same connection: ORR^O02, ORI^O24, ORG^O20, ORL^O22 for \
orders, ACK for others. The table shows MSA-1 of the answers to an example of each case, as the program \
writes them.\n\n";

const REPEATED: &str = "\n\
The same message again (MSH-3, MSH-4, MSH-10 and content, within seven days) is answered as the first \
time and changes nothing. An acknowledgement is never acknowledged.\n\n";

const SENT_HOW: &str = "\n\
All are of version 2.5.1, with MSH-15 AL and MSH-16 NE, in the destination's character set; a character \
that does not fit is an error, never a question mark. The same MSH-10 on every try; after AE, or \
an answer that acknowledges nothing (our own message, one without MSA, bytes without 0x0B), five tries, \
after AR none, and with `on_error: block` nothing more until a person has looked.\n\n\
ORU: OBR-25 and OBX-11 are R for what nobody has signed, P for what a person has changed and not signed, \
each time it is sent; F for what is signed, C for what is signed in the place of a final result. \
Below an OBR of their own for each order of the laboratory, which OBR-29, ORC-8 and OBR-18 name and OBR-3 does not, \
stand the rows that came as OBX: one that states what the laboratory stated (value, unit, range and flag) has its \
OBX-11 (F, C, P, R) whether signed or not, F and C of a signed report as above, and OBR-25 is that of the least final \
row. OBR-3 is the same for every version of a report, and OBX-4 for every version of a row; a row that a person took out has OBX-11 D, \
one that the laboratory took back has the status of that, both without a value. \
What became of a finding, where it is stated, is a row of type CWE: OBX-3 the finding, OBX-5 the change (SNOMED CT). \
In a laboratory row, OBX-8 is computed from value and reference; where that cannot be, it is that of the \
laboratory, of which HH, LL and AA are always kept. OBX-14 and OBR-7 are the time of observation that the \
laboratory states, empty where it states none; its notes follow as NTE with NTE-2 L, and panel, specimen \
(SPM too, where all rows have one), sub-ID and status with NTE-2 P. With `report: text` or `pdf` the report itself comes as one \
more OBX, FT or ED (`^application^pdf^Base64^...`, PDF/A-2a), under the code of the report (18748-4 or 11502-2, LN).\n";

/// A case of the table of acknowledgements, with an example message.
struct Case {
    /// What is the case with the message.
    condition: &'static str,
    /// MSH-9 to MSH-12 of the example. Without any the example has no MSH at all.
    header: &'static str,
    /// MSH-18 of the example.
    character_set: &'static str,
    /// The segments after MSH.
    segments: &'static str,
    /// What keeps the engine from accepting it, apart from the message.
    obstacle: Obstacle,
}

/// What keeps the engine from accepting a message, apart from the message itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    None,
    /// The site accepts messages of one other application only.
    OtherApplication,
    /// Nothing can be stored at the moment.
    NotStored,
}

impl Case {
    const fn of(condition: &'static str, header: &'static str, segments: &'static str) -> Self {
        Self { condition, header, character_set: "", segments, obstacle: Obstacle::None }
    }
}

const PATIENT: &str = "PID|1||7^^^H^MR";

const CASES: &[Case] = &[
    Case::of("it is stored", "ADT^A01|1|P|2.5.1", PATIENT),
    Case::of("there is no usable MSH", "", PATIENT),
    Case {
        character_set: "KLINGON",
        ..Case::of("its character set (MSH-18) is unknown", "ADT^A01|1|P|2.5.1", PATIENT)
    },
    Case::of("its type (MSH-9) is not of the standard", "ZDX^Z01|1|P|2.5.1", PATIENT),
    Case::of("its event (MSH-9) is not of the standard", "ADT^A99|1|P|2.5.1", PATIENT),
    Case::of("its processing id (MSH-11) is not accepted", "ADT^A01|1|X|2.5.1", PATIENT),
    Case::of("its version (MSH-12) is not supported", "ADT^A01|1|P|9.9", PATIENT),
    Case {
        obstacle: Obstacle::OtherApplication,
        ..Case::of("MSH-3 is not among `hl7.applications`", "ADT^A01|1|P|2.5.1", PATIENT)
    },
    Case::of("a field is missing", "ADT^A01|1|P|2.5.1", "PID|1"),
    Case::of(
        "PID-3 and MRG-1 are of different types or authorities",
        "ADT^A40|1|P|2.5.1",
        "PID|1||7^^^H^MR\rMRG|6^^^H^PI",
    ),
    Case::of(
        "a later PID names another patient",
        "ORU^R01|1|P|2.5.1",
        "PID|1||7^^^H^MR\rOBR|1\rPID|2||8^^^H^MR\rOBR|1",
    ),
    Case::of(
        "it is two messages in one frame without BHS",
        "ADT^A01|1|P|2.5.1",
        "PID|1||7^^^H^MR\rMSH|^~\\&|A|B|C|D|20260101||ADT^A01|2|P|2.5.1\rPID|1||8^^^H^MR",
    ),
    Case {
        obstacle: Obstacle::NotStored,
        ..Case::of("nothing can be stored at the moment", "ADT^A01|1|P|2.5.1", PATIENT)
    },
];

/// MSA-1 of the answers to the example of a case, and ERR-3.
struct CaseAnswers {
    /// Of the first answer, if there is one.
    first: String,
    /// Of the application acknowledgement, if there is one.
    application: String,
    /// The error code (table 0357), if there is a problem.
    error: String,
}

/// Has the program judge and answer the example of a case. `conditions` is MSH-15 and MSH-16.
fn answer(case: &Case, conditions: &str) -> CaseAnswers {
    let header = match case.header {
        "" => String::new(),
        of => format!("MSH|^~\\&|A|B|C|D|20260101||{of}|||{conditions}||{}\r", case.character_set),
    };
    let text = format!("{header}{}", case.segments);
    let mut rules = Rules::default();
    if case.obstacle == Obstacle::OtherApplication {
        rules.applications = vec!["RIS".to_owned()];
    }
    let ids = OwnIds { accept: "2".to_owned(), application: "3".to_owned() };
    let (answers, problem) = match judge(text.as_bytes(), &rules) {
        Err(problem) => {
            let first = refuse_unreadable(text.as_bytes(), &problem, &ids.accept, "");
            (Answers { first, application: None }, Some(problem))
        }
        Ok(judged) if case.obstacle == Obstacle::NotStored => {
            let problem = Problem::wrong(ErrorCode::ApplicationInternalError, "", "");
            let first = not_stored(&judged.message, &problem, &ids.accept, "");
            (Answers { first: Some(first), application: None }, Some(problem))
        }
        Ok(judged) => {
            let problem = judged.effects.err();
            (acknowledge(&judged.message, problem.as_ref(), &ids, "").answers, problem)
        }
    };
    CaseAnswers {
        first: answers.first.as_deref().map(code).unwrap_or_default(),
        application: answers.application.as_deref().map(code).unwrap_or_default(),
        error: problem.map(|it| it.code.number().to_string()).unwrap_or_default(),
    }
}

/// MSA-1 of an answer.
fn code(answer: &[u8]) -> String {
    let message = Message::parse(answer, Hl7Charset::Utf8).ok();
    let msa = message.as_ref().and_then(|it| it.segments().iter().find(|it| it.name == "MSA"));
    msa.map(|it| it.field(1).to_owned()).unwrap_or_default()
}

fn write_acknowledgements(text: &mut String) {
    text.push_str(ACKNOWLEDGED);
    text.push_str(
        "| | original | accept (AL, AL) | application (AL, AL) | accept (AL, NE) | ERR-3 |\n\
         |---|---|---|---|---|---|\n",
    );
    for case in CASES {
        let original = answer(case, "|");
        let enhanced = answer(case, "AL|AL");
        let accept_only = answer(case, "AL|NE");
        _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            case.condition,
            original.first,
            enhanced.first,
            enhanced.application,
            accept_only.first,
            original.error,
        );
    }
    text.push_str(REPEATED);
}

fn write_sent(text: &mut String) {
    text.push_str("## Sent\n\n| `what` in a workflow | messages |\n|---|---|\n");
    for kind in OutputKind::requestable().filter(|it| it.format() == OutputFormat::Hl7) {
        _ = writeln!(text, "| {} | {} |", kind.name(), kind.hl7_messages().join(", "));
    }
    text.push_str(SENT_HOW);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message_type::{is_event, is_type};

    #[test]
    fn the_profile_of_the_project_is_that_of_the_program() {
        let committed = include_str!("../CONFORMANCE.md");
        assert!(committed == profile(), "isocenter conformance hl7 > engine/hl7/CONFORMANCE.md");
    }

    /// HL7-10: each case of the table is the one it is called after.
    #[test]
    fn hl7_10_every_case_of_the_table_has_its_error() {
        let errors: Vec<String> = CASES.iter().map(|it| answer(it, "|").error).collect();
        let expected = [
            "", "100", "102", "200", "201", "202", "203", "207", "101", "204", "207", "100", "207",
        ];
        assert_eq!(errors, expected);
    }

    /// Each message of the profile is of the standard, is accepted, and something follows from it.
    #[test]
    fn something_follows_from_every_message_of_the_profile() {
        let rest = "PID|1||7^^^H^MR|||||||||||||||A2\rMRG|6^^^H^MR||A1||V1\r\
            PV1|1|I\rTXA|1|DI\rORC|NW|P1\rOBR|1|P1\rOBX|1|TX|1||text";
        let other = "PID|2||8^^^H^MR";
        for (kind, _) in MEANINGS {
            let (of, event) = kind.split_once('^').unwrap();
            assert!(is_type(of) && is_event(event), "{kind}");
            let other = if *kind == "ADT^A24" { other } else { "" };
            let text = format!("MSH|^~\\&|A|B|C|D|20260101||{kind}|1|P|2.5.1\r{rest}\r{other}");
            let judged = judge(text.as_bytes(), &Rules::default()).unwrap();
            assert!(!judged.effects.unwrap().is_empty(), "{kind}");
        }
    }
}
