//! One item: a conversation with its pictures, masks and boxes (PAP-56).
//!
//! An item is a line of JSON as ms-swift documents it for custom datasets:
//!
//! ```
//! use training_data::Item;
//!
//! let line = r#"{"messages":[{"role":"user","content":"<image>Locate the <ref-object>."},
//!     {"role":"assistant","content":"<bbox>"}],"images":["images/1.png"],
//!     "objects":{"ref":["heart"],"bbox":[[90,70,180,160]]}}"#;
//! let item: Item = serde_json::from_str(line)?;
//! assert_eq!(item.images, ["images/1.png"]);
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! `<image>`, `<bbox>` and `<ref-object>` are places for pictures, boxes and names. Masks are the key
//! `masks` that the release of Citrus-V added: the mask of the first `[SEG]` comes first. In our
//! datasets they are run lengths (`{"size":[height,width],"counts":"..."}`), for ms-swift the paths
//! of pictures.

use domain::Role;
use imaging::rle::RleError;
use imaging::{FlatMask, Picture};
use serde::{Deserialize, Serialize};

use crate::region::Region;

/// The place of a picture.
pub const IMAGE: &str = "<image>";

/// The place of a box or a point.
pub const BBOX: &str = "<bbox>";

/// The place of the name of an object.
pub const REFERENCE: &str = "<ref-object>";

/// The token whose state prompts the segmentation.
pub const SEG: &str = "[SEG]";

/// A conversation with its pictures, masks and boxes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Item {
    /// What is said, in order.
    pub messages: Vec<Message>,
    /// Paths of the pictures, relative to the folder of the dataset.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// The masks, in the order of `[SEG]` in the text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masks: Vec<ItemMask>,
    /// The objects that the text names and locates.
    #[serde(skip_serializing_if = "Objects::is_empty")]
    pub objects: Objects,
}

/// Something that is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said, with places for pictures, boxes and names.
    pub content: String,
}

impl Message {
    /// A message of the one who asks.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }

    /// A message of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }
}

/// The mask of a `[SEG]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ItemMask {
    /// The path of a picture that is not black inside, of the first picture of the item.
    File(String),
    /// Run lengths in the text of COCO.
    Runs(MaskRuns),
}

/// A mask as run lengths (PAP-55).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskRuns {
    /// Height and width.
    pub size: [u32; 2],
    /// Run lengths, column by column, in the text of COCO.
    pub counts: String,
    /// Which picture of the item it is of.
    #[serde(default, skip_serializing_if = "is_first")]
    pub image_id: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_first(image: &usize) -> bool {
    *image == 0
}

impl ItemMask {
    /// A mask of the first picture of an item, as run lengths.
    pub fn of(mask: &FlatMask) -> Self {
        let size = [mask.height, mask.width];
        Self::Runs(MaskRuns { size, counts: mask.to_text(), image_id: 0 })
    }

    /// Which picture of the item it is of.
    pub const fn image_id(&self) -> usize {
        match self {
            Self::File(_) => 0,
            Self::Runs(runs) => runs.image_id,
        }
    }
}

impl MaskRuns {
    /// The mask, pixel by pixel.
    ///
    /// # Errors
    ///
    /// Fails if the runs are not of this size, or the size is beyond the limit.
    pub fn mask(&self) -> Result<FlatMask, RleError> {
        let [height, width] = self.size;
        FlatMask::parse(height, width, &self.counts)
    }
}

/// The mask that a picture shows: every pixel that is not black.
pub fn mask_of_picture(picture: &Picture) -> FlatMask {
    let pixels = picture.rgb.as_chunks::<3>().0.iter().map(|it| it.iter().any(|it| *it > 0));
    FlatMask { height: picture.height, width: picture.width, pixels: pixels.collect() }
}

/// How the numbers of boxes are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoxUnit {
    /// Pixels of the picture as it is in the dataset.
    #[default]
    Real,
    /// Parts of its width and height, from 0 to 1.
    Norm1,
}

/// The objects that a text names and locates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    /// The names, in the order of `<ref-object>`.
    #[serde(rename = "ref", default)]
    pub references: Vec<String>,
    /// The boxes, in the order of `<bbox>`.
    #[serde(rename = "bbox", default)]
    pub boxes: Vec<Region>,
    /// How the numbers are meant; pixels if it is left out.
    #[serde(rename = "bbox_type", default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<BoxUnit>,
    /// For each box, which picture it is on; the first one where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_id: Vec<usize>,
}

impl Objects {
    /// Whether there is nothing to name and to locate.
    pub fn is_empty(&self) -> bool {
        self.references.is_empty() && self.boxes.is_empty()
    }

    /// Which picture a box is on.
    pub fn image_of(&self, index: usize) -> usize {
        self.image_id.get(index).copied().unwrap_or_default()
    }
}

/// Why something is no item.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Nothing is said.
    #[error("an item needs messages")]
    Silent,
    /// Nothing is said by the model: there is nothing to learn.
    #[error("an item needs a message of the assistant")]
    Unanswered,
    /// The text has more places than there is to put there.
    #[error("the text has {places} x `{place}`, the item has {given}")]
    Count {
        /// The place.
        place: &'static str,
        /// How often it is in the text.
        places: usize,
        /// How much there is to put there.
        given: usize,
    },
    /// A box or mask is of a picture that the item does not have.
    #[error("picture {image} is named, the item has {given}")]
    NoPicture {
        /// The number of the picture, from 0.
        image: usize,
        /// How many pictures there are.
        given: usize,
    },
    /// A picture is given by its bytes instead of its path.
    #[error("a picture must be given by its path")]
    Inline,
    /// Pictures are given both inside and beside the messages.
    #[error("pictures are given both in the messages and in `images`")]
    TwoLists,
    /// Pictures are given under two names.
    #[error("pictures are given both as `image` and as `images`")]
    TwoNames,
}

impl Item {
    /// How often a place is in the text.
    pub fn places(&self, place: &str) -> usize {
        self.messages.iter().map(|it| it.content.matches(place).count()).sum()
    }

    /// Whether the text agrees with what the item has.
    ///
    /// # Errors
    ///
    /// Fails with the first disagreement.
    pub fn check(&self) -> Result<(), ItemError> {
        if self.messages.is_empty() {
            return Err(ItemError::Silent);
        }
        if self.messages.iter().all(|it| it.role != Role::Assistant) {
            return Err(ItemError::Unanswered);
        }
        for (place, given) in
            [(IMAGE, self.images.len()), (BBOX, self.objects.boxes.len()), (SEG, self.masks.len())]
        {
            let places = self.places(place);
            if places != given {
                return Err(ItemError::Count { place, places, given });
            }
        }
        // The name of a box may serve as its label only.
        let places = self.places(REFERENCE);
        let given = self.objects.references.len();
        if places > given {
            return Err(ItemError::Count { place: REFERENCE, places, given });
        }
        let of_boxes = (0..self.objects.boxes.len()).map(|it| self.objects.image_of(it));
        let mut named = of_boxes.chain(self.masks.iter().map(ItemMask::image_id));
        let given = self.images.len();
        named
            .find(|it| *it >= given)
            .map_or(Ok(()), |image| Err(ItemError::NoPicture { image, given }))
    }
}

#[cfg(test)]
mod tests;
