//! The engines that the cases run on: one for each family, shared by the tests that need it.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use system_tests::{Hospital, SiteOptions, root};
use tokio::runtime::Runtime;

use crate::receivers::Receivers;

/// The workflows of the project that the cases need.
const SHIPPED: [&str; 4] =
    ["ct-bone", "lab-table", "lab-report-from-paper", "lab-report-from-archive"];

/// How long a study has to be quiet: longer than a sender pauses, and shorter than people wait.
const QUIET: &str = "3s";

/// Which engine a case needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// The workflows of the project.
    Hospital,
    /// The same, and reports go out again when the identity of their patient changes.
    Resending,
    /// Destinations that answer in every way of the cases about receivers.
    Receivers,
}

/// An engine with the peers around it.
pub(crate) struct Site {
    pub(crate) hospital: Hospital,
    /// The odd receivers, for the cases about them.
    pub(crate) receivers: Option<Receivers>,
    /// Last, so that it ends after everything that runs on it.
    pub(crate) runtime: Runtime,
}

/// The sites in use. The last test that uses one ends it.
static SITES: [Mutex<Weak<Site>>; 3] = [const { Mutex::new(Weak::new()) }; 3];

impl Site {
    /// The site of this kind: the one in use, or a new one.
    pub(crate) fn shared(kind: Kind) -> Arc<Self> {
        let mut shared = SITES[kind as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(site) = shared.upgrade() {
            return site;
        }
        let site = Arc::new(Self::open(kind));
        *shared = Arc::downgrade(&site);
        site
    }

    fn open(kind: Kind) -> Self {
        let runtime = Runtime::new().unwrap();
        let shipped: Vec<(&str, String)> = SHIPPED.map(|it| (it, quick(it))).into();
        let receivers = matches!(kind, Kind::Receivers).then(Receivers::open);
        let own = receivers.as_ref().map_or(shipped, Receivers::workflows);
        let workflows: Vec<(&str, &str)> =
            own.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let more = receivers.as_ref().map(Receivers::destinations).unwrap_or_default();
        let options = SiteOptions {
            workflows: &workflows,
            resend: matches!(kind, Kind::Resending),
            destinations: &more,
            identity: IDENTITY,
            ..SiteOptions::default()
        };
        let hospital = runtime.block_on(Hospital::with(options));
        Self { hospital, receivers, runtime }
    }
}

/// Whose identifiers are meant where none is named. Most messages name the authority `HOSP`, and
/// images name none: both mean the same patients.
const IDENTITY: &str = "{ domains: many, default_issuer: HOSP }";

/// A workflow of the project that waits for a short time, and reads paper without a model.
fn quick(name: &str) -> String {
    let path = root().join(format!("workflows/{name}.yaml"));
    let text = fs::read_to_string(path).unwrap().replace("[ocr, letters, model]", "[letters]");
    let mut parts = text.split("quiet: ");
    let first = parts.next().unwrap_or_default().to_owned();
    let others = parts.map(|part| {
        let end = part.find([' ', ',', '}', '\n']).unwrap_or(part.len());
        format!("quiet: {QUIET}{}", &part[end..])
    });
    first + &others.collect::<String>()
}
