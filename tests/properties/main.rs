//! Properties of what is generated: no two patients meet, no value is changed, nothing is delivered
//! twice, and each refusal gives the true reason.
//!
//! A failing seed is shown, and kept in `proptest-regressions` to be tried again.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic, and cuts its input anywhere"
)]

mod images;
mod laboratory;
mod messages;
mod whole;
