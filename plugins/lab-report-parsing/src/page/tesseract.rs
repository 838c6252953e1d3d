//! Text recognition by Tesseract, loaded as a shared library: a plugin starts no process.
#![expect(unsafe_code, reason = "Tesseract has a C interface (capi.h); every call is argued below")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_uchar, c_void};
use std::sync::OnceLock;

use image::{GrayImage, Luma};
use libloading::Library;
use plugin_api::NodeError;

use super::Word;
use super::phrases::{Bounds, has_unread_figure, is_wider_than, with_decimal_point};
use crate::rejection::Reason;
use crate::vocabulary::is_han;

/// Name of the library in Debian.
const LIBRARY: &str = "libtesseract.so.5";

/// The language in which a phrase is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// A phrase whose language is not known.
    Any,
    /// A phrase that may be in Latin letters and digits, in a single attempt.
    Glance,
    /// A phrase in Latin letters and digits.
    English,
    /// A phrase in Chinese.
    Chinese,
}

impl Language {
    const fn data(self) -> &'static CStr {
        match self {
            Self::Any => c"chi_sim+eng",
            Self::English | Self::Glance => c"eng",
            Self::Chinese => c"chi_sim",
        }
    }

    /// The attempts until a phrase is read with certainty, each with its mode and scale: as one
    /// line, or as a raw line without a search for letters, which finds short Chinese words that
    /// the other mode misses.
    const fn attempts(self) -> &'static [(c_int, f32)] {
        match self {
            Self::Any | Self::Glance => &[(ONE_LINE, 1.0)],
            Self::English => &[(ONE_LINE, 1.0), (ONE_LINE, 1.4), (ONE_LINE, 1.9)],
            Self::Chinese => &[(ONE_LINE, 1.0), (ONE_LINE, 1.4), (RAW_LINE, 1.0), (RAW_LINE, 1.4)],
        }
    }
}

/// `PSM_SINGLE_LINE`.
const ONE_LINE: c_int = 7;

/// `PSM_RAW_LINE`.
const RAW_LINE: c_int = 13;

/// Certainty, in percent, from which a phrase is not read again.
const CERTAIN: f32 = 80.0;

/// Scale at which a number is read a second time.
const SECOND_SCALE: f32 = 1.4;

/// Factor of the certainty of a raw line, which sometimes begins with a letter that is not there.
const RAW_TRUST: f32 = 0.85;

/// White margin around a phrase, in pixels.
const MARGIN: u32 = 14;

/// Lower bound of the share of Chinese characters on a Chinese page.
const CHINESE_SHARE: f32 = 0.12;

/// Resolution that is reported to Tesseract, in dots per inch.
const RESOLUTION: c_int = 300;

type Handle = *mut c_void;

/// The functions of `capi.h` that this module calls.
struct Functions {
    create: unsafe extern "C" fn() -> Handle,
    delete: unsafe extern "C" fn(Handle),
    init: unsafe extern "C" fn(Handle, *const c_char, *const c_char) -> c_int,
    set_variable: unsafe extern "C" fn(Handle, *const c_char, *const c_char) -> c_int,
    set_mode: unsafe extern "C" fn(Handle, c_int),
    set_image: unsafe extern "C" fn(Handle, *const c_uchar, c_int, c_int, c_int, c_int),
    set_resolution: unsafe extern "C" fn(Handle, c_int),
    table: unsafe extern "C" fn(Handle, c_int) -> *mut c_char,
    free_text: unsafe extern "C" fn(*mut c_char),
    /// `omp_set_max_active_levels` of the OpenMP that Tesseract was built with.
    set_parallel_levels: Option<unsafe extern "C" fn(c_int)>,
}

