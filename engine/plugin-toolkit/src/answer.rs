//! Checks of an answer, before anything of it becomes part of a result.
//!
//! Every check is a function from an answer to `Result`, and every failure a variant of
//! [`AnswerProblem`], which converts to the error of a node.

use domain::{AnswerBox, InferResponse};
use plugin_api::{NodeError, RejectionCode};
use serde::de::DeserializeOwned;

use crate::text::printable;

/// Code of the rejection of a question that the model refuses to answer.
pub const MODEL_REFUSED: &str = "model_refused";

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AnswerProblem {
    /// The answer reached its upper bound of tokens, so its end is missing.
    #[error("the answer is truncated after {tokens} tokens")]
    Truncated {
        /// Number of tokens of the answer.
        tokens: usize,
    },
    /// The thoughts of the model could not be separated from its answer.
    #[error("the answer cannot be taken apart: {}", flaws.join(", "))]
    Unparsed {
        /// Names of the flaws.
        flaws: Vec<String>,
    },
    /// The answer is not JSON of the expected form.
    #[error("the answer is no JSON: {0}")]
    NotJson(serde_json::Error),
    /// The answer is not of the kind that was asked for.
    #[error("{attempts} times, the answer was of another kind than asked for")]
    WrongKind {
        /// Number of answers.
        attempts: usize,
    },
    /// Some of the boxes of the answer do not lie on the image.
    #[error("{misplaced} of {total} boxes lie nowhere on the image")]
    BoxesMisplaced {
        /// Number of boxes outside of the image.
        misplaced: usize,
        /// Number of boxes.
        total: usize,
    },
    /// There is not one mask for each `[SEG]` of question and answer.
    #[error("question and answer have {expected} [SEG], and {found} masks were drawn")]
    MasksMissing {
        /// Number of `[SEG]`.
        expected: usize,
        /// Number of masks.
        found: usize,
    },
    /// A mask is of another size than its picture.
    #[error("a mask of {found:?} for a slice of {rows} x {columns}")]
    MaskSize {
        /// Rows and columns of the mask.
        found: [u32; 2],
        /// Rows of the picture.
        rows: u32,
        /// Columns of the picture.
        columns: u32,
    },
    /// The run lengths of a mask cannot be decoded.
    #[error(transparent)]
    MaskUndecodable(#[from] imaging::rle::RleError),
}

impl AnswerProblem {
    /// The code of the rejection; nothing if another answer may be usable, so that the node is
    /// retried.
    pub const fn code(&self) -> Option<AnswerRejection> {
        match self {
            Self::Truncated { .. } => Some(AnswerRejection::Truncated),
            Self::Unparsed { .. } | Self::NotJson(_) => Some(AnswerRejection::Unreadable),
            Self::WrongKind { .. } => Some(AnswerRejection::Invalid),
            Self::BoxesMisplaced { .. } => Some(AnswerRejection::BoxesMisplaced),
            Self::MasksMissing { .. } => Some(AnswerRejection::MasksMissing),
            // A defect of the model's host, and not of this input.
            Self::MaskSize { .. } | Self::MaskUndecodable(_) => None,
        }
    }
}

impl From<AnswerProblem> for NodeError {
    fn from(problem: AnswerProblem) -> Self {
        match problem.code() {
            Some(code) => Self::rejected(code, problem.to_string()),
            None => Self::Unavailable(problem.to_string()),
        }
    }
}

/// Codes of rejections because of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerRejection {
    /// See [`AnswerProblem::Truncated`].
    Truncated,
    /// See [`AnswerProblem::Unparsed`] and [`AnswerProblem::NotJson`].
    Unreadable,
    /// See [`AnswerProblem::WrongKind`].
    Invalid,
    /// See [`AnswerProblem::BoxesMisplaced`].
    BoxesMisplaced,
    /// See [`AnswerProblem::MasksMissing`].
    MasksMissing,
}

impl RejectionCode for AnswerRejection {
    fn name(self) -> &'static str {
        match self {
            Self::Truncated => "answer_truncated",
            Self::Unreadable => "answer_unreadable",
            Self::Invalid => "answer_invalid",
            Self::BoxesMisplaced => "boxes_misplaced",
            Self::MasksMissing => "masks_missing",
        }
    }
}

/// Checks that the answer ended before its upper bound of tokens.
///
/// # Errors
///
/// [`AnswerProblem::Truncated`].
pub fn check_complete(answer: &InferResponse) -> Result<(), AnswerProblem> {
    let tokens = answer.usage.completion_tokens;
    if answer.is_truncated { Err(AnswerProblem::Truncated { tokens }) } else { Ok(()) }
}

/// Checks that the thoughts of the model could be separated from its answer. An answer without
/// marks is an answer without thoughts.
///
/// # Errors
///
/// [`AnswerProblem::Unparsed`].
pub fn check_parsed(answer: &InferResponse) -> Result<(), AnswerProblem> {
    let flaws: Vec<String> = answer
        .flaws
        .iter()
        .filter(|flaw| !flaw.is_harmless())
        .map(|flaw| flaw.name().to_owned())
        .collect();
    if flaws.is_empty() { Ok(()) } else { Err(AnswerProblem::Unparsed { flaws }) }
}

