//! Reads pages of paper: from bytes to words with their positions.

pub(crate) mod gray;
pub(crate) mod pdf;
pub(crate) mod phrases;
pub(crate) mod print;
pub(crate) mod quality;
pub(crate) mod spots;
pub(crate) mod straighten;
pub(crate) mod tesseract;

use image::GrayImage;
use imaging::Picture;
use plugin_api::NodeError;

use phrases::Bounds;
pub use quality::Flaw;
use spots::{Place, Spot};
use straighten::Upright;
use tesseract::{Language, Phrase, Reader};

use crate::doubt::Doubt;
use crate::rejection::Reason;
use crate::vocabulary::is_han;
use crate::vocabulary::roles::role;
use crate::vocabulary::units::is_like_unit;

/// The character for text that could not be read.
pub(crate) const UNREAD: char = char::REPLACEMENT_CHARACTER;

/// Upper bound of the pages of a document.
pub(crate) const PAGES_MAX: usize = 20;

/// A word, or a run of words that belong together, with its position on the page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    /// The text.
    pub(crate) text: String,
    /// Left edge; the origin is the page's upper left corner.
    pub(crate) left: f32,
    /// Upper edge.
    pub(crate) top: f32,
    /// Right edge.
    pub(crate) right: f32,
    /// Lower edge.
    pub(crate) bottom: f32,
    /// The text if it were Chinese, where the language is uncertain.
    pub(crate) chinese: Option<String>,
}

impl Word {
    pub(crate) fn middle(&self) -> f32 {
        f32::midpoint(self.left, self.right)
    }

    pub(crate) fn height(&self) -> f32 {
        (self.bottom - self.top).max(1.0)
    }

    pub(crate) fn place(&self) -> Place {
        [self.left, self.top, self.right, self.bottom]
    }
}

/// A page that was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// The words, in no particular order.
    pub(crate) words: Vec<Word>,
    /// Whether the words were recognised in a picture, so that characters may be confused.
    pub(crate) is_recognised: bool,
    /// Places where the words are not to be relied on.
    pub(crate) spots: Vec<Spot>,
    /// Defects of the picture.
    pub(crate) flaws: Vec<Flaw>,
    /// The page, upright and level.
    pub(crate) picture: Option<GrayImage>,
}

/// Whether some of these pages are pictures, whose words were recognised.
pub(crate) fn has_recognised(pages: &[Page]) -> bool {
    pages.iter().any(|it| it.is_recognised)
}

/// Reads the pages of a PDF: pages with text as they are, others by recognition.
fn of_pdf(bytes: &[u8]) -> Result<Vec<Page>, NodeError> {
    let sheets = pdf::sheets(bytes)?;
    let read = |it: pdf::Sheet| match it {
        pdf::Sheet::Letters(words, gray) => {
            let words = spots::without_copies(words);
            let spots = spots::overlapping(&words.iter().map(Word::place).collect::<Vec<_>>());
            Ok(Page { words, spots, picture: Some(gray), ..Page::default() })
        }
        pdf::Sheet::Picture(gray) => of_gray(&gray),
    };
    sheets.into_iter().map(read).collect()
}

/// Reads the pages of a file.
pub(crate) fn of_file(bytes: &[u8], media_type: &str) -> Result<Vec<Page>, NodeError> {
    match media_type {
        "application/pdf" => of_pdf(bytes),
        "image/png" | "image/jpeg" => {
            let unreadable = |it: imaging::PictureError| {
                NodeError::rejected(Reason::PictureUnreadable, it.to_string())
            };
            Ok(vec![of_picture(&Picture::decode(bytes).map_err(unreadable)?)?])
        }
        other => {
            let reason = format!("a file of type {other} is no page");
            Err(NodeError::rejected(Reason::MediaType, reason))
        }
    }
}

/// Reads a photograph or scan.
pub(crate) fn of_picture(picture: &Picture) -> Result<Page, NodeError> {
    of_gray(&gray(picture)?)
}

/// The position of a page in its picture.
#[derive(Clone, Debug, PartialEq)]
pub struct PagePosition {
    /// Corners of the page in the picture, clockwise from the upper left one; nothing if it fills
    /// the picture.
    pub corners: Option<[(f32, f32); 4]>,
    /// Number of rotations by 90 degrees, clockwise, after which the page is upright.
    pub quarters: u8,
    /// Angle of its lines before they were levelled, in degrees.
    pub lean: f64,
    /// Angle of its lines afterwards, in degrees.
    pub rest: f64,
    /// Defects of the picture.
    pub flaws: Vec<Flaw>,
}

/// Finds the position of a page in a picture, and the defects of the picture (PAP-30, PAP-36).
///
/// # Errors
///
/// Fails if the picture has no pixels, or if recognition is not installed.
pub fn page_position(picture: &Picture) -> Result<PagePosition, NodeError> {
    let gray = gray(picture)?;
    let upright = straighten::upright(&gray, &mut Reader::open()?)?;
    let flaws = quality::flaws(&gray, &upright);
    let rest = straighten::lean(&upright.picture);
    let Upright { corners, quarters, lean, .. } = upright;
    Ok(PagePosition { corners, quarters, lean, rest, flaws })
}

