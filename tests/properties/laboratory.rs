//! Generated laboratory messages, as they come out in ORU and FHIR: nothing is lost, nothing merged,
//! and panel, specimen, time and notes are with the right row.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use contracts::{MessageEffect, Preferences};
use domain::{
    Demographics, ExchangedDocument, NodeOutput, OutputKind, PatientId, ResultSet, row_keys,
};
use fastrand::Rng;
use hl7::Rules;
use hl7::receiver::judge;
use lab_report_parsing::Received;
use proptest::prelude::*;
use report::status::StatusCodes;
use report::{
    Engine, Fonts, Language, Recipient, ReportContext, ReportInput, TakenOut, Templates, compose,
};
use serde_json::{Value, json};
use system_tests::generators::laboratory::{Laboratory, Observed};
use system_tests::{Scratch, python};

/// Messages whose reports independent readers read.
const READ: u64 = 120;

/// What comes out of a message.
struct Produced {
    oru: String,
    bundle: Value,
    remarks: Vec<String>,
}

fn document(message: &Laboratory) -> ExchangedDocument {
    let effects = judge(&message.bytes, &Rules::default()).unwrap().effects.unwrap();
    let mut documents = effects.into_iter().filter_map(|it| match it {
        MessageEffect::Document { document, .. } => Some(document),
        _ => None,
    });
    documents.next().unwrap()
}

fn results(rows: NodeOutput) -> ResultSet {
    let set = json!({
        "run": "00000000-0000-0000-0000-000000000001",
        "workflow": { "name": "lab-table", "digest": "0" },
        "status": "AI_DRAFT",
        "concluded": "2026-11-30T10:00:00Z",
        "findings": [], "segmentations": [], "laboratory": [], "sections": [], "inputs": [],
        "algorithms": [{ "name": "lab-report-parsing", "version": "1", "parameters": {} }],
    });
    let set: ResultSet = serde_json::from_value(set).unwrap();
    ResultSet { laboratory: rows.laboratory, ..set }
}

fn context(results: &ResultSet) -> ReportContext {
    let text = str::to_owned;
    ReportContext {
        run: results.run,
        patient: PatientId { value: text("4711"), issuer: text("HOSP") },
        demographics: Demographics { name: text("ALPHA^ANNA"), ..Demographics::default() },
        study: None,
        orders: Vec::new(),
        engine: Engine {
            name: text("ISOCENTER"),
            manufacturer: text("Maker"),
            model: text("Engine"),
            serial: text("1"),
            uid: text("1.2.3"),
            version: text("1"),
            language: Language::English,
        },
        previous: None,
        taken_out: TakenOut::default(),
    }
}

fn produced(message: &Laboratory) -> Produced {
    let templates = &*TEMPLATES;
    let Received { rows, remarks } =
        Received::of(&document(message), &domain::PatientFacts::default());
    let mut output = NodeOutput { laboratory: rows, ..NodeOutput::default() };
    row_keys::number(&mut output, []);
    let results = results(output);
    let context = context(&results);
    let recipient = Recipient::new("ehr", Preferences::default());
    let input = ReportInput {
        results: &results,
        context: &context,
        status: StatusCodes::of(results.status),
        masks: &BTreeMap::new(),
        pictures: &BTreeMap::new(),
        undecodable: &BTreeMap::new(),
        fonts: templates.fonts(),
        recipient: &recipient,
    };
    let outputs = compose(&[OutputKind::Oru, OutputKind::Fhir], &input, templates).unwrap();
    let bytes = |kind| outputs.iter().find(|it| it.kind == kind).unwrap().bytes.clone();
    Produced {
        oru: String::from_utf8(bytes(OutputKind::Oru)).unwrap(),
        bundle: serde_json::from_slice(&bytes(OutputKind::Fhir)).unwrap(),
        remarks,
    }
}

static TEMPLATES: LazyLock<Templates> =
    LazyLock::new(|| Templates::open(None, Fonts::default()).unwrap());

/// Text without escape sequences.
fn plain(text: &str) -> String {
    let sequence = |it: &str| match it {
        "F" => "|",
        "S" => "^",
        "T" => "&",
        "R" => "~",
        "E" => "\\",
        ".br" => "\n",
        other => panic!("{other}"),
    };
    let parts = text.split('\\').enumerate();
    parts
        .map(|(at, it)| if at % 2 == 0 { it.to_owned() } else { sequence(it).to_owned() })
        .collect()
}

