//! Review of a draft by a radiologist, and what each destination receives (OUT-02, OUT-80..83,
//! ACC-14, ACC-19).

use std::ops::Range;

use serde_json::{Value, json};
use simulators::phantom::Phantom;
use simulators::{Ehr, FhirServer, order_message};
use system_tests::api::{call, call_raw, token};
use system_tests::{Hospital, Scratch, SiteOptions, eventually, study};

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

/// A hospital in which PACS and `drafts` receive drafts, and the other destinations only signed
/// reports.
struct Ward {
    hospital: Hospital,
    drafts: Ehr,
    registry: FhirServer,
    token: String,
    _folder: Scratch,
}

impl Ward {
    async fn open() -> Self {
        Self::with(WORKFLOW).await
    }

    async fn with(workflow: &str) -> Self {
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
        let workflows = [("reviewed", workflow)];
        let options = SiteOptions {
            workflows: &workflows,
            allow_unverified: false,
            destinations: &more,
            ..SiteOptions::default()
        };
        let hospital = Hospital::with(options).await;
        let token = token(&hospital, "radiologist", "Doe^Jane^^Dr");
        Self { hospital, drafts, registry, token, _folder: folder }
    }

    /// Sends an order and its study, and waits for the draft. Returns the id of the run.
    async fn drafted(&self) -> String {
        let phantom = Phantom { slices: 3, ..Phantom::default() };
        assert_eq!(self.hospital.send_message(&order_message(&phantom, "O1")).await, "AA");
        self.hospital.send(&phantom).await;
        self.sent_to_drafts(2).await;
        let open = self.call("GET", "/api/reviews", None).1;
        open[0]["run"].as_str().unwrap().to_owned()
    }

    /// Waits until `drafts` has `count` messages. Returns the newest ORU and the newest MDM.
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

    /// Waits until the PACS has `count` objects. Returns their SOP classes.
    async fn at_pacs(&self, count: usize) -> Vec<String> {
        let all = eventually("the objects", async || {
            let all = self.hospital.pacs.received();
            (all.len() >= count).then_some(all)
        })
        .await;
        assert_eq!(all.len(), count);
        all.into_iter().map(|it| it.sop_class).collect()
    }

    /// Calls the HTTP interface as the radiologist.
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        call(&self.hospital.engine.http, Some(&self.token), (method, path), body)
    }

    fn result(&self, run: &str) -> Value {
        let (status, result) = self.call("GET", &format!("/api/runs/{run}/result"), None);
        assert_eq!(status, 200, "{result}");
        result
    }
}

/// A field of the first segment with this name.
fn field(message: &str, segment: &str, number: usize) -> String {
    let line = message.split('\r').find(|it| it.starts_with(segment)).unwrap();
    line.split('|').nth(number).unwrap_or_default().to_owned()
}

/// OUT-02: a study is drafted, edited, signed, amended and withdrawn, and each destination receives
/// every state that it should.
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

    // Edited: another text of the finding, and half of the mask.
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
    let (_, stored) = call_raw(address, Some(&ward.token), ("PUT", "/api/masks"), &bits);
    segment["mask"] = serde_json::from_slice(&stored).unwrap();
    let edit = json!({"seen": seen["digest"], "content": content});
    let (status, edited) = ward.call("PUT", &format!("/api/runs/{run}/result"), Some(&edit));
    assert_eq!(status, 200, "{edited}");
    let segment = &edited["content"]["segmentations"][0]["segments"][0];
    let remaining = segment["voxels"].as_u64().unwrap();
    assert!(remaining > 0 && remaining < voxels && segment["is_edited"] == true, "{segment}");
    let (oru, mdm) = ward.sent_to_drafts(4).await;
    assert_eq!((field(&oru, "OBR", 25).as_str(), field(&oru, "OBX", 11).as_str()), ("P", "P"));
    assert!(oru.contains("Less bone than drafted.") && oru.contains("not verified"), "{oru}");
    assert!(mdm.contains("MDM^T08^MDM_T02") && field(&mdm, "TXA", 12) == document, "{mdm}");
    ward.at_pacs(4).await;
    assert!(ward.hospital.ehr.received().is_empty() && ward.registry.received().is_empty());

    // Signed: the final report replaces the draft, and destinations of signed reports get it first.
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

/// Amends and withdraws the signed report, and checks what each destination receives.
async fn amend_and_withdraw(ward: &Ward, run: &str, signed: &Value, document: &str) {
    // Amended: a new document that replaces the first one.
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

    // Withdrawn: every destination is notified, without the content of the report.
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

    // OUT-83: every version stays readable, with its author.
    let versions = ward.result(run)["versions"].clone();
    let states: Vec<&str> =
        versions.as_array().unwrap().iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["edited", "signed", "amended", "withdrawn"]);
    assert_eq!(versions[1]["by"]["name"], "Doe^Jane^^Dr");
    assert_eq!(versions[0]["content"]["findings"][0]["text"], "Less bone than drafted.");
}

/// The report of the newest bundle, once there are `count` bundles.
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

