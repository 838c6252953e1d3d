//! Outlines by the network: from a study to a SEG and a report, with a model of random weights.

use imaging::{FlatMask, Picture};
use neighbours::phantom::Phantom;
use serde_json::Value;
use system_tests::{Habits, Hospital, eventually, model_set, study};

use crate::model::{import_tiny, model};

/// The model reads `[SEG]` in the question, too: with one there is a mask, without there is none in so short
/// an answer.
const WORKFLOW: &str = "workflow: outlines
on: { study: { complete: { quiet: 200ms } } }
nodes:
  drawn:
    plugin: segmentation
    with:
      method: network
      targets: [liver, lesion]
      prompt: 'Outline the {target}: [SEG]'
      tokens_max: 1
  nothing:
    plugin: segmentation
    with: { method: network, targets: [spleen], prompt: 'Where is the {target}?', tokens_max: 1 }
deliver:
  - { to: pacs, what: [seg, sr] }
  - { to: ehr, what: [oru] }
";

/// What the model draws for a slice, asked on the command line: how many pixels.
fn drawn(hospital: &Hospital, phantom: &Phantom, target: &str) -> u64 {
    // Soft tissue: 400 Hounsfield units about 40, from black to white.
    let gray = |it: i16| {
        let share = (f32::from(it) - 39.5) / 399.0 + 0.5;
        (0..=255_u8).rev().find(|it| f32::from(*it) <= (share * 255.0).round()).unwrap_or(0)
    };
    let rgb = phantom.hounsfield_units().into_iter().flat_map(|it| [gray(it); 3]).collect();
    let side = u32::from(phantom.size);
    let slice = hospital.scratch.path("slice.png");
    std::fs::write(&slice, Picture::new(side, side, rgb).unwrap().to_png().unwrap()).unwrap();
    let prompt = format!("Outline the {target}: [SEG]");
    let image = slice.display().to_string();
    let arguments = ["run", "tiny", "--prompt", &prompt, "--image", &image, "--max-tokens", "1"];
    let output = model(&hospital.scratch, &[&arguments[..], &["--json"]].concat());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let counts = answer["masks"][0]["counts"].as_str().unwrap();
    let mask = FlatMask::parse(side, side, counts).unwrap();
    mask.pixels.iter().filter(|it| **it).count() as u64
}

/// PAP-05, PAP-06, PAP-14: what the model draws into the slices is the SEG, measured in mL; where it draws
/// nothing, nobody is told that there is none.
#[tokio::test(flavor = "multi_thread")]
async fn pap_05_what_the_network_draws_into_slices_is_the_seg_and_is_measured() {
    let habits = Habits { workflows: &[("outlines", WORKFLOW)], ..Habits::default() };
    let hospital = Hospital::with(habits).await;
    import_tiny(&hospital.scratch, &model_set());
    let site = std::fs::read_to_string(hospital.scratch.path("isocenter.yaml")).unwrap();
    hospital.scratch.write("isocenter.yaml", &(site + "\nmodel: { name: tiny }\n"));
    eventually("the model at work", async || {
        let events = hospital.ask(&["audit", "show", "--limit", "100"]);
        events.as_array().unwrap().iter().any(|it| it["kind"] == "model_exchanged").then_some(())
    })
    .await;
    let phantom = study("outlines");

    hospital.send(&phantom).await;
    let runs = hospital.ended_runs(1).await;

    let run = hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    assert_eq!(run["run"]["status"], "completed", "{run}");
    let outlined = &run["outputs"]["drawn"]["segmentations"][0];
    let parameters = &outlined["algorithm"]["parameters"];
    assert_eq!(parameters["model"], "tiny");
    assert_eq!(parameters["model_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(parameters["warning"], "not for clinical use");
    for (index, target) in ["liver", "lesion"].into_iter().enumerate() {
        let segment = &outlined["segments"][index];
        let expected = drawn(&hospital, &phantom, target) * u64::from(phantom.slices);
        assert!(expected > 0);
        assert_eq!((&segment["label"], &segment["voxels"]), (&target.into(), &expected.into()));
        let millilitres = expected as f64 * phantom.pixel * phantom.pixel * phantom.spacing / 1e3;
        let measured = segment["measurements"][0]["value"].as_f64().unwrap();
        assert!((measured - millilitres).abs() < 1e-9 * millilitres, "{measured} {millilitres}");
    }
    let unknown = &run["outputs"]["nothing"]["findings"][0];
    assert_eq!(unknown["presence"], "unknown");
    assert!(run["outputs"]["nothing"]["segmentations"].is_null());
    let classes: Vec<String> =
        hospital.pacs.received().iter().map(|it| it.sop_class.clone()).collect();
    assert_eq!(classes, ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"]);
    let [oru] = hospital.ehr.received().try_into().unwrap();
    assert!(oru.contains("spleen not segmented: the network drew nothing"), "{oru}");
}
