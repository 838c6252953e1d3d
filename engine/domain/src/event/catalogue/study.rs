//! Events of studies as a whole, and of what retention removes.

use crate::event::body::{details, event};

event! {
    /// A workflow did not start on a study or message, for a reason that may need a person.
    pub struct WorkflowNotStarted: R {
        /// Name of the workflow.
        workflow: String,
        /// Why it did not start.
        reason: String,
    }
}

event! {
    /// The images of a study were exported to files.
    pub struct StudyExported: R {
        /// How many instances.
        instances: usize,
    }
}

event! {
    /// The images of a study were removed because their retention term had expired.
    pub struct ImagesRemoved: D {
        /// How many instances.
        instances: usize,
        /// How many bytes together.
        bytes: i64,
    }
}

details! {
    /// Encrypted content that was removed.
    pub struct RemovedPayloads {
        /// How many payloads.
        payloads: usize,
    }
}

event! {
    /// The content of a message was removed because its retention term had expired.
    pub struct MessageRemoved(RemovedPayloads): D;
}

event! {
    /// The results of a run were removed because their retention term had expired.
    pub struct ResultsRemoved(RemovedPayloads): D;
}
