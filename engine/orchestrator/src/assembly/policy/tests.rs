//! Ten thousand studies that arrive as studies do: in pieces, with pauses, interleaved, twice,
//! late. Each is decided on as the engine would, at the moments it asks to look again, and compared
//! with what follows from looking at every moment.

use std::collections::{BTreeMap, BTreeSet};

use contracts::{
    Announced, Associations, NodeCall, NodeFailure, PluginPin, RunSnapshot, SeriesSnapshot,
    StoredInstance,
};
use domain::{NodeOutput, Order, OrderAction, OrderKey};
use workflow::CheckContext;

use super::*;

/// How many studies.
const PATTERNS: u32 = 10_000;

/// How late a decision may be, after the evidence that decides it.
/// In milliseconds.
const DELAY_MAX: u64 = 1_000;

struct Nobody;

#[async_trait::async_trait]
impl NodeRunner for Nobody {
    fn pin(&self, plugin: &str) -> Option<PluginPin> {
        let (name, version) = (plugin.to_owned(), "1".to_owned());
        Some(PluginPin { name, version, digest: "0".to_owned() })
    }

    async fn run(&self, _: NodeCall) -> Result<NodeOutput, NodeFailure> {
        Err(NodeFailure::Cancelled)
    }

    async fn cancel(&self, _: Uuid) {}
}

/// Numbers that look like chance and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Something that happens to a study, in milliseconds since it began.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Happening {
    Instance {
        number: u64,
        association: u64,
    },
    AssociationEnds(u64),
    Order {
        is_examined: bool,
    },
    /// The modality asks to commit this number of instances.
    Commitment(u64),
}

/// A workflow's rule, and what happens.
#[derive(Debug)]
struct Pattern {
    quiet: u64,
    at_most: u64,
    then: &'static str,
    late: &'static str,
    expects_order: bool,
    expects_count: bool,
    enough: Vec<String>,
    /// Instances of the first part of the story; what comes after is late.
    count: u64,
    story: Vec<(u64, Happening)>,
}

/// The images of a study and the ends of their associations, and when the last image comes.
fn images(
    dice: &mut Dice,
    quiet: u64,
    count: u64,
    is_one_association: bool,
) -> (Vec<(u64, Happening)>, u64) {
    let mut story = Vec::new();
    let mut now = 0;
    for number in 0..count {
        // One association for all of it may pause for long; one for each image may not.
        let association = if is_one_association { 0 } else { number / (1 + dice.below(3)).max(1) };
        story.push((now, Happening::Instance { number, association }));
        if dice.chance(20) {
            story.push((now + 50, Happening::Instance { number, association }));
        }
        let longest =
            if is_one_association && dice.chance(10) { quiet * 3 } else { quiet * 7 / 10 };
        now += dice.below(longest.max(1));
    }
    let last = story.iter().map(|(at, _)| *at).max().unwrap_or_default();
    let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
    for (at, it) in &story {
        if let Happening::Instance { association, .. } = it {
            let end = if is_one_association { last } else { *at };
            ends.insert(*association, end + 100 + dice.below(400));
        }
    }
    story.extend(ends.iter().map(|(it, at)| (*at, Happening::AssociationEnds(*it))));
    (story, last)
}

fn pattern(dice: &mut Dice) -> Pattern {
    let quiet = 1_000 * (2 + dice.below(18));
    let count = 1 + dice.below(30);
    let association_wait = 500 * (1 + dice.below(6));
    let mut enough = Vec::new();
    let has_commitment = dice.chance(30);
    let is_one_association = dice.chance(40);
    if has_commitment && dice.chance(50) {
        enough.push("commitment".to_owned());
    }
    let (mut story, last) = images(dice, quiet, count, is_one_association);
    if has_commitment {
        story.push((last + 200 + dice.below(3_000), Happening::Commitment(count)));
    }
    if is_one_association && dice.chance(40) {
        enough.push(format!("association: {association_wait}ms"));
    }
    let expects_order = dice.chance(30);
    let has_order = dice.chance(80);
    if has_order {
        let is_examined = dice.chance(50);
        // An order that says the exam is over comes after its images.
        let at = if is_examined { last + dice.below(30_000) } else { dice.below(last + 60_000) };
        story.push((at, Happening::Order { is_examined }));
        if is_examined && dice.chance(50) {
            enough.push("exam_complete".to_owned());
        }
    }
    let expects_count = dice.chance(30);
    if expects_count && !expects_order && dice.chance(50) {
        enough.push("expected".to_owned());
    }
    let end = story.iter().map(|(at, _)| *at).max().unwrap_or_default();
    let at_most = end + 100_000 + 1_000 * dice.below(200);
    if dice.chance(25) {
        // Long after everything, and after the longest wait.
        let late = at_most + 60_000;
        for number in count..=count + dice.below(3) {
            story.push((
                late + 200 * (number - count),
                Happening::Instance { number, association: 99 },
            ));
        }
        story.push((late + 5_000, Happening::AssociationEnds(99)));
    }
    story.sort_by_key(|(at, _)| *at);
    let then = ["run", "hold", "fail"][usize::try_from(dice.below(3)).unwrap()];
    let late = ["ignore", "alert", "amend", "replace"][usize::try_from(dice.below(4)).unwrap()];
    Pattern { quiet, at_most, then, late, expects_order, expects_count, enough, count, story }
}

