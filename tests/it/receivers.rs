//! The states of a report, as a receiver of others gets them: dcmtk's `storescp`, read by `dcmdump` (OUT-02).

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use system_tests::api::{call, token};
use system_tests::{Habits, Hospital, Scratch, eventually, study};

const WORKFLOW: &str = "workflow: seen
on: { study: { complete: { quiet: 200ms } } }
nodes:
  bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } }
  sign: { review: radiologist, after: [bone] }
deliver: [{ to: workstation, what: [seg, sr, narrative, pdf], after: [bone] }]
";

/// A PACS that is not ours.
struct Receiver {
    process: Child,
    folder: PathBuf,
    port: u16,
}

impl Receiver {
    fn open(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut process = Command::new("storescp");
        process.args(["+xa", "-od"]).arg(&folder).args(["-aet", "WS", &port.to_string()]);
        let process = process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { process, folder, port }
    }

    /// Waits for new files, so many, and gives what each says of itself.
    async fn new_ones(&self, known: &mut BTreeSet<PathBuf>, count: usize) -> Vec<Said> {
        let new = eventually("the objects", async || {
            let files = fs::read_dir(&self.folder).unwrap().map(|it| it.unwrap().path());
            let new: Vec<PathBuf> = files.filter(|it| !known.contains(it)).collect();
            let are_whole = new.iter().all(|it| dump(it).is_some());
            (new.len() >= count && are_whole).then_some(new)
        })
        .await;
        assert_eq!(new.len(), count);
        known.extend(new.iter().cloned());
        new.iter().filter_map(|it| dump(it)).map(Said).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// What `dcmdump` says of a file, if it can be read.
fn dump(file: &Path) -> Option<String> {
    let output = Command::new("dcmdump").arg("+L").arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success() && text.contains("(0008,0018)")).then_some(text)
}

struct Said(String);

impl Said {
    /// The first value of an element, at whatever level.
    fn value(&self, tag: &str) -> &str {
        let line = self.0.lines().find(|it| it.trim_start().starts_with(tag)).unwrap_or_default();
        let inner = line.split_once('[').and_then(|(_, it)| it.split_once(']'));
        inner.map_or("", |(it, _)| it)
    }

    fn has(&self, tag: &str) -> bool {
        self.0.lines().any(|it| it.trim_start().starts_with(tag))
    }
}

/// The structured reports among them, which there have to be: completion, verification and preliminary flag.
fn flags(all: &[Said]) -> BTreeSet<[&str; 3]> {
    let reports = all.iter().filter(|it| it.value("(0008,0060)") == "SR");
    reports
        .map(|it| ["(0040,a491)", "(0040,a493)", "(0040,a496)"].map(|tag| it.value(tag)))
        .collect()
}

/// Draft, edited, signed, amended and withdrawn, each under new UIDs with what it follows.
#[tokio::test(flavor = "multi_thread")]
async fn out_02_storescp_gets_every_state_of_a_report() {
    let scratch = Scratch::default();
    let receiver = Receiver::open(scratch.path("received"));
    let more = format!(
        "  workstation: {{ dicom: {{ address: \"127.0.0.1:{}\", ae_title: WS }} }}\n",
        receiver.port
    );
    let workflows = [("seen", WORKFLOW)];
    let habits = Habits { workflows: &workflows, destinations: &more, ..Habits::default() };
    let hospital = Hospital::with(habits).await;
    let person = token(&hospital, "radiologist", "Doe^Jane^^Dr");
    hospital.send(&study("storescp")).await;
    let mut known = BTreeSet::new();
    let draft = receiver.new_ones(&mut known, 4).await;
    assert_eq!(flags(&draft), BTreeSet::from([["COMPLETE", "UNVERIFIED", "PRELIMINARY"]]));
    assert!(draft.iter().all(|it| !it.has("(0040,a360)")), "a draft follows nothing");

    let api = |method: &str, path: &str, body: Option<&Value>| {
        let (status, answer) = call(&hospital.engine.http, Some(&person), (method, path), body);
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let open = api("GET", "/api/reviews", None);
    let run = open[0]["run"].as_str().unwrap().to_owned();
    let path = |what: &str| format!("/api/runs/{run}/{what}");
    let seen = api("GET", &path("result"), None);
    let mut content = seen["content"].clone();
    content["findings"][0]["text"] = json!("Less bone than drafted.");
    let edit = json!({ "seen": seen["digest"], "content": content });
    let edited = api("PUT", &path("result"), Some(&edit));
    let objects = receiver.new_ones(&mut known, 4).await;
    assert_eq!(flags(&objects), BTreeSet::from([["COMPLETE", "UNVERIFIED", "PRELIMINARY"]]));

    let sign = json!({ "seen": edited["digest"], "meaning": "corrected", "token": person });
    let signed = api("POST", &path("sign"), Some(&sign));
    let objects = receiver.new_ones(&mut known, 4).await;
    assert_eq!(flags(&objects), BTreeSet::from([["COMPLETE", "VERIFIED", "FINAL"]]));
    let reports = || objects.iter().filter(|it| it.value("(0008,0060)") == "SR");
    assert!(reports().all(|it| it.has("(0040,a073)") && it.has("(0040,a360)")));
    assert!(reports().all(|it| it.value("(0040,a075)") == "Doe^Jane^^Dr"));

    content["findings"][0]["text"] = json!("No bone.");
    let amend = json!({ "seen": signed["digest"], "content": content, "reason": "read anew",
        "token": person });
    let amended = api("POST", &path("amend"), Some(&amend));
    let objects = receiver.new_ones(&mut known, 4).await;
    assert_eq!(flags(&objects), BTreeSet::from([["COMPLETE", "VERIFIED", "FINAL"]]));

    let withdraw = json!({ "seen": amended["digest"], "reason": "wrong study", "token": person });
    api("POST", &path("withdraw"), Some(&withdraw));
    let [note] = receiver.new_ones(&mut known, 1).await.try_into().ok().unwrap();
    assert_eq!(note.value("(0008,0060)"), "KO");
    assert!(note.0.contains("[113037]"), "{}", note.0);
}
