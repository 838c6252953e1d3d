//! The requirements on tables of laboratory reports: PAP-09, PAP-10.

use super::*;

/// Left edges of four and of five columns.
const FOUR: &[f32] = &[60.0, 220.0, 320.0, 420.0];
const FIVE: &[f32] = &[60.0, 180.0, 260.0, 340.0, 430.0];

const HEADINGS: &[&str] = &["Test", "Result", "Unit", "Reference"];
const LEUKOCYTES: &[&str] = &["Leukocytes", "12.3", "10^9/L", "3.5-9.5"];
const NEUTROPHILS: &[&str] = &["Neutrophils", "8.1", "10^9/L", "1.8-7.5"];
const SODIUM: &[&str] = &["Sodium", "140", "mmol/L", "136-145"];

/// A page with these cells: letters of eleven points, lines of twenty.
fn page(columns: &[f32], rows: &[&[&str]]) -> Page {
    let mut words = Vec::new();
    let mut top = 100.0;
    for row in rows {
        for (left, text) in columns.iter().zip(row.iter()).filter(|(_, it)| !it.is_empty()) {
            let right = left + 5.5 * text.chars().count() as f32;
            let text = (*text).to_owned();
            let bottom = top + 11.0;
            words.push(Word { text, left: *left, top, right, bottom, chinese: None });
        }
        top += 20.0;
    }
    Page { words, ..Page::default() }
}

/// Names, results and doubts of the rows of a page.
fn read(columns: &[f32], rows: &[&[&str]]) -> Vec<String> {
    let found = entries(&[page(columns, rows)]).into_iter();
    let line = |it: Entry| {
        let doubts = it.doubts.iter().map(|doubt| format!("({doubt:?})"));
        let parts = [it.name.clone(), "=".to_owned(), it.result.clone()].into_iter().chain(doubts);
        parts.collect::<Vec<_>>().join(" ")
    };
    found.map(line).collect()
}

/// Field case p01: 1, 2, 7, 8, F, l; and comments of other kinds at other places.
#[test]
fn pap_09_a_comment_does_not_end_a_table() {
    for comment in [
        &["Comment: sample slightly hemolyzed, repeat"][..],
        &["Note: see page 2"],
        &["Remark: fasting"],
        &["备注：溶血"],
        &["Page 1 of 1", "", "", "printed 03.01.2026"],
        &["Method: flow cytometry"],
        &["CHEMISTRY"],
        &["* outside of the reference"],
        &["Specimen: serum"],
        &["Interpretation: values between 1.8 and 7.5 are usual in adults;"],
        &["These values were measured with another method than those before"],
    ] {
        let found = read(FOUR, &[HEADINGS, LEUKOCYTES, NEUTROPHILS, comment, SODIUM]);
        let expected = ["Leukocytes = 12.3", "Neutrophils = 8.1", "Sodium = 140"];
        assert_eq!(found, expected, "{comment:?}");
    }
}

#[test]
fn pap_09_a_comment_in_two_lines_is_no_part_of_a_name() {
    let comment: [&[&str]; 2] = [
        &["Interpretation: values between 1.8 and 7.5 are usual in adults;"],
        &["in pregnancy other limits apply."],
    ];
    let rows = [HEADINGS, LEUKOCYTES, NEUTROPHILS, comment[0], comment[1], SODIUM];
    assert_eq!(read(FOUR, &rows), ["Leukocytes = 12.3", "Neutrophils = 8.1", "Sodium = 140"]);
}

#[test]
fn pap_09_what_stands_below_the_end_of_a_table_is_doubted_or_no_row() {
    let end: &[&str] = &["Verified by: A. Person"];
    let rows = [HEADINGS, LEUKOCYTES, end, SODIUM, &["Pages", "2"]];
    assert_eq!(read(FOUR, &rows), ["Leukocytes = 12.3", "Sodium = 140 (BelowEnd)"]);
}

