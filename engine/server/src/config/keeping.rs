//! `retention:` and `disk:`: for how long what is kept, and how full the disk may become.

use std::time::Duration;

use serde::Deserialize;
use store::RetentionTerms;

/// For how long what is kept, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keeping {
    pub(crate) terms: RetentionTerms,
    pub(crate) disk: DiskConfig,
}

/// `retention:`. What is left out is kept for ever, as the trail always is.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetentionConfig {
    /// Images, since the last of their study came.
    #[serde(deserialize_with = "workflow::optional_duration")]
    pub(crate) images: Option<Duration>,
    /// Images that we have committed to keep (DIN-33), since then.
    #[serde(deserialize_with = "workflow::optional_duration")]
    pub(crate) committed_images: Option<Duration>,
    /// What HL7 messages say, since they came.
    #[serde(deserialize_with = "workflow::optional_duration")]
    pub(crate) messages: Option<Duration>,
    /// What runs found and what was sent of it, since they ended.
    #[serde(deserialize_with = "workflow::optional_duration")]
    pub(crate) results: Option<Duration>,
}

impl RetentionConfig {
    pub(crate) const fn terms(self) -> RetentionTerms {
        let Self { images, committed_images, messages, results } = self;
        RetentionTerms { images, committed_images, messages, results }
    }

    /// What is wrong with it.
    pub(crate) fn problem(self) -> Option<String> {
        let is_shorter = |committed| self.images.is_some_and(|images| committed < images);
        self.committed_images.is_some_and(is_shorter).then(|| {
            "retention.committed_images: what was committed cannot be kept for less long than what \
             was not (`retention.images`)"
                .to_owned()
        })
    }
}

/// `disk:`, in per cent of the disk that holds the data (SEC-38).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DiskConfig {
    /// Fuller than this is worth a warning.
    pub(crate) warn: u8,
    /// Fuller than this, no association is accepted and no document over HTTP; those inside may finish, and
    /// messages are taken. 90, if that lies between the others.
    pub(crate) turn_away: Option<u8>,
    /// Fuller than this, nothing more is taken in: senders are told to come again.
    pub(crate) refuse: u8,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self { warn: 80, turn_away: None, refuse: 95 }
    }
}

impl DiskConfig {
    /// From when on nobody new is let in.
    pub(crate) fn turn_away(self) -> u8 {
        self.turn_away.unwrap_or_else(|| 90.max(self.warn).min(self.refuse))
    }

    /// What is wrong with it.
    pub(crate) fn problem(self) -> Option<String> {
        let rising = [self.warn, self.turn_away(), self.refuse, 100];
        let is_right = rising.is_sorted();
        (!is_right).then(|| {
            "disk: `warn`, `turn_away` and `refuse` are per cent of the disk, none less than the one before"
                .to_owned()
        })
    }
}