impl Pattern {
    fn workflow(&self) -> ActiveWorkflow {
        let mut expect = Vec::new();
        if self.expects_order {
            expect.push("order".to_owned());
        }
        if self.expects_count {
            expect.push(format!("instances: {}", self.count));
        }
        let list = |all: &[String]| {
            let all: Vec<String> = all
                .iter()
                .map(|it| if it.contains(':') { format!("{{ {it} }}") } else { it.clone() })
                .collect();
            all.join(", ")
        };
        let text = format!(
            "workflow: w\non: {{ study: {{ late: {}, complete: {{ quiet: {}ms, \
             at_most: {{ after: {}ms, then: {} }}, expect: [{}], enough: [{}] }} }} }}\n\
             nodes: {{ a: {{ plugin: p }} }}\n",
            self.late,
            self.quiet,
            self.at_most,
            self.then,
            list(&expect),
            list(&self.enough)
        );
        active(text)
    }
}

/// The workflow of a text.
fn active(text: String) -> ActiveWorkflow {
    let plugins = BTreeSet::from(["p".to_owned()]);
    let destinations = BTreeMap::new();
    let check_settings = &|_: &str, _: &serde_json::Value| None;
    let surroundings =
        CheckContext { plugins: &plugins, destinations: &destinations, check_settings };
    let read = workflow::read("w.yaml", &text, &surroundings);
    let workflow = read.unwrap_or_else(|it| panic!("{text}\n{it:?}"));
    let reference = domain::WorkflowRef { name: "w".to_owned(), digest: "d".to_owned() };
    ActiveWorkflow { workflow: std::sync::Arc::new(workflow), reference, text }
}

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + i64::try_from(milliseconds).unwrap()).unwrap()
}

fn since_start(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond() - 1_800_000_000_000).unwrap()
}

/// A study, as the store would show it.
struct World {
    snapshot: StudySnapshot,
    open: BTreeSet<u64>,
    announced: u64,
    numbers: BTreeSet<u64>,
}

impl World {
    fn new() -> Self {
        let snapshot = StudySnapshot {
            study: "1.2.3".parse().unwrap(),
            patient: None,
            accession: String::new(),
            description: String::new(),
            first_received: at(0),
            last_received: at(0),
            series: Vec::new(),
            orders: Vec::new(),
            runs: Vec::new(),
            standings: BTreeMap::new(),
            associations: Associations::default(),
            announced: Announced::default(),
        };
        Self { snapshot, open: BTreeSet::new(), announced: 0, numbers: BTreeSet::new() }
    }

    /// Takes something in, and says when the store would have the study looked at.
    fn take(&mut self, now: u64, happening: &Happening) -> Option<u64> {
        match happening {
            Happening::Instance { number, association } => {
                if !self.numbers.insert(*number) {
                    return None;
                }
                if self.numbers.len() == 1 {
                    self.snapshot.first_received = at(now);
                }
                self.open.insert(*association);
                self.snapshot.last_received = at(now);
                for run in &mut self.snapshot.runs {
                    run.first_later = run.first_later.or(Some(at(now)));
                }
            }
            Happening::AssociationEnds(association) => {
                self.open.remove(association);
                self.snapshot.associations.last_ended = Some(at(now));
            }
            Happening::Order { is_examined } => self.snapshot.orders = vec![order(*is_examined)],
            Happening::Commitment(count) => self.announced = *count,
        }
        let announced = usize::try_from(self.announced).unwrap();
        let here = self.numbers.iter().filter(|it| **it < self.announced).count();
        self.snapshot.announced = Announced { instances: announced, missing: announced - here };
        self.snapshot.associations.open = self.open.len();
        self.snapshot.series = series(&self.numbers);
        let is_instance = matches!(happening, Happening::Instance { .. });
        (!self.numbers.is_empty()).then_some(if is_instance { now + 200 } else { now })
    }
}