impl Functions {
    /// Loads the library once per process. It is never unloaded.
    fn get() -> Result<&'static Self, NodeError> {
        static FUNCTIONS: OnceLock<Option<Functions>> = OnceLock::new();
        let missing = "Tesseract 5 (libtesseract5, tesseract-ocr-eng, -chi-sim) is not installed";
        let functions = FUNCTIONS.get_or_init(Self::load).as_ref();
        functions.ok_or_else(|| NodeError::Unavailable(missing.to_owned()))
    }

    fn load() -> Option<Self> {
        // SAFETY: the system's own library; its initialisers set up static tables and nothing else.
        let library = unsafe { Library::new(LIBRARY) }.ok()?;
        let library: &'static Library = Box::leak(Box::new(library));
        // SAFETY: if Tesseract uses OpenMP, this library is loaded already.
        let threads = unsafe { Library::new("libgomp.so.1") }.ok();
        let threads: Option<&'static Library> = threads.map(|it| &*Box::leak(Box::new(it)));
        Some(Self {
            create: symbol(library, "TessBaseAPICreate")?,
            delete: symbol(library, "TessBaseAPIDelete")?,
            init: symbol(library, "TessBaseAPIInit3")?,
            set_variable: symbol(library, "TessBaseAPISetVariable")?,
            set_mode: symbol(library, "TessBaseAPISetPageSegMode")?,
            set_image: symbol(library, "TessBaseAPISetImage")?,
            set_resolution: symbol(library, "TessBaseAPISetSourceResolution")?,
            table: symbol(library, "TessBaseAPIGetTsvText")?,
            free_text: symbol(library, "TessDeleteText")?,
            set_parallel_levels: threads.and_then(|it| symbol(it, "omp_set_max_active_levels")),
        })
    }
}

fn symbol<T: Copy>(library: &'static Library, name: &str) -> Option<T> {
    // SAFETY: every field of `Functions` has the type that `capi.h` of version 5 declares for its
    // name.
    let found = unsafe { library.get::<T>(name) };
    found.ok().map(|it| *it)
}

/// A phrase that was read.
#[derive(Default)]
pub(crate) struct Phrase {
    /// The words, with their positions on the page.
    pub(crate) words: Vec<Word>,
    /// Certainty of the words, in percent.
    pub(crate) certainty: f32,
    /// Certainty of the least certain word, in percent.
    pub(crate) least: f32,
    /// Whether the attempt with the second best certainty has read something else.
    pub(crate) is_unsteady: bool,
    /// Whether its picture shows more letters or points than were read.
    pub(crate) has_unread_letter: bool,
}

impl Phrase {
    pub(crate) fn has_digit(&self) -> bool {
        self.words.iter().any(|it| it.text.contains(|it: char| it.is_ascii_digit()))
    }

    /// The letters without spaces.
    fn letters(&self) -> String {
        self.words.iter().flat_map(|it| it.text.chars()).filter(|it| !it.is_whitespace()).collect()
    }

