//! Messages of cases as they are sent, and reports as the EHR gets them.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::Hospital;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::case::Case;

/// Longest wait for what a message or study leads to.
const SETTLE_TIME_MAX: Duration = Duration::from_mins(2);

/// After this time, a message or study on which no run has started is one that starts none.
const START_TIME_MAX: Duration = Duration::from_secs(10);

/// Pause between two looks.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// What became of a message.
pub(crate) struct Answered {
    /// MSA-1.
    pub(crate) code: String,
    /// The whole answer.
    pub(crate) answer: String,
    /// What the engine says of its control id, once its runs and deliveries have ended.
    pub(crate) why: Value,
}

impl Answered {
    /// Why it was refused, as it is kept.
    pub(crate) fn problem(&self) -> &str {
        self.why["messages"][0]["problem"].as_str().unwrap_or_default()
    }

    /// The runs that it started.
    pub(crate) fn runs(&self) -> &[Value] {
        self.why["message_runs"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The laboratory rows that its runs found: name and result.
    pub(crate) fn rows(&self) -> Vec<(String, String)> {
        let outputs = self.runs().iter().filter_map(|it| it["outputs"].as_object());
        let rows = outputs.flat_map(|it| it.values()).filter_map(|it| it["laboratory"].as_array());
        let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        rows.flatten().map(|row| (text(row, "entry_name"), text(row, "result"))).collect()
    }

    /// What is told about it: the problem of the message, the tasks about it, and the reasons of
    /// nodes and deliveries.
    pub(crate) fn told(&self) -> String {
        let mut told = vec![self.problem().to_owned()];
        let tasks = self.why["message_tasks"].as_array().into_iter().flatten();
        told.extend(tasks.filter_map(|it| it["reason"].as_str()).map(str::to_owned));
        told.extend(self.runs().iter().flat_map(reasons));
        told.retain(|it| !it.is_empty());
        told.join("; ")
    }
}

/// The reasons of the nodes and deliveries of a run.
pub(crate) fn reasons(run: &Value) -> Vec<String> {
    let parts = [&run["nodes"], &run["deliveries"]];
    let parts = parts.into_iter().filter_map(Value::as_array).flatten();
    parts.filter_map(|it| it["reason"].as_str()).map(str::to_owned).collect()
}

/// Whether a run has ended or waits for a person, and all its deliveries have ended.
pub(crate) fn has_settled(run: &Value) -> bool {
    let nodes = run["nodes"].as_array();
    let is_in_review = nodes.is_some_and(|all| all.iter().any(|it| it["state"] == "in_review"));
    let deliveries = run["deliveries"].as_array();
    let is_open = |it: &Value| it["state"] == "queued" || it["state"] == "sending";
    (run["run"]["status"] != "running" || is_in_review)
        && !deliveries.is_some_and(|all| all.iter().any(is_open))
}

/// Waits until the engine has done what it does about what `name` names, and returns what it says.
pub(crate) async fn settled(hospital: &Hospital, name: &str) -> Value {
    settled_since(hospital, name, Instant::now()).await
}

/// Like [`settled`], for what was sent at a moment.
pub(crate) async fn settled_since(hospital: &Hospital, name: &str, start: Instant) -> Value {
    loop {
        let why = why(hospital, name);
        let studies = why["studies"].as_array().cloned().unwrap_or_default();
        let of_studies = studies.iter().filter_map(|it| it["runs"].as_array()).flatten();
        let of_messages = why["message_runs"].as_array().into_iter().flatten();
        let mut runs = of_messages.chain(of_studies).peekable();
        // A task says nothing about runs: it may stand before the study is complete.
        let is_over = if runs.peek().is_some() {
            runs.all(has_settled)
        } else {
            start.elapsed() > START_TIME_MAX
        };
        if is_over || start.elapsed() > SETTLE_TIME_MAX {
            return why;
        }
        sleep(PAUSE).await;
    }
}

/// What the engine says of a name: everything empty where it knows nothing.
pub(crate) fn why(hospital: &Hospital, name: &str) -> Value {
    if name.is_empty() { Value::Null } else { ask(hospital, &["why", name]) }
}

/// Runs a command of the engine.
pub(crate) fn ask(hospital: &Hospital, arguments: &[&str]) -> Value {
    hospital.ask(arguments)
}

impl Case {
    /// A file of the case.
    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.folder.join(file)).unwrap()
    }

    /// Sends a message of the case, and waits for what it leads to.
    pub(crate) async fn send(&self, hospital: &Hospital, file: &str) -> Answered {
        send(hospital, &self.read(file)).await
    }
}

