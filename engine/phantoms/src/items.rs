//! Training items out of a phantom: its report, questions, masks and boxes (PAP-56).

use imaging::FlatMask;
use training_data::item::{BBOX, IMAGE, REFERENCE, SEG};
use training_data::{Item, ItemMask, Message, Objects, Region};

use crate::anatomy::LesionKind;
use crate::phantom::{Phantom, area, box_of};
use crate::questions::questions;
use crate::random::Random;
use crate::report::report;
use crate::words::{Language, label};

/// Parts of a picture that an organ needs to be asked for: below that only a sliver is shown.
const ASKED_PART: usize = 1200;

/// What an item teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// The report with its thoughts.
    Report,
    /// A question about the picture.
    Question,
    /// The mask of an organ or a lesion.
    Segmentation,
    /// The box of an organ or a lesion.
    Detection,
}

/// All items of a phantom: the report, a question of each form, the mask and the box of every organ
/// that is well in the picture and of every lesion, and for one kind of lesion that is not there
/// that there is nothing to outline. `image` is the path of the picture.
pub fn items(
    phantom: &Phantom,
    language: Language,
    image: &str,
    random: &mut Random,
) -> Vec<(Task, Item)> {
    let maker = Maker { phantom, language, image };
    let mut items = vec![(Task::Report, maker.report())];
    for question in questions(phantom, language, random) {
        let item = maker.item(&question.text, question.answer, Objects::default(), Vec::new());
        items.push((Task::Question, item));
    }
    let pixels = phantom.size as usize * phantom.size as usize;
    let is_asked = |mask: &FlatMask| area(mask) * ASKED_PART >= pixels;
    let organs = phantom.organs.iter().filter(|it| is_asked(&it.mask));
    let organs = organs.map(|it| (it.organ.name(language).to_owned(), &it.mask));
    let lesions = phantom.lesions.iter().map(|it| (it.label(language), &it.mask));
    let targets: Vec<(String, &FlatMask)> = organs.chain(lesions).collect();
    for (name, mask) in targets {
        items.push((Task::Segmentation, maker.segmentation(&name, mask, random)));
        items.extend(maker.detection(&name, mask).map(|it| (Task::Detection, it)));
    }
    items.extend(maker.nothing(random).map(|it| (Task::Segmentation, it)));
    items
}

struct Maker<'phantom> {
    phantom: &'phantom Phantom,
    language: Language,
    image: &'phantom str,
}

impl Maker<'_> {
    fn item(&self, asked: &str, answer: String, objects: Objects, masks: Vec<ItemMask>) -> Item {
        Item {
            messages: vec![Message::user(format!("{IMAGE}{asked}")), Message::assistant(answer)],
            images: vec![self.image.to_owned()],
            masks,
            objects,
        }
    }

    fn report(&self) -> Item {
        let name = self.phantom.view.name(self.language);
        let asked = match self.language {
            Language::English => {
                format!(
                    "Evaluate the provided {name} and compile a report. Let's think step by step."
                )
            }
            Language::Chinese => format!("请阅读这张{name}并撰写报告，逐步思考。"),
        };
        let report = report(self.phantom, self.language);
        let objects = objects(report.labels, &report.boxes);
        self.item(&asked, report.text, objects, Vec::new())
    }

    /// The name of the target stands behind `[SEG]`: its state has to tell targets apart.
    fn segmentation(&self, name: &str, mask: &FlatMask, random: &mut Random) -> Item {
        let asked = self.segmentation_prompt(name, random);
        let answer = match self.language {
            Language::English => format!("Sure, {SEG} {name}."),
            Language::Chinese => format!("好的，{SEG}{name}。"),
        };
        self.item(&asked, answer, Objects::default(), vec![ItemMask::of(mask)])
    }

    fn segmentation_prompt(&self, name: &str, random: &mut Random) -> String {
        match (self.language, random.chance(50)) {
            (Language::English, true) => format!("Segment the {name}."),
            (Language::English, false) => format!("Please help segment the {name} in this scan."),
            (Language::Chinese, true) => format!("分割{name}。"),
            (Language::Chinese, false) => format!("请在图像中分割{name}。"),
        }
    }

    fn detection(&self, name: &str, mask: &FlatMask) -> Option<Item> {
        let asked = match self.language {
            Language::English => {
                format!("Locate the {name}, output its bbox coordinates using JSON format.")
            }
            Language::Chinese => format!("定位{name}，以JSON格式输出其bbox坐标。"),
        };
        let answer =
            format!("```json\n[\n{{\"bbox_2d\": {BBOX},\"label\": \"{REFERENCE}\"}}\n]\n```");
        let objects = objects(vec![name.to_owned()], &[box_of(mask)?]);
        Some(self.item(&asked, answer, objects, Vec::new()))
    }

    /// A kind of lesion that is not there has no mask (PAP-06).
    fn nothing(&self, random: &mut Random) -> Option<Item> {
        let kinds = self.phantom.view.kinds().iter();
        let missing = kinds.filter(|it| self.phantom.of_kind(**it).next().is_none());
        let missing: Vec<LesionKind> = missing.copied().collect();
        let kind = *random.choice(&missing)?;
        let name = label(kind, None, self.language);
        let answer = match self.language {
            Language::English => format!("There is no {name} in this image."),
            Language::Chinese => format!("图像中未见{name}。"),
        };
        let asked = self.segmentation_prompt(&name, random);
        Some(self.item(&asked, answer, Objects::default(), Vec::new()))
    }
}

