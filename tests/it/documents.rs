//! The report as text or PDF within a message, as configured (HL7-60, OUT-03, OUT-51).

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use simulators::Ehr;
use system_tests::{Hospital, Scratch, SiteOptions, eventually, python};

const WORKFLOW: &str = "
workflow: both
on: { message: { type: ORU^R01 } }
nodes: { table: { plugin: lab-report-parsing } }
deliver:
  - { to: words, what: [oru], after: [table] }
  - { to: pages, what: [oru], after: [table] }
";

/// A laboratory message with this number of rows and a name in two scripts.
fn message(rows: u16) -> String {
    let row = |it: u16| {
        format!("OBX|{it}|NM|6690-2^白细胞 {it:03}^LN|{it}|12.{it}|10*9/L|3.5-9.5|N|||F\r")
    };
    let rows: String = (1..=rows).map(row).collect();
    "MSH|^~\\&|LIS|HOSP|ISOCENTER|AI|20260115||ORU^R01^ORU_R01|D1|P|2.5.1||||||UNICODE UTF-8\r\
     PID|1||77^^^HOSP^MR||WANG^XIAODONG^^^^^^A~王^小东^^^^^^I||19700203|M\r\
     OBR|1|PL9|FL9|58410-2^CBC panel^LN\r"
        .to_owned()
        + &rows
}

/// The first message that an EHR receives.
async fn sent(ehr: &Ehr) -> String {
    eventually("the report", async || ehr.received().first().cloned()).await
}

/// The fields of the OBX segment that contains the report.
fn document(oru: &str) -> Vec<String> {
    let fields = |it: &str| it.split('|').map(str::to_owned).collect::<Vec<_>>();
    let mut all = oru.split('\r').map(fields);
    all.find(|it| it.get(3).is_some_and(|it| it.starts_with("11502-2^"))).unwrap_or_default()
}

/// The properties and text of a PDF in base 64, from an independent reader.
fn read(pdf: &str) -> String {
    let mut reader = Command::new(python());
    reader.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("it/pdf_text.py"));
    let mut reader = reader.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    reader.stdin.take().unwrap().write_all(pdf.as_bytes()).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_60_a_report_comes_as_text_or_as_pdf_as_the_destination_wants() {
    let scratch = Scratch::default();
    let any = "127.0.0.1:0".parse().unwrap();
    let words = Ehr::open(&scratch.path("words"), any).await.unwrap();
    let pages = Ehr::open(&scratch.path("pages"), any).await.unwrap();
    let line = |name: &str, ehr: &Ehr, form: &str| {
        let address = ehr.address();
        format!(
            "  {name}: {{ mllp: {{ address: \"{address}\", report: {form} }}, \
             allow_unverified: true }}\n"
        )
    };
    let more = line("words", &words, "text") + &line("pages", &pages, "pdf");
    let workflows = [("both", WORKFLOW)];
    let options =
        SiteOptions { workflows: &workflows, destinations: &more, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;

    assert_eq!(hospital.send_message(&message(90)).await, "AA");
    let words = sent(&words).await;
    let pages = sent(&pages).await;

    let text = document(&words);
    assert_eq!(text[2], "FT", "{words}");
    let lines: Vec<&str> = text[5].split("\\.br\\").collect();
    assert_eq!(lines[1], "AI-generated - not verified by a physician");
    assert!(lines.contains(&"Patient: WANG XIAODONG 王 小东"), "{lines:?}");
    let row = "白细胞 090: 12.90 10*9/L (reference 3.5-9.5) H";
    assert!(lines.contains(&row), "{lines:?}");
    assert_eq!(text[11], "R", "nobody has signed it");

    let pdf = document(&pages);
    assert_eq!(pdf[2], "ED");
    let content = pdf[5].strip_prefix("^application^pdf^Base64^").unwrap();
    let shown = read(content);
    for expected in ["tagged: True", "conforms to: 2A", "fonts inside: True", "title: Laboratory"] {
        assert!(shown.contains(expected), "{expected} is not in:\n{shown}");
    }
    let sheets: Vec<&str> = shown.split('\u{c}').skip(1).collect();
    assert!(sheets.len() > 1, "{shown}");
    for sheet in &sheets {
        assert!(sheet.contains("AI-generated - not verified by a physician"), "{sheet}");
        assert!(sheet.contains(&format!("/{}", sheets.len())), "{sheet}");
    }
    assert!(sheets[0].contains("王") && sheets[0].contains("WANG XIAODONG"), "{shown}");
    for row in 1..=90 {
        assert!(shown.contains(&format!("白细胞 {row:03}: 12.{row} ")), "row {row}:\n{shown}");
    }
}

/// A template of the site that leaves out the patient: nothing is sent, and a person gets a task.
#[tokio::test(flavor = "multi_thread")]
async fn out_02_what_is_not_sound_is_not_sent_and_goes_to_a_person() {
    let folder = Scratch::default();
    let shipped = include_str!("../../templates/hl7/oru.hl7");
    let without_pid: Vec<&str> = shipped.lines().filter(|it| !it.starts_with("PID|")).collect();
    folder.write("templates/oru.hl7", &without_pid.join("\n"));
    let more = format!("templates: {}\n", folder.path("templates").display());
    let workflow = "workflow: one
on: { message: { type: ORU^R01 } }
nodes: { table: { plugin: lab-report-parsing } }
deliver: [{ to: ehr, what: [oru] }]
";
    let workflows = [("one", workflow)];
    let options =
        SiteOptions { workflows: &workflows, destinations: &more, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;

    assert_eq!(hospital.send_message(&message(2)).await, "AA");
    hospital.ended_runs(1).await;

    let deliveries = hospital.ask(&["delivery", "list"]);
    assert_eq!(deliveries[0]["state"], "failed", "{deliveries}");
    assert!(deliveries[0]["reason"].as_str().unwrap().contains("there is no PID"), "{deliveries}");
    assert_eq!(hospital.ask(&["task", "list"])[0]["kind"], "delivery_failed");
    assert!(hospital.ehr.received().is_empty());
}
