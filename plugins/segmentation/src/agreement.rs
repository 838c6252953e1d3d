//! Compares an outline of the network with the one by Hounsfield units.

use domain::Algorithm;
use evaluation::overlap::dice;
use imaging::Mask;
use plugin_api::VolumeRef;

use crate::target::Target;
use crate::threshold;

/// The agreement of two outlines of a target.
pub(crate) struct Agreement {
    target: String,
    /// Dice coefficient, from 0 to 1.
    dice: f64,
    /// Lower bound of the Dice coefficient, below which a reader must know.
    dice_min: f64,
}

impl Agreement {
    /// Compares the outline of a target in a CT; nothing if Hounsfield units do not distinguish the
    /// target.
    pub(crate) fn of(
        target: &Target,
        mask: &Mask,
        volume: &VolumeRef<'_>,
        dice_min: f64,
    ) -> Option<Self> {
        let by_threshold = threshold::mask(target.hounsfield()?, volume);
        let dice = dice(&mask.packed(), &by_threshold.packed());
        Some(Self { target: target.name().to_owned(), dice, dice_min })
    }

    /// A sentence for the reader of the finding; nothing if the outlines agree.
    pub(crate) fn doubt(&self) -> Option<String> {
        let Self { target, dice, dice_min } = self;
        (dice < dice_min).then(|| {
            format!(
                " The network and Hounsfield units outline {target} differently: Dice {dice:.2}, \
                 less than {dice_min:.2}."
            )
        })
    }

    /// Records the coefficient among the parameters of the algorithm.
    pub(crate) fn add_to(&self, algorithm: &mut Algorithm) {
        let text = format!("Dice {:.3} with Hounsfield units", self.dice);
        algorithm.parameters.insert(format!("{} agreement", self.target), text);
    }
}
