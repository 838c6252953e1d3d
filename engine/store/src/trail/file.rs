//! The trail as a file: chain, batches and signatures, verified without a database (AUD-01..03).
//!
//! One JSON object a line: a head, then the events of each batch followed by the batch, then a
//! signed end. Without the end the file was cut; with another end it was not ours.

use std::io::{BufRead, Write};

use domain::EventKind;
use ed25519_dalek::VerifyingKey;
use encoding::canonical_json::{NotCanonical, canonical};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::trail::count::TrailCount;
use crate::trail::signed::is_signed;

pub use crate::trail::signed::SealedBatch;

/// Before an event in its hash, so that no event can pass for a node of the tree (AUD-01).
const EVENT_DOMAIN: u8 = 0x10;

/// Longest line of an export.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// A hash.
pub type Hash = [u8; 32];

/// An event with its place in the chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SealedEvent {
    /// Its number, without gaps, from 1.
    pub seq: u64,
    /// Its key.
    pub id: String,
    /// When it was added, in UTC with microseconds.
    pub at: String,
    /// What happened.
    pub body: Value,
    /// Hash of the event and the hash before it, in hex.
    pub hash: String,
}

/// The end of an export.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct End {
    /// The number of the last event.
    pub end: u64,
    /// The number of the last batch.
    pub batches: u64,
    /// Hash of the last event, in hex.
    pub last_hash: String,
    /// When the export was made.
    pub exported_at: String,
    /// Ed25519 over the canonical form of all of the above, in hex.
    pub signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Event(SealedEvent),
    Batch(SealedBatch),
    End(End),
    Head { isocenter_trail: u64 },
}

/// What an intact export holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intact {
    /// How many events.
    pub events: u64,
    /// How many batches.
    pub batches: u64,
    /// How often a person accepted that batches are lost.
    pub losses: u64,
    /// When it was exported.
    pub exported_at: String,
}

/// Numbers of batches and events that were signed once and are not in the trail. A person has to
/// have accepted it, which is an event in the trail with the same four fields.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Gap {
    kept_batch: u64,
    kept_events: u64,
    counted_batches: u64,
    counted_events: u64,
}

/// Where and how an export is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It cannot be read.
    #[error("the file cannot be read")]
    Io(#[from] std::io::Error),
    /// A line is not one of ours.
    #[error("line {line} is not part of a trail")]
    NotALine {
        /// Counted from 1.
        line: u64,
    },
    /// An event was changed, moved or removed.
    #[error("the trail is broken at event {seq}: {what}")]
    Event {
        /// The first event that is not as it was.
        seq: u64,
        /// How it shows.
        what: &'static str,
    },
    /// A batch does not fit its events, or was not signed with this key.
    #[error("the trail is broken at batch {batch}: {what}")]
    Batch {
        /// The first batch that is not as it was.
        batch: u64,
        /// How it shows.
        what: &'static str,
    },
    /// What should close the file is missing or not ours.
    #[error("the end of the trail is missing: {what}")]
    Cut {
        /// How it shows.
        what: &'static str,
    },
}

/// The hash that begins the chain.
pub const GENESIS: Hash = [0; 32];

/// Hash of an event that follows the one with hash `previous` (AUD-01).
///
/// # Errors
///
/// Fails on an event without a canonical form.
pub fn chain_hash(previous: &Hash, event: &Value) -> Result<Hash, NotCanonical> {
    let text = canonical(event)?;
    let mut hasher = Sha256::new();
    hasher.update([EVENT_DOMAIN]);
    hasher.update(previous);
    hasher.update(text);
    Ok(hasher.finalize().into())
}

impl SealedEvent {
    /// What is hashed of it.
    pub fn hashed(&self) -> Value {
        json!({"seq": self.seq, "id": self.id, "at": self.at, "body": self.body})
    }
}

/// Merkle tree hash of `leaves` (RFC 6962, 2.1).
pub fn merkle_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => leaf_hash(leaf),
        _ => {
            let half = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(half);
            node_hash(&merkle_root(left), &merkle_root(right))
        }
    }
}

fn leaf_hash(content: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(content).finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

pub(crate) fn write_head(out: &mut impl Write) -> std::io::Result<()> {
    write_line(out, &Line::Head { isocenter_trail: 1 })
}

pub(crate) fn write_batch(
    out: &mut impl Write,
    events: Vec<SealedEvent>,
    batch: SealedBatch,
) -> std::io::Result<()> {
    for event in events {
        write_line(out, &Line::Event(event))?;
    }
    write_line(out, &Line::Batch(batch))
}

pub(crate) fn write_end(out: &mut impl Write, end: End) -> std::io::Result<()> {
    write_line(out, &Line::End(end))
}

fn write_line(out: &mut impl Write, line: &Line) -> std::io::Result<()> {
    let text = serde_json::to_string(line).map_err(std::io::Error::other)?;
    writeln!(out, "{text}")
}

/// Checks an export, from its first line to its end. With a `count` that was copied from the site
/// at some time, the export has to go on from what was counted then.
///
/// # Errors
///
/// States the place of the first line that is not as the engine wrote it.
pub fn verify(
    mut file: impl BufRead,
    key: &VerifyingKey,
    count: Option<&TrailCount>,
) -> Result<Intact, Broken> {
    let mut state = State { count: count.cloned(), ..State::default() };
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = std::io::Read::take(&mut file, LINE_BYTES_MAX).read_until(b'\n', &mut text)?;
        state.line += 1;
        if read == 0 {
            return Err(Broken::Cut { what: "the file ends without its signed end" });
        }
        let line =
            serde_json::from_slice(&text).map_err(|_| Broken::NotALine { line: state.line })?;
        if let Some(intact) = state.take(line, key)? {
            let is_over = std::io::Read::take(&mut file, 1).read_until(b'\n', &mut text)? == 0;
            return if is_over {
                Ok(intact)
            } else {
                Err(Broken::NotALine { line: state.line + 1 })
            };
        }
    }
}

