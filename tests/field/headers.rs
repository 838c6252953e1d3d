//! Images: what their headers say of patient and study, their names and UIDs, and who sends them.

use dicom_dictionary_std::tags;

use crate::case::{Case, run};
use crate::images::Right::{Measured, MeasuredOrRefused};
use crate::images::{ML_TOLERANCE, TRUE_ML, Variant, check_all, python_lines, sent, text};
use crate::message::settled;
use crate::site::Kind;

/// The values of an element in all objects that the PACS got.
fn values(variant: &Variant, tag: dicom_core::Tag) -> Vec<String> {
    let mut values: Vec<String> = variant.objects.iter().map(|it| text(it, tag)).collect();
    values.dedup();
    values
}

/// A field of the reports on a variant.
fn fields(variant: &Variant, segment: &str, number: usize) -> Vec<String> {
    variant.reports.iter().map(|it| it.field(segment, number)).collect()
}

/// Checks that no output has this identity in another form: it goes out whole, or nothing does.
fn check_identity(case: &mut Case, variant: &Variant, what: &str, seen: &[String], whole: &str) {
    let is_right = seen.iter().all(|it| it == whole);
    case.check(format!("{}: {what}", variant.name), is_right, format!("{seen:?}"));
}

/// What was sent has one patient identifier.
fn sent_ids(variant: &Variant) -> Vec<String> {
    let ids = fields(variant, "PID", 3);
    ids.iter().map(|it| it.split('^').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn field_d06_dirty_headers() {
    run(Kind::Hospital, "d06-dirty-headers", async |site, case| {
        let variants = sent(site, case).await;
        let names: Vec<String> = variants.all.iter().map(|it| it.name.clone()).collect();
        for name in names {
            let variant = variants.named(&name);
            case.check(&name, MeasuredOrRefused.holds(variant), variant.seen());
            let texts = [tags::PATIENT_NAME, tags::STUDY_DESCRIPTION, tags::PATIENT_ID];
            let texts: Vec<String> = texts.iter().flat_map(|it| values(variant, *it)).collect();
            let is_clean = !texts.concat().chars().any(char::is_control);
            case.check(format!("{name}: no control characters"), is_clean, format!("{texts:?}"));
        }
        let dates = variants.named("a-dates");
        check_identity(case, dates, "study date", &values(dates, tags::STUDY_DATE), "20260103");
        let observed = fields(dates, "OBR", 7);
        let is_right = observed.iter().all(|it| it.starts_with("20260103"));
        case.check("a-dates: OBR-7", is_right, format!("{observed:?}"));
        let long = variants.named("b-long");
        let whole = "D06B-PATIENT-ID-OF-MORE-THAN-SIXTY-FOUR-CHARACTERS-0123456789012345";
        check_identity(case, long, "Patient ID", &values(long, tags::PATIENT_ID), whole);
        check_identity(case, long, "PID-3", &sent_ids(long), whole);
        let birth = variants.named("c-sex-age");
        check_identity(case, birth, "birth date", &values(birth, tags::PATIENT_BIRTH_DATE), "");
        check_identity(case, birth, "PID-7", &fields(birth, "PID", 7), "");
        let slashed = variants.named("g-backslash");
        let ids = [values(slashed, tags::PATIENT_ID), sent_ids(slashed)].concat();
        let is_changed = ids.iter().any(|it| it.contains('/'));
        case.check("g-backslash: Patient ID", !is_changed, format!("{ids:?}"));
        let spaces = variants.named("j-spaces");
        check_identity(case, spaces, "PID-3", &sent_ids(spaces), "D06J");
        let quotes = variants.named("k-quotes");
        let name = "O'NEIL \"BOB\"^<b>&amp;";
        check_identity(case, quotes, "name", &values(quotes, tags::PATIENT_NAME), name);
    });
}

#[test]
fn field_d08_odd_uids() {
    run(Kind::Hospital, "d08-odd-uids", async |site, case| {
        let variants = sent(site, case).await;
        let right = [
            ("a-leading-zero-instance", MeasuredOrRefused),
            ("b-leading-zero-study", MeasuredOrRefused),
            ("c-65-characters", MeasuredOrRefused),
            ("d-space-padded", Measured),
            ("e-letters", MeasuredOrRefused),
            ("f-study-empty", MeasuredOrRefused),
            ("g-ends-with-dot", MeasuredOrRefused),
        ];
        check_all(case, &variants, &right);
        for name in
            ["a-leading-zero-instance", "b-leading-zero-study", "e-letters", "g-ends-with-dot"]
        {
            let variant = variants.named(name);
            let told = variant.told().to_lowercase();
            let is_true = told.contains("uid") && !told.contains("contradict");
            let is_right = !variant.volumes().is_empty() || is_true;
            case.check(format!("{name}: used, or the true reason"), is_right, variant.seen());
        }
    });
}

/// The names of d09, as pydicom reads them.
const NAMES: [(&str, &str); 14] = [
    ("a-ISO-IR 100", "MÜLLER^JÖRG"),
    ("b-ISO IR 100", "MÜLLER^JÖRG"),
    ("c-ISO_IR_100", "MÜLLER^JÖRG"),
    ("d-UTF-8", "MÜLLER^JÖRG"),
    ("e-ISO IR 192", "MÜLLER^JÖRG"),
    ("f-ISO 2022 IR 6 first", "MÜLLER^JÖRG"),
    ("g-IR 13 and 87", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
    ("h-GB2312", "王^小东"),
    ("i-ISO_IR 192 with more", "Wang^XiaoDong=王^小东"),
    ("j-lower", "MÜLLER^JÖRG"),
    ("k-ascii-name-odd-set", "DOE^JANE"),
    ("l-latin-in-ascii", "MÜLLER^JÖRG"),
    // Nothing in the file says that these letters are others.
    ("m-utf8-in-latin1", "MÃ\u{9c}LLER^JÃ\u{96}RG"),
    ("n-ISO_IR 58", "王^小东"),
];

#[test]
fn field_d09_character_set_names() {
    run(Kind::Hospital, "d09-character-set-names", async |site, case| {
        let variants = sent(site, case).await;
        for (name, expected) in NAMES {
            let variant = variants.named(name);
            let names = values(variant, tags::PATIENT_NAME);
            let is_right = names == [expected];
            let told = variant.tasks().into_iter().chain(variant.runs());
            let told: String = told.map(ToString::to_string).collect();
            let told = told.to_lowercase();
            let is_told = told.contains("character set") || told.contains("control character");
            let seen = format!("{names:?}; {}", variant.seen());
            case.check(name, is_right || is_told, seen);
        }
    });
}

#[test]
fn field_d10_private_sop_classes() {
    run(Kind::Hospital, "d10-private-sop-classes", async |site, case| {
        let lines = python_lines(site, case, "run.py");
        let first = lines.first().cloned().unwrap_or_default();
        let rejected = first.split("rejected").nth(1).unwrap_or_default();
        case.check(
            "six private classes are refused",
            rejected.matches(", 3)").count() == 6,
            &first,
        );
        let is_accepted = first.contains("accepted ['1.2.840.10008.5.1.4.1.1.2']");
        case.check("the class of the images is accepted", is_accepted, &first);
        let last = lines.last().cloned().unwrap_or_default();
        case.check("twelve images are stored", last.contains("{'0000': 12}"), &last);
        let study = last.split_whitespace().last().unwrap_or_default();
        let why = settled(&site.hospital, study).await;
        let runs = why["studies"][0]["runs"].as_array().map_or(0, Vec::len);
        case.check("one run", runs == 1, runs);
    });
}

#[test]
fn field_d11_associations() {
    run(Kind::Hospital, "d11-associations", async |site, case| {
        let lines = python_lines(site, case, "run.py");
        let mut of = |letter: char, expected: &[&str]| {
            let start = format!("{letter} ");
            let line = lines.iter().find(|it| it.starts_with(&start)).cloned().unwrap_or_default();
            let is_right = expected.iter().all(|it| line.contains(it)) && !line.contains("EXC");
            case.check(letter.to_string(), is_right, line);
        };
        of('a', &["0000"]);
        of('b', &["0000"]);
        of('c', &["['0000', '0000']"]);
        of('d', &["0000 0000 0000"]);
        for letter in ['e', 'f', 'g', 'j', 'o', 'p', 'r', 's'] {
            of(letter, &["0000"]);
        }
        of('h', &["0000 0000 0000"]);
        of('i', &["0000 0000 0000"]);
        of('k', &["closed"]);
        // A-ABORT.
        of('l', &["answer PDU 7"]);
        of('m', &["pdu 7"]);
        of('n', &["accepted 1 0000"]);
        of('q', &[]);
        of('t', &["{'0000': 60}"]);
        let last = lines.iter().find(|it| it.starts_with("t ")).cloned().unwrap_or_default();
        let study = last.split_whitespace().last().unwrap_or_default();
        let why = settled(&site.hospital, study).await;
        let runs = why["studies"][0]["runs"].as_array().map_or(0, Vec::len);
        case.check("one run after sixty associations", runs == 1, runs);
    });
}

#[test]
fn field_d13_duplicate_instances() {
    run(Kind::Hospital, "d13-duplicate-instances", async |site, case| {
        let variants = sent(site, case).await;
        for name in
            ["a-same-instances-in-two-series", "b-study-of-two-patients", "e-series-in-two-studies"]
        {
            let variant = variants.named(name);
            let is_told = !variant.told().is_empty();
            case.check(format!("{name}: told"), is_told, variant.seen());
            let volumes = variant.volumes();
            let is_true = volumes.iter().all(|it| (it - TRUE_ML).abs() < ML_TOLERANCE);
            case.check(format!("{name}: nothing is mixed"), is_true, variant.seen());
        }
        let mixed = variants.named("b-study-of-two-patients");
        let names = values(mixed, tags::PATIENT_ID);
        case.check("b: nothing goes out, or of one patient", names.len() < 2, format!("{names:?}"));
        let task = mixed.tasks().len();
        case.check("b: a person is told", task > 0, mixed.seen());
        let again = variants.named("c-all-twice");
        case.check("c: one run", again.runs().len() == 1, again.runs().len());
        case.check("c: measured once", Measured.holds(again), again.seen());
        let renamed = variants.named("d-name-changed");
        case.check("d: one run", renamed.runs().len() == 1, renamed.runs().len());
        case.check("d: nothing is mixed", MeasuredOrRefused.holds(renamed), renamed.seen());
    });
}
