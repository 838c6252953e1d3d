//! A round: an order and a study with one fault, and the checks that follow.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use encoding::dicom::file_meta;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use simulators::phantom::Phantom;
use simulators::send_order;

use super::kind::{Kind, Recipient};
use super::proxy::ConnectionFault;
use super::ward::{SLICES, Ward};
use crate::generators::Story;
use crate::{files, program};

/// What `doctor` checks about deliveries.
const FAILED: &str = "no delivery has failed";

/// Longest time from the first byte of a round to its last delivery.
const ROUND_TIME_MAX: Duration = Duration::from_mins(2);

/// Latest moment of a fault. A round without a fault takes about as long.
const MOMENT_MS_MAX: u64 = 1_500;

/// Longest duration of a temporary fault.
const DURATION_MS_MAX: u64 = 2_000;

/// Approximate sizes of an order and of a study. A connection is cut somewhere within them.
const ORDER_BYTES: usize = 400;
const STUDY_BYTES: usize = 40_000;

/// A violation of what must hold after a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Acknowledged content is missing.
    Lost(String),
    /// Content was stored, processed or delivered twice, or has two versions under one name.
    Duplicated(String),
    /// The round did not finish within its time.
    Stuck(String),
    /// Any other violation.
    Unexplained(String),
}

/// The result of a round.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The fault, with its parameters.
    what: String,
    /// All violations; none in a good round.
    pub flaws: Vec<Flaw>,
}

impl Verdict {
    /// Adds a remark to the description of the fault.
    pub(super) fn note(&mut self, text: &str) {
        self.what.push_str(": ");
        self.what.push_str(text);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.what)?;
        self.flaws.iter().try_for_each(|it| write!(to, "\n  {it:?}"))
    }
}

/// Totals over many rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    rounds: usize,
    lost: usize,
    duplicated: usize,
    stuck: usize,
    unexplained: usize,
}

impl fmt::Display for Count {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, lost, duplicated, stuck, unexplained } = self;
        write!(
            to,
            "rounds {rounds}, lost {lost}, duplicated {duplicated}, stuck {stuck}, unexplained {unexplained}"
        )
    }
}

impl Count {
    /// Adds the result of a round.
    pub fn add(&mut self, verdict: &Verdict) {
        self.rounds += 1;
        self.add_end(verdict);
    }

    /// Adds the result of the checks after the last round, which are no round.
    pub fn add_end(&mut self, verdict: &Verdict) {
        for flaw in &verdict.flaws {
            *match flaw {
                Flaw::Lost(_) => &mut self.lost,
                Flaw::Duplicated(_) => &mut self.duplicated,
                Flaw::Stuck(_) => &mut self.stuck,
                Flaw::Unexplained(_) => &mut self.unexplained,
            } += 1;
        }
    }

    /// Adds the totals of another hospital.
    pub fn join(&mut self, other: Self) {
        self.rounds += other.rounds;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.stuck += other.stuck;
        self.unexplained += other.unexplained;
    }

    /// Whether there are no violations.
    pub const fn is_good(self) -> bool {
        self.lost + self.duplicated + self.stuck + self.unexplained == 0
    }
}

impl Ward {
    /// Runs the round of a seed: sends an order and a study, injects the fault, and checks.
    pub async fn round(&mut self, seed: u64) -> Verdict {
        let (kind, mut random) = Kind::of(seed);
        let moment = Duration::from_millis(random.u64(..MOMENT_MS_MAX));
        let duration = Duration::from_millis(random.u64(200..DURATION_MS_MAX));
        let bytes = random.usize(..STUDY_BYTES);
        let phantom = phantom(&seed.to_string());
        let story = match kind {
            // These faults need an order.
            Kind::OrderCut | Kind::OrderAnswerLost => Story::usual(phantom),
            _ => Story::of(seed, phantom),
        };
        let what = format!(
            "{kind:?} after {} ms, for {} ms, {bytes} bytes, a study {}",
            moment.as_millis(),
            duration.as_millis(),
            story.words()
        );
        match kind {
            Kind::OrderCut => self.ris_proxy.cut_request(bytes % ORDER_BYTES),
            Kind::OrderAnswerLost => self.ris_proxy.set(Some(ConnectionFault::AnswerLost)),
            _ => {}
        }
        let inject = async |ward: &mut Self| {
            tokio::time::sleep(moment).await;
            kind.inject(ward, duration, bytes).await;
        };
        let verdict = self.pass_story(&story, inject, kind).await;
        Verdict { what, ..verdict }
    }