/// Parses an answer as JSON, with or without a Markdown fence around it.
///
/// # Errors
///
/// [`AnswerProblem::NotJson`].
pub fn parse_json<T: DeserializeOwned>(answer: &str) -> Result<T, AnswerProblem> {
    let json = answer.trim().trim_start_matches("```json").trim_matches('`').trim();
    serde_json::from_str(json).map_err(AnswerProblem::NotJson)
}

/// A box of an answer that lies on its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedBox {
    /// The label by the model, printable; `region` if it gave none.
    pub label: String,
    /// Left, top, right, bottom, in pixels of the image.
    pub corners: [u32; 4],
}

/// The label of a box, printable; `region` if the model gave none.
pub fn box_label(label: &str) -> String {
    printable(if label.is_empty() { "region" } else { label })
}

/// The boxes of an answer that lie on an image of this size (columns and rows), cut at its edges
/// (PAP-04).
pub fn boxes_on_image(answer: &InferResponse, size: [u32; 2]) -> Vec<PlacedBox> {
    answer.boxes.iter().filter_map(|it| box_on_image(it, size)).collect()
}

/// A box on an image of this size, cut at its edges; nothing if it does not lie on it.
pub fn box_on_image(cited: &AnswerBox, size: [u32; 2]) -> Option<PlacedBox> {
    let [columns, rows] = size;
    let [left, top, right, bottom] = cited.on_picture?;
    let right = right.min(columns);
    let bottom = bottom.min(rows);
    let is_on_image = left < right && top < bottom;
    is_on_image
        .then(|| PlacedBox { label: box_label(&cited.label), corners: [left, top, right, bottom] })
}

/// Checks that all boxes of an answer lie on the image. `placed` is the number of those that do.
///
/// # Errors
///
/// [`AnswerProblem::BoxesMisplaced`].
pub fn check_boxes(answer: &InferResponse, placed: usize) -> Result<(), AnswerProblem> {
    let total = answer.boxes.len();
    if placed < total {
        return Err(AnswerProblem::BoxesMisplaced { misplaced: total - placed, total });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::AnswerBox;

    use domain::AnswerFlaw;

    use super::*;
    use crate::test_answer::answer;

    fn cited(label: &str, on_picture: Option<[u32; 4]>) -> AnswerBox {
        AnswerBox { label: label.to_owned(), cited: [0.0; 4], on_picture }
    }

    fn code_of(problem: AnswerProblem) -> String {
        match NodeError::from(problem) {
            NodeError::Rejected { code, .. } => code,
            NodeError::Unavailable(_) => "unavailable".to_owned(),
        }
    }

    #[test]
    fn a_truncated_answer_is_rejected_with_its_length() {
        let mut cut = answer("It is");
        assert!(check_complete(&cut).is_ok());
        cut.is_truncated = true;
        cut.usage.completion_tokens = 12;
        let problem = check_complete(&cut).unwrap_err();
        assert_eq!(problem.to_string(), "the answer is truncated after 12 tokens");
        assert_eq!(code_of(problem), "answer_truncated");
    }

    #[test]
    fn an_answer_without_marks_can_be_used_and_one_with_broken_marks_cannot() {
        let mut flawed = answer("x");
        flawed.flaws = vec![AnswerFlaw::Unmarked, AnswerFlaw::MasksNotReported];
        assert!(check_parsed(&flawed).is_ok());
        flawed.flaws.push(AnswerFlaw::UnclosedThought);
        let problem = check_parsed(&flawed).unwrap_err();
        assert!(
            matches!(&problem, AnswerProblem::Unparsed { flaws } if flaws == &["UnclosedThought"])
        );
        assert_eq!(code_of(problem), "answer_unreadable");
    }

    #[test]
    fn json_is_parsed_with_and_without_a_fence() {
        let expected = BTreeMap::from([("a".to_owned(), 1)]);
        for text in [r#"{"a": 1}"#, "```json\n{\"a\": 1}\n```", "  ```\n{\"a\": 1}```"] {
            assert_eq!(parse_json::<BTreeMap<String, i32>>(text).unwrap(), expected, "{text}");
        }
        let problem = parse_json::<BTreeMap<String, i32>>("none").unwrap_err();
        assert_eq!(code_of(problem), "answer_unreadable");
    }

    #[test]
    fn pap_04_boxes_are_cut_at_the_edge_and_dropped_outside_of_the_image() {
        let mut found = answer("");
        found.boxes = vec![
            cited("heart", Some([10, 10, 200, 50])),
            cited("", Some([0, 0, 5, 5])),
            cited("beside", Some([100, 0, 120, 10])),
            cited("nowhere", None),
        ];
        let placed = boxes_on_image(&found, [100, 80]);
        let expected = [("heart", [10, 10, 100, 50]), ("region", [0, 0, 5, 5])];
        let seen: Vec<_> = placed.iter().map(|it| (it.label.as_str(), it.corners)).collect();
        assert_eq!(seen, expected);
        let problem = check_boxes(&found, placed.len()).unwrap_err();
        assert_eq!(problem.to_string(), "2 of 4 boxes lie nowhere on the image");
        assert_eq!(code_of(problem), "boxes_misplaced");
        assert!(check_boxes(&found, 4).is_ok());
    }

    #[test]
    fn a_defect_of_the_models_host_is_retried_and_not_rejected() {
        let size = AnswerProblem::MaskSize { found: [3, 2], rows: 2, columns: 3 };
        assert_eq!(code_of(size), "unavailable");
    }
}
