//! Receivers that answer in odd ways: of messages, of bundles, and of images. Each way is a
//! receiver of its own, so that one report is sent to all of them at once.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use simulators::phantom::Phantom;
use system_tests::{Scratch, python, reference, study};
use tokio::time::sleep;

use crate::case::{Case, run};
use crate::message::{PAUSE, only_send, why};
use crate::site::{Kind, Site};

/// Longest wait for the deliveries to all ways.
const DELIVERY_TIME_MAX: Duration = Duration::from_secs(75);

/// What is right for a way to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Delivered, after it was received so often.
    Delivered(usize),
    /// Not delivered, and the reason has these words.
    Failed(&'static str),
    /// Delivered, or not with a reason.
    Told,
}

use Right::{Delivered, Failed, Told};

/// A case about receivers: its mock, and its ways.
struct Mock {
    case: &'static str,
    /// The first letter of its destinations.
    letter: char,
    ways: &'static [(&'static str, Right)],
}

const MESSAGES: Mock = Mock {
    case: "r01-receivers-of-messages",
    letter: 'm',
    ways: &[
        ("good", Delivered(1)),
        ("no-frame", Failed("0x0B")),
        ("lf", Delivered(1)),
        ("other-id", Failed("another message")),
        ("no-id", Failed("another message")),
        ("junk", Failed("")),
        ("msa-only", Told),
        ("two", Delivered(1)),
        ("no-cr", Delivered(1)),
        ("empty", Failed("")),
        ("ae-then-aa", Delivered(3)),
        ("ar", Failed("patient unknown")),
        ("ce", Failed("busy")),
        ("version", Delivered(1)),
        ("truncated-msh", Told),
        ("echo", Failed("our own message")),
        ("lower", Told),
        ("short-id", Told),
        ("html", Failed("")),
    ],
};

const BUNDLES: Mock = Mock {
    case: "r02-fhir-receivers",
    letter: 'f',
    ways: &[
        ("good", Delivered(1)),
        ("200-all-422", Failed("422")),
        ("200-outcome-error", Failed("")),
        ("200-html", Failed("")),
        ("202", Failed("")),
        ("204", Failed("")),
        ("200-empty", Failed("")),
        ("429", Failed("429")),
        ("401", Failed("401")),
        ("302", Failed("302")),
        ("503-then-good", Delivered(3)),
        ("400", Failed("400")),
        ("echo", Failed("")),
    ],
};

const OBJECTS: Mock = Mock {
    case: "r03-pacs-receivers",
    letter: 'p',
    ways: &[
        ("good", Delivered(2)),
        ("duplicate-0111", Told),
        ("warn-b007", Delivered(2)),
        ("refuse-0124", Failed("0124")),
        ("a900", Failed("a900")),
        // The first object is refused twice, and the second is received once.
        ("full-a700-twice", Delivered(4)),
        ("c000", Failed("c000")),
        ("sr-only", Failed("1.2.840.10008.5.1.4.1.1.66.4")),
        ("implicit-only", Delivered(2)),
        ("abort", Failed("")),
    ],
};

const MOCKS: [&Mock; 3] = [&MESSAGES, &BUNDLES, &OBJECTS];

/// A mock that runs, for one of its ways.
struct Running {
    child: Child,
    port: u16,
    name: String,
    /// What it has received, a line each.
    log: PathBuf,
}

/// The mocks of all cases, each way as a process.
pub(crate) struct Receivers {
    running: Vec<Running>,
    _scratch: Scratch,
}

