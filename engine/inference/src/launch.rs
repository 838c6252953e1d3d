//! What is needed to start the host process of a model: the program, the checkpoint, its card and
//! the device.

use std::path::PathBuf;

use citrus_v::Compute;
use domain::ErrorChain;

use crate::model_store::ModelCard;

/// How the host process of a model is started.
#[derive(Clone, Debug)]
pub struct LaunchConfig {
    /// The engine's own executable, whose command `model-host` runs the host process.
    pub program: PathBuf,
    /// The folder of the checkpoint.
    pub checkpoint: PathBuf,
    /// The card of the model, with the digest of every file.
    pub card: ModelCard,
    /// The device to compute on.
    pub compute: Compute,
}

impl LaunchConfig {
    /// Reads all files of the checkpoint and compares them with the digests of the card.
    ///
    /// # Errors
    ///
    /// Returns the reason if a file has changed or cannot be read.
    pub(crate) async fn verify(&self) -> Result<(), String> {
        let Self { card, checkpoint, .. } = self.clone();
        match tokio::task::spawn_blocking(move || card.verify(&checkpoint)).await {
            Ok(verified) => verified.map_err(|error| ErrorChain(&error).to_string()),
            Err(error) => Err(ErrorChain(&error).to_string()),
        }
    }
}