/// A row of an ORU: the fields of its OBX, and its notes with their source.
struct Row {
    fields: Vec<String>,
    notes: Vec<[String; 2]>,
}

fn rows_of(oru: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for segment in oru.split('\r') {
        let fields: Vec<String> = segment.split('|').map(str::to_owned).collect();
        match fields[0].as_str() {
            "OBX" => rows.push(Row { fields, notes: Vec::new() }),
            "NTE" => {
                let note = [fields[2].clone(), plain(&fields[3])];
                rows.last_mut().unwrap().notes.push(note);
            }
            _ => {}
        }
    }
    rows.retain(|it| it.fields.get(17).is_some_and(|it| it.contains("AI document extraction")));
    rows
}

/// The row, as far as the laboratory states it.
fn read(row: &Row) -> Observed {
    let field = |number: usize| plain(&row.fields[number]);
    let name: Vec<String> = row.fields[3].split('^').map(plain).collect();
    let of = |source: &str| {
        let notes = row.notes.iter().filter(|it| it[0] == source);
        notes.map(|it| it[1].clone()).collect::<Vec<_>>()
    };
    let stated = |name: &str| {
        let prefix = format!("{name}: ");
        let all = of("P");
        all.iter().find_map(|it| it.strip_prefix(&prefix)).unwrap_or_default().to_owned()
    };
    let key = field(4);
    let sub_id = stated("Sub-ID of the laboratory");
    Observed {
        name: name.try_into().unwrap(),
        value: field(5),
        unit: field(6),
        reference: field(7),
        flags: row.fields[8].clone(),
        status: stated("Status of the laboratory"),
        sub_id: if sub_id.is_empty() { key } else { sub_id },
        panel: stated("Panel"),
        specimen: stated("Specimen"),
        time: field(14),
        fhir_time: String::new(),
        notes: of("L"),
    }
}

/// The same of what was sent, as far as a report states it: no status of a final result, and where
/// there is no sub-ID, the key that the engine gives.
fn sent(sent: &Observed, seen: &Observed) -> Observed {
    let status = if sent.status == "F" { String::new() } else { sent.status.clone() };
    let sub_id = if sent.sub_id.is_empty() { &seen.sub_id } else { &sent.sub_id };
    Observed { status, sub_id: sub_id.clone(), fhir_time: String::new(), ..sent.clone() }
}

