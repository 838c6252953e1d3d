//! Tests of the whole engine through the interfaces of its users. One file per subject.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by a panic")]

mod authorities;
mod charsets;
mod commitment;
mod corrections;
mod damage;
mod database;
mod documents;
mod doors;
mod drafts;
mod encodings;
mod hounsfield;
mod identity;
mod injection;
mod installation;
mod isolation;
mod laboratory;
mod messages;
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
