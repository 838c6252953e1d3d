use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// One line of the trail: something happened to somebody's data.
///
/// **Invariant:** `detail` holds nothing that would have to be erased with a patient (AUD-06), and
/// no fractions, so that its canonical form is the same everywhere (RFC 8785).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What happened: `instance_received`, `run_started`, …
    pub kind: String,
    /// Whether something was made, read, changed, removed or executed.
    pub action: Action,
    /// How it went.
    pub outcome: Outcome,
    /// Who did it.
    pub actor: Actor,
    /// What it happened to.
    pub subject: Subject,
    /// What else there is to know.
    pub detail: Value,
}

/// The kind of doing (PS3.15, A.5; table of `EventActionCode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Created.
    C,
    /// Read.
    R,
    /// Updated.
    U,
    /// Deleted.
    D,
    /// Executed.
    E,
}

/// How it went (`EventOutcomeIndicator` of PS3.15, A.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Outcome {
    /// Well.
    Success,
    /// Not, and may go well later.
    MinorFailure,
    /// Not.
    SeriousFailure,
    /// Not, and the engine is the worse for it.
    MajorFailure,
}

impl From<Outcome> for u8 {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => 0,
            Outcome::MinorFailure => 4,
            Outcome::SeriousFailure => 8,
            Outcome::MajorFailure => 12,
        }
    }
}

impl TryFrom<u8> for Outcome {
    type Error = String;

    fn try_from(code: u8) -> Result<Self, Self::Error> {
        match code {
            0 => Ok(Self::Success),
            4 => Ok(Self::MinorFailure),
            8 => Ok(Self::SeriousFailure),
            12 => Ok(Self::MajorFailure),
            other => Err(format!("{other} is no outcome")),
        }
    }
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// `engine`, `peer` or `person`.
    pub kind: String,
    /// AE title, application name, or operating-system user.
    pub id: String,
    /// Network address, if it came over one.
    pub address: Option<String>,
}

impl Actor {
    /// The engine itself.
    pub fn engine() -> Self {
        Self { kind: "engine".to_owned(), id: "isocenter".to_owned(), address: None }
    }

    /// Somebody on the network.
    pub fn peer(id: &str, address: &str) -> Self {
        let (kind, id) = ("peer".to_owned(), id.to_owned());
        Self { kind, id, address: Some(address.to_owned()) }
    }

    /// Somebody at the command line.
    pub fn person(id: &str) -> Self {
        Self { kind: "person".to_owned(), id: id.to_owned(), address: None }
    }
}

/// What something happened to. Each part is set where it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The engine's own key of the patient: means nothing outside its database.
    pub patient: Option<Uuid>,
    /// Study Instance UID.
    pub study: Option<String>,
    /// Accession number.
    pub accession: Option<String>,
    /// SOP Instance UID.
    pub instance: Option<String>,
    /// The engine's key of a message.
    pub message: Option<Uuid>,
    /// A run.
    pub run: Option<Uuid>,
    /// A node of that run.
    pub node: Option<String>,
    /// A destination.
    pub destination: Option<String>,
}

impl Event {
    /// Something the engine did, that went well.
    pub fn engine(kind: &str, action: Action, subject: Subject, detail: Value) -> Self {
        let (outcome, actor) = (Outcome::Success, Actor::engine());
        Self { kind: kind.to_owned(), action, outcome, actor, subject, detail }
    }

    /// The same, done by somebody else.
    #[must_use]
    pub fn by(mut self, actor: Actor) -> Self {
        self.actor = actor;
        self
    }

    /// The same, ended otherwise.
    #[must_use]
    pub fn ended(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }
}
