//! `isocenter token`: who may decide about results.

use clap::Subcommand;
use uuid::Uuid;

use super::{Listing, Place};

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a token and shows it, this once.
    Create {
        /// What they are: radiologist, laboratory, physician.
        #[arg(long)]
        role: String,
        /// Their name, as it is printed under reports, or as `family^given^middle^prefix^suffix`.
        #[arg(long)]
        name: String,
        /// For whom they sign.
        #[arg(long)]
        organization: String,
        /// For how many days it is good.
        #[arg(long, default_value_t = 90)]
        days: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Shows tokens, the newest first.
    List(Listing),
    /// Lets somebody in no more.
    Revoke {
        /// Which token, by its key in the list.
        token: Uuid,
        #[command(flatten)]
        place: Place,
    },
}
