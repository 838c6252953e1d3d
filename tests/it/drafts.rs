//! Reports that the model drafts, with a model that says what it is told to.

use serde_json::Value;
use system_tests::{Habits, Hospital, study};

use system_tests::script::{Script, said};

/// A model that gives these answers, the last one again and again.
fn one_after_the_other(answers: &[&str]) -> Script {
    let mut answers: Vec<String> = answers.iter().rev().map(|it| (*it).to_owned()).collect();
    Script::open(move |_| {
        let next = if answers.len() > 1 { answers.pop() } else { answers.first().cloned() };
        said(&next.unwrap(), &[])
    })
}

/// A hospital whose one node drafts, with this model.
async fn hospital(script: &Script, settings: &str) -> Hospital {
    let workflow = format!(
        "workflow: drafts\non: {{ study: {{ complete: {{ quiet: 200ms }} }} }}\n\
         nodes: {{ draft: {{ plugin: cot-reporting, with: {{ modalities: [CT], {settings} }} }} }}\n\
         deliver: [{{ to: ehr, what: [oru] }}]\n"
    );
    let model = script.as_model();
    let workflows = [("drafts", workflow.as_str())];
    Hospital::with(Habits { workflows: &workflows, destinations: &model, ..Habits::default() })
        .await
}

/// The run of a study, and what the EHR got.
async fn drafted(hospital: &Hospital) -> (Value, Vec<String>) {
    hospital.send(&study("drafts")).await;
    let runs = hospital.ended_runs(1).await;
    (hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]), hospital.ehr.received())
}

/// PAP-02, OUT-41: the answer becomes findings and impression; the thoughts go nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn pap_02_a_report_is_drafted_without_the_thoughts_behind_it() {
    let script = one_after_the_other(&["<think>The rib looks odd, perhaps a secret.</think>\
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
    assert!(!run.to_string().contains("secret"));
    let asked = script.asked()[0].clone();
    let content = &asked["messages"][0]["content"];
    assert!(content[0]["image_url"]["url"].as_str().unwrap().starts_with("data:image/png;base64,"));
    assert!(content[1]["text"].as_str().unwrap().contains("step by step"), "{content}");
}

/// PAP-02: what sets nothing apart is all the answer, and the reader is told.
#[tokio::test(flavor = "multi_thread")]
async fn pap_02_an_answer_without_marks_says_so() {
    let script = one_after_the_other(&["Lungs are clear."]);
    let hospital = hospital(&script, "task: report").await;
    let (_, received) = drafted(&hospital).await;
    let [oru] = received.try_into().unwrap();
    assert!(oru.contains("Lungs are clear.") && oru.contains("thoughts and answer apart"), "{oru}");
}

/// PAP-02: what cannot be taken apart is looked at by a person, and nothing of it is sent.
#[tokio::test(flavor = "multi_thread")]
async fn pap_02_an_answer_that_cannot_be_read_sends_nothing() {
    for broken in ["<think>I never stop thinking", "<think>a</think><answer></answer>"] {
        let script = one_after_the_other(&[broken]);
        let hospital = hospital(&script, "task: report").await;
        let (run, received) = drafted(&hospital).await;
        assert_eq!(run["run"]["status"], "failed", "{run}");
        assert!(run["nodes"][0]["reason"].as_str().unwrap().contains("answer_unreadable"), "{run}");
        assert!(received.is_empty(), "{received:?}");
    }
}

/// PAP-08: an answer of another kind is asked for once more, and then rejected.
#[tokio::test(flavor = "multi_thread")]
async fn pap_08_an_answer_of_another_kind_is_asked_for_once_more() {
    let settings = "task: vqa, question: 'Is there a tube?', answer: true-false";
    for (answers, expected) in [
        (["<answer>Perhaps.</answer>", "<answer>No, none.</answer>"], Some("no")),
        (["<answer>Perhaps.</answer>", "<answer>Who knows.</answer>"], None),
    ] {
        let script = one_after_the_other(&answers);
        let hospital = hospital(&script, settings).await;
        let (run, received) = drafted(&hospital).await;
        assert_eq!(script.asked().len(), 2);
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
