//! Results of laboratories: patients, units, statuses, flags, panels, corrections, values, names.

use system_tests::Hospital;

use crate::case::{Case, run};
use crate::message::{Report, Row, reports_of, send};
use crate::site::Kind;

/// The only report about a patient. Without one, the case has a wrong check.
fn only_report(hospital: &Hospital, case: &mut Case, patient: &str) -> Option<Report> {
    let reports = reports_of(hospital, patient);
    let count = reports.len();
    case.check("one report", count == 1, format!("{count} reports"));
    reports.into_iter().next()
}

/// The row of a report with this value, or an empty one.
fn row(report: Option<&Report>, value: &str) -> Row {
    report.and_then(|it| it.row(value)).unwrap_or_default()
}

#[test]
fn field_h01_two_patients_in_one_oru() {
    run(Kind::Hospital, "h01-two-patients-in-one-oru", async |site, case| {
        let hospital = &site.hospital;
        let sent = case.send(hospital, "in.hl7").await;

        let first = reports_of(hospital, "H01P1");
        let second = reports_of(hospital, "H01P2");
        let has = |all: &[Report], value: &str| all.iter().any(|it| it.row(value).is_some());
        let is_mixed = has(&first, "7.4") || has(&second, "4.1");
        case.check("no result of another patient", !is_mixed, "both under one patient");
        let is_refused = sent.code == "AE" && first.is_empty() && second.is_empty();
        let is_whole = sent.code == "AA" && has(&first, "4.1") && has(&second, "7.4");
        case.check("refused, or both taken", is_refused || is_whole, &sent.answer);
        let is_told = is_whole || !sent.problem().is_empty();
        case.check("the refusal is told", is_told, &sent.why);
    });
}

#[test]
fn field_h02_unit_with_bare_caret() {
    run(Kind::Hospital, "h02-unit-with-bare-caret", async |site, case| {
        let hospital = &site.hospital;
        case.send(hospital, "in.hl7").await;

        let report = only_report(hospital, case, "H02");
        let text = report.as_ref().map(|it| it.text.clone()).unwrap_or_default();
        let expected: [(&str, &[&str]); 7] = [
            ("12.3", &["10*3/uL", "10^3/uL"]),
            ("250", &["10*9/L", "10^9/L"]),
            ("4.6", &["10*6/uL", "10^6/uL", "x10^6/uL"]),
            ("85", &["mL/min/1.73m2", "mL/min/1.73m^2", "mL/min/{1.73_m2}"]),
            ("13.2", &["g/dL"]),
            ("99", &["mg/dL"]),
            ("8.1", &["10*3/uL", "10^3/uL"]),
        ];
        for (value, units) in expected {
            let row = row(report.as_ref(), value);
            let is_unknown_and_told = row.unit.is_empty() && text.contains("unit");
            let is_right = units.contains(&row.unit.as_str()) || is_unknown_and_told;
            case.check(format!("unit of {value}"), is_right, format!("`{}`", row.unit));
        }
    });
}

#[test]
fn field_h03_status_of_observations() {
    run(Kind::Hospital, "h03-status-of-observations", async |site, case| {
        let hospital = &site.hospital;
        case.send(hospital, "in.hl7").await;

        let report = only_report(hospital, case, "H03");
        let values: Vec<String> = report.iter().flat_map(Report::rows).map(|it| it.value).collect();
        for value in ["4.1", "33", "31"] {
            case.check(format!("{value} is a result"), values.iter().any(|it| it == value), "none");
        }
        for value in ["512", "118", "cancelled: clotted", "9.9", "0", "pending"] {
            let is_result = values.iter().any(|it| it == value);
            case.check(format!("{value} is no result"), !is_result, "it is one");
        }
        let text = report.map(|it| it.text.to_lowercase()).unwrap_or_default();
        for word in ["preliminary", "corrected"] {
            case.check(format!("{word} is told"), text.contains(word), &text);
        }
        withdrawn(hospital, case).await;
    });
}

