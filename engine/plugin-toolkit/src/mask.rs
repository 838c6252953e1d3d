//! Masks of an answer: as many as were announced, each of the size of its picture.

use domain::{AnswerFlaw, InferResponse};
use imaging::FlatMask;

use crate::answer::AnswerProblem;

/// The token for which the model draws a mask.
const SEG_TOKEN: &str = "[SEG]";

/// Checks that there is one mask for each `[SEG]` of the question and of the answer.
///
/// # Errors
///
/// [`AnswerProblem::MasksMissing`].
pub fn check_masks(answer: &InferResponse, question: &str) -> Result<(), AnswerProblem> {
    let expected = question.matches(SEG_TOKEN).count() + answer.text.matches(SEG_TOKEN).count();
    let found = answer.masks.len();
    if expected != found || answer.flaws.contains(&AnswerFlaw::MasksNotReported) {
        return Err(AnswerProblem::MasksMissing { expected, found });
    }
    Ok(())
}

/// The masks of an answer one by one, on a picture of this size.
///
/// # Errors
///
/// [`AnswerProblem::MaskSize`] or [`AnswerProblem::MaskUndecodable`].
pub fn separate_masks(
    answer: &InferResponse,
    rows: u32,
    columns: u32,
) -> Result<Vec<FlatMask>, AnswerProblem> {
    let mut masks = Vec::new();
    for mask in &answer.masks {
        if mask.size != [rows, columns] {
            return Err(AnswerProblem::MaskSize { found: mask.size, rows, columns });
        }
        masks.push(FlatMask::parse(rows, columns, &mask.counts)?);
    }
    Ok(masks)
}

#[cfg(test)]
mod tests {
    use domain::{AnswerMask, RunLengths};

    use super::*;
    use crate::test_answer::answer;

    fn mask(pixels: [u8; 6], height: u32, width: u32) -> AnswerMask {
        let pixels = pixels.map(|it| it == 1).to_vec();
        let counts = FlatMask { height, width, pixels }.to_text();
        let drawn = RunLengths { size: [1, 1], counts: String::new() };
        AnswerMask { picture: 0, size: [height, width], counts, drawn, iou: None }
    }

    fn with_masks(text: &str, masks: Vec<AnswerMask>) -> InferResponse {
        InferResponse { masks, ..answer(text) }
    }

    #[test]
    fn pap_05_each_mask_stays_one_of_its_own_and_none_of_another_size_is_taken() {
        let masks = vec![mask([1, 0, 0, 0, 0, 1], 2, 3), mask([0, 1, 0, 0, 0, 1], 2, 3)];
        let separate = separate_masks(&with_masks("", masks), 2, 3).unwrap();
        let pixels: Vec<&[bool]> = separate.iter().map(|it| it.pixels.as_slice()).collect();
        let expected =
            [[true, false, false, false, false, true], [false, true, false, false, false, true]];
        assert_eq!(pixels, expected);
        assert!(separate_masks(&with_masks("", Vec::new()), 2, 3).unwrap().is_empty());
        let transposed = with_masks("", vec![mask([1, 0, 0, 0, 0, 1], 3, 2)]);
        let problem = separate_masks(&transposed, 2, 3).unwrap_err();
        assert!(matches!(problem, AnswerProblem::MaskSize { found: [3, 2], .. }), "{problem}");
    }

    #[test]
    fn sec_24_run_lengths_that_do_not_fit_are_refused() {
        let mut garbled = with_masks("", vec![mask([1, 0, 0, 0, 0, 1], 2, 3)]);
        garbled.masks[0].counts = "PPPPPP1".to_owned();
        let problem = separate_masks(&garbled, 2, 3).unwrap_err();
        assert!(matches!(problem, AnswerProblem::MaskUndecodable(_)), "{problem}");
    }

    #[test]
    fn there_is_a_mask_for_each_seg_of_question_and_answer() {
        let one = || vec![mask([1, 0, 0, 0, 0, 1], 2, 3)];
        assert!(check_masks(&with_masks("It is [SEG].", one()), "liver").is_ok());
        assert!(check_masks(&with_masks("", one()), "is [SEG] the liver?").is_ok());
        assert!(check_masks(&with_masks("no liver", Vec::new()), "liver").is_ok());
        let missing = check_masks(&with_masks("[SEG] [SEG]", one()), "liver").unwrap_err();
        let expected = 2;
        let found = 1;
        assert!(
            matches!(missing, AnswerProblem::MasksMissing { expected: a, found: b }
                if a == expected && b == found),
            "{missing}"
        );
        let more = check_masks(&with_masks("", one()), "liver").unwrap_err();
        assert!(matches!(more, AnswerProblem::MasksMissing { expected: 0, found: 1 }), "{more}");
    }

    #[test]
    fn masks_of_a_server_that_reports_none_are_missing() {
        let mut silent = with_masks("I have segmented the liver.", Vec::new());
        silent.flaws.push(AnswerFlaw::MasksNotReported);
        let problem = check_masks(&silent, "liver").unwrap_err();
        assert!(matches!(problem, AnswerProblem::MasksMissing { .. }), "{problem}");
    }
}
