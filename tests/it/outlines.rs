//! Segmentation by the model: from a study to a SEG and a report.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use domain::VolumeGeometry;
use imaging::rendering::render;
use imaging::window::Window;
use imaging::{FlatMask, Mask, Picture};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use simulators::phantom::Phantom;
use system_tests::{Hospital, SiteOptions, eventually, model_set, study};

use crate::model::import_tiny;
use system_tests::script::{Script, model_response};

const WORKFLOW: &str = "workflow: outlines
on: { study: { complete: { quiet: 500ms } } }
nodes:
  drawn: { plugin: segmentation, with: { method: network, targets: [liver, lesion] } }
  nothing: { plugin: segmentation, with: { method: network, targets: [spleen] } }
deliver:
  - { to: pacs, what: [seg, sr] }
  - { to: ehr, what: [oru] }
";

/// A grey value above that of any soft tissue of the phantom.
const BRIGHT: u8 = 200;

/// The answer of a model that segments bright pixels: as one mask, or for a lesion as two halves.
/// It finds no spleen.
fn drawing(question: &Value) -> Value {
    let content = &question["messages"][0]["content"];
    let url = content[0]["image_url"]["url"].as_str().unwrap();
    let png = BASE64_STANDARD.decode(url.split_once(";base64,").unwrap().1).unwrap();
    let picture = Picture::decode(&png).unwrap();
    let columns = picture.width as usize;
    let mask = |is_included: &dyn Fn(usize) -> bool| {
        let pixels = picture.rgb.chunks(3).enumerate();
        let is_set = |(at, rgb): (usize, &[u8])| rgb[0] >= BRIGHT && is_included(at % columns);
        let pixels = pixels.map(is_set).collect();
        let mask = FlatMask { height: picture.height, width: picture.width, pixels };
        json!({"size": [picture.height, picture.width], "counts": mask.to_text()})
    };
    let text = content[1]["text"].as_str().unwrap();
    if text.contains("spleen") {
        model_response("I see none.", &[])
    } else if text.contains("lesion") {
        let halves = [mask(&|it| it < columns / 2), mask(&|it| it >= columns / 2)];
        model_response("[SEG] and [SEG].", &halves)
    } else {
        model_response("It is [SEG].", &[mask(&|_| true)])
    }
}

/// The mask of the bright voxels of a phantom, in the order of the patient's axis.
fn bright(phantom: &Phantom) -> Mask {
    // The window has a width of 400 and a center of 40 Hounsfield units.
    let is_bright = |it: i16| (f32::from(it) - 39.5) / 399.0 + 0.5 >= f32::from(BRIGHT) / 255.0;
    let slices = (0..phantom.slices).flat_map(|it| phantom.hounsfield_units(it));
    let size = usize::from(phantom.size);
    Mask {
        shape: [usize::from(phantom.slices), size, size],
        voxels: slices.map(is_bright).collect(),
    }
}

