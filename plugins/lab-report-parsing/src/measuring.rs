//! Reads papers without an engine, so that the accuracy of readers can be measured (PAP-31, PAP-36,
//! PAP-68).

use std::collections::BTreeSet;
use std::path::Path;

use domain::PatientFacts;
use plugin_api::NodeError;
use pp_ocr::PageReader;

use crate::doubt::Doubt;
use crate::lab_rows;
use crate::page::{self, print};
use crate::reading::{Reader, all_doubts, checked, compared};
use crate::row::{Fields, row};
use crate::table::{self, Entry, ReadEntry};

/// Reads the rows of a paper by its text or by recognition, without the model. Each row has name,
/// result, reference and unit.
///
/// # Errors
///
/// Fails if the file is of a type that is not read, or cannot be decoded, or if recognition is not
/// installed.
pub fn read(bytes: &[u8], media_type: &str) -> Result<Vec<[String; 4]>, NodeError> {
    let pages = page::of_file(bytes, media_type)?;
    Ok(table::entries(&pages).into_iter().map(cells).collect())
}

fn cells(entry: Entry) -> [String; 4] {
    [entry.name, entry.result, entry.reference, entry.unit]
}

/// The reader `ocr` with the files of PP-OCR in a folder.
fn open_ocr(models: &Path) -> Result<PageReader, NodeError> {
    print::open(models).map_err(|it| NodeError::Unavailable(it.reason().to_owned()))
}

/// Rows of a paper by two recognitions, each with name, result, reference and unit (PAP-31).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TwoReadings {
    /// The rows by the text of a PDF, or by Tesseract.
    pub by_letters: Vec<[String; 4]>,
    /// The rows by the text of a PDF, or by PP-OCR.
    pub by_ocr: Vec<[String; 4]>,
    /// Those of PP-OCR that need no person: Tesseract reads them alike, and nothing else is odd.
    pub certain: Vec<[String; 4]>,
}

/// Reads the rows of a paper by both recognitions. `models` is the folder with the files of PP-OCR.
///
/// # Errors
///
/// As [`read`], and if the models cannot be used.
pub fn read_twice(bytes: &[u8], media_type: &str, models: &Path) -> Result<TwoReadings, NodeError> {
    let ocr = open_ocr(models)?;
    let pages = page::of_file(bytes, media_type)?;
    let letters = table::entries(&pages);
    let by_ocr = table::entries(&print::pages(&ocr, &pages, None)?);
    let compared = compared(by_ocr.clone(), Reader::Letters, &letters).rows.into_iter();
    let compared: Vec<ReadEntry> = compared.map(checked).collect();
    let laboratory = lab_rows(&compared, &PatientFacts::default());
    let certain = compared.into_iter().zip(laboratory).filter(|(_, row)| row.doubt.is_empty());
    Ok(TwoReadings {
        certain: certain.map(|(read, _)| cells(read.entry)).collect(),
        by_letters: letters.into_iter().map(cells).collect(),
        by_ocr: by_ocr.into_iter().map(cells).collect(),
    })
}

/// A row of a paper, with the reasons of its doubts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRow {
    /// Name, result, reference and unit.
    pub cells: [String; 4],
    /// Why a person has to check it.
    pub doubts: BTreeSet<Doubt>,
}

/// Reads rows with one or two readers, as a workflow names them.
pub struct RowReader {
    ocr: Option<PageReader>,
    has_letters: bool,
}

impl RowReader {
    /// The readers `letters`, `ocr`, or both. `models` is the folder with the files of PP-OCR.
    ///
    /// # Errors
    ///
    /// Fails if a reader needs an engine, as the model does, or if the files cannot be used.
    pub fn new(readers: &[Reader], models: Option<&Path>) -> Result<Self, NodeError> {
        if readers.contains(&Reader::Model) {
            return Err(NodeError::Unavailable("the reader `model` needs an engine".to_owned()));
        }
        let ocr = if readers.contains(&Reader::Ocr) {
            let models = models.unwrap_or(Path::new(""));
            Some(open_ocr(models)?)
        } else {
            None
        };
        Ok(Self { ocr, has_letters: readers.contains(&Reader::Letters) })
    }

    /// Reads the rows of a paper.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or if recognition is not installed.
    pub fn read(&self, bytes: &[u8], media_type: &str) -> Result<Vec<ReadRow>, NodeError> {
        let pages = page::of_file(bytes, media_type)?;
        let letters = table::entries(&pages);
        let Some(ocr) = &self.ocr else {
            return Ok(letters.into_iter().map(ReadEntry::certain).map(read_row).collect());
        };
        let by_ocr = table::entries(&print::pages(ocr, &pages, None)?);
        let rows = if self.has_letters {
            compared(by_ocr, Reader::Letters, &letters).rows
        } else {
            by_ocr.into_iter().map(ReadEntry::certain).collect()
        };
        Ok(rows.into_iter().map(read_row).collect())
    }
}

/// A row with all its doubts.
fn read_row(read: ReadEntry) -> ReadRow {
    let mut doubts = all_doubts(&read.entry);
    if !read.doubt.is_empty() {
        doubts.insert(Doubt::ReadersDiffer);
    }
    let Entry { name, result, reference, unit, flag, .. } = read.entry;
    let fields =
        Fields { name: &name, result: &result, reference: &reference, unit: &unit, flag: &flag };
    if row(&fields, &PatientFacts::default()).disagrees {
        doubts.insert(Doubt::FlagDiffers);
    }
    ReadRow { cells: [name, result, reference, unit], doubts }
}
