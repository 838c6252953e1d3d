//! What benches share: who is measured beside us, what is sent, and how numbers are told.

mod dicom;
mod history;
mod large;
mod messages;
mod peer;
mod tell;

pub use dicom::{Load, renumbered, store_all};
pub use history::fill;
pub use large::{Slow, store_large, store_large_at_once};
pub use messages::{Acknowledger, acknowledge_all};
pub use peer::Receiver;
pub use tell::{Series, median, percentile, plot, table};

/// A workflow that reports on a study of three images to the EHR.
pub const REPORTING: &str = "
workflow: bone
on: { study: { complete: { expect: [{ instances: 3 }], enough: [expected], quiet: 60s } } }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } } }
deliver: [{ to: ehr, what: [oru], after: [bone] }]
";
