//! Tests of reading and checking whole workflow files.

use std::collections::{BTreeMap, BTreeSet};

use domain::OutputKind;

use crate::{CheckContext, InvalidWorkflow, Workflow, read, trial};

fn read_text(text: &str) -> Result<Workflow, InvalidWorkflow> {
    let plugins = BTreeSet::from(["segmentation".to_owned(), "reader".to_owned()]);
    let destinations = BTreeMap::from([
        ("pacs".to_owned(), vec![OutputKind::Seg, OutputKind::Sr]),
        ("ehr".to_owned(), vec![OutputKind::Oru]),
    ]);
    let check_settings = &|_: &str, settings: &serde_json::Value| {
        settings.get("wrong").map(|_| "unknown field `wrong`".to_owned())
    };
    read(
        "test.yaml",
        text,
        &CheckContext { plugins: &plugins, destinations: &destinations, check_settings },
    )
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let problems = read_text(text).unwrap_err().problems;
    let codes: Vec<&str> = problems.iter().map(|it| it.code).collect();
    assert_eq!(codes, expected, "{problems:?}");
}

const GOOD: &str = "
workflow: good
on: { study: { when: '\"CT\" in study.modalities', complete: { quiet: 20s } } }
nodes:
  late: { plugin: reader, after: [early] }
  early: { plugin: segmentation }
deliver: [{ to: pacs, what: [seg] }]
";

#[test]
fn nodes_come_after_what_they_lean_on_whatever_the_order_of_the_file() {
    let names: Vec<String> = read_text(GOOD).unwrap().nodes.into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["early", "late"]);
}

#[test]
fn every_mistake_has_its_own_name() {
    check(&GOOD.replace("after: [early]", "after: [earyl]"), &["workflow::unknown_node"]);
    check(&GOOD.replace("plugin: reader", "plugin: raeder"), &["workflow::unknown_plugin"]);
    check(&GOOD.replace("to: pacs", "to: pasc"), &["workflow::unknown_destination"]);
    check(&GOOD.replace("[seg]", "[fax]"), &["workflow::unknown_kind"]);
    check(&GOOD.replace("[seg]", "[oru]"), &["workflow::kind_not_taken"]);
    check(&GOOD.replace("workflow: good", "workflow: Not Good"), &["workflow::bad_name"]);
    check(&GOOD.replace("study.modalities", "study.modality"), &["workflow::condition"]);
    check(
        &GOOD.replace("'\"CT\" in study.modalities'", "study.description"),
        &["workflow::condition"],
    );
    check(&GOOD.replace("quiet: 20s", "quiet: 20 parsecs"), &["workflow::unreadable"]);
    check(&GOOD.replace("quiet:", "quite:"), &["workflow::unreadable"]);
    check(
        &GOOD.replace("plugin: segmentation", "plugin: segmentation, with: { wrong: 1 }"),
        &["workflow::settings"],
    );
    let circle = GOOD.replace("plugin: segmentation", "plugin: segmentation, after: [late]");
    check(&circle, &["workflow::cycle", "workflow::cycle"]);
    let both = GOOD.replace("on: {", "on: { message: { type: A },");
    check(&both, &["workflow::trigger"]);
}

#[test]
fn out_41_the_reasoning_of_the_model_goes_only_where_a_delivery_asks_for_it() {
    let what = |text: &str| read_text(text).unwrap().deliveries[0].what.clone();
    assert_eq!(what(GOOD), [OutputKind::Seg]);
    let asked = GOOD.replace("what: [seg]", "what: [sr], reasoning: true");
    assert_eq!(what(&asked), [OutputKind::Sr, OutputKind::Reasoning]);
    assert_eq!(what(&asked.replace("true", "false")), [OutputKind::Sr]);
    check(&asked.replace("[sr]", "[seg]"), &["workflow::no_place_for_reasoning"]);
    check(&GOOD.replace("what: [seg]", "what: [reasoning]"), &["workflow::unknown_kind"]);
}

#[test]
fn sec_29_conditions_and_files_are_bounded() {
    let walks = "study.modalities.all(a, study.modalities.all(b, study.modalities.all(c, \
        study.modalities.all(d, study.modalities.all(e, a == e)))))";
    let walks = GOOD.replace("'\"CT\" in study.modalities'", &format!("'{walks}'"));
    check(&walks, &["workflow::condition"]);
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (one, next) in ["ab", "bc", "cd", "de", "ef", "fg"].iter().map(|it| it.split_at(1)) {
        let many = vec![format!("*{one}"); 9].join(", ");
        bomb = format!("{bomb}{next}: &{next} [{many}]\n");
    }
    assert!(read_text(&bomb).is_err());
}

#[test]
fn tests_inside_of_a_file_say_what_differs() {
    let text = format!(
        "{GOOD}tests:
  - given: {{ study: {{ modalities: [CT] }} }}
    expect: {{ path: [early, late], delivered: [pacs], end: completed }}
  - given: {{ study: {{ modalities: [CT] }}, plugins: {{ early: {{ reject: tilted }} }} }}
    expect: {{ path: [early], end: completed }}
"
    );
    let outcomes = trial(&read_text(&text).unwrap()).outcomes;
    assert_eq!(outcomes[0].differences, Vec::<String>::new());
    assert_eq!(
        outcomes[1].differences,
        ["path: expected [early], got []", "end: expected completed, got failed",]
    );
}
