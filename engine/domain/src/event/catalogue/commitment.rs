//! Events of storage commitment, as provider and as user (PS3.4, Annex J).

use crate::event::body::{details, event};

details! {
    /// A request of a peer to commit to instances.
    pub struct CommitmentRequested {
        /// Transaction UID of the request.
        transaction: String,
        /// How many instances it names.
        instances: usize,
    }
}

event! {
    /// A peer asked the engine to commit to instances.
    pub struct CommitmentAsked(CommitmentRequested): C;
}

event! {
    /// A peer repeated a request for storage commitment under the same transaction UID.
    pub struct CommitmentAskedAgain(CommitmentRequested): C;
}

event! {
    /// The instances of a request were checked against the stored files.
    pub struct CommitmentChecked: E {
        /// Transaction UID of the request.
        transaction: String,
        /// AE title of the peer that asked.
        peer: String,
        /// How many instances the engine commits to.
        committed: usize,
        /// How many it does not.
        failed: usize,
    }
}

details! {
    /// One attempt to report the result of a request.
    pub struct CommitmentAttempt {
        /// Transaction UID of the request.
        transaction: String,
        /// AE title of the peer that asked.
        peer: String,
        /// Number of the attempt, from one.
        attempt: i32,
    }
}

event! {
    /// The result of a request was reported to the peer (N-EVENT-REPORT).
    pub struct CommitmentReported(CommitmentAttempt): E;
}

event! {
    /// The result of a request could not be reported; the engine will try again.
    pub struct CommitmentPostponed(CommitmentAttempt): E;
}

event! {
    /// The result of a request could not be reported for days; a person was asked.
    pub struct CommitmentGivenUp(CommitmentAttempt): E;
}

event! {
    /// A destination answered whether it commits to what it was sent.
    pub struct CommitmentAnswered: C {
        /// Transaction UID of the engine's request.
        transaction: String,
        /// How many instances the destination commits to.
        committed: usize,
        /// How many it does not.
        failed: usize,
    }
}
