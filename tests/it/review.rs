//! A draft in the hands of a radiologist, and what everybody gets of it (OUT-02, OUT-80..83, ACC-14, ACC-19).

use serde_json::{Value, json};
use simulators::phantom::Phantom;
use simulators::{Ehr, FhirServer, order_message};
use system_tests::api::{call, call_raw, token};
use system_tests::{Habits, Hospital, Scratch, eventually, study};

const WORKFLOW: &str = "
workflow: reviewed
on: { study: { complete: { quiet: 200ms } } }
nodes:
  bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } }
  sign: { review: radiologist, after: [bone], sla: 4h }
deliver:
  - { to: pacs, what: [seg, sr], after: [bone] }
  - { to: drafts, what: [oru, mdm], after: [bone] }
  - { to: ehr, what: [oru], after: [sign] }
  - { to: registry, what: [fhir], after: [sign] }
";

/// A hospital in which drafts go to the PACS and to who wants drafts, and everybody else waits.
struct Ward {
    hospital: Hospital,
    drafts: Ehr,
    registry: FhirServer,
    token: String,
    _folder: Scratch,
}

impl Ward {
    async fn open() -> Self {
        let folder = Scratch::default();
        let any = || "127.0.0.1:0".parse().unwrap();
        let drafts = Ehr::open(&folder.path("drafts"), any()).await.unwrap();
        let registry = FhirServer::open(any()).await.unwrap();
        let more = format!(
            "  drafts: {{ mllp: {{ address: \"{}\", report: text }}, allow_unverified: true }}\n  \
             registry: {{ fhir: {{ url: \"{}\" }} }}\n",
            drafts.address(),
            registry.url(),
        );
        let workflows = [("reviewed", WORKFLOW)];
        let habits = Habits {
            workflows: &workflows,
            allow_unverified: false,
            destinations: &more,
            ..Habits::default()
        };
        let hospital = Hospital::with(habits).await;
        let token = token(&hospital, "radiologist", "Doe^Jane^^Dr");
        Self { hospital, drafts, registry, token, _folder: folder }
    }

    /// Sends an order and its study, and waits until the draft is everywhere drafts go.
    async fn drafted(&self) -> String {
        let phantom = Phantom { slices: 3, ..Phantom::default() };
        assert_eq!(self.hospital.send_message(&order_message(&phantom, "O1")).await, "AA");
        self.hospital.send(&phantom).await;
        self.sent_to_drafts(2).await;
        let open = self.call("GET", "/api/reviews", None).1;
        open[0]["run"].as_str().unwrap().to_owned()
    }

    /// Waits for so many messages at who wants drafts, and gives the newest ORU and MDM.
    async fn sent_to_drafts(&self, count: usize) -> (String, String) {
        let all = eventually("the messages", async || {
            let all = self.drafts.received();
            (all.len() >= count).then_some(all)
        })
        .await;
        assert_eq!(all.len(), count, "{all:?}");
        let newest = |kind: &str| all.iter().rev().find(|it| it.contains(kind)).unwrap().clone();
        (newest("ORU^R01"), newest("MDM^T"))
    }

    /// Waits for so many objects at the PACS, and gives the classes of the newest two.
    async fn at_pacs(&self, count: usize) -> Vec<String> {
        let all = eventually("the objects", async || {
            let all = self.hospital.pacs.received();
            (all.len() >= count).then_some(all)
        })
        .await;
        assert_eq!(all.len(), count);
        all.into_iter().map(|it| it.sop_class).collect()
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        call(&self.hospital.engine.http, Some(&self.token), (method, path), body)
    }

    fn result(&self, run: &str) -> Value {
        let (status, result) = self.call("GET", &format!("/api/runs/{run}/result"), None);
        assert_eq!(status, 200, "{result}");
        result
    }
}

/// A field of the first segment of a kind.
fn field(message: &str, segment: &str, number: usize) -> String {
    let line = message.split('\r').find(|it| it.starts_with(segment)).unwrap();
    line.split('|').nth(number).unwrap_or_default().to_owned()
}