/// A rejected draft is withdrawn from the destinations that have it. Destinations of signed reports
/// never receive it.
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
    // A rejection creates no task for another person.
    assert_eq!(ward.hospital.ask(&["task", "list"]), json!([]));
    let trail = ward.hospital.ask(&["audit", "show", "--limit", "200"]).to_string();
    assert!(trail.contains("result_rejected") && !trail.contains("motion"), "{trail}");
}

/// SEC-50: a signature needs a valid token of the right role, and the digest of the current
/// version.
#[tokio::test(flavor = "multi_thread")]
async fn out_82_nobody_signs_who_may_not_or_has_not_seen_it() {
    let ward = Ward::open().await;
    let run = ward.drafted().await;
    let seen = ward.result(&run)["digest"].clone();
    let hospital = &ward.hospital;
    let address = &hospital.engine.http;
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
    let (status, answer) = sign(&ward.token, &seen, "corrected");
    assert!(status == 422 && answer["problem"].as_str().unwrap().contains("approved"), "{answer}");
    // The body of the request must repeat the token of the session.
    let other = json!({"seen": seen, "meaning": "approved", "token": physician});
    assert_eq!(ward.call("POST", &path, Some(&other)).0, 401);
    // Only one person at a time can work on a review.
    let second = token(hospital, "radiologist", "Second^Reader");
    let claim = format!("/api/runs/{run}/claim");
    assert_eq!(ward.call("POST", &claim, None).0, 200);
    let (status, answer) = sign(&second, &seen, "approved");
    assert!(status == 409 && answer["problem"].as_str().unwrap().contains("Jane Doe"), "{answer}");
    assert_eq!(ward.call("POST", &format!("/api/runs/{run}/release"), None).0, 200);
    // A revoked token is not accepted.
    let list = hospital.ask(&["token", "list"]);
    let token = list.as_array().unwrap().iter().find(|it| it["name"] == "Doe^Jane^^Dr").unwrap();
    assert!(hospital.command(&["token", "revoke", token["id"].as_str().unwrap()]).status.success());
    assert_eq!(sign(&ward.token, &seen, "approved").0, 401);
    assert_eq!(sign(&second, &seen, "approved").0, 200);
    assert_eq!(sign(&second, &seen, "approved").0, 409, "signed twice");
}

/// An invalid edit is refused as a whole: masks of another size, missing masks, another geometry,
/// control characters in text.
#[tokio::test(flavor = "multi_thread")]
async fn out_80_what_cannot_be_is_not_saved() {
    let ward = Ward::open().await;
    let run = ward.drafted().await;
    let seen = ward.result(&run);
    let address = &ward.hospital.engine.http;
    let (_, stored) = call_raw(address, Some(&ward.token), ("PUT", "/api/masks"), &[1, 2, 3]);
    let small: Value = serde_json::from_slice(&stored).unwrap();
    let edited = |change: &dyn Fn(&mut Value)| {
        let mut content = seen["content"].clone();
        change(&mut content);
        let body = json!({"seen": seen["digest"], "content": content});
        ward.call("PUT", &format!("/api/runs/{run}/result"), Some(&body)).0
    };
    assert_eq!(edited(&|it| it["segmentations"][0]["segments"][0]["mask"] = small.clone()), 422);
    let absent = json!({"sha256": "00".repeat(32), "bytes": 3});
    assert_eq!(edited(&|it| it["segmentations"][0]["segments"][0]["mask"] = absent.clone()), 422);
    assert_eq!(edited(&|it| it["segmentations"][0]["geometry"]["rows"] = json!(7)), 422);
    assert_eq!(edited(&|it| it["findings"][0]["text"] = json!("a\u{1b}b")), 422);
    assert_eq!(edited(&|it| it["findings"] = json!("none")), 400);
    assert_eq!(ward.result(&run)["versions"], json!([]));
    assert_eq!(edited(&|_| ()), 200);
}

/// A study without an order can be reviewed, and its review survives kills of the engine.
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

/// A ward whose workflow runs again on late images, and a study of four.
struct LateStudy {
    ward: Ward,
    phantom: Phantom,
}

impl LateStudy {
    async fn new() -> Self {
        let workflow = WORKFLOW.replace("study: { complete", "study: { late: replace, complete");
        let phantom = Phantom { slices: 4, ..Phantom::default() };
        Self { ward: Ward::with(&workflow).await, phantom }
    }

    /// Sends the images of these places.
    async fn store(&self, places: Range<usize>) {
        let files = self.phantom.files();
        let files: Vec<&[u8]> = files[places].iter().map(Vec::as_slice).collect();
        self.ward.hospital.modality().store(&files).await.unwrap();
    }
}