/// The same results as final ones of another patient, and then with their statuses: what was sent
/// of them before is taken back.
async fn withdrawn(hospital: &Hospital, case: &mut Case) {
    let text = String::from_utf8(case.read("in.hl7")).unwrap();
    let text = text.replace("H03^", "H03B^");
    let finals: Vec<String> = text
        .lines()
        .filter(|it| !it.contains("cancelled: clotted") && !it.contains("pending"))
        .map(|line| match line.rsplit_once('|') {
            Some((before, _)) if line.starts_with("OBX") => format!("{before}|F"),
            _ => line.to_owned(),
        })
        .collect();
    send(hospital, finals.join("\n").replace("|H03A|", "|H03B|").as_bytes()).await;
    let has_been_sent = reports_of(hospital, "H03B").iter().any(|it| it.row("512").is_some());
    case.check("the result before its withdrawal", has_been_sent, "it was not sent");
    send(hospital, text.replace("|H03A|", "|H03C|").as_bytes()).await;
    let reports = reports_of(hospital, "H03B");
    let last = reports.last();
    let is_of_the_same =
        last.map(|it| it.field("OBR", 3)) == reports.first().map(|it| it.field("OBR", 3));
    let is_result = |it: &Row| it.value == "512" && !["D", "W", "X"].contains(&it.status.as_str());
    let is_gone = reports.len() > 1 && !last.is_some_and(|it| it.rows().iter().any(is_result));
    let seen = format!("{} reports, the last {}", reports.len(), last.map_or("", |it| &it.text));
    case.check("what was sent before is taken back", is_of_the_same && is_gone, seen);
}

#[test]
fn field_h04_flags_without_range() {
    run(Kind::Hospital, "h04-flags-without-range", async |site, case| {
        let hospital = &site.hospital;
        case.send(hospital, "in.hl7").await;

        let report = only_report(hospital, case, "H04");
        let expected: [(&str, &[&str]); 7] = [
            ("7.4", &["HH"]),
            ("2.4", &["HH"]),
            ("Gram positive cocci in clusters", &["AA"]),
            ("6.2", &["H"]),
            ("31", &["LL"]),
            (">=32", &["R"]),
            // The range has commas: N is right as well, if it is computed.
            ("12.1", &["H", "N"]),
        ];
        for (value, flags) in expected {
            let row = row(report.as_ref(), value);
            let is_right = flags.contains(&row.flag.as_str());
            case.check(format!("flag of {value}"), is_right, format!("`{}`", row.flag));
        }
    });
}

#[test]
fn field_h05_panels_specimens_subids() {
    run(Kind::Hospital, "h05-panels-specimens-subids", async |site, case| {
        let hospital = &site.hospital;
        case.send(hospital, "in.hl7").await;

        let report = only_report(hospital, case, "H05");
        let text = report.as_ref().map(|it| it.text.clone()).unwrap_or_default();
        for specimen in ["Serum", "Cerebrospinal fluid"] {
            case.check(format!("specimen {specimen}"), text.contains(specimen), &text);
        }
        let is_told = text.contains("Phoned to ward 3");
        case.check("note", is_told, &text);
        for (value, time) in [("96", "20260103080000"), ("21", "20260103081000")] {
            let seen = row(report.as_ref(), value).time;
            let is_right = seen.starts_with(time)
                || report
                    .as_ref()
                    .is_some_and(|it| it.fields("OBR", 7).iter().any(|it| it == time));
            case.check(format!("time of {value}"), is_right, seen);
        }
    });
}

#[test]
fn field_h06_authority_only_as_oid() {
    run(Kind::Hospital, "h06-authority-only-as-oid", async |site, case| {
        let hospital = &site.hospital;
        case.send(hospital, "in1.hl7").await;
        case.send(hospital, "in2.hl7").await;

        let reports = reports_of(hospital, "4711");
        case.check("two reports", reports.len() == 2, reports.len());
        let expected = [("4.5", "1.2.3.111", "ALPHA^ANNA"), ("5.5", "1.2.3.222", "BETA^BERT")];
        for (value, authority, name) in expected {
            let report = reports.iter().find(|it| it.row(value).is_some());
            let patient = report.map(|it| it.field("PID", 3)).unwrap_or_default();
            case.check(format!("authority of {value}"), patient.contains(authority), &patient);
            let seen = report.map(|it| it.field("PID", 5)).unwrap_or_default();
            case.check(format!("name of {value}"), seen == name, seen);
        }
    });
}

