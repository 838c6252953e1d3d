//! Storage commitment as SCP and as SCU (DIN-30..34).

use std::time::Duration;

use contracts::{FailedReference, FailureReason, SopReference};
use serde_json::Value;
use simulators::phantom::Phantom;
use system_tests::{Hospital, SiteOptions, eventually, remote};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

fn phantom() -> Phantom {
    Phantom { slices: 4, ..Phantom::default() }
}

/// Sends a study as the modality. Returns the references to its instances.
async fn store(hospital: &Hospital, phantom: &Phantom) -> Vec<SopReference> {
    let files = phantom.files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    hospital.modality().store(&files).await.unwrap();
    let instances = (0..phantom.slices).map(|it| phantom.instance_uid(it));
    instances.map(|sop_instance| SopReference { sop_class: CT.to_owned(), sop_instance }).collect()
}

/// Longest wait for a commitment result on the association of the request.
const RESULT_TIME_MAX: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn din_31_what_was_stored_is_committed_and_what_was_not_is_named_with_its_reason() {
    let hospital = Hospital::open().await;
    let stored = store(&hospital, &phantom()).await;

    let all =
        hospital.modality().commit("2.25.1", &stored, RESULT_TIME_MAX).await.unwrap().unwrap();
    assert_eq!(
        (all.transaction.as_str(), all.committed, all.failed),
        ("2.25.1", stored.clone(), vec![])
    );

    // DIN-33: a file whose content has changed is not committed.
    let damaged = &stored[1];
    let path = archived(&hospital, &damaged.sop_instance);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let never = SopReference { sop_class: CT.to_owned(), sop_instance: "1.2.3".to_owned() };
    let other =
        SopReference { sop_class: "1.2.840.10008.5.1.4.1.1.4".to_owned(), ..stored[2].clone() };
    let requested = [stored[0].clone(), damaged.clone(), never.clone(), other.clone()];
    let partial =
        hospital.modality().commit("2.25.2", &requested, RESULT_TIME_MAX).await.unwrap().unwrap();

    assert_eq!(partial.committed, [stored[0].clone()]);
    let expected = [
        failed(damaged, FailureReason::PROCESSING_FAILURE),
        failed(&never, FailureReason::NO_SUCH_OBJECT),
        failed(&other, FailureReason::CLASS_INSTANCE_CONFLICT),
    ];
    assert_eq!(partial.failed, expected);

    // A repeated request has the same result. Another request with its transaction UID fails.
    let repeated =
        hospital.modality().commit("2.25.1", &stored, RESULT_TIME_MAX).await.unwrap().unwrap();
    assert_eq!(repeated.committed, stored);
    let reused =
        hospital.modality().commit("2.25.1", &requested, RESULT_TIME_MAX).await.unwrap().unwrap();
    let reasons: Vec<FailureReason> = reused.failed.iter().map(|it| it.reason).collect();
    assert_eq!(reasons, [FailureReason::DUPLICATE_TRANSACTION; 4]);
}

fn failed(reference: &SopReference, reason: FailureReason) -> FailedReference {
    FailedReference { reference: reference.clone(), reason }
}

/// The path of an instance in the archive.
fn archived(hospital: &Hospital, instance: &str) -> std::path::PathBuf {
    let events = hospital.ask(&["audit", "show", "--limit", "500"]);
    let mut events = events.as_array().unwrap().iter();
    let event = events.find(|it| it["body"]["subject"]["instance"] == instance).unwrap();
    let sha256 = event["body"]["detail"]["sha256"].as_str().unwrap();
    let folder = hospital.scratch.path("data/archive/instances").join(sha256.get(..2).unwrap());
    folder.join(format!("{sha256}.dcm"))
}

#[tokio::test(flavor = "multi_thread")]
async fn din_32_a_peer_that_has_left_is_called_back() {
    let hospital = Hospital::open().await;
    let stored = store(&hospital, &phantom()).await;

    // The engine has an address of the PACS only. The PACS requests and releases at once.
    let pacs = remote(&hospital.engine.dicom, "PACS");
    let immediate = pacs.commit("2.25.7", &stored, Duration::ZERO).await.unwrap();
    assert_eq!(immediate, None);

    let results = eventually("the call back", async || {
        Some(hospital.pacs.answers()).filter(|it| !it.is_empty())
    })
    .await;
    assert_eq!((results.len(), &results[0].committed), (1, &stored));
    eventually("the report to be in the trail", async || {
        let events = hospital.ask(&["audit", "show"]);
        events.as_array()?.iter().any(|it| it["kind"] == "commitment_reported").then_some(())
    })
    .await;
}

/// The delivery to the PACS, once it has this state.
async fn to_pacs(hospital: &Hospital, state: &str) -> Value {
    eventually(&format!("the delivery to be {state}"), async || {
        let all = hospital.ask(&["delivery", "list"]);
        let mut all = all.as_array()?.iter();
        all.find(|it| it["destination"] == "pacs" && it["state"] == state).cloned()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn din_34_a_result_has_arrived_only_once_the_pacs_has_committed_it() {
    let hospital = Hospital::with(SiteOptions { commitment: true, ..SiteOptions::default() }).await;
    store(&hospital, &phantom()).await;

    to_pacs(&hospital, "awaiting_commitment").await;
    let sent = hospital.pacs.received();
    assert_eq!(sent.len(), 2);

    // The PACS has lost an object: the report is sent again with the same UIDs.
    let lost = Some(sent[0].sop_instance.as_str());
    assert_eq!(hospital.pacs.commit(&hospital.engine.dicom, lost).await.unwrap(), 1);
    let queued = to_pacs(&hospital, "queued").await;
    assert!(queued["reason"].as_str().unwrap().contains("0x0112"), "{queued}");
    let id = queued["id"].as_str().unwrap().to_owned();
    assert!(hospital.command(&["delivery", "resend", &id]).status.success());
    to_pacs(&hospital, "awaiting_commitment").await;
    assert_eq!(hospital.pacs.received()[2].sop_instance, sent[0].sop_instance);

    assert_eq!(hospital.pacs.commit(&hospital.engine.dicom, None).await.unwrap(), 1);
    to_pacs(&hospital, "delivered").await;

    // A request with an invalid transaction UID is refused.
    let modality = remote(&hospital.engine.dicom, "CT1");
    let reference = SopReference { sop_class: CT.to_owned(), sop_instance: "1.2.3".to_owned() };
    assert!(modality.commit("not a uid \\", &[reference], RESULT_TIME_MAX).await.is_err());
}
