//! What laboratories measure, with what is usual in an adult.

use fastrand::Rng;

use super::PaperRow;

/// Something that is measured.
pub struct Analyte {
    english: &'static str,
    chinese: &'static str,
    unit: &'static str,
    /// Lowest and highest usual value, or only one of them.
    usual: Usual,
    decimals: usize,
}

/// What is usual.
enum Usual {
    Between(f64, f64),
    Below(f64),
    Above(f64),
    Negative,
    Titer(u32),
}

impl Analyte {
    /// A row of a report with a result that is usual or not.
    pub(super) fn row(&self, rng: &mut Rng, is_chinese: bool) -> PaperRow {
        let dash = one(rng, if is_chinese { &["-", "～", "--"] } else { &["-", " - ", " to "] });
        let (result, reference, place) = self.measured(rng, dash, is_chinese);
        let flag = match (place, is_chinese, &self.usual) {
            (Place::Usual, ..) => "",
            (_, true, Usual::Negative) => "阳性",
            (_, false, Usual::Negative) => "POS",
            (Place::Above, true, _) => "偏高",
            (Place::Below, true, _) => "偏低",
            (Place::Above, false, _) => "H",
            (Place::Below, false, _) => "L",
        };
        let name = if is_chinese { self.chinese } else { self.english };
        let [name, unit, flag] = [name, self.unit, flag].map(str::to_owned);
        PaperRow { name, result, reference, unit, flag }
    }

    /// A result, what is usual, and where the one is of the other.
    fn measured(&self, rng: &mut Rng, dash: &str, is_chinese: bool) -> (String, String, Place) {
        let decimals = self.decimals;
        let number = |it: f64| format!("{it:.decimals$}");
        let mut pick = |low: f64, high: f64| {
            let text = number(low + (high - low) * (rng.f64() * 2.0 - 0.5).max(0.02));
            let value: f64 = text.parse().unwrap();
            (text, value)
        };
        let place = |is_above: bool, is_below: bool| match (is_above, is_below) {
            (true, _) => Place::Above,
            (_, true) => Place::Below,
            _ => Place::Usual,
        };
        match self.usual {
            Usual::Between(low, high) => {
                let (text, value) = pick(low, high);
                let usual = format!("{}{dash}{}", number(low), number(high));
                (text, usual, place(value > high, value < low))
            }
            Usual::Below(high) => {
                let (text, value) = pick(0.0, high);
                (text, format!("<{}", number(high)), place(value >= high, false))
            }
            Usual::Above(low) => {
                let (text, value) = pick(low * 0.6, low * 1.6);
                (text, format!(">{}", number(low)), place(false, value <= low))
            }
            Usual::Negative => {
                let is_positive = rng.u8(..4) == 0;
                let [negative, positive] =
                    if is_chinese { ["阴性", "阳性"] } else { ["Negative", "Positive"] };
                let result = if is_positive { positive } else { negative };
                (result.to_owned(), negative.to_owned(), place(is_positive, false))
            }
            Usual::Titer(most) => {
                let text = format!("1:{}", one(rng, &[20, 40, 80, 160]));
                (text, format!("<1:{most}"), Place::Usual)
            }
        }
    }
}

/// Where a result is of what is usual.
#[derive(Clone, Copy)]
enum Place {
    Usual,
    Above,
    Below,
}

/// One of some, by chance.
pub(super) fn one<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
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
    Analyte { english, chinese, unit, usual: Usual::Between(low, high), decimals }
}

const fn other(
    english: &'static str,
    chinese: &'static str,
    unit: &'static str,
    usual: Usual,
    decimals: usize,
) -> Analyte {
    Analyte { english, chinese, unit, usual, decimals }
}

/// What is on the reports.
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
    other("HDL cholesterol", "高密度脂蛋白胆固醇", "mmol/L", Usual::Above(1.04), 2),
    other("LDL cholesterol", "低密度脂蛋白胆固醇", "mmol/L", Usual::Below(3.37), 2),
    other("C-reactive protein (CRP)", "超敏反应蛋白", "mg/L", Usual::Below(8.0), 1),
    other("Procalcitonin", "降钙素原", "ng/mL", Usual::Below(0.05), 3),
    other("D-Dimer", "二聚体", "mg/L", Usual::Below(0.55), 2),
    other("Troponin I", "肌钙蛋白", "ng/mL", Usual::Below(0.04), 3),
    between("Prothrombin time", "凝血酶原时间", "s", 9.8, 12.1, 1),
    between("Fibrinogen", "纤维蛋白原", "g/L", 1.8, 3.5, 2),
    between("Thyrotropin (TSH)", "促甲状腺激素", "mIU/L", 0.35, 4.94, 3),
    between("Free thyroxine (FT4)", "游离甲状腺素", "pmol/L", 9.01, 19.05, 2),
    between("Ferritin", "铁蛋白", "ng/mL", 4.63, 204.0, 2),
    between("Vitamin B12", "维生素", "pg/mL", 187.0, 883.0, 0),
    other("Alpha-fetoprotein (AFP)", "甲胎蛋白", "ng/mL", Usual::Below(7.0), 2),
    other("Carcinoembryonic antigen (CEA)", "癌胚抗原", "ng/mL", Usual::Below(5.0), 2),
    other("Hepatitis B surface antigen", "乙肝表面抗原", "", Usual::Negative, 0),
    other("Hepatitis C antibody", "丙肝抗体", "", Usual::Negative, 0),
    other("Urine protein", "尿蛋白", "", Usual::Negative, 0),
    other("Antinuclear antibody", "抗核抗体", "", Usual::Titer(80), 0),
];
