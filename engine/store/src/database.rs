//! The database itself: the connection pool, notifications, and a private PostgreSQL cluster.

pub mod cluster;
pub(crate) mod decode;
pub(crate) mod lease;
pub(crate) mod listen;
pub(crate) mod pg_store;
pub(crate) mod prepare;
pub(crate) mod wakeups;