    /// Sends an order and a study of this name, calls `inject` during the transfer, and checks.
    pub(super) async fn pass(
        &mut self,
        name: &str,
        inject: impl AsyncFnOnce(&mut Self),
        kind: Kind,
    ) -> Verdict {
        let verdict = self.pass_story(&Story::usual(phantom(name)), inject, kind).await;
        Verdict { what: name.to_owned(), ..verdict }
    }

    /// Sends what a story says, calls `inject` during the transfer, and checks.
    async fn pass_story(
        &mut self,
        story: &Story,
        inject: impl AsyncFnOnce(&mut Self),
        kind: Kind,
    ) -> Verdict {
        let before = Received {
            images: self.pacs.received().len(),
            messages: self.ehr.received_raw().len(),
        };
        let ris = self.ris_proxy.address();
        let modality = self.modality_proxy.address();
        let sending = tokio::spawn(send(ris, modality, story.clone()));
        inject(self).await;
        let mut flaws = Vec::new();
        if sending.await.is_ok_and(|it| it) {
            self.of_nobody += usize::from(!story.has_patient());
            self.sent.extend(story.files().iter().map(|it| digest(it)));
            let order = story.order().map(|it| hex::encode(Sha256::digest(it)));
            self.ordered.extend(order.map(|it| (story.phantom.accession.clone(), it)));
            match self.ended(story).await {
                Ok(()) => flaws.extend(self.delivery_flaws(&before, kind, story)),
                Err(flaw) => flaws.push(flaw),
            }
        } else {
            flaws.push(Flaw::Stuck("the engine does not take the order and the study".to_owned()));
        }
        self.repair();
        Verdict { what: String::new(), flaws }
    }

