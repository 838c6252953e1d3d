//! The boxes and names of an item as text.
//!
//! A model sees a picture resized, and boxes are told in pixels of what it sees. ms-swift writes a
//! box for Qwen2.5-VL as `[x1, y1, x2, y2]` and a name as it is.

use crate::item::{BBOX, BoxUnit, Item, Message, REFERENCE};
use crate::region::{Region, whole};

/// The size of a picture as it is, and as the model sees it: width and height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// In the dataset.
    pub source: [u32; 2],
    /// As the model sees it.
    pub seen: [u32; 2],
}

/// How scaled coordinates become whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, and to the even one of two: ms-swift.
    #[default]
    HalfEven,
    /// Down: the template of the release of Citrus-V.
    Down,
}

/// The picture of a box has no size among those that were given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the size of picture {0} is not known")]
pub struct UnknownSize(pub usize);

/// A place in pixels of what the model sees.
pub fn scaled(region: Region, unit: BoxUnit, scaling: Scaling, rounding: Rounding) -> Region {
    let seen = scaling.seen.map(f64::from);
    let source = match unit {
        BoxUnit::Real => scaling.source.map(f64::from),
        BoxUnit::Norm1 => [1.0, 1.0],
    };
    region.map(|axis, value| {
        let [width, height] = source;
        let [across, down] = seen;
        let (of, to) = if axis == 0 { (width, across) } else { (height, down) };
        match rounding {
            Rounding::HalfEven => (value / of * to).round_ties_even(),
            Rounding::Down => (value * (to / of)).trunc().clamp(0.0, to),
        }
    })
}

impl Item {
    /// The messages with boxes and names in their places. `scalings` has the sizes of all pictures.
    /// The places of pictures stay.
    ///
    /// # Errors
    ///
    /// Fails if a size is missing.
    pub fn rendered(
        &self,
        scalings: &[Scaling],
        rounding: Rounding,
    ) -> Result<Vec<Message>, UnknownSize> {
        let unit = self.objects.unit.unwrap_or_default();
        let mut boxes = Vec::new();
        for (index, region) in self.objects.boxes.iter().enumerate() {
            let image = self.objects.image_of(index);
            let scaling = scalings.get(image).ok_or(UnknownSize(image))?;
            boxes.push(text(scaled(*region, unit, *scaling, rounding)));
        }
        let mut boxes = boxes.into_iter();
        let mut names = self.objects.references.iter().cloned();
        let messages = self.messages.iter().map(|it| Message {
            role: it.role,
            content: filled(&it.content, &mut boxes, &mut names),
        });
        Ok(messages.collect())
    }
}

/// A place as text.
fn text(region: Region) -> String {
    let numbers = region.coordinates().iter().map(|it| whole(*it).unwrap_or_default().to_string());
    format!("[{}]", numbers.collect::<Vec<_>>().join(", "))
}

/// The text with its places filled in turn. What is filled in is not searched again.
fn filled(
    content: &str,
    boxes: &mut impl Iterator<Item = String>,
    names: &mut impl Iterator<Item = String>,
) -> String {
    let mut filled = String::new();
    let mut rest = content;
    loop {
        let next_box = rest.find(BBOX).unwrap_or(rest.len());
        let next_name = rest.find(REFERENCE).unwrap_or(rest.len());
        let at = next_box.min(next_name);
        let Some((before, behind)) = rest.split_at_checked(at) else { return filled };
        filled.push_str(before);
        if let Some(behind) = behind.strip_prefix(BBOX) {
            filled.push_str(&boxes.next().unwrap_or_else(|| BBOX.to_owned()));
            rest = behind;
        } else if let Some(behind) = behind.strip_prefix(REFERENCE) {
            filled.push_str(&names.next().unwrap_or_else(|| REFERENCE.to_owned()));
            rest = behind;
        } else {
            return filled;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCALING: Scaling = Scaling { source: [131, 97], seen: [140, 84] };

    #[track_caller]
    fn check(content: &str, objects: &str, expected: &str) {
        let item: Item = serde_json::from_str(&format!(
            r#"{{"messages":[{{"role":"assistant","content":{content:?}}}],"images":["a.png"],
                "objects":{objects}}}"#
        ))
        .unwrap();
        let rendered = item.rendered(&[SCALING], Rounding::HalfEven).unwrap();
        assert_eq!(rendered[0].content, format!("<image>{expected}"));
    }

    #[test]
    fn pap_56_boxes_and_names_are_written_in_their_places_as_ms_swift_writes_them() {
        check(
            "<ref-object><bbox> and <ref-object><bbox>",
            r#"{"ref":["a dog","a <bbox>"],"bbox":[[13.1,9.7,65.5,48.5],[0,0,131,97]]}"#,
            "a dog[14, 8, 70, 42] and a <bbox>[0, 0, 140, 84]",
        );
        check("click(<bbox>)", r#"{"ref":[],"bbox":[[131,48.5]]}"#, "click([140, 42])");
        let parts = r#"{"bbox":[[0.25,0.5,0.75,1]],"bbox_type":"norm1"}"#;
        check("<bbox>", parts, "[35, 42, 105, 84]");
        check(
            "{\"bbox_2d\": <bbox>,\"label\": \"<ref-object>\"}",
            r#"{"ref":["heart"],"bbox":[[131,97,0,0]]}"#,
            "{\"bbox_2d\": [0, 0, 140, 84],\"label\": \"heart\"}",
        );
    }

    #[test]
    fn pap_56_of_two_neighbours_the_even_one_is_written() {
        let scaling = Scaling { source: [2, 2], seen: [1, 1] };
        let scale = |rounding, value| {
            let point = Region::Point([value, value]);
            let Region::Point([x, _]) = scaled(point, BoxUnit::Real, scaling, rounding) else {
                unreachable!()
            };
            x
        };
        for (value, even, down) in [(1.0, 0.0, 0.0), (3.0, 2.0, 1.0), (1.9, 1.0, 0.0)] {
            assert_eq!(scale(Rounding::HalfEven, value).to_bits(), f64::to_bits(even));
            assert_eq!(scale(Rounding::Down, value).to_bits(), f64::to_bits(down));
        }
    }

    #[test]
    fn a_box_of_a_picture_without_a_size_is_refused() {
        let line = r#"{"messages":[{"role":"assistant","content":"<bbox>"}],"images":["a.png"],
            "objects":{"bbox":[[1,2,3,4]]}}"#;
        let item: Item = serde_json::from_str(line).unwrap();
        assert_eq!(item.rendered(&[], Rounding::Down), Err(UnknownSize(0)));
    }

    proptest! {
        /// PAP-04: what is scaled to the model and back is off by half a step at most.
        #[test]
        fn pap_56_a_box_comes_back_to_its_picture(
            [x, y] in [0_u32..2000, 0_u32..2000],
            [across, down] in [28_u32..2000, 28_u32..2000],
        ) {
            let there = Scaling { source: [2000, 2000], seen: [across, down] };
            let point = Region::Point([f64::from(x), f64::from(y)]);
            let seen = scaled(point, BoxUnit::Real, there, Rounding::HalfEven);
            let back = |value: f64, to: u32| value * 2000.0 / f64::from(to);
            let [u, v] = *seen.coordinates() else { unreachable!() };
            for (was, found, to) in [(x, u, across), (y, v, down)] {
                let error = (back(found, to) - f64::from(was)).abs();
                prop_assert!(error <= 1000.0 / f64::from(to) + 1e-9);
            }
        }
    }
}
