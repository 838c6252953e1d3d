//! Where words and doubtful places stand on the row of a table.

use crate::page::Word;
use crate::page::spots::Spot;

/// Upper bound of the distance of a doubtful place beside a row, in heights of its letters.
const BESIDE_MAX: f32 = 2.5;

/// Share of the height of a word, at its top and at its bottom, in which a place may be of the line
/// above or below.
const BORDER: f32 = 0.1;

/// Upper bound of the vertical distance of words beside each other, as a share of their height.
const STEP_MAX: f32 = 0.5;

/// Lower bound of the width that words above each other share, as a share of the narrower one.
const ABOVE_MIN: f32 = 0.3;

/// Whether a doubtful place is on the row of some words, or right beside it.
pub(crate) fn is_on_row(spot: &Spot, words: &[&Word]) -> bool {
    let x = spot.across();
    let distance = |it: &Word| (it.left - x).max(x - it.right).max(0.0);
    let nearest = words.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    let Some(nearest) = nearest else { return false };
    let border = BORDER * nearest.height();
    let is_level = (nearest.top + border..nearest.bottom - border).contains(&spot.down());
    let is_between = words.iter().any(|it| it.left <= x) && words.iter().any(|it| it.right >= x);
    is_level && (is_between || distance(nearest) < BESIDE_MAX * nearest.height())
}

/// Whether some words of a line, from left to right, are of two lines: one stands above another, or
/// there is a step between them.
pub(crate) fn are_of_two_lines(words: &[&Word]) -> bool {
    words.array_windows().any(|[a, b]| {
        let height = a.height().max(b.height());
        let step = f32::midpoint(a.top, a.bottom) - f32::midpoint(b.top, b.bottom);
        let both = a.right.min(b.right) - a.left.max(b.left);
        let width = (a.right - a.left).min(b.right - b.left);
        let is_above = both > ABOVE_MIN * width && step.abs() > BORDER * height;
        step.abs() > STEP_MAX * height || is_above
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doubt::Doubt;

    fn word(left: f32, top: f32) -> Word {
        let text = "5.1".to_owned();
        Word { text, left, top, right: left + 30.0, bottom: top + 20.0, chinese: None }
    }

    #[test]
    fn pap_36_words_of_two_lines_are_told_from_those_of_one() {
        let of = |places: &[(f32, f32)]| {
            let words: Vec<Word> = places.iter().map(|(left, top)| word(*left, *top)).collect();
            are_of_two_lines(&words.iter().collect::<Vec<_>>())
        };
        assert!(!of(&[(0.0, 100.0), (100.0, 103.0), (200.0, 106.0)]));
        assert!(of(&[(0.0, 100.0), (100.0, 111.0)]));
        assert!(of(&[(0.0, 100.0), (10.0, 109.0)]));
    }

    #[test]
    fn pap_36_a_doubtful_place_belongs_to_the_row_that_it_stands_on() {
        let words = [word(100.0, 100.0), word(300.0, 100.0)];
        let words: Vec<&Word> = words.iter().collect();
        let at = |left: f32, top: f32| {
            let place = [left, top, left + 10.0, top + 10.0];
            is_on_row(&Spot { place, doubt: Doubt::UnreadInk }, &words)
        };
        assert!(at(80.0, 105.0) && at(200.0, 105.0) && at(340.0, 105.0));
        assert!(!at(20.0, 105.0) && !at(200.0, 125.0) && !at(110.0, 85.0));
    }
}