/// Field case p01, A; and dates in other forms and orders.
#[test]
fn pap_10_of_dated_columns_the_newest_is_the_result() {
    let headings = |first, second| ["Test", first, second, "Unit", "Reference"];
    let row: &[&str] = &["Leukocytes", "8.1", "12.3", "10^9/L", "3.5-9.5"];
    for (first, second, expected) in [
        ("01.12.2025", "03.01.2026", "Leukocytes = 12.3"),
        ("03.01.2026", "01.12.2025", "Leukocytes = 8.1"),
        ("2025-12-01", "2026-01-03", "Leukocytes = 12.3"),
        ("01-Dec-2025", "03-Jan-2026", "Leukocytes = 12.3"),
        ("2025年12月1日", "2026年1月3日", "Leukocytes = 12.3"),
        ("Previous", "03.01.2026", "Leukocytes = 12.3"),
        ("02/01/2026", "01/02/2026", "Leukocytes = 12.3 (Undated)"),
        ("Result", "01.12.2025", "Leukocytes = 8.1"),
        ("Previous result", "Result", "Leukocytes = 12.3"),
    ] {
        let found = read(FIVE, &[&headings(first, second), row]);
        assert_eq!(found, [expected], "{first} {second}");
    }
}

#[test]
fn pap_10_a_name_in_two_lines_is_read_whole_and_doubted() {
    let rows: [&[&str]; 4] =
        [HEADINGS, &["Glomerular filtration"], &["rate (CKD-EPI)", "58", "mL/min", "> 60"], SODIUM];
    let expected = ["Glomerular filtration rate (CKD-EPI) = 58 (BelowName)", "Sodium = 140"];
    assert_eq!(read(FOUR, &rows), expected);
    // A section is no name, nor is `pH` the rest of one.
    let rows: [&[&str]; 3] = [HEADINGS, &["Blood gases"], &["pH", "7.40", "", "7.35-7.45"]];
    assert_eq!(read(FOUR, &rows), ["pH = 7.40"]);
}

/// Names, results and doubts of four rows, the second of which has this result and this spot.
fn read_with_spot(result: &str, [left, right]: [f32; 2], doubt: Doubt) -> Vec<String> {
    let second: &[&str] = &["Neutrophils", result, "10^9/L", "1.8-7.5"];
    let mut page = page(FOUR, &[HEADINGS, LEUKOCYTES, second, SODIUM]);
    page.spots.push(Spot { place: [left, 142.0, right, 149.0], doubt });
    let line = |it: Entry| format!("{} = {} {:?}", it.name, it.result, it.doubts);
    entries(&[page]).into_iter().map(line).collect()
}

#[test]
fn pap_36_a_row_on_a_doubtful_place_is_doubted_and_its_neighbours_are_not() {
    for (place, doubt) in [
        ([206.0, 214.0], Doubt::UnreadInk),
        ([220.0, 236.0], Doubt::Uncertain),
        ([50.0, 120.0], Doubt::AtEdge),
        ([420.0, 440.0], Doubt::Overlapping),
    ] {
        let expected = [
            "Leukocytes = 12.3 {}".to_owned(),
            format!("Neutrophils = 8.1 {{{doubt:?}}}"),
            "Sodium = 140 {}".to_owned(),
        ];
        assert_eq!(read_with_spot("8.1", place, doubt), expected);
    }
}

#[test]
fn pap_36_a_row_whose_result_is_ink_that_was_not_read_is_not_lost() {
    let found = read_with_spot("", [222.0, 240.0], Doubt::UnreadInk);
    assert_eq!(found.get(1).unwrap(), "Neutrophils = \u{fffd} {UnreadInk}");
    // Without ink there is no result: nothing was measured.
    let found = read_with_spot("", [422.0, 440.0], Doubt::UnreadInk);
    assert_eq!(found.len(), 2);
}

#[test]
fn pap_36_two_values_in_a_cell_and_a_second_line_of_values_are_doubted() {
    let two: &[&str] = &["Neutrophils", "8.1 7.42", "10^9/L", "1.8-7.5"];
    let second: &[&str] = &["", "", "g/L", "3.5-5.0"];
    let found = entries(&[page(FOUR, &[HEADINGS, two, SODIUM, second])]);
    let doubts: Vec<String> = found.iter().map(|it| format!("{:?}", it.doubts)).collect();
    assert_eq!(doubts, ["{TwoValues}", "{TwoLines}"]);
}
