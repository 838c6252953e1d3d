//! The reasoning of a model, which is stored beside the result that it led to (OUT-41).

use serde::{Deserialize, Serialize};

use crate::{Algorithm, SeriesInstanceUid, SopClassUid, SopInstanceUid};

/// How a model came to what it wrote. It explains a result, and is no part of it: it states no
/// finding, and nobody signs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reasoning {
    /// The model and its prompt.
    pub algorithm: Algorithm,
    /// The steps, in the order in which the model wrote them.
    pub steps: Vec<ReasoningStep>,
    /// Number of steps after these that were left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub steps_left_out: usize,
}

/// One step of a reasoning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReasoningStep {
    /// The words of the model.
    pub text: String,
    /// Number of characters at the end of the text that were left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub characters_left_out: usize,
    /// The places that the step cites, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boxes: Vec<ReasoningBox>,
}

/// A place on an image that a step cites.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReasoningBox {
    /// What the model calls it.
    pub label: String,
    /// The series of the image.
    pub series: SeriesInstanceUid,
    /// The image (SOP Instance UID).
    pub instance: SopInstanceUid,
    /// SOP class of the image.
    pub sop_class: SopClassUid,
    /// The frame, from 1; `None` for an image of one frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<u32>,
    /// Number of columns and rows of the image.
    pub size: [u32; 2],
    /// Left, top, right and bottom in pixels; 0, 0 is the upper left corner of the first pixel.
    pub corners: [u32; 4],
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use crate::NodeOutput;

    #[test]
    fn out_41_a_result_that_was_stored_without_reasoning_loads_and_is_stored_as_before() {
        let stored =
            r#"{"sections":[{"title":{"value":"1","scheme":"LN","meaning":"x"},"text":"y"}]}"#;
        let output: NodeOutput = serde_json::from_str(stored).unwrap();
        assert!(output.reasoning.is_empty());
        assert_eq!(serde_json::to_string(&output).unwrap(), stored, "its digest is the same");
    }
}
