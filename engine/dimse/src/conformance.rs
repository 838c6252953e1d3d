//! The DICOM Conformance Statement (PS3.2), written from the tables that the engine works with.
//!
//! What the engine offers as provider is the list of its services, each with its `Offer`.
//! `CONFORMANCE.md` beside this crate is the output of [`statement`]; a test compares the two.

use std::fmt::Write as _;
use std::time::Duration;

use domain::OutputKind;
use encoding::dicom::file_meta::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};

use crate::config::{
    ASSOCIATION_BYTES_MAX, ASSOCIATIONS_MAX, ASSOCIATIONS_PER_PEER_MAX, PDU_BYTES_MAX,
    PDU_BYTES_MAX_RANGE, Timers,
};
use crate::negotiation::{APPLICATION_CONTEXT, Rejection, SEND_BYTES_MAX};
use crate::services::{Offer, SERVICES};
use crate::sop_class::STORAGE;
use crate::storage_scu::{COMMITMENT_WAIT, IDLE_MAX};
use crate::transfer_syntax::{
    EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, LOSSLESS, TransferSyntaxChoice,
};

/// Specific Character Sets that are decoded (PS3.3, C.12.1.1.2).
pub const CHARACTER_SETS: &[&str] = &[
    "ISO_IR 6",
    "ISO_IR 100",
    "ISO_IR 101",
    "ISO_IR 109",
    "ISO_IR 110",
    "ISO_IR 144",
    "ISO_IR 127",
    "ISO_IR 126",
    "ISO_IR 138",
    "ISO_IR 148",
    "ISO_IR 203",
    "ISO_IR 13",
    "ISO_IR 166",
    "ISO_IR 192",
    "GB18030",
    "GBK",
    "ISO 2022 IR 87",
    "ISO 2022 IR 159",
    "ISO 2022 IR 149",
    "ISO 2022 IR 58",
];

/// The statement, as Markdown.
pub fn statement() -> String {
    let mut text = String::from(
        "# DICOM Conformance Statement\n\n\
         Written by `isocenter conformance dicom` from the program itself; a test compares the two.\n\
         The order of the chapters is that of PS3.2.\n",
    );
    overview(&mut text);
    implementation(&mut text);
    policies(&mut text);
    rejections(&mut text);
    text.push_str("\n## As provider\n");
    for service in SERVICES {
        provider(&mut text, service.offer());
    }
    user(&mut text);
    text.push_str("\n## Character sets\n\nRead: ");
    text.push_str(&CHARACTER_SETS.join(", "));
    text.push_str(
        "; single values and, with code extensions, several. What cannot be decoded is stored as it \
         came and identifies nobody. Objects of ours are in ISO_IR 192.\n\n## Security\n\n\
         No security profile of PS3.15 is claimed: the listener is plaintext. Peers are admitted by \
         AE title and network address together; all others are refused.\n",
    );
    text
}

fn overview(text: &mut String) {
    text.push_str(
        "\n## Overview\n\n| service | as user (SCU) | as provider (SCP) |\n|---|---|---|\n",
    );
    for service in SERVICES {
        let offer = service.offer();
        line(text, &[offer.name, if offer.is_also_user { "yes" } else { "no" }, "yes"]);
    }
    text.push_str(
        "\nThe SOP classes of each are listed below. Query/Retrieve, Worklist, MPPS, UPS, media \
         storage and DICOMweb are not offered.\n",
    );
}

fn implementation(text: &mut String) {
    text.push_str("\n## Implementation\n\n| | |\n|---|---|\n");
    line(text, &["Application Context", APPLICATION_CONTEXT]);
    line(text, &["Implementation Class UID (0002,0012)", IMPLEMENTATION_CLASS_UID]);
    line(text, &["Implementation Version Name (0002,0013)", IMPLEMENTATION_VERSION_NAME]);
}

