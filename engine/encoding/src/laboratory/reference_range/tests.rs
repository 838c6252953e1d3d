//! The requirements on reference ranges, HL7-60 to HL7-63 and PAP-12.

use domain::Abnormality::{self, Abnormal, High, Low, Normal, Unknown};

use super::compare;

#[track_caller]
fn check(rows: &[(&str, &str, Abnormality)]) {
    for (result, reference, expected) in rows {
        assert_eq!(compare(result, reference, "g/L"), *expected, "{result} against {reference}");
    }
}

/// Every decimal result against every form of one range: inside, on the bounds, outside.
#[test]
fn pap_12_bounds_are_inclusive_in_every_form_of_a_range() {
    let ranges = [
        "3.5-9.5",
        "3.5 - 9.5",
        "3.5～9.5",
        "3.5--9.5",
        "[3.5-9.5]",
        "(3.5-9.5)",
        "３.５－９.５",
        "3.5–9.5",
        "3.5至9.5",
        "3.5 to 9.5",
        "3.5~9.5",
        "3.5-9.5 g/L",
    ];
    let results = [
        ("3.49", Low),
        ("0", Low),
        ("3.5", Normal),
        ("3.50", Normal),
        ("6", Normal),
        ("9.5", Normal),
        ("9.51", High),
        ("12.3", High),
        ("100", High),
        ("１２.３", High),
    ];
    for range in ranges {
        check(&results.map(|(result, expected)| (result, range, expected)));
    }
}

#[test]
fn pap_12_results_with_comparators() {
    check(&[
        ("<0.5", "<5", Normal),
        ("<0.5", "<0.5", Normal),
        ("<0.5", "≤0.5", Normal),
        ("≤0.5", "<0.5", Unknown),
        ("<0.5", "3.5-9.5", Low),
        ("<3.5", "3.5-9.5", Low),
        ("<5", "3.5-9.5", Unknown),
        (">9.5", "3.5-9.5", High),
        (">9", "3.5-9.5", Unknown),
        (">=9.5", "3.5-9.5", Unknown),
        (">5", "<5", High),
        (">=5", "<5", High),
        (">5", "<=5", High),
        (">10", "<5", High),
        ("<5", ">5", Low),
        ("<5", ">=5", Low),
        (">90", ">90", Normal),
        (">90", ">60", Normal),
        (">60", ">90", Unknown),
        ("<0.1", "0-5", Normal),
        ("<0.1", "0.0-0.4", Normal),
        ("<=0.1", "0-5", Normal),
    ]);
}

#[test]
fn pap_12_references_with_one_end() {
    check(&[
        ("4.9", "<5", Normal),
        ("5", "<5", High),
        ("5", "<=5", Normal),
        ("5", "≤5", Normal),
        ("5.1", "≤5", High),
        ("5", ">5", Low),
        ("5", ">=5", Normal),
        ("5", "≥5", Normal),
        ("4.9", "≥5", Low),
        ("60", ">60", Low),
        ("61", ">60", Normal),
        ("3", "up to 5", Normal),
        ("6", "up to 5", High),
        ("0", "<5", Normal),
        ("100", ">=90", Normal),
        ("7", "5-", Normal),
        ("4", "5-", Low),
        ("1", "=1", Normal),
        ("2", "=1", High),
    ]);
}

#[test]
fn pap_12_qualities() {
    let positive = [
        "positive",
        "Positive",
        "POS",
        "+",
        "++",
        "+++",
        "++++",
        "1+",
        "2+",
        "3+",
        "4+",
        "+1",
        "+2",
        "阳性",
        "弱阳性",
        "±",
        "Trace",
        "Detected",
        "Reactive",
        "阳性(+)",
    ];
    let negative = [
        "Negative",
        "NEG",
        "neg",
        "-",
        "(-)",
        "阴性",
        "阴性(-)",
        "Not Detected",
        "Non-Reactive",
        "未检出",
        "None seen",
        "Nil",
    ];
    for usual in ["Negative", "阴性", "阴性(-)", "Not detected", "neg"] {
        check(&positive.map(|result| (result, usual, Abnormal)));
        check(&negative.map(|result| (result, usual, Normal)));
    }
    check(&[("negative", "Positive", Abnormal), ("阳性", "阳性", Normal)]);
}

