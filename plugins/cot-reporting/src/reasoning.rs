//! The reasoning of the model, step by step, with the places that each step cites (OUT-41).

use domain::{Algorithm, AnswerBox, InferResponse, Reasoning, ReasoningBox, ReasoningStep};
use encoding::model_answer::CitedBox;
use encoding::thought_steps::{ThoughtStep, thought_steps};
use plugin_toolkit::answer::box_on_image;
use plugin_toolkit::text::printable;

use crate::images::ShownImage;

/// Upper bound of the text of a step, in characters. What is beyond it is counted.
const STEP_CHARS_MAX: usize = 4000;

/// Upper bound of the number of steps. Those beyond it are counted.
const STEPS_MAX: usize = 500;

/// The reasoning of an answer; nothing, if the model gave none. Boxes refer to the first image; one
/// that does not lie on it is left out, as among the regions (PAP-04).
pub(crate) fn reasoning(
    answer: &InferResponse,
    images: &[ShownImage],
    algorithm: Algorithm,
) -> Option<Reasoning> {
    let found = thought_steps(&printable(answer.think.as_deref()?));
    let steps_left_out = found.len().saturating_sub(STEPS_MAX);
    let steps = found.into_iter().take(STEPS_MAX).map(|it| step(it, answer, images.first()));
    let steps: Vec<ReasoningStep> = steps.collect();
    (!steps.is_empty()).then_some(Reasoning { algorithm, steps, steps_left_out })
}

fn step(found: ThoughtStep, answer: &InferResponse, image: Option<&ShownImage>) -> ReasoningStep {
    let ThoughtStep { text, boxes } = found;
    let characters_left_out = text.chars().count().saturating_sub(STEP_CHARS_MAX);
    let boxes = boxes.iter().filter_map(|cited| {
        let known = answer.boxes.iter().find(|it| is_same(it, cited))?;
        place(known, image?)
    });
    ReasoningStep {
        boxes: boxes.collect(),
        text: text.chars().take(STEP_CHARS_MAX).collect(),
        characters_left_out,
    }
}

/// Whether a box of the answer is the one that a step cites.
fn is_same(known: &AnswerBox, cited: &CitedBox) -> bool {
    let corners = known.cited.iter().zip(cited.corners);
    let is_same_box = corners.into_iter().all(|(one, other)| one.total_cmp(&other).is_eq());
    is_same_box && known.label == cited.label
}

fn place(known: &AnswerBox, image: &ShownImage) -> Option<ReasoningBox> {
    let placed = box_on_image(known, image.size)?;
    Some(ReasoningBox {
        label: placed.label,
        series: image.series.clone(),
        instance: image.instance.clone(),
        sop_class: image.sop_class.clone(),
        // Images of several frames are not shown.
        frame: None,
        size: image.size,
        corners: placed.corners,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::ImageFacts;
    use imaging::rendering::Manner;

    use super::*;

    fn answer(think: Option<&str>) -> InferResponse {
        serde_json::from_value(serde_json::json!({
            "text": "", "think": think, "answer": "Clear.", "flaws": [], "is_truncated": false,
            "boxes": [
                {"label": "lung", "cited": [1.0, 2.0, 3.0, 4.0], "on_picture": [2, 4, 6, 8]},
                {"label": "heart", "cited": [1.0, 2.0, 30.0, 40.0], "on_picture": null},
            ],
            "masks": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}, "milliseconds": 0,
        }))
        .unwrap()
    }

    fn image() -> ShownImage {
        ShownImage {
            series: "1.2".parse().unwrap(),
            instance: "1.3".parse().unwrap(),
            sop_class: "1.4".parse().unwrap(),
            size: [5, 100],
            modality: "DX".to_owned(),
            facts: ImageFacts::default(),
            manner: Manner::Colours,
        }
    }

    fn algorithm() -> Algorithm {
        Algorithm { name: "a".to_owned(), version: "1".to_owned(), parameters: BTreeMap::new() }
    }

    #[test]
    fn out_41_steps_are_kept_in_order_with_their_boxes_in_pixels_of_the_image() {
        let thought = "Ribs are intact. lung bbox [1, 2, 3, 4] is clear.\nheart bbox [1, 2, 30, 40] is large.";
        let kept = reasoning(&answer(Some(thought)), &[image()], algorithm()).unwrap();
        let texts: Vec<&str> = kept.steps.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "Ribs are intact.",
                "lung bbox [1, 2, 3, 4] is clear.",
                "heart bbox [1, 2, 30, 40] is large."
            ]
        );
        let [none, one, outside] = kept.steps.as_slice() else { panic!() };
        assert!(none.boxes.is_empty() && outside.boxes.is_empty());
        assert_eq!(one.boxes[0].corners, [2, 4, 5, 8], "cut at the edge of the image");
        assert_eq!((one.boxes[0].label.as_str(), one.boxes[0].instance.as_str()), ("lung", "1.3"));
        assert_eq!(kept.steps_left_out, 0);
    }

    #[test]
    fn out_41_without_thoughts_there_is_no_reasoning_and_without_images_no_box() {
        assert_eq!(reasoning(&answer(None), &[image()], algorithm()), None);
        assert_eq!(reasoning(&answer(Some("\u{7} \n")), &[image()], algorithm()), None);
        let text = reasoning(&answer(Some("lung bbox [1, 2, 3, 4]")), &[], algorithm()).unwrap();
        assert!(text.steps[0].boxes.is_empty());
    }

    #[test]
    fn out_41_what_is_cut_is_counted() {
        let long = "x".repeat(STEP_CHARS_MAX + 7);
        let many = "y.\n".repeat(STEPS_MAX + 1);
        let kept =
            reasoning(&answer(Some(&format!("{long}\n{many}"))), &[image()], algorithm()).unwrap();
        assert_eq!(kept.steps.len(), STEPS_MAX);
        assert_eq!(kept.steps_left_out, 2);
        assert_eq!(kept.steps[0].characters_left_out, 7);
        assert_eq!(kept.steps[0].text.chars().count(), STEP_CHARS_MAX);
        assert_eq!(kept.steps[1].characters_left_out, 0);
    }
}
