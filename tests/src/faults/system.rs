//! A system that is faulty for one engine, its database and its plugins (`tests/faulty-system`).

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::target;

/// What is wrong with it, in the file that its processes look at.
pub struct System {
    file: File,
    path: PathBuf,
    clock_micros: Mutex<i64>,
}

impl System {
    /// One of which nothing is wrong yet.
    pub fn sound(path: &Path) -> Self {
        let file = File::options().create(true).truncate(true).write(true).open(path).unwrap();
        file.write_all_at(&[0; 16], 0).unwrap();
        Self { file, path: path.to_owned(), clock_micros: Mutex::default() }
    }

    /// Has a process and all it starts see this system.
    pub fn surround(&self, command: &mut Command) {
        let library = target().join("libfaulty_system.so");
        assert!(library.exists(), "build the workspace first: cargo build --workspace");
        command.env("LD_PRELOAD", library).env("FAULTY_SYSTEM", &self.path);
    }

    /// Whether there is no room on the disk.
    pub fn fill_disk(&self, is_full: bool) {
        self.file.write_all_at(&i64::from(is_full).to_ne_bytes(), 8).unwrap();
    }

    /// Sets the clock on, or back.
    pub fn set_clock(&self, by: Duration, is_back: bool) {
        let by = i64::try_from(by.as_micros()).unwrap();
        let mut clock = self.clock_micros.lock().unwrap();
        *clock += if is_back { -by } else { by };
        self.file.write_all_at(&clock.to_ne_bytes(), 0).unwrap();
    }
}
