//! What is not right yet: checks of cases, and what is wrong with them.
//!
//! The list is strict. A check that is wrong and not in it fails, and so does one that is in it and
//! right: its name has to go.

/// Checks of a case that are known to be wrong.
pub(crate) struct Awaited {
    pub(crate) case: &'static str,
    /// The checks, by their names.
    pub(crate) checks: &'static [&'static str],
}

impl Awaited {
    /// What is not right is for readers of this file.
    const fn new(
        case: &'static str,
        _wrong: &'static str,
        checks: &'static [&'static str],
    ) -> Self {
        Self { case, checks }
    }
}

pub(crate) const AWAITED: &[Awaited] = &[
    Awaited::new(
        "d06-dirty-headers",
        "a date of the form 2026.01.03 is not read",
        &["a-dates: OBR-7", "a-dates: study date"],
    ),
    Awaited::new(
        "d06-dirty-headers",
        "an identifier of more than 64 characters is cut",
        &["b-long: Patient ID"],
    ),
    Awaited::new(
        "d06-dirty-headers",
        "a birth date that is none goes out",
        &["c-sex-age: PID-7", "c-sex-age: birth date"],
    ),
    Awaited::new(
        "d06-dirty-headers",
        "control characters go out",
        &["d-controls: no control characters"],
    ),
    Awaited::new("d06-dirty-headers", "a backslash becomes a slash", &["g-backslash: Patient ID"]),
    Awaited::new(
        "d07-odd-encodings",
        "refused where dcmtk and pydicom read",
        &["a-trailing-zeros", "l-command-group-inside", "m-meta-group-inside"],
    ),
    Awaited::new(
        "d07-odd-encodings",
        "UN of undefined length is stored and cannot be read",
        &["g-un-undefined-implicit-inside"],
    ),
    Awaited::new(
        "d08-odd-uids",
        "the reason is not true: nothing contradicts, a UID is malformed",
        &[
            "a-leading-zero-instance: used, or the true reason",
            "b-leading-zero-study: used, or the true reason",
            "e-letters: used, or the true reason",
            "g-ends-with-dot: used, or the true reason",
        ],
    ),
    Awaited::new(
        "d09-character-set-names",
        "the name is lost in every output, and nothing is told",
        &[
            "a-ISO-IR 100",
            "b-ISO IR 100",
            "c-ISO_IR_100",
            "d-UTF-8",
            "e-ISO IR 192",
            "f-ISO 2022 IR 6 first",
            "h-GB2312",
            "j-lower",
            "l-latin-in-ascii",
            "n-ISO_IR 58",
        ],
    ),
    Awaited::new(
        "h02-unit-with-bare-caret",
        "the unit is cut at its caret",
        &["unit of 12.3", "unit of 250", "unit of 4.6", "unit of 85"],
    ),
    Awaited::new(
        "h03-status-of-observations",
        "P and C go out as if they were F",
        &["corrected is told", "preliminary is told"],
    ),
    Awaited::new(
        "h03-status-of-observations",
        "what was sent before it was withdrawn stays as it is",
        &["what was sent before is taken back"],
    ),
    Awaited::new(
        "h04-flags-without-range",
        "the flag of the laboratory is lost where nothing is computed, and HH and LL become less",
        &[
            "flag of 12.1",
            "flag of 2.4",
            "flag of 31",
            "flag of 6.2",
            "flag of 7.4",
            "flag of >=32",
            "flag of Gram positive cocci in clusters",
        ],
    ),
    Awaited::new("h05-panels-specimens-subids", "notes are lost", &["note"]),
    Awaited::new(
        "h05-panels-specimens-subids",
        "the specimen is lost",
        &["specimen Cerebrospinal fluid", "specimen Serum"],
    ),
    Awaited::new(
        "h05-panels-specimens-subids",
        "the time of processing goes out as that of the specimen",
        &["time of 21", "time of 96"],
    ),
    Awaited::new(
        "h08-japanese-msh18",
        "only the first repetition of MSH-18 is read",
        &["name", "row of 7.1", "row of 陰性"],
    ),
    Awaited::new(
        "h09-names-of-character-sets",
        "AR for the name of the set; not kept, and not shown",
        &[
            "8859-1",
            "CP1252",
            "GB2312",
            "GBK",
            "ISO IR14",
            "ISO IR6",
            "ISO-8859-15",
            "ISO8859-1",
            "ISO_8859-1",
            "ISO_IR 100",
            "LATIN1",
            "WINDOWS-1252",
            "windows-1252",
        ],
    ),
    Awaited::new(
        "h09-names-of-character-sets",
        "the repetition of MSH-18 is not read, and the name is lost",
        &["~8859/1"],
    ),
    Awaited::new(
        "h10-documents-in-messages",
        "a PDF is not known by its bytes; nothing follows, or for a reason that is not true",
        &["a-hex", "b-untyped", "c-no-type", "d-type-only", "g-pointer"],
    ),
    Awaited::new(
        "h10-documents-in-messages",
        "the pieces of a PDF are read one by one",
        &["f-chunks"],
    ),
    Awaited::new(
        "h10-documents-in-messages",
        "base64 in TX goes out as a result",
        &["e-as-text", "e-as-text is read or told"],
    ),
    Awaited::new(
        "h11-reference-ranges",
        "a flag is computed from what is no range, or of another unit",
        &[
            "T01 5.0 in -9.5",
            "T03 150 in 200",
            "T04 3 in 0-0",
            "T05 0 in -5--2",
            "T07 N/A in N/A",
            "T08 See note in See note",
            "T09 pending in pending",
            "T49 40 % in 0.37-0.47",
            "T60 2 in 0",
            "T62 0.8 in 1",
        ],
    ),
    Awaited::new(
        "h13-coded-results",
        "the result is dropped, and nothing is told",
        &["Bacteria", "Last menstrual period", "Time of draw", "Titration"],
    ),
    Awaited::new(
        "h14-escapes",
        "hexadecimal escapes are read as UTF-8 whatever MSH-18 says",
        &["name"],
    ),
    Awaited::new(
        "h17-correction-of-a-result",
        "a correction is a report of its own, with nothing of the order of the laboratory",
        &["status of its row", "status of the correction", "the order is named", "the same OBR-3"],
    ),
    Awaited::new(
        "h18-order-number-of-two-systems",
        "order numbers have no namespace: the second order takes the place of the first",
        &["ORC-2 of H18A", "ORC-2 of H18B", "ORC-3 of H18A", "ORC-3 of H18B", "order of H18A"],
    ),
    Awaited::new(
        "h19-odd-headers",
        "ORU without an event starts nothing",
        &["a run on the type without event"],
    ),
    Awaited::new(
        "h19-odd-headers",
        "a segment that is only its name is refused",
        &["short segment"],
    ),
    Awaited::new(
        "p01-lab-pdfs",
        "a line that begins with Comment, Note or Page ends the table",
        &["1-comment-line", "2-note-line", "F-page-footer-in-table", "l-sections-and-comments"],
    ),
    Awaited::new(
        "p01-lab-pdfs",
        "a comment becomes a part of a name",
        &["7-long-comment-below-row"],
    ),
    Awaited::new("p01-lab-pdfs", "the older of two dated columns is taken", &["A-oldest-first"]),
    Awaited::new(
        "p01-lab-pdfs",
        "the first line of a name in two lines is lost",
        &["D-wrapped-name"],
    ),
    Awaited::new(
        "p01-lab-pdfs",
        "a paper of two patients is read as one of one",
        &["G-two-patients"],
    ),
];
