//! What stands in the items of sequences, of objects that others made.

use dicom_core::Tag;
use dicom_object::InMemDicomObject;

/// The items of a sequence; none, if it is not there.
pub fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object.element(tag).ok().and_then(|it| it.items()).unwrap_or_default()
}

/// A text without its padding; nothing, if it is empty.
pub fn word(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = object.element(tag).ok()?.to_str().ok()?;
    Some(text.trim_matches(['\0', ' ']).to_owned()).filter(|it| !it.is_empty())
}
