//! Turns the rows of a run into what `report` encodes: the result set, the patient, the study, and
//! what the destination has already. Pure.

use std::collections::BTreeMap;

use contracts::{DeliveryView, MessageSnapshot, Output, PluginPin, SentBefore, StoredInstance};
use domain::row_keys::ChangeRow;
use domain::{
    Algorithm, InputInstance, LabRow, NodeOutput, Observation, PatientId, ResultSet, ResultStatus,
    Segment, StudyInstanceUid, row_keys,
};
use encoding::dicom::date_time;
use encoding::dicom::header::{Header, Tag};
use report::status::StatusCodes;
use report::{Engine, PreviousDelivery, ReportContext, SentObject, StudyDescription, TakenOut};

use super::row_sources::RowSources;
use crate::draft::draft_of;
use crate::header::tags;

/// All that a run found, as people left it or, before anybody decided, as its nodes drafted it
/// (OUT-01).
pub(super) fn result_set(view: &DeliveryView) -> ResultSet {
    let mut content = content(view);
    note_sources(view, &mut content.laboratory);
    let reviewed = view.reviewed.as_ref();
    let draft_status =
        if view.has_failures { ResultStatus::AiPartial } else { ResultStatus::AiDraft };
    ResultSet {
        run: view.run.id,
        workflow: view.run.workflow.clone(),
        status: reviewed.map_or(draft_status, |it| it.state.status()),
        concluded: view.concluded,
        revision: view.revision,
        attested: reviewed.map(|it| it.attestation.clone()),
        amends: view.run.amends,
        findings: content.findings,
        segmentations: content.segmentations,
        regions: content.regions,
        laboratory: content.laboratory,
        sections: content.sections,
        reasoning: content.reasoning,
        inputs: view.series.iter().flat_map(|it| &it.instances).map(input_instance).collect(),
        algorithms: view.plugins.values().map(algorithm).collect(),
    }
}

/// The content of the reviewed version in force, or the draft if there is none.
pub(super) fn content(view: &DeliveryView) -> NodeOutput {
    match &view.reviewed {
        Some(reviewed) => {
            let mut content = reviewed.content.clone();
            // A version of an earlier version of the engine has no keys.
            row_keys::number(&mut content, []);
            content
        }
        None => draft_of(&view.outputs, &view.plugins, &view.run),
    }
}

/// Notes on each row which observation of the message it was made of.
fn note_sources(view: &DeliveryView, rows: &mut [LabRow]) {
    let draft = draft_of(&view.outputs, &view.plugins, &view.run);
    let observations = view.message.iter().flat_map(|it| &it.document.observations);
    let observations: Vec<Observation> = observations.cloned().collect();
    RowSources::of(&draft.laboratory, &observations).note_on(rows);
}

/// Whether it is not known any more which orders of the laboratory a report was sent under:
/// retention has removed the message that named them.
pub(super) fn has_lost_orders(view: &DeliveryView) -> bool {
    let is_gone = |it: &MessageSnapshot| it.document.message_type.is_empty();
    let is_of_laboratory = |it: &LabRow| !it.status_received.is_empty();
    view.before.is_some()
        && view.message.as_ref().is_some_and(is_gone)
        && content(view).laboratory.iter().any(is_of_laboratory)
}

/// The rows of the draft that people have taken out: a receiver of the draft may have them.
fn taken_out(view: &DeliveryView) -> TakenOut {
    let draft = draft_of(&view.outputs, &view.plugins, &view.run);
    let content = content(view);
    let segments = |of: &NodeOutput| -> Vec<Segment> {
        of.segmentations.iter().flat_map(|it| &it.segments).cloned().collect()
    };
    let rows = &content.laboratory;
    let is_row = |row: &LabRow| rows.iter().any(|it| it.has_name_of(row) && it.key == row.key);
    let kept = segments(&content);
    // The key alone: a segment under another label is the same row.
    let is_segment = |one: &Segment| kept.iter().any(|it| it.key == one.key);
    let mut removed: Vec<LabRow> =
        draft.laboratory.iter().filter(|it| !is_row(it)).cloned().collect();
    note_sources(view, &mut removed);
    let stated = row_keys::changes(&content.findings);
    let is_stated = |change: &ChangeRow| {
        stated.iter().any(|it| it.finding == change.finding && it.key == change.key)
    };
    TakenOut {
        changes: row_keys::changes(&draft.findings)
            .into_iter()
            .filter(|it| !is_stated(it))
            .collect(),
        rows: removed,
        segments: segments(&draft).into_iter().filter(|it| !is_segment(it)).collect(),
    }
}

/// Whether a person declared the result void: rejected or withdrew it.
pub(super) fn is_withdrawn(view: &DeliveryView) -> bool {
    view.reviewed.as_ref().is_some_and(|it| StatusCodes::of(it.state.status()).is_withdrawn)
}