/// OUT-02: draft, edit, sign, amend, withdraw of one study, as everybody gets it.
#[tokio::test(flavor = "multi_thread")]
async fn out_80_a_draft_is_edited_signed_amended_and_withdrawn() {
    let ward = Ward::open().await;
    let run = ward.drafted().await;
    let (oru, mdm) = ward.sent_to_drafts(2).await;
    assert_eq!((field(&oru, "OBR", 25).as_str(), field(&oru, "OBX", 11).as_str()), ("R", "R"));
    assert!(mdm.contains("MDM^T02^MDM_T02"), "{mdm}");
    assert_eq!((field(&mdm, "TXA", 17).as_str(), field(&mdm, "TXA", 19).as_str()), ("DO", "UN"));
    let document = field(&mdm, "TXA", 12);
    ward.at_pacs(2).await;

    // Edited: another finding, and half of the mask.
    let seen = ward.result(&run);
    let mut content = seen["content"].clone();
    content["findings"][0]["text"] = json!("Less bone than drafted.");
    let segment = &mut content["segmentations"][0]["segments"][0];
    let digest = segment["mask"]["sha256"].as_str().unwrap().to_owned();
    let voxels = segment["voxels"].as_u64().unwrap();
    let path = format!("/api/runs/{run}/masks/{digest}");
    let address = &ward.hospital.engine.http;
    let (_, mut bits) = call_raw(address, Some(&ward.token), ("GET", &path), b"");
    let half = bits.len() / 2;
    bits[half..].fill(0);
    let (_, kept) = call_raw(address, Some(&ward.token), ("PUT", "/api/masks"), &bits);
    segment["mask"] = serde_json::from_slice(&kept).unwrap();
    let edit = json!({"seen": seen["digest"], "content": content});
    let (status, edited) = ward.call("PUT", &format!("/api/runs/{run}/result"), Some(&edit));
    assert_eq!(status, 200, "{edited}");
    let segment = &edited["content"]["segmentations"][0]["segments"][0];
    let left = segment["voxels"].as_u64().unwrap();
    assert!(left > 0 && left < voxels && segment["is_edited"] == true, "{segment}");
    let (oru, mdm) = ward.sent_to_drafts(4).await;
    assert_eq!((field(&oru, "OBR", 25).as_str(), field(&oru, "OBX", 11).as_str()), ("P", "P"));
    assert!(oru.contains("Less bone than drafted.") && oru.contains("not verified"), "{oru}");
    assert!(mdm.contains("MDM^T08^MDM_T02") && field(&mdm, "TXA", 12) == document, "{mdm}");
    ward.at_pacs(4).await;
    assert!(ward.hospital.ehr.received().is_empty() && ward.registry.received().is_empty());

    // Signed: first for those who waited, and as the end of the draft for those who had it.
    let sign = json!({"seen": edited["digest"], "meaning": "corrected", "token": ward.token});
    let (status, signed) = ward.call("POST", &format!("/api/runs/{run}/sign"), Some(&sign));
    assert_eq!(status, 200, "{signed}");
    let (oru, mdm) = ward.sent_to_drafts(6).await;
    assert_eq!((field(&oru, "OBR", 25).as_str(), field(&oru, "OBX", 11).as_str()), ("F", "F"));
    assert!(!oru.contains("not verified") && field(&oru, "OBR", 32) == "&Doe&Jane", "{oru}");
    assert_eq!(field(&mdm, "TXA", 17), "LA");
    assert!(field(&mdm, "TXA", 22).starts_with("^Doe^Jane^"), "{mdm}");
    ward.at_pacs(6).await;
    let finals = eventually("the final report", async || {
        let all = ward.hospital.ehr.received();
        (!all.is_empty()).then_some(all)
    })
    .await;
    assert_eq!((finals.len(), field(&finals[0], "OBR", 25).as_str()), (1, "F"));
    assert_eq!(report(&ward.registry, 1).await["status"], "final");

    amend_and_withdraw(&ward, &run, &signed, &document).await;
}

