//! Samples packed into one row: tokens, labels, positions, and which picture and mask each `[SEG]`
//! has.

use std::ops::Range;

use citrus_v::positions::{Grid, ImageTokenMismatch, mrope_positions};

use crate::losses::{BatchCounts, IGNORED};
use crate::sample::Sample;

/// A picture of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowPicture {
    /// The number of its sample in the data.
    pub sample: usize,
    /// Its index among the pictures that the sample came with.
    pub picture: usize,
    /// Its patches.
    pub grid: Grid,
}

/// A `[SEG]` of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowTarget {
    /// The index of the token in the row.
    pub position: usize,
    /// The index of its picture in [`PackedRow::pictures`].
    pub picture: usize,
    /// The number of its sample in the data.
    pub sample: usize,
    /// The index of its mask among the masks that the sample came with.
    pub mask: usize,
}

/// Samples packed into one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedRow {
    /// The tokens.
    pub token_ids: Vec<u32>,
    /// The label of each token.
    pub labels: Vec<i64>,
    /// The positions of each token on the axes of time, row and column. Each sample begins anew.
    pub axes: [Vec<i64>; 3],
    /// The tokens of each sample.
    pub ranges: Vec<Range<usize>>,
    /// The pictures, in the order of their tokens.
    pub pictures: Vec<RowPicture>,
    /// The `[SEG]` tokens, in the order of the tokens.
    pub targets: Vec<RowTarget>,
}

/// The positions whose next token is predicted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predictions {
    /// The positions.
    pub positions: Vec<u32>,
    /// The token after each.
    pub tokens: Vec<u32>,
}

impl PackedRow {
    /// Adds a sample, which has this number in the data.
    ///
    /// # Errors
    ///
    /// Fails if its picture tokens are not those of its pictures.
    pub fn push(
        &mut self,
        number: usize,
        sample: &Sample,
        image_token: u32,
        merge: usize,
    ) -> Result<(), ImageTokenMismatch> {
        let grids: Vec<Grid> = sample.pictures.iter().map(|it| it.grid).collect();
        let positions = mrope_positions(&sample.token_ids, image_token, &grids, merge)?;
        for (axis, added) in self.axes.iter_mut().zip(positions.axes) {
            axis.extend(added);
        }
        let start = self.token_ids.len();
        let first_picture = self.pictures.len();
        self.token_ids.extend(&sample.token_ids);
        self.labels.extend(&sample.labels);
        self.ranges.push(start..self.token_ids.len());
        self.pictures.extend(sample.pictures.iter().map(|picture| RowPicture {
            sample: number,
            picture: picture.index,
            grid: picture.grid,
        }));
        self.targets.extend(sample.targets.iter().map(|target| RowTarget {
            position: start + target.position,
            picture: first_picture + target.picture,
            sample: number,
            mask: target.mask,
        }));
        Ok(())
    }

    /// The positions whose next token is predicted: it has a label, and is of the same sample.
    pub fn predictions(&self) -> Predictions {
        let mut predictions = Predictions::default();
        for range in &self.ranges {
            for position in range.clone().skip(1) {
                let label = self.labels.get(position).copied().unwrap_or(IGNORED);
                if let Ok(token) = u32::try_from(label) {
                    let before = u32::try_from(position - 1).unwrap_or(u32::MAX);
                    predictions.positions.push(before);
                    predictions.tokens.push(token);
                }
            }
        }
        predictions
    }

    /// What this row adds to the counts of its batch.
    pub fn counts(&self) -> BatchCounts {
        BatchCounts { tokens: self.predictions().tokens.len(), masks: self.targets.len() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packing::pack;
    use crate::sample::tests::{IMAGE, SEG, any_sample, sample, words};

    fn row_of(samples: &[Sample]) -> PackedRow {
        let mut row = PackedRow::default();
        for (number, sample) in samples.iter().enumerate() {
            row.push(number, sample, IMAGE, 2).unwrap();
        }
        row
    }

    #[test]
    fn pap_53_no_token_is_predicted_from_another_sample() {
        let row = row_of(&[sample(&[words(3, &[])]), sample(&[words(2, &[])])]);
        let predictions = row.predictions();
        assert_eq!(predictions.positions, [0, 1, 3]);
        assert_eq!(predictions.tokens, [11, 12, 11]);
        assert_eq!(row.axes[0], [0, 1, 2, 0, 1]);
        assert_eq!(row.counts(), BatchCounts { tokens: 3, masks: 0 });
    }

    proptest! {
        #[test]
        fn pap_54_each_seg_has_its_mask_and_picture_after_packing(
            samples in proptest::collection::vec(any_sample(), 1..12),
            capacity in 60_usize..90,
        ) {
            let lengths: Vec<usize> = samples.iter().map(Sample::len).collect();
            prop_assume!(lengths.iter().all(|it| *it <= capacity));
            let mut found = Vec::new();
            for items in pack(&lengths, capacity).unwrap() {
                let mut row = PackedRow::default();
                for item in &items {
                    row.push(*item, &samples[*item], IMAGE, 2).unwrap();
                }
                prop_assert!(row.token_ids.len() <= capacity);
                let segs = row.token_ids.iter().filter(|it| **it == SEG).count();
                prop_assert_eq!(segs, row.targets.len());
                for target in &row.targets {
                    let own = &samples[target.sample];
                    let range = row.ranges.iter().find(|it| it.contains(&target.position)).unwrap();
                    let before = own.targets[target.mask];
                    prop_assert_eq!(target.position - range.start, before.position);
                    prop_assert_eq!(&row.token_ids[range.clone()], &own.token_ids[..]);
                    let picture = &row.pictures[target.picture];
                    prop_assert_eq!(picture.sample, target.sample);
                    prop_assert_eq!(picture.picture, own.pictures[before.picture].index);
                    found.push((target.sample, target.mask));
                }
            }
            found.sort_unstable();
            let masks = samples.iter().enumerate();
            let expected: Vec<_> = masks
                .flat_map(|(at, it)| (0..it.targets.len()).map(move |mask| (at, mask)))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
