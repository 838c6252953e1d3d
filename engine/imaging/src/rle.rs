//! Masks of pictures, and their run lengths in the compressed text of the COCO data set.

/// Upper bound of the pixels of a decoded mask.
pub const PIXELS_MAX: u64 = 1 << 26;

/// Why a text of run lengths cannot be decoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RleError {
    /// The picture is beyond the upper bound.
    #[error("a mask of {height} x {width} is too large: at most {PIXELS_MAX} pixels")]
    TooLarge {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
    },
    /// A character is not allowed at its position, or the text ends early.
    #[error("the run lengths cannot be read at character {at}")]
    Garbled {
        /// Position of the character.
        at: usize,
    },
    /// The sum of the runs is not the number of pixels.
    #[error("the run lengths are of {found} pixels, the picture has {expected}")]
    Length {
        /// Sum of the runs that were read.
        found: u64,
        /// Number of pixels.
        expected: u64,
    },
}

/// A mask of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatMask {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// `height * width` flags, row by row.
    pub pixels: Vec<bool>,
}

impl FlatMask {
    /// Resizes the mask by nearest neighbours, as `NEAREST` of Pillow.
    #[must_use]
    pub fn resized(&self, height: u32, width: u32) -> Self {
        let from_rows = nearest(self.height, height);
        let from_columns = nearest(self.width, width);
        let row = |row: usize| {
            let start = row * self.width as usize;
            let pixel = move |at: &usize| self.pixels.get(start + at).copied().unwrap_or_default();
            from_columns.iter().map(pixel)
        };
        Self { height, width, pixels: from_rows.into_iter().flat_map(row).collect() }
    }

    /// The lengths of the runs, column by column, beginning with pixels outside of the mask.
    pub fn runs(&self) -> Vec<u32> {
        let width = self.width as usize;
        let mut runs = Vec::new();
        let mut inside = false;
        let mut run = 0;
        // Without rows, there may be any number of columns.
        let columns = width.min(self.pixels.len());
        for column in 0..columns {
            for pixel in self.pixels.iter().skip(column).step_by(width) {
                if *pixel != inside {
                    runs.push(run);
                    inside = *pixel;
                    run = 0;
                }
                run += 1;
            }
        }
        runs.push(run);
        runs
    }

    /// The runs as text: each one after the third as its difference to the one two before, in
    /// digits of five bits.
    pub fn to_text(&self) -> String {
        let runs: Vec<i64> = self.runs().into_iter().map(i64::from).collect();
        let mut text = String::new();
        for (index, run) in runs.iter().enumerate() {
            let before =
                if index > 2 { runs.get(index - 2).copied().unwrap_or_default() } else { 0 };
            let mut rest = run - before;
            loop {
                let digit = u8::try_from(rest & 0x1F).unwrap_or_default();
                rest >>= 5;
                let is_last = rest == if digit & 0x10 == 0 { 0 } else { -1 };
                text.push(char::from(digit + 48 + if is_last { 0 } else { 0x20 }));
                if is_last {
                    break;
                }
            }
        }
        text
    }

    /// Decodes a mask of this size. Nothing is allocated for more pixels than [`PIXELS_MAX`].
    ///
    /// # Errors
    ///
    /// Fails if the size is beyond the upper bound, or if the text is not of runs of this size.
    pub fn parse(height: u32, width: u32, text: &str) -> Result<Self, RleError> {
        let expected = u64::from(height) * u64::from(width);
        if expected > PIXELS_MAX {
            return Err(RleError::TooLarge { height, width });
        }
        let runs = parsed(text, expected)?;
        let rows = height as usize;
        let mut pixels = vec![false; usize::try_from(expected).unwrap_or_default()];
        let mut at = 0_usize;
        for (index, run) in runs.into_iter().enumerate() {
            let run = usize::try_from(run).unwrap_or_default();
            if index % 2 == 1 {
                for place in at..at + run {
                    let column = place / rows;
                    let row = place % rows;
                    if let Some(pixel) = pixels.get_mut(row * width as usize + column) {
                        *pixel = true;
                    }
                }
            }
            at += run;
        }
        Ok(Self { height, width, pixels })
    }
}

/// For each position on an axis of length `to`, the nearest one on an axis of length `from`.
fn nearest(from: u32, to: u32) -> Vec<usize> {
    let step = f64::from(from) / f64::from(to);
    let mut at = step * 0.5;
    let mut place = |_| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place on the axis"
        )]
        let here = (at as usize).min(from.saturating_sub(1) as usize);
        // A sum and not a product, which rounds as the reference does.
        at += step;
        here
    };
    (0..to).map(&mut place).collect()
}

fn parsed(text: &str, expected: u64) -> Result<Vec<u64>, RleError> {
    let mut runs: Vec<i64> = Vec::new();
    let mut value = 0_i64;
    let mut shift = 0_u32;
    let mut total = 0_u64;
    for (at, byte) in text.bytes().enumerate() {
        // A run has up to 27 bits, and a sign.
        if !(48..112).contains(&byte) || shift > 30 {
            return Err(RleError::Garbled { at });
        }
        let digit = i64::from(byte - 48);
        value |= (digit & 0x1F) << shift;
        shift += 5;
        if digit & 0x20 != 0 {
            continue;
        }
        if digit & 0x10 != 0 {
            value |= -1 << shift;
        }
        if runs.len() > 2 {
            value += runs.get(runs.len() - 2).copied().unwrap_or_default();
        }
        let run = u64::try_from(value).map_err(|_| RleError::Garbled { at })?;
        total += run;
        if total > expected {
            return Err(RleError::Length { found: total, expected });
        }
        runs.push(value);
        value = 0;
        shift = 0;
    }
    if shift != 0 {
        return Err(RleError::Garbled { at: text.len() });
    }
    if total != expected {
        return Err(RleError::Length { found: total, expected });
    }
    Ok(runs.into_iter().map(i64::unsigned_abs).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Found by the attack of `cargo fuzzing`: it took seconds.
    #[test]
    fn a_mask_without_rows_is_written_at_once() {
        let mask = FlatMask::parse(0, u32::MAX, "0").unwrap();
        assert_eq!(mask.runs(), [0]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            (height, width) in (1_u32..40, 1_u32..40),
            seed in proptest::collection::vec(any::<bool>(), 1600),
        ) {
            let pixels: Vec<bool> =
                seed.into_iter().take((height * width) as usize).collect();
            let mask = FlatMask { height, width, pixels };
            prop_assert_eq!(FlatMask::parse(height, width, &mask.to_text()), Ok(mask));
        }

        #[test]
        fn garbage_is_refused_or_a_mask(text in "[ -z]{0,40}") {
            if let Ok(mask) = FlatMask::parse(7, 5, &text) {
                prop_assert_eq!(mask.pixels.len(), 35);
            }
        }
    }

    #[test]
    fn sec_24_a_bomb_is_refused_before_it_is_allocated() {
        let huge = FlatMask::parse(u32::MAX, u32::MAX, "0");
        assert_eq!(huge, Err(RleError::TooLarge { height: u32::MAX, width: u32::MAX }));
        // A run of a gigapixel in a picture of four.
        assert!(matches!(FlatMask::parse(2, 2, "PPPPPP1"), Err(RleError::Length { .. })));
        assert_eq!(FlatMask::parse(2, 2, "P"), Err(RleError::Garbled { at: 1 }));
    }
}
