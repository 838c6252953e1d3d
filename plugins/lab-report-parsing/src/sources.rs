//! Papers: files in messages, PDF inside of DICOM, pictures of pages.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{NodeInput, SeriesInstance};
use imaging::{display, enclosed};
use plugin_api::{Context, NodeError};

use crate::page::{self, Page};

/// Encapsulated PDF Storage.
const ENCAPSULATED_PDF: &str = "1.2.840.10008.5.1.4.1.1.104.1";

/// Pictures of paper: Secondary Capture, also of colours, and VL Photographic.
const PICTURES: [&str; 4] = [
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.4",
    "1.2.840.10008.5.1.4.1.1.77.1.4",
];

/// Types of files that are read.
const READ: [&str; 3] = ["application/pdf", "image/png", "image/jpeg"];

/// Something on paper.
pub(crate) struct Paper {
    /// What it is called, for people.
    pub(crate) name: String,
    /// Its pages.
    pub(crate) pages: Vec<Page>,
}

/// All papers of an input.
pub(crate) fn papers(context: &Context<'_>, input: &NodeInput) -> Result<Vec<Paper>, NodeError> {
    let mut papers = Vec::new();
    for it in input.document.iter().flat_map(|it| &it.attachments) {
        if !READ.contains(&it.media_type.as_str()) {
            continue;
        }
        let bytes = BASE64_STANDARD.decode(&it.base64).map_err(|error| {
            NodeError::rejected("file_unreadable", format!("it is not base 64: {error}"))
        })?;
        let name = if it.name.is_empty() { it.media_type.clone() } else { it.name.clone() };
        papers.push(Paper { name, pages: page::of_file(&bytes, &it.media_type)? });
        context.progress(0.3);
    }
    let series = input.study.iter().flat_map(|it| &it.series);
    for it in series.flat_map(|it| &it.instances) {
        papers.extend(of_instance(context, it)?);
        context.progress(0.3);
    }
    Ok(papers)
}

fn of_instance(context: &Context<'_>, it: &SeriesInstance) -> Result<Option<Paper>, NodeError> {
    let class = it.sop_class.as_str();
    let is_picture = PICTURES.contains(&class);
    if !is_picture && class != ENCAPSULATED_PDF {
        return Ok(None);
    }
    let instance = &it.instance;
    let file = context.read_instance(instance).map_err(|it| it.into_node_error("no_image"))?;
    let unusable = |reason: imaging::SliceError| {
        let reason = format!("instance {instance}: {}", domain::ErrorChain(&reason));
        NodeError::rejected("image_unusable", reason)
    };
    let pages = if is_picture {
        vec![page::of_picture(&display::shown(file).map_err(unusable)?)?]
    } else {
        let (media_type, bytes) = enclosed::document(file).map_err(unusable)?;
        page::of_file(&bytes, &media_type)?
    };
    Ok(Some(Paper { name: format!("instance {instance}"), pages }))
}
