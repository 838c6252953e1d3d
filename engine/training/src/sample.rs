//! A sample as tokens and labels, and how an over-long one is shortened.
//!
//! The tokens of a picture stay together, and a `[SEG]` stays with the picture that it refers to.

use std::ops::Range;

use citrus_v::positions::Grid;

use crate::losses::IGNORED;

/// A picture of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplePicture {
    /// Its index among the pictures that the sample came with.
    pub index: usize,
    /// Its patches.
    pub grid: Grid,
    /// Its tokens, with those that mark start and end.
    pub span: Range<usize>,
}

/// A `[SEG]` of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegTarget {
    /// The index of the token.
    pub position: usize,
    /// The index of the picture that it refers to, in [`Sample::pictures`].
    pub picture: usize,
    /// The index of its mask among the masks that the sample came with.
    pub mask: usize,
}

/// A sample as tokens and labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The tokens.
    pub token_ids: Vec<u32>,
    /// The label of each token, [`IGNORED`] where none is predicted.
    pub labels: Vec<i64>,
    /// The pictures, in the order of their tokens.
    pub pictures: Vec<SamplePicture>,
    /// The `[SEG]` tokens with their masks, in the order of the tokens.
    pub targets: Vec<SegTarget>,
}

/// A picture, or a `[SEG]` with its picture, is longer than a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{needed} tokens of a sample belong together, at most {most} fit")]
pub struct TooLong {
    /// The tokens that belong together.
    pub needed: usize,
    /// The longest part.
    pub most: usize,
}

impl Sample {
    /// The number of tokens.
    pub const fn len(&self) -> usize {
        self.token_ids.len()
    }

    /// Whether there is no token.
    pub const fn is_empty(&self) -> bool {
        self.token_ids.is_empty()
    }

    /// The number of tokens that are predicted: those with a label, but for the first token.
    pub fn label_count(&self) -> usize {
        self.labels.iter().skip(1).filter(|it| **it != IGNORED).count()
    }

    /// The first tokens of the sample, at most `length_max`: the end is cut off, before a picture
    /// rather than within it, and before a `[SEG]` whose picture would be cut off. A `[SEG]` that
    /// is cut off loses its mask as well.
    #[must_use]
    pub fn truncated(&self, length_max: usize) -> Self {
        let mut end = self.len().min(length_max);
        loop {
            let mut earlier = end;
            for picture in &self.pictures {
                if picture.span.start < earlier && earlier < picture.span.end {
                    earlier = picture.span.start;
                }
            }
            for target in &self.targets {
                let picture = self.pictures.get(target.picture);
                let is_cut = picture.is_none_or(|it| it.span.end > earlier);
                if target.position < earlier && is_cut {
                    earlier = target.position;
                }
            }
            if earlier == end {
                return self.part(0..end);
            }
            end = earlier;
        }
    }

    /// The parts of the sample, each of at most `length_max` tokens and as long as possible. A
    /// picture and all `[SEG]` that refer to it are in one part, with everything in between.
    ///
    /// # Errors
    ///
    /// Fails if what belongs together is longer.
    pub fn split(&self, length_max: usize) -> Result<Vec<Self>, TooLong> {
        let together = self.inseparable();
        let mut parts = Vec::new();
        let mut start = 0;
        while self.len() - start > length_max {
            let limit = start + length_max;
            let cut = together.iter().find(|it| it.start < limit && limit < it.end);
            let end = cut.map_or(limit, |it| it.start);
            if end <= start {
                let needed = cut.map_or(1, ExactSizeIterator::len);
                return Err(TooLong { needed, most: length_max });
            }
            parts.push(self.part(start..end));
            start = end;
        }
        parts.push(self.part(start..self.len()));
        Ok(parts)
    }