/// Labels and their boxes, in pixels of the picture.
fn objects(references: Vec<String>, boxes: &[[u32; 4]]) -> Objects {
    let boxes = boxes.iter().map(|it| Region::Box(it.map(f64::from))).collect();
    Objects { references, boxes, unit: None, image_id: Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use encoding::model_answer::{ModelAnswer, cited_boxes};
    use training_data::placeholders::{Rounding, Scaling};

    use super::*;
    use crate::{Side, ct_slice, radiograph};

    #[test]
    fn pap_56_every_item_of_a_phantom_is_sound() {
        let mut tasks = BTreeSet::new();
        let mut random = Random::new(1, "test");
        for seed in 0..40 {
            for phantom in [radiograph(seed, 96), ct_slice(seed, 96)] {
                for language in Language::ALL {
                    for (task, item) in items(&phantom, language, "images/1.png", &mut random) {
                        tasks.insert(task);
                        item.check().unwrap();
                        let line = serde_json::to_string(&item).unwrap();
                        assert_eq!(serde_json::from_str::<Item>(&line).unwrap(), item);
                        assert!(item.messages.iter().all(|it| !it.content.contains("  ")));
                    }
                }
            }
        }
        assert_eq!(tasks.len(), 4);
    }

    #[test]
    fn pap_56_the_mask_of_an_item_is_that_of_the_organ_it_names() {
        let phantom = radiograph(4, 96);
        let mut random = Random::new(1, "test");
        let all = items(&phantom, Language::English, "1.png", &mut random);
        for organ in [crate::Organ::Lung(Side::Right), crate::Organ::Heart] {
            let name = organ.name(Language::English);
            let answer = format!("Sure, [SEG] {name}.");
            let item = all.iter().find(|it| it.1.messages[1].content == answer).unwrap();
            let ItemMask::Runs(runs) = &item.1.masks[0] else { unreachable!() };
            let drawn = phantom.organs.iter().find(|it| it.organ == organ).unwrap();
            assert_eq!(runs.mask().unwrap(), drawn.mask);
            assert!(item.1.messages[0].content.contains(name));
        }
    }

    /// As the trainer renders an item, the parser of answers reads it.
    #[test]
    fn pap_07_the_answer_to_a_detection_is_read_as_its_box() {
        let phantom = radiograph(4, 96);
        let mut random = Random::new(1, "test");
        let all = items(&phantom, Language::Chinese, "1.png", &mut random);
        let scaling = Scaling { source: [96, 96], seen: [224, 252] };
        for (_, item) in all.iter().filter(|it| it.0 == Task::Detection) {
            let messages = item.rendered(&[scaling], Rounding::HalfEven).unwrap();
            let boxes = cited_boxes(&ModelAnswer::parse(&messages[1].content).answer);
            assert_eq!(boxes.len(), 1);
            assert_eq!(boxes[0].label, item.objects.references[0]);
            let (back, _) = boxes[0].on_source([224, 252], [96, 96]).unwrap();
            let Region::Box(corners) = item.objects.boxes[0] else { unreachable!() };
            for (found, expected) in back.iter().zip(corners) {
                assert!((f64::from(*found) - expected).abs() <= 1.0, "{back:?} {corners:?}");
            }
        }
    }
}