#[test]
fn field_h11_reference_ranges() {
    run(Kind::Hospital, "h11-reference-ranges", async |site, case| {
        let hospital = &site.hospital;
        case.send(hospital, "in.hl7").await;

        let report = only_report(hospital, case, "H11");
        let rows: Vec<Row> = report.iter().flat_map(Report::rows).collect();
        for (number, (right, range)) in FLAGS.into_iter().enumerate() {
            let code = format!("T{:02}", number + 1);
            let row = rows.iter().find(|it| it.code == code);
            // Nothing is said of what is not understood: that is right for every range.
            let is_right =
                row.is_some_and(|it| it.flag.is_empty() || right.contains(&it.flag.as_str()));
            let seen = row.map_or_else(|| "no row".to_owned(), |it| format!("`{}`", it.flag));
            case.check(format!("{code} {range}"), is_right, seen);
        }
    });
}

/// Of each test of h11: the flags that are right, and its value and range.
const FLAGS: [(&[&str], &str); 67] = [
    (&["N"], "5.0 in -9.5"),
    (&["N"], "0.3 in - 0.5"),
    (&[], "150 in 200"),
    (&[], "3 in 0-0"),
    (&["H"], "0 in -5--2"),
    (&["N"], "-1.5 in -2.5--1.0"),
    (&[], "N/A in N/A"),
    (&[], "See note in See note"),
    (&[], "pending in pending"),
    (&["H"], "5 in <5"),
    (&["N"], "5 in <=5"),
    (&[], "<5 in 0-4"),
    (&["H"], "1:128 in <1:40"),
    (&["N"], "1:20 in <1:40"),
    (&["N"], "12,3 in 11,5-16,0"),
    (&["N"], "1,234 in 1,000-2,000"),
    (&["N"], "4.5 in 3.5-5.1 mmol/L (fasting)"),
    (&["N"], "4.5 in 3.5 - 5.1"),
    (&["N"], "4.5 in [3.5-5.1]"),
    (&["N"], "4.5 in 3.5 to 5.1"),
    (&["N"], "4.5 in 3.5-5.1^^^M"),
    (&["N"], "4.5 in 3.5~5.1"),
    (&["N"], "4.5 in Adult: 3.5-5.1"),
    (&["H"], "6 in up to 5"),
    (&["H"], "6 in at most 5"),
    (&["H"], "6 in &lt;5"),
    (&["H"], "0.05 in <0.04"),
    (&["N"], "<0.01 in <0.04"),
    (&["N"], ">90 in >60"),
    (&["A", "H"], "1+ in Negative"),
    (&["N"], "Neg in Negative"),
    (&["N"], "- in Negative"),
    (&["A"], "Not detected in Detected"),
    (&["H"], "1e3 in 0-500"),
    (&["H"], "10^5 in <10^4"),
    (&["H"], "1.0E+05 in <10000"),
    (&[], "2 in 0.0-1.0-2.0"),
    (&["N"], "7.35 in 7.35-7.45"),
    (&["N"], "98.6 in 97-99"),
    (&["A"], "Reactive in Non-Reactive"),
    (&["A"], "Trace in Negative"),
    (&["H"], "12.3 H in 11-12"),
    (&["H"], "12.3* in 11-12"),
    (&[], "2+3 in 0-1"),
    (&[], "4.5 mmol/L in 3.5-5.1 mg/dL"),
    (&["L"], "0.5 in .6-1.2"),
    (&["L"], "0.5 in 0.6 -"),
    (&["N"], "70 in 70 to 99 with a dash"),
    (&["N"], "40 % in 0.37-0.47"),
    (&["N"], "0.40 in 37-47 %"),
    (&["N"], "99 in 99 or less"),
    (&["H"], "101 in < OR = 100"),
    (&["H"], "101 in <or=100"),
    (&["N"], "90 in > OR = 60"),
    (&["N"], "4.0 in 4.0(L)-6.0"),
    (&["N"], "NEGATIVE in NEG"),
    (&["N"], "None Detected in None Detected"),
    (&["N"], "Positive in Positive"),
    (&["N"], "0 in 0"),
    (&[], "2 in 0"),
    (&["N"], "250 in 150-450 K/uL"),
    (&[], "0.8 in 1"),
    (&["H"], "38 in 25-35 seconds"),
    (&["N"], ".5 in 0.1-1.0"),
    (&["N"], "5 in 3.5 to 5.1 with a dash"),
    (&["N"], "5 in 3,5-5,1"),
    (&["N"], "1.8 in 0-4 ng/ml"),
];

