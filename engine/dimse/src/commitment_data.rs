//! Reads and writes the data sets of storage commitment (PS3.3, C.14; PS3.4, J.3).
//!
//! Both sides use them: as provider the engine reads requests and writes results, as user it writes
//! requests and reads results.

use std::io::Cursor;

use contracts::{
    CommitmentAnswer, CommitmentEvent, CommitmentResult, FailedReference, FailureReason,
    SopReference,
};
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR, dicom_value};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::{TransferSyntaxIndex as _, TransferSyntaxRegistry};
use encoding::dicom::header::{Encoding, read_encoded};

/// Longest data set that is read: some hundred thousand references.
pub(crate) const BYTES_MAX: usize = 32 << 20;

/// Event Type ID of a result in which every instance is committed (PS3.4, J.3.3.1).
const ALL_COMMITTED: u16 = 1;

/// Event Type ID of a result in which at least one instance is not committed.
const FAILURES_EXIST: u16 = 2;

/// Action Type ID of a request (PS3.4, J.3.2.1).
pub(crate) const REQUEST: u16 = 1;

/// Why a data set is not a valid one of storage commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DataSetError {
    #[error("the data set cannot be read")]
    Unreadable,
    #[error("no valid Transaction UID (0008,1195)")]
    NoTransaction,
    #[error("a reference without SOP class or instance")]
    BadReference,
    #[error("the event type is neither 1 nor 2")]
    NoSuchEvent,
}

/// The content of a request for storage commitment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestData {
    /// Transaction UID (0008,1195).
    pub(crate) transaction: String,
    /// Referenced SOP Sequence (0008,1199).
    pub(crate) references: Vec<SopReference>,
}

/// The content of an N-EVENT-REPORT with a result.
pub(crate) struct ResultData {
    /// Event Type ID: [`ALL_COMMITTED`] or [`FAILURES_EXIST`].
    pub(crate) event_type: u16,
    /// The encoded data set.
    pub(crate) data_set: Vec<u8>,
}

/// Reads the data set of a request.
pub(crate) fn read_request(
    bytes: &[u8],
    transfer_syntax: &str,
) -> Result<RequestData, DataSetError> {
    let set = object(bytes, transfer_syntax)?;
    let references = items(&set, tags::REFERENCED_SOP_SEQUENCE).map(reference);
    Ok(RequestData {
        transaction: transaction(&set)?,
        references: references.collect::<Result<_, _>>()?,
    })
}

/// Reads an N-EVENT-REPORT with a result: its Event Type ID and its data set.
pub(crate) fn read_answer(
    event_type: Option<u16>,
    bytes: &[u8],
    transfer_syntax: &str,
) -> Result<CommitmentAnswer, DataSetError> {
    let event = match event_type {
        Some(ALL_COMMITTED) => CommitmentEvent::AllCommitted,
        Some(FAILURES_EXIST) => CommitmentEvent::FailuresExist,
        _ => return Err(DataSetError::NoSuchEvent),
    };
    let set = object(bytes, transfer_syntax)?;
    let committed = items(&set, tags::REFERENCED_SOP_SEQUENCE).map(reference);
    let failed = items(&set, tags::FAILED_SOP_SEQUENCE).map(failed_reference);
    let result = CommitmentResult {
        transaction: transaction(&set)?,
        committed: committed.collect::<Result<_, _>>()?,
        failed: failed.collect::<Result<_, _>>()?,
    };
    Ok(CommitmentAnswer { event, result })
}

/// Encodes the data set of a request.
pub(crate) fn write_request(
    transaction: &str,
    references: &[SopReference],
    transfer_syntax: &str,
) -> Vec<u8> {
    let mut set = with_transaction(transaction);
    put_items(&mut set, tags::REFERENCED_SOP_SEQUENCE, references.iter().map(item).collect());
    encoded(&set, transfer_syntax)
}

/// Encodes the data set of a result.
pub(crate) fn write_result(result: &CommitmentResult, transfer_syntax: &str) -> ResultData {
    let mut set = with_transaction(&result.transaction);
    if !result.committed.is_empty() {
        let committed = result.committed.iter().map(item).collect();
        put_items(&mut set, tags::REFERENCED_SOP_SEQUENCE, committed);
    }
    if result.failed.is_empty() {
        let data_set = encoded(&set, transfer_syntax);
        return ResultData { event_type: ALL_COMMITTED, data_set };
    }
    let failed = result.failed.iter().map(failed_item).collect();
    put_items(&mut set, tags::FAILED_SOP_SEQUENCE, failed);
    ResultData { event_type: FAILURES_EXIST, data_set: encoded(&set, transfer_syntax) }
}

/// Reads a data set, after our own reader has checked that no element claims a false length.
fn object(bytes: &[u8], transfer_syntax: &str) -> Result<InMemDicomObject, DataSetError> {
    let unreadable = |_| DataSetError::Unreadable;
    let encoding = Encoding::of(transfer_syntax);
    read_encoded(Cursor::new(bytes), bytes.len() as u64, encoding).map_err(unreadable)?;
    let syntax = TransferSyntaxRegistry.get(transfer_syntax).ok_or(DataSetError::Unreadable)?;
    InMemDicomObject::read_dataset_with_ts(bytes, syntax).map_err(|_| DataSetError::Unreadable)
}

