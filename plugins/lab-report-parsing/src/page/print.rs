//! A second reading of the print on pictures of pages, by PP-OCR (PAP-31). It finds text by itself
//! and reads it by itself; only the straightened page is the one that Tesseract reads, too. Spaces
//! between Latin words, which its model drops or adds, are those of Tesseract where both see one
//! line.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use domain::ErrorChain;
use image::GrayImage;
use page_models::FileError;
use plugin_api::{Context, NodeError};
use pp_ocr::{Bounds, Letter, Line, PageReader};

use super::phrases::LETTER_HEIGHT;
use super::{Page, UNREAD, Word};
use crate::vocabulary::is_han;

/// Lower bound of the mean probability of the letters of a line. Below it, the line counts as not
/// read.
const CONFIDENCE_MIN: f32 = 0.5;

/// Distance between the middles of two letters from which they are not of one word, in heights of
/// the box around their line.
const WORD_GAP: f32 = 1.2;

/// Half the width of a letter at the end of a word, in heights of the box around its line.
const HALF_LETTER: f32 = 0.25;

/// Half the least gap between two words of a line, in heights of the box around it.
const HALF_GAP: f32 = 0.12;

/// Lower bound of the share of letters that two readings of a line have in common, for one to take
/// the spaces of the other.
const SAME_LETTERS_MIN: f32 = 0.8;

/// Why there is no second reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The site has not imported the models.
    NotImported,
    /// A file of the models is not the published one, or cannot be read.
    Unusable,
}

impl Missing {
    /// The reason for people, with what to do.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::NotImported => "its models are not there: `isocenter model import`",
            Self::Unusable => "its models are not as published: import them again",
        }
    }
}

/// The reader of this process, loaded at its first use. `models` is the folder with the models of
/// the site.
pub(crate) fn shared() -> Result<Arc<PageReader>, Missing> {
    static SHARED: Mutex<Option<Arc<PageReader>>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(reader) = shared.as_ref() {
        return Ok(Arc::clone(reader));
    }
    let models = std::env::var_os(page_models::FOLDER_VARIABLE).map(PathBuf::from);
    let models = models.ok_or(Missing::NotImported)?;
    let reader = Arc::new(open(&page_models::folder_in(&models))?);
    *shared = Some(Arc::clone(&reader));
    Ok(reader)
}

/// Loads the reader from the folder with its files, once they are found to be the published ones.
pub(crate) fn open(folder: &Path) -> Result<PageReader, Missing> {
    let missing = |it: FileError| match it {
        FileError::Missing { .. } => Missing::NotImported,
        FileError::Unreadable { .. } | FileError::Other { .. } => Missing::Unusable,
    };
    let detector = page_models::DETECTOR.read_in(folder).map_err(missing)?;
    let recogniser = page_models::RECOGNISER.read_in(folder).map_err(missing)?;
    PageReader::load(detector, recogniser).map_err(|_| Missing::Unusable)
}

/// Reads the pictures of pages again. A page with text of its own stays as it is.
pub(crate) fn pages(
    reader: &PageReader,
    pages: &[Page],
    context: Option<&Context<'_>>,
) -> Result<Vec<Page>, NodeError> {
    let mut read = Vec::new();
    for page in pages {
        if context.is_some_and(Context::is_cancelled) {
            return Err(NodeError::Unavailable("the run was cancelled".to_owned()));
        }
        let mut page = page.clone();
        if let Some(picture) = page.picture.as_ref().filter(|_| page.is_recognised) {
            let lines = reader.read(picture, LETTER_HEIGHT).map_err(|error| {
                NodeError::Unavailable(format!("PP-OCR: {}", ErrorChain(&error)))
            })?;
            page.words = lines.iter().flat_map(|it| words(it, picture, &page.words)).collect();
        }
        read.push(page);
    }
    Ok(read)
}