    /// Waits until the run of the study and all its deliveries have ended.
    async fn ended(&self, story: &Story) -> Result<(), Flaw> {
        let start = Instant::now();
        let mut why = Value::Null;
        while start.elapsed() < ROUND_TIME_MAX {
            let output = self.hospital.command(&["why", &story.phantom.study_uid(), "--json"]);
            // The database may be unreachable; then there is no output.
            why = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let study = &why["studies"][0];
            let runs = study["runs"].as_array().cloned().unwrap_or_default();
            if !runs.is_empty() && runs.iter().all(|it| has_ended(it, story)) {
                let instances = study["study"]["instances"].as_u64();
                if instances != Some(u64::from(SLICES)) {
                    return Err(Flaw::Lost(format!("{instances:?} instances are there")));
                }
                if runs.len() > 1 {
                    return Err(Flaw::Duplicated(format!("{} runs of one study", runs.len())));
                }
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Flaw::Stuck(format!("after {ROUND_TIME_MAX:?}: {why}")))
    }

    /// Checks what PACS and EHR have received since `before`.
    fn delivery_flaws(&self, before: &Received, kind: Kind, story: &Story) -> Vec<Flaw> {
        let images = self.pacs.received().into_iter().skip(before.images);
        let images: Vec<_> = images.map(|it| (it.sop_instance, file_digest(&it.path))).collect();
        let messages = self.ehr.received_raw().into_iter().skip(before.messages);
        let messages: Vec<_> =
            messages.map(|it| (control_id(&it), Sha256::digest(&it).into())).collect();
        [
            recipient_flaws("PACS", &images, 2, kind.may_repeat(Recipient::Pacs)),
            recipient_flaws(
                "EHR",
                &messages,
                usize::from(story.has_patient()),
                kind.may_repeat(Recipient::Ehr),
            ),
        ]
        .concat()
    }

    /// Checks archive, messages and trail of all rounds, after the last one.
    pub fn end(&self) -> Verdict {
        let mut flaws = self.archive_flaws();
        flaws.extend(self.message_flaws());
        flaws.extend(self.trail_flaw());
        // The command compares projections with the trail, and reads every file and every message.
        let doctor = self.hospital.ask(&["doctor", "--read-all"]);
        let findings = doctor.as_array().into_iter().flatten().filter(|it| it["is_good"] != true);
        let findings = findings.filter(|it| it["name"] != FAILED || !self.only_nobody_failed());
        flaws.extend(findings.map(|it| Flaw::Unexplained(format!("doctor: {it}"))));
        Verdict { what: "in the end".to_owned(), flaws }
    }

    /// Whether exactly the reports of nobody were not delivered to the EHR: they wait for a person.
    fn only_nobody_failed(&self) -> bool {
        let failed = self.hospital.ask(&["delivery", "list", "--failed", "--limit", "100000"]);
        let failed = failed.as_array().map(Vec::as_slice).unwrap_or_default();
        failed.len() == self.of_nobody && failed.iter().all(|it| it["destination"] == "far_ehr")
    }

    /// Checks that each acknowledged order is stored once, with the bytes that were sent.
    fn message_flaws(&self) -> Vec<Flaw> {
        let messages = self.hospital.ask(&["messages", "--limit", "100000"]);
        let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
        let mut stored = BTreeMap::<String, Vec<String>>::new();
        for message in messages.as_array().into_iter().flatten() {
            stored.entry(text(message, "control_id")).or_default().push(text(message, "sha256"));
        }
        let mut flaws = Vec::new();
        for (control_id, sha256) in &self.ordered {
            match stored.get(control_id).map(Vec::as_slice) {
                None => flaws.push(Flaw::Lost(format!("message {control_id}"))),
                Some([only]) if only == sha256 => {}
                Some([_]) => flaws.push(Flaw::Lost(format!("the bytes of message {control_id}"))),
                Some(all) => {
                    flaws.push(Flaw::Duplicated(format!("message {control_id}: {}", all.len())));
                }
            }
        }
        flaws
    }

    /// Exports the trail and verifies the export with nothing but the public key.
    fn trail_flaw(&self) -> Option<Flaw> {
        let export = self.hospital.scratch.path("trail").display().to_string();
        let key = self.data().join("keys/trail.pub").display().to_string();
        let exported = self.hospital.command(&["audit", "export", &export]);
        let verify = ["audit", "verify", &export, "--key", &key];
        let verified = Command::new(program()).args(verify).output().unwrap();
        let is_good = exported.status.success() && verified.status.success();
        let text = [exported.stderr, verified.stdout, verified.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        (!is_good).then(|| Flaw::Unexplained(format!("the trail: {text}")))
    }

    /// Checks that the archive holds each acknowledged data set once, byte by byte.
    fn archive_flaws(&self) -> Vec<Flaw> {
        let mut stored = BTreeMap::<[u8; 32], usize>::new();
        for file in files(&self.data().join("archive/instances")) {
            *stored.entry(file_digest(&file)).or_default() += 1;
        }
        let mut flaws = Vec::new();
        for digest in &self.sent {
            match stored.get(digest) {
                None => flaws.push(Flaw::Lost(format!("the data set {digest:02x?}"))),
                Some(1) => {}
                Some(count) => flaws.push(Flaw::Duplicated(format!("a data set, {count} files"))),
            }
        }
        flaws
    }
}

/// Numbers of objects that PACS and EHR have received.
struct Received {
    images: usize,
    messages: usize,
}

fn phantom(name: &str) -> Phantom {
    let name = format!("FAULT-{name}");
    Phantom {
        slices: SLICES,
        size: 64,
        pixel: 6.0,
        seed: name.clone(),
        patient_id: name.clone(),
        accession: name,
        ..Phantom::default()
    }
}

/// Sends the order and each slice repeatedly until the acknowledgement, and not after it. Returns
/// whether all were acknowledged.
async fn send(ris: String, modality: String, story: Story) -> bool {
    let start = Instant::now();
    if let Some(order) = story.order() {
        while send_order(&ris, &order).await.ok().as_deref() != Some("AA") {
            if start.elapsed() > ROUND_TIME_MAX {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let modality = crate::remote(&modality, "CT1");
    for file in story.files() {
        while modality.store(&[&file]).await.is_err() {
            if start.elapsed() > ROUND_TIME_MAX {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    true
}

/// Whether a run is completed and both of its deliveries arrived. A report of nobody goes to a
/// person and not to the EHR.
fn has_ended(run: &Value, story: &Story) -> bool {
    let deliveries = run["deliveries"].as_array().cloned().unwrap_or_default();
    let has_arrived = |it: &Value| {
        let goes_to_person = it["destination"] == "far_ehr" && !story.has_patient();
        it["state"] == if goes_to_person { "failed" } else { "delivered" }
    };
    run["run"]["status"] == "completed"
        && deliveries.len() == 2
        && deliveries.iter().all(has_arrived)
}

/// Compares what a recipient got, the name and digest of each object, with the expected number of
/// objects.
fn recipient_flaws(
    who: &str,
    all: &[(String, [u8; 32])],
    count: usize,
    may_repeat: bool,
) -> Vec<Flaw> {
    let names: BTreeSet<&String> = all.iter().map(|it| &it.0).collect();
    let contents: BTreeSet<&(String, [u8; 32])> = all.iter().collect();
    let mut flaws = Vec::new();
    if names.len() < count {
        flaws.push(Flaw::Lost(format!("{who} has {} of {count}", names.len())));
    }
    if names.len() > count {
        flaws.push(Flaw::Duplicated(format!("{who} has {} of {count}", names.len())));
    }
    if contents.len() > names.len() {
        flaws.push(Flaw::Duplicated(format!("{who} has two contents under one name")));
    }
    if all.len() > names.len() && !may_repeat {
        flaws.push(Flaw::Unexplained(format!(
            "{who} got {} of {count}, and no answer was lost",
            all.len()
        )));
    }
    flaws
}

/// SHA-256 of the data set of a file, without its File Meta Information.
fn digest(file: &[u8]) -> [u8; 32] {
    let start = file_meta::split(file).map_or(0, |it| it.0);
    Sha256::digest(file.get(start..).unwrap_or_default()).into()
}

fn file_digest(file: &Path) -> [u8; 32] {
    digest(&fs::read(file).unwrap_or_default())
}

/// MSH-10 of a message.
fn control_id(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    text.split('|').nth(9).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_should_not_have_got_is_found() {
        let flaws = |all: &[(&str, u8)], kind: Kind| {
            let all = all.iter().map(|(name, content)| ((*name).to_owned(), [*content; 32]));
            let may_repeat = kind.may_repeat(Recipient::Pacs);
            recipient_flaws("PACS", &all.collect::<Vec<_>>(), 2, may_repeat)
        };
        let expected = [("seg", 1), ("sr", 2)];
        let repeated = [("seg", 1), ("sr", 2), ("sr", 2)];
        assert_eq!(flaws(&expected, Kind::PacsSlow), []);
        assert_eq!(flaws(&repeated, Kind::PacsAnswerLost), []);
        assert!(matches!(flaws(&repeated, Kind::PacsSlow)[..], [Flaw::Unexplained(_)]));
        assert!(matches!(flaws(&repeated, Kind::EhrAnswerLost)[..], [Flaw::Unexplained(_)]));
        assert!(matches!(flaws(&expected[..1], Kind::PacsDown)[..], [Flaw::Lost(_)]));
        let more = [expected[0], expected[1], ("other", 3)];
        assert!(matches!(flaws(&more, Kind::EngineKilled)[..], [Flaw::Duplicated(_)]));
        let changed = [expected[0], expected[1], ("sr", 3)];
        assert!(matches!(flaws(&changed, Kind::EngineKilled)[..], [Flaw::Duplicated(_)]));
    }
}
