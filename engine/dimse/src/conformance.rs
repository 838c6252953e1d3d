//! The DICOM Conformance Statement (PS3.2): tables from the constants the engine works with, and prose.

use std::fmt::Write as _;

use encoding::file_meta::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};

use crate::config::Timers;
use crate::message::Status;
use crate::negotiation::{
    EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, LOSSLESS, SEND_BYTES_MAX,
};
use crate::sop_class::{COMMITMENT, STORAGE, VERIFICATION};

/// Statuses of a C-STORE response and when they are given (PS3.4, B.2.3; PS3.7, Annex C).
pub const STORE_STATUSES: &[(Status, &str)] = &[
    (
        Status::SUCCESS,
        "stored; also the very same instance again, and one of a name that we have \
      with other content, which is kept beside the first (see `dicom.versions`)",
    ),
    (
        Status::COERCION,
        "stored and flagged, and used by no workflow: it contradicts its study or \
      series (patient, study, modality, frame of reference), or one of its UIDs is malformed. No \
      element is changed",
    ),
    (Status::OUT_OF_RESOURCES, "disk or database cannot take it; the association stays open"),
    (
        Status::DOES_NOT_MATCH,
        "(0008,0016) is not the Affected SOP Class UID, or study or series \
      have no name",
    ),
    (Status::CANNOT_UNDERSTAND, "the data set cannot be read"),
    (Status::OTHER_VERSION, "another version is here, and the site takes no second one"),
    (
        Status::INVALID_INSTANCE,
        "(0008,0018) is not the Affected SOP Instance UID, or the UID is \
      no name at all",
    ),
    (Status::UNRECOGNIZED_OPERATION, "an operation that is not offered"),
    (Status::MISTYPED_ARGUMENT, "a C-STORE without a data set"),
];

/// Specific Character Sets that are read (PS3.3, C.12.1.1.2).
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
         The order of the chapters is that of PS3.2.\n\n## Overview\n\n\
         | service | as user (SCU) | as provider (SCP) |\n|---|---|---|\n\
         | Verification | yes | yes |\n\
         | Storage of the SOP classes below | yes: SEG and Comprehensive 3D SR | yes |\n\
         | Storage Commitment Push Model | yes | yes |\n\n\
         Query/Retrieve, Worklist, MPPS, UPS, media storage and DICOMweb are not offered.\n",
    );
    implementation(&mut text);
    policies(&mut text);
    provider(&mut text);
    commitment(&mut text);
    user(&mut text);
    text.push_str("\n## Character sets\n\nRead: ");
    text.push_str(&CHARACTER_SETS.join(", "));
    text.push_str(
        "; single values and, with code extensions, several. What cannot be decoded is kept as it \
         came and identifies nobody. Objects of ours are in ISO_IR 192.\n\n## Security\n\n\
         No security profile of PS3.15 is claimed: the listener is plaintext. Peers are let in by AE \
         title and network address together; nobody else is.\n",
    );
    text
}

fn implementation(text: &mut String) {
    let pairs = [
        ("Application Context", crate::negotiation::APPLICATION_CONTEXT),
        ("Implementation Class UID (0002,0012)", IMPLEMENTATION_CLASS_UID),
        ("Implementation Version Name (0002,0013)", IMPLEMENTATION_VERSION_NAME),
    ];
    text.push_str("\n## Implementation\n\n| | |\n|---|---|\n");
    for (name, value) in pairs {
        line(text, &[name, value]);
    }
}

