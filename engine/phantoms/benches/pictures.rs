//! How many pictures a second one core draws. Run with `cargo bench -p phantoms`.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::time::Instant;

/// Pictures of each measurement.
const COUNT: u32 = 200;

fn main() {
    for size in [128, 256, 512] {
        measure("radiographs", size, |seed, size| phantoms::radiograph(seed, size).grey.len());
        measure("CT slices", size, |seed, size| phantoms::ct_slice(seed, size).grey.len());
        measure("radiographs with all items", size, |seed, size| {
            let phantom = phantoms::radiograph(seed, size);
            let mut random = phantoms::Random::new(seed, "bench");
            let language = phantoms::Language::English;
            phantoms::items::items(&phantom, language, "1.png", &mut random).len()
        });
    }
}

fn measure(what: &str, size: u32, make: impl Fn(u64, u32) -> usize) {
    let start = Instant::now();
    let made: usize = (0..u64::from(COUNT)).map(|seed| make(seed, size)).sum();
    let rate = f64::from(COUNT) / start.elapsed().as_secs_f64();
    println!("{what} of {size} px: {rate:.0} a second ({made} pixels or items)");
}
