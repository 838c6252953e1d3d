//! Reports drafted by a model whose answers the test decides.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use imaging::Picture;
use imaging::rendering::{Views, render, show};
use imaging::window::NamedWindow;
use serde_json::Value;
use system_tests::api::{call, token};
use system_tests::{Hospital, Scratch, SiteOptions, eventually, study};

use system_tests::script::{Script, model_response};

/// A model that returns these answers in order, and repeats the last one.
fn model_with_answers(answers: &[&str]) -> Script {
    let mut answers: Vec<String> = answers.iter().rev().map(|it| (*it).to_owned()).collect();
    Script::open(move |_| {
        let next = if answers.len() > 1 { answers.pop() } else { answers.first().cloned() };
        model_response(&next.unwrap(), &[])
    })
}

/// A hospital with this model and a workflow of one node, `draft`.
async fn hospital(script: &Script, settings: &str) -> Hospital {
    let workflow = format!(
        "workflow: drafts\non: {{ study: {{ complete: {{ quiet: 200ms }} }} }}\n\
         nodes: {{ draft: {{ plugin: cot-reporting, with: {{ modalities: [CT], {settings} }} }} }}\n\
         deliver: [{{ to: ehr, what: [oru] }}]\n"
    );
    let model = script.as_model();
    let workflows = [("drafts", workflow.as_str())];
    Hospital::with(SiteOptions {
        workflows: &workflows,
        destinations: &model,
        ..SiteOptions::default()
    })
    .await
}

/// Sends a study. Returns its run and what the EHR has received.
async fn drafted(hospital: &Hospital) -> (Value, Vec<String>) {
    hospital.send(&study("drafts")).await;
    let runs = hospital.ended_runs(1).await;
    (hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]), hospital.ehr.received())
}

/// PAP-02, OUT-41: the answer becomes findings and impression; the thoughts are not sent.
#[tokio::test(flavor = "multi_thread")]
async fn pap_02_a_report_is_drafted_without_the_thoughts_behind_it() {
    let script = model_with_answers(&["<think>The rib looks odd, perhaps a secret.</think>\
         <answer>Findings: Lungs are clear.\nImpression: Normal chest.</answer>"]);
    let hospital = hospital(&script, "task: report").await;
    let (run, received) = drafted(&hospital).await;
    assert_eq!(run["run"]["status"], "completed", "{run}");
    let [oru] = received.try_into().unwrap();
    for expected in ["Lungs are clear.", "Normal chest.", "model scripted", "not for clinical use"]
    {
        assert!(oru.contains(expected), "{expected}: {oru}");
    }
    assert!(oru.contains("not verified by a physician") && !oru.contains("secret"), "{oru}");
    let draft = &run["outputs"]["draft"];
    assert!(!draft["sections"].to_string().contains("secret"), "{draft}");
    let step = &draft["reasoning"][0]["steps"][0];
    assert_eq!(step["text"], "The rib looks odd, perhaps a secret.", "{draft}");
    let request = script.requests()[0].clone();
    let content = &request["messages"][0]["content"];
    assert!(content[0]["image_url"]["url"].as_str().unwrap().starts_with("data:image/png;base64,"));
    assert!(content[1]["text"].as_str().unwrap().contains("step by step"), "{content}");
}

const REVIEWED: &str = "workflow: drafts
on: { study: { complete: { quiet: 200ms } } }
nodes:
  draft: { plugin: cot-reporting, with: { modalities: [CT], task: report } }
  sign: { review: radiologist, after: [draft] }
deliver:
  - { to: asked, what: [narrative, pdf, json, oru, fhir], reasoning: true, after: [draft] }
  - { to: unasked, what: [narrative, pdf, json, oru, fhir], after: [draft] }
";

