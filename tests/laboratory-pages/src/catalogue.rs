//! Analytes with their units and the reference ranges of adults.

use fastrand::Rng;

use super::PaperRow;

/// A quantity that a laboratory measures.
pub struct Analyte {
    english: &'static str,
    chinese: &'static str,
    unit: &'static str,
    reference: Reference,
    /// Digits after the decimal point.
    decimals: usize,
}

/// A reference range.
enum Reference {
    Between(f64, f64),
    Below(f64),
    Above(f64),
    Negative,
    Titer(u32),
}

impl Analyte {
    /// A row of a report with a random result, within the reference range or outside of it.
    pub(super) fn row(&self, rng: &mut Rng, is_chinese: bool) -> PaperRow {
        let dash = choice(rng, if is_chinese { &["-", "～", "--"] } else { &["-", " - ", " to "] });
        let Measured { result, reference, position } = self.measured(rng, dash, is_chinese);
        let flag = match (position, is_chinese, &self.reference) {
            (Position::Within, ..) => "",
            (_, true, Reference::Negative) => "阳性",
            (_, false, Reference::Negative) => "POS",
            (Position::Above, true, _) => "偏高",
            (Position::Below, true, _) => "偏低",
            (Position::Above, false, _) => "H",
            (Position::Below, false, _) => "L",
        };
        let name = if is_chinese { self.chinese } else { self.english };
        let [name, unit, flag] = [name, self.unit, flag].map(str::to_owned);
        PaperRow { name, result, reference, unit, flag }
    }

    fn measured(&self, rng: &mut Rng, dash: &str, is_chinese: bool) -> Measured {
        match self.reference {
            Reference::Between(low, high) => {
                let (result, value) = self.random_result(rng, low, high);
                let reference = format!("{}{dash}{}", self.text(low), self.text(high));
                Measured { result, reference, position: Position::of(value > high, value < low) }
            }
            Reference::Below(high) => {
                let (result, value) = self.random_result(rng, 0.0, high);
                let reference = format!("<{}", self.text(high));
                Measured { result, reference, position: Position::of(value >= high, false) }
            }
            Reference::Above(low) => {
                let (result, value) = self.random_result(rng, low * 0.6, low * 1.6);
                let reference = format!(">{}", self.text(low));
                Measured { result, reference, position: Position::of(false, value <= low) }
            }
            Reference::Negative => {
                let is_positive = rng.u8(..4) == 0;
                let [negative, positive] =
                    if is_chinese { ["阴性", "阳性"] } else { ["Negative", "Positive"] };
                let result = if is_positive { positive } else { negative }.to_owned();
                let position = Position::of(is_positive, false);
                Measured { result, reference: negative.to_owned(), position }
            }
            Reference::Titer(highest) => {
                let result = format!("1:{}", choice(rng, &[20, 40, 80, 160]));
                let reference = format!("<1:{highest}");
                Measured { result, reference, position: Position::Within }
            }
        }
    }

    /// A random value around the interval, as text and as a number.
    fn random_result(&self, rng: &mut Rng, low: f64, high: f64) -> (String, f64) {
        let text = self.text(low + (high - low) * (rng.f64() * 2.0 - 0.5).max(0.02));
        let value = text.parse().unwrap();
        (text, value)
    }

    fn text(&self, value: f64) -> String {
        let decimals = self.decimals;
        format!("{value:.decimals$}")
    }
}

/// A random result with its reference range.
struct Measured {
    result: String,
    reference: String,
    position: Position,
}

/// Position of a result relative to its reference range.
#[derive(Clone, Copy)]
enum Position {
    Within,
    Above,
    Below,
}

impl Position {
    const fn of(is_above: bool, is_below: bool) -> Self {
        match (is_above, is_below) {
            (true, _) => Self::Above,
            (_, true) => Self::Below,
            _ => Self::Within,
        }
    }
}

/// A random element of `all`.
pub(super) fn choice<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    *all.get(rng.usize(..all.len())).unwrap()
}

const fn between(
    english: &'static str,
    chinese: &'static str,
    unit: &'static str,
    low: f64,
    high: f64,
    decimals: usize,
) -> Analyte {
    Analyte { english, chinese, unit, reference: Reference::Between(low, high), decimals }
}

const fn analyte(
    english: &'static str,
    chinese: &'static str,
    unit: &'static str,
    reference: Reference,
    decimals: usize,
) -> Analyte {
    Analyte { english, chinese, unit, reference, decimals }
}

