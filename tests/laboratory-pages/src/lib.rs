//! Laboratory reports on paper, generated from a seed together with their true content.
#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "in a test, a panic is the way to say no"
)]

mod catalogue;
mod layouts;
mod photograph;
mod sample;

use std::path::Path;
use std::process::Command;

use ab_glyph::{Font as _, FontVec};
use fastrand::Rng;
use image::GrayImage;
use krilla::Document;
use krilla::geom::{PathBuilder, Point, Rect};
use krilla::page::PageSettings;
use krilla::surface::Surface;
use krilla::text::{Font, TextDirection};

use catalogue::choice;
pub use catalogue::{Analyte, CATALOGUE};
pub use photograph::{Damage, Distortion, as_jpeg, corners_of, damaged, distorted, turned};
pub use sample::{Condition, Sample, SampleRow, sample};

/// Size of an A4 page in points.
const WIDTH: f32 = 595.28;
const HEIGHT: f32 = 841.89;

/// Font files below `/usr/share/fonts/truetype`.
const LATIN: [&str; 3] =
    ["dejavu/DejaVuSans.ttf", "nanum/NanumGothic.ttf", "dejavu/DejaVuSansMono.ttf"];
const LATIN_BOLD: &str = "dejavu/DejaVuSans-Bold.ttf";
const CHINESE: &str = "droid/DroidSansFallbackFull.ttf";

/// A row of a report, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaperRow {
    /// Name of the analyte.
    pub name: String,
    /// The measured value.
    pub result: String,
    /// The reference range.
    pub reference: String,
    /// Unit of result and reference range.
    pub unit: String,
    /// The laboratory's abnormal flag, empty within the reference range.
    pub flag: String,
}

/// Language, columns and rules of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// English: test, result, flag, unit, reference, without rules.
    Plain,
    /// English: reference, analyte, unit, value, in a grid.
    Grid,
    /// English: number, test, method, result, units, interval, under section headings. Long names
    /// take two lines.
    Sections,
    /// Chinese: number, item, result, flag, unit, reference, between two rules.
    Chinese,
    /// Chinese: two tables side by side.
    Panels,
    /// Chinese: code, name, result with its flag, reference, unit, in a grid.
    Coded,
    /// English: test, three dated columns of which the newest is the second, unit, reference.
    History,
    /// Headings in both languages, Chinese names, Latin flags; a rule below each row.
    Mixed,
    /// English: two tables side by side, without rules.
    Columns,
    /// English: flag, result, units, range, test, between two rules, in lines close to each other.
    Flagged,
}

impl Layout {
    /// The layouts of [`report`], in the order of seeds.
    pub const ALL: [Self; 6] =
        [Self::Plain, Self::Grid, Self::Sections, Self::Chinese, Self::Panels, Self::Coded];

    /// The layouts of [`sample`].
    pub const SAMPLED: [Self; 10] = [
        Self::Plain,
        Self::Grid,
        Self::Sections,
        Self::Chinese,
        Self::Panels,
        Self::Coded,
        Self::History,
        Self::Mixed,
        Self::Columns,
        Self::Flagged,
    ];

    const fn is_chinese(self) -> bool {
        matches!(self, Self::Chinese | Self::Panels | Self::Coded | Self::Mixed)
    }

    const fn has_panels(self) -> bool {
        matches!(self, Self::Panels | Self::Columns)
    }
}

/// A report as a file, with its true content.
pub struct Paper {
    /// The layout of the page.
    pub layout: Layout,
    /// A PDF whose text can be extracted.
    pub pdf: Vec<u8>,
    /// The true content of the table.
    pub rows: Vec<PaperRow>,
}

/// What a report is about, and how it writes numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// A line above and below the table.
    pub line: String,
    /// The lines that name the patient, instead of those of the seed.
    pub patient: Vec<String>,
    /// Whether it writes decimal commas.
    pub has_decimal_commas: bool,
    /// Whether each reference is one for men, and another for women.
    pub has_ranges_by_sex: bool,
}

