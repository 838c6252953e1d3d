//! Datasets in folders.

use imaging::{FlatMask, Picture};

use super::*;
use crate::item::Message;

/// A folder that is removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("training-data-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn about() -> About {
    About { name: "test".to_owned(), licence: "CC0-1.0".to_owned(), origin: "here".to_owned() }
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let bytes = usize::try_from(width * height * 3).unwrap();
    Picture::new(width, height, vec![7; bytes]).unwrap().to_png().unwrap()
}

fn item_of(picture: &str, height: u32, width: u32) -> Item {
    let pixels = (0..height * width).map(|it| it % 3 == 0).collect();
    Item {
        messages: vec![Message::user("<image>segment"), Message::assistant("Sure, [SEG] it.")],
        images: vec![picture.to_owned()],
        masks: vec![ItemMask::of(&FlatMask { height, width, pixels })],
        objects: crate::Objects::default(),
    }
}

/// A dataset of two patients in two parts.
pub(crate) fn written(folder: &Path) -> Dataset {
    let mut writer = DatasetWriter::create(folder, about()).unwrap();
    for (name, split, patient) in [("a", Split::Train, "p1"), ("b", Split::Test, "p2")] {
        let path = writer.add_file(&format!("images/{name}.png"), &png(5, 4)).unwrap();
        writer.add(split, patient, &item_of(&path, 4, 5)).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn pap_56_what_is_written_is_read_and_verified() {
    let folder = Folder::new();
    let written = written(&folder.0);

    let read = Dataset::open(&folder.0).unwrap();

    read.verify().unwrap();
    assert_eq!(read.digest(), written.digest());
    assert_eq!(read.manifest(), written.manifest());
    assert_eq!(read.items(Split::Train).unwrap(), [item_of("images/a.png", 4, 5)]);
    assert_eq!(read.items(Split::Validation).unwrap(), []);
    let other = Folder::new();
    let again = self::written(&other.0);
    assert_eq!(again.digest(), read.digest());
}

#[test]
fn pap_56_a_patient_is_in_one_part_only() {
    let folder = Folder::new();
    let mut writer = DatasetWriter::create(&folder.0, about()).unwrap();
    let path = writer.add_file("a.png", &png(5, 4)).unwrap();
    for split in [Split::Train, Split::Test] {
        writer.add(split, "p1", &item_of(&path, 4, 5)).unwrap();
    }

    let outcome = writer.finish();

    assert!(matches!(outcome, Err(DatasetError::SharedPatient(it)) if it == "p1"));
    assert!(Dataset::open(&folder.0).is_err());
}

#[test]
fn pap_56_a_changed_file_is_named() {
    for (name, change) in [("images/a.png", png(5, 5)), ("train.jsonl", b"{}\n".to_vec())] {
        let folder = Folder::new();
        written(&folder.0);
        fs::write(folder.0.join(name), change).unwrap();
        let outcome = Dataset::open(&folder.0).unwrap().verify();
        assert!(matches!(outcome, Err(DatasetError::Changed(it)) if it == name));
    }
}

#[test]
fn pap_56_a_mask_is_of_the_size_of_its_picture() {
    let folder = Folder::new();
    let mut writer = DatasetWriter::create(&folder.0, about()).unwrap();
    let path = writer.add_file("a.png", &png(5, 4)).unwrap();
    writer.add(Split::Train, "p1", &item_of(&path, 5, 4)).unwrap();
    let error = writer.finish().unwrap().verify().unwrap_err().to_string();
    assert_eq!(error, "train.jsonl, line 1: a mask of 4 x 5 on `a.png`, which is 5 x 4");
}

#[test]
fn no_name_leads_out_of_the_folder() {
    let folder = Folder::new();
    let mut writer = DatasetWriter::create(&folder.0, about()).unwrap();
    for name in ["../a.png", "/tmp/a.png", "a/../../b.png", ""] {
        let outcome = writer.add_file(name, b"");
        assert!(matches!(outcome, Err(DatasetError::Outside(_))), "{name}");
    }
    let outcome = writer.add(Split::Train, "p", &item_of("missing.png", 1, 1));
    assert!(outcome.unwrap_err().to_string().contains("`missing.png` is not in the dataset"));
}

#[test]
fn a_folder_with_content_is_not_overwritten() {
    let folder = Folder::new();
    written(&folder.0);
    let outcome = DatasetWriter::create(&folder.0, about());
    assert!(matches!(outcome, Err(DatasetError::NotEmpty(_))));
}
