//! Fuzzing of every reader of external bytes (SEC-21).
//!
//! A [`Target`] has samples of valid input. Inputs are mutated from samples with a seeded
//! generator: bits are flipped, lengths falsified, pieces removed, repeated, or spliced with
//! another sample. A target may reject an input. It must not panic, nor exceed the limits of time
//! and memory.

mod targets;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;

pub use targets::all;

/// Longest time for one input.
const INPUT_TIME_MAX: Duration = Duration::from_secs(5);

/// Peak memory of the process that a target must not exceed, in kB.
const MEMORY_KB_MAX: u64 = 2 << 20;

/// Longest input that is made.
const BYTES_MAX: usize = 1 << 18;

/// A reader of external bytes, with samples of its input.
pub struct Target {
    /// The name on the command line and in error messages.
    pub name: &'static str,
    /// Valid inputs, from which other inputs are mutated.
    samples: Vec<Vec<u8>>,
    /// Reads an input. Panics if the result violates an invariant.
    read: fn(&[u8]),
}

/// How much was tried without a finding.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    /// Number of mutated inputs.
    pub inputs: u64,
    /// Their total length.
    pub bytes: u64,
}

impl Target {
    /// A target that reads with `read` what resembles `samples`.
    pub const fn new(name: &'static str, samples: Vec<Vec<u8>>, read: fn(&[u8])) -> Self {
        Self { name, samples, read }
    }

    /// Tries the samples, then mutated inputs until `is_done` accepts their number.
    ///
    /// # Errors
    ///
    /// Names the input, in hex, that broke a limit or made the target panic.
    pub fn attack(&self, seed: u64, is_done: impl Fn(u64) -> bool) -> Result<Tried, String> {
        let mut random = Rng::with_seed(seed);
        let mut tried = Tried { inputs: 0, bytes: 0 };
        for sample in &self.samples {
            self.try_one(sample)?;
        }
        while !is_done(tried.inputs) {
            let input = self.input(&mut random);
            self.try_one(&input)?;
            tried.inputs += 1;
            tried.bytes += input.len() as u64;
        }
        match peak_memory_kb() {
            Some(kb) if kb > MEMORY_KB_MAX => Err(format!("{}: took {kb} kB", self.name)),
            _ => Ok(tried),
        }
    }

    fn try_one(&self, input: &[u8]) -> Result<(), String> {
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.read)(input)));
        let time = start.elapsed();
        match outcome {
            Ok(()) if time < INPUT_TIME_MAX => Ok(()),
            Ok(()) => Err(format!("{}: {time:?} for {}", self.name, hex(input))),
            Err(_) => Err(format!("{}: panicked at {}", self.name, hex(input))),
        }
    }

    fn input(&self, random: &mut Rng) -> Vec<u8> {
        let Some(sample) = random.choice(&self.samples) else { return Vec::new() };
        let mut bytes = sample.clone();
        // Three inputs of four have one mutation, the others several.
        let count = if random.u8(..4) == 0 { random.usize(2..16) } else { 1 };
        for _ in 0..count {
            mutate(&mut bytes, &self.samples, random);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }
}

/// Values that expose errors of range in lengths and counts.
const EDGES: [u32; 10] =
    [0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF];

/// Applies one mutation.
fn mutate(bytes: &mut Vec<u8>, samples: &[Vec<u8>], random: &mut Rng) {
    if bytes.is_empty() {
        bytes.extend((0..random.usize(1..64)).map(|_| random.u8(..)));
        return;
    }
    let at = position(bytes.len(), random);
    let end = (at + random.usize(1..64)).min(bytes.len());
    match random.u8(..9) {
        0 => bytes[at] ^= 1 << random.u8(..8),
        1 => bytes[at] = random.u8(..),
        2 => bytes.truncate(at),
        3 => _ = bytes.drain(at..end),
        4 => {
            let piece = bytes[at..end].to_vec();
            for _ in 0..random.usize(1..8) {
                _ = bytes.splice(at..at, piece.iter().copied());
            }
        }
        5 | 6 => {
            let edge = EDGES[random.usize(..EDGES.len())];
            let edge = if random.bool() { edge.to_le_bytes() } else { edge.to_be_bytes() };
            let width = [1, 2, 4][random.usize(..3)].min(bytes.len() - at);
            let from = if random.bool() { 4 - width } else { 0 };
            bytes[at..at + width].copy_from_slice(&edge[from..from + width]);
        }
        7 => {
            let other = &samples[random.usize(..samples.len())];
            let from = random.usize(..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            let noise: Vec<u8> = (0..random.usize(1..32)).map(|_| random.u8(..)).collect();
            _ = bytes.splice(at..at, noise);
        }
    }
}

/// A random position below `length`, in half of the cases among the first bytes, where headers are.
fn position(length: usize, random: &mut Rng) -> usize {
    if random.bool() { random.usize(..length.min(512)) } else { random.usize(..length) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

fn peak_memory_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|it| it.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}