fn transaction(set: &InMemDicomObject) -> Result<String, DataSetError> {
    let uid = text(set, tags::TRANSACTION_UID).ok_or(DataSetError::NoTransaction)?;
    if domain::is_harmless_uid(&uid) { Ok(uid) } else { Err(DataSetError::NoTransaction) }
}

fn text(set: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = set.get(tag)?.to_str().ok()?;
    Some(text.trim_end_matches(['\0', ' ']).to_owned()).filter(|it| !it.is_empty())
}

fn items(set: &InMemDicomObject, tag: Tag) -> impl Iterator<Item = &InMemDicomObject> {
    set.get(tag).and_then(|it| it.items()).unwrap_or_default().iter()
}

fn reference(item: &InMemDicomObject) -> Result<SopReference, DataSetError> {
    let uid = |tag| text(item, tag).filter(|it| domain::is_harmless_uid(it));
    let sop_class = uid(tags::REFERENCED_SOP_CLASS_UID).ok_or(DataSetError::BadReference)?;
    let sop_instance = uid(tags::REFERENCED_SOP_INSTANCE_UID).ok_or(DataSetError::BadReference)?;
    Ok(SopReference { sop_class, sop_instance })
}

fn failed_reference(item: &InMemDicomObject) -> Result<FailedReference, DataSetError> {
    let reason = item.get(tags::FAILURE_REASON).and_then(|it| it.to_int::<u16>().ok());
    let reason = reason.map_or(FailureReason::PROCESSING_FAILURE, FailureReason);
    Ok(FailedReference { reference: reference(item)?, reason })
}

fn with_transaction(uid: &str) -> InMemDicomObject {
    let mut set = InMemDicomObject::new_empty();
    set.put(DataElement::new(tags::TRANSACTION_UID, VR::UI, PrimitiveValue::from(uid)));
    set
}

fn item(reference: &SopReference) -> InMemDicomObject {
    let mut set = InMemDicomObject::new_empty();
    for (tag, uid) in [
        (tags::REFERENCED_SOP_CLASS_UID, &reference.sop_class),
        (tags::REFERENCED_SOP_INSTANCE_UID, &reference.sop_instance),
    ] {
        set.put(DataElement::new(tag, VR::UI, PrimitiveValue::from(uid.as_str())));
    }
    set
}

fn failed_item(failed: &FailedReference) -> InMemDicomObject {
    let mut item = item(&failed.reference);
    let reason = dicom_value!(U16, [failed.reason.0]);
    item.put(DataElement::new(tags::FAILURE_REASON, VR::US, reason));
    item
}

fn put_items(set: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    set.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

fn encoded(set: &InMemDicomObject, transfer_syntax: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(syntax) = TransferSyntaxRegistry.get(transfer_syntax) {
        // Writing to memory what was just built does not fail; a short data set would be noticed.
        _ = set.write_dataset_with_ts(&mut bytes, syntax);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer_syntax::{EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN};

    fn reference(number: u32) -> SopReference {
        let sop_class = "1.2.840.10008.5.1.4.1.1.2".to_owned();
        SopReference { sop_class, sop_instance: format!("1.2.3.{number}") }
    }

    #[test]
    fn din_31_an_answer_holds_every_reference_in_one_of_two_lists() {
        for syntax in [EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN] {
            let reason = FailureReason::NO_SUCH_OBJECT;
            let failed = vec![FailedReference { reference: reference(2), reason }];
            for (failed, event) in [
                (Vec::new(), CommitmentEvent::AllCommitted),
                (failed, CommitmentEvent::FailuresExist),
            ] {
                let committed = vec![reference(1)];
                let result =
                    CommitmentResult { transaction: "1.2.9".to_owned(), committed, failed };
                let written = write_result(&result, syntax);
                let read = read_answer(Some(written.event_type), &written.data_set, syntax);
                assert_eq!(read, Ok(CommitmentAnswer { event, result }));
            }
        }
    }

    #[test]
    fn din_34_an_event_type_that_the_standard_does_not_know_answers_nothing() {
        for event_type in [None, Some(0), Some(3)] {
            let read = read_answer(event_type, &[], EXPLICIT_LITTLE_ENDIAN);
            assert_eq!(read, Err(DataSetError::NoSuchEvent));
        }
    }

    #[test]
    fn din_30_a_request_without_a_transaction_is_none() {
        let bytes = write_request("", &[reference(1)], EXPLICIT_LITTLE_ENDIAN);
        let read = read_request(&bytes, EXPLICIT_LITTLE_ENDIAN);
        assert_eq!(read, Err(DataSetError::NoTransaction));
        let bytes = write_request("1.2.9", &[reference(1)], IMPLICIT_LITTLE_ENDIAN);
        let read = read_request(&bytes, IMPLICIT_LITTLE_ENDIAN);
        let references = vec![reference(1)];
        assert_eq!(read, Ok(RequestData { transaction: "1.2.9".to_owned(), references }));
    }

    #[test]
    fn sec_21_a_length_that_lies_is_refused_before_it_is_believed() {
        let bomb = b"\x08\x00\x95\x11UI\xfe\xff1.2";
        let read = read_request(bomb, EXPLICIT_LITTLE_ENDIAN);
        assert_eq!(read, Err(DataSetError::Unreadable));
    }
}