/// The words of a line, with the spaces that Tesseract sees between its words.
fn words(line: &Line, picture: &GrayImage, by_tesseract: &[Word]) -> Vec<Word> {
    let bounds = &line.bounds;
    let (top, bottom) = inked_rows(picture, bounds);
    let letters: Vec<&Letter> =
        line.letters.iter().filter(|it| !it.text.trim().is_empty()).collect();
    if letters.is_empty() || line.confidence() < CONFIDENCE_MIN {
        let text = UNREAD.to_string();
        let Bounds { left, right, .. } = *bounds;
        let is_text = bottom - top >= 0.5 * LETTER_HEIGHT && right - left >= 1.5 * LETTER_HEIGHT;
        let unread = Word { text, left, top, right, bottom, chinese: None };
        return if is_text { vec![unread] } else { Vec::new() };
    }
    let mut begins = own_spaces(line);
    if let Some(spaces) = spaces_of(bounds, by_tesseract, &letters) {
        begins.retain(|it| !is_latin_gap(&letters, *it));
        begins.extend(spaces.into_iter().filter(|it| is_latin_gap(&letters, *it)));
    }
    let is_wide = |at: usize| {
        let middle = |it: usize| letters.get(it).map_or(0.0, |it| it.middle);
        middle(at) - middle(at - 1) > WORD_GAP * bounds.height()
    };
    begins.extend((1..letters.len()).filter(|it| is_wide(*it)));
    begins.sort_unstable();
    begins.dedup();
    let ends = begins.iter().copied().chain([letters.len()]);
    let starts = [0].into_iter().chain(begins.iter().copied());
    let parts = starts.zip(ends).filter_map(|(from, to)| letters.get(from..to));
    let parts: Vec<&[&Letter]> = parts.filter(|it| !it.is_empty()).collect();
    let word = |at: usize, part: &[&Letter]| {
        let before = at.checked_sub(1).and_then(|it| parts.get(it)).and_then(|it| it.last());
        let after = parts.get(at + 1).and_then(|it| it.first());
        let first = part.first()?.middle;
        let last = part.last()?.middle;
        let half = HALF_LETTER * bounds.height();
        let gap = HALF_GAP * bounds.height();
        let left = before.map_or(f32::MIN, |it| f32::midpoint(it.middle, first) + gap);
        let right = after.map_or(f32::MAX, |it| f32::midpoint(last, it.middle) - gap);
        Some(Word {
            text: part.iter().map(|it| it.text.as_str()).collect(),
            left: left.max(first - half),
            top,
            right: right.min(last + half),
            bottom,
            chinese: None,
        })
    };
    parts.iter().enumerate().filter_map(|(at, part)| word(at, part)).collect()
}

/// The letters before which the line itself has a space, counted without spaces.
fn own_spaces(line: &Line) -> Vec<usize> {
    let mut begins = Vec::new();
    let mut count = 0;
    let mut is_after_space = false;
    for letter in &line.letters {
        if letter.text.trim().is_empty() {
            is_after_space = true;
            continue;
        }
        if is_after_space && count > 0 {
            begins.push(count);
        }
        is_after_space = false;
        count += 1;
    }
    begins
}

/// The letters before which Tesseract sees a space, in a line that it reads nearly alike; nothing
/// if there is no such line.
fn spaces_of(bounds: &Bounds, words: &[Word], letters: &[&Letter]) -> Option<Vec<usize>> {
    let is_inside = |it: &&Word| {
        let overlap = it.bottom.min(bounds.bottom) - it.top.max(bounds.top);
        overlap > 0.5 * it.height() && (bounds.left..bounds.right).contains(&it.middle())
    };
    let mut inside: Vec<&Word> = words.iter().filter(is_inside).collect();
    inside.sort_by(|a, b| a.left.total_cmp(&b.left));
    let mut seen = String::new();
    let mut begins = Vec::new();
    for word in inside {
        for part in word.text.split_whitespace() {
            begins.push(seen.chars().count());
            seen.push_str(part);
        }
    }
    let same = letters.iter().zip(seen.chars()).filter(|(a, b)| a.text.chars().eq([*b])).count();
    let is_alike = seen.chars().count() == letters.len()
        && same as f32 >= SAME_LETTERS_MIN * letters.len() as f32;
    begins.retain(|it| *it > 0);
    is_alike.then_some(begins)
}

/// Whether one of the two letters at a gap is a Latin one, and none Chinese: recognition also sees
/// gaps in numbers.
fn is_latin_gap(letters: &[&Letter], at: usize) -> bool {
    let letter = |it: usize| letters.get(it).and_then(|it| it.text.chars().next());
    let sides = [at.checked_sub(1).and_then(letter), letter(at)];
    sides.iter().flatten().all(|it| !is_han(*it))
        && sides.iter().flatten().any(|it| it.is_alphabetic())
}

/// The upper and lower edge of the ink in a box, without rules. The box itself has margins.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "places on a page")]
fn inked_rows(picture: &GrayImage, bounds: &Bounds) -> (f32, f32) {
    const INK_MIN: u32 = 2;
    let columns = bounds.left.floor() as u32..(bounds.right.ceil() as u32).min(picture.width());
    let rows = bounds.top.floor() as u32..(bounds.bottom.ceil() as u32).min(picture.height());
    let value = |x: u32, y: u32| picture.get_pixel_checked(x, y).map_or(u8::MAX, |it| it.0[0]);
    let mut values: Vec<u8> =
        rows.clone().flat_map(|y| columns.clone().map(move |x| value(x, y))).collect();
    values.sort_unstable();
    let at = |percent: usize| values.get(values.len() * percent / 100).copied().unwrap_or(u8::MAX);
    let dark = u8::midpoint(at(2), at(80));
    let width = columns.end.saturating_sub(columns.start);
    let has_ink = |y: &u32| {
        let count = columns.clone().filter(|x| value(*x, *y) < dark).count() as u32;
        count >= INK_MIN && count * 10 < width * 7
    };
    let mut inked = rows.filter(has_ink);
    let Some(first) = inked.next() else { return (bounds.top, bounds.bottom) };
    let last = inked.next_back().unwrap_or(first);
    (first as f32, (last + 1) as f32)
}

