//! Independent receivers: every state of a report at `storescp` of dcmtk and at Orthanc, read by
//! `dcmdump` (OUT-02), and signed bundles at an HTTP endpoint.

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use system_tests::api::{call, token};
use system_tests::{Hospital, Scratch, SiteOptions, eventually, files, study};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

const WORKFLOW: &str = "workflow: seen
on: { study: { complete: { quiet: 200ms } } }
nodes:
  bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } }
  sign: { review: radiologist, after: [bone] }
deliver: [{ to: workstation, what: [seg, sr, narrative, pdf], after: [bone] }]
";

/// A PACS of another vendor as a child process.
struct Receiver {
    process: Child,
    folder: PathBuf,
    port: u16,
}

impl Receiver {
    fn storescp(folder: PathBuf) -> Self {
        Self::storescp_that_accepts("+xa", folder)
    }

    /// dcmtk's receiver, with an option that names the transfer syntaxes it accepts.
    fn storescp_that_accepts(syntaxes: &str, folder: PathBuf) -> Self {
        let port = free_port();
        let mut process = Command::new("storescp");
        process.args([syntaxes, "-od"]).arg(&folder).args(["-aet", "WS", &port.to_string()]);
        Self::open(process, folder, port)
    }

    fn orthanc(folder: PathBuf) -> Self {
        let port = free_port();
        let site = json!({ "StorageDirectory": folder, "IndexDirectory": folder, "DicomAet": "WS",
            "DicomPort": port, "HttpServerEnabled": false });
        let file = folder.with_extension("json");
        fs::write(&file, site.to_string()).unwrap();
        let mut process = Command::new("/usr/sbin/Orthanc");
        process.arg(&file);
        Self::open(process, folder, port)
    }

