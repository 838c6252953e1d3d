//! Shared parts of the benches: receivers to compare with, loads, and the output of numbers.

mod dicom;
mod history;
mod large;
mod messages;
mod output;
mod peer;

pub use dicom::{Load, renumbered, store_all};
pub use history::fill;
pub use large::{Slow, store_large, store_large_at_once};
pub use messages::{Acknowledger, acknowledge_all};
pub use output::{Series, median, percentile, plot, table};
pub use peer::Receiver;

/// A workflow that sends a report on each study of three images to the EHR.
pub const REPORTING: &str = "
workflow: bone
on: { study: { complete: { expect: [{ instances: 3 }], enough: [expected], quiet: 60s } } }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } } }
deliver: [{ to: ehr, what: [oru], after: [bone] }]
";
