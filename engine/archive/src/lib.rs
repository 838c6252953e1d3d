//! Where bytes lie: instances as received, and what plugins made of them, by their content.
//!
//! A data set arrives in the quarantine, is hashed as it comes, and moves to its place once it has
//! been looked at. [`FolderDestination`] writes reports into a folder for those who want files.
//!
//! **Invariants**
//!
//! - What is in the archive is never written again: its name is the hash of its content.
//! - `keep` returns after the file and the name of the file are on the disk, not before.
//! - No name comes from a peer (SEC-26).

mod disk;
mod folder;
mod spool;
mod survey;

pub use disk::DiskArchive;
pub use folder::FolderDestination;
pub use survey::Survey;
