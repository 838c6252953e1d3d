//! From findings to what is sent.

use contracts::Output;
use domain::{OutputKind, ResultSet, derived_uid};

use crate::templates::Templates;
use crate::writing::{ReportError, StudyAbout, Writing};
use crate::{
    encapsulated_pdf, fhir, gate, narrative_sr, overlay, presentation_state, rejection, seg, sr,
};

/// Writes what a delivery asks for, in the order to send it in: segmentations before the report
/// that refers to them (OUT-34).
///
/// # Errors
///
/// Says why nothing can be sent.
pub fn compose(
    what: &[OutputKind],
    writing: &Writing<'_>,
    templates: &Templates,
) -> Result<Vec<Output>, ReportError> {
    let mut kinds = what.to_vec();
    // A report refers to its segmentations: whoever gets it gets them (OUT-34).
    if kinds.contains(&OutputKind::Sr) || kinds.contains(&OutputKind::Narrative) {
        kinds.push(OutputKind::Seg);
    }
    if writing.words.is_void {
        // Another run's result is not taken back with this one.
        if !writing.about.before.as_ref().is_some_and(|it| it.is_own) {
            return Err(ReportError::NothingSent);
        }
        // What objects said stays in the archive; a note says that they are not to be used.
        let has_objects = kinds.iter().any(|it| it.is_dicom() && *it != OutputKind::Images);
        kinds.retain(|it| !it.is_dicom());
        kinds.extend(has_objects.then_some(OutputKind::Rejection));
    }
    kinds.sort();
    kinds.dedup();
    let mut outputs = Vec::new();
    for kind in kinds {
        outputs.extend(written(kind, writing, templates)?);
    }
    let has_objects =
        writing.about.before.as_ref().is_some_and(|it| it.is_own && !it.tried.is_empty());
    if outputs.is_empty() && has_objects && what.iter().any(|it| it.is_dicom()) {
        // A person has taken out all that was sent before.
        outputs = written(OutputKind::Rejection, writing, templates)?;
    }
    if outputs.is_empty() {
        return Err(ReportError::NothingToSend("anything it is to be sent as"));
    }
    let problems: Vec<String> = outputs.iter().flat_map(gate::problems).collect();
    if !problems.is_empty() {
        return Err(ReportError::Unsound(problems.join("; ")));
    }
    Ok(outputs)
}

fn written(
    kind: OutputKind,
    writing: &Writing<'_>,
    templates: &Templates,
) -> Result<Vec<Output>, ReportError> {
    let plain = |id: String, bytes: Vec<u8>| {
        let (series, sop_class) = (String::new(), String::new());
        Ok(vec![Output { kind, id, series, sop_class, bytes, stored: None }])
    };
    match kind {
        OutputKind::Oru => {
            let id = control_id(writing, "oru");
            let message = templates.oru(writing, &id)?;
            plain(id, message.into_bytes())
        }
        OutputKind::Mdm => {
            let id = control_id(writing, "mdm");
            let message = templates.mdm(writing, &id)?;
            plain(id, message.into_bytes())
        }
        OutputKind::Images => Ok(images(writing)),
        OutputKind::Fhir => plain(fhir::id(writing), json(&fhir::bundle(writing)?)?),
        OutputKind::Json => plain(writing.results.run.to_string(), json(&kept(writing))?),
        _ => {
            let study = writing.about.study.as_ref();
            objects(kind, writing, study.ok_or(ReportError::NothingToSend(kind.name()))?)
        }
    }
}

/// The result itself; of one that was taken back, only that it was.
fn kept(writing: &Writing<'_>) -> ResultSet {
    let mut results = writing.results.clone();
    if writing.words.is_void {
        results.findings.clear();
        results.segmentations.clear();
        results.regions.clear();
        results.laboratory.clear();
        results.sections.clear();
    }
    results
}

/// The images of the run, by where they lie.
fn images(writing: &Writing<'_>) -> Vec<Output> {
    let image = |it: &domain::InputInstance| Output {
        kind: OutputKind::Images,
        id: it.instance.to_string(),
        series: String::new(),
        sop_class: String::new(),
        bytes: Vec::new(),
        stored: Some(it.sha256.clone()),
    };
    writing.results.inputs.iter().map(image).collect()
}

/// DICOM objects of a kind.
fn objects(
    kind: OutputKind,
    writing: &Writing<'_>,
    study: &StudyAbout,
) -> Result<Vec<Output>, ReportError> {
    let results = writing.results;
    let object = |(series, id): (String, String), class: &str, bytes: Vec<u8>| {
        let sop_class = class.to_owned();
        Output { kind, id, series, sop_class, bytes, stored: None }
    };
    Ok(match kind {
        OutputKind::Seg => return segmentations(writing, study),
        OutputKind::Pr => {
            let groups = presentation_state::groups(writing).into_iter().enumerate();
            let state = |(index, group): (usize, presentation_state::Group<'_>)| {
                let bytes = presentation_state::encode(writing, study, index, &group)?;
                let uids = presentation_state::uids(writing, index);
                Ok(object(uids, presentation_state::SOP_CLASS, bytes))
            };
            groups.map(state).collect::<Result<_, ReportError>>()?
        }
        OutputKind::Sc => {
            let images = overlay::key_images(results, writing.masks).into_iter().enumerate();
            let picture = |(index, image): (usize, overlay::KeyImage)| {
                let bytes = overlay::encode(writing, study, index, &image)?;
                Ok(object(overlay::uids(writing, index), overlay::SOP_CLASS, bytes))
            };
            images.map(picture).collect::<Result<_, ReportError>>()?
        }
        OutputKind::Narrative => {
            let bytes = narrative_sr::encode(writing, study)?;
            vec![object(narrative_sr::uids(writing), narrative_sr::SOP_CLASS, bytes)]
        }
        OutputKind::Pdf => {
            let bytes = encapsulated_pdf::encode(writing, study)?;
            vec![object(encapsulated_pdf::uids(writing), encapsulated_pdf::SOP_CLASS, bytes)]
        }
        OutputKind::Rejection => {
            let bytes = rejection::encode(writing, study)?;
            vec![object(rejection::uids(writing), rejection::SOP_CLASS, bytes)]
        }
        _ => {
            let form = writing.recipient.preferences.segmentation;
            let bytes = sr::encode(results, writing.about, study, writing.words, form)?;
            vec![object(sr::uids(results), sr::SOP_CLASS, bytes)]
        }
    })
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, ReportError> {
    serde_json::to_vec_pretty(value).map_err(|error| ReportError::Unwritable(Box::new(error)))
}

/// MSH-10: the same on every try, another one for every destination; at most twenty characters.
fn control_id(writing: &Writing<'_>, kind: &str) -> String {
    let name = writing.results.name();
    let uid = derived_uid(&[&name, kind, &writing.recipient.destination]);
    let digits: Vec<char> = uid.chars().rev().take(20).collect();
    digits.into_iter().rev().collect()
}

fn segmentations(writing: &Writing<'_>, study: &StudyAbout) -> Result<Vec<Output>, ReportError> {
    let Writing { results, about, words, masks, recipient, .. } = writing;
    let form = recipient.preferences.segmentation;
    let mut outputs = Vec::new();
    for (index, it) in results.segmentations.iter().enumerate() {
        let bytes = seg::encode(results, index, it, about, study, masks, (*words, form))?;
        let (series, id) = seg::uids(results, index, form);
        let sop_class = form.sop_class().to_owned();
        outputs.push(Output { kind: OutputKind::Seg, id, series, sop_class, bytes, stored: None });
    }
    Ok(outputs)
}
