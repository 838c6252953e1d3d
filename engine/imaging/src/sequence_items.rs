//! Reads items and texts of sequences in objects of other systems.

use dicom_core::Tag;
use dicom_object::InMemDicomObject;

/// The items of a sequence; none if the element is missing.
pub fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object.element(tag).ok().and_then(|it| it.items()).unwrap_or_default()
}

/// The text of an element without its padding; nothing if it is missing or empty.
pub fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = object.element(tag).ok()?.to_str().ok()?;
    Some(text.trim_matches(['\0', ' ']).to_owned()).filter(|it| !it.is_empty())
}
