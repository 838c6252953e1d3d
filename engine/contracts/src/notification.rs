//! How workers learn that there is something to do.

use std::time::Duration;

use async_trait::async_trait;

domain::named_enum! {
    /// A kind of work that workers wait for.
    pub enum WorkKind {
        /// A study or message to decide about.
        Assembly = "assembly",
        /// A node to work on.
        Node = "node",
        /// A delivery to make.
        Delivery = "delivery",
        /// A request for storage commitment to answer.
        Commitment = "commitment",
    }
}

/// Wakes workers. A notification is a hint: workers look for work after the timeout as well.
#[async_trait]
pub trait Notifications: Send + Sync {
    /// Returns when there may be work of this kind, after `timeout` at the latest.
    async fn wait_for(&self, kind: WorkKind, timeout: Duration);
}
