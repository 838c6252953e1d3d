//! Tests of the state machine of a run.

use domain::OutputKind;
use proptest::prelude::*;

use super::*;
use crate::workflow::{
    Completion, ForEach, Late, Retry, StudyTrigger, Trigger, WAIT_LIMIT_DEFAULT, Work,
};

fn node(index: usize, after: &[usize], attempts: u32) -> Node {
    Node {
        name: format!("n{index}"),
        work: Work::Plugin { name: "plugin".to_owned(), settings: serde_json::Value::Null },
        after: after.iter().map(|it| format!("n{it}")).collect(),
        join: Join::All,
        for_each: None,
        pick: None,
        on_failure_of: Vec::new(),
        is_final: false,
        sla: None,
        window: None,
        when: None,
        retry: Retry { attempts, backoff: Duration::from_secs(1) },
        timeout: Duration::from_secs(1),
    }
}

fn workflow(nodes: Vec<Node>) -> Workflow {
    let completion = Completion {
        quiet: Duration::ZERO,
        at_most: WAIT_LIMIT_DEFAULT,
        expect: Vec::new(),
        enough: Vec::new(),
    };
    let after = nodes.last().map(|it| it.name.clone()).into_iter().collect();
    let delivery = Delivery { to: "pacs".to_owned(), what: vec![OutputKind::Seg], after };
    Workflow {
        name: "test".to_owned(),
        description: String::new(),
        trigger: Trigger::Study(StudyTrigger { when: None, completion, late: Late::Alert }),
        sla: None,
        priority: None,
        nodes,
        deliveries: vec![delivery],
        tests: Vec::new(),
    }
}

fn failed(node: &str) -> RunEvent {
    RunEvent::Failed { node: node.to_owned(), reason: "no luck".to_owned() }
}

fn succeeded(node: &str) -> RunEvent {
    RunEvent::Succeeded { node: node.to_owned() }
}

#[test]
fn a_node_is_tried_again_with_growing_waits_and_then_given_up() {
    let workflow = workflow(vec![node(0, &[], 3)]);
    let mut facts = Facts::default();
    let (mut run, _) = Run::begin(&workflow, &facts, &[]);
    let mut waits = Vec::new();
    for _ in 0..2 {
        let actions = run.apply(&workflow, &mut facts, failed("n0")).unwrap();
        let [Action::Open { wait, .. }] = actions.as_slice() else { panic!("{actions:?}") };
        waits.push(wait.as_secs());
    }
    let actions = run.apply(&workflow, &mut facts, failed("n0")).unwrap();

    assert_eq!(waits, [1, 2]);
    assert!(matches!(&actions[0], Action::Escalate { reason, .. } if reason.contains("3 of 3")));
    assert!(matches!(&actions[1], Action::HoldBack { index: 0, .. }));
    assert_eq!(actions[2], Action::End(End::Failed));
}

#[test]
fn a_rejected_input_is_not_tried_again_and_what_follows_is_skipped() {
    let workflow = workflow(vec![node(0, &[], 9), node(1, &[0], 9), node(2, &[], 9)]);
    let mut facts = Facts::default();
    let (mut run, first) = Run::begin(&workflow, &facts, &[]);
    assert_eq!(first.len(), 2);
    let event = RunEvent::Rejected { node: "n0".to_owned(), reason: "tilted".to_owned() };
    let actions = run.apply(&workflow, &mut facts, event).unwrap();

    assert!(matches!(&actions[0], Action::Escalate { .. }));
    assert!(matches!(&actions[1], Action::Skip { node, .. } if node == "n1"));
    // The third node owes nothing to the first: it goes on, and so does what is sent of it.
    let actions = run.apply(&workflow, &mut facts, succeeded("n2")).unwrap();
    assert_eq!(actions[1..], [Action::Deliver { index: 0 }, Action::End(End::Failed)]);
}

