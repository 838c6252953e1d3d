//! Which order a message means: by its numbers with what assigned them (HL7-40, HL7-43).

use contracts::{InstanceStore as _, MessageStore as _};
use domain::{Assigner, OrderAction, OrderKey, OrderKind, OrderNumber};

use crate::intake::numbering::{LongAccession, Numbering};
use crate::patient::identity::{Authorities, IdentityDomains};
use crate::run::snapshot;
use crate::testing::{Random, TestStore, instance, message, ordered, patient_id, uid};

/// The messages of a test, one order each.
struct Orders {
    test: TestStore,
    sent: u32,
}

impl Orders {
    async fn new() -> Self {
        Self { test: TestStore::new().await, sent: 0 }
    }

    async fn with(numbering: Numbering) -> Self {
        Self { test: TestStore::with(numbering).await, sent: 0 }
    }

    async fn send(&mut self, action: OrderAction, patient: &str, key: OrderKey) {
        self.sent += 1;
        let effect = ordered(action, patient, key);
        let record = message(&self.sent.to_string(), vec![effect]);
        self.test.intake.store_message(record).await.unwrap();
    }

    async fn place(&mut self, patient: &str, key: OrderKey) {
        self.send(OrderAction::Place, patient, key).await;
    }

    async fn cancel(&mut self, patient: &str, key: OrderKey) {
        self.send(OrderAction::Cancel, patient, key).await;
    }

    /// How many orders there are, and how many of them are cancelled.
    async fn counts(&self) -> (i64, i64) {
        let all = self.test.count("imaging_order").await;
        (all, self.test.count("imaging_order where cancelled").await)
    }

    /// The reasons of the conflicts that were recorded, each with a task.
    async fn conflicts(&self) -> Vec<String> {
        let rows = self.test.rows(
            "select body #>> '{detail,conflict}' as conflict from audit.event
             where kind = 'order_conflicting' order by at",
        );
        let conflicts: Vec<String> =
            rows.await.iter().map(|it| it["conflict"].as_str().unwrap().to_owned()).collect();
        let tasks = self.test.count("task where kind = 'order_conflict'").await;
        assert_eq!(usize::try_from(tasks).unwrap(), conflicts.len());
        conflicts
    }
}

fn of(number: &str, namespace: &str) -> OrderNumber {
    let assigner = Assigner::Authority {
        namespace: namespace.to_owned(),
        universal_id: String::new(),
        universal_id_type: String::new(),
    };
    OrderNumber { number: number.to_owned(), assigner }
}

fn sent_by(number: &str, application: &str) -> OrderNumber {
    let assigner =
        Assigner::Sender { application: application.to_owned(), facility: "H".to_owned() };
    OrderNumber { number: number.to_owned(), assigner }
}

fn placer(placer: OrderNumber) -> OrderKey {
    OrderKey { placer, ..OrderKey::default() }
}

fn filler(filler: OrderNumber) -> OrderKey {
    OrderKey { filler, ..OrderKey::default() }
}

#[tokio::test]
async fn hl7_40_one_number_of_two_authorities_is_two_orders() {
    let mut orders = Orders::new().await;
    orders.place("P1", placer(of("1001", "ED"))).await;
    orders.place("P2", placer(of("1001", "ICU"))).await;
    assert_eq!(orders.counts().await, (2, 0));
    orders.cancel("P2", placer(of("1001", "ICU"))).await;
    assert_eq!(orders.counts().await, (2, 1));
    let kept = "select body #>> '{key,placer,assigner,authority,namespace}' from imaging_order
        where not cancelled";
    assert_eq!(orders.test.value(kept).await, "ED");
    assert!(orders.conflicts().await.is_empty());
}

#[tokio::test]
async fn hl7_43_a_cancelled_order_of_the_laboratory_leaves_that_of_radiology() {
    for (radiology, laboratory) in [("RIS", "LIS"), ("EHR", "EHR")] {
        let mut orders = Orders::new().await;
        let of_kind =
            |application, kind| OrderKey { kind, ..filler(sent_by("F1001", application)) };
        orders.place("P1", of_kind(radiology, OrderKind::Imaging)).await;
        orders.cancel("P1", of_kind(laboratory, OrderKind::Laboratory)).await;
        assert_eq!(orders.counts().await, (2, 1), "{radiology} {laboratory}");
        assert_eq!(
            orders.test.count("imaging_order where cancelled and kind = 'imaging'").await,
            0
        );
    }
}

#[tokio::test]
async fn hl7_40_a_placer_number_never_matches_a_filler_number() {
    let mut orders = Orders::new().await;
    orders.place("P1", placer(sent_by("1001", "RIS"))).await;
    orders.cancel("P1", filler(sent_by("1001", "RIS"))).await;
    assert_eq!(orders.counts().await, (2, 1));
}

