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
        "h02-unit-with-bare-caret",
        "the unit is cut at its caret",
        &["unit of 12.3", "unit of 250", "unit of 4.6", "unit of 85"],
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
        "h10-documents-in-messages",
        "a message with a pointer is flagged; nothing else says that the document was not read",
        &["g-pointer"],
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
        "the draft that corrects one is `R`, as every draft is, and names no order of the laboratory",
        &["status of its row", "status of the correction", "the order is named"],
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
