//! The HL7 profile: tables from the constants the engine works with, and prose.

use std::fmt::Write as _;

use crate::frame::MESSAGE_BYTES_MAX;
use crate::receiver::{Rules, VERSIONS};

/// What is done with messages: type and event, and what follows. Others of the standard are kept.
pub const MEANINGS: &[(&str, &str)] = &[
    (
        "ADT^A01",
        "the patient is added or brought up to date (so for all ADT events not named below)",
    ),
    ("ADT^A18", "two patients become one: PID-3 stays, MRG-1 goes (also A30, A34, A36, A39, A40)"),
    ("ADT^A24", "two patients belong together and stay two; A37 parts them"),
    ("ADT^A40", "two patients become one, in any order of messages; what was sent is put right"),
    ("ADT^A41", "an account has another number (also A35, A49); A42, A50: a visit"),
    ("ADT^A43", "what is filed under MRG-1 belongs to PID-3"),
    ("ADT^A44", "an account moves to another patient with its orders and images; A45: a visit"),
    ("ADT^A47", "a patient has another identifier (also A46)"),
    ("ORM^O01", "order: OBR-18 accession number, ZDS-1 Study Instance UID, ORC-1 and ORC-5"),
    ("OMI^O23", "order: IPC-1 accession number, IPC-3 Study Instance UID"),
    ("OMG^O19", "order"),
    ("OML^O21", "order"),
    ("ORU^R01", "results, with files out of OBX-5 (ED)"),
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
        "MLLP (release 1), versions {}; processing ids {} (`hl7.processing_ids`); delimiters are those \
         of MSH-1 and MSH-2. A message has at most {} MiB; a longer one is read to a limit, answered \
         with AR and its MSH-10, and the connection is closed. Segments end with CR; LF and CRLF are \
         read, too. A frame may hold a batch (FHS, BHS, BTS, FTS): each message is answered, in a \
         batch.\n",
        VERSIONS.join(", "),
        rules.processing_ids.join(", "),
        MESSAGE_BYTES_MAX >> 20,
    );
    text.push_str("| message | what follows |\n|---|---|\n");
    for (kind, meaning) in MEANINGS {
        _ = writeln!(text, "| {kind} | {meaning} |");
    }
    text.push_str(ANSWERS);
    text
}

const ANSWERS: &str = "\n\
Every other message of tables 0076 and 0003 is kept, acknowledged and may start a workflow; one that is \
in neither, and not among `hl7.types`, is answered with AR, kept and shown.\n\n\
## Acknowledged\n\n\
A positive answer is sent once the message would survive a loss of power. MSH-15 and MSH-16 both empty \
or NE: one answer of the original mode (a sender that wants none would wait for ever over MLLP). Else an \
accept acknowledgement as MSH-15 says (AL, NE, ER, SU), and an application acknowledgement as MSH-16 \
says, as a message of its own on the same connection: ORR^O02, ORI^O24, ORG^O20, ORL^O22 for orders, ACK \
for others.\n\n\
| | original | accept | application | ERR-3 |\n|---|---|---|---|---|\n\
| kept | AA | CA | AA | |\n\
| no usable MSH | AR | AR | | 100 |\n\
| MSH-9 type, event | AR | CR | | 200, 201 |\n\
| MSH-11 | AR | CR | | 202 |\n\
| MSH-12 | AR | CR | | 203 |\n\
| MSH-3 not among `hl7.applications`; too long | AR | CR | | 207 |\n\
| a field is missing | AE | CA, or CE where no application acknowledgement is wanted | AE | 101 |\n\
| a value cannot be decoded, or is of an unknown set | AE | as above | AE | 102 |\n\
| PID-3 and MRG-1 are of different types or authorities | AE | as above | AE | 204 |\n\
| nothing can be kept just now | AE | CE | | 207 |\n\n\
The same message again (MSH-3, MSH-4, MSH-10 and content, within seven days) is answered as the first \
time and changes nothing. An acknowledgement is never acknowledged.\n\n\
## Sent\n\n\
ORU^R01 2.5.1 through the template `oru.hl7`, MSH-15 AL, MSH-16 NE, in the destination's character set; \
a character that does not fit is an error, never a question mark. OBR-25 and OBX-11: R for what nobody has \
signed, C for what corrects it. OBR-3 is the same for every version of a report. The same MSH-10 on every \
try; after AE five tries, after AR none, and with `on_error: block` nothing more until a person has \
looked. With `report: text` or `pdf` the report itself comes as one more OBX, FT or ED \
(`^application^pdf^Base64^...`, PDF/A-2a), under the code of the report (18748-4 or 11502-2, LN).\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message_type::{is_event, is_type};
    use crate::receiver::judge;

    #[test]
    fn the_profile_of_the_project_is_that_of_the_program() {
        let kept = include_str!("../CONFORMANCE.md");
        assert!(kept == profile(), "isocenter conformance hl7 > engine/hl7/CONFORMANCE.md");
    }

    /// Each message of the profile is of the standard, is taken, and something follows from it.
    #[test]
    fn something_follows_from_every_message_of_the_profile() {
        let rest = "PID|1||7^^^H^MR|||||||||||||||A2\rPID|2||8^^^H^MR\rMRG|6^^^H^MR||A1||V1\r\
            PV1|1|I\rTXA|1|DI\rORC|NW|P1\rOBR|1|P1\rOBX|1|TX|1||text";
        for (kind, _) in MEANINGS {
            let (of, event) = kind.split_once('^').unwrap();
            assert!(is_type(of) && is_event(event), "{kind}");
            let text = format!("MSH|^~\\&|A|B|C|D|20260101||{kind}|1|P|2.5.1\r{rest}");
            let judged = judge(text.as_bytes(), &Rules::default()).unwrap();
            assert!(!judged.effects.unwrap().is_empty(), "{kind}");
        }
    }
}