#[tokio::test]
async fn hl7_40_an_order_is_found_by_either_of_its_numbers() {
    let mut orders = Orders::new().await;
    orders.place("P1", placer(of("P1", "EHR"))).await;
    let both = OrderKey { filler: of("F1", "RIS"), ..placer(of("P1", "EHR")) };
    orders.place("P1", both).await;
    orders.cancel("P1", filler(of("F1", "RIS"))).await;
    assert_eq!(orders.counts().await, (1, 1));
    assert!(orders.conflicts().await.is_empty());
}

#[tokio::test]
async fn hl7_40_numbers_of_two_orders_change_neither_and_a_person_is_told() {
    let mut orders = Orders::new().await;
    orders.place("P1", placer(of("P1", "EHR"))).await;
    orders.place("P1", filler(of("F1", "RIS"))).await;
    let both = OrderKey { filler: of("F1", "RIS"), ..placer(of("P1", "EHR")) };
    orders.cancel("P1", both).await;
    assert_eq!(orders.counts().await, (2, 0));
    assert_eq!(orders.conflicts().await, ["several_orders"]);
}

#[tokio::test]
async fn hl7_40_a_number_that_contradicts_the_other_changes_nothing() {
    let mut orders = Orders::new().await;
    let key = |number| OrderKey { filler: of(number, "RIS"), ..placer(of("P1", "EHR")) };
    orders.place("P1", key("F1")).await;
    orders.cancel("P1", key("F2")).await;
    assert_eq!(orders.counts().await, (1, 0));
    assert_eq!(orders.conflicts().await, ["other_number"]);
}

#[tokio::test]
async fn hl7_44_the_number_of_another_patients_order_changes_nothing() {
    let mut orders = Orders::new().await;
    orders.place("P1", placer(sent_by("1001", "RIS"))).await;
    orders.place("P2", placer(sent_by("1001", "RIS"))).await;
    orders.cancel("P2", placer(sent_by("1001", "RIS"))).await;
    assert_eq!(orders.counts().await, (1, 0));
    let patient = "select p.value from imaging_order o join patient p on p.id = o.patient";
    assert_eq!(orders.test.value(patient).await, "P1");
    assert_eq!(orders.conflicts().await, ["other_patient", "other_patient"]);
}

/// The namespaces of the orders that ask for study 1.
async fn orders_of_study(test: &TestStore) -> Vec<String> {
    let mut connection = test.store.pool.acquire().await.unwrap();
    let found = snapshot::orders(&mut connection, Some(&uid(1))).await.unwrap();
    let mut found: Vec<String> = found.iter().map(|it| it.order.key.placer.text()).collect();
    found.sort();
    found
}

#[tokio::test]
async fn hl7_40_the_authority_in_an_image_chooses_among_orders() {
    let mut orders = Orders::new().await;
    for namespace in ["ED", "ICU"] {
        orders.place("P1", placer(of("1001", namespace))).await;
    }
    let mut image = instance(1, 1, 1);
    image.placer = "1001".to_owned();
    image.placer_authority = "ICU".to_owned();
    orders.test.intake.store_instance(image).await.unwrap();
    assert_eq!(orders_of_study(&orders.test).await, ["1001^ICU"]);
}

#[tokio::test]
async fn hl7_40_a_bare_number_in_an_image_is_that_of_its_patients_order() {
    let mut orders = Orders::new().await;
    let image = instance(1, 1, 1);
    let own = image.patient.clone().unwrap().value;
    orders.place(&own, placer(of("1001", "ED"))).await;
    orders.place("another", placer(of("1001", "ICU"))).await;
    let laboratory = OrderKey { kind: OrderKind::Laboratory, ..placer(of("1001", "LAB")) };
    orders.place(&own, laboratory).await;
    let image = contracts::InstanceRecord { placer: "1001".to_owned(), ..image };
    orders.test.intake.store_instance(image).await.unwrap();
    assert_eq!(orders_of_study(&orders.test).await, ["1001^ED"]);
}

fn accession(number: &str, issuer: &str, placer: &str) -> OrderKey {
    OrderKey {
        placer: sent_by(placer, "RIS"),
        accession: number.to_owned(),
        accession_issuer: issuer.to_owned(),
        ..OrderKey::default()
    }
}

