//! Fault injection with seeds (ACC-04).
//!
//! A [`Ward`] is a hospital in which every connection goes through a proxy. A round sends an order
//! and a study, injects one fault at one moment, and checks that nothing was lost or done twice. A
//! seed determines the fault and its moment, but not what the engine does at that moment.

mod commits;
mod gate;
mod kind;
mod proxy;
mod round;
mod system;
mod ward;

pub use commits::Gated;
pub use gate::Side;
pub use kind::Kind;
pub use round::{Count, Flaw, Verdict};
pub use system::System;
pub use ward::Ward;

/// Runs a round for each seed, one after the other in one hospital, and reports each result as a
/// line. Returns the total, which includes the checks after the last round.
pub async fn rounds(seeds: impl IntoIterator<Item = u64>, report: impl Fn(&str)) -> Count {
    let mut ward = Ward::open().await;
    let mut count = Count::default();
    for seed in seeds {
        let verdict = ward.round(seed).await;
        report(&format!("seed {seed}: {verdict}"));
        count.add(&verdict);
    }
    let end = ward.end();
    for flaw in &end.flaws {
        report(&format!("in the end: {flaw:?}"));
    }
    count.add_end(&end);
    count
}
