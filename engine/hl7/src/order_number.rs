//! Reads by what an order is found again: its numbers with what assigned them (EI; HL7 v2.5.1,
//! 2.A.28), and the kind of department that does it.

use domain::{Assigner, OrderKind, OrderNumber};

use crate::groups::OrderGroup;
use crate::message::{ErrorCode, Message, Problem, Repetition, Segment};

/// Values of OBR-24 of imaging: table 0074, and the modalities of DICOM that senders write there.
const IMAGING: &[&str] = &[
    "RAD", "RX", "IMG", "CT", "MR", "NMR", "NMS", "NM", "US", "CUS", "OUS", "RUS", "VUS", "XRC",
    "CTH", "CR", "DX", "XA", "RF", "MG", "IO", "PX",
];

/// Values of OBR-24 of laboratories (table 0074). Pathology is not among them: it makes images.
const LABORATORY: &[&str] =
    &["LAB", "CH", "HM", "BG", "BLB", "IMM", "MB", "MCB", "MYC", "OSL", "SR", "TX", "VR"];

/// A number of an order: that of ORC, or that of OBR where ORC has none. Without an authority it is
/// one of the sender's own.
///
/// # Errors
///
/// Fails if the number or its authority cannot be decoded: it would be mistaken for another.
pub(crate) fn order_number(
    message: &Message,
    group: &OrderGroup<'_>,
    field: usize,
) -> Result<OrderNumber, Problem> {
    let of_control = named(message, group.segment("ORC"), field)?;
    let of_request = named(message, group.segment("OBR"), field)?;
    let is_same = of_control.number == of_request.number;
    let has_less = of_control.assigner.authority().is_empty();
    let is_of_request = of_control.is_empty() || (is_same && has_less && !of_request.is_empty());
    Ok(if is_of_request { of_request } else { of_control })
}

/// The number that the one who does it gave an order, in ORC or OBR of results: ORC-3 or OBR-3.
///
/// # Errors
///
/// Fails if the number or its authority cannot be decoded.
pub(crate) fn filler_number(message: &Message, segment: &Segment) -> Result<OrderNumber, Problem> {
    named(message, Some(segment), 3)
}

/// The accession number with its authority: that of the imaging procedure (IPC-1), or a plain text
/// (OBR-18).
///
/// # Errors
///
/// Fails if the number or its authority cannot be decoded.
pub(crate) fn accession(message: &Message, group: &OrderGroup<'_>) -> Result<OrderNumber, Problem> {
    let of_procedure = named(message, group.segment("IPC"), 1)?;
    if !of_procedure.is_empty() {
        return Ok(of_procedure);
    }
    let of_request = named(message, group.segment("OBR"), 18)?;
    Ok(OrderNumber { number: of_request.number, assigner: Assigner::Unknown })
}

/// The number that the one who ordered gave an order, in ORC or OBR of results: ORC-2 or OBR-2. One
/// that cannot be decoded is none: nothing is found by it.
pub(crate) fn placer_number(message: &Message, segment: &Segment) -> OrderNumber {
    named(message, Some(segment), 2).unwrap_or_default()
}

fn named(
    message: &Message,
    segment: Option<&Segment>,
    field: usize,
) -> Result<OrderNumber, Problem> {
    let Some(segment) = segment else { return Ok(OrderNumber::default()) };
    let Some(identifier) = message.repetitions(segment, field).next() else {
        return Ok(OrderNumber::default());
    };
    let number = identifier.component(1).trim().to_owned();
    if number.is_empty() {
        return Ok(OrderNumber::default());
    }
    let assigner = authority(identifier).unwrap_or_else(|| sender(message));
    let parts = OrderNumber { number, assigner };
    if parts.parts().iter().any(|it| it.contains('\u{fffd}')) {
        let location = format!("{}^1^{field}", segment.name);
        let text = "an order number cannot be decoded";
        return Err(Problem::wrong(ErrorCode::DataTypeError, location, text));
    }
    Ok(parts)
}

/// The authority of EI.2 to EI.4. Some senders write it as HD into EI.2.
fn authority(identifier: Repetition<'_>) -> Option<Assigner> {
    let either = |component, subcomponent| {
        let own = identifier.component(component);
        if own.trim().is_empty() { identifier.subcomponent(2, subcomponent) } else { own }
    };
    let namespace = identifier.component(2).trim().to_owned();
    let universal_id = either(3, 2).trim().to_owned();
    let universal_id_type = either(4, 3).trim().to_owned();
    let is_named = !namespace.is_empty() || !universal_id.is_empty();
    is_named.then_some(Assigner::Authority { namespace, universal_id, universal_id_type })
}

fn sender(message: &Message) -> Assigner {
    Assigner::Sender { application: message.msh(3, 1), facility: message.msh(4, 1) }
}

