//! The editions of the binary contract, oldest first.
//!
//! An edition is frozen once released. A table may grow at its end, which its size shows; any other
//! change needs a new file and a new symbol.

pub mod v1;
