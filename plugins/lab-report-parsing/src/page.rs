//! Pages of paper: from bytes to words with their places.

pub(crate) mod gray;
pub(crate) mod pdf;
pub(crate) mod phrases;
pub(crate) mod quality;
pub(crate) mod straighten;
pub(crate) mod tesseract;

use image::GrayImage;
use imaging::Picture;
use plugin_api::NodeError;

use phrases::Bounds;
pub use quality::Flaw;
use straighten::Upright;
use tesseract::{Language, Phrase, Reader};

use crate::vocabulary::is_han;
use crate::vocabulary::roles::role;
use crate::vocabulary::units::is_like_unit;

/// What stands for letters that could not be read.
pub(crate) const UNREAD: char = char::REPLACEMENT_CHARACTER;

/// Most pages of one document that are read.
pub(crate) const PAGES_MAX: usize = 20;

/// Words, or a run of them that belong to one another, and where they stand on the page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    /// What it says.
    pub(crate) text: String,
    /// Left edge; the origin is the page's upper left corner.
    pub(crate) left: f32,
    /// Upper edge.
    pub(crate) top: f32,
    /// Right edge.
    pub(crate) right: f32,
    /// Lower edge.
    pub(crate) bottom: f32,
    /// What it says if it is Chinese, where that is not sure.
    pub(crate) chinese: Option<String>,
}

impl Word {
    pub(crate) fn middle(&self) -> f32 {
        f32::midpoint(self.left, self.right)
    }

    pub(crate) fn height(&self) -> f32 {
        (self.bottom - self.top).max(1.0)
    }
}

/// A page that was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// Its words, in no particular order.
    pub(crate) words: Vec<Word>,
    /// Whether they were recognised in a picture, and letters may be mistaken for one another.
    pub(crate) is_recognised: bool,
    /// What is wrong with the picture.
    pub(crate) flaws: Vec<Flaw>,
    /// The page upright and straight, as a person would hold it.
    pub(crate) picture: Option<GrayImage>,
}

/// Reads the pages of a PDF: those with letters as they are, pictures by recognition.
fn of_pdf(bytes: &[u8]) -> Result<Vec<Page>, NodeError> {
    let sheets = pdf::sheets(bytes)?;
    let read = |it: pdf::Sheet| match it {
        pdf::Sheet::Letters(words, gray) => {
            Ok(Page { words, picture: Some(gray), ..Page::default() })
        }
        pdf::Sheet::Picture(gray) => of_gray(&gray),
    };
    sheets.into_iter().map(read).collect()
}

/// Reads a file of a type that is known.
pub(crate) fn of_file(bytes: &[u8], media_type: &str) -> Result<Vec<Page>, NodeError> {
    match media_type {
        "application/pdf" => of_pdf(bytes),
        "image/png" | "image/jpeg" => {
            let unreadable = |it: imaging::PictureError| {
                NodeError::rejected("picture_unreadable", it.to_string())
            };
            Ok(vec![of_picture(&Picture::decode(bytes).map_err(unreadable)?)?])
        }
        other => {
            let reason = format!("a file of type {other} is no page");
            Err(NodeError::rejected("media_type", reason))
        }
    }
}

/// Reads a photograph or scan.
pub(crate) fn of_picture(picture: &Picture) -> Result<Page, NodeError> {
    of_gray(&gray(picture)?)
}

/// How a page lay on its picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Corners of the page in the picture, clockwise from the upper left one, if it lay on something.
    pub corners: Option<[(f32, f32); 4]>,
    /// How often it had to be turned by 90 degrees, clockwise, to stand upright.
    pub quarters: u8,
    /// How far its lines leaned before, in degrees.
    pub lean: f64,
    /// How far they still lean.
    pub rest: f64,
    /// What is wrong with the picture.
    pub flaws: Vec<Flaw>,
}

/// Says how a page lies on a picture (PAP-30, PAP-36).
///
/// # Errors
///
/// Says why it cannot be looked at.
pub fn held(picture: &Picture) -> Result<Held, NodeError> {
    let gray = gray(picture)?;
    let upright = straighten::upright(&gray, &mut Reader::open()?)?;
    let flaws = quality::flaws(&gray, &upright);
    let rest = straighten::lean(&upright.picture);
    let Upright { corners, quarters, lean, .. } = upright;
    Ok(Held { corners, quarters, lean, rest, flaws })
}

fn gray(picture: &Picture) -> Result<GrayImage, NodeError> {
    let values = picture.rgb.chunks_exact(3).map(gray::brightness).collect();
    let gray = GrayImage::from_raw(picture.width, picture.height, values);
    gray.ok_or_else(|| NodeError::rejected("no_picture", "the picture has no pixels"))
}

fn of_gray(gray: &GrayImage) -> Result<Page, NodeError> {
    let mut reader = Reader::open()?;
    let upright = straighten::upright(gray, &mut reader)?;
    let flaws = quality::flaws(gray, &upright);
    let words = read(&upright, &mut reader)?;
    Ok(Page { words, is_recognised: true, flaws, picture: Some(upright.picture) })
}

/// Reads the phrases of a page, each for itself. On a Chinese page each is read as Latin and as Chinese, and what
/// makes more sense is taken.
fn read(page: &Upright, reader: &mut Reader) -> Result<Vec<Word>, NodeError> {
    let mut words = Vec::new();
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
        words.extend(chosen.words);
    }
    Ok(words)
}

/// Something is written there, and nobody can read it: it is not left out. Specks are.
fn unread([left, top, right, bottom]: Bounds) -> Option<Word> {
    let [left, top, right, bottom] = [left, top, right, bottom].map(|it| it as f32);
    let (wide, high) = (right - left, bottom - top);
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