/// Sends a message whose lines may end with LF, and waits for what it leads to.
pub(crate) async fn send(hospital: &Hospital, message: &[u8]) -> Answered {
    let answer = only_send(hospital, message).await;
    let code = value(&answer, "MSA", 1);
    let name = value(&String::from_utf8_lossy(message), "MSH", 9);
    let why = if code == "AA" { settled(hospital, &name).await } else { why(hospital, &name) };
    Answered { code, answer, why }
}

/// Sends a message whose lines may end with LF, and returns its answer.
pub(crate) async fn only_send(hospital: &Hospital, message: &[u8]) -> String {
    let bytes: Vec<u8> = message.iter().map(|it| if *it == b'\n' { b'\r' } else { *it }).collect();
    let frame = [b"\x0b".as_slice(), &bytes, b"\x1c\r"].concat();
    let mut stream = TcpStream::connect(&hospital.engine.mllp).await.unwrap();
    stream.write_all(&frame).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\x1c\r") {
        match timeout(Duration::from_secs(20), stream.read_buf(&mut answer)).await {
            Ok(Ok(read)) if read > 0 => {}
            _ => break,
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.trim_matches(['\x0b', '\x1c', '\r']).to_owned()
}

/// The field `number` of the first segment of this name, counted as in a split at `|`.
pub(crate) fn value(message: &str, segment: &str, number: usize) -> String {
    let start = format!("{segment}|");
    let line = message.split(['\r', '\n']).find(|it| it.starts_with(&start)).unwrap_or_default();
    line.split('|').nth(number).unwrap_or_default().to_owned()
}

/// A report as the EHR got it.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// The message, with escape sequences taken out.
    pub(crate) text: String,
    segments: Vec<Vec<String>>,
}

/// A row of a report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) code: String,
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) unit: String,
    pub(crate) flag: String,
    pub(crate) status: String,
    pub(crate) time: String,
}

impl Report {
    fn read(message: &str) -> Self {
        let segments = message.split('\r').filter(|it| !it.is_empty());
        let fields = |it: &str| it.split('|').map(str::to_owned).collect();
        Self { text: plain(message), segments: segments.map(fields).collect() }
    }

    /// A field of the first segment of this name, as it was sent.
    pub(crate) fn field(&self, segment: &str, number: usize) -> String {
        self.fields(segment, number).into_iter().next().unwrap_or_default()
    }

    /// A field of all segments of this name, as it was sent.
    pub(crate) fn fields(&self, segment: &str, number: usize) -> Vec<String> {
        let named = self.segments.iter().filter(|it| it[0] == segment);
        named.map(|it| it.get(number).cloned().unwrap_or_default()).collect()
    }

    /// Its rows: every OBX.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let named = self.segments.iter().filter(|it| it[0] == "OBX");
        let row = |fields: &Vec<String>| {
            let field = |number: usize| fields.get(number).cloned().unwrap_or_default();
            let part = |number: usize, component: usize| {
                plain(field(number).split('^').nth(component).unwrap_or_default())
            };
            Row {
                code: part(3, 0),
                name: part(3, 1),
                value: plain(&field(5)),
                unit: part(6, 0),
                flag: part(8, 0),
                status: field(11),
                time: field(14),
            }
        };
        named.map(row).collect()
    }

    /// The row with this value.
    pub(crate) fn row(&self, value: &str) -> Option<Row> {
        self.rows().into_iter().find(|it| it.value == value)
    }
}

/// Text without escape sequences.
fn plain(text: &str) -> String {
    let pairs = [
        ("\\F\\", "|"),
        ("\\S\\", "^"),
        ("\\T\\", "&"),
        ("\\R\\", "~"),
        ("\\.br\\", "\n"),
        ("\\X0D\\", "\r"),
    ];
    let text = pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    text.replace("\\E\\", "\\")
}

/// The reports about a patient that the EHR has, by the first identifier.
pub(crate) fn reports_of(hospital: &Hospital, patient: &str) -> Vec<Report> {
    let all = hospital.ehr.received();
    let reports = all.iter().map(|it| Report::read(it));
    reports.filter(|it| plain(it.field("PID", 3).split('^').next().unwrap()) == patient).collect()
}

/// The reports about a study that the EHR has.
pub(crate) fn reports_of_study(hospital: &Hospital, study: &str) -> Vec<Report> {
    let all = hospital.ehr.received();
    all.iter().filter(|it| it.contains(study)).map(|it| Report::read(it)).collect()
}