#[cfg(test)]
mod tests {
    use image::Luma;

    use super::*;

    const BOUNDS: Bounds = Bounds { left: 100.0, top: 50.0, right: 500.0, bottom: 90.0 };

    /// A line of letters, each 20 pixels from the one before; a space takes as much.
    fn line(text: &str) -> Line {
        let letter = |(at, it): (usize, char)| Letter {
            text: it.to_string(),
            middle: 110.0 + 20.0 * at as f32,
            confidence: 0.9,
        };
        Line { letters: text.chars().enumerate().map(letter).collect(), bounds: BOUNDS }
    }

    fn word(text: &str, left: f32, right: f32) -> Word {
        Word { text: text.to_owned(), left, top: 54.0, right, bottom: 84.0, chinese: None }
    }

    fn texts(line: &Line, by_tesseract: &[Word]) -> Vec<String> {
        let paper = GrayImage::from_pixel(600, 100, Luma([255]));
        words(line, &paper, by_tesseract).into_iter().map(|it| it.text).collect()
    }

    #[test]
    fn pap_31_spaces_between_latin_words_come_from_the_other_reader() {
        let seen = [word("Free", 100.0, 180.0), word("T4", 190.0, 230.0)];
        assert_eq!(texts(&line("FreeT4"), &seen), ["Free", "T4"]);
        assert_eq!(texts(&line("FreeT4"), &[]), ["FreeT4"]);
        assert_eq!(texts(&line("Free T4"), &[]), ["Free", "T4"]);
        assert_eq!(texts(&line("F ree T4"), &seen), ["Free", "T4"], "a space too many");
        let other = [word("Prot", 100.0, 180.0), word("T4", 190.0, 230.0)];
        assert_eq!(texts(&line("FreeT4"), &other), ["FreeT4"], "another text");
        let below = [Word { top: 90.0, bottom: 120.0, ..word("Free", 100.0, 180.0) }];
        assert_eq!(texts(&line("FreeT4"), &below), ["FreeT4"], "another line");
        let torn = [word("12.", 100.0, 160.0), word("3", 165.0, 180.0)];
        assert_eq!(texts(&line("12.3"), &torn), ["12.3"], "a number is not torn");
        let han = [word("血", 100.0, 120.0), word("糖", 125.0, 140.0)];
        assert_eq!(texts(&line("血糖"), &han), ["血糖"]);
    }

    #[test]
    fn pap_31_what_stands_far_apart_is_not_one_word() {
        let mut wide = line("4.15");
        wide.letters.extend(line("3.5-9.5").letters);
        for letter in wide.letters.iter_mut().skip(4) {
            letter.middle += 200.0;
        }
        let paper = GrayImage::from_pixel(600, 100, Luma([255]));
        let found = words(&wide, &paper, &[]);
        let [first, second] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!([first.text.as_str(), second.text.as_str()], ["4.15", "3.5-9.5"]);
        assert!(first.right < 200.0 && second.left > 290.0, "{found:?}");
    }

    #[test]
    fn pap_31_what_is_hardly_read_counts_as_unread() {
        let mut doubtful = line("4.15");
        doubtful.letters.iter_mut().for_each(|it| it.confidence = 0.3);
        assert_eq!(texts(&doubtful, &[]), [UNREAD.to_string()]);
        assert_eq!(texts(&line(""), &[]), [UNREAD.to_string()]);
        let speck = Bounds { right: 110.0, ..BOUNDS };
        assert_eq!(texts(&Line { bounds: speck, letters: Vec::new() }, &[]), [""; 0]);
    }

    #[test]
    fn the_height_of_a_word_is_that_of_its_ink() {
        let mut page = GrayImage::from_pixel(600, 100, Luma([250]));
        for y in [52, 60, 80] {
            let to = if y == 52 { 500 } else { 200 };
            (100..to).for_each(|x| page.put_pixel(x, y, Luma([20])));
        }
        assert_eq!(inked_rows(&page, &BOUNDS), (60.0, 81.0), "without the rule above");
        let blank = GrayImage::from_pixel(600, 100, Luma([250]));
        assert_eq!(inked_rows(&blank, &BOUNDS), (50.0, 90.0));
    }
}
