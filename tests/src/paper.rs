//! Laboratory reports on paper: made from a seed, with what they say.

mod catalogue;
mod photograph;

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

use catalogue::one;
pub use catalogue::{Analyte, CATALOGUE};
pub use photograph::{Damage, Distortion, as_jpeg, corners_of, damaged, distorted, turned};

/// A4, in points.
const WIDTH: f32 = 595.28;
const HEIGHT: f32 = 841.89;

/// Fonts for Latin letters, and the one for Chinese.
const LATIN: [&str; 3] =
    ["dejavu/DejaVuSans.ttf", "nanum/NanumGothic.ttf", "dejavu/DejaVuSansMono.ttf"];
const LATIN_BOLD: &str = "dejavu/DejaVuSans-Bold.ttf";
const CHINESE: &str = "droid/DroidSansFallbackFull.ttf";

/// A row of a report: what it says in its four columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaperRow {
    /// What was measured.
    pub name: String,
    /// What came out.
    pub result: String,
    /// What is usual.
    pub reference: String,
    /// In which unit.
    pub unit: String,
    /// The laboratory's mark.
    pub flag: String,
}

/// How a report is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// English: test, result, flag, unit, reference, without rules.
    Plain,
    /// English: reference, analyte, unit, value, in a grid.
    Grid,
    /// English: number, test, method, result, units, interval; long names in two lines, under headings.
    Sections,
    /// Chinese: number, item, result, mark, unit, reference, between two rules.
    Chinese,
    /// Chinese: two tables beside one another.
    Panels,
    /// Chinese: code, name, result with its mark, reference, unit, in a grid.
    Coded,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Plain, Self::Grid, Self::Sections, Self::Chinese, Self::Panels, Self::Coded];

    const fn is_chinese(self) -> bool {
        matches!(self, Self::Chinese | Self::Panels | Self::Coded)
    }
}

/// A report as a file, and what it says.
pub struct Paper {
    /// Its layout.
    pub layout: Layout,
    /// As a PDF with letters.
    pub pdf: Vec<u8>,
    /// What it says.
    pub rows: Vec<PaperRow>,
}

/// The report of a seed. Layouts take turns.
pub fn report(seed: u64) -> Paper {
    report_saying(seed, "")
}

/// The same with a line of somebody's own above and below its table.
pub fn report_saying(seed: u64, line: &str) -> Paper {
    let mut rng = Rng::with_seed(seed);
    let index = usize::try_from(seed % Layout::ALL.len() as u64).unwrap();
    let layout = *Layout::ALL.get(index).unwrap();
    let count = rng.usize(5..if layout == Layout::Panels { 25 } else { 22 });
    let mut chosen: Vec<&Analyte> = CATALOGUE.iter().collect();
    rng.shuffle(&mut chosen);
    let rows: Vec<PaperRow> =
        chosen.into_iter().take(count).map(|it| it.row(&mut rng, layout.is_chinese())).collect();
    let mut sheet = Sheet::new(&mut rng);
    sheet.head(&mut rng, layout);
    sheet.say(line);
    match layout {
        Layout::Plain => plain(&mut sheet, &rows),
        Layout::Grid => grid(&mut sheet, &rows),
        Layout::Sections => sections(&mut sheet, &mut rng, &rows),
        Layout::Chinese => chinese(&mut sheet, &rows),
        Layout::Panels => panels(&mut sheet, &rows),
        Layout::Coded => coded(&mut sheet, &rows),
    }
    sheet.foot(layout);
    sheet.say(line);
    Paper { layout, pdf: sheet.pdf(), rows }
}

/// A page of a PDF as a picture, drawn by a program that is not ours.
pub fn scanned(pdf: &[u8], dots_per_inch: u32, folder: &Path) -> GrayImage {
    let (from, to) = (folder.join("paper.pdf"), folder.join("paper"));
    std::fs::write(&from, pdf).unwrap();
    let mut command = Command::new("pdftoppm");
    command.args(["-gray", "-singlefile", "-r", &dots_per_inch.to_string()]).arg(&from).arg(&to);
    assert!(command.status().unwrap().success());
    image::open(to.with_extension("pgm")).unwrap().into_luma8()
}

