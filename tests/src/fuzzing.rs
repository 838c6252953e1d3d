//! Bytes nobody would send, for everything that reads what comes from outside (SEC-21).
//!
//! A [`Target`] knows what good input looks like. Inputs are made from that, seeded: bits turned, lengths
//! made to lie, pieces taken out, doubled, or joined with others. A target may refuse what it gets; it must
//! not panic, nor take long, nor take much memory.

mod targets;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;

pub use targets::all;

/// Longest time for one input.
const LONGEST: Duration = Duration::from_secs(5);

/// Most memory for all that a target does, in kB.
const MEMORY_KB_MAX: u64 = 2 << 20;

/// Longest input that is made.
const BYTES_MAX: usize = 1 << 18;

/// Something that reads what comes from outside.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Input that is good.
    good: Vec<Vec<u8>>,
    /// Reads an input. Panics if what it makes of it cannot be.
    read: fn(&[u8]),
}

/// What was tried.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    /// How many inputs.
    pub inputs: u64,
    /// How many bytes they had together.
    pub bytes: u64,
}

impl Target {
    /// A target that reads with `read` what resembles `good`.
    pub const fn new(name: &'static str, good: Vec<Vec<u8>>, read: fn(&[u8])) -> Self {
        Self { name, good, read }
    }

    /// Tries the inputs of a seed until `is_over` says so of their number.
    ///
    /// # Errors
    ///
    /// Gives the input that was too much, in hex, and what happened.
    pub fn attack(&self, seed: u64, is_over: impl Fn(u64) -> bool) -> Result<Tried, String> {
        let mut random = Rng::with_seed(seed);
        let mut tried = Tried { inputs: 0, bytes: 0 };
        for good in &self.good {
            self.try_one(good)?;
        }
        while !is_over(tried.inputs) {
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
        let begin = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.read)(input)));
        let took = begin.elapsed();
        match outcome {
            Ok(()) if took < LONGEST => Ok(()),
            Ok(()) => Err(format!("{}: {took:?} for {}", self.name, hex(input))),
            Err(_) => Err(format!("{}: panicked at {}", self.name, hex(input))),
        }
    }

    fn input(&self, random: &mut Rng) -> Vec<u8> {
        let Some(good) = random.choice(&self.good) else { return Vec::new() };
        let mut bytes = good.clone();
        // Mostly one thing is wrong, sometimes much is.
        let count = if random.u8(..4) == 0 { random.usize(2..16) } else { 1 };
        for _ in 0..count {
            change(&mut bytes, &self.good, random);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }
}

/// Values on which lengths and counts go wrong.
const EDGES: [u32; 10] =
    [0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF];

/// Makes one thing wrong. Near the beginning more often than elsewhere: that is where headers are.
fn change(bytes: &mut Vec<u8>, good: &[Vec<u8>], random: &mut Rng) {
    if bytes.is_empty() {
        bytes.extend((0..random.usize(1..64)).map(|_| random.u8(..)));
        return;
    }
    let place = |random: &mut Rng, length: usize| {
        let near = length.min(512);
        if random.bool() { random.usize(..near) } else { random.usize(..length) }
    };
    let at = place(random, bytes.len());
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
            let other = &good[random.usize(..good.len())];
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