fn order(is_examined: bool) -> OrderSnapshot {
    let order = Order {
        status: if is_examined { "CM" } else { "SC" }.to_owned(),
        ..Order::new(OrderAction::Place, None, OrderKey::default())
    };
    let matched_by = domain::OrderMatch::AccessionNumber;
    OrderSnapshot { id: Uuid::nil(), order, patient: None, is_cancelled: false, matched_by }
}

fn series(numbers: &BTreeSet<u64>) -> Vec<SeriesSnapshot> {
    let instance = |it: &u64| StoredInstance {
        instance: format!("1.2.3.{}", it + 1).parse().unwrap(),
        sop_class: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
        sha256: format!("{it:064}"),
    };
    vec![SeriesSnapshot {
        series: "1.2.3.0".parse().unwrap(),
        modality: "CT".to_owned(),
        is_own: false,
        body_part: String::new(),
        description: String::new(),
        instances: numbers.iter().map(instance).collect(),
    }]
}

/// A run that was started: when, on how many instances, and whether it follows another.
type Started = (u64, usize, bool);

/// Has the story happen, and the study decided on whenever the engine would.
fn lived(pattern: &Pattern) -> Vec<Started> {
    let workflows = [pattern.workflow()];
    let destinations = Destinations::new();
    let mut world = World::new();
    let mut started = Vec::new();
    let mut decide_at: Option<u64> = None;
    let mut story = pattern.story.iter().peekable();
    loop {
        let next = story.peek().map(|(at, _)| *at);
        let is_look = match (next, decide_at) {
            (None, None) => return started,
            (Some(next), Some(look)) => look <= next,
            (None, Some(_)) => true,
            (Some(_), None) => false,
        };
        if !is_look {
            let Some((now, happening)) = story.next() else { return started };
            let asked = world.take(*now, happening);
            decide_at = [decide_at, asked].into_iter().flatten().min();
            continue;
        }
        let now = decide_at.unwrap_or_default();
        let policy = AssemblyPolicy {
            workflows: &workflows,
            runner: &Nobody,
            destinations: &destinations,
            now: at(now),
        };
        let step = policy.decide_study(&world.snapshot).step;
        decide_at = step.look_again.map(since_start);
        assert!(decide_at.is_none_or(|it| it > now), "it would look again at once, indefinitely");
        world.snapshot.standings = step.standings;
        for run in step.start {
            started.push((now, run.instances.len(), run.amends.is_some()));
            let first = run.amends.map_or(run.id, |it| it.first);
            world.snapshot.runs.push(RunSnapshot {
                id: run.id,
                workflow: "w".to_owned(),
                has_ended: true,
                input_key: run.input_key,
                first_later: None,
                first,
                is_signed: false,
            });
        }
    }
}

/// When the first run is due, found by looking at every moment at which anything can change.
fn due(pattern: &Pattern) -> Option<u64> {
    let wait = pattern.enough.iter().find_map(|it| it.strip_prefix("association: "));
    let wait: Option<u64> = wait.map(|it| it.trim_end_matches("ms").parse().unwrap());
    let first = pattern.story.iter().find(|(_, it)| matches!(it, Happening::Instance { .. }))?.0;
    let deadline = first + pattern.at_most;
    let moments = pattern.story.iter().flat_map(|(at, _)| {
        [Some(*at), Some(at + pattern.quiet), wait.map(|it| at + it)].into_iter().flatten()
    });
    let mut moments: Vec<u64> = moments.chain([deadline]).collect();
    moments.sort_unstable();
    moments
        .into_iter()
        .find(|now| is_complete(pattern, wait, *now) || (*now >= deadline && pattern.then == "run"))
        .filter(|now| pattern.then != "fail" || *now < deadline)
}