#[test]
fn pap_12_dilutions() {
    check(&[
        ("1:128", "<1:40", High),
        ("1:20", "<1:40", Normal),
        ("1:40", "<1:40", High),
        ("1:40", "≤1:40", Normal),
        ("<1:10", "<1:40", Normal),
        ("1:80", "1:80", Normal),
    ]);
}

#[test]
fn hl7_63_what_cannot_be_told_is_never_normal() {
    check(&[
        ("", "3.5-9.5", Unknown),
        ("6", "", Unknown),
        ("hemolysed", "3.5-9.5", Unknown),
        ("6", "Negative", Unknown),
        ("1+", "3.5-9.5", Unknown),
        ("6", "see note", Unknown),
        ("6", "9.5-3.5", Unknown),
        ("1e999", "1-2", Unknown),
        ("6", "M: 3-5; F: 2-4", Unknown),
        ("6", "3.5-9.5 mg/L", Unknown),
        ("6 mg/L", "3.5-9.5", Unknown),
        ("NaN", "1-2", Unknown),
        ("1.2.3", "1-2", Unknown),
        ("12,3", "3.5-9.5", Unknown),
        ("cloudy", "clear", Unknown),
        ("inf", "1-2", Unknown),
        ("--", "1-2", Unknown),
        ("<", "1-2", Unknown),
    ]);
}

#[test]
fn pap_12_words_and_negative_numbers() {
    check(&[
        ("Yellow", "yellow", Normal),
        ("-2", "-3-3", Normal),
        ("-4", "-3-3", Low),
        ("-3", "-3-3", Normal),
        ("6 g/L", "3.5-9.5 g/L", Normal),
        ("0.5", ".5-1", Normal),
        ("-1.5", "-2.5--1.0", Normal),
        ("0", "-5--2", High),
        ("-6", "-5--2", Low),
        ("-3", "-5 - -2", Normal),
        ("3", "-3--5", Unknown),
    ]);
}

/// Field case h11: what is no range gives no flag.
#[test]
fn hl7_62_what_is_no_range_is_compared_with_nothing() {
    for (result, reference) in [
        ("150", "200"),
        ("200", "200"),
        ("2", "0"),
        ("0.8", "1"),
        ("3", "0-0"),
        ("0", "0-0"),
        ("5", "5-5"),
        ("5.0", "-9.5"),
        ("12", "-9.5"),
        ("-9.5", "-9.5"),
        ("N/A", "N/A"),
        ("See note", "See note"),
        ("pending", "pending"),
        ("cancelled", "cancelled"),
        ("-", "-"),
        ("--", "--"),
    ] {
        check(&[(result, reference, Unknown)]);
    }
}

#[test]
fn hl7_62_one_end_is_read_in_words() {
    check(&[
        ("101", "< OR = 100", High),
        ("101", "<or=100", High),
        ("100", "< or = 100", Normal),
        ("90", "> OR = 60", Normal),
        ("59", ">or=60 g/L", Low),
        ("99", "99 or less", Normal),
        ("100", "99 or less", High),
        ("5", "5 g/L or more", Unknown),
        ("4", "5 or more", Low),
        ("5", "Less than 5", High),
        ("less than 5", "<5", Normal),
        ("7", "At least 6", Normal),
        ("7", "小于5", High),
        ("None detected", "None Detected", Normal),
    ]);
}

#[test]
fn hl7_62_a_fraction_is_not_compared_with_a_percentage() {
    for (result, reference, expected) in [
        ("40", "0.37-0.47", Unknown),
        ("20", "0.37-0.47", Unknown),
        ("0.40", "37-47", Unknown),
        ("40", "37-47", Normal),
        ("0.5", "0-1", Normal),
        ("2", "0-1", High),
        ("0.2", "40-70", Low),
        ("0.3", "0.2-0.5", Normal),
    ] {
        assert_eq!(compare(result, reference, "%"), expected, "{result} % in {reference}");
    }
}