fn gray(picture: &Picture) -> Result<GrayImage, NodeError> {
    let values = picture.rgb.chunks_exact(3).map(gray::brightness).collect();
    let gray = GrayImage::from_raw(picture.width, picture.height, values);
    gray.ok_or_else(|| NodeError::rejected(Reason::NoPicture, "the picture has no pixels"))
}

fn of_gray(gray: &GrayImage) -> Result<Page, NodeError> {
    let mut reader = Reader::open()?;
    let upright = straighten::upright(gray, &mut reader)?;
    let flaws = quality::flaws(gray, &upright);
    let mut page = read(&upright, &mut reader)?;
    let places: Vec<Place> = upright.phrases.iter().map(place).collect();
    page.spots.extend(spots::overlapping(&places));
    page.spots.extend(spots::at_edge(&page.words, &upright.sheet));
    page.spots.extend(spots::unread_ink(&upright.sheet, &page.words));
    Ok(Page { flaws, picture: Some(upright.picture), ..page })
}

/// Reads the phrases of a page one by one. On a Chinese page each is read as Latin and as Chinese,
/// and the more plausible reading is used.
fn read(page: &Upright, reader: &mut Reader) -> Result<Page, NodeError> {
    let mut words = Vec::new();
    let mut spots = Vec::new();
    for bounds in &page.phrases {
        let mut of = |language| reader.phrase(&page.sheet, *bounds, language);
        let chosen = if page.is_chinese {
            let glance = of(Language::Glance)?;
            if glance.is_number(85.0) {
                glance
            } else {
                let chinese = of(Language::Chinese)?;
                // What is surely Chinese is not read as Latin again.
                let is_sure = chinese.is_chinese() && chinese.certainty >= 80.0;
                let latin = if is_sure { glance } else { of(Language::English)? };
                chosen(latin, chinese, *bounds)
            }
        } else {
            of(Language::English)?
        };
        if chosen.words.is_empty() {
            words.extend(unread(*bounds));
        }
        let place = place(bounds);
        spots.extend(doubts(&chosen).map(|doubt| Spot { place, doubt }));
        words.extend(chosen.words);
    }
    Ok(Page { words, spots, is_recognised: true, ..Page::default() })
}

fn place(bounds: &Bounds) -> Place {
    bounds.map(|it| it as f32)
}

/// Lower bound of the certainty of a phrase that is not doubted, in percent. Measured on generated
/// pages: from here on, a higher bound doubts five times as many rows that are right as rows that
/// are wrong.
const CERTAINTY_MIN: f32 = 60.0;

/// The same for one or two Chinese characters, which nothing around them makes more certain.
const SHORT_CERTAINTY_MIN: f32 = 85.0;

/// Why a phrase may have been misread.
fn doubts(phrase: &Phrase) -> impl Iterator<Item = Doubt> + use<> {
    let characters: usize = phrase.words.iter().map(|it| it.text.chars().count()).sum();
    let is_short = phrase.is_chinese() && characters <= 2;
    let certainty_min = if is_short { SHORT_CERTAINTY_MIN } else { CERTAINTY_MIN };
    let found = [
        (phrase.least < certainty_min, Doubt::Uncertain),
        (phrase.is_unsteady && phrase.has_digit(), Doubt::Unsteady),
        (phrase.has_unread_letter, Doubt::UnreadInk),
    ];
    found.into_iter().filter(|it| it.0).map(|it| it.1)
}

/// A phrase that could not be read, as a word of [`UNREAD`]: text is never left out. Nothing for a
/// speck.
fn unread([left, top, right, bottom]: Bounds) -> Option<Word> {
    let [left, top, right, bottom] = [left, top, right, bottom].map(|it| it as f32);
    let wide = right - left;
    let high = bottom - top;
    let letter = phrases::LETTER_HEIGHT;
    let is_letters = (0.7 * letter..1.8 * letter).contains(&high) && wide >= 1.5 * letter;
    let text = UNREAD.to_string();
    is_letters.then_some(Word { text, left, top, right, bottom, chinese: None })
}

fn chosen(latin: Phrase, chinese: Phrase, [left, top, right, bottom]: Bounds) -> Phrase {
    if role(&chinese.text().replace(' ', "")).is_some() {
        return chinese;
    }
    let is_plain = latin.is_number(40.0) || is_like_unit(&latin.text());
    // One Latin letter is no name; one Chinese letter is.
    let is_one = (right - left) * 2 < (bottom - top) * 3 && !chinese.words.is_empty();
    // Latin read as Chinese is mostly Latin; Chinese read as Latin may look like words.
    let favour = if chinese.is_chinese() { 15.0 } else { 0.0 };
    if !is_plain && (latin.certainty <= chinese.certainty + favour || is_one) {
        return chinese;
    }
    let other = chinese.text().replace(' ', "");
    let mut latin = latin;
    if let [word] = latin.words.as_mut_slice()
        && other.contains(is_han)
    {
        word.chinese = Some(other);
    }
    latin
}