/// PAP-05, PAP-06, PAP-14: the SEG has the masks of the model voxel by voxel, with their volume. Each
/// lesion is a segment of its own.
/// The presence of a target without a mask is unknown, not absent.
#[tokio::test(flavor = "multi_thread")]
async fn pap_05_what_the_network_draws_into_slices_is_the_seg_and_is_measured() {
    let script = Script::open(drawing);
    let model = script.as_model();
    let options = SiteOptions {
        workflows: &[("outlines", WORKFLOW)],
        destinations: &model,
        ..SiteOptions::default()
    };
    let hospital = Hospital::with(options).await;
    // All slices differ, and they are sent from the top down.
    let phantom = Phantom { lean: 7.5, slices: 5, ..study("outlines") };
    let files = phantom.files();
    let reversed: Vec<&[u8]> = files.iter().rev().map(Vec::as_slice).collect();
    hospital.modality().store(&reversed).await.unwrap();
    let runs = hospital.ended_runs(1).await;

    let run = hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    assert_eq!(run["run"]["status"], "completed", "{run}");
    assert_eq!(script.requests().len(), 3 * usize::from(phantom.slices));
    let outlined = &run["outputs"]["drawn"]["segmentations"][0];
    let geometry: VolumeGeometry = serde_json::from_value(outlined["geometry"].clone()).unwrap();
    let expected = bright(&phantom);
    let digest = hex::encode(Sha256::digest(expected.packed()));
    let millilitres = expected.millilitres(&geometry).unwrap();
    assert!(expected.count() > 1000);
    let segments = outlined["segments"].as_array().unwrap();
    let labels: Vec<&str> = segments.iter().map(|it| it["label"].as_str().unwrap()).collect();
    // Both bones at the sides, and the one in the middle, which was drawn as two masks.
    assert_eq!(labels, ["liver", "lesion 1", "lesion 2", "lesion 3", "lesion 4"]);
    let liver = &segments[0];
    assert!(liver["mask"].to_string().contains(&digest), "{} {digest}", liver["mask"]);
    let measured = |it: &Value| it["measurements"][0]["value"].as_f64().unwrap();
    let of_lesions: f64 = segments.iter().skip(1).map(measured).sum();
    for volume in [measured(liver), of_lesions] {
        assert!((volume - millilitres).abs() < 1e-9 * millilitres, "{volume} {millilitres}");
    }
    for index in 0..segments.len() {
        let finding = &run["outputs"]["drawn"]["findings"][index];
        assert_eq!(finding["presence"], "possible");
    }
    let parameters = &outlined["algorithm"]["parameters"];
    assert_eq!(
        (&parameters["model"], &parameters["warning"]),
        (&json!("scripted"), &json!("not for clinical use"))
    );
    assert_eq!(run["outputs"]["nothing"]["findings"][0]["presence"], "unknown");
    let classes: Vec<String> =
        hospital.pacs.received().iter().map(|it| it.sop_class.clone()).collect();
    assert_eq!(classes, ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"]);
    let [oru] = hospital.ehr.received().try_into().unwrap();
    for expected in ["spleen not segmented: the network drew nothing", "not for clinical use"] {
        assert!(oru.contains(expected), "{expected}: {oru}");
    }
}

/// The phantom as MR, with a window in the file of every slice but the third.
fn as_mr(phantom: &Phantom) -> Vec<Vec<u8>> {
    phantom.files_with(|slice, set| {
        let mut text = |tag, vr, value: &str| {
            set.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
        };
        text(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.4");
        text(tags::MODALITY, VR::CS, "MR");
        if slice != 2 {
            text(tags::WINDOW_CENTER, VR::DS, &(100 * slice).to_string());
            text(tags::WINDOW_WIDTH, VR::DS, "700");
        }
        set.remove_element(tags::RESCALE_TYPE);
    })
}

/// DIN-80: a slice of MR is shown as its file states; without a window, from the darkest to the
/// brightest hundredth of the volume.
#[tokio::test(flavor = "multi_thread")]
async fn din_80_a_slice_of_mr_is_shown_in_the_window_of_its_file() {
    let script = Script::open(|_| model_response("I see none.", &[]));
    let model = script.as_model();
    let workflow = "workflow: mr\non: { study: { complete: { quiet: 500ms } } }\nnodes:\n  \
                    drawn: { plugin: segmentation, with: { method: network, targets: [liver] } }\n";
    let options = SiteOptions {
        workflows: &[("mr", workflow)],
        destinations: &model,
        ..SiteOptions::default()
    };
    let hospital = Hospital::with(options).await;
    let phantom = Phantom { lean: 7.5, slices: 4, ..study("mr") };
    let files = as_mr(&phantom);
    let sent: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    hospital.modality().store(&sent).await.unwrap();
    let runs = hospital.ended_runs(1).await;
    assert_eq!(runs[0]["status"], "completed", "{runs:?}");

    let requests = script.requests();
    assert_eq!(requests.len(), files.len());
    let slices = (0..phantom.slices).flat_map(|it| phantom.hounsfield_units(it)).map(f32::from);
    let over_volume = Window::over(&slices.collect::<Vec<f32>>());
    for (index, request) in requests.iter().enumerate() {
        let url = request["messages"][0]["content"][0]["image_url"]["url"].as_str().unwrap();
        let png = BASE64_STANDARD.decode(url.split_once(";base64,").unwrap().1).unwrap();
        let shown = Picture::decode(&png).unwrap().rgb;
        let expected = if index == 2 {
            let values = phantom.hounsfield_units(2).into_iter().map(f32::from);
            values.flat_map(|it| [over_volume.gray(it); 3]).collect()
        } else {
            render(&files[index]).unwrap().rgb
        };
        assert!(shown == expected, "slice {index}");
    }
}

/// The masks of the model are compared with Hounsfield units. The finding reports a difference that
/// is larger than the workflow tolerates.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_network_draws_is_held_against_hounsfield_units() {
    let node = |agree: &str| {
        format!(
            "{{ plugin: segmentation, with: {{ method: network, targets: [body, liver], agree: {agree} }} }}"
        )
    };
    let strict = node("0.99");
    let lenient = node("0.01");
    let workflow = format!(
        "workflow: beside\non: {{ study: {{ complete: {{ quiet: 500ms }} }} }}\nnodes:\n  strict: {strict}\n  lenient: {lenient}\n"
    );
    let script = Script::open(drawing);
    let model = script.as_model();
    let options = SiteOptions {
        workflows: &[("beside", &workflow)],
        destinations: &model,
        ..SiteOptions::default()
    };
    let hospital = Hospital::with(options).await;
    hospital.send(&study("beside")).await;
    let runs = hospital.ended_runs(1).await;
    let run = hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);

    let finding = |node: &str, index: usize| {
        run["outputs"][node]["findings"][index]["text"].as_str().unwrap().to_owned()
    };
    assert!(finding("strict", 0).contains("outline body differently: Dice 0."), "{run}");
    // A liver cannot be segmented by Hounsfield units, so there is no comparison.
    for text in [finding("strict", 1), finding("lenient", 0), finding("lenient", 1)] {
        assert!(!text.contains("differently"), "{text}");
    }
    for node in ["strict", "lenient"] {
        let all = &run["outputs"][node]["segmentations"][0]["algorithm"]["parameters"];
        assert!(all["body agreement"].as_str().unwrap().starts_with("Dice 0."), "{all}");
        assert!(all["liver agreement"].is_null(), "{all}");
    }
}

