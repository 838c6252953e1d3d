//! The report of a phantom in the format of the paper: thoughts in reading order with the boxes they
//! rest on, then findings and impression.
//!
//! Boxes and their labels are places (`<bbox>`, `<ref-object>`) in the text, so that they can be
//! scaled to the picture that the model sees.

use training_data::item::{BBOX, REFERENCE};

use crate::anatomy::{LesionKind, Organ, Side};
use crate::phantom::{Lesion, Phantom, View, box_of};
use crate::words::{Language, denial};

/// A report with the objects that it cites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `<think>` and `<answer>`, with places for labels and boxes.
    pub text: String,
    /// The labels in the order of their places.
    pub labels: Vec<String>,
    /// The boxes in the order of their places: left, top, right, bottom.
    pub boxes: Vec<[u32; 4]>,
}

/// The report of a phantom.
pub fn report(phantom: &Phantom, language: Language) -> Report {
    let mut writer = Writer { phantom, language, labels: Vec::new(), boxes: Vec::new() };
    let thoughts: Vec<String> =
        steps(phantom.view).iter().filter_map(|it| writer.thought(it)).collect();
    let findings = writer.findings();
    let impression = writer.impression();
    let answer = match language {
        Language::English => format!("Findings: {findings}\nImpression: {impression}"),
        Language::Chinese => format!("影像所见：{findings}\n诊断意见：{impression}"),
    };
    let thoughts = thoughts.join("\n");
    Report {
        text: format!("<think>\n{thoughts}\n</think>\n<answer>\n{answer}\n</answer>"),
        labels: writer.labels,
        boxes: writer.boxes,
    }
}

/// A step of reading: what is looked at, and which kinds of lesion are looked for there.
struct Step {
    english: &'static str,
    chinese: &'static str,
    organs: &'static [Organ],
    kinds: &'static [LesionKind],
}

const BONES: Step =
    Step { english: "Bones", chinese: "骨骼", organs: &[Organ::Spine], kinds: &[] };
const LUNGS: Step = Step {
    english: "Lungs",
    chinese: "肺",
    organs: &[Organ::Lung(Side::Right), Organ::Lung(Side::Left)],
    kinds: &[LesionKind::Nodule, LesionKind::Mass, LesionKind::Consolidation],
};
const PLEURA: Step = Step {
    english: "Pleura",
    chinese: "胸膜",
    organs: &[],
    kinds: &[LesionKind::Effusion, LesionKind::Pneumothorax],
};
const HEART: Step = Step {
    english: "Heart",
    chinese: "心脏",
    organs: &[Organ::Heart],
    kinds: &[LesionKind::Cardiomegaly],
};
const AORTA: Step = Step {
    english: "Aorta",
    chinese: "主动脉",
    organs: &[Organ::Aorta],
    kinds: &[LesionKind::Aneurysm],
};
const LIVER: Step = Step {
    english: "Liver",
    chinese: "肝脏",
    organs: &[Organ::Liver],
    kinds: &[LesionKind::LiverLesion, LesionKind::HepaticCyst],
};
const SPLEEN: Step =
    Step { english: "Spleen", chinese: "脾脏", organs: &[Organ::Spleen], kinds: &[] };
const KIDNEYS: Step = Step {
    english: "Kidneys",
    chinese: "肾脏",
    organs: &[Organ::Kidney(Side::Right), Organ::Kidney(Side::Left)],
    kinds: &[LesionKind::RenalCyst, LesionKind::RenalCalculus],
};

/// The steps in which a view is read: bones first, the heart last of the chest.
const fn steps(view: View) -> &'static [&'static Step] {
    match view {
        View::Radiograph => &[&BONES, &LUNGS, &PLEURA, &HEART, &AORTA, &LIVER],
        View::ChestSlice => &[&BONES, &LUNGS, &PLEURA, &HEART, &AORTA],
        View::AbdomenSlice => &[&BONES, &LIVER, &SPLEEN, &KIDNEYS, &AORTA],
    }
}

/// A report while it is written.
struct Writer<'phantom> {
    phantom: &'phantom Phantom,
    language: Language,
    labels: Vec<String>,
    boxes: Vec<[u32; 4]>,
}

impl Writer<'_> {
    /// Cites a box: the text with its places.
    fn cite(&mut self, label: &str, corners: Option<[u32; 4]>) -> Option<String> {
        let corners = corners?;
        self.labels.push(label.to_owned());
        self.boxes.push(corners);
        Some(format!("'{REFERENCE}' with bbox {BBOX}"))
    }

    /// A step of reading, if there is anything to say of it.
    fn thought(&mut self, step: &Step) -> Option<String> {
        let language = self.language;
        let phantom = self.phantom;
        let mut parts = Vec::new();
        for organ in step.organs {
            let drawn = phantom.organs.iter().find(|it| it.organ == *organ);
            let Some(drawn) = drawn else { continue };
            parts.extend(self.cite(organ.name(language), box_of(&drawn.mask)));
        }
        let mut sentences = Vec::new();
        for kind in step.kinds.iter().filter(|it| phantom.view.kinds().contains(it)) {
            for lesion in phantom.of_kind(*kind) {
                let told = lesion.sentence(language);
                let told = told.trim_end_matches(['.', '。']);
                let cited = self.cite(&lesion.label(language), box_of(&lesion.mask));
                sentences.push(format!("{told}: {}", cited.unwrap_or_default()));
            }
            if phantom.of_kind(*kind).next().is_none() {
                let told = denial(*kind, language);
                sentences.push(told.trim_end_matches(['.', '。']).to_owned());
            }
        }
        if parts.is_empty() && sentences.is_empty() {
            return None;
        }
        parts.extend(sentences);
        Some(format!("{}: {}.", language.of(step.english, step.chinese), parts.join("; ")))
    }

    /// Every lesion, and every kind that is not there.
    fn findings(&self) -> String {
        let one = |kind: &LesionKind| {
            let told: Vec<String> =
                self.phantom.of_kind(*kind).map(|it| it.sentence(self.language)).collect();
            if told.is_empty() { vec![denial(*kind, self.language)] } else { told }
        };
        let sentences: Vec<String> = self.phantom.view.kinds().iter().flat_map(one).collect();
        sentences.join(self.language.of(" ", ""))
    }

    /// Every lesion once more, or that there is none.
    fn impression(&self) -> String {
        let lesions = self.phantom.lesions.iter();
        let told: Vec<String> = lesions.map(|it| heading(it, self.language)).collect();
        if told.is_empty() {
            return self.phantom.view.normal(self.language).to_owned();
        }
        told.join(self.language.of(" ", ""))
    }
}

/// A lesion as a line of an impression.
fn heading(lesion: &Lesion, language: Language) -> String {
    let label = lesion.label(language);
    match language {
        Language::English => {
            let mut letters = label.chars();
            let first = letters.next().map(|it| it.to_uppercase().collect::<String>());
            format!("{}{}.", first.unwrap_or_default(), letters.as_str())
        }
        Language::Chinese => format!("{label}。"),
    }
}

#[cfg(test)]
mod tests;