impl Receivers {
    /// Starts all mocks.
    pub(crate) fn open() -> Self {
        let scratch = Scratch::default();
        let running: Vec<Running> = MOCKS
            .into_iter()
            .flat_map(|mock| mock.ways.iter().map(move |it| (mock, it.0)))
            .map(|it| it.0.start(it.1, &scratch))
            .collect();
        for it in &running {
            let start = Instant::now();
            while TcpStream::connect(("127.0.0.1", it.port)).is_err() {
                assert!(start.elapsed() < Duration::from_secs(30), "{} does not start", it.name);
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Self { running, _scratch: scratch }
    }

    /// The destinations of the site file.
    pub(crate) fn destinations(&self) -> String {
        let line = |it: &Running| {
            let Running { name, port, .. } = it;
            let address = format!("127.0.0.1:{port}");
            match name.chars().next() {
                Some('m') => format!(
                    "  {name}: {{ mllp: {{ address: \"{address}\" }}, allow_unverified: true }}\n"
                ),
                Some('f') => format!(
                    "  {name}: {{ fhir: {{ url: \"http://{address}/fhir\" }}, \
                     allow_unverified: true }}\n"
                ),
                _ => {
                    format!("  {name}: {{ dicom: {{ address: \"{address}\", ae_title: PACS }} }}\n")
                }
            }
        };
        self.running.iter().map(line).collect()
    }

    /// A workflow for each kind of receiver.
    pub(crate) fn workflows(&self) -> Vec<(&'static str, String)> {
        let table = "nodes: { node: { plugin: lab-report-parsing } }";
        let bone = "nodes:
  node: { plugin: segmentation, with: { method: threshold, targets: [bone] } }";
        let workflow = |name: &str, on: &str, nodes: &str, letter: char, what: &str| {
            let names = self.running.iter().map(|it| &it.name).filter(|it| it.starts_with(letter));
            let lines =
                names.map(|it| format!("  - {{ to: {it}, what: [{what}], after: [node] }}\n"));
            let lines: String = lines.collect();
            format!("workflow: {name}\non: {on}\n{nodes}\ndeliver:\n{lines}")
        };
        let messages = workflow("messages", "{ message: { type: ORU^R01 } }", table, 'm', "oru");
        let bundles = workflow("bundles", "{ message: { type: OUL^R22 } }", table, 'f', "fhir");
        let on_study = "{ study: { complete: { quiet: 1s } } }";
        let objects = workflow("objects", on_study, bone, 'p', "seg, sr");
        vec![("messages", messages), ("bundles", bundles), ("objects", objects)]
    }

    /// How much a receiver has got.
    fn receptions(&self, name: &str) -> usize {
        let running = self.running.iter().find(|it| it.name == name).unwrap();
        fs::read_to_string(&running.log).unwrap_or_default().lines().count()
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        for it in &mut self.running {
            // It may have ended already.
            _ = it.child.kill();
            _ = it.child.wait();
        }
    }
}

impl Mock {
    /// Starts the mock of the case, on a free port, and with what it writes elsewhere left out.
    fn start(&self, way: &str, scratch: &Scratch) -> Running {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = reference().unwrap().join("field").join(self.case).join("mock.py");
        let text = fs::read_to_string(file).unwrap();
        let text = text.replace("/tmp/field/last-bundle.json", "/dev/null");
        let text = text.replace("11499", &port.to_string());
        let name = format!("{}-{way}", self.letter);
        let script = scratch.write(&format!("{name}.py"), &text);
        let log = scratch.path(&format!("{name}.log"));
        let mut command = Command::new(python());
        command.arg("-B").arg(script).current_dir(scratch.path(""));
        if self.letter != 'p' {
            command.arg(port.to_string());
        }
        let output = File::create(&log).unwrap();
        let child = command.arg(way).stdout(output).stderr(Stdio::null()).spawn().unwrap();
        Running { child, port, name, log }
    }

    /// Whether the delivery to each way has come as far as it is judged.
    fn is_over(&self, deliveries: &[Value]) -> bool {
        self.ways.iter().all(|(way, right)| {
            let delivery = delivery(deliveries, &self.name(way));
            let is_delivered = delivery["state"] == "delivered";
            match right {
                Delivered(_) => is_delivered,
                Failed(_) | Told => is_delivered || !reason(&delivery).is_empty(),
            }
        })
    }

    fn name(&self, way: &str) -> String {
        format!("{}-{way}", self.letter)
    }

    /// Waits for the deliveries of the report on what `name` names, and judges each.
    async fn judge(&self, site: &Site, case: &mut Case, name: &str) {
        let start = Instant::now();
        let mut deliveries = Vec::new();
        while start.elapsed() < DELIVERY_TIME_MAX && !self.is_over(&deliveries) {
            sleep(PAUSE).await;
            let why = why(&site.hospital, name);
            let of_messages = why["message_runs"].as_array().into_iter().flatten();
            let of_studies = why["studies"].as_array().into_iter().flatten();
            let of_studies = of_studies.filter_map(|it| it["runs"].as_array()).flatten();
            let all = of_messages.chain(of_studies).filter_map(|it| it["deliveries"].as_array());
            deliveries = all.flatten().cloned().collect();
        }
        let receivers = site.receivers.as_ref().unwrap();
        for (way, right) in self.ways {
            let delivery = delivery(&deliveries, &self.name(way));
            let receptions = receivers.receptions(&self.name(way));
            let is_delivered = delivery["state"] == "delivered";
            let reason = reason(&delivery);
            let is_right = match right {
                Delivered(count) => is_delivered && receptions == *count,
                Failed(words) => !is_delivered && !reason.is_empty() && reason.contains(words),
                Told => is_delivered || !reason.is_empty(),
            };
            let seen = format!("received {receptions} times, {delivery}");
            case.check(*way, is_right, seen);
        }
        // What is refused for good or acknowledges nothing does not get it for hours.
        let most = self.ways.iter().map(|it| receivers.receptions(&self.name(it.0))).max();
        case.check("nobody is flooded", most < Some(12), format!("{most:?}"));
    }
}

/// The delivery to a destination.
fn delivery(deliveries: &[Value], destination: &str) -> Value {
    let found = deliveries.iter().find(|it| it["destination"] == destination);
    found.cloned().unwrap_or_default()
}

fn reason(delivery: &Value) -> String {
    delivery["reason"].as_str().unwrap_or_default().to_owned()
}

/// A result in a message of this type.
fn result(kind: &str, name: &str) -> String {
    format!(
        "MSH|^~\\&|LAB|HOSP|ISO|HOSP|20260103101500||{kind}|{name}|P|2.5.1\n\
         PID|1||{name}^^^HOSP^MR||DOE^JANE||19800101|F\nOBR|1|P|F|24323-8^Panel^LN\n\
         OBX|1|NM|2823-3^Potassium^LN||4.1|mmol/L|3.5-5.1|N|||F\n"
    )
}

#[test]
fn field_r01_receivers_of_messages() {
    run(Kind::Receivers, MESSAGES.case, async |site, case| {
        only_send(&site.hospital, result("ORU^R01", "R01").as_bytes()).await;
        MESSAGES.judge(site, case, "R01").await;
    });
}

#[test]
fn field_r02_fhir_receivers() {
    run(Kind::Receivers, BUNDLES.case, async |site, case| {
        only_send(&site.hospital, result("OUL^R22", "R02").as_bytes()).await;
        BUNDLES.judge(site, case, "R02").await;
    });
}

#[test]
fn field_r03_pacs_receivers() {
    run(Kind::Receivers, OBJECTS.case, async |site, case| {
        let phantom = Phantom { size: 64, pixel: 6.0, ..study("field r03") };
        site.hospital.send(&phantom).await;
        OBJECTS.judge(site, case, &phantom.study_uid()).await;
    });
}
