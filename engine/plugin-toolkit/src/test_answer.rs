//! An answer for tests: of this text, and without flaws, boxes and masks.

use domain::InferResponse;

pub(crate) fn answer(text: &str) -> InferResponse {
    serde_json::from_value(serde_json::json!({
        "text": text, "think": null, "answer": text, "flaws": [], "is_truncated": false, "boxes": [],
        "masks": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}, "milliseconds": 0,
    }))
    .unwrap()
}