    /// The text of the phrase.
    pub(crate) fn text(&self) -> String {
        self.words.iter().map(|it| it.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Whether most characters are Chinese.
    pub(crate) fn is_chinese(&self) -> bool {
        let letters = || self.words.iter().flat_map(|it| it.text.chars());
        letters().filter(|it| is_han(*it)).count() * 2 > letters().count()
    }

    /// Whether the phrase is a number with its signs, read with more than this certainty.
    pub(crate) fn is_number(&self, certainty: f32) -> bool {
        let letters = || self.words.iter().flat_map(|it| it.text.chars());
        let is_figure = |it: &char| it.is_ascii_digit() || "<>=.:-+~^*/%".contains(*it);
        let figures = letters().filter(char::is_ascii_digit).count();
        figures * 2 >= letters().count().max(1)
            && letters().all(|it| is_figure(&it))
            && self.certainty > certainty
    }
}

/// A reader with one recogniser per language, each made at its first use.
pub(crate) struct Reader {
    functions: &'static Functions,
    open: BTreeMap<&'static CStr, Recogniser>,
}

impl Reader {
    /// # Errors
    ///
    /// Unavailable where Tesseract is not installed.
    pub(crate) fn open() -> Result<Self, NodeError> {
        Ok(Self { functions: Functions::get()?, open: BTreeMap::new() })
    }

    fn of(&mut self, language: Language) -> Result<&Recogniser, NodeError> {
        let data = language.data();
        if !self.open.contains_key(data) {
            self.open.insert(data, Recogniser::open(self.functions, data)?);
        }
        let found = self.open.get(data);
        found.ok_or_else(|| NodeError::Unavailable("Tesseract is not there".to_owned()))
    }

    /// How plausible some phrases are as text: the number of letters, weighted by their certainty.
    /// And whether they are Chinese.
    pub(crate) fn sense(
        &mut self,
        sheet: &GrayImage,
        phrases: &[Bounds],
    ) -> Result<(f32, bool), NodeError> {
        let mut all = 0.0;
        let mut chinese = 0.0;
        for bounds in phrases {
            let read = self.phrase(sheet, *bounds, Language::Any)?;
            let count = |is: fn(char) -> bool| {
                let letters = read.words.iter().flat_map(|it| it.text.chars());
                letters.filter(|it| is(*it)).count() as f32
            };
            let weight = (read.certainty / 100.0).powi(2);
            all += weight * count(char::is_alphanumeric);
            chinese += weight * count(is_han);
        }
        Ok((all, chinese > CHINESE_SHARE * all))
    }

    /// Reads one phrase of a page, again at other scales if it is not certain or has digits.
    pub(crate) fn phrase(
        &mut self,
        sheet: &GrayImage,
        bounds: Bounds,
        language: Language,
    ) -> Result<Phrase, NodeError> {
        let mut readings: Vec<Phrase> = Vec::new();
        for (mode, scale) in language.attempts() {
            let mut reading = self.phrase_at(sheet, bounds, language, (*mode, *scale))?;
            if *mode == RAW_LINE {
                reading.certainty *= RAW_TRUST;
            }
            let is_certain = reading.certainty >= CERTAIN;
            readings.push(reading);
            if is_certain {
                break;
            }
        }
        if language != Language::Any
            && let [only] = readings.as_slice()
            && only.has_digit()
        {
            readings.push(self.phrase_at(sheet, bounds, language, (ONE_LINE, SECOND_SCALE))?);
        }
        // The sort is stable: of two that are as certain, the first.
        readings.sort_by(|a, b| b.certainty.total_cmp(&a.certainty));
        let mut readings = readings.into_iter();
        let Some(mut best) = readings.next() else { return Ok(Phrase::default()) };
        best.is_unsteady = readings.next().is_some_and(|it| it.letters() != best.letters());
        if let [word] = best.words.as_mut_slice()
            && let Some(text) = with_decimal_point(sheet, bounds, &word.text)
        {
            word.text = text;
        }
        let letters = best.letters();
        best.has_unread_letter = if best.is_number(0.0) {
            has_unread_figure(sheet, bounds, &letters)
        } else {
            best.is_chinese() && is_wider_than(bounds, &letters)
        };
        Ok(best)
    }

    fn phrase_at(
        &mut self,
        sheet: &GrayImage,
        [left, top, right, bottom]: Bounds,
        language: Language,
        (mode, scale): (c_int, f32),
    ) -> Result<Phrase, NodeError> {
        let width = right - left;
        let height = bottom - top;
        let part = image::imageops::crop_imm(sheet, left, top, width, height).to_image();
        let part = super::gray::resized(&part, scale);
        let (wide, high) = part.dimensions();
        let mut alone =
            GrayImage::from_pixel(wide + 2 * MARGIN, high + 2 * MARGIN, Luma([u8::MAX]));
        image::imageops::replace(&mut alone, &part, i64::from(MARGIN), i64::from(MARGIN));
        let found = self.of(language)?.read(&alone, mode)?;
        let letters = |it: &Word| it.text.chars().count() as f32;
        let all: f32 = found.iter().map(|(word, _)| letters(word)).sum();
        let sum: f32 = found.iter().map(|(word, certainty)| letters(word) * certainty).sum();
        let moved = |(it, _): (Word, f32)| Word {
            left: (it.left - MARGIN as f32) / scale + left as f32,
            right: (it.right - MARGIN as f32) / scale + left as f32,
            // All words of a phrase stand on one line.
            top: top as f32,
            bottom: bottom as f32,
            ..it
        };
        let certainty = if all > 0.0 { sum / all } else { 0.0 };
        let least = found.iter().map(|it| it.1).fold(certainty, f32::min);
        let words = found.into_iter().map(moved).collect();
        Ok(Phrase { words, certainty, least, ..Phrase::default() })
    }
}

/// A handle of the library, for one language.
struct Recogniser {
    functions: &'static Functions,
    handle: Handle,
}

impl Recogniser {
    /// Unavailable if the language is not installed.
    fn open(functions: &'static Functions, data: &CStr) -> Result<Self, NodeError> {
        // SAFETY: takes nothing, gives a handle that `drop` deletes.
        let handle = unsafe { (functions.create)() };
        let this = Self { functions, handle };
        if let Some(set_levels) = functions.set_parallel_levels {
            // SAFETY: sets a number of this thread. Threads of a library that wait for one another
            // in circles take seven times as long on a busy machine.
            unsafe { set_levels(0) };
        }
        if handle.is_null() {
            return Err(NodeError::Unavailable("Tesseract has no memory".to_owned()));
        }
        // SAFETY: the handle is alive; no folder means the one it was built for; text ends with 0.
        let failed = unsafe { (functions.init)(handle, std::ptr::null(), data.as_ptr()) };
        if failed != 0 {
            let missing = "Tesseract has no data for English or Chinese (tesseract-ocr-chi-sim)";
            return Err(NodeError::Unavailable(missing.to_owned()));
        }
        // Its messages on standard error may contain text of patients.
        this.set(c"debug_file", c"/dev/null");
        Ok(this)
    }

    fn set(&self, name: &CStr, value: &CStr) {
        // SAFETY: the handle is alive, both texts end with 0 and are copied.
        let _is_known =
            unsafe { (self.functions.set_variable)(self.handle, name.as_ptr(), value.as_ptr()) };
    }

    /// The words of a picture, each with its certainty in percent.
    fn read(&self, sheet: &GrayImage, mode: c_int) -> Result<Vec<(Word, f32)>, NodeError> {
        let width = pixel_count(sheet.width())?;
        let height = pixel_count(sheet.height())?;
        let pixels = sheet.as_raw().as_ptr();
        // SAFETY: the handle is alive.
        unsafe { (self.functions.set_mode)(self.handle, mode) };
        // SAFETY: one byte a pixel, `width` bytes a row, `height` rows: what a `GrayImage` holds.
        // It is copied.
        unsafe { (self.functions.set_image)(self.handle, pixels, width, height, 1, width) };
        // SAFETY: the handle is alive and has an image.
        unsafe { (self.functions.set_resolution)(self.handle, RESOLUTION) };
        // SAFETY: the handle is alive and has an image; gives text that ends with 0, or nothing.
        let table = unsafe { (self.functions.table)(self.handle, 0) };
        if table.is_null() {
            return Ok(Vec::new());
        }
        // SAFETY: not null, ends with 0, and lives until it is freed below.
        let text = unsafe { CStr::from_ptr(table) }.to_string_lossy().into_owned();
        // SAFETY: it came from this library and is freed once.
        unsafe { (self.functions.free_text)(table) };
        Ok(text.lines().filter_map(word).collect())
    }
}

impl Drop for Recogniser {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: came from `create`, is deleted once.
            unsafe { (self.functions.delete)(self.handle) };
        }
    }
}

fn pixel_count(side: u32) -> Result<c_int, NodeError> {
    c_int::try_from(side)
        .map_err(|_| NodeError::rejected(Reason::PictureTooLarge, "a page is too large to read"))
}

/// Parses a row of the table that Tesseract returns: level, page, block, paragraph, line, word,
/// left, top, width, height, certainty, text.
fn word(row: &str) -> Option<(Word, f32)> {
    let fields: Vec<&str> = row.splitn(12, '\t').collect();
    let ["5", .., left, top, width, height, certainty, text] = fields.as_slice() else {
        return None;
    };
    let number = |it: &str| it.parse::<f32>().ok();
    let left = number(left)?;
    let top = number(top)?;
    let right = left + number(width)?;
    let bottom = top + number(height)?;
    let certainty = number(certainty)?;
    let text = text.trim();
    let is_there = certainty >= 0.0 && !text.is_empty();
    let text = text.to_owned();
    is_there.then_some((Word { text, left, top, right, bottom, chinese: None }, certainty))
}