/// What stands where.
struct Sheet {
    texts: Vec<(f32, f32, f32, bool, String)>,
    rules: Vec<(f32, f32, f32, f32)>,
    latin: (Font, FontVec),
    bold: (Font, FontVec),
    chinese: Font,
    size: f32,
    pitch: f32,
    y: f32,
}

fn font(file: &str) -> (Font, FontVec) {
    let bytes = std::fs::read(Path::new("/usr/share/fonts/truetype").join(file)).unwrap();
    let font = Font::new(bytes.clone().into(), 0).unwrap();
    (font, FontVec::try_from_vec(bytes).unwrap())
}

impl Sheet {
    fn new(rng: &mut Rng) -> Self {
        let size = 8.5 + rng.f32() * 1.5;
        let latin = font(one(rng, &LATIN));
        let (bold, (chinese, _)) = (font(LATIN_BOLD), font(CHINESE));
        let pitch = size * (1.5 + rng.f32() * 0.5);
        Self { texts: Vec::new(), rules: Vec::new(), latin, bold, chinese, size, pitch, y: 60.0 }
    }

    fn put(&mut self, x: f32, text: &str) {
        self.texts.push((x, self.y, self.size, false, text.to_owned()));
    }

    fn heading(&mut self, x: f32, text: &str) {
        self.texts.push((x, self.y, self.size, true, text.to_owned()));
    }

