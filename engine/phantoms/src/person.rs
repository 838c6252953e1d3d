//! Whose study a phantom is, and why it was ordered.

use crate::phantom::View;
use crate::random::Random;
use crate::words::Language;

/// A person who does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Patient ID.
    pub id: String,
    /// Name, as DICOM writes it. It says that it is a phantom.
    pub name: String,
    /// Date of birth, as DICOM writes it.
    pub birth_date: String,
    /// Sex, as DICOM writes it.
    pub sex: &'static str,
}

/// The order of a study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Accession number.
    pub accession: String,
    /// Placer order number.
    pub placer: String,
    /// What was ordered.
    pub procedure: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// Reasons of an order of the chest. None names a lesion: the picture has to be read.
const OF_CHEST: [[&str; 2]; 5] = [
    ["cough and fever", "咳嗽发热"],
    ["shortness of breath", "气促"],
    ["chest pain", "胸痛"],
    ["before surgery", "术前检查"],
    ["follow-up", "复查"],
];

/// Reasons of an order of the abdomen.
const OF_ABDOMEN: [[&str; 2]; 4] = [
    ["abdominal pain", "腹痛"],
    ["blood in the urine", "血尿"],
    ["weight loss", "体重下降"],
    ["follow-up", "复查"],
];

impl Person {
    /// The person of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, "person");
        let year = 1935 + random.below(70);
        let month = 1 + random.below(12);
        let day = 1 + random.below(28);
        Self {
            id: format!("PHANTOM-{:010}", random.draw() % 10_000_000_000),
            name: format!("PHANTOM^{:06}", random.below(1_000_000)),
            birth_date: format!("{year}{month:02}{day:02}"),
            sex: if random.chance(50) { "F" } else { "M" },
        }
    }
}

impl Order {
    /// The order of a seed for a view.
    pub fn new(seed: u64, view: View, language: Language) -> Self {
        let mut random = Random::new(seed, "order");
        let number = random.draw() % 10_000_000_000;
        let procedure = match view {
            View::Radiograph => language.of("Chest radiograph", "胸部正位片"),
            View::ChestSlice => language.of("CT chest", "胸部CT"),
            View::AbdomenSlice => language.of("CT abdomen", "腹部CT"),
        };
        let reasons: &[[&str; 2]] =
            if view == View::AbdomenSlice { &OF_ABDOMEN } else { &OF_CHEST };
        let [english, chinese] = random.choice(reasons).copied().unwrap_or_default();
        Self {
            accession: format!("PA{number:010}"),
            placer: format!("PO{number:010}"),
            procedure,
            reason: language.of(english, chinese),
        }
    }
}