fn policies(text: &mut String) {
    let timers = Timers::default();
    text.push_str("\n## Association policies\n\n| | |\n|---|---|\n");
    for (name, value) in [
        (
            "Longest PDU received",
            format!(
                "{PDU_BYTES_MAX} bytes; {} to {} (`dicom.pdu_bytes_max`)",
                PDU_BYTES_MAX_RANGE.start(),
                PDU_BYTES_MAX_RANGE.end()
            ),
        ),
        (
            "Longest PDU sent",
            format!("{SEND_BYTES_MAX} bytes, or what the peer accepts if that is less"),
        ),
        (
            "Longest data set that is not an instance",
            format!("{ASSOCIATION_BYTES_MAX} bytes (`dicom.association_bytes_max`)"),
        ),
        ("Presentation contexts", "128, each answered".to_owned()),
        ("Asynchronous operations", "1/1".to_owned()),
        ("Extended negotiation", extended_negotiation()),
        ("Role selection", role_selection()),
        (
            "Associations",
            format!(
                "{ASSOCIATIONS_MAX}; {ASSOCIATIONS_PER_PEER_MAX} of one address \
                 (`dicom.associations_per_peer`), fewer of one AE if `dicom.peers` sets a limit"
            ),
        ),
        ("ARTIM", seconds(timers.artim)),
        ("Silence inside a message", seconds(timers.inactivity)),
        ("Silence between messages", seconds(timers.idle)),
        ("A whole message", seconds(timers.message)),
        ("A response to a request of ours", seconds(timers.response)),
    ] {
        line(text, &[name, &value]);
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

fn extended_negotiation() -> String {
    let offers = SERVICES.iter().filter_map(|service| {
        let offer = service.offer();
        let bytes: Vec<String> =
            offer.extended_negotiation?.iter().map(ToString::to_string).collect();
        Some(format!("{}: {}", offer.name, bytes.join(" ")))
    });
    offers.collect::<Vec<_>>().join("; ")
}

fn role_selection() -> String {
    let names: Vec<&str> = SERVICES
        .iter()
        .map(|service| service.offer())
        .filter(|offer| offer.can_requestor_be_scp)
        .map(|offer| offer.name)
        .collect();
    format!("{}: the requestor may be provider; else it is user", names.join(", "))
}

fn rejections(text: &mut String) {
    text.push_str("\n| an association is rejected because | result/source/reason |\n|---|---|\n");
    for rejection in Rejection::ALL {
        let mut bytes = Vec::new();
        // Writing to memory does not fail.
        _ = dicom_ul::pdu::write_pdu(&mut bytes, &rejection.pdu());
        // Result, source and reason are the last three bytes (PS3.8, Table 9-21).
        let codes: Vec<String> = bytes.iter().skip(7).map(ToString::to_string).collect();
        line(text, &[rejection.reason(), &codes.join("/")]);
    }
}

fn provider(text: &mut String, offer: &Offer) {
    _ = write!(text, "\n### {}\n\n| SOP class | UID |\n|---|---|\n", offer.name);
    for class in offer.sop_classes {
        line(text, &[class.name, class.uid]);
    }
    let choice = match offer.transfer_syntaxes {
        TransferSyntaxChoice::Uncompressed => {
            format!("{EXPLICIT_LITTLE_ENDIAN}, else {IMPLICIT_LITTLE_ENDIAN}")
        }
        TransferSyntaxChoice::LosslessFirst => format!(
            "the first proposed of {}; else {EXPLICIT_LITTLE_ENDIAN}; else \
             {IMPLICIT_LITTLE_ENDIAN}; else any other of the standard. Nothing is transcoded",
            LOSSLESS.join(", ")
        ),
    };
    _ = write!(
        text,
        "\nTransfer syntax of each presentation context: {choice}.\n\n| status | response |\n\
         |---|---|\n",
    );
    for entry in offer.statuses {
        line(text, &[&format!("{:04X}", entry.status.0), entry.meaning]);
    }
    if !offer.remarks.is_empty() {
        _ = writeln!(text, "\n{}", offer.remarks);
    }
}

fn user(text: &mut String) {
    text.push_str(
        "\n## As user\n\n\
         Verification tests a destination. Storage Commitment is requested for what was sent where \
         the site file has `commitment: true`. Storage sends the SOP classes below, as the outputs \
         that a workflow requests, in this order: an object is sent after the objects that it \
         refers to.\n\n\
         | output | SOP class | UID |\n|---|---|---|\n",
    );
    for kind in OutputKind::ALL.iter().filter(|kind| kind.is_dicom()) {
        for uid in kind.sop_classes() {
            let name = STORAGE.iter().find(|class| class.uid == *uid).map_or("", |it| it.name);
            line(text, &[kind.name(), name, uid]);
        }
        if kind.sop_classes().is_empty() {
            line(text, &[kind.name(), "any that was stored as provider, as it was received", ""]);
        }
    }
    _ = write!(
        text,
        "\nObjects of ours are sent in {EXPLICIT_LITTLE_ENDIAN}, original images in the transfer \
         syntax they were received in. Both uncompressed transfer syntaxes are proposed for every \
         class as well, one in each presentation context: what is in Explicit VR Little Endian is \
         written in {IMPLICIT_LITTLE_ENDIAN} for a peer that accepts nothing else; nothing else is \
         transcoded. An association is held open for {} for the next delivery. 0000 and Bxxx count \
         as success; after A7xx and 0110, and if the peer does not answer, the same instances are \
         sent again with the same UIDs. With `commitment: true` the request is sent on the same association, \
         its result is awaited there for {}, and a report counts as delivered only once it is \
         committed: the result names every instance of the request as committed, and no other. \
         What is not committed is attempted five times, and then goes to a person.\n",
        seconds(IDLE_MAX),
        seconds(COMMITMENT_WAIT),
    );
}

fn line(text: &mut String, cells: &[&str]) {
    // Writing to a string does not fail.
    _ = writeln!(text, "| {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    use encoding::dicom::charset::Charset;

    use super::*;

    #[test]
    fn the_statement_of_the_project_is_that_of_the_program() {
        let stored = include_str!("../CONFORMANCE.md");
        assert!(stored == statement(), "isocenter conformance dicom > engine/dimse/CONFORMANCE.md");
    }

    /// The SOP classes of the outputs that are sent are named, and are those of the standard.
    #[test]
    fn every_sop_class_that_is_sent_is_in_the_statement() {
        let statement = statement();
        let (_, user) = statement.split_once("## As user").unwrap();
        for uid in OutputKind::ALL.iter().flat_map(|kind| kind.sop_classes()) {
            let class = STORAGE.iter().find(|class| class.uid == *uid).unwrap();
            assert!(user.contains(&format!("| {} | {uid} |", class.name)), "{uid}");
        }
    }

    #[test]
    fn din_70_every_character_set_of_the_statement_is_known() {
        // Sets with more than one byte are never the first value (PS3.3, C.12.1.1.2).
        let value =
            |it: &str| if it.starts_with("ISO 2022") { format!("\\{it}") } else { it.to_owned() };
        assert!(CHARACTER_SETS.iter().all(|it| Charset::parse(&value(it)).is_known()));
        assert!(!Charset::parse("ISO_IR 999").is_known());
    }
}