impl About {
    /// A row as such a report prints it.
    fn printed(&self, row: &PaperRow, is_chinese: bool) -> PaperRow {
        let mut row = row.clone();
        if self.has_ranges_by_sex && row.reference.contains(|it: char| it.is_ascii_digit()) {
            let [man, woman] = if is_chinese { ["男", "女"] } else { ["M", "F"] };
            row.reference = format!("{man} 0-0.01 {woman} {}", row.reference);
        }
        if self.has_decimal_commas {
            row.result = row.result.replace('.', ",");
            row.reference = row.reference.replace('.', ",");
        }
        row
    }
}

/// The report of a seed. Consecutive seeds have different layouts.
pub fn report(seed: u64) -> Paper {
    report_about(seed, &About::default())
}

/// Like [`report`], with `line` above and below the table.
pub fn report_saying(seed: u64, line: &str) -> Paper {
    report_about(seed, &About { line: line.to_owned(), ..About::default() })
}

/// Like [`report`], about somebody or written in a certain way. The rows are those of the seed.
pub fn report_about(seed: u64, about: &About) -> Paper {
    let index = usize::try_from(seed % Layout::ALL.len() as u64).unwrap();
    let layout = *Layout::ALL.get(index).unwrap();
    let (sheet, rows) = composed(&mut Rng::with_seed(seed), layout, about);
    Paper { layout, pdf: sheet.pdf(), rows }
}

/// A page of this layout, and its rows.
fn composed(rng: &mut Rng, layout: Layout, about: &About) -> (Sheet, Vec<PaperRow>) {
    let count = rng.usize(5..if layout.has_panels() { 25 } else { 22 });
    let mut chosen: Vec<&Analyte> = CATALOGUE.iter().collect();
    rng.shuffle(&mut chosen);
    chosen.truncate(count);
    let is_chinese = layout.is_chinese();
    let rows_of = |rng: &mut Rng| -> Vec<PaperRow> {
        chosen.iter().map(|it| it.row(rng, is_chinese)).collect()
    };
    let rows = rows_of(rng);
    let mut sheet = Sheet::new(rng);
    sheet.add_head(rng, layout, &about.patient);
    sheet.add_line(&about.line);
    let printed: Vec<PaperRow> = rows.iter().map(|it| about.printed(it, is_chinese)).collect();
    match layout {
        Layout::Plain => plain(&mut sheet, &printed),
        Layout::Grid => grid(&mut sheet, &printed),
        Layout::Sections => sections(&mut sheet, rng, &printed),
        Layout::Chinese => chinese(&mut sheet, &printed),
        Layout::Panels => panels(&mut sheet, &printed),
        Layout::Coded => coded(&mut sheet, &printed),
        Layout::History => {
            let before = [rows_of(rng), rows_of(rng)];
            layouts::history(&mut sheet, &printed, &before);
        }
        Layout::Mixed => layouts::mixed(&mut sheet, &printed),
        Layout::Columns => layouts::columns(&mut sheet, &printed),
        Layout::Flagged => layouts::flagged(&mut sheet, &printed),
    }
    sheet.row = None;
    sheet.add_foot(layout);
    sheet.add_line(&about.line);
    (sheet, rows)
}

/// A page of a PDF as a picture, rendered by `pdftoppm`, a program independent of the project.
pub fn scanned(pdf: &[u8], dots_per_inch: u32, folder: &Path) -> GrayImage {
    let input = folder.join("paper.pdf");
    let output = folder.join("paper");
    std::fs::write(&input, pdf).unwrap();
    let mut command = Command::new("pdftoppm");
    command.args(["-gray", "-singlefile", "-r", &dots_per_inch.to_string()]);
    assert!(command.arg(&input).arg(&output).status().unwrap().success());
    image::open(output.with_extension("pgm")).unwrap().into_luma8()
}

/// A page under construction: its texts and rules, and the line that is written next.
struct Sheet {
    texts: Vec<Text>,
    rules: Vec<Rect>,
    latin: Typeface,
    bold: Typeface,
    chinese: Typeface,
    /// Size of the text in points.
    size: f32,
    /// Distance between lines in points.
    pitch: f32,
    /// Baseline of the current line.
    y: f32,
    /// Number of the row that is written.
    row: Option<usize>,
}

/// A text on the page, from the left end of its baseline.
struct Text {
    x: f32,
    y: f32,
    size: f32,
    is_bold: bool,
    content: String,
    /// Number of its row.
    row: Option<usize>,
}

/// A font file, read by the library that draws and by the one that measures.
struct Typeface {
    drawing: Font,
    metrics: FontVec,
}

