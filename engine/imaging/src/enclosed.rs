//! Files inside of DICOM objects: Encapsulated PDF (PS3.3, A.45.1).

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, OpenFileOptions};

use crate::slice::{SliceError, text};

/// The file that an object encloses, and its type.
///
/// # Errors
///
/// Says what is wrong with the object.
pub fn document(file: &[u8]) -> Result<(String, Vec<u8>), SliceError> {
    let object = OpenFileOptions::new()
        .from_reader(file)
        .map_err(|error| SliceError::Unreadable(Box::new(error)))?;
    let kind = text(&object, tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT);
    let kind = kind.ok_or(SliceError::Missing { name: "MIME Type of Encapsulated Document" })?;
    let mut bytes = bytes(&object, tags::ENCAPSULATED_DOCUMENT)
        .ok_or(SliceError::Missing { name: "Encapsulated Document" })?;
    // The length of an element is even: a file of odd length has a byte behind it (C.24.2).
    let length = object.get(tags::ENCAPSULATED_DOCUMENT_LENGTH).and_then(|it| it.to_int().ok());
    bytes.truncate(length.unwrap_or(bytes.len()));
    Ok((kind, bytes))
}

fn bytes(object: &DefaultDicomObject, tag: Tag) -> Option<Vec<u8>> {
    object.get(tag)?.to_bytes().ok().map(std::borrow::Cow::into_owned)
}
