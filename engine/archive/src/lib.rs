//! Stores bytes on the disk by their content: instances as they were received, and the artifacts of
//! plugins.
//!
//! - `disk`: the archive; a data set arrives in its quarantine, is hashed on the way, and moves to
//!   its place once its header has been read;
//! - `spool`: writes a data set to the quarantine while it arrives;
//! - `survey`: compares the disk with the instances that should be on it;
//! - `folder`: a folder as a destination for reports.
//!
//! **Invariants**
//!
//! - A file in the archive is never modified: its name is the digest of its content.
//! - `keep` returns after the file and the name of the file are on the disk, not before.
//! - No name comes from a peer (SEC-26).

mod disk;
mod folder;
mod spool;
mod survey;

pub use disk::DiskArchive;
pub use folder::FolderDestination;
pub use survey::Survey;
