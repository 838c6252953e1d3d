//! How full the disk with the data is, and the three marks at which the engine reacts (SEC-38).
//!
//! A disk that is full in the middle of a study loses that study. The engine therefore stops
//! accepting early and in steps: first a warning, then no new senders, then nothing at all.

use std::path::Path;

use rustix::fs::statvfs;
use serde::Deserialize;

/// A disk with less than this many bytes free is full, however large it is.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// Where the second mark lies if the site file names none, in per cent.
const TURN_AWAY_DEFAULT: u8 = 90;

/// `disk:` of the site file: marks in per cent of the disk that holds the data, none less than the
/// one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskMarks {
    /// Above this mark, an event and a log line warn that the disk is filling up.
    pub warn: u8,
    /// Above this mark no association that would store something is accepted and no document over
    /// HTTP. Associations that are open may finish, and HL7 messages are accepted. 90, if that lies between the other two
    /// marks.
    pub turn_away: Option<u8>,
    /// Above this mark nothing is accepted: senders are asked to try again later.
    pub refuse: u8,
}

impl Default for DiskMarks {
    fn default() -> Self {
        Self { warn: 80, turn_away: None, refuse: 95 }
    }
}

impl DiskMarks {
    /// The mark above which nobody new is admitted, in per cent.
    pub fn turn_away(self) -> u8 {
        self.turn_away.unwrap_or_else(|| TURN_AWAY_DEFAULT.max(self.warn).min(self.refuse))
    }

    /// What is wrong with these marks, for the person who wrote the site file.
    pub fn problem(self) -> Option<String> {
        let marks = [self.warn, self.turn_away(), self.refuse, 100];
        (!marks.is_sorted()).then(|| {
            "disk: `warn`, `turn_away` and `refuse` are per cent of the disk, none less than the \
             one before"
                .to_owned()
        })
    }

    /// The level that a disk with this usage has reached.
    pub fn level(self, usage: DiskUsage) -> DiskLevel {
        if usage.percent > u64::from(self.refuse) || usage.free_bytes < FREE_BYTES_MIN {
            DiskLevel::Full
        } else if usage.percent > u64::from(self.turn_away()) {
            DiskLevel::NearlyFull
        } else if usage.percent > u64::from(self.warn) {
            DiskLevel::Filling
        } else {
            DiskLevel::Roomy
        }
    }
}

/// How far a disk has filled up, measured by [`DiskMarks`]. In rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskLevel {
    /// There is room.
    Roomy,
    /// Above `warn`: worth a warning.
    Filling,
    /// Above `turn_away`: only senders that are already connected may finish.
    NearlyFull,
    /// Above `refuse`, or with less than 256 MiB free: nothing more is accepted.
    Full,
}

/// How full a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUsage {
    /// Used space in per cent of what an ordinary user may use, rounded up as `df` does.
    pub percent: u64,
    /// Bytes that an ordinary user may still write.
    pub free_bytes: u64,
}

impl DiskUsage {
    /// Measures the disk that holds `folder`, and publishes the gauge `archive_disk_used_ratio`.
    ///
    /// Nothing, if the file system does not answer.
    pub fn measure(folder: &Path) -> Option<Self> {
        let volume = statvfs(folder).ok()?;
        let used = volume.f_blocks.saturating_sub(volume.f_bfree);
        let usage = Self::of_blocks(used, volume.f_bavail, volume.f_frsize);
        metrics::gauge!("archive_disk_used_ratio").set(usage.percent as f64 / 100.0);
        Some(usage)
    }

    /// Computes usage from block counts. Blocks reserved for root count as neither used nor free.
    fn of_blocks(used: u64, available: u64, block_bytes: u64) -> Self {
        let usable = used.saturating_add(available).max(1);
        Self {
            percent: used.saturating_mul(100).div_ceil(usable),
            free_bytes: available.saturating_mul(block_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more than the lower bound of free bytes.
    const PLENTY: u64 = 1 << 40;

    fn marks(warn: u8, turn_away: Option<u8>, refuse: u8) -> DiskMarks {
        DiskMarks { warn, turn_away, refuse }
    }

    #[test]
    fn usage_is_rounded_up_as_df_does() {
        assert_eq!(DiskUsage::of_blocks(1, 999, 1).percent, 1);
        assert_eq!(DiskUsage::of_blocks(0, 1000, 1).percent, 0);
        assert_eq!(DiskUsage::of_blocks(999, 1, 4096).percent, 100);
        assert_eq!(DiskUsage::of_blocks(999, 1, 4096).free_bytes, 4096);
    }

    #[test]
    fn a_volume_without_blocks_is_not_a_division_by_zero() {
        assert_eq!(DiskUsage::of_blocks(0, 0, 4096), DiskUsage { percent: 0, free_bytes: 0 });
    }

    #[test]
    fn each_mark_is_the_last_per_cent_of_its_level() {
        let marks = DiskMarks::default();
        for (percent, level) in [
            (80, DiskLevel::Roomy),
            (81, DiskLevel::Filling),
            (90, DiskLevel::Filling),
            (91, DiskLevel::NearlyFull),
            (95, DiskLevel::NearlyFull),
            (96, DiskLevel::Full),
        ] {
            let usage = DiskUsage { percent, free_bytes: PLENTY };
            assert_eq!(marks.level(usage), level, "{percent} %");
        }
    }

    #[test]
    fn sec_38_a_disk_without_room_is_full_whatever_its_per_cent() {
        let usage = DiskUsage { percent: 10, free_bytes: FREE_BYTES_MIN - 1 };
        assert_eq!(DiskMarks::default().level(usage), DiskLevel::Full);
        let usage = DiskUsage { percent: 10, free_bytes: FREE_BYTES_MIN };
        assert_eq!(DiskMarks::default().level(usage), DiskLevel::Roomy);
    }

    #[test]
    fn the_second_mark_is_never_outside_the_other_two() {
        assert_eq!(marks(80, None, 95).turn_away(), 90);
        assert_eq!(marks(92, None, 95).turn_away(), 92);
        assert_eq!(marks(50, None, 60).turn_away(), 60);
        assert_eq!(marks(50, Some(55), 60).turn_away(), 55);
    }

    #[test]
    fn marks_that_fall_are_a_problem() {
        assert_eq!(marks(80, Some(90), 95).problem(), None);
        assert_eq!(marks(80, Some(80), 80).problem(), None);
        assert!(marks(80, Some(70), 95).problem().is_some());
        assert!(marks(96, None, 95).problem().is_some());
        assert!(marks(80, None, 101).problem().is_some());
    }

    #[test]
    fn a_misspelt_mark_is_an_error() {
        assert!(serde_saphyr::from_str::<DiskMarks>("{ warn: 70 }").is_ok());
        assert!(serde_saphyr::from_str::<DiskMarks>("{ warning: 70 }").is_err());
    }
}