impl Typeface {
    fn read(file: &str) -> Self {
        let bytes = std::fs::read(Path::new("/usr/share/fonts/truetype").join(file)).unwrap();
        let drawing = Font::new(bytes.clone().into(), 0).unwrap();
        Self { drawing, metrics: FontVec::try_from_vec(bytes).unwrap() }
    }

    /// Width of a text in points.
    fn width(&self, text: &str, size: f32) -> f32 {
        let font = &self.metrics;
        let units = font.units_per_em().unwrap_or(1000.0);
        text.chars().map(|it| font.h_advance_unscaled(font.glyph_id(it)) / units * size).sum()
    }
}

impl Sheet {
    fn new(rng: &mut Rng) -> Self {
        let size = 8.5 + rng.f32() * 1.5;
        let latin = Typeface::read(choice(rng, &LATIN));
        let pitch = size * (1.5 + rng.f32() * 0.5);
        Self {
            texts: Vec::new(),
            rules: Vec::new(),
            latin,
            bold: Typeface::read(LATIN_BOLD),
            chinese: Typeface::read(CHINESE),
            size,
            pitch,
            y: 60.0,
            row: None,
        }
    }

    fn put(&mut self, x: f32, text: &str) {
        let content = text.to_owned();
        let Self { y, size, row, .. } = *self;
        self.texts.push(Text { x, y, size, is_bold: false, content, row });
    }

    fn heading(&mut self, x: f32, text: &str) {
        let content = text.to_owned();
        let Self { y, size, .. } = *self;
        self.texts.push(Text { x, y, size, is_bold: true, content, row: None });
    }

    /// The box around a text: left, top, right, bottom.
    fn place(&self, text: &Text) -> [f32; 4] {
        let latin = if text.is_bold { &self.bold } else { &self.latin };
        let letters: Vec<char> = text.content.chars().collect();
        let widths = letters.chunk_by(|a, b| is_chinese(*a) == is_chinese(*b)).map(|run| {
            let piece: String = run.iter().collect();
            let is_chinese = run.iter().any(|it| is_chinese(*it));
            if is_chinese { text.size * run.len() as f32 } else { latin.width(&piece, text.size) }
        });
        let width: f32 = widths.sum();
        [text.x, text.y - 0.8 * text.size, text.x + width, text.y + 0.22 * text.size]
    }

    /// The boxes around the texts of a row.
    fn places(&self, row: usize) -> Vec<[f32; 4]> {
        let own = self.texts.iter().filter(|it| it.row == Some(row));
        own.filter(|it| !it.content.is_empty()).map(|it| self.place(it)).collect()
    }

    /// Adds a horizontal rule above the current line.
    fn rule(&mut self, left: f32, right: f32) {
        let y = self.y - self.size - 2.0;
        self.rules.push(Rect::from_ltrb(left, y, right, y + 0.6).unwrap());
    }

    /// A row of headings.
    fn headings(&mut self, columns: &[f32], texts: &[&str]) {
        for (x, text) in columns.iter().zip(texts) {
            self.heading(*x, text);
        }
    }

    /// A row of cells.
    fn cells<const N: usize>(&mut self, columns: &[f32], texts: [impl AsRef<str>; N]) {
        for (x, text) in columns.iter().zip(texts) {
            self.put(*x, text.as_ref());
        }
    }

    /// The bottom rule of a grid, and its vertical rules from `top`.
    fn frame(&mut self, columns: &[f32], top: f32) {
        self.rule(50.0, 546.0);
        let bottom = self.y - self.size - 2.0;
        for x in columns {
            self.rules.push(Rect::from_ltrb(x - 4.0, top, x - 3.4, bottom).unwrap());
        }
    }

    /// Writes `line` with an empty line above, unless it is empty.
    fn add_line(&mut self, line: &str) {
        if !line.is_empty() {
            self.next_line();
            self.put(50.0, line);
            self.next_line();
        }
    }

    fn next_line(&mut self) {
        self.y += self.pitch;
    }