fn observations(bundle: &Value) -> Vec<&Value> {
    let entries = bundle["entry"].as_array().unwrap().iter().map(|it| &it["resource"]);
    let is_row = |it: &&Value| {
        let identifier = it["identifier"][0]["value"].as_str().unwrap_or_default();
        it["resourceType"] == "Observation" && identifier.contains("-row-")
    };
    entries.filter(is_row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// HL7-60 to HL7-63: every result is one row of the ORU, in order, with all that was sent of it.
    #[test]
    fn hl7_60_a_laboratory_message_comes_out_whole_in_oru(seed in any::<u64>()) {
        let message = Laboratory::any(&mut Rng::with_seed(seed), "M1");
        if message.results.is_empty() {
            return Ok(());
        }
        let produced = produced(&message);
        let rows = rows_of(&produced.oru);
        prop_assert_eq!(rows.len(), message.results.len(), "{}", message.text);
        for (row, expected) in rows.iter().zip(&message.results) {
            let seen = read(row);
            let expected = sent(expected, &seen);
            prop_assert_eq!(format!("{seen:#?}"), format!("{expected:#?}"), "{}", message.text);
        }
        // A receiver tells rows apart by OBX-3 and OBX-4.
        let keys: BTreeSet<_> =
            rows.iter().map(|it| (it.fields[3].clone(), it.fields[4].clone())).collect();
        prop_assert_eq!(keys.len(), rows.len());
        for other in &message.others {
            let is_told = |it: &&String| {
                it.starts_with(&format!("Not a result: {}, ", other.name[1]))
                    && other.notes.iter().all(|note| it.contains(note))
            };
            prop_assert!(produced.remarks.iter().any(|it| is_told(&it)), "{}", message.text);
        }
    }

    /// OUT-70: the same in FHIR.
    #[test]
    fn out_70_a_laboratory_message_comes_out_whole_in_fhir(seed in any::<u64>()) {
        let message = Laboratory::any(&mut Rng::with_seed(seed), "M1");
        if message.results.is_empty() {
            return Ok(());
        }
        let produced = produced(&message);
        let observations = observations(&produced.bundle);
        prop_assert_eq!(observations.len(), message.results.len(), "{}", message.text);
        for (seen, expected) in observations.into_iter().zip(&message.results) {
            let text = |pointer: &str| {
                seen.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            prop_assert_eq!(&text("/code/coding/0/code"), &expected.name[0]);
            prop_assert_eq!(&text("/code/text"), &expected.name[1]);
            prop_assert_eq!(&text("/specimen/display"), &expected.specimen);
            prop_assert_eq!(&text("/effectiveDateTime"), &expected.fhir_time, "{}", message.text);
            prop_assert_eq!(&text("/referenceRange/0/text"), &expected.reference);
            let quantity = &seen["valueQuantity"];
            let value = if quantity.is_null() {
                text("/valueString")
            } else {
                let number: f64 = expected.value.trim_start_matches(['<', '>']).parse().unwrap();
                prop_assert_eq!(quantity["value"].as_f64(), Some(number));
                prop_assert_eq!(&text("/valueQuantity/unit"), &expected.unit);
                expected.value.clone()
            };
            prop_assert_eq!(&value, &expected.value);
            let notes = seen["note"].as_array().cloned().unwrap_or_default();
            let notes: Vec<&str> = notes.iter().map(|it| it["text"].as_str().unwrap()).collect();
            let own = notes.get(..expected.notes.len()).unwrap_or_default();
            prop_assert_eq!(own, &expected.notes);
            let has_unit = quantity.is_null() && !expected.unit.is_empty();
            let unit = format!("Unit: {}", expected.unit);
            prop_assert!(!has_unit || notes.contains(&unit.as_str()));
        }
    }
}

/// HL7-60, OUT-70: readers that know nothing of the engine find the same in both.
#[test]
fn hl7_60_independent_readers_find_every_row_of_a_laboratory_message() {
    let scratch = Scratch::default();
    let folder = scratch.path("reports");
    fs::create_dir_all(&folder).unwrap();
    let mut count = 0;
    for seed in 0..READ {
        let message = Laboratory::any(&mut Rng::with_seed(seed), "M1");
        if message.results.is_empty() {
            continue;
        }
        let produced = produced(&message);
        let write = |name: &str, text: &str| {
            fs::write(folder.join(format!("{seed}.{name}")), text).unwrap();
        };
        write("hl7", &produced.oru);
        write("json", &produced.bundle.to_string());
        write("sent", &serde_json::to_string(&message.results).unwrap());
        count += message.results.len();
    }
    let script = system_tests::root().join("tests/properties/laboratory.py");
    let output = Command::new(python()).arg(script).arg(&folder).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(told.trim(), count.to_string());
}

/// What the generator states is what is written: the properties would be of something else.
#[test]
fn generated_laboratory_messages_are_of_every_kind() {
    let mut random = Rng::with_seed(1);
    let all: Vec<Laboratory> = (0..400).map(|_| Laboratory::any(&mut random, "M1")).collect();
    let has = |text: &str| all.iter().any(|it| it.text.contains(text));
    for text in [
        "ORU^R01",
        "OUL^R22",
        "OUL^R24",
        "8859/1",
        "GB 18030",
        "\rSPM|",
        "\rNTE|",
        "|SER^Serum",
        "|NM|",
        "|SN|",
        "|ST|",
        "|TX|",
        "|FT|",
        "|CE|",
        "|CWE|",
        "|CNE|",
        "|DT|",
        "|DTM|",
        "|TM|",
        "|TS|",
        "|NA|",
        "|NR|",
        "|CX|",
        "|10^3/uL|",
        "|L~LL|",
        "|1.1|",
        "\\XE9\\",
    ] {
        assert!(has(text), "{text}");
    }
    assert!(all.iter().any(|it| !it.others.is_empty()));
    for message in &all {
        let observations = document(message).observations.len();
        assert_eq!(observations, message.results.len() + message.others.len());
    }
}
