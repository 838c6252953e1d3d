//! A dataset for ms-swift: the same lines, with masks as pictures.
//!
//! ms-swift does not read run lengths; the release of Citrus-V reads masks from files. Paths stay
//! relative: ms-swift finds them from its working folder, or from `ROOT_IMAGE_DIR`.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _};
use imaging::FlatMask;

use crate::dataset::{Dataset, DatasetError};
use crate::item::ItemMask;
use crate::manifest::Split;

/// Writes a dataset for ms-swift into a folder that is empty or does not exist: `train.jsonl`,
/// `validation.jsonl`, `test.jsonl` (as far as there are such items), pictures and masks. Returns
/// the number of items.
///
/// # Errors
///
/// Fails if the dataset cannot be read, or the folder is not empty or cannot be written.
pub fn export(dataset: &Dataset, folder: &Path) -> Result<usize, DatasetError> {
    fs::create_dir_all(folder).map_err(DatasetError::disk(folder))?;
    if fs::read_dir(folder).map_err(DatasetError::disk(folder))?.next().is_some() {
        return Err(DatasetError::NotEmpty(folder.to_owned()));
    }
    let lines = Split::ALL.map(Split::file);
    for name in dataset.manifest().files.keys().filter(|it| !lines.contains(&it.as_str())) {
        let from = dataset.path(name)?;
        let to = folder.join(name);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(DatasetError::disk(parent))?;
        }
        fs::copy(&from, &to).map_err(DatasetError::disk(&from))?;
    }
    let masks = folder.join("masks");
    fs::create_dir_all(&masks).map_err(DatasetError::disk(&masks))?;
    let mut count = 0;
    for split in Split::ALL {
        let items = dataset.items(split)?;
        if items.is_empty() {
            continue;
        }
        let path = folder.join(split.file());
        let file = File::create(&path).map_err(DatasetError::disk(&path))?;
        let mut file = BufWriter::new(file);
        for (line, mut item) in (1..).zip(items) {
            let wrong = |reason: String| DatasetError::Item { file: split.file(), line, reason };
            for (index, mask) in item.masks.iter_mut().enumerate() {
                let ItemMask::Runs(runs) = mask else { continue };
                if runs.image_id != 0 {
                    let reason = "ms-swift knows masks of the first picture only".to_owned();
                    return Err(wrong(reason));
                }
                let drawn = runs.mask().map_err(|error| wrong(error.to_string()))?;
                let stem = split.file().trim_end_matches(".jsonl");
                let name = format!("masks/{stem}-{line:06}-{index}.png");
                let target = folder.join(&name);
                let png = mask_png(&drawn).map_err(|error| wrong(error.to_string()))?;
                fs::write(&target, png).map_err(DatasetError::disk(&target))?;
                *mask = ItemMask::File(name);
            }
            let text = serde_json::to_string(&item).map_err(|error| wrong(error.to_string()))?;
            writeln!(file, "{text}").map_err(DatasetError::disk(&path))?;
            count += 1;
        }
        file.flush().map_err(DatasetError::disk(&path))?;
    }
    Ok(count)
}

/// A mask as a PNG in black and white.
fn mask_png(mask: &FlatMask) -> Result<Vec<u8>, image::ImageError> {
    let grey: Vec<u8> = mask.pixels.iter().map(|it| if *it { 255 } else { 0 }).collect();
    let mut png = Vec::new();
    let encoder = PngEncoder::new(&mut png);
    encoder.write_image(&grey, mask.width, mask.height, ExtendedColorType::L8)?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use imaging::Picture;

    use super::*;
    use crate::dataset::tests::{Folder, written};
    use crate::item::{Item, mask_of_picture};

    #[test]
    fn pap_56_an_export_has_the_same_items_with_masks_as_files() {
        let folder = Folder::new();
        let dataset = written(&folder.0.join("dataset"));
        let out = folder.0.join("swift");

        assert_eq!(export(&dataset, &out).unwrap(), 2);

        let text = fs::read_to_string(out.join("train.jsonl")).unwrap();
        let item: Item = serde_json::from_str(text.trim_end()).unwrap();
        let original = &dataset.items(Split::Train).unwrap()[0];
        assert_eq!(item.messages, original.messages);
        assert_eq!(item.images, original.images);
        assert!(out.join(&item.images[0]).exists());
        let (ItemMask::File(name), ItemMask::Runs(runs)) = (&item.masks[0], &original.masks[0])
        else {
            unreachable!()
        };
        let drawn = Picture::decode(&fs::read(out.join(name)).unwrap()).unwrap();
        assert_eq!(mask_of_picture(&drawn), runs.mask().unwrap());
        assert!(!out.join("manifest.json").exists());
    }
}