#[tokio::test]
async fn din_65_an_accession_number_is_matched_with_its_issuer() {
    let authorities = Authorities {
        default_issuer: Some("HOSP".to_owned()),
        names: [("1.2.3.111".to_owned(), "RIS".to_owned())].into(),
        ..Authorities::default()
    };
    let domains = IdentityDomains::Many(authorities);
    let mut orders = Orders::with(Numbering::new(domains)).await;
    orders.place("P1", accession("A1", "RIS", "1")).await;
    orders.place("P1", accession("A1", "CARDIO", "2")).await;
    orders.place("P1", accession("A1", "", "3")).await;
    // The issuer under the OID that the site knows as RIS.
    let mut image = instance(1, 1, 1);
    image.accession_issuer = "1.2.3.111".to_owned();
    orders.test.intake.store_instance(image).await.unwrap();
    assert_eq!(orders_of_study(&orders.test).await, ["1", "3"]);
}

#[tokio::test]
async fn hl7_42_one_study_answers_the_orders_of_all_its_accession_numbers() {
    let mut orders = Orders::new().await;
    for (number, placer) in [("A1", "1"), ("A2", "2"), ("A3", "3"), ("A4", "4")] {
        orders.place("P1", accession(number, "", placer)).await;
    }
    let mut first = instance(1, 1, 1);
    first.requested_accessions = vec!["A1".to_owned(), "A2".to_owned()];
    let mut second = instance(1, 2, 1);
    second.accession = "A3".to_owned();
    // What is of another patient says nothing about the orders of the study.
    let mut foreign = instance(1, 3, 1);
    foreign.accession = "A4".to_owned();
    foreign.patient = Some(patient_id("P2"));
    for image in [first, second, foreign] {
        orders.test.intake.store_instance(image).await.unwrap();
    }
    assert_eq!(orders_of_study(&orders.test).await, ["1", "2", "3"]);
}

#[tokio::test]
async fn hl7_41_a_long_accession_number_is_compared_as_the_site_says() {
    for (long_accession, expected) in [
        (LongAccession::Unknown, Vec::new()),
        (LongAccession::First, vec!["1"]),
        (LongAccession::Last, vec!["2"]),
    ] {
        let numbering = Numbering { domains: IdentityDomains::Single, long_accession };
        let mut orders = Orders::with(numbering).await;
        orders.place("P1", accession("RIS-2026-0000012345", "", "1")).await;
        orders.place("P1", accession("000RIS-2026-0000012", "", "2")).await;
        let mut image = instance(1, 1, 1);
        image.accession = "RIS-2026-0000012".to_owned();
        orders.test.intake.store_instance(image).await.unwrap();
        assert_eq!(orders_of_study(&orders.test).await, expected);
        let whole = "imaging_order where length(accession) = 19";
        assert_eq!(orders.test.count(whole).await, 2);
    }
}

/// A number that few orders share, of one of two authorities or one of two senders.
fn random_number(random: &mut Random) -> OrderNumber {
    let number = (1 + random.below(2)).to_string();
    match random.below(5) {
        0 => of(&number, "ED"),
        1 => of(&number, "ICU"),
        2 => sent_by(&number, "RIS"),
        3 => sent_by(&number, "LIS"),
        _ => OrderNumber::default(),
    }
}

/// Whatever comes, in whatever order: a message changes no order of another patient, and at most one
/// of its own; each order, cancellation and conflict is told.
#[tokio::test]
async fn hl7_40_no_message_changes_an_order_of_another_patient() {
    let mut orders = Orders::new().await;
    let mut random = Random::new(41);
    let state = "select o.id, p.value as patient, o.body, o.cancelled
        from imaging_order o join patient p on p.id = o.patient order by o.id";
    let mut before = Vec::new();
    for sent in 1..=150 {
        let patient = ["P1", "P2"][random.below(2) as usize];
        let kinds = [OrderKind::Imaging, OrderKind::Laboratory, OrderKind::Unknown];
        let actions = [OrderAction::Place, OrderAction::UpdateStatus, OrderAction::Cancel];
        let key = OrderKey {
            placer: random_number(&mut random),
            filler: random_number(&mut random),
            kind: kinds[random.below(3) as usize],
            accession: ["", "A1", "A2"][random.below(3) as usize].to_owned(),
            ..OrderKey::default()
        };
        orders.send(actions[random.below(3) as usize], patient, key).await;

        let after = orders.test.rows(state).await;
        let changed: Vec<_> = after.iter().filter(|it| !before.contains(*it)).collect();
        assert!(changed.len() <= 1, "message {sent} changed {changed:?}");
        assert!(changed.iter().all(|it| it["patient"] == patient), "message {sent}");
        assert!(after.len() >= before.len());
        let told = "audit.event where kind in
            ('order_received', 'order_cancelled', 'order_conflicting')";
        assert_eq!(orders.test.count(told).await, sent);
        before = after;
    }
    let conflicts = orders.conflicts().await;
    for conflict in ["several_orders", "other_number", "other_patient"] {
        assert!(conflicts.iter().any(|it| it == conflict), "no {conflict} in {conflicts:?}");
    }
}
