//! What keeps an installation healthy while nobody looks, and what puts it right when somebody
//! does.
//!
//! The engine itself decides about studies. This crate decides about the installation the engine
//! runs on: whether there is room for more, whether the clock can be trusted, what has expired,
//! what is damaged, and under which identity images leave. Every rule here is about patient data
//! as a whole, never about a single result.
//!
//! * [`disk`]: how full the disk is, and the marks at which the engine reacts.
//! * [`admission`]: opens, narrows and closes the intake as database and disk allow.
//! * [`clock`]: notices a jump of the clock and moves what is scheduled with it.
//! * [`retention`]: how long data are retained, and the removal of what has expired.
//! * [`policy`]: the rules of a site, replaced together when its site file changes.
//! * [`monitor`]: runs the four above for as long as the engine runs.
//! * [`repair`]: examines an installation, and repairs what can be repaired without loss.
//! * [`export`]: writes the images of a study under the identity its patient has now.
//!
//! **Invariants**
//!
//! - Nothing is removed that has not expired, and nothing without an event in the trail.
//! - A repair never discards bytes: a damaged file is set aside, and a person is told what to do.
//! - What the intake refuses, it refuses with a reason that invites the sender to try again.

pub mod admission;
pub mod clock;
pub mod disk;
pub mod export;
pub mod monitor;
pub mod policy;
pub mod repair;
pub mod retention;
