//! The kinds of faults, and how each is injected.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;

use super::proxy::{ConnectionFault, Proxy};
use super::ward::Ward;
use crate::processes::{family, plugin_hosts, signal};

/// Smallest jump of the clock. The largest is about an hour longer.
const CLOCK_JUMP_MIN: Duration = Duration::from_secs(3);

/// A destination of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recipient {
    Pacs,
    Ehr,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The engine is killed and started again.
    EngineKilled,
    /// The engine is stopped for a while, as on a machine that swaps.
    EngineFrozen,
    /// The database is killed with all its processes.
    DatabaseKilled,
    /// The database gets an immediate shutdown, and starts with recovery.
    DatabaseStopped,
    /// The database is stopped for a while.
    DatabaseFrozen,
    /// The disk of engine and database is full for a while.
    DiskFull,
    /// The clock of engine and database jumps.
    ClockJumped,
    /// The processes of plugins are killed.
    PluginsKilled,
    /// The connection of the modality is cut during a transfer.
    StudyCut,
    /// A response to the modality is lost.
    StudyAnswerLost,
    /// The connection of the modality is slow.
    StudySlow,
    /// The connection of the RIS is cut during a transfer.
    OrderCut,
    /// An acknowledgement to the RIS is lost.
    OrderAnswerLost,
    /// The PACS is unreachable for a while.
    PacsDown,
    /// The connection to the PACS is cut.
    PacsCut,
    /// A response of the PACS is lost.
    PacsAnswerLost,
    /// The PACS is out of resources (A700).
    PacsRefuses,
    /// The connection to the PACS is slow.
    PacsSlow,
    /// The EHR is unreachable for a while.
    EhrDown,
    /// The connection to the EHR is cut.
    EhrCut,
    /// An acknowledgement of the EHR is lost.
    EhrAnswerLost,
    /// The EHR acknowledges with AE.
    EhrRefuses,
    /// The EHR sends an acknowledgement twice.
    EhrAnswersTwice,
}

impl Kind {
    /// Every kind.
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

    /// The fault of a seed, and the generator for its parameters.
    pub fn of(seed: u64) -> (Self, Rng) {
        let mut random = Rng::with_seed(seed);
        let kind = random.choice(Self::ALL).unwrap_or(Self::EngineKilled);
        (kind, random)
    }

    /// The smallest seed of each kind.
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

    /// Whether the engine may send the same content to this recipient twice: if a response may have
    /// been lost, or if the engine may have ended before it recorded the response.
    pub(super) const fn may_repeat(self, to: Recipient) -> bool {
        match to {
            _ if matches!(self, Self::EngineKilled) => true,
            Recipient::Pacs => {
                matches!(self, Self::PacsDown | Self::PacsCut | Self::PacsAnswerLost)
            }
            Recipient::Ehr => matches!(self, Self::EhrDown | Self::EhrCut | Self::EhrAnswerLost),
        }
    }

    /// Injects the fault. A temporary fault lasts for `duration`, a cut comes after `bytes`.
    pub(super) async fn inject(self, ward: &mut Ward, duration: Duration, bytes: usize) {
        match self {
            Self::EngineKilled => ward.kill_engine(),
            Self::EngineFrozen => freeze(family(ward.engine()), duration).await,
            Self::DatabaseKilled => signal(&ward.database(), Signal::KILL),
            Self::DatabaseStopped => {
                signal(&ward.database().into_iter().take(1).collect::<Vec<_>>(), Signal::QUIT);
            }
            Self::DatabaseFrozen => freeze(ward.database(), duration).await,
            Self::DiskFull => {
                ward.system().fill_disk(true);
                tokio::time::sleep(duration).await;
                ward.system().fill_disk(false);
            }
            Self::ClockJumped => {
                let more = Duration::from_millis(u64::try_from(bytes).unwrap_or(0) * 100);
                ward.system().set_clock(CLOCK_JUMP_MIN + more, bytes.is_multiple_of(2));
            }
            Self::PluginsKilled => signal(&plugin_hosts(ward.engine()), Signal::KILL),
            Self::StudyCut => ward.modality_proxy.cut_request(bytes),
            Self::StudyAnswerLost => ward.modality_proxy.set(Some(ConnectionFault::AnswerLost)),
            Self::StudySlow => slow(&ward.modality_proxy, 5, duration).await,
            // Both are injected before the order is sent.
            Self::OrderCut | Self::OrderAnswerLost => {}
            Self::PacsDown => interrupt(&ward.pacs_proxy, ConnectionFault::Down, duration).await,
            Self::PacsCut => ward.pacs_proxy.cut_request(bytes),
            Self::PacsAnswerLost => ward.pacs_proxy.set(Some(ConnectionFault::AnswerLost)),
            Self::PacsRefuses => ward.pacs.refuse(bytes % 2, 1 + bytes % 3),
            Self::PacsSlow => slow(&ward.pacs_proxy, 20, duration).await,
            Self::EhrDown => interrupt(&ward.ehr_proxy, ConnectionFault::Down, duration).await,
            Self::EhrCut => ward.ehr_proxy.cut_request(bytes % 2_000),
            Self::EhrAnswerLost => ward.ehr_proxy.set(Some(ConnectionFault::AnswerLost)),
            Self::EhrRefuses => ward.ehr.refuse(0, 1 + bytes % 3),
            Self::EhrAnswersTwice => ward.ehr_proxy.set(Some(ConnectionFault::AnswerTwice)),
        }
    }
}

/// Stops processes for `duration`.
async fn freeze(processes: Vec<i32>, duration: Duration) {
    signal(&processes, Signal::STOP);
    tokio::time::sleep(duration).await;
    signal(&processes, Signal::CONT);
}

/// Gives a connection a fault for `duration`.
async fn interrupt(proxy: &Proxy, fault: ConnectionFault, duration: Duration) {
    proxy.set(Some(fault));
    tokio::time::sleep(duration).await;
    proxy.set(None);
}

/// Delays every piece of a connection by `delay_ms` for `duration`.
async fn slow(proxy: &Proxy, delay_ms: u64, duration: Duration) {
    let fault = ConnectionFault::Slow(Duration::from_millis(delay_ms));
    interrupt(proxy, fault, duration).await;
}
