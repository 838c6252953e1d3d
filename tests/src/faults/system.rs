//! Controls the faulty system (`tests/faulty-system`) below one engine, its database and plugins.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::target;

/// The faults of a system, in a file that the processes on the system have mapped.
pub struct System {
    file: File,
    path: PathBuf,
    clock_micros: Mutex<i64>,
}

impl System {
    /// A system without faults, with its file at `path`.
    pub fn sound(path: &Path) -> Self {
        let file = File::options().create(true).truncate(true).write(true).open(path).unwrap();
        file.write_all_at(&[0; 16], 0).unwrap();
        Self { file, path: path.to_owned(), clock_micros: Mutex::default() }
    }

    /// Makes a process and its children run on this system.
    pub fn apply_to(&self, command: &mut Command) {
        let library = target().join("libfaulty_system.so");
        assert!(library.exists(), "build the workspace first: cargo build --workspace");
        command.env("LD_PRELOAD", library).env("FAULTY_SYSTEM", &self.path);
    }

    /// Fills the disk, or frees it.
    pub fn fill_disk(&self, is_full: bool) {
        self.file.write_all_at(&i64::from(is_full).to_ne_bytes(), 8).unwrap();
    }

    /// Sets the clock forward or back. Jumps add up.
    pub fn set_clock(&self, by: Duration, is_back: bool) {
        let by = i64::try_from(by.as_micros()).unwrap();
        let mut clock = self.clock_micros.lock().unwrap();
        *clock += if is_back { -by } else { by };
        self.file.write_all_at(&clock.to_ne_bytes(), 0).unwrap();
    }
}