/// The analytes from which the rows of a report are chosen.
pub const CATALOGUE: &[Analyte] = &[
    between("White blood cells", "白细胞计数", "10^9/L", 3.5, 9.5, 2),
    between("Red blood cells", "红细胞计数", "10^12/L", 3.8, 5.1, 2),
    between("Haemoglobin", "血红蛋白", "g/L", 115.0, 150.0, 0),
    between("Haematocrit", "红细胞压积", "%", 35.0, 45.0, 1),
    between("Mean corpuscular volume (MCV)", "平均红细胞体积", "fL", 82.0, 100.0, 1),
    between("Mean corpuscular haemoglobin (MCH)", "平均血红蛋白量", "pg", 27.0, 34.0, 1),
    between("Platelets", "血小板计数", "10^9/L", 125.0, 350.0, 0),
    between("Neutrophils", "中性粒细胞百分比", "%", 40.0, 75.0, 1),
    between("Lymphocytes", "淋巴细胞百分比", "%", 20.0, 50.0, 1),
    between("Monocytes", "单核细胞百分比", "%", 3.0, 10.0, 1),
    between("Eosinophils", "嗜酸性粒细胞百分比", "%", 0.4, 8.0, 1),
    between("Glucose (fasting)", "空腹血糖", "mmol/L", 3.9, 6.1, 2),
    between("Creatinine", "肌酐", "umol/L", 41.0, 81.0, 0),
    between("Urea", "尿素", "mmol/L", 2.6, 7.5, 2),
    between("Uric acid", "尿酸", "umol/L", 155.0, 357.0, 0),
    between("Total protein", "总蛋白", "g/L", 65.0, 85.0, 1),
    between("Albumin", "白蛋白", "g/L", 40.0, 55.0, 1),
    between("Total bilirubin", "总胆红素", "umol/L", 3.4, 20.5, 1),
    between("Alanine aminotransferase (ALT)", "丙氨酸氨基转移酶", "U/L", 7.0, 40.0, 0),
    between("Aspartate aminotransferase (AST)", "天门冬氨酸氨基转移酶", "U/L", 13.0, 35.0, 0),
    between("Alkaline phosphatase", "碱性磷酸酶", "U/L", 50.0, 135.0, 0),
    between("Gamma-glutamyl transferase (GGT)", "谷氨酰转移酶", "U/L", 7.0, 45.0, 0),
    between("Sodium", "钠", "mmol/L", 137.0, 147.0, 1),
    between("Potassium", "钾", "mmol/L", 3.5, 5.3, 2),
    between("Chloride", "氯", "mmol/L", 99.0, 110.0, 1),
    between("Calcium", "钙", "mmol/L", 2.11, 2.52, 2),
    between("Phosphate", "无机磷", "mmol/L", 0.85, 1.51, 2),
    between("Magnesium", "镁", "mmol/L", 0.75, 1.02, 2),
    between("Triglycerides", "甘油三酯", "mmol/L", 0.45, 1.69, 2),
    between("Total cholesterol", "总胆固醇", "mmol/L", 2.85, 5.69, 2),
    analyte("HDL cholesterol", "高密度脂蛋白胆固醇", "mmol/L", Reference::Above(1.04), 2),
    analyte("LDL cholesterol", "低密度脂蛋白胆固醇", "mmol/L", Reference::Below(3.37), 2),
    analyte("C-reactive protein (CRP)", "超敏反应蛋白", "mg/L", Reference::Below(8.0), 1),
    analyte("Procalcitonin", "降钙素原", "ng/mL", Reference::Below(0.05), 3),
    analyte("D-Dimer", "二聚体", "mg/L", Reference::Below(0.55), 2),
    analyte("Troponin I", "肌钙蛋白", "ng/mL", Reference::Below(0.04), 3),
    between("Prothrombin time", "凝血酶原时间", "s", 9.8, 12.1, 1),
    between("Fibrinogen", "纤维蛋白原", "g/L", 1.8, 3.5, 2),
    between("Thyrotropin (TSH)", "促甲状腺激素", "mIU/L", 0.35, 4.94, 3),
    between("Free thyroxine (FT4)", "游离甲状腺素", "pmol/L", 9.01, 19.05, 2),
    between("Ferritin", "铁蛋白", "ng/mL", 4.63, 204.0, 2),
    between("Vitamin B12", "维生素", "pg/mL", 187.0, 883.0, 0),
    analyte("Alpha-fetoprotein (AFP)", "甲胎蛋白", "ng/mL", Reference::Below(7.0), 2),
    analyte("Carcinoembryonic antigen (CEA)", "癌胚抗原", "ng/mL", Reference::Below(5.0), 2),
    analyte("Hepatitis B surface antigen", "乙肝表面抗原", "", Reference::Negative, 0),
    analyte("Hepatitis C antibody", "丙肝抗体", "", Reference::Negative, 0),
    analyte("Urine protein", "尿蛋白", "", Reference::Negative, 0),
    analyte("Antinuclear antibody", "抗核抗体", "", Reference::Titer(80), 0),
];
