//! The forms in which ms-swift accepts an item, read into one.

use domain::Role;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::item::{IMAGE, Item, ItemError, ItemMask, Message, Objects};

/// A line of a dataset.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireItem {
    messages: Vec<WireMessage>,
    #[serde(default)]
    images: Option<WirePictures>,
    #[serde(default)]
    image: Option<WirePictures>,
    #[serde(default)]
    masks: Option<WireMasks>,
    #[serde(default)]
    objects: Option<Objects>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireMessage {
    role: Role,
    content: WireContent,
}

/// A text, or texts and pictures in turn.
#[derive(Deserialize)]
#[serde(untagged)]
enum WireContent {
    Text(String),
    Parts(Vec<WirePart>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum WirePart {
    Text { text: String },
    Image { image: WirePicture },
    ImageUrl { image_url: WireUrl },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireUrl {
    Plain(String),
    Object { url: String },
}

/// One picture or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum WirePictures {
    One(WirePicture),
    Several(Vec<WirePicture>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WirePicture {
    Path(String),
    Object {
        #[serde(default)]
        bytes: Option<IgnoredAny>,
        #[serde(default)]
        path: Option<String>,
    },
}

/// One mask or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum WireMasks {
    One(ItemMask),
    Several(Vec<ItemMask>),
}

impl WirePicture {
    fn path(self) -> Result<String, ItemError> {
        match self {
            Self::Path(path) | Self::Object { bytes: None, path: Some(path) } => Ok(path),
            Self::Object { .. } => Err(ItemError::Inline),
        }
    }
}

impl WirePictures {
    fn paths(self) -> Result<Vec<String>, ItemError> {
        match self {
            Self::One(picture) => Ok(vec![picture.path()?]),
            Self::Several(pictures) => pictures.into_iter().map(WirePicture::path).collect(),
        }
    }
}

impl WireMessage {
    /// The message as text, with the pictures that it brings.
    fn read(self, pictures: &mut Vec<String>) -> Result<Message, ItemError> {
        let parts = match self.content {
            WireContent::Text(content) => return Ok(Message { role: self.role, content }),
            WireContent::Parts(parts) => parts,
        };
        let mut content = String::new();
        for part in parts {
            let path = match part {
                WirePart::Text { text } => {
                    content.push_str(&text);
                    continue;
                }
                WirePart::Image { image } => image.path()?,
                WirePart::ImageUrl { image_url: WireUrl::Plain(url) | WireUrl::Object { url } } => {
                    url
                }
            };
            content.push_str(IMAGE);
            pictures.push(path);
        }
        Ok(Message { role: self.role, content })
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        WireItem::deserialize(deserializer)?.try_into().map_err(D::Error::custom)
    }
}

impl TryFrom<WireItem> for Item {
    type Error = ItemError;

    fn try_from(wire: WireItem) -> Result<Self, ItemError> {
        let mut inside = Vec::new();
        let messages = wire.messages.into_iter().map(|it| it.read(&mut inside));
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        let beside = match (wire.images, wire.image) {
            (Some(_), Some(_)) => return Err(ItemError::TwoNames),
            (Some(pictures), None) | (None, Some(pictures)) => pictures.paths()?,
            (None, None) => Vec::new(),
        };
        if !inside.is_empty() && !beside.is_empty() {
            return Err(ItemError::TwoLists);
        }
        let masks = match wire.masks {
            None => Vec::new(),
            Some(WireMasks::One(mask)) => vec![mask],
            Some(WireMasks::Several(masks)) => masks,
        };
        let images = if inside.is_empty() { beside } else { inside };
        let objects = wire.objects.unwrap_or_default();
        let mut item = Self { messages, images, masks, objects };
        add_missing_places(&mut item);
        item.check()?;
        Ok(item)
    }
}

/// Pictures without a place come first in the first message behind the instruction.
fn add_missing_places(item: &mut Item) {
    let missing = item.images.len().saturating_sub(item.places(IMAGE));
    let first = item.messages.iter_mut().find(|it| it.role != Role::System);
    if let Some(message) = first.filter(|_| missing > 0) {
        message.content.insert_str(0, &IMAGE.repeat(missing));
    }
}
