//! Support for the tests of this crate: a private PostgreSQL, and a fresh database for each test.
//!
//! The first test of the process starts a cluster in a temporary folder and prepares a *template*
//! database. Every test copies the template, which takes milliseconds. The cluster runs as root or
//! as a user alike ([`Cluster`] knows how); it ends with the process, and its folder is removed.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use contracts::{
    Answers, InputKey, InstanceArrival, InstanceRecord, MessageArrival, MessageEffect,
    MessageRecord, NewDelivery, NewRun, NodeChange, NodeState, PluginPin, RunStep, StoredInstance,
    VersionPolicy,
};
use domain::{
    Actor, Assigner, Demographics, DemographicsChange, ExchangedDocument, MessageType, Order,
    OrderAction, OrderKey, OrderNumber, OutputKind, PatientId, Person, TokenHolder, WorkflowRef,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::database::cluster::Cluster;
use crate::database::pg_store::PgStore;
use crate::database::prepare::prepare;
use crate::intake::intake_store::IntakeStore;
use crate::intake::numbering::Numbering;
use crate::patient::identity::IdentityDomains;
use crate::vault::keys::Keys;

/// The database that every test database is a copy of.
const TEMPLATE: &str = "store_template";

static SHARED: OnceCell<Shared> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// What all tests of the process share.
struct Shared {
    cluster: Cluster,
    keys: PathBuf,
}

impl Shared {
    async fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("isocenter-store-{}", std::process::id()));
        // Makes the folder of the keys, where the cluster stores its passwords.
        Keys::open(&folder.join("keys")).unwrap();
        let pg_bin = std::env::var_os("PG_BIN").map(PathBuf::from);
        let cluster = Cluster::start(&folder, pg_bin.as_deref()).await.unwrap();
        end_with_process(&folder);
        let mut connection = PgConnection::connect_with(&cluster.admin()).await.unwrap();
        for statement in [
            "alter system set fsync = off",
            "alter system set synchronous_commit = off",
            "select pg_reload_conf()",
            "create database store_template",
        ] {
            sqlx::query(statement).execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
        prepare(cluster.admin().database(TEMPLATE)).await.unwrap();
        Self { cluster, keys: folder.join("keys") }
    }
}

/// The cluster of all tests of the process.
pub(crate) async fn cluster() -> &'static Cluster {
    &SHARED.get_or_init(Shared::start).await.cluster
}

/// Leaves a shell behind that stops the cluster and removes its folder once this process has ended.
fn end_with_process(folder: &std::path::Path) {
    let script = "(while kill -0 $0; do sleep 0.5; done
        kill -QUIT $(head -n 1 $1/pg/data/postmaster.pid); sleep 1; rm -rf $1) &";
    Command::new("sh")
        .args(["-c", script])
        .arg(std::process::id().to_string())
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

/// A store on a fresh database.
pub(crate) struct TestStore {
    pub(crate) store: Arc<PgStore>,
    pub(crate) intake: IntakeStore,
    /// For files that a test writes.
    pub(crate) folder: PathBuf,
    admin: PgConnectOptions,
}

impl TestStore {
    pub(crate) async fn new() -> Self {
        Self::with(Numbering::new(IdentityDomains::Single)).await
    }

    pub(crate) async fn with_domains(domains: IdentityDomains) -> Self {
        Self::with(Numbering::new(domains)).await
    }

