//! What a test does that lacks the reference material: below `cargo verify` it is listed as not
//! run, anywhere else it fails. It never passes in silence.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::thread;

/// Lists the calling test as not run; its caller returns. Panics where nobody would read the list.
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
