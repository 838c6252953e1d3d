//! The trail: what happened to whose data, who did it, and how it ended.
//!
//! Every kind of event has a type with its fields, named like the kind: [`InstanceReceived`] is
//! recorded as `instance_received`. `EVENTS.md`, beside this crate's manifest, lists all of them.
//! To record one:
//!
//! ```
//! use domain::event::StudyExported;
//! use domain::{Event, Subject};
//!
//! let subject = Subject { study: Some("1.2.3".to_owned()), ..Subject::default() };
//! let event = Event::new(subject, StudyExported { instances: 120 });
//! assert_eq!(event.kind.name(), "study_exported");
//! ```

mod body;
mod catalogue;
mod description;
mod kind;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

pub use body::{Details, EventBody};
pub use catalogue::commitment::*;
pub use catalogue::delivery::*;
pub use catalogue::instance::*;
pub use catalogue::message::*;
pub use catalogue::operation::*;
pub use catalogue::patient::*;
pub use catalogue::review::*;
pub use catalogue::run::*;
pub use catalogue::study::*;
pub use description::EventDescription;
pub use kind::EventKind;

/// One line of the trail: something happened to somebody's data.
///
/// **Invariant:** `detail` holds nothing that would have to be erased with a patient (AUD-06), and
/// no fractions, so that its canonical form is the same everywhere (RFC 8785).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What happened: `instance_received`, `run_started`, …
    pub kind: EventKind,
    /// Whether the subject was created, read, updated, deleted or executed.
    pub action: Action,
    /// Whether it succeeded.
    pub outcome: Outcome,
    /// Who did it.
    pub actor: Actor,
    /// What it happened to.
    pub subject: Subject,
    /// The fields of its kind. A field without a value is left out of the trail.
    pub detail: Value,
}

/// The kind of action (PS3.15, A.5; table of `EventActionCode`).
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

impl Action {
    /// The action as a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::C => "create",
            Self::R => "read",
            Self::U => "update",
            Self::D => "delete",
            Self::E => "execute",
        }
    }
}

/// How an event ended (`EventOutcomeIndicator` of PS3.15, A.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Outcome {
    /// It succeeded.
    Success,
    /// It failed, and another attempt may succeed.
    MinorFailure,
    /// It failed for good.
    SeriousFailure,
    /// It failed, and the engine itself is impaired.
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

/// What kind of actor did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// The engine itself.
    Engine,
    /// A system on the network.
    Peer,
    /// A person, at the command line or in review.
    Person,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Whether it is the engine, a peer or a person.
    pub kind: ActorKind,
    /// AE title, application name, or name of the user.
    pub id: String,
    /// Network address, if it acted over the network.
    pub address: Option<String>,
}

impl Actor {
    /// The engine itself.
    pub fn engine() -> Self {
        Self { kind: ActorKind::Engine, id: "isocenter".to_owned(), address: None }
    }

    /// A system on the network, by its AE title or application name.
    pub fn peer(id: &str, address: &str) -> Self {
        Self { kind: ActorKind::Peer, id: id.to_owned(), address: Some(address.to_owned()) }
    }

    /// A person, by user name.
    pub fn person(id: &str) -> Self {
        Self { kind: ActorKind::Person, id: id.to_owned(), address: None }
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
    /// The engine's key of a run.
    pub run: Option<Uuid>,
    /// Name of a node of that run.
    pub node: Option<String>,
    /// Name of a destination.
    pub destination: Option<String>,
}

impl Event {
    /// An event that the engine itself caused and that succeeded.
    pub fn new<B: EventBody>(subject: Subject, body: B) -> Self {
        // The fields of the catalogue are plain values, which always have a JSON form.
        let detail = serde_json::to_value(body).unwrap_or_default();
        Self {
            kind: B::KIND,
            action: B::ACTION,
            outcome: Outcome::Success,
            actor: Actor::engine(),
            subject,
            detail,
        }
    }

    /// The same event, caused by somebody else.
    #[must_use]
    pub fn by(mut self, actor: Actor) -> Self {
        self.actor = actor;
        self
    }

    /// The same event with another outcome.
    #[must_use]
    pub fn ended(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// The same event with another action than its kind has: of a merge, the patient whose identity
    /// ends is deleted.
    #[must_use]
    pub fn with_action(mut self, action: Action) -> Self {
        self.action = action;
        self
    }
}