/// What follows a signature.
async fn amend_and_withdraw(ward: &Ward, run: &str, signed: &Value, document: &str) {
    // Amended: a document of its own that replaces the first.
    let mut content = signed["content"].clone();
    content["findings"][0]["text"] = json!("Even less bone.");
    let amend = json!({"seen": signed["digest"], "content": content, "reason": "looked again",
        "token": ward.token});
    let (status, amended) = ward.call("POST", &format!("/api/runs/{run}/amend"), Some(&amend));
    assert_eq!(status, 200, "{amended}");
    let (oru, mdm) = ward.sent_to_drafts(8).await;
    assert_eq!((field(&oru, "OBR", 25).as_str(), field(&oru, "OBX", 11).as_str()), ("C", "C"));
    assert!(mdm.contains("MDM^T10^MDM_T02") && field(&mdm, "TXA", 13) == document, "{mdm}");
    assert_ne!(field(&mdm, "TXA", 12), document);
    assert_eq!(report(&ward.registry, 2).await["status"], "amended");
    ward.at_pacs(8).await;

    // Withdrawn: everybody hears that it is not to be used, and nobody gets it again.
    let withdraw = json!({"seen": amended["digest"], "reason": "wrong patient",
        "token": ward.token});
    let (status, gone) = ward.call("POST", &format!("/api/runs/{run}/withdraw"), Some(&withdraw));
    assert_eq!((status, gone["state"].as_str()), (200, Some("withdrawn")), "{gone}");
    let (oru, mdm) = ward.sent_to_drafts(10).await;
    assert_eq!((field(&oru, "OBR", 25).as_str(), field(&oru, "OBX", 11).as_str()), ("X", "W"));
    assert!(!oru.contains("Even less bone.") && oru.contains("taken back"), "{oru}");
    assert!(mdm.contains("MDM^T11^MDM_T01") && field(&mdm, "TXA", 19) == "CA", "{mdm}");
    let classes = ward.at_pacs(9).await;
    assert_eq!(classes.last().unwrap(), "1.2.840.10008.5.1.4.1.1.88.59");
    assert_eq!(report(&ward.registry, 3).await["status"], "entered-in-error");

    // OUT-83: every state stays readable, with who and when.
    let versions = ward.result(run)["versions"].clone();
    let states: Vec<&str> =
        versions.as_array().unwrap().iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["edited", "signed", "amended", "withdrawn"]);
    assert_eq!(versions[1]["by"]["name"], "Doe^Jane^^Dr");
    assert_eq!(versions[0]["content"]["findings"][0]["text"], "Less bone than drafted.");
}

/// The report of the newest bundle, once there are so many.
async fn report(registry: &FhirServer, count: usize) -> Value {
    let newest = eventually("the bundle", async || {
        let all = registry.received();
        (all.len() >= count).then(|| all.last().cloned().unwrap())
    })
    .await;
    assert_eq!(registry.received().len(), count);
    let bundle: Value = serde_json::from_slice(&newest).unwrap();
    let entries = bundle["entry"].as_array().unwrap();
    let report = entries.iter().find(|it| it["resource"]["resourceType"] == "DiagnosticReport");
    report.unwrap()["resource"].clone()
}

/// A draft that is rejected: who had it hears so, who waited for a signature never gets it.
#[tokio::test(flavor = "multi_thread")]
async fn out_80_a_rejected_draft_is_taken_back_and_never_reaches_the_ehr() {
    let ward = Ward::open().await;
    let run = ward.drafted().await;
    ward.at_pacs(2).await;
    let seen = ward.result(&run);
    let path = format!("/api/runs/{run}/reject");
    let bare = json!({"seen": seen["digest"], "reason": " ", "token": ward.token});
    assert_eq!(ward.call("POST", &path, Some(&bare)).0, 422);
    let reject = json!({"seen": seen["digest"], "reason": "motion", "token": ward.token});
    let (status, rejected) = ward.call("POST", &path, Some(&reject));
    assert_eq!((status, rejected["state"].as_str()), (200, Some("rejected")), "{rejected}");
    let runs = ward.hospital.ended_runs(1).await;
    assert_eq!(runs[0]["status"], "failed");
    let (oru, mdm) = ward.sent_to_drafts(4).await;
    assert_eq!(field(&oru, "OBX", 11), "W");
    assert!(mdm.contains("MDM^T11"), "{mdm}");
    ward.at_pacs(3).await;
    assert!(ward.hospital.ehr.received().is_empty() && ward.registry.received().is_empty());
    // A decision of a person is no work for another.
    assert_eq!(ward.hospital.ask(&["task", "list"]), json!([]));
    let trail = ward.hospital.ask(&["audit", "show", "--limit", "200"]).to_string();
    assert!(trail.contains("result_rejected") && !trail.contains("motion"), "{trail}");
}