    fn rule(&mut self, from: f32, to: f32) {
        let y = self.y - self.size - 2.0;
        self.rules.push((from, y, to, y + 0.6));
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

    /// The last rule of a grid, and its upright ones from the top.
    fn frame(&mut self, columns: &[f32], top: f32) {
        self.rule(50.0, 546.0);
        let bottom = self.y - self.size - 2.0;
        self.rules.extend(columns.iter().map(|x| (x - 4.0, top, x - 3.4, bottom)));
    }

    fn say(&mut self, line: &str) {
        if !line.is_empty() {
            self.next();
            self.put(50.0, line);
            self.next();
        }
    }

    fn next(&mut self) {
        self.y += self.pitch;
    }

    fn head(&mut self, rng: &mut Rng, layout: Layout) {
        let title = if layout.is_chinese() {
            "华东中心医院检验报告单"
        } else {
            "Riverside Laboratory Report"
        };
        self.texts.push((170.0, self.y, 15.0, true, title.to_owned()));
        self.y += 28.0;
        let number = rng.u32(100_000..999_999);
        let line = if layout.is_chinese() {
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
        for text in line {
            self.put(50.0, &text);
            self.next();
        }
        self.y += 10.0;
    }

    fn foot(&mut self, layout: Layout) {
        self.y += 12.0;
        let text = if layout.is_chinese() {
            "检验者：王伟    审核者：张敏    报告时间：2026-11-02 10:24"
        } else {
            "Reported: 2026-11-02 10:24    Verified by: J. Smith"
        };
        self.put(50.0, text);
        self.next();
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
        for (left, top, right, bottom) in &self.rules {
            let mut path = PathBuilder::new();
            path.push_rect(Rect::from_ltrb(*left, *top, *right, *bottom).unwrap());
            surface.draw_path(&path.finish().unwrap());
        }
        for (x, y, size, is_bold, text) in &self.texts {
            self.draw(&mut surface, *x, *y, *size, *is_bold, text);
        }
        surface.finish();
        page.finish();
        document.finish().unwrap()
    }

    /// Draws a text in pieces of one font each. A Chinese letter is as wide as it is high.
    fn draw(
        &self,
        surface: &mut Surface<'_>,
        x: f32,
        y: f32,
        size: f32,
        is_bold: bool,
        text: &str,
    ) {
        let latin = if is_bold { &self.bold } else { &self.latin };
        let mut x = x;
        for piece in
            text.chars().collect::<Vec<_>>().chunk_by(|a, b| is_chinese(*a) == is_chinese(*b))
        {
            let text: String = piece.iter().collect();
            let is_chinese = piece.iter().any(|it| is_chinese(*it));
            let font = if is_chinese { &self.chinese } else { &latin.0 };
            let at = Point::from_xy(x, y);
            surface.draw_text(at, font.clone(), size, &text, false, TextDirection::Auto);
            x += if is_chinese { size * piece.len() as f32 } else { width(&latin.1, &text, size) };
        }
    }
}

fn is_chinese(it: char) -> bool {
    u32::from(it) >= 0x2e80
}

fn width(font: &FontVec, text: &str, size: f32) -> f32 {
    let units = font.units_per_em().unwrap_or(1000.0);
    text.chars().map(|it| font.h_advance_unscaled(font.glyph_id(it)) / units * size).sum()
}

fn plain(sheet: &mut Sheet, rows: &[PaperRow]) {
    let columns = [50.0, 270.0, 340.0, 390.0, 470.0];
    sheet.headings(&columns, &["Test", "Result", "Flag", "Unit", "Reference"]);
    sheet.next();
    for row in rows {
        let cells = [&row.name, &row.result, &row.flag, &row.unit, &row.reference];
        sheet.cells(&columns, cells);
        sheet.next();
    }
}

fn grid(sheet: &mut Sheet, rows: &[PaperRow]) {
    let columns = [54.0, 170.0, 385.0, 470.0, 546.0];
    let headings = ["Reference range", "Analyte", "Unit", "Value"];
    let top = sheet.y - sheet.size - 2.0;
    sheet.rule(50.0, 546.0);
    sheet.headings(&columns, &headings);
    sheet.next();
    for row in rows {
        sheet.rule(50.0, 546.0);
        sheet.cells(&columns, [&row.reference, &row.name, &row.unit, &row.result]);
        sheet.next();
    }
    sheet.frame(&columns, top);
}

fn sections(sheet: &mut Sheet, rng: &mut Rng, rows: &[PaperRow]) {
    let columns = [50.0, 75.0, 245.0, 310.0, 375.0, 450.0];
    let headings = ["No.", "Test name", "Method", "Result", "Units", "Reference interval"];
    sheet.headings(&columns, &headings);
    sheet.next();
    sheet.rule(50.0, 546.0);
    for (index, row) in rows.iter().enumerate() {
        if index % 6 == 0 {
            let titles = ["HAEMATOLOGY", "BIOCHEMISTRY", "SEROLOGY", "HORMONES"];
            sheet.heading(75.0, titles.iter().cycle().nth(index / 6).unwrap());
            sheet.next();
        }
        let method = one(rng, &["Calc", "ISE", "ELISA", "Photom"]);
        let number = (index + 1).to_string();
        let (first, rest) = in_two(&row.name);
        let cells = [&number, first, method, &row.result, &row.unit, &row.reference];
        sheet.cells(&columns, cells);
        if !rest.is_empty() {
            sheet.y += sheet.size * 1.15;
            sheet.put(75.0, rest);
        }
        sheet.next();
    }
}

/// A long name, broken before a bracket.
fn in_two(name: &str) -> (&str, &str) {
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
    sheet.next();
    sheet.rule(45.0, 550.0);
    for (index, row) in rows.iter().enumerate() {
        let number = (index + 1).to_string();
        let cells = [&number, &row.name, &row.result, &row.flag, &row.unit, &row.reference];
        sheet.cells(&columns, cells);
        sheet.next();
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
    sheet.next();
    sheet.rule(36.0, 560.0);
    let half = rows.len().div_ceil(2);
    for index in 0..half {
        for (shift, row) in shifts.into_iter().zip([rows.get(index), rows.get(index + half)]) {
            let Some(row) = row else { continue };
            let cells = [&row.name, &row.result, &row.unit, &row.reference];
            for (x, text) in columns.into_iter().zip(cells) {
                sheet.put(x + shift, text);
            }
        }
        sheet.next();
    }
}

fn coded(sheet: &mut Sheet, rows: &[PaperRow]) {
    let columns = [54.0, 120.0, 290.0, 370.0, 470.0, 546.0];
    let top = sheet.y - sheet.size - 2.0;
    sheet.rule(50.0, 546.0);
    sheet.headings(&columns, &["代号", "项目名称", "检验结果", "参考区间", "单位"]);
    sheet.next();
    for (index, row) in rows.iter().enumerate() {
        sheet.rule(50.0, 546.0);
        let code = format!("L{:03}", index * 7 + 11);
        let result = if row.flag.is_empty() {
            row.result.clone()
        } else {
            format!("{} {}", row.result, row.flag)
        };
        sheet.cells(&columns, [&code, &row.name, &result, &row.reference, &row.unit]);
        sheet.next();
    }
    sheet.frame(&columns, top);
}
