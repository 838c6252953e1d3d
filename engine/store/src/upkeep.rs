//! Upkeep of the database: retention, clock jumps, integrity checks and repairs.

pub(crate) mod clock;
pub(crate) mod doctor;
pub(crate) mod retention;
#[cfg(test)]
mod tests;