    fn open(mut process: Command, folder: PathBuf, port: u16) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let process = process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { process, folder, port }
    }

    /// Waits for `count` objects that are not yet in `known`, and adds them.
    async fn new_objects(&self, known: &mut BTreeSet<PathBuf>, count: usize) -> Vec<Dump> {
        let new = eventually("the objects", async || {
            let files = files(&self.folder).into_iter().filter(|it| !known.contains(it));
            let new: Vec<_> = files.filter_map(|it| dump(&it).map(|dump| (it, dump))).collect();
            (new.len() >= count).then_some(new)
        })
        .await;
        assert_eq!(new.len(), count);
        let mut dumps = Vec::new();
        for (file, dump) in new {
            known.insert(file);
            dumps.push(dump);
        }
        dumps
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Drop for Receiver {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// The dump of a file, or `None` if the file is no complete DICOM object.
fn dump(file: &Path) -> Option<Dump> {
    let output = Command::new("dcmdump").arg("+L").arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success() && text.contains("(0008,0018)")).then_some(Dump(text))
}

/// The output of `dcmdump`.
struct Dump(String);

impl Dump {
    /// The first value of an element, at any level.
    fn value(&self, tag: &str) -> &str {
        let line = self.0.lines().find(|it| it.trim_start().starts_with(tag)).unwrap_or_default();
        let inner = line.split_once('[').and_then(|(_, it)| it.split_once(']'));
        inner.map_or("", |(it, _)| it)
    }

    fn has(&self, tag: &str) -> bool {
        self.0.lines().any(|it| it.trim_start().starts_with(tag))
    }
}

/// Completion, verification and preliminary flag of the structured reports among the objects.
fn flags(all: &[Dump]) -> BTreeSet<[&str; 3]> {
    let reports = all.iter().filter(|it| it.value("(0008,0060)") == "SR");
    reports
        .map(|it| ["(0040,a491)", "(0040,a493)", "(0040,a496)"].map(|tag| it.value(tag)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn out_02_storescp_gets_every_state_of_a_report() {
    let scratch = Scratch::default();
    gets_every_state(&Receiver::storescp(scratch.path("received"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn out_02_orthanc_gets_every_state_of_a_report() {
    let scratch = Scratch::default();
    gets_every_state(&Receiver::orthanc(scratch.path("received"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn din_05_a_receiver_of_implicit_vr_only_gets_a_report() {
    let scratch = Scratch::default();
    let receiver = Receiver::storescp_that_accepts("+xi", scratch.path("received"));
    let hospital = hospital_with(&receiver).await;
    hospital.send(&study("implicit")).await;
    let draft = receiver.new_objects(&mut BTreeSet::new(), 4).await;
    assert_eq!(flags(&draft), BTreeSet::from([["COMPLETE", "UNVERIFIED", "PRELIMINARY"]]));
    assert!(draft.iter().all(|it| it.value("(0010,0020)") == study("implicit").patient_id));
    let syntax = "LittleEndianImplicit";
    assert!(draft.iter().all(|it| it.0.contains(syntax)), "{}", draft[0].0);
}

/// A hospital whose results go to the receiver.
async fn hospital_with(receiver: &Receiver) -> Hospital {
    eventually("the receiver", async || TcpStream::connect(("127.0.0.1", receiver.port)).ok())
        .await;
    let more = format!(
        "  workstation: {{ dicom: {{ address: \"127.0.0.1:{}\", ae_title: WS }} }}\n",
        receiver.port
    );
    let workflows = [("seen", WORKFLOW)];
    Hospital::with(SiteOptions {
        workflows: &workflows,
        destinations: &more,
        ..SiteOptions::default()
    })
    .await
}

/// Edits, signs, amends and withdraws a draft, and checks the objects of each state: new UIDs, the
/// flags, and the reference to the predecessor.
async fn gets_every_state(receiver: &Receiver) {
    let hospital = hospital_with(receiver).await;
    let person = token(&hospital, "radiologist", "Doe^Jane^^Dr");
    hospital.send(&study("states")).await;
    let mut known = BTreeSet::new();
    let draft = receiver.new_objects(&mut known, 4).await;
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
    let drafted = api("GET", &path("result"), None);
    let mut content = drafted["content"].clone();
    content["findings"][0]["text"] = json!("Less bone than drafted.");
    let edit = json!({ "seen": drafted["digest"], "content": content });
    let edited = api("PUT", &path("result"), Some(&edit));
    let objects = receiver.new_objects(&mut known, 4).await;
    assert_eq!(flags(&objects), BTreeSet::from([["COMPLETE", "UNVERIFIED", "PRELIMINARY"]]));

    let sign = json!({ "seen": edited["digest"], "meaning": "corrected", "token": person });
    let signed = api("POST", &path("sign"), Some(&sign));
    let objects = receiver.new_objects(&mut known, 4).await;
    assert_eq!(flags(&objects), BTreeSet::from([["COMPLETE", "VERIFIED", "FINAL"]]));
    let reports = || objects.iter().filter(|it| it.value("(0008,0060)") == "SR");
    assert!(reports().all(|it| it.has("(0040,a073)") && it.has("(0040,a360)")));
    assert!(reports().all(|it| it.value("(0040,a075)") == "Doe^Jane^^Dr"));

    content["findings"][0]["text"] = json!("No bone.");
    let amend = json!({ "seen": signed["digest"], "content": content, "reason": "read anew",
        "token": person });
    let amended = api("POST", &path("amend"), Some(&amend));
    let objects = receiver.new_objects(&mut known, 4).await;
    assert_eq!(flags(&objects), BTreeSet::from([["COMPLETE", "VERIFIED", "FINAL"]]));

    let withdraw = json!({ "seen": amended["digest"], "reason": "wrong study", "token": person });
    api("POST", &path("withdraw"), Some(&withdraw));
    let [note] = receiver.new_objects(&mut known, 1).await.try_into().ok().unwrap();
    assert_eq!(note.value("(0008,0060)"), "KO");
    assert!(note.0.contains("[113037]"), "{}", note.0);
}

const WEBHOOK_WORKFLOW: &str = "workflow: hooked
on: { study: { complete: { quiet: 200ms } } }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } } }
deliver: [{ to: dashboard, what: [fhir] }]
";

const SECRET: &str = "a secret that both sides have";

/// A request that reached the endpoint.
#[derive(Clone, Debug, Default)]
struct HookRequest {
    signature: String,
    idempotency_key: String,
    body: Vec<u8>,
}

/// An HTTP endpoint that responds with 503 to the first request and with 204 to all others.
struct Endpoint {
    address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<HookRequest>>>,
}

impl Endpoint {
    async fn open() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<HookRequest>>>::default();
        let received = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let request = read_request(&mut stream).await;
                let count = {
                    let mut received = received.lock().unwrap();
                    received.push(request);
                    received.len()
                };
                let status = if count == 1 { "503 Service Unavailable" } else { "204 No Content" };
                let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
                let answer = format!("{head}content-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<HookRequest> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut BufReader<tokio::net::TcpStream>) -> HookRequest {
    let mut request = HookRequest::default();
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "x-isocenter-signature" => value.clone_into(&mut request.signature),
            "idempotency-key" => value.clone_into(&mut request.idempotency_key),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body).await.unwrap();
    request
}

/// HMAC-SHA-256 as the receiver computes it (RFC 2104).
fn signature_of(body: &[u8]) -> String {
    let mut key = SECRET.as_bytes().to_vec();
    key.resize(64, 0);
    let padded = |pad: u8| key.iter().map(|it| it ^ pad).collect::<Vec<u8>>();
    let inner = Sha256::digest([padded(0x36), body.to_vec()].concat());
    let outer = Sha256::digest([padded(0x5c), inner.to_vec()].concat());
    format!("sha256={}", hex::encode(outer))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_a_signed_bundle_once_under_the_same_key_on_every_attempt() {
    let scratch = Scratch::default();
    let endpoint = Endpoint::open().await;
    let secret = scratch.write("webhook.secret", &format!("{SECRET}\n"));
    let more = format!(
        "  dashboard: {{ webhook: {{ url: \"http://{}/results\", secret_file: \"{}\" }}, \
         allow_unverified: true }}\n",
        endpoint.address,
        secret.display()
    );
    let workflows = [("hooked", WEBHOOK_WORKFLOW)];
    let options =
        SiteOptions { workflows: &workflows, destinations: &more, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    hospital.send(&study("webhook")).await;
    hospital.ended_runs(1).await;

    let requests = eventually("the second attempt", async || {
        let requests = endpoint.requests();
        (requests.len() >= 2).then_some(requests)
    })
    .await;
    let [refused, accepted] = requests.as_slice() else { panic!("{} requests", requests.len()) };
    assert!(!accepted.idempotency_key.is_empty());
    assert_eq!(refused.idempotency_key, accepted.idempotency_key);
    assert_eq!(refused.body, accepted.body);
    assert_eq!(accepted.signature, signature_of(&accepted.body));
    let bundle: Value = serde_json::from_slice(&accepted.body).unwrap();
    assert_eq!(bundle["resourceType"], "Bundle");
    assert_eq!(bundle["id"], accepted.idempotency_key);

    eventually("the delivery to be acknowledged", async || {
        let deliveries = hospital.ask(&["delivery", "list"]);
        let deliveries = deliveries.as_array().unwrap();
        deliveries.iter().all(|it| it["state"] == "delivered").then_some(())
    })
    .await;
    assert_eq!(endpoint.requests().len(), 2, "delivered once");
}
