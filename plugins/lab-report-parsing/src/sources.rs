//! Finds the papers of an input: files in messages, PDF in DICOM objects, pictures of pages.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{NodeInput, SeriesInstance};
use imaging::{encapsulated_document, rendering};
use plugin_api::{Context, NodeError};

use crate::page::{self, Page};
use crate::rejection::Reason;

/// Encapsulated PDF Storage (PS3.4, B.5).
const ENCAPSULATED_PDF: &str = "1.2.840.10008.5.1.4.1.1.104.1";

/// Classes of pictures of paper: Secondary Capture, also multi-frame, and VL Photographic.
const PICTURE_CLASSES: [&str; 4] = [
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.4",
    "1.2.840.10008.5.1.4.1.1.77.1.4",
];

/// Media types of files that are read.
const MEDIA_TYPES: [&str; 3] = ["application/pdf", "image/png", "image/jpeg"];

/// A document with pages.
pub(crate) struct Paper {
    /// Name, for people.
    pub(crate) name: String,
    /// The pages, in order.
    pub(crate) pages: Vec<Page>,
}

/// Finds and reads all papers of an input.
pub(crate) fn papers(context: &Context<'_>, input: &NodeInput) -> Result<Vec<Paper>, NodeError> {
    let mut papers = Vec::new();
    for attachment in input.document.iter().flat_map(|it| &it.attachments) {
        let media_type = &attachment.media_type;
        if !MEDIA_TYPES.contains(&media_type.as_str()) {
            continue;
        }
        let bytes = BASE64_STANDARD.decode(&attachment.base64).map_err(|error| {
            NodeError::rejected(Reason::FileUnreadable, format!("it is not base 64: {error}"))
        })?;
        let name = if attachment.name.is_empty() { media_type } else { &attachment.name };
        papers.push(Paper { name: name.clone(), pages: page::of_file(&bytes, media_type)? });
        context.progress(0.3);
    }
    let series = input.study.iter().flat_map(|it| &it.series);
    for instance in series.flat_map(|it| &it.instances) {
        papers.extend(paper_of_instance(context, instance)?);
        context.progress(0.3);
    }
    Ok(papers)
}

/// The paper in an instance; nothing for an instance of another class.
fn paper_of_instance(
    context: &Context<'_>,
    instance: &SeriesInstance,
) -> Result<Option<Paper>, NodeError> {
    let class = instance.sop_class.as_str();
    let is_picture = PICTURE_CLASSES.contains(&class);
    if !is_picture && class != ENCAPSULATED_PDF {
        return Ok(None);
    }
    let instance = &instance.instance;
    let file =
        context.read_instance(instance).map_err(|error| error.into_node_error(Reason::NoImage))?;
    let unusable = |error: imaging::SliceError| {
        let reason = format!("instance {instance}: {}", domain::ErrorChain(&error));
        NodeError::rejected(Reason::ImageUnusable, reason)
    };
    let pages = if is_picture {
        vec![page::of_picture(&rendering::render(file).map_err(unusable)?)?]
    } else {
        let document = encapsulated_document::read(file).map_err(unusable)?;
        page::of_file(&document.bytes, &document.media_type)?
    };
    Ok(Some(Paper { name: format!("instance {instance}"), pages }))
}
