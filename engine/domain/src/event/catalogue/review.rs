//! Events of review: what people decide about results, corrections that come back, and open tasks.

use uuid::Uuid;

use crate::event::body::{details, event};
use crate::{CorrectionSource, Meaning, ReviewState, TaskKind};

event! {
    /// A run waits for a person to review its result.
    pub struct ReviewRequested: E {
        /// The role that may review it.
        role: String,
    }
}

event! {
    /// A person read a result.
    pub struct ReviewRead: R {}
}

details! {
    /// Who decided about a result. The name of the person is the actor of the event.
    pub struct ReviewerFacts {
        /// The role of the person.
        role: String,
        /// The engine's key of the token that authenticated the person.
        token: Uuid,
    }
}

event! {
    /// A person locked a result for review.
    pub struct ReviewClaimed(ReviewerFacts): U;
}

event! {
    /// A person gave up the lock on a result.
    pub struct ReviewReleased(ReviewerFacts): U;
}

details! {
    /// A new version of a result, and who made it.
    pub struct VersionFacts {
        /// The role of the person.
        role: String,
        /// The engine's key of the token that authenticated the person.
        token: Uuid,
        /// Number of the version, from one.
        version: i32,
        /// State of the result in this version.
        state: ReviewState,
        /// The engine's key of the stored content.
        payload: Uuid,
        /// Digest of the content with a salt that is erased with the patient's key.
        salted_sha256: String,
        /// The engine's key of the stored difference to the draft.
        difference: Uuid,
        /// What the signature means, if it was signed.
        meaning: Option<Meaning>,
    }
}

event! {
    /// A person changed a result without signing it.
    pub struct ResultEdited(VersionFacts): U;
}

event! {
    /// A person signed a result.
    pub struct ResultSigned(VersionFacts): U;
}

event! {
    /// A person changed a signed result and signed it again (OUT-83).
    pub struct ResultAmended(VersionFacts): U;
}

event! {
    /// A person rejected a draft: it is not to be used.
    pub struct ResultRejected(VersionFacts): U;
}

event! {
    /// A person withdrew a signed result.
    pub struct ResultWithdrawn(VersionFacts): U;
}

event! {
    /// A SEG, SR or report from outside corrects a result of the engine; both were stored as a pair
    /// (OUT-81).
    pub struct CorrectionMatched: C {
        /// What came back: `seg`, `sr`, `oru`, `mdm`.
        source: CorrectionSource,
        /// The engine's key of the stored content.
        payload: Uuid,
        /// Digest of the content with a salt that is erased with the patient's key.
        salted_sha256: String,
        /// The engine's key of the stored difference to the draft.
        difference: Uuid,
    }
}

event! {
    /// An object from outside that may correct a result of the engine cannot be read: it corrects
    /// nothing, and a person is told (OUT-81). Why may quote the object, and stays with the task.
    pub struct CorrectionUnreadable: C {
        /// What came back: `seg`, `sr`.
        source: CorrectionSource,
    }
}

event! {
    /// A person read the list of corrections (AUD-08).
    pub struct CorrectionsRead: R {}
}

event! {
    /// A task was opened: a person has to look at something.
    pub struct TaskOpened: C {
        /// The engine's key of the task.
        task: Uuid,
        /// The kind of task.
        task_kind: TaskKind,
    }
}

event! {
    /// A task was closed, by a person or because its cause is gone. What a person wrote may name a
    /// patient and stays out of the trail.
    pub struct TaskDecided: U {
        /// The engine's key of the task.
        task: Uuid,
    }
}
