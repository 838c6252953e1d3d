//! What to do with a message and what to answer (HL7-10, HL7-11). Pure.

use contracts::MessageEffect;
use encoding::hl7_charset::Hl7Charset;

use crate::mapping::effects;
use crate::message::{Message, Problem};

/// Versions of the standard that are read (HL7-24).
const VERSIONS: &[&str] = &[
    "2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1",
    "2.8.2", "2.9",
];

/// Message types of the standard (table 0076). Those without an effect are kept all the same.
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

/// A message that was read, and what it asks for, or why it is not taken.
#[derive(Debug)]
pub struct Judged {
    /// The message.
    pub message: Message,
    /// What it asks to change.
    pub effects: Result<Vec<MessageEffect>, Problem>,
}

/// Reads a message and decides about it.
///
/// # Errors
///
/// Fails if it is no message: then there is nothing to keep.
pub fn judge(bytes: &[u8], default: Hl7Charset) -> Result<Judged, Problem> {
    let message = Message::parse(bytes, default)?;
    let effects = check_header(&message).and_then(|()| effects(&message));
    Ok(Judged { message, effects })
}

fn check_header(message: &Message) -> Result<(), Problem> {
    let kind = message.msh(9, 1);
    if message.msh(10, 1).is_empty() {
        return Err(Problem::wrong(101, "MSH^1^10", "no message control id in MSH-10"));
    }
    let version = message.msh(12, 1);
    if !version.is_empty() && !VERSIONS.contains(&version.as_str()) {
        return Err(Problem::refused(203, "the version in MSH-12 is not supported"));
    }
    if !TYPES.contains(&kind.as_str()) {
        return Err(Problem::refused(200, "the message type in MSH-9 is not supported"));
    }
    Ok(())
}
