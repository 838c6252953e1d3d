//! What the network drew beside what Hounsfield units say.

use domain::Algorithm;
use evaluation::overlap::dice;
use imaging::Mask;
use plugin_api::VolumeRef;

use crate::target::Target;
use crate::threshold;

/// How well both agree on a target.
pub(crate) struct Agreement {
    target: Target,
    dice: f64,
    least: f64,
}

impl Agreement {
    /// Of a target in a CT; nothing, if Hounsfield units do not tell it.
    pub(crate) fn of(
        target: Target,
        drawn: &Mask,
        volume: &VolumeRef<'_>,
        least: f64,
    ) -> Option<Self> {
        target.range()?;
        let dice = dice(&drawn.packed(), &threshold::mask(target, volume).packed());
        Some(Self { target, dice, least })
    }

    /// What a reader has to know: nothing, if they agree.
    pub(crate) fn doubt(&self) -> Option<String> {
        let Self { target, dice, least } = self;
        (dice < least).then(|| {
            format!(
                " The network and Hounsfield units outline {} differently: Dice {dice:.2}, less than {least:.2}.",
                target.name()
            )
        })
    }

    /// Keeps it with what outlined them.
    pub(crate) fn put(&self, algorithm: &mut Algorithm) {
        let text = format!("Dice {:.3} with Hounsfield units", self.dice);
        algorithm.parameters.insert(format!("{} agreement", self.target.name()), text);
    }
}
