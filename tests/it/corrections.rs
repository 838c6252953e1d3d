//! Corrections from other systems, matched with the drafts that they correct (OUT-81).

use std::process::Command;

use serde_json::Value;
use simulators::order_message;
use simulators::phantom::Phantom;
use system_tests::{Hospital, SiteOptions, eventually, python};

const WORKFLOW: &str = "
workflow: drafted
on: { study: { complete: { quiet: 200ms } } }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } } }
deliver: [{ to: pacs, what: [seg, sr] }]
";

/// A hospital with an order, its study, and a delivered draft.
async fn drafted() -> Hospital {
    let workflows = [("drafted", WORKFLOW)];
    let hospital =
        Hospital::with(SiteOptions { workflows: &workflows, ..SiteOptions::default() }).await;
    let phantom = Phantom { slices: 3, ..Phantom::default() };
    assert_eq!(hospital.send_message(&order_message(&phantom, "O1")).await, "AA");
    hospital.send(&phantom).await;
    hospital.ended_runs(1).await;
    hospital
}

async fn corrections(hospital: &Hospital, count: usize) -> Vec<Value> {
    eventually("the correction", async || {
        let all = hospital.ask(&["corrections"]).as_array().cloned()?;
        (all.len() >= count).then_some(all)
    })
    .await
}

/// A final report of the RIS is stored as a correction of the draft. A preliminary report, one of
/// another order and one of another patient are not.
#[tokio::test(flavor = "multi_thread")]
async fn out_81_a_final_report_of_the_ris_is_matched_by_its_accession_number() {
    let hospital = drafted().await;
    let message = |id: &str, accession: &str, status: &str| {
        format!(
            "MSH|^~\\&|RIS|HOSP|ISOCENTER|AI|20260102||ORU^R01|{id}|P|2.5.1\r\
             PID|1||DEMO-1^^^^MR||PHANTOM^ONE\r\
             OBR|1|P-{accession}|F-{accession}|24627-2^CT Chest^LN||||||||||||||{accession}\r\
             OBX|1|TX|59776-5^Findings^LN||Findings: Bone as drafted.\\.br\\Impression: Normal.||||||{status}\r"
        )
    };
    let known = Phantom::default();
    let accession = known.accession.as_str();
    let patient = known.patient_id.as_str();
    let of_patient = |id: &str, accession: &str, status: &str| {
        message(id, accession, status).replace("DEMO-1^^^^MR", &format!("{patient}^^^^MR"))
    };
    assert_eq!(hospital.send_message(&of_patient("R1", accession, "P")).await, "AA");
    assert_eq!(hospital.send_message(&of_patient("R2", "ANOTHER", "F")).await, "AA");
    let stranger = message("R3", accession, "F").replace("DEMO-1^^^^MR", "STRANGER^^^^MR");
    assert_eq!(hospital.send_message(&stranger).await, "AA");
    assert_eq!(hospital.send_message(&of_patient("R4", accession, "F")).await, "AA");
    let all = corrections(&hospital, 1).await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["source"], "oru");
    let sections = all[0]["difference"]["sections"].to_string();
    assert!(sections.contains("Normal."), "{sections}");
}

/// A SEG with the same Tracking UID and other pixels is a correction. The unchanged SEG of the
/// engine is not.
#[tokio::test(flavor = "multi_thread")]
async fn out_81_a_seg_that_comes_back_is_matched_by_what_it_tracks() {
    let python = python();
    let hospital = drafted().await;
    let received = hospital.pacs.received();
    let seg = received.iter().find(|it| it.sop_class.ends_with(".66.4")).unwrap();
    let unchanged = std::fs::read(&seg.path).unwrap();
    hospital.modality().store(&[&unchanged]).await.unwrap();
    let changed = hospital.scratch.path("changed.dcm");
    let script = "import sys, pydicom, numpy
data = pydicom.dcmread(sys.argv[1])
bits = numpy.frombuffer(data.PixelData, numpy.uint8).copy()
bits[: len(bits) // 2] = 0
data.PixelData = bits.tobytes()
data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
data.SeriesInstanceUID = pydicom.uid.generate_uid()
data.save_as(sys.argv[2])";
    let status = Command::new(python).args(["-c", script]).arg(&seg.path).arg(&changed).status();
    assert!(status.unwrap().success());
    let changed = std::fs::read(&changed).unwrap();
    hospital.modality().store(&[&changed]).await.unwrap();
    let all = corrections(&hospital, 1).await;
    assert_eq!((all.len(), all[0]["source"].as_str()), (1, Some("seg")), "{all:?}");
    let segment = &all[0]["difference"]["segments"][0];
    let dice = segment["dice"].as_f64().unwrap();
    assert!(dice > 0.0 && dice < 1.0, "{segment}");
}
