//! Groups the words of a page into lines.

use crate::page::Word;
use crate::vocabulary::is_han;

/// Lower bound of the vertical overlap of words of one line, as a share of the lower word.
const OVERLAP: f32 = 0.4;

/// Lower bound of the gap between two cells of a line, in heights of its letters.
const CELL_GAP_MIN: f32 = 0.9;

/// The words of a line, from left to right.
pub(crate) type Line = Vec<Word>;

/// The lines of a page from top to bottom. A line may rise or fall slightly: each word is compared
/// with the one before it, and not with the whole line.
pub(crate) fn lines(words: &[Word]) -> Vec<Line> {
    let mut words: Vec<&Word> = words.iter().collect();
    words.sort_by(|a, b| a.left.total_cmp(&b.left));
    let mut lines: Vec<Line> = Vec::new();
    for word in words {
        let overlap = |line: &Line| line.last().map_or(0.0, |it| vertical_overlap(it, word));
        let best = lines.iter_mut().max_by(|a, b| overlap(a).total_cmp(&overlap(b)));
        match best {
            Some(line) if overlap(line) >= OVERLAP => line.push(word.clone()),
            _ => lines.push(vec![word.clone()]),
        }
    }
    let middle = |line: &Line| {
        line.iter().map(|it| f32::midpoint(it.top, it.bottom)).sum::<f32>() / line.len() as f32
    };
    lines.sort_by(|a, b| middle(a).total_cmp(&middle(b)));
    lines
}

/// The parts of a line between gaps that are wider than those between words.
pub(crate) fn cells(line: &Line) -> Vec<Line> {
    let mut cells: Vec<Line> = Vec::new();
    for word in line {
        let gap = |last: &Word| (word.left - last.right) / last.height().min(word.height());
        match cells.last_mut() {
            Some(cell) if cell.last().is_some_and(|it| gap(it) < CELL_GAP_MIN) => {
                cell.push(word.clone());
            }
            _ => cells.push(vec![word.clone()]),
        }
    }
    cells
}

/// Vertical overlap of two words, as a share of the lower one.
fn vertical_overlap(a: &Word, b: &Word) -> f32 {
    let both = a.bottom.min(b.bottom) - a.top.max(b.top);
    both / a.height().min(b.height())
}

/// Joins words to a text, with a space at each gap but those between Chinese characters.
pub(crate) fn text(words: &[Word]) -> String {
    let mut text = String::new();
    let mut before: Option<&Word> = None;
    for word in words {
        if let Some(before) = before {
            let gap = (word.left - before.right) / before.height().min(word.height());
            let is_han = |it: Option<char>| it.is_some_and(is_han);
            let are_han = is_han(before.text.chars().last()) && is_han(word.text.chars().next());
            if gap > 0.15 && !(are_han && gap < 1.0) {
                text.push(' ');
            }
        }
        text.push_str(&word.text);
        before = Some(word);
    }
    text
}
