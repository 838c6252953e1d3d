//! Reads the file that a DICOM object of the Encapsulated PDF class holds (PS3.3, A.45.1).

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;

use crate::image_attributes::{SliceError, text};
use crate::object_reader;

/// The file of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncapsulatedDocument {
    /// MIME Type of Encapsulated Document (0042,0012).
    pub media_type: String,
    /// The bytes of the file.
    pub bytes: Vec<u8>,
}

/// Reads the encapsulated file of an object.
///
/// # Errors
///
/// Fails if the object cannot be parsed, or has no file or no media type.
pub fn read(file: &[u8]) -> Result<EncapsulatedDocument, SliceError> {
    let object = object_reader::read(file)?;
    let media_type = text(&object, tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT)
        .ok_or(SliceError::Missing { name: "MIME Type of Encapsulated Document" })?;
    let mut bytes = element_bytes(&object, tags::ENCAPSULATED_DOCUMENT)
        .ok_or(SliceError::Missing { name: "Encapsulated Document" })?;
    // The length of an element is even: a file of odd length is followed by a byte of padding
    // (PS3.3, C.24.2).
    let length = object.get(tags::ENCAPSULATED_DOCUMENT_LENGTH).and_then(|it| it.to_int().ok());
    bytes.truncate(length.unwrap_or(bytes.len()));
    Ok(EncapsulatedDocument { media_type, bytes })
}

fn element_bytes(object: &DefaultDicomObject, tag: Tag) -> Option<Vec<u8>> {
    object.get(tag)?.to_bytes().ok().map(std::borrow::Cow::into_owned)
}