/// The kind of department that does what is asked for: by the type of the message, by what it
/// holds, or by OBR-24.
pub(crate) fn kind(message: &Message, group: &OrderGroup<'_>) -> OrderKind {
    let section = group.segment("OBR").map(|it| message.value(it, 24, 1)).unwrap_or_default();
    let has = |name| group.segment(name).is_some();
    match message.msh(9, 1).as_str() {
        "OMI" => OrderKind::Imaging,
        "OML" => OrderKind::Laboratory,
        _ if has("IPC") || has("ZDS") || IMAGING.contains(&section.as_str()) => OrderKind::Imaging,
        _ if has("SPM") || LABORATORY.contains(&section.as_str()) => OrderKind::Laboratory,
        _ => OrderKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use encoding::hl7::charset::Hl7Charset;

    use super::*;
    use crate::groups;

    fn parsed(kind: &str, rest: &str) -> Message {
        let header =
            format!("MSH|^~\\&|RIS|H|ISO|H|20260101||{kind}|M1|P|2.5.1|||||||UNICODE UTF-8");
        let text = format!("{header}\rPID|1||7\r{rest}");
        // `?` stands for a byte that is no UTF-8.
        let bytes: Vec<u8> = text.bytes().map(|it| if it == b'?' { 0xFF } else { it }).collect();
        Message::parse(&bytes, Hl7Charset::Utf8).unwrap()
    }

    fn placer(rest: &str) -> Result<OrderNumber, Problem> {
        let message = parsed("ORM^O01", rest);
        let groups = groups::patients(&message);
        order_number(&message, &groups[0].orders()[0], 2)
    }

    #[track_caller]
    fn check_number(rest: &str, expected: &str, authority: &str) {
        let number = placer(rest).unwrap();
        assert_eq!((number.text().as_str(), number.assigner.authority()), (expected, authority));
    }

    #[test]
    fn hl7_40_an_order_number_is_read_with_its_authority() {
        check_number("ORC|NW|1001^ED\rOBR|1", "1001^ED", "ED");
        check_number("ORC|NW|1001^ED^1.2.3^ISO", "1001^ED^1.2.3^ISO", "ED");
        check_number("ORC|NW|1001^^1.2.3^ISO", "1001^^1.2.3^ISO", "1.2.3");
        check_number("ORC|NW|1001^ED&1.2.3&ISO", "1001^ED^1.2.3^ISO", "ED");
        check_number("ORC|NW|\rOBR|1|1001^ED", "1001^ED", "ED");
        check_number("ORC|NW|1001\rOBR|1|1001^ED", "1001^ED", "ED");
        check_number("ORC|NW|1001\rOBR|1|1002^ED", "1001", "");
        check_number("ORC|NW", "", "");
    }

    #[test]
    fn hl7_40_a_number_without_an_authority_is_the_senders_own() {
        let number = placer("ORC|NW|1001").unwrap();
        let sender = Assigner::Sender { application: "RIS".to_owned(), facility: "H".to_owned() };
        assert_eq!(number.assigner, sender);
    }

    #[test]
    fn din_65_an_accession_number_is_read_with_its_issuer() {
        for (rest, number, issuer) in [
            ("ORC|NW|1\rOBR|1\rIPC|A1^RIS|RP1|1.2.3", "A1", "RIS"),
            ("ORC|NW|1\rOBR|1\rIPC|A1^^1.2.3^ISO|RP1|1.2.3", "A1", "1.2.3"),
            ("ORC|NW|1\rOBR|1||||||||||||||||| A2 \rIPC||RP1|1.2.3", "A2", ""),
        ] {
            let message = parsed("OMI^O23", rest);
            let groups = groups::patients(&message);
            let found = accession(&message, &groups[0].orders()[0]).unwrap();
            assert_eq!((found.number.as_str(), found.assigner.authority()), (number, issuer));
        }
    }

    #[test]
    fn hl7_40_a_number_that_cannot_be_decoded_is_refused() {
        for orc in ["ORC|NW|10?1", "ORC|NW|1001^E?", "ORC|NW|1001^^1.2.?^ISO"] {
            let problem = placer(orc).unwrap_err();
            assert_eq!((problem.code, &*problem.location), (ErrorCode::DataTypeError, "ORC^1^2"));
        }
    }

    #[test]
    fn hl7_40_the_department_is_that_of_the_message_or_of_the_request() {
        for (code, rest, expected) in [
            ("OMI^O23", "ORC|NW|1\rOBR|1", OrderKind::Imaging),
            ("OML^O21", "ORC|NW|1\rOBR|1", OrderKind::Laboratory),
            ("ORM^O01", "ORC|NW|1\rOBR|1\rZDS|1.2.3", OrderKind::Imaging),
            ("ORM^O01", &format!("ORC|NW|1\rOBR|1{}CT", "|".repeat(23)), OrderKind::Imaging),
            ("ORM^O01", &format!("ORC|NW|1\rOBR|1{}CH", "|".repeat(23)), OrderKind::Laboratory),
            ("ORM^O01", "ORC|NW|1\rOBR|1", OrderKind::Unknown),
            ("OMG^O19", "ORC|NW|1\rOBR|1\rSPM|1", OrderKind::Laboratory),
        ] {
            let message = parsed(code, rest);
            let groups = groups::patients(&message);
            assert_eq!(kind(&message, &groups[0].orders()[0]), expected, "{code} {rest}");
        }
    }
}