#[test]
fn a_failed_run_can_be_tried_again_and_sends_what_it_held_back() {
    let workflow = workflow(vec![node(0, &[], 1), node(1, &[0], 1)]);
    let mut facts = Facts::default();
    let (mut run, _) = Run::begin(&workflow, &facts, &[]);
    run.apply(&workflow, &mut facts, failed("n0")).unwrap();
    assert_eq!(run.end(), Some(End::Failed));

    let actions = run.apply(&workflow, &mut facts, RunEvent::Retried).unwrap();
    assert!(matches!(&actions[..], [Action::Open { node, .. }] if node == "n0"));
    run.apply(&workflow, &mut facts, succeeded("n0")).unwrap();
    let actions = run.apply(&workflow, &mut facts, succeeded("n1")).unwrap();
    assert!(actions.contains(&Action::Deliver { index: 0 }));
    assert_eq!(run.end(), Some(End::Completed));
}

#[test]
fn what_cannot_happen_changes_nothing() {
    let workflow = workflow(vec![node(0, &[], 1), node(1, &[0], 1)]);
    let mut facts = Facts::default();
    let (mut run, _) = Run::begin(&workflow, &facts, &[]);
    let before = run.clone();
    for event in [succeeded("n1"), succeeded("nobody"), RunEvent::Retried] {
        assert_eq!(run.apply(&workflow, &mut facts, event.clone()), Err(IllegalEvent(event)));
    }
    assert_eq!(run, before);
}

/// A graph in which nodes lean on earlier ones only, and how each open node will fare.
fn story() -> impl Strategy<Value = (Workflow, Vec<(usize, u8)>)> {
    let leans =
        prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..3), 1..7);
    let steps = prop::collection::vec((0_usize..100, 0_u8..4), 60);
    (leans, steps).prop_map(|(leans, steps)| {
        let nodes = leans.into_iter().enumerate().map(|(index, leans)| {
            let after: Vec<usize> =
                leans.iter().filter(|_| index > 0).map(|it| it.index(index.max(1))).collect();
            node(index, &after, 2)
        });
        (workflow(nodes.collect()), steps)
    })
}

proptest! {
    /// Kill the engine after any event: the state it then reads back decides the same next step,
    /// every node ends once, nothing starts before what it leans on, and the run ends.
    #[test]
    fn a_run_resumes_where_it_stopped((workflow, steps) in story()) {
        let mut facts = Facts::default();
        let (mut run, mut actions) = Run::begin(&workflow, &facts, &[]);
        let mut open: Vec<String> = Vec::new();
        let mut done: Vec<String> = Vec::new();
        let mut deliveries = 0;
        for (pick, fate) in steps {
            for action in actions.drain(..) {
                match action {
                    Action::Open { node, .. } => {
                        let spec = workflow.nodes.iter().find(|it| it.name == node).unwrap();
                        prop_assert!(spec.after.iter().all(|it| done.contains(it)));
                        open.push(node);
                    }
                    Action::Close { node } => done.push(node),
                    Action::Deliver { .. } | Action::HoldBack { .. } => deliveries += 1,
                    _ => {}
                }
            }
            if open.is_empty() {
                break;
            }
            let name = open.remove(pick % open.len());
            let event = match fate {
                0 => failed(&name),
                1 => RunEvent::Rejected { node: name, reason: String::new() },
                _ => succeeded(&name),
            };
            let stored = serde_json::to_string(&run).unwrap();
            let mut resumed: Run = serde_json::from_str(&stored).unwrap();
            actions = run.apply(&workflow, &mut facts, event.clone()).unwrap();
            prop_assert_eq!(&resumed.apply(&workflow, &mut facts, event).unwrap(), &actions);
            prop_assert_eq!(&resumed, &run);
        }
        prop_assert!(run.end().is_some());
        prop_assert_eq!(deliveries, 1);
        let unique: BTreeSet<&String> = done.iter().collect();
        prop_assert_eq!(unique.len(), done.len());
    }
}

fn rejected(node: &str) -> RunEvent {
    RunEvent::Rejected { node: node.to_owned(), reason: "tilted".to_owned() }
}

