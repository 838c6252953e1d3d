//! Reads structured documents that other systems send: their text, and the documents they follow.

use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use domain::{Code, Section};

use crate::image_attributes::SliceError;
use crate::object_reader;
use crate::sequence_items::{items, text};

/// A structured document of another system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedDocument {
    /// SOP Instance UIDs of the documents it follows (Predecessor Documents, PS3.3, C.17.2).
    pub predecessors: Vec<String>,
    /// Its containers with text.
    pub sections: Vec<Section>,
}

/// Deepest nesting of containers that is read.
const DEPTH_MAX: usize = 32;

/// Reads the document in a file.
///
/// # Errors
///
/// Fails if the file is no DICOM object.
pub fn read(file: &[u8]) -> Result<ReceivedDocument, SliceError> {
    let file = object_reader::read(file)?;
    let mut document = ReceivedDocument::default();
    for study in items(&file, tags::PREDECESSOR_DOCUMENTS_SEQUENCE) {
        for series in items(study, tags::REFERENCED_SERIES_SEQUENCE) {
            let instances = items(series, tags::REFERENCED_SOP_SEQUENCE).iter();
            let uids = instances.filter_map(|it| text(it, tags::REFERENCED_SOP_INSTANCE_UID));
            document.predecessors.extend(uids);
        }
    }
    collect_sections(&file, concept_name(&file), &mut document.sections, 0);
    Ok(document)
}

/// Adds the text of a container, under its title, and that of the containers in it.
fn collect_sections(
    container: &InMemDicomObject,
    title: Code,
    sections: &mut Vec<Section>,
    depth: usize,
) {
    if depth > DEPTH_MAX {
        return;
    }
    let mut texts = Vec::new();
    for item in items(container, tags::CONTENT_SEQUENCE) {
        let relationship = text(item, tags::RELATIONSHIP_TYPE);
        match text(item, tags::VALUE_TYPE).as_deref() {
            Some("TEXT") if relationship.as_deref() == Some("CONTAINS") => {
                texts.extend(text(item, tags::TEXT_VALUE));
            }
            Some("CONTAINER") => collect_sections(item, concept_name(item), sections, depth + 1),
            _ => {}
        }
    }
    if !texts.is_empty() {
        sections.push(Section { title, text: texts.join("\n") });
    }
}

/// Concept Name Code Sequence of an item.
fn concept_name(item: &InMemDicomObject) -> Code {
    let Some(code) = items(item, tags::CONCEPT_NAME_CODE_SEQUENCE).first() else {
        return Code::new("", "", "");
    };
    Code {
        value: text(code, tags::CODE_VALUE).unwrap_or_default(),
        scheme: text(code, tags::CODING_SCHEME_DESIGNATOR).unwrap_or_default(),
        meaning: text(code, tags::CODE_MEANING).unwrap_or_default(),
    }
}