    pub(crate) async fn with(numbering: Numbering) -> Self {
        let shared = SHARED.get_or_init(Shared::start).await;
        let name = format!("store_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect_with(&shared.cluster.admin()).await.unwrap();
        let statement = format!("create database {name} template {TEMPLATE}");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let keys = Arc::new(Keys::open(&shared.keys).unwrap());
        let options = shared.cluster.app().database(&name);
        let store = Arc::new(PgStore::open(options, keys).await.unwrap());
        let folder = std::env::temp_dir()
            .join(format!("isocenter-store-{}", std::process::id()))
            .join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        Self {
            intake: IntakeStore::new(&store, numbering),
            admin: shared.cluster.admin().database(&name),
            store,
            folder,
        }
    }

    /// Executes statements as the engine. Returns the number of rows of the last one.
    pub(crate) async fn execute(&self, statements: &str) -> u64 {
        let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()));
        statements.execute(&self.store.pool).await.unwrap().rows_affected()
    }

    /// Executes statements as the owner of the database.
    pub(crate) async fn execute_as_owner(&self, statements: &str) {
        let mut connection = PgConnection::connect_with(&self.admin).await.unwrap();
        let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()));
        statements.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// How to connect as the owner of the database.
    pub(crate) fn admin(&self) -> PgConnectOptions {
        self.admin.clone()
    }

    /// The rows of a query as JSON objects.
    pub(crate) async fn rows(&self, query: &str) -> Vec<Value> {
        let query = format!("select to_jsonb(q) from ({query}) q");
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&self.store.pool).await.unwrap()
    }

    /// The first column of the only row of a query, as text.
    pub(crate) async fn value(&self, query: &str) -> String {
        let query = format!("select (q.v)::text from ({query}) q (v)");
        let value = sqlx::query_scalar::<_, Option<String>>(sqlx::AssertSqlSafe(query));
        value.fetch_one(&self.store.pool).await.unwrap().unwrap_or_default()
    }

    /// The number of rows of `from`, which may have conditions.
    pub(crate) async fn count(&self, from: &str) -> i64 {
        self.value(&format!("select count(*) from {from}")).await.parse().unwrap()
    }

    /// A person with a token of their own, that the account `it` has created.
    pub(crate) async fn holder(&self, name: &str, number: u8) -> TokenHolder {
        let person = Person {
            name: name.to_owned(),
            organization: "City Hospital".to_owned(),
            role: "physician".to_owned(),
        };
        let until = Timestamp::now() + SignedDuration::from_hours(1);
        let digest = [number; 32];
        self.store.create_token(&person, &digest, until, Actor::person("it")).await.unwrap();
        self.store.token_holder(&digest).await.unwrap().unwrap()
    }

    /// The kinds of all events, in order.
    pub(crate) async fn event_kinds(&self) -> Vec<String> {
        sqlx::query_scalar("select kind from audit.event order by position")
            .fetch_all(&self.store.pool)
            .await
            .unwrap()
    }
}

/// A small UID for tests: the same number gives the same UID.
pub(crate) fn uid(number: u32) -> String {
    format!("1.2.826.0.1.3680043.10.1.{number}")
}

pub(crate) fn patient_id(value: &str) -> PatientId {
    PatientId { value: value.to_owned(), issuer: String::new() }
}

/// A CT image of a study and series with these numbers, of the patient `P1`.
pub(crate) fn instance(study: u32, series: u32, number: u32) -> InstanceRecord {
    let instance = uid(1_000_000 * study + 1000 * series + number);
    InstanceRecord {
        arrival: InstanceArrival {
            calling_ae: "CT1".to_owned(),
            called_ae: "ISOCENTER".to_owned(),
            address: "10.0.0.1".to_owned(),
            association: Uuid::from_u128(u128::from(study)),
            sop_class: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
            sop_instance: instance.clone(),
            transfer_syntax: "1.2.840.10008.1.2.1".to_owned(),
        },
        sha256: digest(&instance),
        instance,
        sop_class: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
        series: uid(100_000 + 100 * study + series),
        study: uid(study),
        bytes: 1024,
        patient: Some(patient_id("P1")),
        demographics: Demographics { name: "Doe^Jane".to_owned(), ..Demographics::default() },
        accession: format!("A{study}"),
        accession_issuer: String::new(),
        requested_accessions: Vec::new(),
        modality: "CT".to_owned(),
        is_own: false,
        body_part: "CHEST".to_owned(),
        study_description: "CT chest".to_owned(),
        series_description: "thin".to_owned(),
        study_date: "20260101".to_owned(),
        study_time: "101112".to_owned(),
        frame_of_reference: String::new(),
        placer: String::new(),
        filler: String::new(),
        placer_authority: String::new(),
        filler_authority: String::new(),
        requested_procedure: String::new(),
        versions: VersionPolicy::KeepFirst,
        study_id: "1".to_owned(),
        quality_flags: Vec::new(),
    }
}