/// The steps that were opened, in order.
fn opened(actions: &[Action]) -> Vec<String> {
    let open = |it: &Action| match it {
        Action::Open { node, .. } => Some(node.clone()),
        _ => None,
    };
    actions.iter().filter_map(open).collect()
}

#[test]
fn one_of_several_is_enough_for_a_node_that_joins_any() {
    let any = Node { join: Join::Any, ..node(2, &[0, 1], 1) };
    let workflow = workflow(vec![node(0, &[], 1), node(1, &[], 1), any]);
    let mut facts = Facts::default();
    let (mut run, _) = Run::begin(&workflow, &facts, &[]);
    assert_eq!(opened(&run.apply(&workflow, &mut facts, rejected("n0")).unwrap()), [""; 0]);
    assert_eq!(opened(&run.apply(&workflow, &mut facts, succeeded("n1")).unwrap()), ["n2"]);
    let (mut run, _) = Run::begin(&workflow, &facts, &[]);
    run.apply(&workflow, &mut facts, rejected("n0")).unwrap();
    let actions = run.apply(&workflow, &mut facts, rejected("n1")).unwrap();
    assert!(actions.iter().any(|it| matches!(it, Action::Skip { node, .. } if node == "n2")));
}

#[test]
fn a_failure_takes_its_branch_and_the_run_is_not_failed() {
    let instead = Node { on_failure_of: vec!["n0".to_owned()], ..node(1, &[], 1) };
    let workflow = workflow(vec![node(0, &[], 1), instead]);
    let mut facts = Facts::default();
    let (mut run, _) = Run::begin(&workflow, &facts, &[]);
    assert_eq!(opened(&run.apply(&workflow, &mut facts, rejected("n0")).unwrap()), ["n1"]);
    let actions = run.apply(&workflow, &mut facts, succeeded("n1")).unwrap();
    assert_eq!(actions.last(), Some(&Action::End(End::Completed)));
    // Without a failure it is not needed.
    let (mut run, _) = Run::begin(&workflow, &facts, &[]);
    let actions = run.apply(&workflow, &mut facts, succeeded("n0")).unwrap();
    assert!(actions.iter().any(|it| matches!(it, Action::Skip { node, .. } if node == "n1")));
    assert_eq!(actions.last(), Some(&Action::End(End::Completed)));
}

#[test]
fn what_comes_finally_comes_when_everything_has_ended_however_it_did() {
    let last = Node { is_final: true, ..node(2, &[], 1) };
    let workflow = workflow(vec![node(0, &[], 1), node(1, &[0], 1), last]);
    let mut facts = Facts::default();
    let (mut run, first) = Run::begin(&workflow, &facts, &[]);
    assert_eq!(opened(&first), ["n0"]);
    assert_eq!(opened(&run.apply(&workflow, &mut facts, rejected("n0")).unwrap()), ["n2"]);
    let actions = run.apply(&workflow, &mut facts, succeeded("n2")).unwrap();
    assert_eq!(actions.last(), Some(&Action::End(End::Failed)));
}

#[test]
fn a_node_is_done_for_each_series_and_what_follows_waits_for_all() {
    let fan = Node { for_each: Some(ForEach::Series), ..node(0, &[], 1) };
    let workflow = workflow(vec![fan, node(1, &[0], 1)]);
    let mut facts = Facts::default();
    let series = |uid: &str| SeriesItem { series: uid.to_owned(), ..SeriesItem::default() };
    let (mut run, first) = Run::begin(&workflow, &facts, &[series("1.2"), series("1.3")]);
    assert_eq!(opened(&first), ["n0.1", "n0.2"]);
    assert_eq!(run.item("n0.2"), Some(&Item::Series("1.3".to_owned())));
    assert_eq!(opened(&run.apply(&workflow, &mut facts, succeeded("n0.2")).unwrap()), [""; 0]);
    assert_eq!(opened(&run.apply(&workflow, &mut facts, succeeded("n0.1")).unwrap()), ["n1"]);
    // With nothing to do it for, it is skipped, and what follows is not.
    let (_, first) = Run::begin(&workflow, &facts, &[]);
    assert_eq!(opened(&first), ["n1"]);
}