    fn add_head(&mut self, rng: &mut Rng, layout: Layout, patient: &[String]) {
        let title = if layout.is_chinese() {
            "华东中心医院检验报告单"
        } else {
            "Riverside Laboratory Report"
        };
        let content = title.to_owned();
        let y = self.y;
        self.texts.push(Text { x: 170.0, y, size: 15.0, is_bold: true, content, row: None });
        self.y += 28.0;
        let number = rng.u32(100_000..999_999);
        let lines = if layout.is_chinese() {
            [
                format!("姓名：李小梅    性别：女    年龄：{}岁", rng.u32(18..80)),
                format!("病历号：{number}    标本：血清"),
            ]
        } else {
            [
                format!("Patient: Mary Sample    Sex: F    Age: {}", rng.u32(18..80)),
                format!("ID: {number}    Specimen: Serum"),
            ]
        };
        for text in if patient.is_empty() { &lines } else { patient } {
            self.put(50.0, text);
            self.next_line();
        }
        self.y += 10.0;
    }

    fn add_foot(&mut self, layout: Layout) {
        self.y += 12.0;
        let text = if layout.is_chinese() {
            "检验者：王伟    审核者：张敏    报告时间：2026-11-02 10:24"
        } else {
            "Reported: 2026-11-02 10:24    Verified by: J. Smith"
        };
        self.put(50.0, text);
        self.next_line();
        let note = if layout.is_chinese() {
            "本报告仅对该标本负责"
        } else {
            "This report is for the named patient only."
        };
        self.put(50.0, note);
    }

    fn pdf(&self) -> Vec<u8> {
        let mut document = Document::new();
        let mut page = document.start_page_with(PageSettings::from_wh(WIDTH, HEIGHT).unwrap());
        let mut surface = page.surface();
        for rule in &self.rules {
            let mut path = PathBuilder::new();
            path.push_rect(*rule);
            surface.draw_path(&path.finish().unwrap());
        }
        for text in &self.texts {
            self.draw(&mut surface, text);
        }
        surface.finish();
        page.finish();
        document.finish().unwrap()
    }

    /// Draws a text in runs of one font each. A Chinese character is as wide as it is high.
    fn draw(&self, surface: &mut Surface<'_>, text: &Text) {
        let latin = if text.is_bold { &self.bold } else { &self.latin };
        let letters: Vec<char> = text.content.chars().collect();
        let mut x = text.x;
        for run in letters.chunk_by(|a, b| is_chinese(*a) == is_chinese(*b)) {
            let piece: String = run.iter().collect();
            let is_chinese = run.iter().any(|it| is_chinese(*it));
            let typeface = if is_chinese { &self.chinese } else { latin };
            let start = Point::from_xy(x, text.y);
            let font = typeface.drawing.clone();
            surface.draw_text(start, font, text.size, &piece, false, TextDirection::Auto);
            x += if is_chinese {
                text.size * run.len() as f32
            } else {
                latin.width(&piece, text.size)
            };
        }
    }
}

fn is_chinese(letter: char) -> bool {
    u32::from(letter) >= 0x2e80
}

fn plain(sheet: &mut Sheet, rows: &[PaperRow]) {
    let columns = [50.0, 270.0, 340.0, 390.0, 470.0];
    sheet.headings(&columns, &["Test", "Result", "Flag", "Unit", "Reference"]);
    sheet.next_line();
    for (index, row) in rows.iter().enumerate() {
        sheet.row = Some(index);
        let cells = [&row.name, &row.result, &row.flag, &row.unit, &row.reference];
        sheet.cells(&columns, cells);
        sheet.next_line();
    }
}

fn grid(sheet: &mut Sheet, rows: &[PaperRow]) {
    let columns = [54.0, 170.0, 385.0, 470.0, 546.0];
    let headings = ["Reference range", "Analyte", "Unit", "Value"];
    let top = sheet.y - sheet.size - 2.0;
    sheet.rule(50.0, 546.0);
    sheet.headings(&columns, &headings);
    sheet.next_line();
    for (index, row) in rows.iter().enumerate() {
        sheet.row = Some(index);
        sheet.rule(50.0, 546.0);
        sheet.cells(&columns, [&row.reference, &row.name, &row.unit, &row.result]);
        sheet.next_line();
    }
    sheet.frame(&columns, top);
}