fn policies(text: &mut String) {
    let timers = Timers::default();
    text.push_str("\n## Association policies\n\n| | |\n|---|---|\n");
    let seconds = |it: std::time::Duration| format!("{} s", it.as_secs());
    for (name, value) in [
        (
            "Longest PDU asked for",
            "131072 bytes; 4096 to 1048576 (`dicom.pdu_bytes_max`)".to_owned(),
        ),
        (
            "Longest PDU sent",
            format!("{SEND_BYTES_MAX} bytes, or what the peer takes if that is less"),
        ),
        ("Presentation contexts", "128, each answered".to_owned()),
        ("Asynchronous operations", "1/1".to_owned()),
        ("Extended negotiation, storage", "level 2, no coercion".to_owned()),
        ("Role selection", "Storage Commitment Push Model; else the requestor is user".to_owned()),
        ("Associations", "512; 256 of one address (`dicom.associations_per_peer`), fewer of one AE if `dicom.peers` says so".to_owned()),
        ("ARTIM", seconds(timers.artim)),
        ("Silence inside of a message", seconds(timers.inactivity)),
        ("Silence between messages", seconds(timers.idle)),
        ("A whole message", seconds(timers.message)),
        ("An answer to us", seconds(timers.response)),
    ] {
        line(text, &[name, &value]);
    }
    text.push_str(
        "\n| refused | result/source/reason |\n|---|---|\n\
         | protocol version | 1/2/2 |\n| application context | 1/1/2 |\n\
         | called AE title | 1/1/7 |\n| calling AE title, or its address | 1/1/3 |\n\
         | as many associations as there may be | 2/3/2 |\n\
         | nothing can be kept just now | 2/3/1 |\n",
    );
}

fn provider(text: &mut String) {
    text.push_str("\n## As provider\n\n| SOP class | UID |\n|---|---|\n");
    line(text, &["Verification SOP Class", VERIFICATION]);
    line(text, &["Storage Commitment Push Model SOP Class", COMMITMENT]);
    for (uid, name) in STORAGE {
        line(text, &[name, uid]);
    }
    _ = write!(
        text,
        "\nTransfer syntaxes of storage, one for each presentation context, in this order: the first \
         proposed of {}; {EXPLICIT_LITTLE_ENDIAN}; {IMPLICIT_LITTLE_ENDIAN}; any other of the \
         standard. Nothing is transcoded. Verification and commitment: {EXPLICIT_LITTLE_ENDIAN}, \
         {IMPLICIT_LITTLE_ENDIAN}.\n\n| status | C-STORE response |\n|---|---|\n",
        LOSSLESS.join(", ")
    );
    for (status, when) in STORE_STATUSES {
        line(text, &[&format!("{:04X}", status.0), when]);
    }
}

fn commitment(text: &mut String) {
    text.push_str(
        "\n### Storage commitment\n\nN-ACTION (Action Type 1) is answered with 0000 once the request \
         is kept; 0112 for another instance than the well-known one, 0123 for another action, 0120 \
         without a Transaction UID or references, 0115 for references that cannot be read. The files are \
         read again and compared with the digest they were stored under. N-EVENT-REPORT comes on the \
         same association within 5 s, else on one of ours to the address of the peer in the site \
         file, tried for seven days. Event Type 1: all is committed. Event Type 2: Failure Reason \
         0112 never stored here, 0119 of another SOP class, 0110 not what it was, 0131 the \
         Transaction UID was used for something else. What is committed is kept until the site's \
         retention says otherwise.\n",
    );
}

fn user(text: &mut String) {
    text.push_str(
        "\n## As user\n\nReports are sent in Explicit VR Little Endian on one association, which is \
         kept open for 20 s: Segmentation Storage before the Comprehensive 3D SR that refers to it. \
         0000 and Bxxx are taken for success; after A7xx and 0110, and if nobody answers, the same \
         instances are sent again under the same UIDs. Where the site says so, commitment is asked \
         for on the same association, and a report has arrived only once it is confirmed.\n",
    );
}

fn line(text: &mut String, cells: &[&str]) {
    // Writing to a string does not fail.
    _ = writeln!(text, "| {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    use encoding::dicom_charset::Charset;

    use super::*;

    #[test]
    fn the_statement_of_the_project_is_that_of_the_program() {
        let kept = include_str!("../CONFORMANCE.md");
        assert!(kept == statement(), "isocenter conformance dicom > engine/dimse/CONFORMANCE.md");
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
