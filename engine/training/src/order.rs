//! The order of the samples: which row is trained on when, decided by the seed alone.

use serde::{Deserialize, Serialize};

use crate::packing::pack;
use crate::sample::TooLong;

/// The number by which the seeds of consecutive epochs differ, so that they have nothing in common.
const EPOCH_STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;

/// Where a run is in its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The steps taken.
    pub step: u32,
    /// The epoch.
    pub epoch: u32,
    /// The next row of the epoch.
    pub row: usize,
}

/// The rows of an epoch, in the order of training: the numbers of the samples of each.
///
/// # Errors
///
/// Fails if a sample is longer than a row.
pub fn rows_of_epoch(
    lengths: &[usize],
    row_length: usize,
    seed: u64,
    epoch: u32,
) -> Result<Vec<Vec<usize>>, TooLong> {
    let seed = seed.wrapping_add(u64::from(epoch).wrapping_mul(EPOCH_STRIDE));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut numbers: Vec<usize> = (0..lengths.len()).collect();
    random.shuffle(&mut numbers);
    let number = |it: usize| numbers.get(it).copied().unwrap_or_default();
    let shuffled: Vec<usize> =
        numbers.iter().map(|it| lengths.get(*it).copied().unwrap_or_default()).collect();
    let rows = pack(&shuffled, row_length)?.into_iter();
    let mut rows: Vec<Vec<usize>> = rows.map(|row| row.into_iter().map(number).collect()).collect();
    random.shuffle(&mut rows);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_decided_by_seed_and_epoch() {
        let lengths: Vec<usize> = (0..50).map(|it| 1 + it * 7 % 20).collect();
        let rows = |seed, epoch| rows_of_epoch(&lengths, 40, seed, epoch).unwrap();
        assert_eq!(rows(1, 0), rows(1, 0));
        assert_ne!(rows(1, 0), rows(1, 1));
        assert_ne!(rows(1, 0), rows(2, 0));
        let mut numbers: Vec<usize> = rows(1, 0).concat();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    }
}
