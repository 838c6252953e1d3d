//! A short attack on everything that reads what comes from outside. `cargo fuzzing` does the same for long.

use system_tests::fuzzing;

/// Inputs for each. What was found once, with these seeds or others, has a test where it was mended.
const INPUTS: u64 = 3_000;

#[test]
fn sec_21_no_bytes_from_outside_upset_who_reads_them() {
    for target in fuzzing::all() {
        match target.attack(1, |it| it >= INPUTS) {
            Ok(tried) => assert_eq!(tried.inputs, INPUTS),
            Err(found) => panic!("{found}"),
        }
    }
}

/// The attack itself: it comes upon what only few inputs lead to, and says which did.
#[test]
fn what_cannot_bear_an_input_is_found() {
    let careless = |bytes: &[u8]| assert_ne!(bytes.get(4..8), Some(&[0xFF; 4][..]));
    let target = fuzzing::Target::new("careless", vec![b"MSH|^~\\&|A|B".to_vec()], careless);
    let Err(found) = target.attack(1, |it| it >= 100_000) else { panic!("nothing was found") };
    assert!(found.contains("ffffffff"), "{found}");
}
