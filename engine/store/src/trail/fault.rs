//! What does not fit between the trail and the files beside it, for people (AUD-03).

use domain::TrailFault;

use crate::error::{Error, inconsistent};

/// The error for a trail that does not fit what was signed and counted.
pub(super) fn unfit(fault: TrailFault) -> Error {
    inconsistent(fault_text(fault))
}

/// What a fault means, for people.
pub fn fault_text(fault: TrailFault) -> &'static str {
    match fault {
        TrailFault::CheckpointsMissing => "the file with the signed batches is missing",
        TrailFault::CheckpointsAltered => {
            "the last line of the file with the signed batches was not signed by this site"
        }
        TrailFault::CountMissing => "the file with the count of the trail is missing",
        TrailFault::CountAltered => "the count of the trail was not signed by this site",
        TrailFault::FilesDisagree => {
            "the count of the trail and the file with the signed batches are not of the same time"
        }
        TrailFault::BatchesMissing => {
            "batches that were signed and exported are missing from the trail"
        }
        TrailFault::BatchDiffers => "the last batch of the trail is not the one that was signed",
        TrailFault::FilesOlder => {
            "the trail is longer than its count and signed batches: these files are from earlier"
        }
    }
}