fn sections(sheet: &mut Sheet, rng: &mut Rng, rows: &[PaperRow]) {
    let columns = [50.0, 75.0, 245.0, 310.0, 375.0, 450.0];
    let headings = ["No.", "Test name", "Method", "Result", "Units", "Reference interval"];
    sheet.headings(&columns, &headings);
    sheet.next_line();
    sheet.rule(50.0, 546.0);
    for (index, row) in rows.iter().enumerate() {
        if index % 6 == 0 {
            let titles = ["HAEMATOLOGY", "BIOCHEMISTRY", "SEROLOGY", "HORMONES"];
            sheet.heading(75.0, titles.iter().cycle().nth(index / 6).unwrap());
            sheet.next_line();
        }
        sheet.row = Some(index);
        let method = choice(rng, &["Calc", "ISE", "ELISA", "Photom"]);
        let number = (index + 1).to_string();
        let (first, rest) = in_two_lines(&row.name);
        let cells = [&number, first, method, &row.result, &row.unit, &row.reference];
        sheet.cells(&columns, cells);
        if !rest.is_empty() {
            sheet.y += sheet.size * 1.15;
            sheet.put(75.0, rest);
        }
        sheet.next_line();
    }
}

/// Splits a long name before its parenthesis.
fn in_two_lines(name: &str) -> (&str, &str) {
    match name.split_once(" (") {
        Some((first, _)) if name.len() > 24 => {
            (first, name.get(first.len() + 1..).unwrap_or_default())
        }
        _ => (name, ""),
    }
}

fn chinese(sheet: &mut Sheet, rows: &[PaperRow]) {
    let columns = [50.0, 90.0, 270.0, 340.0, 385.0, 465.0];
    let headings = ["序号", "检验项目", "结果", "提示", "单位", "参考范围"];
    sheet.rule(45.0, 550.0);
    sheet.headings(&columns, &headings);
    sheet.next_line();
    sheet.rule(45.0, 550.0);
    for (index, row) in rows.iter().enumerate() {
        sheet.row = Some(index);
        let number = (index + 1).to_string();
        let cells = [&number, &row.name, &row.result, &row.flag, &row.unit, &row.reference];
        sheet.cells(&columns, cells);
        sheet.next_line();
    }
    sheet.rule(45.0, 550.0);
}

fn panels(sheet: &mut Sheet, rows: &[PaperRow]) {
    sheet.size = sheet.size.min(8.6);
    let columns = [40.0, 133.0, 180.0, 232.0];
    let shifts = [0.0, 265.0];
    for shift in shifts {
        for (x, text) in columns.into_iter().zip(["项目", "结果", "单位", "参考值"]) {
            sheet.heading(x + shift, text);
        }
    }
    sheet.next_line();
    sheet.rule(36.0, 560.0);
    side_by_side(sheet, columns, shifts, rows);
}

/// The rows of two tables: the first half of them on the left. The cells are name, result, unit and
/// reference at `columns`, which `shifts` move for each table.
fn side_by_side(sheet: &mut Sheet, columns: [f32; 4], shifts: [f32; 2], rows: &[PaperRow]) {
    let half = rows.len().div_ceil(2);
    for index in 0..half {
        for (shift, at) in shifts.into_iter().zip([index, index + half]) {
            let Some(row) = rows.get(at) else { continue };
            sheet.row = Some(at);
            let cells = [&row.name, &row.result, &row.unit, &row.reference];
            for (x, text) in columns.into_iter().zip(cells) {
                sheet.put(x + shift, text);
            }
        }
        sheet.next_line();
    }
}

fn coded(sheet: &mut Sheet, rows: &[PaperRow]) {
    let columns = [54.0, 120.0, 290.0, 370.0, 470.0, 546.0];
    let top = sheet.y - sheet.size - 2.0;
    sheet.rule(50.0, 546.0);
    sheet.headings(&columns, &["代号", "项目名称", "检验结果", "参考区间", "单位"]);
    sheet.next_line();
    for (index, row) in rows.iter().enumerate() {
        sheet.row = Some(index);
        sheet.rule(50.0, 546.0);
        let code = format!("L{:03}", index * 7 + 11);
        let result = if row.flag.is_empty() {
            row.result.clone()
        } else {
            format!("{} {}", row.result, row.flag)
        };
        sheet.cells(&columns, [&code, &row.name, &result, &row.reference, &row.unit]);
        sheet.next_line();
    }
    sheet.frame(&columns, top);
}
