//! A dataset out of two folders: pictures, and masks of the same names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use imaging::{Picture, PictureError};

use crate::dataset::{Dataset, DatasetError, DatasetWriter, digest};
use crate::item::{BBOX, IMAGE, Item, ItemMask, Message, Objects, REFERENCE, SEG, mask_of_picture};
use crate::manifest::{About, Split};

/// What to make a dataset of.
#[derive(Clone, Debug)]
pub struct FromMasks {
    /// The folder of pictures.
    pub pictures: PathBuf,
    /// The folder of masks, each of the name of its picture.
    pub masks: PathBuf,
    /// What the user says, without `<image>`.
    pub prompt: String,
    /// What the model says, with `[SEG]` once.
    pub answer: String,
    /// Where the pictures come from.
    pub about: About,
    /// What is kept for the test.
    pub held_out: HeldOut,
    /// The character behind which names of one patient differ. Without it, every picture is of a
    /// patient of its own.
    pub patient_ends_at: Option<char>,
}

/// What is kept for the test.
#[derive(Clone, Debug)]
pub enum HeldOut {
    /// The pictures of these file names.
    Named(BTreeSet<String>),
    /// This many of a hundred patients, chosen by the seed.
    Percent {
        /// How many of a hundred.
        share: u32,
        /// What decides which.
        seed: u64,
    },
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The dataset.
    pub dataset: Dataset,
    /// Number of items to learn from.
    pub train: usize,
    /// Number of items kept for the test.
    pub test: usize,
    /// Pictures whose mask is empty.
    pub empty: Vec<String>,
    /// Pictures whose mask covers everything.
    pub full: Vec<String>,
}

/// Why no dataset can be made.
#[derive(Debug, thiserror::Error)]
pub enum FromMasksError {
    /// The answer does not prompt one mask.
    #[error("the answer must have `{SEG}` once: `{0}`")]
    Answer(String),
    /// The prompt has a place that is not filled.
    #[error("the prompt must be plain text: `{0}`")]
    Prompt(String),
    /// Names are in one folder only.
    #[error("{} of {} are in one of both folders only, e.g. `{first}`", .unpaired, .all)]
    Unpaired {
        /// Number of names without a counterpart.
        unpaired: usize,
        /// Number of all names.
        all: usize,
        /// The first name without a counterpart.
        first: String,
    },
    /// There is no PNG in the folders.
    #[error("`{}` has no PNG", .0.display())]
    None(PathBuf),
    /// A picture or mask cannot be read.
    #[error("`{}`: {cause}", .path.display())]
    Picture {
        /// Its file.
        path: PathBuf,
        /// Why.
        cause: PictureError,
    },
    /// A mask is not of the size of its picture.
    #[error("the mask of `{name}` is {mask}, its picture {picture}")]
    Size {
        /// The name of both.
        name: String,
        /// Width and height of the mask.
        mask: String,
        /// Width and height of the picture.
        picture: String,
    },
    /// A picture is held out that is not there.
    #[error("`{0}` is held out, but is no picture of the folder")]
    NotThere(String),
    /// The dataset cannot be written.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

/// Makes a dataset with one item for each picture.
///
/// # Errors
///
/// Fails before anything is written if names, prompt or answer do not fit; later if a picture cannot
/// be read.
pub fn from_masks(what: &FromMasks, folder: &Path) -> Result<Made, FromMasksError> {
    if what.answer.matches(SEG).count() != 1 || has_place(&what.answer) {
        return Err(FromMasksError::Answer(what.answer.clone()));
    }
    if what.prompt.trim().is_empty() || what.prompt.contains(SEG) || has_place(&what.prompt) {
        return Err(FromMasksError::Prompt(what.prompt.clone()));
    }
    let names = paired(&what.pictures, &what.masks)?;
    let tested = tested_patients(what, &names)?;
    let mut writer = DatasetWriter::create(folder, what.about.clone())?;
    let mut empty = Vec::new();
    let mut full = Vec::new();
    let mut test = 0;
    for name in &names {
        let (bytes, picture) = read(&what.pictures.join(name))?;
        let (_, shown) = read(&what.masks.join(name))?;
        let mask = mask_of_picture(&shown);
        if [picture.width, picture.height] != [mask.width, mask.height] {
            return Err(FromMasksError::Size {
                name: name.clone(),
                mask: format!("{} x {}", mask.width, mask.height),
                picture: format!("{} x {}", picture.width, picture.height),
            });
        }
        if mask.pixels.iter().all(|it| !it) {
            empty.push(name.clone());
        } else if mask.pixels.iter().all(|it| *it) {
            full.push(name.clone());
        }
        let path = writer.add_file(&format!("images/{name}"), &bytes)?;
        let patient = what.patient_of(name);
        let is_test = tested.contains(patient);
        test += usize::from(is_test);
        let item = Item {
            messages: vec![
                Message::user(format!("{IMAGE}{}", what.prompt.trim())),
                Message::assistant(what.answer.clone()),
            ],
            images: vec![path],
            masks: vec![ItemMask::of(&mask)],
            objects: Objects::default(),
        };
        writer.add(if is_test { Split::Test } else { Split::Train }, patient, &item)?;
    }
    Ok(Made { dataset: writer.finish()?, train: names.len() - test, test, empty, full })
}

impl FromMasks {
    /// The patient of a picture.
    fn patient_of<'name>(&self, name: &'name str) -> &'name str {
        let stem = name.strip_suffix(".png").unwrap_or(name);
        let cut = self.patient_ends_at.and_then(|it| stem.split_once(it));
        cut.map_or(stem, |it| it.0)
    }
}

