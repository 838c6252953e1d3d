//! Faults, seeded: what breaks, when, and what has to hold afterwards (ACC-04).
//!
//! A [`Ward`] is a hospital whose every connection goes through a proxy. A round sends an order and a
//! study through it, breaks one thing at one moment, and looks at what came of it. The same seed breaks the
//! same thing at the same moment; what the machine was doing then is its own affair.

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

/// Rounds, as the command and the test run them: one after the other in one hospital. `told` hears of each.
/// Gives the count of all, with what is to be looked at in the end.
pub async fn rounds(seeds: impl IntoIterator<Item = u64>, told: impl Fn(&str)) -> Count {
    let mut ward = Ward::open().await;
    let mut count = Count::default();
    for seed in seeds {
        let verdict = ward.round(seed).await;
        told(&format!("seed {seed}: {verdict}"));
        count.add(&verdict);
    }
    let end = ward.end();
    for flaw in &end.flaws {
        told(&format!("in the end: {flaw:?}"));
    }
    count.add_end(&end);
    count
}
