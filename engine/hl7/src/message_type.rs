//! Message types and trigger events of the standard (HL7 v2, tables 0076 and 0003).

use domain::MessageType;

/// Message types of the standard. Those without effects are stored all the same.
const TYPES: &[&str] = &[
    "ACK", "ADR", "ADT", "BAR", "BPS", "BRP", "BRT", "BTS", "CCF", "CCI", "CCM", "CCQ", "CCU",
    "CQU", "CRM", "CSU", "DBC", "DBU", "DFT", "DOC", "DPR", "DRG", "DRR", "EAC", "EAN", "EAR",
    "EDR", "EHC", "EQQ", "ERP", "ESR", "ESU", "INR", "INU", "LSR", "LSU", "MCF", "MDM", "MFD",
    "MFK", "MFN", "MFQ", "MFR", "NMD", "NMQ", "NMR", "OMB", "OMD", "OMG", "OMI", "OML", "OMN",
    "OMP", "OMQ", "OMS", "OPL", "OPR", "OPU", "ORA", "ORB", "ORD", "ORF", "ORG", "ORI", "ORL",
    "ORM", "ORN", "ORP", "ORR", "ORS", "ORU", "ORX", "OSM", "OSQ", "OSR", "OSU", "OUL", "PEX",
    "PGL", "PIN", "PMU", "PPG", "PPP", "PPR", "PPT", "PPV", "PRR", "PTR", "QBP", "QCK", "QCN",
    "QRY", "QSB", "QSX", "QVR", "RAR", "RAS", "RCI", "RCL", "RDE", "RDR", "RDS", "RDY", "REF",
    "RER", "RGR", "RGV", "ROR", "RPA", "RPI", "RPL", "RPR", "RQA", "RQC", "RQI", "RQP", "RQQ",
    "RRA", "RRD", "RRE", "RRG", "RRI", "RSP", "RTB", "SCN", "SDN", "SDR", "SIU", "SLN", "SLR",
    "SMD", "SPQ", "SQM", "SQR", "SRM", "SRR", "SSR", "SSU", "STC", "STI", "SUR", "TBR", "TCR",
    "TCU", "UDM", "VQQ", "VXQ", "VXR", "VXU", "VXX",
];

/// Trigger events of the standard, as a letter and the range of its numbers.
const EVENTS: &[(char, std::ops::RangeInclusive<u8>)] = &[
    ('A', 1..=62),
    ('B', 1..=8),
    ('C', 1..=12),
    ('E', 1..=31),
    ('I', 1..=22),
    ('J', 1..=2),
    ('K', 11..=34),
    ('M', 1..=19),
    ('N', 1..=2),
    ('O', 1..=59),
    ('P', 1..=12),
    ('Q', 1..=34),
    ('R', 1..=43),
    ('S', 1..=37),
    ('T', 1..=12),
    ('U', 1..=14),
    ('V', 1..=4),
    ('W', 1..=2),
];

/// Trigger events of the standard that have another form.
const OTHER_EVENTS: &[&str] = &[
    "CNQ", "PC1", "PC2", "PC3", "PC4", "PC5", "PC6", "PC7", "PC8", "PC9", "PCA", "PCB", "PCC",
    "PCD", "PCE", "PCF", "PCG", "PCH", "PCJ", "PCK", "PCL", "RAR", "RDR", "RER", "RGR", "ROR",
    "Z73", "Z77", "Z82", "Z86", "Z90",
];

/// The application acknowledgement of an order message (HL7 v2.5.1, chapter 4).
pub(crate) struct OrderResponse {
    /// Message type of the order.
    pub(crate) request: &'static str,
    /// Message type of the response.
    pub(crate) response: &'static str,
    /// Trigger event of the response.
    pub(crate) event: &'static str,
}

/// The application acknowledgements of all order messages.
pub(crate) const ORDER_RESPONSES: &[OrderResponse] = &[
    OrderResponse { request: "ORM", response: "ORR", event: "O02" },
    OrderResponse { request: "OMG", response: "ORG", event: "O20" },
    OrderResponse { request: "OML", response: "ORL", event: "O22" },
    OrderResponse { request: "OMI", response: "ORI", event: "O24" },
];

/// Whether a message type is one of the standard.
pub fn is_type(kind: &str) -> bool {
    TYPES.contains(&kind)
}

/// Whether a trigger event is one of the standard. Some old messages name none.
pub fn is_event(event: &str) -> bool {
    let mut characters = event.chars();
    let letter = characters.next();
    let number = characters.as_str();
    let is_numbered = number.len() == 2
        && number.parse().is_ok_and(|number: u8| {
            EVENTS.iter().any(|(it, range)| Some(*it) == letter && range.contains(&number))
        });
    event.is_empty() || is_numbered || OTHER_EVENTS.contains(&event)
}

/// The type of a message by its code, trigger event and structure (MSH-9.1 to MSH-9.3). Versions
/// 2.1 and 2.2 had no event where a type had one meaning only, and some senders still write none.
pub(crate) fn message_type(code: &str, trigger: &str, structure: &str) -> MessageType {
    if !trigger.is_empty() {
        return MessageType::new(code, trigger);
    }
    let of_structure =
        structure.split_once('_').filter(|(of, event)| *of == code && is_event(event));
    let event = match (of_structure, code) {
        (Some((_, event)), _) => event,
        (None, "ORU") => "R01",
        (None, "ORM") => "O01",
        (None, _) => "",
    };
    MessageType::new(code, event)
}

/// Type, event and structure of the application acknowledgement of a message, in its delimiters.
pub fn response(kind: &str, event: &str, component: char) -> String {
    let c = component;
    match ORDER_RESPONSES.iter().find(|it| it.request == kind) {
        Some(OrderResponse { response, event, .. }) => {
            format!("{response}{c}{event}{c}{response}_{event}")
        }
        None if event.is_empty() => "ACK".to_owned(),
        None => format!("ACK{c}{event}{c}ACK"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_the_standard_are_known_and_no_others() {
        for event in ["A01", "A62", "O23", "R22", "T11", "PC3", "V04", "S17", ""] {
            assert!(is_event(event), "{event}");
        }
        for event in ["Z99", "A63", "A1", "A001", "01", "ß01", "X01"] {
            assert!(!is_event(event), "{event}");
        }
    }

    #[test]
    fn an_order_is_answered_with_its_own_response() {
        assert_eq!(response("OMI", "O23", '^'), "ORI^O24^ORI_O24");
        assert_eq!(response("ADT", "A01", '*'), "ACK*A01*ACK");
    }
}