/// With the real model: an answer that ends at the token limit is rejected, and nothing is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answer_of_the_network_is_no_outline() {
    let cut = WORKFLOW.replace("targets: [liver, lesion]", "targets: [liver], tokens_max: 1");
    let options =
        SiteOptions { workflows: &[("outlines", cut.as_str())], ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    import_tiny(&hospital.scratch, &model_set());
    let site = std::fs::read_to_string(hospital.scratch.path("isocenter.yaml")).unwrap();
    hospital.scratch.write("isocenter.yaml", &(site + "\nmodel: { name: tiny }\n"));
    eventually("the model at work", async || {
        let events = hospital.ask(&["audit", "show", "--limit", "100"]);
        events.as_array().unwrap().iter().any(|it| it["kind"] == "model_exchanged").then_some(())
    })
    .await;
    hospital.send(&study("cut")).await;
    let runs = hospital.ended_runs(1).await;
    let run = hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    let drawn = run["nodes"].as_array().unwrap().iter().find(|it| it["node"] == "drawn");
    let reason = drawn.map(|it| it["reason"].to_string()).unwrap_or_default();
    assert!(reason.contains("answer_truncated") && reason.contains("after 1 tokens"), "{run}");
    assert!(run["outputs"]["drawn"].is_null() && hospital.pacs.received().is_empty(), "{run}");
}