#[derive(Default)]
struct State {
    line: u64,
    /// The number of the last event.
    last_event: u64,
    /// The number of the last batch, and of the last event in it.
    last_batch: u64,
    last_sealed: u64,
    /// How many batches there are, and events in them.
    batches: u64,
    events: u64,
    previous: Hash,
    /// Hashes of the events since the last batch.
    open: Vec<Hash>,
    /// The number of the first of them.
    first_open: u64,
    gaps: Vec<Gap>,
    accepted: Vec<Gap>,
    /// What the trail has to go on from, until its batch was seen.
    count: Option<TrailCount>,
}

impl State {
    fn take(&mut self, line: Line, key: &VerifyingKey) -> Result<Option<Intact>, Broken> {
        match line {
            Line::Head { .. } if self.line == 1 => Ok(None),
            Line::Event(event) if self.line > 1 => self.event(&event).map(|()| None),
            Line::Batch(batch) if self.line > 1 => self.batch(&batch, key).map(|()| None),
            Line::End(end) if self.line > 1 => self.end(&end, key).map(Some),
            _ => Err(Broken::NotALine { line: self.line }),
        }
    }

    fn event(&mut self, event: &SealedEvent) -> Result<(), Broken> {
        let seq = self.last_event + 1;
        // Only a batch may begin later, and only with a reason: see `end`.
        if event.seq < seq || (event.seq > seq && !self.open.is_empty()) {
            return Err(Broken::Event { seq, what: "another event stands in its place" });
        }
        let hash = chain_hash(&self.previous, &event.hashed());
        let hash = hash.map_err(|_| Broken::Event { seq, what: "it has no canonical form" })?;
        if hex::encode(hash) != event.hash {
            return Err(Broken::Event { seq, what: "its hash does not fit" });
        }
        if self.open.is_empty() {
            self.first_open = event.seq;
        }
        self.accepted.extend(accepted_gap(&event.body));
        self.last_event = event.seq;
        self.events += 1;
        self.previous = hash;
        self.open.push(hash);
        Ok(())
    }

    fn batch(&mut self, sealed: &SealedBatch, key: &VerifyingKey) -> Result<(), Broken> {
        let batch = self.last_batch + 1;
        let broken = |what| Err(Broken::Batch { batch, what });
        if sealed.batch < batch {
            return broken("another batch stands in its place");
        }
        let is_all = (sealed.first_seq, sealed.last_seq) == (self.first_open, self.last_event);
        if !is_all || self.open.is_empty() {
            return broken("its events are not all here");
        }
        let is_root = sealed.root == hex::encode(merkle_root(&self.open));
        if !is_root || sealed.last_hash != hex::encode(self.previous) {
            return broken("its hashes do not fit its events");
        }
        if !is_signed(sealed, &sealed.signature, key) {
            return broken("it was not signed with this key");
        }
        let gap = Gap {
            kept_batch: self.last_batch,
            kept_events: self.last_sealed,
            counted_batches: sealed.batch.saturating_sub(1),
            counted_events: sealed.first_seq.saturating_sub(1),
        };
        let is_next =
            (gap.kept_batch, gap.kept_events) == (gap.counted_batches, gap.counted_events);
        self.gaps.extend((!is_next).then_some(gap));
        if let Some(count) = self.count.take_if(|it| it.kept_batch == sealed.batch)
            && count.last_hash != sealed.last_hash
        {
            return broken("it is another batch than the one that was counted");
        }
        self.last_batch = sealed.batch;
        self.last_sealed = sealed.last_seq;
        self.batches += 1;
        self.open.clear();
        Ok(())
    }

    fn end(&self, end: &End, key: &VerifyingKey) -> Result<Intact, Broken> {
        if !self.open.is_empty() {
            return Err(Broken::Cut { what: "events follow the last batch" });
        }
        let found = (self.last_event, self.last_batch, hex::encode(self.previous));
        if (end.end, end.batches, end.last_hash.clone()) != found {
            return Err(Broken::Cut { what: "events or batches before the end are missing" });
        }
        if !is_signed(end, &end.signature, key) {
            return Err(Broken::Cut { what: "the end was not signed with this key" });
        }
        if let Some(gap) = self.gaps.iter().find(|it| !self.accepted.contains(it)) {
            let batch = gap.kept_batch + 1;
            let what = "it is missing, and no person accepted the loss";
            return Err(Broken::Batch { batch, what });
        }
        if !self.count.as_ref().is_none_or(|it| self.is_accounted_for(it)) {
            return Err(Broken::Cut { what: "the trail was longer when it was counted" });
        }
        Ok(Intact {
            events: self.events,
            batches: self.batches,
            losses: self.gaps.len() as u64,
            exported_at: end.exported_at.clone(),
        })
    }

    /// Whether a counted batch that is not here is in a gap that a person accepted.
    fn is_accounted_for(&self, count: &TrailCount) -> bool {
        let is_in = |it: &Gap| (it.kept_batch + 1..=it.counted_batches).contains(&count.kept_batch);
        count.kept_batch == 0 || self.gaps.iter().any(is_in)
    }
}

/// The gap that a person accepted, if that is what the event says.
fn accepted_gap(body: &Value) -> Option<Gap> {
    let kind = body.get("kind").and_then(Value::as_str).and_then(EventKind::parse)?;
    let is_accepted = kind == EventKind::TrailLossAccepted;
    is_accepted.then(|| serde_json::from_value(body.get("detail")?.clone()).ok())?
}

#[cfg(test)]
mod tests;