/// The same instance with other content.
pub(crate) fn other_version(record: &InstanceRecord) -> InstanceRecord {
    InstanceRecord { sha256: digest(&format!("{} again", record.instance)), ..record.clone() }
}

/// A digest that stands for some content.
pub(crate) fn digest(content: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(content))
}

/// A message of the RIS with these effects.
pub(crate) fn message(control_id: &str, effects: Vec<MessageEffect>) -> MessageRecord {
    let raw = format!("MSH|^~\\&|RIS|HOSPITAL|||||ORU^R01|{control_id}|P|2.5");
    MessageRecord {
        id: Uuid::now_v7(),
        arrival: MessageArrival {
            address: "10.0.0.2".to_owned(),
            connection: Some(Uuid::from_u128(7)),
            sha256: digest(&raw),
            raw: raw.into_bytes(),
            sending_application: "RIS".to_owned(),
            sending_facility: "HOSPITAL".to_owned(),
            message_type: MessageType::new("ORU", "R01"),
            control_id: control_id.to_owned(),
            processing_id: String::new(),
            stated_at: None,
            effects,
            answers: Answers { first: Some(b"AA".to_vec()), application: None },
            acknowledgement_code: "AA".to_owned(),
            problem: None,
            flags: Vec::new(),
        },
    }
}

/// Names a patient, with a name.
pub(crate) fn names(patient: &str, name: &str) -> MessageEffect {
    MessageEffect::Patient {
        id: patient_id(patient),
        demographics: DemographicsChange {
            name: Some(name.to_owned()),
            ..DemographicsChange::default()
        },
    }
}

/// Carries an order of a patient, with nothing but its keys.
pub(crate) fn ordered(action: OrderAction, patient: &str, key: OrderKey) -> MessageEffect {
    MessageEffect::Order(Box::new(Order::new(action, Some(patient_id(patient)), key)))
}

/// An order number of the RIS's own.
pub(crate) fn order_number(number: &str) -> OrderNumber {
    let assigner =
        Assigner::Sender { application: "RIS".to_owned(), facility: "HOSPITAL".to_owned() };
    OrderNumber { number: number.to_owned(), assigner }
}

/// Carries an empty document on a patient.
pub(crate) fn document(patient: &str, accession: &str) -> MessageEffect {
    MessageEffect::Document {
        patient: Some(patient_id(patient)),
        accession: accession.to_owned(),
        document: ExchangedDocument::default(),
    }
}

pub(crate) fn plugin() -> PluginPin {
    PluginPin { name: "detect".to_owned(), version: "1.0.0".to_owned(), digest: digest("detect") }
}

/// A node that is ready to be worked on.
pub(crate) fn ready_node(name: &str) -> NodeChange {
    NodeChange {
        node: name.to_owned(),
        state: NodeState::Ready,
        run_after: None,
        due: None,
        plugin: Some(plugin()),
        output: None,
        reason: String::new(),
    }
}

/// A report to a destination.
pub(crate) fn delivery(index: usize, destination: &str) -> NewDelivery {
    NewDelivery {
        index,
        destination: destination.to_owned(),
        what: vec![OutputKind::Sr],
        blocked: None,
    }
}

/// A run on an instance, with one ready node `detect`.
pub(crate) fn new_run(record: &InstanceRecord, patient: Option<Uuid>, input: &str) -> NewRun {
    NewRun {
        id: Uuid::now_v7(),
        workflow: WorkflowRef { name: "chest".to_owned(), digest: digest("chest") },
        definition: "name: chest".to_owned(),
        patient,
        study: Some(record.study.parse().unwrap()),
        message: None,
        priority: 5,
        input_key: InputKey { definition: digest("chest"), content: input.to_owned() },
        instances: vec![StoredInstance {
            instance: record.instance.parse().unwrap(),
            sop_class: record.sop_class.clone(),
            sha256: record.sha256.clone(),
        }],
        reason: "complete".to_owned(),
        amends: None,
        due: None,
        step: RunStep {
            state: json!({"open": ["detect"]}),
            nodes: vec![ready_node("detect")],
            ..RunStep::default()
        },
    }
}

/// Random numbers that are the same on every run (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        u32::try_from((mixed ^ (mixed >> 31)) % u64::from(bound)).unwrap()
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }
}