#[test]
fn field_h13_coded_results() {
    run(Kind::Hospital, "h13-coded-results", async |site, case| {
        let hospital = &site.hospital;
        case.send(hospital, "in.hl7").await;

        let report = only_report(hospital, case, "H13");
        let rows: Vec<Row> = report.iter().flat_map(Report::rows).collect();
        let text = report.map(|it| it.text).unwrap_or_default();
        let expected = [
            ("Bacteria", "Escherichia coli"),
            ("Last menstrual period", "20251201"),
            ("Time of draw", "0815"),
            ("Titration", "1.1"),
            ("ABO Rh", "A positive"),
            ("Comment", "Line one"),
            ("Color", "Yellow"),
        ];
        for (name, value) in expected {
            let is_row = rows.iter().any(|it| it.name == name && it.value.contains(value));
            let is_told = text.contains(&format!("Not read: {name}"));
            case.check(name, is_row || is_told, &text);
        }
        let is_repetition_there = text.contains("Line two & three");
        case.check("second repetition of a text", is_repetition_there, &text);
    });
}

#[test]
fn field_h14_escapes() {
    run(Kind::Hospital, "h14-escapes", async |site, case| {
        let hospital = &site.hospital;
        case.send(hospital, "in-latin1.hl7").await;

        let report = only_report(hospital, case, "H14");
        let name = report.as_ref().map(|it| it.field("PID", 5)).unwrap_or_default();
        case.check("name", name == "Lefèvre^Renée", name);
        let rows: Vec<Row> = report.iter().flat_map(Report::rows).collect();
        let mut check = |code: &str, is_right: fn(&Row) -> bool| {
            let row = rows.iter().find(|it| it.code == code);
            let seen = row.map_or_else(String::new, |it| format!("`{}` `{}`", it.value, it.unit));
            case.check(code, row.is_some_and(is_right), seen);
        };
        check("T1", |it| it.value.contains("Titre 4\\5 re."));
        check("T2", |it| it.value.contains("one") && it.value.contains("two"));
        check("T3", |it| it.value.split_whitespace().eq(["one", "two"]));
        // The standard has capital letters only.
        check("T4", |it| it.value == "aAb" || it.value == "a\\x41\\b");
        check("T5", |it| it.value.contains('a') && !it.value.contains(".in+4"));
        check("T7", |it| it.unit == "mg^2" || it.unit == "mg2");
    });
}

#[test]
fn field_h17_correction_of_a_result() {
    run(Kind::Hospital, "h17-correction-of-a-result", async |site, case| {
        let hospital = &site.hospital;
        case.send(hospital, "in1.hl7").await;
        case.send(hospital, "in2.hl7").await;

        let reports = reports_of(hospital, "H17");
        case.check("two reports", reports.len() == 2, reports.len());
        let first = reports.first();
        let last = reports.last().filter(|_| reports.len() > 1);
        let filler = |it: Option<&Report>| it.map(|it| it.field("OBR", 3)).unwrap_or_default();
        let is_same = !filler(last).is_empty() && filler(first) == filler(last);
        let seen = format!("{} and {}", filler(first), filler(last));
        case.check("the same OBR-3", is_same, seen);
        let status = last.map(|it| it.field("OBR", 25)).unwrap_or_default();
        case.check("status of the correction", status == "C", status);
        let row = row(last, "4.9");
        case.check("status of its row", row.status == "C", format!("`{}`", row.status));
        let is_old_there = last.is_some_and(|it| it.row("7.9").is_some());
        case.check("the old value is gone", last.is_some() && !is_old_there, "it is still there");
        let text = last.map(|it| it.text.clone()).unwrap_or_default();
        let names_order = ["H17ACC", "H17PL", "H17FL"].iter().any(|it| text.contains(it));
        case.check("the order is named", names_order, text);
    });
}
