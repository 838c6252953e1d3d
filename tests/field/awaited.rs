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

pub(crate) const AWAITED: &[Awaited] = &[Awaited::new(
    "p01-lab-pdfs",
    "a paper of two patients is read as one of one",
    &["G-two-patients"],
)];