    /// The ranges of tokens that belong together, in order and without overlaps.
    fn inseparable(&self) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> =
            self.pictures.iter().map(|it| it.span.clone()).collect();
        for target in &self.targets {
            if let Some(range) = ranges.get_mut(target.picture) {
                range.start = range.start.min(target.position);
                range.end = range.end.max(target.position + 1);
            }
        }
        ranges.sort_by_key(|it| it.start);
        let mut merged: Vec<Range<usize>> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }

    /// A part of the sample, with the pictures and `[SEG]` in it. Its first token is not predicted.
    fn part(&self, range: Range<usize>) -> Self {
        let is_inside =
            |it: &SamplePicture| range.start <= it.span.start && it.span.end <= range.end;
        let mut pictures = Vec::new();
        let mut new_index = Vec::new();
        for picture in &self.pictures {
            new_index.push(is_inside(picture).then_some(pictures.len()));
            if is_inside(picture) {
                let span = picture.span.start - range.start..picture.span.end - range.start;
                pictures.push(SamplePicture { span, ..picture.clone() });
            }
        }
        let targets = self.targets.iter().filter(|it| range.contains(&it.position));
        let targets = targets.filter_map(|target| {
            let picture = new_index.get(target.picture).copied().flatten()?;
            Some(SegTarget { position: target.position - range.start, picture, ..*target })
        });
        let targets = targets.collect();
        let mut labels = self.labels.get(range.clone()).unwrap_or_default().to_vec();
        if let Some(first) = labels.first_mut() {
            *first = IGNORED;
        }
        let token_ids = self.token_ids.get(range).unwrap_or_default().to_vec();
        Self { token_ids, labels, pictures, targets }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The token of a picture in samples of tests.
    pub(crate) const IMAGE: u32 = 1;
    /// The token `[SEG]` in samples of tests.
    pub(crate) const SEG: u32 = 2;

    /// Some words, perhaps a picture of this many tokens, and `[SEG]` tokens for pictures of any
    /// place.
    #[derive(Clone, Debug)]
    pub(crate) struct Block {
        pub(crate) words: usize,
        pub(crate) picture: Option<usize>,
        pub(crate) targets: Vec<usize>,
    }

    pub(crate) fn words(words: usize, targets: &[usize]) -> Block {
        Block { words, picture: None, targets: targets.to_vec() }
    }

    fn picture_after(words: usize, tokens: usize) -> Block {
        Block { words, picture: Some(tokens), targets: Vec::new() }
    }

    /// A sample of blocks. All labels are set, and words count up from 10.
    pub(crate) fn sample(blocks: &[Block]) -> Sample {
        let mut sample = Sample::default();
        let pictures = blocks.iter().filter(|it| it.picture.is_some()).count();
        let mut word = 10;
        for Block { words, picture, targets } in blocks {
            for _ in 0..*words {
                sample.token_ids.push(word);
                word += 1;
            }
            if let Some(columns) = picture {
                let start = sample.token_ids.len();
                sample.token_ids.extend(std::iter::repeat_n(IMAGE, *columns));
                let index = sample.pictures.len();
                let span = start..start + columns;
                let grid = [1, 2, 2 * columns];
                sample.pictures.push(SamplePicture { index, grid, span });
                sample.token_ids.push(3);
            }
            for target in targets.iter().filter(|_| pictures > 0) {
                let position = sample.token_ids.len();
                let mask = sample.targets.len();
                sample.targets.push(SegTarget { position, picture: target % pictures, mask });
                sample.token_ids.push(SEG);
            }
        }
        sample.labels = sample.token_ids.iter().map(|it| i64::from(*it)).collect();
        sample
    }

    pub(crate) fn any_sample() -> impl Strategy<Value = Sample> {
        let picture = (any::<bool>(), 1_usize..6).prop_map(|(is, columns)| is.then_some(columns));
        let targets = proptest::collection::vec(0_usize..4, 0..3);
        let block = (0_usize..6, picture, targets).prop_map(|(words, picture, targets)| Block {
            words,
            picture,
            targets,
        });
        proptest::collection::vec(block, 1..5).prop_map(|it| sample(&it))
    }

    /// Every picture of a part is whole, and every `[SEG]` of it has its own mask and picture.
    fn check(part: &Sample, whole: &Sample) {
        let count =
            |of: &Sample, token: u32| of.token_ids.iter().filter(|it| **it == token).count();
        let tokens: usize = part.pictures.iter().map(|it| it.span.len()).sum();
        assert_eq!(tokens, count(part, IMAGE));
        assert_eq!(part.targets.len(), count(part, SEG));
        for picture in &part.pictures {
            let tokens = &part.token_ids[picture.span.clone()];
            assert!(tokens.iter().all(|it| *it == IMAGE));
            assert_eq!(tokens.len(), whole.pictures[picture.index].span.len());
        }
        for target in &part.targets {
            assert_eq!(part.token_ids[target.position], SEG);
            let of_whole = whole.targets[target.mask];
            assert_eq!(part.pictures[target.picture].index, of_whole.picture);
        }
        assert!(part.labels.first().is_none_or(|it| *it == IGNORED));
        assert_eq!(part.labels.len(), part.len());
    }

    #[test]
    fn pap_54_truncation_cuts_no_picture_and_no_seg_from_its_mask() {
        // Two words, a picture of four tokens and its end, a word, a [SEG].
        let sample = sample(&[picture_after(2, 4), words(1, &[0])]);
        assert_eq!(sample.len(), 9);
        for (length, expected) in [(9, 9), (20, 9), (8, 8), (7, 7), (6, 6), (5, 2), (2, 2), (1, 1)]
        {
            assert_eq!(sample.truncated(length).len(), expected, "{length}");
        }
        assert_eq!(sample.truncated(8).targets, []);
        assert_eq!(sample.truncated(5).pictures, []);
    }

    #[test]
    fn pap_54_a_seg_before_its_picture_is_cut_off_with_it() {
        let sample = sample(&[words(3, &[0]), picture_after(1, 4)]);
        assert_eq!(sample.truncated(9).targets.len(), 1);
        assert_eq!(sample.truncated(8).len(), 3);
    }

    #[test]
    fn pap_53_an_over_long_sample_becomes_parts_that_are_full() {
        let lengths = |blocks: &[Block], most: usize| {
            let parts = sample(blocks).split(most).unwrap();
            parts.iter().map(Sample::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[words(7, &[])], 5), [5, 2]);
        assert_eq!(lengths(&[words(5, &[])], 5), [5]);
        assert_eq!(lengths(&[picture_after(3, 4)], 5), [3, 5]);
        let whole = sample(&[picture_after(1, 4), words(3, &[0])]);
        assert_eq!(whole.split(8), Err(TooLong { needed: 9, most: 8 }));
    }

    proptest! {
        #[test]
        fn pap_53_parts_of_a_sample_lose_nothing(sample in any_sample(), most in 1_usize..30) {
            let Ok(parts) = sample.split(most) else { return Ok(()) };
            let tokens: Vec<u32> = parts.iter().flat_map(|it| it.token_ids.clone()).collect();
            prop_assert_eq!(&tokens, &sample.token_ids);
            let targets = parts.iter().flat_map(|it| &it.targets);
            let masks: Vec<usize> = targets.map(|it| it.mask).collect();
            prop_assert_eq!(masks, (0..sample.targets.len()).collect::<Vec<_>>());
            for part in &parts {
                prop_assert!(part.len() <= most);
                check(part, &sample);
            }
        }

        #[test]
        fn pap_54_a_truncated_sample_is_whole_in_what_it_has(
            sample in any_sample(),
            most in 0_usize..30,
        ) {
            let part = sample.truncated(most);
            prop_assert!(part.len() <= most);
            prop_assert_eq!(&part.token_ids[..], &sample.token_ids[..part.len()]);
            check(&part, &sample);
        }
    }
}
