//! Outlines a target by the shared model, page by page: slices in the order of the patient
//! (PAP-05), or a single image.

use std::collections::BTreeMap;

use domain::{Algorithm, VolumeGeometry};
use imaging::rendering::Views;
use imaging::window::Window;
use imaging::{FlatMask, Mask};
use plugin_api::{Context, NodeError};
use plugin_toolkit::mask::{check_masks, separate_masks};
use plugin_toolkit::model::ModelIdentity;
use plugin_toolkit::picture::QuestionPicture;
use plugin_toolkit::progress::ProgressSpan;
use plugin_toolkit::question::Question;

use crate::rejection::Reason;
use crate::settings::NetworkSettings;
use crate::target::Target;

/// The prompt of the model's release.
const PROMPT: &str = "Please help segment the {target} in this scan.";

/// Default upper bound of an answer, in tokens: it only names what was drawn.
const TOKENS_MAX: usize = 512;

/// What the model is shown.
pub(crate) enum ShownPages<'a> {
    /// The slices of a volume, one by one, in a window.
    Slices { values: &'a [f32], window: Window },
    /// The slices of a volume, each as its file states. One whose file states nothing is in a window
    /// over the whole volume.
    FiledSlices { values: &'a [f32], over_values: Window },
    /// A single picture.
    Image(&'a QuestionPicture),
}

impl ShownPages<'_> {
    const fn window(&self) -> Option<Window> {
        match self {
            Self::Slices { window, .. } => Some(*window),
            Self::FiledSlices { .. } | Self::Image(_) => None,
        }
    }

    fn picture(
        &self,
        context: &Context<'_>,
        geometry: &VolumeGeometry,
        index: usize,
    ) -> Result<QuestionPicture, NodeError> {
        match self {
            Self::Image(picture) => Ok((*picture).clone()),
            Self::Slices { values, window } => slice_picture(geometry, values, index, *window),
            Self::FiledSlices { values, over_values } => {
                match filed_picture(context, geometry, index)? {
                    Some(picture) => Ok(picture),
                    None => slice_picture(geometry, values, index, *over_values),
                }
            }
        }
    }
}

/// A slice of a volume in a window.
fn slice_picture(
    geometry: &VolumeGeometry,
    values: &[f32],
    index: usize,
    window: Window,
) -> Result<QuestionPicture, NodeError> {
    let slice = values.chunks(geometry.pixels().max(1)).nth(index).unwrap_or_default();
    QuestionPicture::from_slice(geometry.rows, geometry.columns, slice, window)
        .map_err(|error| NodeError::rejected(Reason::SliceUnusable, error.to_string()))
}

/// A slice as its file states, like every other image; nothing if it states nothing.
fn filed_picture(
    context: &Context<'_>,
    geometry: &VolumeGeometry,
    index: usize,
) -> Result<Option<QuestionPicture>, NodeError> {
    let Some(instance) = geometry.instances.get(index) else { return Ok(None) };
    let file =
        context.read_instance(instance).map_err(|error| error.into_node_error(Reason::NoImage))?;
    let shown = QuestionPicture::views_of_file(file, &Views::First).map_err(|error| {
        NodeError::rejected(Reason::SliceUnusable, format!("instance {instance}: {error}"))
    })?;
    Ok(shown.into_iter().find(|it| it.manner.is_filed()).map(|it| it.picture))
}

/// A target as the model has drawn it.
pub(crate) struct NetworkOutline {
    pub(crate) target: Target,
    /// All that was drawn.
    pub(crate) mask: Mask,
    /// The masks of each page as they were drawn, one for each `[SEG]`.
    pub(crate) drawn: Vec<Vec<FlatMask>>,
    /// The model that has drawn all pages; nothing if there was none.
    pub(crate) model: Option<ModelIdentity>,
    prompt: String,
    window: Option<Window>,
}

impl NetworkOutline {
    /// A sentence that credits the model, with its warning.
    pub(crate) fn attribution(&self) -> String {
        let Some(model) = &self.model else { return String::new() };
        let warning = model.warning.as_ref().map(|it| format!(", {it}")).unwrap_or_default();
        format!("Outlined by model {}{warning}.", model.name)
    }
}

/// Asks the model for a target on each page. Every page must be answered by the same model.
pub(crate) fn outline(
    context: &Context<'_>,
    target: &Target,
    settings: &NetworkSettings,
    geometry: &VolumeGeometry,
    pages: &ShownPages<'_>,
    span: ProgressSpan,
) -> Result<NetworkOutline, NodeError> {
    let prompt = settings.prompt.as_deref().unwrap_or(PROMPT).replace("{target}", target.name());
    let mut model: Option<ModelIdentity> = None;
    let mut drawn: Vec<Vec<FlatMask>> = Vec::new();
    for index in 0..geometry.slices() {
        if context.is_cancelled() {
            return Err(NodeError::Unavailable("the run was cancelled".to_owned()));
        }
        let pictures = [pages.picture(context, geometry, index)?];
        let question =
            Question::new(&prompt, &pictures).tokens_max(settings.tokens_max.unwrap_or(TOKENS_MAX));
        let answer = question.ask(context)?;
        check_masks(&answer, &prompt)?;
        drawn.push(separate_masks(&answer, geometry.rows, geometry.columns)?);
        let answered_by = ModelIdentity::of(&answer);
        if model.as_ref().is_some_and(|it| *it != answered_by) {
            let reason = "the model was exchanged for another in the middle of a volume";
            return Err(NodeError::Unavailable(reason.to_owned()));
        }
        model = Some(answered_by);
        span.report(context, drawn.len() as f64 / geometry.slices().max(1) as f64);
    }
    let mask = union(geometry, &drawn);
    let target = target.clone();
    Ok(NetworkOutline { target, mask, drawn, model, prompt, window: pages.window() })
}

/// All masks of all pages as one.
fn union(geometry: &VolumeGeometry, drawn: &[Vec<FlatMask>]) -> Mask {
    let mut voxels = vec![false; geometry.slices() * geometry.pixels()];
    for (page, masks) in voxels.chunks_mut(geometry.pixels().max(1)).zip(drawn) {
        for pixels in masks.iter().map(|it| &it.pixels) {
            page.iter_mut().zip(pixels).for_each(|(voxel, is_set)| *voxel |= is_set);
        }
    }
    Mask { shape: [geometry.slices(), geometry.rows as usize, geometry.columns as usize], voxels }
}

/// The model, its prompts and windows, as the algorithm of a segmentation.
pub(crate) fn algorithm(outlines: &[NetworkOutline], version: &str) -> Algorithm {
    let mut parameters = BTreeMap::new();
    for outline in outlines {
        let name = outline.target.name();
        parameters.insert(format!("{name} prompt"), outline.prompt.clone());
        if let Some(Window { center, width }) = outline.window {
            parameters.insert(format!("{name} window"), format!("{width} wide about {center}"));
        }
        let Some(model) = &outline.model else { continue };
        let weights = if model.is_eight_bit { "eight bits" } else { "as they are" };
        parameters.insert("model_weights".to_owned(), weights.to_owned());
        parameters.extend(model.parameters());
    }
    let name = "Isocenter network segmentation".to_owned();
    Algorithm { name, version: version.to_owned(), parameters }
}
