//! One fault, and what came of it.

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
use simulators::{order_message, send_order};

use super::kind::{Kind, Recipient};
use super::proxy::{Break, Way};
use super::ward::{SLICES, Ward};
use crate::{files, program};

/// Longest time from the first byte to the last delivery.
const PATIENCE: Duration = Duration::from_mins(2);

/// Latest moment of a fault. An order, a study, its run and its deliveries take about as long.
const LATEST_MS: u64 = 1_500;

/// Longest time that something is away.
const LONGEST_MS: u64 = 2_000;

/// Bytes of an order and of a study, about: a cut falls somewhere in them.
const ORDER_BYTES: usize = 400;
const STUDY_BYTES: usize = 40_000;

/// What should not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// What was acknowledged is not there.
    Lost(String),
    /// Something was kept, done or delivered twice, or under one name with two contents.
    Duplicated(String),
    /// It did not come to an end.
    Stuck(String),
    /// Anything else.
    Unexplained(String),
}

/// What came of a round.
#[derive(Clone, Debug)]
pub struct Verdict {
    what: String,
    /// What should not have been.
    pub flaws: Vec<Flaw>,
}

impl Verdict {
    /// Says more of what happened.
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

/// What came of many.
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
    /// Takes in a round.
    pub fn add(&mut self, verdict: &Verdict) {
        self.rounds += 1;
        self.add_end(verdict);
    }

    /// Takes in what was found in the end.
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

    /// Takes in what somebody else counted.
    pub fn join(&mut self, other: Self) {
        self.rounds += other.rounds;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.stuck += other.stuck;
        self.unexplained += other.unexplained;
    }

    /// Whether all is well.
    pub const fn is_good(self) -> bool {
        self.lost + self.duplicated + self.stuck + self.unexplained == 0
    }
}

impl Ward {
    /// Sends an order and a study, breaks what the seed says, and looks at what came of it.
    pub async fn round(&mut self, seed: u64) -> Verdict {
        let (kind, mut random) = Kind::of(seed);
        let moment = Duration::from_millis(random.u64(..LATEST_MS));
        let how_long = Duration::from_millis(random.u64(200..LONGEST_MS));
        let bytes = random.usize(..STUDY_BYTES);
        let what = format!(
            "{kind:?} after {} ms, for {} ms, {bytes} bytes",
            moment.as_millis(),
            how_long.as_millis()
        );
        match kind {
            Kind::OrderCut => self.ris_way.set(Some(Break::Cut(Way::There, bytes % ORDER_BYTES))),
            Kind::OrderAnswerLost => self.ris_way.set(Some(Break::AnswerLost)),
            _ => {}
        }
        let strike = async |ward: &mut Self| {
            tokio::time::sleep(moment).await;
            kind.strike(ward, how_long, bytes).await;
        };
        let verdict = self.pass(&seed.to_string(), strike, kind).await;
        Verdict { what, ..verdict }
    }

    /// Sends an order and a study of this name, strikes meanwhile, and looks at what came of it.
    pub(super) async fn pass(
        &mut self,
        name: &str,
        strike: impl AsyncFnOnce(&mut Self),
        kind: Kind,
    ) -> Verdict {
        let phantom = phantom(name);
        let before = (self.pacs.received().len(), self.ehr.received_raw().len());
        let (ris, modality) = (self.ris_way.address(), self.modality_way.address());
        let sending = tokio::spawn(send(ris, modality, phantom.clone()));
        strike(self).await;
        let mut flaws = Vec::new();
        if sending.await.is_ok_and(|it| it) {
            self.sent.extend(phantom.files().iter().map(|it| digest(it)));
            let order = order_message(&phantom, &phantom.accession);
            self.ordered.push((phantom.accession.clone(), hex::encode(Sha256::digest(&order))));
            match self.ended(&phantom).await {
                Ok(()) => flaws.extend(self.delivered(before, kind)),
                Err(flaw) => flaws.push(flaw),
            }
        } else {
            flaws.push(Flaw::Stuck("the engine does not take the order and the study".to_owned()));
        }
        self.mend();
        Verdict { what: name.to_owned(), flaws }
    }