/// SEC-50: who has no token, another role, an old one, or has not seen what is there, decides nothing.
#[tokio::test(flavor = "multi_thread")]
async fn out_82_nobody_signs_who_may_not_or_has_not_seen_it() {
    let ward = Ward::open().await;
    let run = ward.drafted().await;
    let seen = ward.result(&run)["digest"].clone();
    let (hospital, address) = (&ward.hospital, &ward.hospital.engine.http);
    let path = format!("/api/runs/{run}/sign");
    let sign = |token: &str, seen: &Value, meaning: &str| {
        let body = json!({"seen": seen, "meaning": meaning, "token": token});
        call(address, Some(token), ("POST", &path), Some(&body))
    };
    assert_eq!(call(address, None, ("GET", "/api/reviews"), None).0, 401);
    assert_eq!(sign("iso_guess", &seen, "approved").0, 401);
    let physician = token(hospital, "physician", "Other^Person");
    assert_eq!(sign(&physician, &seen, "approved").0, 403);
    assert_eq!(sign(&ward.token, &json!("00"), "approved").0, 409);
    let (status, told) = sign(&ward.token, &seen, "corrected");
    assert!(status == 422 && told["problem"].as_str().unwrap().contains("approved"), "{told}");
    // The token is repeated: the one of the session is not enough.
    let other = json!({"seen": seen, "meaning": "approved", "token": physician});
    assert_eq!(ward.call("POST", &path, Some(&other)).0, 401);
    // Two do not work on the same.
    let second = token(hospital, "radiologist", "Second^Reader");
    let claim = format!("/api/runs/{run}/claim");
    assert_eq!(ward.call("POST", &claim, None).0, 200);
    let (status, told) = sign(&second, &seen, "approved");
    assert!(status == 409 && told["problem"].as_str().unwrap().contains("Jane Doe"), "{told}");
    assert_eq!(ward.call("POST", &format!("/api/runs/{run}/release"), None).0, 200);
    // A token that was taken away is none.
    let list = hospital.ask(&["token", "list"]);
    let id = list.as_array().unwrap().iter().find(|it| it["name"] == "Doe^Jane^^Dr").unwrap();
    assert!(hospital.command(&["token", "revoke", id["id"].as_str().unwrap()]).status.success());
    assert_eq!(sign(&ward.token, &seen, "approved").0, 401);
    assert_eq!(sign(&second, &seen, "approved").0, 200);
    assert_eq!(sign(&second, &seen, "approved").0, 409, "signed twice");
}

/// A change that cannot be is refused whole: masks of another size, other grids, boxes of nothing.
#[tokio::test(flavor = "multi_thread")]
async fn out_80_what_cannot_be_is_not_saved() {
    let ward = Ward::open().await;
    let run = ward.drafted().await;
    let seen = ward.result(&run);
    let address = &ward.hospital.engine.http;
    let (_, kept) = call_raw(address, Some(&ward.token), ("PUT", "/api/masks"), &[1, 2, 3]);
    let small: Value = serde_json::from_slice(&kept).unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut content = seen["content"].clone();
        change(&mut content);
        let body = json!({"seen": seen["digest"], "content": content});
        ward.call("PUT", &format!("/api/runs/{run}/result"), Some(&body)).0
    };
    assert_eq!(changed(&|it| it["segmentations"][0]["segments"][0]["mask"] = small.clone()), 422);
    let absent = json!({"sha256": "00".repeat(32), "bytes": 3});
    assert_eq!(changed(&|it| it["segmentations"][0]["segments"][0]["mask"] = absent.clone()), 422);
    assert_eq!(changed(&|it| it["segmentations"][0]["geometry"]["rows"] = json!(7)), 422);
    assert_eq!(changed(&|it| it["findings"][0]["text"] = json!("a\u{1b}b")), 422);
    assert_eq!(changed(&|it| it["findings"] = json!("none")), 400);
    assert_eq!(ward.result(&run)["versions"], json!([]));
    assert_eq!(changed(&|_| ()), 200);
}

/// A study that nobody has ordered is reviewed all the same, and a killed engine forgets nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn out_80_a_review_outlives_the_engine() {
    let mut ward = Ward::open().await;
    ward.hospital.send(&study("survivor")).await;
    ward.sent_to_drafts(2).await;
    let run = ward.call("GET", "/api/reviews", None).1[0]["run"].as_str().unwrap().to_owned();
    ward.hospital.engine.kill();
    ward.hospital.restart();
    let seen = ward.result(&run)["digest"].clone();
    let sign = json!({"seen": seen, "meaning": "approved", "token": ward.token});
    assert_eq!(ward.call("POST", &format!("/api/runs/{run}/sign"), Some(&sign)).0, 200);
    ward.hospital.engine.kill();
    ward.hospital.restart();
    let runs = ward.hospital.ended_runs(1).await;
    assert_eq!(runs[0]["status"], "completed");
    assert_eq!(ward.hospital.ehr.received().len(), 1);
}