/// OUT-41: review shows the steps with their boxes, and only the delivery that asks for them has
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn out_41_the_steps_are_shown_in_review_and_sent_where_they_are_asked_for() {
    let script = model_with_answers(&[
        "<think>Ribs are intact.\n'left_lung' with bbox [14, 28, 140, 280] is clear.</think>\
         <answer>Findings: Lungs are clear.\nImpression: Normal chest.</answer>",
    ]);
    let folder = Scratch::default();
    let [asked, unasked] = ["asked", "unasked"].map(|it| folder.path(it));
    let more = format!(
        "  asked: {{ folder: {}, allow_unverified: true }}\n  \
         unasked: {{ folder: {}, allow_unverified: true }}\n{}",
        asked.display(),
        unasked.display(),
        script.as_model()
    );
    let workflows = [("drafts", REVIEWED)];
    let options =
        SiteOptions { workflows: &workflows, destinations: &more, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    hospital.send(&study("steps")).await;
    let token = token(&hospital, "radiologist", "Doe^Jane^^Dr");
    let get = |path: &str| call(&hospital.engine.http, Some(&token), ("GET", path), None).1;
    let run =
        eventually("the draft", async || get("/api/reviews")[0]["run"].as_str().map(str::to_owned))
            .await;

    let content = get(&format!("/api/runs/{run}/result"))["content"].clone();
    let steps = content["reasoning"][0]["steps"].as_array().unwrap().clone();
    let [ribs, lung] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!(ribs["text"], "Ribs are intact.");
    assert!(ribs.get("boxes").is_none(), "{ribs}");
    assert_eq!(lung["boxes"][0]["label"], "left_lung");
    assert_eq!(lung["boxes"][0]["corners"], content["regions"][0]["corners"], "{content}");
    assert_eq!(lung["boxes"][0]["instance"], content["regions"][0]["instance"]);

    let [asked, unasked] = [asked, unasked].map(|it| it.join(&run));
    for folder in [&asked, &unasked] {
        eventually("the files", async || folder.join("json-1.json").exists().then_some(())).await;
        for name in ["oru-1.hl7", "fhir-1.json"] {
            let text = std::fs::read_to_string(folder.join(name)).unwrap();
            assert!(text.contains("Lungs are clear.") && !text.contains("Ribs"), "{name}: {text}");
        }
    }
    assert!(asked.join("reasoning-1.dcm").exists() && !unasked.join("reasoning-1.dcm").exists());
    let [with, without] = [&asked, &unasked].map(|it| {
        let text = std::fs::read_to_string(it.join("json-1.json")).unwrap();
        text.contains("Ribs are intact.")
    });
    assert!(with && !without);
    let size = |folder: &Path| std::fs::metadata(folder.join("pdf-1.dcm")).unwrap().len();
    assert!(size(&asked) > size(&unasked), "the pages of the annex");
}

/// PAP-02: without tags, all text is the answer, and the report mentions that.
#[tokio::test(flavor = "multi_thread")]
async fn pap_02_an_answer_without_marks_says_so() {
    let script = model_with_answers(&["Lungs are clear."]);
    let hospital = hospital(&script, "task: report").await;
    let (_, received) = drafted(&hospital).await;
    let [oru] = received.try_into().unwrap();
    assert!(oru.contains("Lungs are clear.") && oru.contains("thoughts and answer apart"), "{oru}");
}

/// PAP-02: an answer with incomplete tags fails the run, and nothing is sent.
#[tokio::test(flavor = "multi_thread")]
async fn pap_02_an_answer_that_cannot_be_read_sends_nothing() {
    for broken in ["<think>I never stop thinking", "<think>a</think><answer></answer>"] {
        let script = model_with_answers(&[broken]);
        let hospital = hospital(&script, "task: report").await;
        let (run, received) = drafted(&hospital).await;
        assert_eq!(run["run"]["status"], "failed", "{run}");
        assert!(run["nodes"][0]["reason"].as_str().unwrap().contains("answer_unreadable"), "{run}");
        assert!(received.is_empty(), "{received:?}");
    }
}

/// PAP-08: after an answer of the wrong kind the question is repeated once, then rejected.
#[tokio::test(flavor = "multi_thread")]
async fn pap_08_an_answer_of_another_kind_is_asked_for_once_more() {
    let settings = "task: vqa, question: 'Is there a tube?', answer: true-false";
    for (answers, expected) in [
        (["<answer>Perhaps.</answer>", "<answer>No, none.</answer>"], Some("no")),
        (["<answer>Perhaps.</answer>", "<answer>Who knows.</answer>"], None),
    ] {
        let script = model_with_answers(&answers);
        let hospital = hospital(&script, settings).await;
        let (run, received) = drafted(&hospital).await;
        assert_eq!(script.requests().len(), 2);
        if let Some(answer) = expected {
            let text = run["outputs"]["draft"]["sections"][0]["text"].as_str().unwrap();
            assert_eq!(text, format!("Is there a tube?\n{answer}"));
            assert_eq!(received.len(), 1);
        } else {
            let reason = run["nodes"][0]["reason"].as_str().unwrap();
            assert!(reason.contains("answer_invalid"), "{run}");
            assert!(received.is_empty());
        }
    }
}

/// PAP-07: each box has its own label and is in pixels of the image. A box outside of the image is
/// rejected.
#[tokio::test(flavor = "multi_thread")]
async fn pap_07_what_is_located_is_a_region_with_its_own_label() {
    let boxes = "```json\n[{\"bbox_2d\": [14, 28, 140, 280], \"label\": \"heart\"}, \
                 {\"bbox_2d\": [200, 28, 250, 280], \"label\": \"left lung\"}]\n```";
    let script = model_with_answers(&[boxes]);
    let hospital = hospital(&script, "task: detect, target: heart").await;
    let (run, received) = drafted(&hospital).await;
    let regions = run["outputs"]["draft"]["regions"].as_array().unwrap();
    let labels: Vec<&str> = regions.iter().map(|it| it["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["heart", "left lung"], "{run}");
    let size: Vec<u64> = serde_json::from_value(regions[0]["size"].clone()).unwrap();
    let corners: Vec<u64> = serde_json::from_value(regions[0]["corners"].clone()).unwrap();
    assert!(corners[2] <= size[0] && corners[3] <= size[1] && corners[0] > 0, "{regions:?}");
    assert!(received[0].contains("heart: located at 2 places."), "{received:?}");
    let request = script.requests()[0]["messages"][0]["content"][1]["text"].clone();
    assert_eq!(request, "Locate the heart, output its bbox coordinates using JSON format.");

    let far = "```json\n[{\"bbox_2d\": [9000, 9000, 9100, 9100], \"label\": \"heart\"}]\n```";
    let script = model_with_answers(&[far]);
    let hospital = self::hospital(&script, "task: detect, target: heart").await;
    let (run, received) = drafted(&hospital).await;
    assert!(run["nodes"][0]["reason"].as_str().unwrap().contains("boxes_misplaced"), "{run}");
    assert!(received.is_empty());
}

/// PAP-06: if nothing is located, the presence is unknown, not absent.
#[tokio::test(flavor = "multi_thread")]
async fn pap_06_what_is_not_located_is_unknown() {
    let script = model_with_answers(&["I cannot see it."]);
    let hospital = hospital(&script, "task: detect, target: heart").await;
    let (run, _) = drafted(&hospital).await;
    let finding = &run["outputs"]["draft"]["findings"][0];
    assert_eq!(finding["presence"], "unknown", "{run}");
}

/// PAP-09: a question about texts is answered from the message, with the number of texts.
#[tokio::test(flavor = "multi_thread")]
async fn pap_09_a_question_about_a_message_is_answered_from_its_text() {
    let script = model_with_answers(&["<answer>high</answer>"]);
    let workflow = "workflow: asked
on: { message: { type: ORU^R01 } }
nodes:
  ask: { plugin: cot-reporting, with: { task: text-qa, question: 'How is the CRP?', answer: choice, options: [high, normal] } }
deliver: [{ to: ehr, what: [oru] }]
";
    let model = script.as_model();
    let workflows = [("asked", workflow)];
    let options =
        SiteOptions { workflows: &workflows, destinations: &model, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    let message = "MSH|^~\\&|LIS|HOSP|ISOCENTER|AI|20260115||ORU^R01|T1|P|2.5.1\r\
                   PID|1||77^^^HOSP^MR||DOE^JANE\rOBR|1|PL|FL|1^CRP^LN\r\
                   OBX|1|NM|1988-5^CRP^LN||98|mg/L|<5|H|||F\r";
    assert_eq!(hospital.send_message(message).await, "AA");
    let runs = hospital.ended_runs(1).await;
    let run = hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    let text = run["outputs"]["ask"]["sections"][0]["text"].as_str().unwrap();
    assert_eq!(text, "How is the CRP?\nhigh\n(Texts it is from: 1.)");
    let request = script.requests()[0].to_string();
    assert!(request.contains("CRP: 98 mg/L <5") && request.contains("high; normal"), "{request}");
}

/// PAP-15: a draft is compared with the signed report as soon as there is one, and differences are
/// findings.
#[tokio::test(flavor = "multi_thread")]
async fn pap_15_a_draft_is_compared_with_the_signed_report() {
    let answer =
        "<think>a</think><answer>Findings: Left pneumothorax.\nImpression: Pneumothorax.</answer>";
    let script = model_with_answers(&[answer]);
    let workflow = "workflow: second
on: { study: { complete: { quiet: 200ms } } }
nodes:
  draft: { plugin: cot-reporting, with: { task: report, modalities: [CT] } }
  compare: { plugin: cot-reporting, after: [draft], with: { task: compare }, retry: { attempts: 50, backoff: 200ms } }
deliver: [{ to: ehr, what: [oru], after: [compare] }]
";
    let model = script.as_model();
    let workflows = [("second", workflow)];
    let options =
        SiteOptions { workflows: &workflows, destinations: &model, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    let phantom = simulators::phantom::Phantom { slices: 1, ..Default::default() };
    let order = simulators::order_message(&phantom, "O1");
    assert_eq!(hospital.send_message(&order).await, "AA");
    hospital.send(&phantom).await;
    // The signed report arrives later, and the comparison waits for it.
    eventually("the draft", async || (!script.requests().is_empty()).then_some(())).await;
    let patient = &phantom.patient_id;
    let accession = &phantom.accession;
    let report = format!(
        "MSH|^~\\&|RIS|HOSP|ISOCENTER|AI|20260115||ORU^R01|R1|P|2.5.1\r\
         PID|1||{patient}^^^^MR||X\r\
         OBR|1|P-{accession}|F-{accession}|24627-2^CT Chest^LN||||||||||||||{accession}\r\
         OBX|1|TX|59776-5^Findings^LN||No pneumothorax. Lungs are clear.||||||F\r"
    );
    assert_eq!(hospital.send_message(&report).await, "AA");
    let runs = hospital.ended_runs(1).await;
    let run = hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    let finding = &run["outputs"]["compare"]["findings"][0];
    let text = finding["text"].as_str().unwrap();
    assert!(text.contains("pneumothorax: there for the first, not there for the second"), "{run}");
    assert_eq!(finding["presence"], "possible");
}

/// The pictures of the first question.
fn shown_pictures(script: &Script) -> Vec<Picture> {
    let request = script.requests()[0].clone();
    let content = request["messages"][0]["content"].as_array().unwrap().clone();
    let urls = content.iter().filter_map(|it| it["image_url"]["url"].as_str());
    let bytes = urls.map(|it| BASE64_STANDARD.decode(it.rsplit(',').next().unwrap()).unwrap());
    bytes.map(|it| Picture::decode(&it).unwrap()).collect()
}

/// DIN-83: the PA view is shown, whatever the UIDs of the others, and the report says so.
#[tokio::test(flavor = "multi_thread")]
async fn din_83_the_frontal_view_is_shown_and_the_report_says_which_and_why() {
    let script = model_with_answers(&["<answer>Normal chest.</answer>"]);
    let workflow = "workflow: drafts\non: { study: { complete: { quiet: 200ms } } }\n\
         nodes: { draft: { plugin: cot-reporting, with: { task: report, modalities: [CR], \
         prompt: 'Aged {{ patient.age }}: {{ pictures[0].view }} of {{ pictures[0].body_part }}' } } }\n\
         deliver: [{ to: ehr, what: [oru] }]\n";
    let model = script.as_model();
    let workflows = [("drafts", workflow)];
    let options =
        SiteOptions { workflows: &workflows, destinations: &model, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    let phantom = study("views");
    let views = ["LL", "AP", "PA"];
    let files = phantom.files_with(|slice, set| {
        let mut put = |tag, vr, value: &str| {
            set.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
        };
        put(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.1");
        put(tags::MODALITY, VR::CS, "CR");
        put(tags::BODY_PART_EXAMINED, VR::CS, "CHEST");
        put(tags::PATIENT_AGE, VR::AS, "045Y");
        put(tags::VIEW_POSITION, VR::CS, views[usize::from(slice)]);
        put(tags::WINDOW_CENTER, VR::DS, ["0", "100", "200"][usize::from(slice)]);
        put(tags::WINDOW_WIDTH, VR::DS, "2000");
    });
    let slices: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    hospital.modality().store(&slices).await.unwrap();
    hospital.ended_runs(1).await;
    let [oru] = hospital.ehr.received().try_into().unwrap();

    assert_eq!(shown_pictures(&script), [render(&files[2]).unwrap()]);
    let prompt = script.requests()[0]["messages"][0]["content"][1]["text"].clone();
    assert_eq!(prompt, "Aged 045Y: PA of CHEST");
    let instance = phantom.instance_uid(2);
    for expected in
        ["1 of 3 images of CR: the first by view", "PA", &instance, "2000 wide about 200"]
    {
        assert!(oru.contains(expected), "{expected}: {oru}");
    }
}

/// DIN-80: one CT in several windows is several pictures.
#[tokio::test(flavor = "multi_thread")]
async fn din_80_a_ct_is_shown_in_each_window_that_the_workflow_lists() {
    let script = model_with_answers(&["<answer>Normal chest.</answer>"]);
    let settings = "task: report, middle: true, windows: [lung, { center: 40, width: 400 }]";
    let hospital = hospital(&script, settings).await;
    let (_, received) = drafted(&hospital).await;
    let middle = study("drafts").files()[1].clone();
    let windows = [NamedWindow::Lung, NamedWindow::SoftTissue].map(NamedWindow::window);
    let expected = show(&middle, &Views::Windows(windows.to_vec())).unwrap();
    let expected: Vec<Picture> = expected.into_iter().map(|it| it.picture).collect();
    assert_eq!(shown_pictures(&script), expected);
    assert!(received[0].contains("window of the workflow: 1500 wide about -600"), "{received:?}");
}