fn has_place(text: &str) -> bool {
    [IMAGE, BBOX, REFERENCE].iter().any(|it| text.contains(it))
}

/// The names that both folders have, in order.
fn paired(pictures: &Path, masks: &Path) -> Result<BTreeSet<String>, FromMasksError> {
    let of_pictures = names_in(pictures)?;
    let of_masks = names_in(masks)?;
    if of_pictures.is_empty() {
        return Err(FromMasksError::None(pictures.to_owned()));
    }
    let unpaired: Vec<&String> = of_pictures.symmetric_difference(&of_masks).collect();
    if let Some(first) = unpaired.first() {
        return Err(FromMasksError::Unpaired {
            unpaired: unpaired.len(),
            all: of_pictures.union(&of_masks).count(),
            first: (*first).clone(),
        });
    }
    Ok(of_pictures)
}

/// The names of the PNG files of a folder.
fn names_in(folder: &Path) -> Result<BTreeSet<String>, DatasetError> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(DatasetError::disk(folder))? {
        let entry = entry.map_err(DatasetError::disk(folder))?;
        let name = entry.file_name();
        let is_png = Path::new(&name).extension().is_some_and(|it| it == "png");
        if let (true, Some(name)) = (is_png, name.to_str()) {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// The patients that are kept for the test.
fn tested_patients<'name>(
    what: &FromMasks,
    names: &'name BTreeSet<String>,
) -> Result<BTreeSet<&'name str>, FromMasksError> {
    match &what.held_out {
        HeldOut::Named(held_out) => {
            if let Some(missing) = held_out.difference(names).next() {
                return Err(FromMasksError::NotThere(missing.clone()));
            }
            Ok(names
                .iter()
                .filter(|it| held_out.contains(*it))
                .map(|it| what.patient_of(it))
                .collect())
        }
        HeldOut::Percent { share, seed } => {
            let patients: BTreeSet<&str> = names.iter().map(|it| what.patient_of(it)).collect();
            let wanted = patients.len() * usize::try_from(*share).unwrap_or_default() / 100;
            let key = |patient: &str| digest(format!("{seed} {patient}").as_bytes());
            let mut drawn: Vec<(String, &str)> =
                patients.into_iter().map(|it| (key(it), it)).collect();
            drawn.sort_unstable();
            Ok(drawn.into_iter().take(wanted).map(|it| it.1).collect())
        }
    }
}

