//! How far the trail had come, remembered outside of the database (AUD-03).
//!
//! Two files of a data folder know more than the database can prove. `trail/checkpoints.jsonl` has
//! every signed batch, one a line. `keys/trail.count`, beside the key that signs, has the running
//! count: how many batches and events there have ever been, and the hash of the newest event. Both
//! are written and flushed before a batch is committed. A trail that is shorter than they say was
//! cut or restored from an older backup, and is sealed no further until a person accepts the loss
//! (`loss.rs`). The numbers of what was lost are never used again.
//!
//! A site from before the count begins it with its first seal. An event in the trail says so, so
//! that a count that is missing later is noticed.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use domain::TrailFault;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::trail::signed::{SealedBatch, is_signed};

/// What is read of the end of the file of signed batches: several lines.
const CHECKPOINT_BYTES_MAX: u64 = 16 << 10;

/// What is searched of it for the highest numbers: thousands of lines.
const HIGHEST_BYTES_MAX: u64 = 1 << 20;

/// Upper bound of the file with the count.
const COUNT_BYTES_MAX: u64 = 4 << 10;

/// The files that know how far the trail has come.
#[derive(Clone, Debug)]
pub struct TrailFiles {
    /// Every signed batch, one a line.
    pub checkpoints: PathBuf,
    /// The running count.
    pub count: PathBuf,
}

/// How far the trail had come, signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailCount {
    /// The highest number that a batch has had.
    pub batches: u64,
    /// The highest number that a sealed event has had.
    pub events: u64,
    /// The newest batch of the trail. Lower than `batches` from when a person accepts a loss until
    /// the next batch.
    pub kept_batch: u64,
    /// Hash of the last event of that batch, in hex.
    pub last_hash: String,
    /// The key of the event with which the counting began.
    pub begun: Uuid,
    /// When it was written, in UTC.
    pub at: String,
    /// Ed25519 over the canonical form of all of the above, in hex.
    pub signature: String,
}

/// A line of the file of signed batches.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Checkpoint {
    /// A batch was signed.
    Batch(SealedBatch),
    /// A person accepted a loss: the count from which sealing went on.
    Loss(TrailCount),
}

/// How far the trail has come, by the database or by a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The highest number of a batch.
    pub(crate) batches: u64,
    /// The highest number of a sealed event.
    pub(crate) events: u64,
    /// The newest batch of the trail.
    pub(crate) kept_batch: u64,
    /// Hash of its last event, in hex.
    pub(crate) last_hash: String,
}

/// The highest numbers that a batch and an event have had, by the files.
pub(crate) struct Highest {
    pub(crate) batches: u64,
    pub(crate) events: u64,
}

/// What the files say.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) count: Option<TrailCount>,
}

/// What follows from comparing the database with the files.
#[derive(Debug)]
pub(crate) enum Standing {
    /// They fit: the next batch has the numbers after these.
    Fits {
        /// The highest numbers that a batch and an event have had.
        batches: u64,
        events: u64,
    },
    /// A batch was signed and exported, and the engine ended before it was committed. Its events
    /// have to be sealed as they were.
    Signed(SealedBatch),
}

impl TrailCount {
    /// Whether this site has signed it.
    pub fn is_signed(&self, key: &VerifyingKey) -> bool {
        is_signed(self, &self.signature, key)
    }

    fn mark(&self) -> Mark {
        Mark {
            batches: self.batches,
            events: self.events,
            kept_batch: self.kept_batch,
            last_hash: self.last_hash.clone(),
        }
    }
}

impl Checkpoint {
    pub(crate) fn mark(&self) -> Mark {
        match self {
            Self::Batch(batch) => Mark {
                batches: batch.batch,
                events: batch.last_seq,
                kept_batch: batch.batch,
                last_hash: batch.last_hash.clone(),
            },
            Self::Loss(count) => count.mark(),
        }
    }

    fn is_signed(&self, key: &VerifyingKey) -> bool {
        match self {
            Self::Batch(batch) => is_signed(batch, &batch.signature, key),
            Self::Loss(count) => count.is_signed(key),
        }
    }

    /// Whether it is what the engine writes next after `count`.
    fn follows(&self, count: &TrailCount) -> bool {
        match self {
            Self::Batch(batch) => {
                (batch.batch, batch.first_seq) == (count.batches + 1, count.events + 1)
            }
            // It is written before the count, too: the engine may have ended between the two.
            Self::Loss(loss) => loss.batches >= count.batches && loss.events >= count.events,
        }
    }
}

