//! What somebody says in a structured document that came back: its words, and which documents it follows.

use std::path::Path;

use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, OpenFileOptions};
use domain::{Code, Section};
use imaging::sequence_items::{items, text};

/// A document of somebody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReturnedDocument {
    /// SOP Instance UIDs of the documents it follows (Predecessor Documents, PS3.3, C.17.2).
    pub predecessors: Vec<String>,
    /// Its parts in prose.
    pub sections: Vec<Section>,
}

/// Deepest nesting of a document that is read.
const DEPTH_MAX: usize = 32;

/// Reads a document; nothing, if it is none.
pub fn read(path: &Path) -> Option<ReturnedDocument> {
    let file = OpenFileOptions::new().open_file(path).ok()?;
    let mut document = ReturnedDocument::default();
    for study in items(&file, tags::PREDECESSOR_DOCUMENTS_SEQUENCE) {
        for series in items(study, tags::REFERENCED_SERIES_SEQUENCE) {
            let instances = items(series, tags::REFERENCED_SOP_SEQUENCE);
            let name = |it: &InMemDicomObject| text(it, tags::REFERENCED_SOP_INSTANCE_UID);
            document.predecessors.extend(instances.iter().filter_map(name));
        }
    }
    collect(&file, &title(&file), &mut document.sections, 0);
    Some(document)
}

/// The texts of a container, under its title, and those of the containers in it.
fn collect(container: &InMemDicomObject, title: &Code, sections: &mut Vec<Section>, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    let mut texts = Vec::new();
    for item in items(container, tags::CONTENT_SEQUENCE) {
        match text(item, tags::VALUE_TYPE).as_deref() {
            Some("TEXT") if text(item, tags::RELATIONSHIP_TYPE).as_deref() == Some("CONTAINS") => {
                texts.extend(text(item, tags::TEXT_VALUE));
            }
            Some("CONTAINER") => collect(item, &self::title(item), sections, depth + 1),
            _ => {}
        }
    }
    if !texts.is_empty() {
        sections.push(Section { title: title.clone(), text: texts.join("\n") });
    }
}

fn title(item: &InMemDicomObject) -> Code {
    let code = items(item, tags::CONCEPT_NAME_CODE_SEQUENCE).first();
    let part = |tag| code.and_then(|it| text(it, tag)).unwrap_or_default();
    Code {
        value: part(tags::CODE_VALUE),
        scheme: part(tags::CODING_SCHEME_DESIGNATOR),
        meaning: part(tags::CODE_MEANING),
    }
}
