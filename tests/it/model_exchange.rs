//! A model replaced by another while plugins use it.

use serde_json::{Value, json};
use system_tests::{Scratch, eventually, model_set, program, study};

use crate::model::{
    ORIGIN, import_tiny, long_question, model, model_processes, node, run_so_far, serve, site,
};

/// The details of all events of a kind.
fn events(scratch: &Scratch, kind: &str) -> Vec<Value> {
    let mut command = std::process::Command::new(program());
    command.args(["audit", "show", "--limit", "1000", "--json", "--data"]);
    let output = command.arg(scratch.path("data")).output().unwrap();
    let all: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let all = all.as_array().cloned().unwrap_or_default();
    let of_kind = all.iter().filter(|it| it["kind"] == kind);
    of_kind.map(|it| it["body"]["detail"].clone()).collect()
}

/// The detail of an event of this kind that contains `text`.
async fn event_with(scratch: &Scratch, kind: &str, text: &str) -> Value {
    let has_text = |it: &Value| it.to_string().contains(text);
    eventually(kind, async || events(scratch, kind).into_iter().find(has_text)).await
}

fn answer(run: &Value) -> Value {
    let text = run["outputs"]["long"]["sections"][0]["text"].as_str();
    serde_json::from_str(text.unwrap_or_default()).map_err(|it| format!("{it}: {run}")).unwrap()
}

/// Requests from before the exchange are answered by the old model. An unusable model is refused
/// and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_exchanged_while_requests_are_in_flight_and_none_is_lost() {
    let set = model_set();
    let scratch = Scratch::default();
    import_tiny(&scratch, &set);
    let checkpoint = set.join("ckpt/citrus_tiny").display().to_string();
    let eight = ["import", &checkpoint, "--name", "eight", "--eight-bit"];
    assert!(model(&scratch, &[&eight, &ORIGIN[..]].concat()).status.success());

    let mut engine = serve(&site(&scratch, &node("long", &long_question())));
    let data = scratch.path("data").display().to_string();
    let [first, second, third] = ["first", "second", "third"].map(study);
    engine.send(&first).await;
    let old = eventually("the first to be asked", async || {
        run_so_far(&data, &first)?;
        Some(model_processes(engine.process())).filter(|it| !it.is_empty())
    })
    .await;

    let file = std::fs::read_to_string(scratch.path("site.yaml")).unwrap();
    let set_model = |model: &str| {
        let text = file.replace("model: { name: tiny }", &format!("model: {model}"));
        scratch.write("site.yaml", &text);
    };
    set_model("{ name: eight }");
    let detail = event_with(&scratch, "model_exchanged", "eight").await;
    assert_eq!((&detail["from"]["name"], &detail["to"]["name"]), (&json!("tiny"), &json!("eight")));
    assert_eq!(detail["to"]["digest"].as_str().unwrap().len(), 64);
    engine.send(&second).await;
    let of_second = engine.runs_of(&data, &second, 1).await.remove(0);
    assert_eq!(answer(&of_second)["model"], "eight");
    let of_first = engine.runs_of(&data, &first, 1).await.remove(0);
    assert_eq!(answer(&of_first)["model"], "tiny");
    assert_eq!(of_first["nodes"][0]["attempt"], 1, "the node was not repeated");
    let new = eventually("the old process to end", async || {
        Some(model_processes(engine.process())).filter(|it| it.len() == 1)
    })
    .await;
    assert_ne!(new, old);

    for (unusable, reason) in [
        ("{ name: nobody }", "there is no model `nobody`"),
        ("{ name: tiny, digest: \"12\" }", "the site file names 12"),
    ] {
        set_model(unusable);
        event_with(&scratch, "model_refused", reason).await;
    }
    engine.send(&third).await;
    let of_third = engine.runs_of(&data, &third, 1).await.remove(0);
    assert_eq!(answer(&of_third)["model"], "eight");
    assert_eq!(model_processes(engine.process()), new);
    engine.stop();
}
