//! Fuzzes every reader of external bytes for a short time. `cargo fuzzing` does so for longer.

use system_tests::fuzzing;

/// Inputs for each target. A defect that fuzzing has found has a test of its own beside its fix.
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

/// Checks the fuzzer itself: it finds a defect that few inputs reach, and names the input.
#[test]
fn a_target_that_panics_on_few_inputs_is_found() {
    let careless = |bytes: &[u8]| assert_ne!(bytes.get(4..8), Some(&[0xFF; 4][..]));
    let target = fuzzing::Target::new("careless", vec![b"MSH|^~\\&|A|B".to_vec()], careless);
    let Err(found) = target.attack(1, |it| it >= 100_000) else { panic!("nothing was found") };
    assert!(found.contains("ffffffff"), "{found}");
}
