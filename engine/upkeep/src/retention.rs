//! How long data are retained, and the removal of what has expired.
//!
//! The store decides what has expired and removes the rows' payloads; files that nothing refers to
//! any more are removed from the archive here. The trail is never removed.

use std::time::Duration;

use contracts::{Archive, Live, Removable, StoreError};
use domain::{Actor, ErrorChain};
use serde::Deserialize;
use store::{PgStore, RetentionTerms};
use tracing::{error, info};

use crate::policy::UpkeepPolicy;

/// How often expired data are removed.
const INTERVAL: Duration = Duration::from_mins(10);

/// `retention:` of the site file. What is left out is retained indefinitely, as the trail always
/// is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// How long images are retained, from the arrival of the last image of their study.
    #[serde(deserialize_with = "workflow::optional_duration")]
    pub images: Option<Duration>,
    /// How long images with a storage commitment of ours (DIN-33) are retained, from that
    /// commitment.
    #[serde(deserialize_with = "workflow::optional_duration")]
    pub committed_images: Option<Duration>,
    /// How long the text of HL7 messages is retained, from their arrival.
    #[serde(deserialize_with = "workflow::optional_duration")]
    pub messages: Option<Duration>,
    /// How long the results of runs and what was sent of them are retained, from the end of the
    /// run.
    #[serde(deserialize_with = "workflow::optional_duration")]
    pub results: Option<Duration>,
}

impl RetentionConfig {
    /// The same as the store understands it.
    pub const fn terms(self) -> RetentionTerms {
        let Self { images, committed_images, messages, results } = self;
        RetentionTerms { images, committed_images, messages, results }
    }

    /// What is wrong with these times, for the person who wrote the site file.
    pub fn problem(self) -> Option<String> {
        let committed = self.committed_images?;
        (committed < self.images?).then(|| {
            "retention.committed_images: images with a storage commitment cannot be retained for \
             less time than others (`retention.images`)"
                .to_owned()
        })
    }
}

/// What one pass removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Studies whose images, messages whose text and runs whose results were removed.
    pub items: u64,
    /// Files of images and artifacts that were removed from the archive.
    pub files: u64,
}

/// Removes expired data at regular intervals until the future is dropped.
pub async fn run(store: &PgStore, archive: &dyn Archive, policy: &Live<UpkeepPolicy>) {
    loop {
        let terms = policy.get().retention;
        match remove_expired(store, archive, &terms, &Actor::engine()).await {
            Ok(Removed { items: 0, files: 0 }) => {}
            Ok(Removed { items, files }) => info!(items, files, "expired data were removed"),
            // What is left is found again by the next pass.
            Err(error) => error!(error = %ErrorChain(&error), "expired data cannot be removed"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Removes what has expired by now, on behalf of `by`. A file that cannot be removed stays for the
/// next pass.
///
/// # Errors
///
/// Fails if the database does.
pub async fn remove_expired(
    store: &PgStore,
    archive: &dyn Archive,
    terms: &RetentionTerms,
    by: &Actor,
) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    for expired in store.expired(terms).await? {
        removed.items += u64::from(store.remove_expired(&expired, terms, by.clone()).await?);
    }
    let files = store.files_to_remove().await?;
    for sha256 in &files.instances {
        removed.files += remove_file(store, archive, sha256, Removable::Instance(sha256)).await?;
    }
    for sha256 in &files.artifacts {
        removed.files += remove_file(store, archive, sha256, Removable::Artifact(sha256)).await?;
    }
    Ok(removed)
}

/// Removes one file, and returns how many files were removed: one or none.
async fn remove_file(
    store: &PgStore,
    archive: &dyn Archive,
    sha256: &str,
    file: Removable<'_>,
) -> Result<u64, StoreError> {
    match archive.remove(file).await {
        Ok(true) => {
            store.note_file_gone(sha256).await?;
            Ok(1)
        }
        Ok(false) => Ok(0),
        Err(error) => {
            error!(%error, sha256, "an expired file cannot be removed");
            Ok(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RetentionConfig, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn what_is_left_out_is_retained_indefinitely() {
        let config = parse("{ images: 30d }").unwrap_or_default();
        assert_eq!(config.terms().images, Some(30 * DAY));
        assert_eq!(config.terms().messages, None);
        assert_eq!(config.terms().results, None);
        assert_eq!(config.problem(), None);
    }

    #[test]
    fn din_33_committed_images_are_retained_at_least_as_long_as_others() {
        let days = |images, committed| RetentionConfig {
            images: Some(images * DAY),
            committed_images: Some(committed * DAY),
            ..RetentionConfig::default()
        };
        assert_eq!(days(30, 30).problem(), None);
        assert_eq!(days(30, 365).problem(), None);
        assert!(days(30, 29).problem().is_some());
    }

    #[test]
    fn a_number_without_a_unit_is_no_duration() {
        assert!(parse("{ images: 30 }").is_err());
        assert!(parse("{ pictures: 30d }").is_err());
    }
}
