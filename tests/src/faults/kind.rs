//! What breaks.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;

use super::proxy::{Break, Way};
use super::ward::Ward;
use crate::processes::{family, plugin_hosts, signal};

/// The least that a clock jumps; at most it is about an hour more.
const SHORTEST_JUMP: Duration = Duration::from_secs(3);

/// Who is sent results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recipient {
    Pacs,
    Ehr,
}

/// Something that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The engine is killed, and started again.
    EngineKilled,
    /// The engine stands still for a while, as a machine that swaps.
    EngineFrozen,
    /// The database is killed with all its processes.
    DatabaseKilled,
    /// The database is told to end at once, and is in recovery when it comes back.
    DatabaseStopped,
    /// The database stands still for a while.
    DatabaseFrozen,
    /// There is no room on the disk for a while, for the engine and the database.
    DiskFull,
    /// The clock jumps, of the engine and the database.
    ClockJumped,
    /// The processes of plugins are killed.
    PluginsKilled,
    /// The modality's connection is cut while it sends.
    StudyCut,
    /// An answer to the modality is lost.
    StudyAnswerLost,
    /// The modality's connection is slow.
    StudySlow,
    /// The RIS's connection is cut while it sends.
    OrderCut,
    /// An answer to the RIS is lost.
    OrderAnswerLost,
    /// The PACS is away for a while.
    PacsDown,
    /// The connection to the PACS is cut.
    PacsCut,
    /// An answer of the PACS is lost.
    PacsAnswerLost,
    /// The PACS is out of resources (A700).
    PacsRefuses,
    /// The connection to the PACS is slow.
    PacsSlow,
    /// The EHR is away for a while.
    EhrDown,
    /// The connection to the EHR is cut.
    EhrCut,
    /// An answer of the EHR is lost.
    EhrAnswerLost,
    /// The EHR answers AE.
    EhrRefuses,
    /// The EHR answers twice.
    EhrAnswersTwice,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 23] = [
        Self::EngineKilled,
        Self::EngineFrozen,
        Self::DatabaseKilled,
        Self::DatabaseStopped,
        Self::DatabaseFrozen,
        Self::DiskFull,
        Self::ClockJumped,
        Self::PluginsKilled,
        Self::StudyCut,
        Self::StudyAnswerLost,
        Self::StudySlow,
        Self::OrderCut,
        Self::OrderAnswerLost,
        Self::PacsDown,
        Self::PacsCut,
        Self::PacsAnswerLost,
        Self::PacsRefuses,
        Self::PacsSlow,
        Self::EhrDown,
        Self::EhrCut,
        Self::EhrAnswerLost,
        Self::EhrRefuses,
        Self::EhrAnswersTwice,
    ];

    /// What a seed breaks, and the random numbers that follow.
    pub fn of(seed: u64) -> (Self, Rng) {
        let mut random = Rng::with_seed(seed);
        let kind = random.choice(Self::ALL).unwrap_or(Self::EngineKilled);
        (kind, random)
    }

    /// The first seeds that break each.
    pub fn seeds_of_all() -> BTreeMap<Self, u64> {
        let mut seeds = BTreeMap::new();
        for seed in (1..).take_while(|it| *it < 10_000) {
            seeds.entry(Self::of(seed).0).or_insert(seed);
            if seeds.len() == Self::ALL.len() {
                break;
            }
        }
        seeds
    }

    /// Whether an answer of this receiver may not have reached the engine, or the engine ended before it was
    /// written down: only then may something be sent to it again.
    pub(super) const fn may_repeat(self, to: Recipient) -> bool {
        match to {
            _ if matches!(self, Self::EngineKilled) => true,
            Recipient::Pacs => {
                matches!(self, Self::PacsDown | Self::PacsCut | Self::PacsAnswerLost)
            }
            Recipient::Ehr => matches!(self, Self::EhrDown | Self::EhrCut | Self::EhrAnswerLost),
        }
    }

    /// Breaks it, for at most `how_long` where it mends by itself, after `bytes` where it is cut.
    pub(super) async fn strike(self, ward: &mut Ward, how_long: Duration, bytes: usize) {
        let pause = async || tokio::time::sleep(how_long).await;
        match self {
            Self::EngineKilled => ward.kill_engine(),
            Self::EngineFrozen => frozen(family(ward.engine()), how_long).await,
            Self::DatabaseKilled => signal(&ward.database(), Signal::KILL),
            Self::DatabaseStopped => {
                signal(&ward.database().into_iter().take(1).collect::<Vec<_>>(), Signal::QUIT);
            }
            Self::DatabaseFrozen => frozen(ward.database(), how_long).await,
            Self::DiskFull => {
                ward.system().fill_disk(true);
                pause().await;
                ward.system().fill_disk(false);
            }
            Self::ClockJumped => {
                let by =
                    SHORTEST_JUMP + Duration::from_millis(u64::try_from(bytes).unwrap_or(0) * 100);
                ward.system().set_clock(by, bytes.is_multiple_of(2));
            }
            Self::PluginsKilled => signal(&plugin_hosts(ward.engine()), Signal::KILL),
            Self::StudyCut => ward.modality_way.set(Some(Break::Cut(Way::There, bytes))),
            Self::StudyAnswerLost => ward.modality_way.set(Some(Break::AnswerLost)),
            Self::StudySlow => {
                ward.modality_way.set(Some(Break::Slow(Duration::from_millis(5))));
                pause().await;
                ward.modality_way.set(None);
            }
            // These two are set before the order is sent.
            Self::OrderCut | Self::OrderAnswerLost => {}
            Self::PacsDown => down(&ward.pacs_way, how_long).await,
            Self::PacsCut => ward.pacs_way.set(Some(Break::Cut(Way::There, bytes))),
            Self::PacsAnswerLost => ward.pacs_way.set(Some(Break::AnswerLost)),
            Self::PacsRefuses => ward.pacs.refuse(bytes % 2, 1 + bytes % 3),
            Self::PacsSlow => {
                ward.pacs_way.set(Some(Break::Slow(Duration::from_millis(20))));
                pause().await;
                ward.pacs_way.set(None);
            }
            Self::EhrDown => down(&ward.ehr_way, how_long).await,
            Self::EhrCut => ward.ehr_way.set(Some(Break::Cut(Way::There, bytes % 2_000))),
            Self::EhrAnswerLost => ward.ehr_way.set(Some(Break::AnswerLost)),
            Self::EhrRefuses => ward.ehr.refuse(0, 1 + bytes % 3),
            Self::EhrAnswersTwice => ward.ehr_way.set(Some(Break::AnswerTwice)),
        }
    }
}

async fn frozen(all: Vec<i32>, how_long: Duration) {
    signal(&all, Signal::STOP);
    tokio::time::sleep(how_long).await;
    signal(&all, Signal::CONT);
}

async fn down(way: &super::proxy::Proxy, how_long: Duration) {
    way.set(Some(Break::Down));
    tokio::time::sleep(how_long).await;
    way.set(None);
}
