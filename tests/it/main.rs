//! Tests through the doors users have. One file per subject.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the way to say no"
)]

mod charsets;
mod commitment;
mod corrections;
mod damage;
mod database;
mod documents;
mod doors;
mod drafts;
mod hounsfield;
mod identity;
mod injection;
mod installation;
mod isolation;
mod laboratory;
mod mistakes;
mod model;
mod model_exchange;
mod model_http;
mod operation;
mod outlines;
mod papers;
mod plugins;
mod receivers;
mod reference;
mod retention;
mod review;
mod safe_mode;
mod study;
mod timers;
mod together;
mod trail;
mod workflows;
