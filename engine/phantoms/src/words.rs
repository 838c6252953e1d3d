//! Organs, lesions, sides and zones in words, in English and Chinese.

use crate::anatomy::{LesionKind, Organ, Side, Zone};
use crate::phantom::{Lesion, View};

/// The language of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Chinese, in simplified characters.
    Chinese,
}

impl Language {
    /// All languages.
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// One of two texts.
    pub(crate) const fn of<'text>(self, english: &'text str, chinese: &'text str) -> &'text str {
        match self {
            Self::English => english,
            Self::Chinese => chinese,
        }
    }
}

impl Side {
    /// The side in a word.
    pub const fn word(self, language: Language) -> &'static str {
        match self {
            Self::Right => language.of("right", "右"),
            Self::Left => language.of("left", "左"),
        }
    }
}

impl Zone {
    /// The zone in words.
    pub const fn words(self, language: Language) -> &'static str {
        match self {
            Self::Upper => language.of("upper zone", "上野"),
            Self::Middle => language.of("middle zone", "中野"),
            Self::Lower => language.of("lower zone", "下野"),
        }
    }
}

impl Organ {
    /// The name of the organ, as prompts and labels have it.
    pub const fn name(self, language: Language) -> &'static str {
        match self {
            Self::Spine => language.of("spine", "脊柱"),
            Self::Lung(Side::Right) => language.of("right lung", "右肺"),
            Self::Lung(Side::Left) => language.of("left lung", "左肺"),
            Self::Heart => language.of("heart", "心脏"),
            Self::Aorta => language.of("aorta", "主动脉"),
            Self::Liver => language.of("liver", "肝脏"),
            Self::Spleen => language.of("spleen", "脾脏"),
            Self::Kidney(Side::Right) => language.of("right kidney", "右肾"),
            Self::Kidney(Side::Left) => language.of("left kidney", "左肾"),
        }
    }
}

impl LesionKind {
    /// The name of the kind.
    pub const fn name(self, language: Language) -> &'static str {
        match self {
            Self::Nodule => language.of("nodule", "结节"),
            Self::Mass => language.of("mass", "肿块"),
            Self::Consolidation => language.of("consolidation", "实变"),
            Self::Effusion => language.of("pleural effusion", "胸腔积液"),
            Self::Pneumothorax => language.of("pneumothorax", "气胸"),
            Self::Cardiomegaly => language.of("cardiomegaly", "心影增大"),
            Self::Aneurysm => language.of("aortic aneurysm", "主动脉瘤"),
            Self::LiverLesion => language.of("liver lesion", "肝内占位"),
            Self::HepaticCyst => language.of("hepatic cyst", "肝囊肿"),
            Self::RenalCyst => language.of("renal cyst", "肾囊肿"),
            Self::RenalCalculus => language.of("renal calculus", "肾结石"),
        }
    }

    /// The name with its article, in English.
    pub(crate) const fn with_article(self) -> &'static str {
        match self {
            Self::Nodule => "a nodule",
            Self::Mass => "a mass",
            Self::Consolidation => "a consolidation",
            Self::Effusion => "a pleural effusion",
            Self::Pneumothorax => "a pneumothorax",
            Self::Cardiomegaly => "cardiomegaly",
            Self::Aneurysm => "an aortic aneurysm",
            Self::LiverLesion => "a liver lesion",
            Self::HepaticCyst => "a hepatic cyst",
            Self::RenalCyst => "a renal cyst",
            Self::RenalCalculus => "a renal calculus",
        }
    }
}

impl Lesion {
    /// The lesion with its side, as prompts and labels have it.
    pub fn label(&self, language: Language) -> String {
        label(self.kind, self.side, language)
    }

    /// The lesion in a sentence that tells it.
    pub(crate) fn sentence(&self, language: Language) -> String {
        let side = self.side.map_or("", |it| it.word(language));
        let zone = self.zone.map_or("", |it| it.words(language));
        match (language, self.kind.is_in_lung(), self.zone) {
            (Language::English, true, Some(_)) => {
                format!("There is {} in the {zone} of the {side} lung.", self.kind.with_article())
            }
            (Language::English, true, None) => {
                format!("There is {} in the {side} lung.", self.kind.with_article())
            }
            (Language::English, false, _) if self.kind == LesionKind::Cardiomegaly => {
                "The heart is enlarged.".to_owned()
            }
            (Language::English, false, _) if self.side.is_some() => {
                format!("There is a {side} {}.", self.kind.name(language))
            }
            (Language::English, false, _) => format!("There is {}.", self.kind.with_article()),
            (Language::Chinese, true, _) => {
                format!("{side}肺{zone}见{}。", self.kind.name(language))
            }
            (Language::Chinese, false, _) => format!("{}。", self.label(language)),
        }
    }
}

/// A kind of lesion with a side, as prompts and labels have it.
pub(crate) fn label(kind: LesionKind, side: Option<Side>, language: Language) -> String {
    let name = kind.name(language);
    let Some(side) = side else { return name.to_owned() };
    let word = side.word(language);
    match (language, kind) {
        (Language::English, _) if kind.is_in_lung() => format!("{name} of the {word} lung"),
        (Language::English, _) => format!("{word} {name}"),
        (Language::Chinese, LesionKind::RenalCyst | LesionKind::RenalCalculus) => {
            format!("{word}{name}")
        }
        (Language::Chinese, _) if kind.is_in_lung() => format!("{word}肺{name}"),
        (Language::Chinese, _) => format!("{word}侧{name}"),
    }
}

/// The sentence that a kind of lesion is not there.
pub(crate) fn denial(kind: LesionKind, language: Language) -> String {
    match language {
        Language::English => format!("There is no {}.", kind.name(language)),
        Language::Chinese => format!("未见{}。", kind.name(language)),
    }
}

impl View {
    /// What the picture is called.
    pub const fn name(self, language: Language) -> &'static str {
        match self {
            Self::Radiograph => language.of("chest radiograph", "胸片"),
            Self::ChestSlice => language.of("chest CT slice", "胸部CT图像"),
            Self::AbdomenSlice => language.of("abdominal CT slice", "腹部CT图像"),
        }
    }

    /// The conclusion of a report that tells no lesion.
    pub(crate) const fn normal(self, language: Language) -> &'static str {
        match self {
            Self::Radiograph | Self::ChestSlice => {
                language.of("No acute cardiopulmonary abnormality.", "胸部未见明显异常。")
            }
            Self::AbdomenSlice => language.of("No significant abnormality.", "未见明显异常。"),
        }
    }
}