impl Recorded {
    /// What follows for a database that has come as far as `head`.
    pub(crate) fn compared(&self, head: &Mark, is_begun: bool) -> Result<Standing, TrailFault> {
        let checkpoint = match (&self.checkpoint, &self.count) {
            (None, None) if head.kept_batch == 0 && !is_begun => {
                return Ok(Standing::Fits { batches: 0, events: 0 });
            }
            (None, _) => return Err(TrailFault::CheckpointsMissing),
            (Some(_), None) if is_begun => return Err(TrailFault::CountMissing),
            (Some(checkpoint), None) => checkpoint,
            (Some(checkpoint), Some(count)) => {
                if checkpoint.mark() != count.mark() && !checkpoint.follows(count) {
                    return Err(TrailFault::FilesDisagree);
                }
                checkpoint
            }
        };
        let newest = checkpoint.mark();
        if head.kept_batch > newest.kept_batch {
            return Err(TrailFault::FilesOlder);
        }
        if head.kept_batch == newest.kept_batch {
            return if head.last_hash == newest.last_hash {
                Ok(Standing::Fits { batches: newest.batches, events: newest.events })
            } else {
                Err(TrailFault::BatchDiffers)
            };
        }
        match checkpoint {
            Checkpoint::Batch(batch) => Ok(Standing::Signed(batch.clone())),
            Checkpoint::Loss(_) => Err(TrailFault::BatchesMissing),
        }
    }
}

impl TrailFiles {
    /// The files of a data folder.
    pub fn of(data: &Path) -> Self {
        Self {
            checkpoints: data.join("trail/checkpoints.jsonl"),
            count: data.join("keys/trail.count"),
        }
    }

    /// Reads what the files say, and believes only what was signed with `key`.
    pub(crate) fn read(&self, key: &VerifyingKey) -> io::Result<Result<Recorded, TrailFault>> {
        let checkpoint = last_checkpoint(&self.checkpoints)?;
        if checkpoint.as_ref().is_some_and(|it| !it.is_signed(key)) {
            return Ok(Err(TrailFault::CheckpointsAltered));
        }
        let Some(text) = end_of(&self.count, COUNT_BYTES_MAX)? else {
            return Ok(Ok(Recorded { checkpoint, count: None }));
        };
        let count: Option<TrailCount> = serde_json::from_slice(&text).ok();
        let Some(count) = count.filter(|it| it.is_signed(key)) else {
            return Ok(Err(TrailFault::CountAltered));
        };
        Ok(Ok(Recorded { checkpoint, count: Some(count) }))
    }

    /// The highest numbers that any signed line at the end of the files has, torn lines or not.
    pub(crate) fn highest(&self, key: &VerifyingKey) -> io::Result<Highest> {
        let text = end_of(&self.checkpoints, HIGHEST_BYTES_MAX)?.unwrap_or_default();
        let lines = text.split(|it| *it == b'\n');
        let lines = lines.filter_map(|it| serde_json::from_slice::<Checkpoint>(it).ok());
        let mut marks: Vec<Mark> =
            lines.filter(|it| it.is_signed(key)).map(|it| it.mark()).collect();
        let count = end_of(&self.count, COUNT_BYTES_MAX)?.unwrap_or_default();
        let count = serde_json::from_slice::<TrailCount>(&count).ok();
        marks.extend(count.filter(|it| it.is_signed(key)).map(|it| it.mark()));
        Ok(Highest {
            batches: marks.iter().map(|it| it.batches).max().unwrap_or_default(),
            events: marks.iter().map(|it| it.events).max().unwrap_or_default(),
        })
    }

    /// Adds a line to the file of signed batches. It is on the disk afterwards.
    pub(crate) fn add(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let folder = folder_of(&self.checkpoints);
        fs::create_dir_all(folder)?;
        let is_new = !self.checkpoints.exists();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.checkpoints)?;
        let text = serde_json::to_string(checkpoint).map_err(io::Error::other)?;
        // A line that a crash tore must not swallow this one.
        let is_torn = end_of(&self.checkpoints, 1)?.is_some_and(|it| !it.is_empty() && it != b"\n");
        let start = if is_torn { "\n" } else { "" };
        file.write_all(format!("{start}{text}\n").as_bytes())?;
        file.sync_data()?;
        if is_new { sync_folder(folder) } else { Ok(()) }
    }

    /// Puts a count in the place of the one before. It is on the disk afterwards, and a crash
    /// leaves either of the two whole.
    pub(crate) fn replace_count(&self, count: &TrailCount) -> io::Result<()> {
        let text = serde_json::to_string(count).map_err(io::Error::other)?;
        let fresh = self.count.with_extension("count.new");
        // One that a crash left may belong to root.
        _ = fs::remove_file(&fresh);
        let mut file = fs::File::create(&fresh)?;
        file.write_all(format!("{text}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.count)?;
        sync_folder(folder_of(&self.count))
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// The last whole line of the file of signed batches. A line that a crash tore is not one: what it
/// was is covered by the count, or was never committed.
fn last_checkpoint(path: &Path) -> io::Result<Option<Checkpoint>> {
    let text = end_of(path, CHECKPOINT_BYTES_MAX)?.unwrap_or_default();
    Ok(text.rsplit(|it| *it == b'\n').find_map(|it| serde_json::from_slice(it).ok()))
}

/// The last bytes of a file; nothing if there is no such file.
fn end_of(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
