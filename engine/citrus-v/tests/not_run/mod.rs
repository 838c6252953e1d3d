//! Tests without their reference material: under `cargo verify` they are listed as not run, under
//! plain `cargo test` they fail. They never pass silently.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::thread;

/// Lists the calling test as not run. The test must then return. Panics where no list is kept.
pub(crate) fn not_run(reason: &str) {
    let list = env::var_os("ISOCENTER_NOT_RUN");
    assert!(
        list.is_some(),
        "this test cannot run: {reason} (`cargo verify` lists such tests as not run)"
    );
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let mut list = OpenOptions::new().create(true).append(true).open(list.unwrap()).unwrap();
    list.write_all(format!("{name}: {reason}\n").as_bytes()).unwrap();
}
