//! Reads a message back and checks it: its header, the segments that its type requires, and nothing
//! that is no segment.

use contracts::Output;
use hl7_parser::Message;

/// The problems of a message. Empty, if it may be sent. `required` names the segments of its type
/// beside MSH.
pub(crate) fn problems(output: &Output, required: &[&str]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(&output.bytes) else {
        return vec!["it is no text in UTF-8".to_owned()];
    };
    let mut problems = Vec::new();
    if text.contains(|character: char| character.is_control() && character != '\r') {
        problems.push("there are control characters in it".to_owned());
    }
    let message = match Message::parse(text) {
        Ok(message) => message,
        Err(error) => {
            problems.push(format!("it cannot be read back: {error}"));
            return problems;
        }
    };
    for name in required {
        if message.segment(name).is_none() {
            problems.push(format!("there is no {name}"));
        }
    }
    if !has_valid_header(&message, &output.id) {
        problems.push("the MSH is not what it should be".to_owned());
    }
    // The parser stops at the first line that is no segment.
    let rest = text.get(message.raw_value().len()..).unwrap_or_default();
    let has_invalid_name = message.segments().any(|segment| !is_segment_name(segment.name));
    if has_invalid_name || !rest.trim_matches('\r').is_empty() {
        problems.push("there are lines that are no segments".to_owned());
    }
    problems
}

/// MSH with the recommended delimiters, the control id of the output (MSH-10), and a processing id
/// (MSH-11).
fn has_valid_header(message: &Message<'_>, control_id: &str) -> bool {
    let header = message.segment("MSH");
    let field = |number| header.and_then(|it| it.field(number)).map_or("", |it| it.raw_value());
    message.raw_value().starts_with("MSH|^~\\&|")
        && field(10) == control_id
        && !field(11).is_empty()
}

/// Three letters and digits (HL7 v2.5.1, 2.5.2).
fn is_segment_name(name: &str) -> bool {
    name.len() == 3 && name.chars().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "MSH|^~\\&|A|B|C|D|1||ORU^R01|1|P|2.5.1\rPID|1\rOBR|1\rOBX|1\r";

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let output = Output {
            kind: domain::OutputKind::Oru,
            id: "1".to_owned(),
            series: String::new(),
            sop_class: String::new(),
            bytes: text.as_bytes().to_vec(),
            stored: None,
        };
        let found = problems(&output, &["PID", "OBR", "OBX"]).join("; ");
        assert!(
            if expected.is_empty() { found.is_empty() } else { found.contains(expected) },
            "{found}"
        );
    }

    #[test]
    fn a_message_that_can_be_sent_has_no_problem() {
        check(GOOD, "");
    }

    #[test]
    fn a_segment_that_its_type_requires_is_missed() {
        check(&GOOD.replace("PID|1\r", ""), "no PID");
        check(&GOOD.replace("OBX|1\r", ""), "no OBX");
    }

    #[test]
    fn a_header_with_another_control_id_or_other_delimiters_is_refused() {
        check(&GOOD.replace("|1|P|", "|2|P|"), "MSH");
        check(&GOOD.replace("|1|P|", "|1||"), "MSH");
        check(&GOOD.replace("MSH|^~", "MSH|~^"), "MSH");
    }

    #[test]
    fn a_line_that_is_no_segment_is_refused() {
        check(&GOOD.replace("OBX|1", "OBX|1\rrest of a text"), "no segments");
        check(&GOOD.replace("OBX|1", "OBX|1\robx|2"), "no segments");
    }

    #[test]
    fn a_control_character_is_refused() {
        check(&GOOD.replace("OBR|1", "OBR|\u{1c}1"), "control");
    }

    #[test]
    fn what_is_no_message_at_all_is_refused() {
        check("a report", "cannot be read back");
        check("", "cannot be read back");
    }
}
