//! A picture of which everything is known.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _, ImageError};
use imaging::FlatMask;

use crate::anatomy::{LesionKind, Organ, Side, Zone};

/// What kind of picture it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A frontal radiograph of the chest.
    Radiograph,
    /// An axial slice of a CT of the chest.
    ChestSlice,
    /// An axial slice of a CT of the abdomen.
    AbdomenSlice,
}

impl View {
    /// The kinds of lesion that it may show, and that a report of it tells or denies.
    pub const fn kinds(self) -> &'static [LesionKind] {
        match self {
            Self::Radiograph => &LesionKind::OF_RADIOGRAPH,
            Self::ChestSlice => &LesionKind::OF_CHEST,
            Self::AbdomenSlice => &LesionKind::OF_ABDOMEN,
        }
    }
}

/// An organ of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrawnOrgan {
    /// Which one it is.
    pub organ: Organ,
    /// Where it is. Never empty.
    pub mask: FlatMask,
}

/// A lesion of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lesion {
    /// What it is.
    pub kind: LesionKind,
    /// On which side it is, if its kind has sides.
    pub side: Option<Side>,
    /// In which third of the lung it is, on radiographs.
    pub zone: Option<Zone>,
    /// Where it is. Never empty.
    pub mask: FlatMask,
}

/// A picture of which everything is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phantom {
    /// What decided it.
    pub seed: u64,
    /// What kind of picture it is.
    pub view: View,
    /// Rows and columns.
    pub size: u32,
    /// Grey values, row by row.
    pub grey: Vec<u8>,
    /// Its organs, in the order in which they are read.
    pub organs: Vec<DrawnOrgan>,
    /// Its lesions, in the order in which they are read.
    pub lesions: Vec<Lesion>,
}

impl Phantom {
    /// Its lesions of a kind.
    pub fn of_kind(&self, kind: LesionKind) -> impl Iterator<Item = &Lesion> {
        self.lesions.iter().filter(move |it| it.kind == kind)
    }

    /// The picture as a PNG of grey values.
    ///
    /// # Errors
    ///
    /// Fails if there are not as many grey values as pixels.
    pub fn to_png(&self) -> Result<Vec<u8>, ImageError> {
        let mut png = Vec::new();
        let encoder = PngEncoder::new(&mut png);
        encoder.write_image(&self.grey, self.size, self.size, ExtendedColorType::L8)?;
        Ok(png)
    }
}

/// The box around a mask: left, top, and the edges behind its last column and row. None of an empty
/// mask.
pub fn box_of(mask: &FlatMask) -> Option<[u32; 4]> {
    let width = usize::try_from(mask.width).ok().filter(|it| *it > 0)?;
    let mut found: Option<[u32; 4]> = None;
    for (row, pixels) in (0_u32..).zip(mask.pixels.chunks(width)) {
        let Some(first) = pixels.iter().position(|it| *it) else { continue };
        let last = pixels.iter().rposition(|it| *it).unwrap_or(first);
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        let behind = u32::try_from(last).unwrap_or(u32::MAX).saturating_add(1);
        found = Some(found.map_or([first, row, behind, row + 1], |[left, top, right, _]| {
            [left.min(first), top, right.max(behind), row + 1]
        }));
    }
    found
}

/// Number of pixels of a mask.
pub(crate) fn area(mask: &FlatMask) -> usize {
    mask.pixels.iter().filter(|it| **it).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_ends_behind_the_last_pixel_of_its_mask() {
        let mut mask = FlatMask { height: 4, width: 5, pixels: vec![false; 20] };
        assert_eq!(box_of(&mask), None);
        for at in [7, 11] {
            mask.pixels[at] = true;
        }
        assert_eq!(box_of(&mask), Some([1, 1, 3, 3]));
        mask.pixels[19] = true;
        assert_eq!(box_of(&mask), Some([1, 1, 5, 4]));
    }
}
