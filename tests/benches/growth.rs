//! Whether instances are taken as fast with a long history as without one.
//!
//! `cargo bench -p system-tests --bench growth -- PAIRS STUDIES...`: beside an engine without history, one after
//! the other with so many studies, filled in by SQL, with their series, instances, patients and sealed events.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench that cannot go on has nothing to say"
)]

use std::time::{Duration, Instant};

use system_tests::measuring::{Load, Receiver, Series, median, plot, store_all, table};

const LOAD: Load = Load { name: "2 KB", instances: 1000, size: 16, associations: 4 };

/// Longest wait for the events of the history to be sealed.
const SEALED_TIME_MAX: Duration = Duration::from_mins(20);

const HEAD: &[&str] =
    &["studies in the index", "instances/s", "of an empty one's in the same pair"];

#[tokio::main]
async fn main() {
    let said = std::env::args().skip(1).filter(|it| it != "--bench");
    let numbers: Vec<u64> = said.map(|it| it.parse().unwrap()).collect();
    let (pairs, sizes) = numbers.split_first().expect("a number of pairs, and numbers of studies");
    let (empty, full) = (Receiver::isocenter().await, Receiver::isocenter().await);
    let (mut rows, mut filled) = (Vec::new(), 0);
    let mut line = Series::new("isocenter");
    let mut places = Vec::new();
    for size in sizes {
        fill(&full, filled, *size).await;
        filled = *size;
        let (mut rates, mut ratios) = (Vec::new(), Vec::new());
        for pair in 0..*pairs {
            // Who begins changes.
            let (one, other) = if pair % 2 == 0 { (&empty, &full) } else { (&full, &empty) };
            let (first, second) = (rate(one).await, rate(other).await);
            let (bare, laden) = if pair % 2 == 0 { (first, second) } else { (second, first) };
            rates.push(laden);
            ratios.push(laden / bare);
        }
        rows.push(vec![
            size.to_string(),
            format!("{:.0}", median(&rates)),
            format!("{:.2}", median(&ratios)),
        ]);
        println!("{}", table(HEAD, &rows));
        line.points.push(median(&ratios));
        places.push(size.to_string());
    }
    let svg = plot("Rate with a history, of that without", "ratio", &places, &[line]);
    std::fs::write(system_tests::root().join("target/growth.svg"), svg).unwrap();
}

async fn rate(receiver: &Receiver) -> f64 {
    let shares = LOAD.shares();
    let count: usize = shares.iter().map(Vec::len).sum();
    receiver.tidy();
    count as f64 / store_all(&receiver.remote, shares).await.as_secs_f64()
}

/// Adds studies number `from` to `to`, one instance each, and waits until their events are sealed.
async fn fill(receiver: &Receiver, from: u64, to: u64) {
    let hospital = receiver.hospital().unwrap();
    let each = format!("from generate_series({}, {to}) n", from + 1);
    let statements = [
        format!("insert into patient (id, value, issuer) select md5('p' || n)::uuid, 'P' || n, '' {each}"),
        format!("insert into patient_identifier select 'P' || n, '', md5('p' || n)::uuid {each}"),
        format!(
            "insert into study (uid, patient, accession, description, study_date, study_time, study_id,
                placer, filler, requested_procedure, told)
             select '1.2.3.' || n, md5('p' || n)::uuid, 'A' || n, 'CT', '20200101', '', '', '', '', '',
                '{{\"idle\": \"no\"}}' {each}"
        ),
        format!(
            "insert into series (uid, study, modality, body_part, description, frame_of_reference)
             select '1.2.3.' || n || '.1', '1.2.3.' || n, 'CT', 'CHEST', '', '' {each}"
        ),
        format!(
            "insert into instance (uid, sha256, series, study, sop_class, transfer_syntax, bytes, calling_ae,
                is_current)
             select '1.2.3.' || n || '.1.1', md5('a' || n) || md5('b' || n), '1.2.3.' || n || '.1',
                '1.2.3.' || n, '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', 524288, 'CT1', true {each}"
        ),
        format!(
            "select count(audit.append(gen_random_uuid(), jsonb_build_object('kind', 'instance_received',
                'action', 'C', 'outcome', 0,
                'actor', jsonb_build_object('kind', 'peer', 'id', 'CT1', 'address', '127.0.0.1'),
                'subject', jsonb_build_object('patient', md5('p' || n)::uuid, 'study', '1.2.3.' || n,
                    'accession', 'A' || n, 'instance', '1.2.3.' || n || '.1.1'),
                'detail', jsonb_build_object('sha256', md5('a' || n) || md5('b' || n))))) {each}"
        ),
        "analyze".to_owned(),
    ];
    for statement in statements {
        let (is_done, said) = hospital.sql("admin", &statement);
        assert!(is_done, "{said}");
    }
    let begin = Instant::now();
    let sealed =
        "do $$ begin assert (select count(*) from audit.event) - (select count(*) from audit.seal)
        < 1000; end $$";
    while !hospital.sql("admin", sealed).0 {
        assert!(begin.elapsed() < SEALED_TIME_MAX, "the history is not sealed");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
