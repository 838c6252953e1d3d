//! What an event or task about a study or message is about.

use contracts::{MessageSnapshot, StudySnapshot};
use domain::Subject;

pub(super) fn message_subject(message: &MessageSnapshot) -> Subject {
    Subject { patient: message.patient, message: Some(message.id), ..Subject::default() }
}

pub(super) fn study_subject(study: &StudySnapshot) -> Subject {
    Subject {
        patient: study.patient,
        study: Some(study.study.to_string()),
        accession: Some(study.accession.clone()).filter(|it| !it.is_empty()),
        ..Subject::default()
    }
}
