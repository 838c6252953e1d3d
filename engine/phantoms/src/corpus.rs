//! A dataset of many phantoms.

use std::path::Path;

use training_data::{About, Dataset, DatasetError, DatasetWriter, Split};

use crate::ct::ct_slice;
use crate::items::items;
use crate::phantom::Phantom;
use crate::radiograph::radiograph;
use crate::random::Random;
use crate::words::Language;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The same seed gives the same dataset.
    pub seed: u64,
    /// Number of patients to learn from.
    pub train: u32,
    /// Number of patients for the test.
    pub test: u32,
    /// Rows and columns of the pictures.
    pub size: u32,
    /// The languages; each patient is in one of them.
    pub languages: &'static [Language],
}

/// Why a dataset cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A picture cannot be encoded.
    #[error("a picture cannot be written: {0}")]
    Picture(#[from] image::ImageError),
    /// The dataset cannot be written.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

/// The phantom of a patient of a part: two radiographs for each slice of a CT. Parts never share a
/// phantom: their seeds are of different purposes.
pub fn phantom(seed: u64, split: Split, number: u32, size: u32) -> Phantom {
    let purpose = match split {
        Split::Train => "train",
        Split::Validation => "validation",
        Split::Test => "test",
    };
    let own = Random::new(seed ^ u64::from(number) << 32, purpose).draw();
    if number % 3 == 2 { ct_slice(own, size) } else { radiograph(own, size) }
}

/// Makes a dataset in a folder that is empty or does not exist.
///
/// # Errors
///
/// Fails if the folder is not empty or cannot be written.
pub fn write(plan: &Plan, folder: &Path) -> Result<Dataset, CorpusError> {
    let about = About {
        name: "phantoms".to_owned(),
        licence: "Apache-2.0".to_owned(),
        origin: format!(
            "generated: seed {}, {} + {} patients, {} px; phantoms, not for clinical use",
            plan.seed, plan.train, plan.test, plan.size
        ),
    };
    let mut writer = DatasetWriter::create(folder, about)?;
    for (split, count, name) in
        [(Split::Train, plan.train, "train"), (Split::Test, plan.test, "test")]
    {
        for number in 0..count {
            let phantom = phantom(plan.seed, split, number, plan.size);
            let patient = format!("{name}-{number:06}");
            let path = writer.add_file(&format!("images/{patient}.png"), &phantom.to_png()?)?;
            let mut random = Random::new(phantom.seed, "items");
            let language = random.choice(plan.languages).copied().unwrap_or(Language::English);
            for (_, item) in items(&phantom, language, &path, &mut random) {
                writer.add(split, &patient, &item)?;
            }
        }
    }
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn pap_56_a_dataset_of_phantoms_is_sound_and_made_again_the_same() {
        let root = std::env::temp_dir().join(format!("phantoms-{}", uuid::Uuid::new_v4()));
        let plan = Plan { seed: 9, train: 6, test: 3, size: 64, languages: &Language::ALL };

        let one = write(&plan, &root.join("one")).unwrap();
        let other = write(&plan, &root.join("other")).unwrap();

        one.verify().unwrap();
        assert_eq!(one.digest(), other.digest());
        assert!(one.items(Split::Train).unwrap().len() > 60);
        fs::remove_dir_all(&root).unwrap();
    }

    /// A change of the drawing changes these digests of grey values; another machine does not.
    #[test]
    fn pap_57_the_same_seed_gives_the_same_bytes_on_every_machine() {
        let digest = |number: u32| {
            let phantom = phantom(1, Split::Train, number, 256);
            hex::encode(Sha256::digest(&phantom.grey))
        };
        let expected = [
            "c34d88b4596f7d7a17f230dccb0de62b456427e8330f69bf405756c5442a349d",
            "68bcfc981e5db1c8e65edafd0a46020ee47c4a70222eae67d0e9aabdb4426f3d",
            "48a133a4001404d7220365d975dbf78ab98a0ff9c8b79934bd8f107a9afa91d8",
        ];
        assert_eq!([0, 1, 2].map(digest), expected);
    }

    #[test]
    fn parts_and_patients_never_share_a_phantom() {
        let mut seeds = std::collections::BTreeSet::new();
        for split in Split::ALL {
            for number in 0..50 {
                assert!(seeds.insert(phantom(1, split, number, 64).seed), "{split:?} {number}");
            }
        }
    }
}