    /// Waits until the study has run and everything of it is delivered.
    async fn ended(&self, phantom: &Phantom) -> Result<(), Flaw> {
        let begin = Instant::now();
        let mut why = Value::Null;
        while begin.elapsed() < PATIENCE {
            let output = self.hospital.command(&["why", &phantom.study_uid(), "--json"]);
            // The database may be away.
            why = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let study = &why["studies"][0];
            let runs = study["runs"].as_array().cloned().unwrap_or_default();
            if !runs.is_empty() && runs.iter().all(is_over) {
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
        Err(Flaw::Stuck(format!("after {PATIENCE:?}: {why}")))
    }

    /// What PACS and EHR got since there were so many.
    fn delivered(&self, (images, messages): (usize, usize), kind: Kind) -> Vec<Flaw> {
        let images = self.pacs.received().into_iter().skip(images);
        let images: Vec<_> = images.map(|it| (it.sop_instance, digest_of(&it.path))).collect();
        let messages = self.ehr.received_raw().into_iter().skip(messages);
        let messages: Vec<_> =
            messages.map(|it| (control_id(&it), Sha256::digest(&it).into())).collect();
        let may_repeat = |to| kind.may_repeat(to);
        [
            wire("PACS", &images, 2, may_repeat(Recipient::Pacs)),
            wire("EHR", &messages, 1, may_repeat(Recipient::Ehr)),
        ]
        .concat()
    }

    /// What is kept of all rounds, when they are over.
    pub fn end(&self) -> Verdict {
        let mut flaws = self.archived();
        flaws.extend(self.messages());
        flaws.extend(self.trail());
        // Compares the projections with the trail, and reads every file and every message.
        let doctor = self.hospital.ask(&["doctor", "--read-all"]);
        let sick = doctor.as_array().into_iter().flatten().filter(|it| it["is_good"] != true);
        flaws.extend(sick.map(|it| Flaw::Unexplained(format!("doctor: {it}"))));
        Verdict { what: "in the end".to_owned(), flaws }
    }

    /// Whether each order that was acknowledged is there once, with the bytes that were sent.
    fn messages(&self) -> Vec<Flaw> {
        let messages = self.hospital.ask(&["messages", "--limit", "100000"]);
        let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
        let mut kept = BTreeMap::<String, Vec<String>>::new();
        for message in messages.as_array().into_iter().flatten() {
            kept.entry(text(message, "control_id")).or_default().push(text(message, "sha256"));
        }
        let mut flaws = Vec::new();
        for (control_id, sha256) in &self.ordered {
            match kept.get(control_id).map(Vec::as_slice) {
                None => flaws.push(Flaw::Lost(format!("message {control_id}"))),
                Some([one]) if one == sha256 => {}
                Some([_]) => flaws.push(Flaw::Lost(format!("the bytes of message {control_id}"))),
                Some(all) => {
                    flaws.push(Flaw::Duplicated(format!("message {control_id}: {}", all.len())));
                }
            }
        }
        flaws
    }

    /// Whether the trail is intact, in the eyes of one who has only an export of it and the key.
    fn trail(&self) -> Option<Flaw> {
        let (export, key) =
            (self.hospital.scratch.path("trail"), self.data().join("keys/trail.pub"));
        let [export, key] = [&export, &key].map(|it| it.display().to_string());
        let exported = self.hospital.command(&["audit", "export", &export]);
        let verify = ["audit", "verify", &export, "--key", &key];
        let verified = Command::new(program()).args(verify).output().unwrap();
        let is_good = exported.status.success() && verified.status.success();
        let text = [exported.stderr, verified.stdout, verified.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        (!is_good).then(|| Flaw::Unexplained(format!("the trail: {text}")))
    }

    /// Whether the archive holds what was acknowledged, byte by byte and once.
    fn archived(&self) -> Vec<Flaw> {
        let mut kept = BTreeMap::<[u8; 32], usize>::new();
        for file in files(&self.data().join("archive/instances")) {
            *kept.entry(digest_of(&file)).or_default() += 1;
        }
        let mut flaws = Vec::new();
        for one in &self.sent {
            match kept.get(one) {
                None => flaws.push(Flaw::Lost(format!("the data set {one:02x?}"))),
                Some(1) => {}
                Some(count) => flaws.push(Flaw::Duplicated(format!("a data set, {count} files"))),
            }
        }
        flaws
    }
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

/// Sends the order and each slice until it is acknowledged, and never after that. Gives whether all were.
async fn send(ris: String, modality: String, phantom: Phantom) -> bool {
    let begin = Instant::now();
    let order = order_message(&phantom, &phantom.accession);
    while send_order(&ris, &order).await.ok().as_deref() != Some("AA") {
        if begin.elapsed() > PATIENCE {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let modality = crate::remote(&modality, "CT1");
    for file in phantom.files() {
        while modality.store(&[&file]).await.is_err() {
            if begin.elapsed() > PATIENCE {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    true
}

fn is_over(run: &Value) -> bool {
    let deliveries = run["deliveries"].as_array().cloned().unwrap_or_default();
    run["run"]["status"] == "completed"
        && deliveries.len() == 2
        && deliveries.iter().all(|it| it["state"] == "delivered")
}

/// What is wrong with what a receiver got: by name, and the digest of each time it came.
fn wire(who: &str, all: &[(String, [u8; 32])], count: usize, may_repeat: bool) -> Vec<Flaw> {
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

/// SHA-256 of the data set of a file.
fn digest(file: &[u8]) -> [u8; 32] {
    let start = file_meta::split(file).map_or(0, |it| it.0);
    Sha256::digest(file.get(start..).unwrap_or_default()).into()
}

fn digest_of(file: &Path) -> [u8; 32] {
    digest(&fs::read(file).unwrap_or_default())
}

/// MSH-10.
fn control_id(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    text.split('|').nth(9).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_should_not_have_got_is_found() {
        let got = |all: &[(&str, u8)], kind: Kind| {
            let all = all.iter().map(|(name, content)| ((*name).to_owned(), [*content; 32]));
            wire("PACS", &all.collect::<Vec<_>>(), 2, kind.may_repeat(Recipient::Pacs))
        };
        let whole = [("seg", 1), ("sr", 2)];
        let again = [("seg", 1), ("sr", 2), ("sr", 2)];
        assert_eq!(got(&whole, Kind::PacsSlow), []);
        assert_eq!(got(&again, Kind::PacsAnswerLost), []);
        assert!(matches!(got(&again, Kind::PacsSlow)[..], [Flaw::Unexplained(_)]));
        assert!(matches!(got(&again, Kind::EhrAnswerLost)[..], [Flaw::Unexplained(_)]));
        assert!(matches!(got(&whole[..1], Kind::PacsDown)[..], [Flaw::Lost(_)]));
        let more = [whole[0], whole[1], ("other", 3)];
        assert!(matches!(got(&more, Kind::EngineKilled)[..], [Flaw::Duplicated(_)]));
        let changed = [whole[0], whole[1], ("sr", 3)];
        assert!(matches!(got(&changed, Kind::EngineKilled)[..], [Flaw::Duplicated(_)]));
    }
}
