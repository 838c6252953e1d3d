//! How well laboratory reports on paper are read, without the model, by the protocol of `MedDocBench` (PAP-68).
#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "in a test, a panic is the way to say no, and the numbers are for the reader"
)]

use evaluation::documents::{Counts, Row, compare};
use system_tests::paper::{Distortion, PaperRow, as_jpeg, distorted, report, scanned};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(otherwise)
}

fn counts(bytes: &[u8], media_type: &str, truth: &[Row], what: &str) -> Counts {
    let rows = lab_report_parsing::read(bytes, media_type).unwrap_or_else(|it| { println!("{what} {it}"); vec![] });
    let read: Vec<Row> = rows.iter().map(|[n, r, f, u]| Row { entry_name: n.clone(), result: r.clone(), reference: f.clone(), unit: u.clone() }).collect();
    let c = compare(&read, truth);
    if std::env::var_os("SHOW").is_some() {
        println!("{what}: {:?} {:.4}", c, c.score().f1);
        for it in &read { if compare(&[it.clone()], truth).right < 4 { println!("      read {:?}", [&it.entry_name, &it.result, &it.reference, &it.unit]); } }
        for it in truth { if compare(&read, &[it.clone()]).right < 4 { println!("      true {:?}", [&it.entry_name, &it.result, &it.reference, &it.unit]); } }
    }
    c
}

fn truth(rows: &[PaperRow]) -> Vec<Row> {
    rows.iter().map(|it| Row { entry_name: it.name.clone(), result: it.result.clone(), reference: it.reference.clone(), unit: it.unit.clone() }).collect()
}

fn variants() -> Vec<(&'static str, Distortion)> {
    let all = vec![
        ("scan", Distortion::None), ("90", Distortion::Quarters(1)), ("180", Distortion::Quarters(2)), ("270", Distortion::Quarters(3)),
        ("+7", Distortion::Lean(7.0)), ("-7", Distortion::Lean(-7.0)), ("warp", Distortion::Warp)];
    match std::env::var("ONLY") { Ok(only) => all.into_iter().filter(|it| only.split(',').any(|o| o == it.0)).collect(), _ => all }
}

#[test]
fn generated() {
    let (first, many) = (number("SEED", 1000), number("MANY", 6));
    let folder = std::path::PathBuf::from(std::env::temp_dir()).join(format!("papers-{first}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut sums: std::collections::BTreeMap<String, Vec<Counts>> = Default::default();
    let start = std::time::Instant::now();
    for seed in first..first + many {
        let paper = report(seed);
        let truth = truth(&paper.rows);
        sums.entry("pdf".into()).or_default().push(counts(&paper.pdf, "application/pdf", &truth, &format!("{seed} {:?} pdf", paper.layout)));
        let vs = variants();
        if vs.is_empty() { continue; }
        let page = scanned(&paper.pdf, 200, &folder);
        for (name, it) in vs {
            let jpeg = as_jpeg(&distorted(&page, it, seed));
            if std::env::var_os("KEEP").is_some() { std::fs::write(format!("/tmp/lab/{seed}{name}.jpg"), &jpeg).unwrap(); }
            sums.entry(name.into()).or_default().push(counts(&jpeg, "image/jpeg", &truth, &format!("{seed} {:?} {name}", paper.layout)));
        }
    }
    for (name, all) in sums { println!("{name:5} micro F1 {:.4} worst {:.3}", Counts::sum(&all).score().f1, all.iter().map(|it| it.score().f1).fold(1.0, f64::min)); }
    println!("{:?}", start.elapsed());
}

#[test]
fn of_the_material() {
    let Some(folder) = system_tests::reference().map(|it| it.join("material/documents/lab_reports")) else { return };
    for name in ["lab00", "lab02", "lab04", "lab01_scan", "lab03_scan"] {
        let bytes = std::fs::read(folder.join(format!("{name}.pdf"))).unwrap();
        let truth: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join(format!("{}.truth.json", &name[..5]))).unwrap()).unwrap();
        let t = |it: &serde_json::Value, k: &str| it[k].as_str().unwrap().to_owned();
        let truth: Vec<Row> = truth["observations"].as_array().unwrap().iter().map(|it| Row { entry_name: t(it, "name"), result: t(it, "value"), reference: t(it, "ref"), unit: t(it, "unit") }).collect();
        println!("{name} {:?}", counts(&bytes, "application/pdf", &truth, name).score());
    }
}
#[test]
fn dump() { std::fs::write("/tmp/lab/x.pdf", report(1001).pdf).unwrap(); }
fn picture(page: &image::GrayImage) -> imaging::Picture {
    let rgb = page.as_raw().iter().flat_map(|it| [*it; 3]).collect();
    imaging::Picture::new(page.width(), page.height(), rgb).unwrap()
}

#[test]
fn pap_30() {
    let folder = std::env::temp_dir();
    for seed in [2u64, 3, 5] {
        let page = scanned(&report(seed).pdf, 150, &folder);
        for (name, it) in variants() {
            let taken = distorted(&page, it, seed);
            let held = lab_report_parsing::held(&picture(&taken)).unwrap();
            let off = held.corners.map(|c| {
                let (want, _) = system_tests::paper::corners_of(page.width(), page.height(), &mut fastrand::Rng::with_seed(seed));
                c.iter().zip(want).map(|(a, b)| (a.0 - b.0).hypot(a.1 - b.1)).fold(0.0, f32::max) / taken.width() as f32
            });
            println!("{seed} {name} quarters {} lean {:.2} rest {:.2} corner {:?} {:?}", held.quarters, held.lean, held.rest, off, held.flaws);
        }
    }
}

#[test]
fn pap_36() {
    use system_tests::paper::{Damage, damaged};
    let folder = std::env::temp_dir();
    for seed in [2u64, 3, 5] {
        let page = scanned(&report(seed).pdf, 200, &folder);
        for it in [Damage::Cropped, Damage::Blurred, Damage::Shaded, Damage::Pale, Damage::Folded, Damage::Coarse] {
            let held = lab_report_parsing::held(&picture(&damaged(&distorted(&page, Distortion::None, seed), it))).unwrap();
            println!("{seed} {it:?} {:?}", held.flaws);
        }
    }
}