fn input_instance(stored: &StoredInstance) -> InputInstance {
    InputInstance { instance: stored.instance.clone(), sha256: stored.sha256.clone() }
}

/// A plugin as reports name it, by the library that the run pinned.
fn algorithm(plugin: &PluginPin) -> Algorithm {
    Algorithm {
        name: plugin.name.clone(),
        version: plugin.version.clone(),
        parameters: BTreeMap::from([("plugin_sha256".to_owned(), plugin.digest.clone())]),
    }
}

/// Everything that a report states besides the results.
pub(super) fn report_context(
    view: &DeliveryView,
    study: Option<StudyDescription>,
    engine: &Engine,
) -> ReportContext {
    let unknown = PatientId { value: String::new(), issuer: String::new() };
    let patient = view.patient.as_ref();
    let orders = view.orders.iter().filter(|it| !it.is_cancelled).map(|it| it.order.clone());
    ReportContext {
        run: view.run.id,
        patient: patient.map_or(unknown, |it| it.identifier.clone()),
        demographics: patient.map(|it| it.demographics.clone()).unwrap_or_default(),
        study,
        orders: orders.collect(),
        engine: engine.clone(),
        previous: relevant_before(view).map(previous_delivery),
        taken_out: taken_out(view),
    }
}

/// What the destination has: everything that it acknowledged. For a withdrawal, also what may have
/// arrived without an acknowledgement.
fn relevant_before(view: &DeliveryView) -> Option<&SentBefore> {
    view.before.as_ref().filter(|it| is_withdrawn(view) || !it.outputs.is_empty())
}

fn previous_delivery(sent: &SentBefore) -> PreviousDelivery {
    PreviousDelivery {
        state: sent.state,
        is_of_this_run: sent.is_own,
        objects: sent.outputs.iter().map(sent_object).collect(),
        attempted: sent.tried.iter().map(sent_object).collect(),
    }
}

fn sent_object(output: &Output) -> SentObject {
    SentObject {
        kind: output.kind,
        sop_class: output.sop_class.clone(),
        series: output.series.clone(),
        id: output.id.clone(),
    }
}

/// A study as the header of one of its images describes it.
pub(super) fn study_description(
    study: &StudyInstanceUid,
    header: &Header,
    view: &DeliveryView,
) -> StudyDescription {
    let of_order = view.orders.first().map(|it| it.order.key.accession.clone());
    let accession = Some(view.accession.clone()).filter(|it| !it.is_empty()).or(of_order);
    StudyDescription {
        uid: study.to_string(),
        date: header.ascii(tags::STUDY_DATE).and_then(date_time::date).unwrap_or_default(),
        time: header.ascii(tags::STUDY_TIME).and_then(date_time::time).unwrap_or_default(),
        id: text(header, tags::STUDY_ID),
        description: text(header, tags::STUDY_DESCRIPTION),
        accession: accession.unwrap_or_default(),
    }
}

fn text(header: &Header, tag: Tag) -> String {
    header.text(tag).map(|it| it.text).unwrap_or_default()
}

/// An element of an identity.
struct IdentityElement {
    tag: Tag,
    name: &'static str,
    /// Whether the patient has it from elsewhere.
    is_known: bool,
}

/// Why an identity cannot go out as the images state it: an element of it cannot be decoded, and
/// nobody else has named the patient (DIN-74).
pub(super) fn unreadable_identity(header: &Header, view: &DeliveryView) -> Option<String> {
    let is_named = view.patient.as_ref().is_some_and(|it| !it.demographics.name.is_empty());
    let element = |tag, name, is_known| IdentityElement { tag, name, is_known };
    let unreadable = [
        element(tags::PATIENT_NAME, "Patient's Name", is_named),
        element(tags::PATIENT_ID, "Patient ID", view.patient.is_some()),
        element(tags::ISSUER_OF_PATIENT_ID, "Issuer of Patient ID", view.patient.is_some()),
    ]
    .into_iter()
    .find(|it| !it.is_known && header.text(it.tag).is_some_and(|text| !text.is_lossless))?;
    let IdentityElement { tag, name, .. } = unreadable;
    let set = header.ascii(tags::SPECIFIC_CHARACTER_SET).unwrap_or("none");
    let set: String = set.chars().filter(|it| !it.is_control()).take(64).collect();
    let instance = header.ascii(tags::SOP_INSTANCE_UID).unwrap_or_default();
    Some(format!(
        "{name} {tag} of instance {instance} cannot be decoded, its Specific Character Set \
         (0008,0005) is `{set}`, and no message has named the patient: nothing goes out without it; \
         it can be sent again once a message has"
    ))
}