fn read(path: &Path) -> Result<(Vec<u8>, Picture), FromMasksError> {
    let bytes = fs::read(path).map_err(DatasetError::disk(path))?;
    let picture = Picture::decode(&bytes)
        .map_err(|cause| FromMasksError::Picture { path: path.to_owned(), cause })?;
    Ok((bytes, picture))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::{Folder, about};

    /// A folder with pictures and masks of these names, five columns by four rows.
    fn material(names: &[&str]) -> (Folder, FromMasks) {
        let folder = Folder::new();
        let pictures = folder.0.join("pictures");
        let masks = folder.0.join("masks");
        for path in [&pictures, &masks] {
            fs::create_dir_all(path).unwrap();
        }
        for (index, name) in (0_u8..).zip(names) {
            let grey = Picture::new(5, 4, vec![index; 60]).unwrap();
            let mut inside = vec![0; 60];
            inside[usize::from(index % 20) * 3] = 255;
            fs::write(pictures.join(name), grey.to_png().unwrap()).unwrap();
            let mask = Picture::new(5, 4, inside).unwrap();
            fs::write(masks.join(name), mask.to_png().unwrap()).unwrap();
        }
        let what = FromMasks {
            pictures,
            masks,
            prompt: "Segment the nuclei.".to_owned(),
            answer: "Sure, [SEG] nuclei.".to_owned(),
            about: about(),
            held_out: HeldOut::Percent { share: 25, seed: 7 },
            patient_ends_at: None,
        };
        (folder, what)
    }

    #[test]
    fn pap_56_two_folders_become_a_dataset() {
        let (folder, what) = material(&["a.png", "b.png", "c.png", "d.png"]);

        let made = from_masks(&what, &folder.0.join("out")).unwrap();

        assert_eq!([made.train, made.test], [3, 1]);
        made.dataset.verify().unwrap();
        let items = made.dataset.items(Split::Train).unwrap();
        assert_eq!(items[0].messages[0].content, "<image>Segment the nuclei.");
        let ItemMask::Runs(runs) = &items[0].masks[0] else { unreachable!() };
        let mask = runs.mask().unwrap();
        let expected = made.dataset.path(&items[0].images[0]).unwrap();
        let drawn = fs::read(what.masks.join(expected.file_name().unwrap())).unwrap();
        assert_eq!(mask, mask_of_picture(&Picture::decode(&drawn).unwrap()));
        let again = from_masks(&what, &folder.0.join("again")).unwrap();
        assert_eq!(again.dataset.digest(), made.dataset.digest());
    }

    #[test]
    fn pap_56_pictures_of_a_patient_stay_together_and_a_list_is_followed() {
        let names = ["p1_1.png", "p1_2.png", "p2_1.png", "p3_1.png"];
        let (folder, mut what) = material(&names);
        what.patient_ends_at = Some('_');
        what.held_out = HeldOut::Named(BTreeSet::from(["p1_2.png".to_owned()]));

        let made = from_masks(&what, &folder.0.join("out")).unwrap();

        let patients = &made.dataset.manifest().patients;
        assert_eq!(patients[&Split::Test], ["p1", "p1"]);
        assert_eq!(patients[&Split::Train], ["p2", "p3"]);
        what.held_out = HeldOut::Named(BTreeSet::from(["x.png".to_owned()]));
        let outcome = from_masks(&what, &folder.0.join("other"));
        assert!(matches!(outcome, Err(FromMasksError::NotThere(it)) if it == "x.png"));
    }

    #[test]
    fn pap_56_what_does_not_fit_is_refused_by_its_name() {
        let (folder, what) = material(&["a.png", "b.png"]);
        let out = folder.0.join("out");
        let refused = |what: &FromMasks| from_masks(what, &out).unwrap_err().to_string();
        let answer = FromMasks { answer: "Sure.".to_owned(), ..what.clone() };
        assert_eq!(refused(&answer), "the answer must have `[SEG]` once: `Sure.`");
        let prompt = FromMasks { prompt: "<image>Segment".to_owned(), ..what.clone() };
        assert_eq!(refused(&prompt), "the prompt must be plain text: `<image>Segment`");
        fs::remove_file(what.masks.join("b.png")).unwrap();
        let expected = "1 of 2 are in one of both folders only, e.g. `b.png`";
        assert_eq!(refused(&what), expected);
        let wide = Picture::new(6, 4, vec![0; 72]).unwrap();
        fs::write(what.masks.join("b.png"), wide.to_png().unwrap()).unwrap();
        assert_eq!(refused(&what), "the mask of `b.png` is 6 x 4, its picture 5 x 4");
    }

    #[test]
    fn masks_that_are_empty_or_everything_are_told() {
        let (folder, what) = material(&["a.png", "b.png"]);
        for (name, value) in [("a.png", 0), ("b.png", 9)] {
            let mask = Picture::new(5, 4, vec![value; 60]).unwrap();
            fs::write(what.masks.join(name), mask.to_png().unwrap()).unwrap();
        }
        let made = from_masks(&what, &folder.0.join("out")).unwrap();
        assert_eq!(made.empty, ["a.png"]);
        assert_eq!(made.full, ["b.png"]);
    }
}