fn is_complete(pattern: &Pattern, wait: Option<u64>, now: u64) -> bool {
    let past: Vec<&(u64, Happening)> = pattern.story.iter().filter(|(at, _)| *at <= now).collect();
    let mut arrived: BTreeMap<u64, u64> = BTreeMap::new();
    let mut brought: BTreeSet<u64> = BTreeSet::new();
    for (at, it) in &past {
        if let Happening::Instance { number, association } = it
            && !arrived.contains_key(number)
        {
            arrived.insert(*number, *at);
            brought.insert(*association);
        }
    }
    let Some(last) = arrived.values().max() else { return false };
    let mut last_end = None;
    let mut order = None;
    let mut announced = None;
    for (at, it) in &past {
        match it {
            Happening::AssociationEnds(association) => {
                brought.remove(association);
                last_end = Some(*at);
            }
            Happening::Order { is_examined } => order = Some(*is_examined),
            Happening::Commitment(count) => announced = Some(*count),
            Happening::Instance { .. } => {}
        }
    }
    let has_count = u64::try_from(arrived.len()).unwrap() >= pattern.count;
    let is_there =
        (!pattern.expects_order || order.is_some()) && (!pattern.expects_count || has_count);
    let missing = announced.is_some_and(|count| (0..count).any(|it| !arrived.contains_key(&it)));
    let is_enough = pattern.enough.iter().any(|it| match it.as_str() {
        "commitment" => announced.is_some() && !missing,
        "exam_complete" => order == Some(true),
        "expected" => true,
        _ => {
            let over = last_end.filter(|_| brought.is_empty()).map(|it| it.max(*last));
            over.zip(wait).is_some_and(|(over, wait)| over + wait <= now) && !missing
        }
    });
    let is_quiet = last + pattern.quiet <= now && brought.is_empty() && !missing;
    is_there && (is_enough || is_quiet)
}

#[test]
fn din_50_ten_thousand_studies_are_decided_on_neither_early_nor_late_nor_twice() {
    let mut dice = Dice(20_261_124);
    let (mut early, mut missed, mut doubled, mut slow) = (0, 0, 0, 0);
    let (mut runs, mut reruns, mut with_all) = (0, 0, 0);
    for number in 0..PATTERNS {
        let pattern = pattern(&mut dice);
        let started = lived(&pattern);
        let due = due(&pattern);
        let first = started.first().map(|it| it.0);
        match (first, due) {
            (Some(first), Some(due)) if first < due => early += 1,
            (Some(first), Some(due)) if first > due + DELAY_MAX => slow += 1,
            (None, Some(_)) => missed += 1,
            (Some(_), None) => early += 1,
            _ => {}
        }
        let follows = started.iter().skip(1).all(|it| it.2);
        let has_late = pattern.story.iter().any(|(at, _)| *at > pattern.at_most);
        let allowed = if has_late && matches!(pattern.late, "amend" | "replace") { 2 } else { 1 };
        if started.len() > allowed || !follows {
            doubled += 1;
        }
        // Every story but those that run out of time tells the truth: the run has all of it.
        if let Some((at, instances, _)) = started.first()
            && *at < pattern.at_most
        {
            assert_eq!(
                *instances as u64, pattern.count,
                "pattern {number}: {pattern:?} {started:?}"
            );
            with_all += 1;
        }
        runs += started.len();
        reruns += started.len().saturating_sub(1);
        assert!(early + missed + doubled + slow == 0, "{number}: {pattern:?} {started:?} {due:?}");
    }
    assert_eq!((early, missed, doubled, slow), (0, 0, 0, 0));
    assert!(runs > 8_000 && reruns > 500 && with_all > 7_000, "{runs} {reruns} {with_all}");
}

#[test]
fn din_52_late_images_replace_a_draft_and_a_task_tells_of_what_was_signed() {
    let text = "workflow: w\non: { study: { late: replace, complete: { quiet: 1s } } }\n\
        nodes: { a: { plugin: p }, b: { review: radiologist, after: [a] } }\n";
    let workflows = [active(text.to_owned())];
    let destinations = Destinations::new();
    for is_signed in [false, true] {
        let mut world = World::new();
        let image = |number| Happening::Instance { number, association: 0 };
        for number in 0..3 {
            world.take(0, &image(number));
        }
        let earlier = Uuid::from_u128(1);
        world.snapshot.runs.push(RunSnapshot {
            id: earlier,
            workflow: "w".to_owned(),
            has_ended: true,
            input_key: InputKey::default(),
            first_later: None,
            first: earlier,
            is_signed,
        });
        world.take(5_000, &image(3));
        world.take(5_100, &Happening::AssociationEnds(0));

        let policy = AssemblyPolicy {
            workflows: &workflows,
            runner: &Nobody,
            destinations: &destinations,
            now: at(7_000),
        };
        let step = policy.decide_study(&world.snapshot).step;

        let [run] = step.start.as_slice() else { panic!("{step:?}") };
        let amended = run.amends.unwrap();
        assert_eq!((amended.run, amended.is_replaced), (earlier, true));
        let tasks: Vec<TaskKind> = step.tasks.iter().map(|it| it.kind).collect();
        let expected: &[TaskKind] = if is_signed { &[TaskKind::LateInstances] } else { &[] };
        assert_eq!(tasks, expected);
        let is_told = |it: &Event| it.kind == domain::EventKind::ResultSuperseded;
        assert_eq!(step.events.iter().filter(|it| is_told(it)).count(), 1);
    }
}