/// DIN-52, HL7-51, OUT-83: a run on late images is a proposal. The signed result stands, and can be
/// amended, until a person signs the later one, which corrects it then.
#[tokio::test(flavor = "multi_thread")]
async fn din_52_a_late_run_is_a_proposal_beside_a_signed_result() {
    let late = LateStudy::new().await;
    let ward = &late.ward;
    assert_eq!(ward.hospital.send_message(&order_message(&late.phantom, "O1")).await, "AA");
    late.store(0..3).await;
    ward.sent_to_drafts(2).await;
    let first = ward.call("GET", "/api/reviews", None).1[0]["run"].as_str().unwrap().to_owned();
    let sign = |run: &str| {
        let seen = ward.result(run)["digest"].clone();
        let body = json!({"seen": seen, "meaning": "approved", "token": ward.token});
        ward.call("POST", &format!("/api/runs/{run}/sign"), Some(&body))
    };
    let (status, signed) = sign(&first);
    assert_eq!(status, 200, "{signed}");
    ward.sent_to_drafts(4).await;
    ward.at_pacs(4).await;

    late.store(3..4).await;
    let open = eventually("the proposal", async || {
        let open = ward.call("GET", "/api/reviews", None).1;
        open.as_array().is_some_and(|it| !it.is_empty()).then_some(open)
    })
    .await;
    assert_eq!(open[0]["signed_before"], json!(first));
    let second = open[0]["run"].as_str().unwrap().to_owned();
    eventually("the deliveries that wait", async || {
        let all = ward.hospital.ask(&["delivery", "list"]);
        let held = all
            .as_array()?
            .iter()
            .filter(|it| it["run"] == json!(second) && it["state"] == "blocked");
        (held.count() == 2).then_some(())
    })
    .await;

    // The signed result can be amended while the proposal waits.
    let mut content = signed["content"].clone();
    content["findings"][0]["text"] = json!("Less bone.");
    let amend = json!({"seen": signed["digest"], "content": content, "reason": "looked again",
        "token": ward.token});
    let (status, amended) = ward.call("POST", &format!("/api/runs/{first}/amend"), Some(&amend));
    assert_eq!(status, 200, "{amended}");
    let (oru, mdm) = ward.sent_to_drafts(6).await;
    assert_eq!((field(&oru, "OBR", 25).as_str(), field(&oru, "OBX", 11).as_str()), ("C", "C"));
    let document = field(&mdm, "TXA", 12);
    ward.at_pacs(6).await;

    let (status, answer) = sign(&second);
    assert_eq!(status, 200, "{answer}");
    let (corrected, mdm) = ward.sent_to_drafts(8).await;
    let statuses = (field(&corrected, "OBR", 25), field(&corrected, "OBX", 11));
    assert_eq!((statuses.0.as_str(), statuses.1.as_str()), ("C", "C"));
    assert_eq!(field(&corrected, "OBR", 3), field(&oru, "OBR", 3));
    assert!(mdm.contains("MDM^T10^MDM_T02") && field(&mdm, "TXA", 13) == document, "{mdm}");
    assert_ne!(field(&mdm, "TXA", 12), document);
    ward.at_pacs(8).await;
    let finals = eventually("the final reports", async || {
        Some(ward.hospital.ehr.received()).filter(|it| it.len() == 3)
    })
    .await;
    let statuses: Vec<String> = finals.iter().map(|it| field(it, "OBR", 25)).collect();
    assert_eq!(statuses, ["F", "C", "C"]);

    let again = json!({"seen": amended["digest"], "reason": "wrong", "token": ward.token});
    let path = format!("/api/runs/{first}/withdraw");
    assert_eq!(ward.call("POST", &path, Some(&again)).0, 409, "a later run has taken its place");
}

/// DIN-52: a proposal that a person rejects leaves the signed result as it is.
#[tokio::test(flavor = "multi_thread")]
async fn din_52_a_rejected_proposal_takes_nothing_back() {
    let late = LateStudy::new().await;
    let ward = &late.ward;
    late.store(0..3).await;
    ward.sent_to_drafts(2).await;
    let decide = |run: &str, decision: &str, more: Value| {
        let mut body = json!({"seen": ward.result(run)["digest"], "token": ward.token});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ward.call("POST", &format!("/api/runs/{run}/{decision}"), Some(&body))
    };
    let next = async || {
        let open = eventually("a review", async || {
            let open = ward.call("GET", "/api/reviews", None).1;
            open.as_array().is_some_and(|it| !it.is_empty()).then_some(open)
        });
        open.await[0]["run"].as_str().unwrap().to_owned()
    };
    let first = next().await;
    assert_eq!(decide(&first, "sign", json!({"meaning": "approved"})).0, 200);
    ward.sent_to_drafts(4).await;
    late.store(3..4).await;
    let second = next().await;
    assert_eq!(decide(&second, "reject", json!({"reason": "motion"})).0, 200);
    ward.hospital.ended_runs(2).await;
    let (status, answer) = decide(&first, "withdraw", json!({"reason": "wrong patient"}));
    assert_eq!((status, answer["state"].as_str()), (200, Some("withdrawn")), "{answer}");
    let (oru, _) = ward.sent_to_drafts(6).await;
    assert_eq!(field(&oru, "OBX", 11), "W", "the signed result stood until it was withdrawn");
}
