//! The objects of a target: each is measured, and is a segment and a finding of its own.
//!
//! A target that is not countable is one object. Of a countable one, each connected part is an object,
//! but for parts that are smaller than noise; what is left out is told.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use domain::{Laterality, VolumeGeometry};
use imaging::Mask;
use imaging::bridges::parts_at_bridges;
use imaging::components::Component;
use imaging::laterality::Midplane;
use imaging::mask::voxel_millilitres;

use crate::known_target::Parts;
use crate::settings::NetworkSettings;
use crate::target::Target;

/// Default upper bound of the objects of a target.
const OBJECTS_MAX: usize = 20;

/// Default percentage of the pixels of an image below which a part is noise.
const SMALLEST_PERCENT: f64 = 0.01;

/// Thickness of a bridge in mm, up to which both sides of a pair are taken apart.
const BRIDGE_MM: f64 = 6.0;

/// Bounds of what is an object, as far as a workflow sets them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    smallest_ml: Option<f64>,
    smallest_percent: Option<f64>,
    objects_max: Option<usize>,
}

impl Bounds {
    pub(crate) const fn of(settings: &NetworkSettings) -> Self {
        let NetworkSettings { smallest_ml, smallest_percent, objects_max, .. } = settings;
        Self {
            smallest_ml: *smallest_ml,
            smallest_percent: *smallest_percent,
            objects_max: *objects_max,
        }
    }

    /// The smallest size of an object; nothing if the target is one structure.
    pub(crate) fn smallest(&self, target: &Target, geometry: &VolumeGeometry) -> Option<Smallest> {
        let Parts::Several { smallest_ml, .. } = target.parts() else { return None };
        Some(match voxel_millilitres(geometry) {
            Some(voxel) => Smallest {
                value: self.smallest_ml.unwrap_or(smallest_ml),
                voxel,
                unit: SizeUnit::Millilitres,
            },
            None => Smallest {
                value: self.smallest_percent.unwrap_or(SMALLEST_PERCENT),
                voxel: 100.0 / geometry.pixels().max(1) as f64,
                unit: SizeUnit::Percent,
            },
        })
    }
}

/// The smallest size of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Smallest {
    value: f64,
    /// Size of a voxel, or of a pixel, in the same unit.
    voxel: f64,
    unit: SizeUnit,
}

/// The unit of the smallest size.
#[derive(Clone, Copy, Debug)]
enum SizeUnit {
    Millilitres,
    Percent,
}

impl Smallest {
    fn text_of(&self, value: f64) -> String {
        match self.unit {
            SizeUnit::Millilitres => format!("{value:.3} mL"),
            SizeUnit::Percent => format!("{value:.3} % of the image"),
        }
    }

    /// As a parameter of the algorithm.
    pub(crate) fn text(&self) -> String {
        self.text_of(self.value)
    }

    fn size(&self, voxels: usize) -> f64 {
        voxels as f64 * self.voxel
    }
}

/// An object of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetObject {
    /// Label of its segment: the target, with side and number where there are several.
    pub(crate) label: String,
    pub(crate) laterality: Option<Laterality>,
    extent: Extent,
}

/// The voxels of an object in the mask of its target.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Extent {
    /// All of them.
    Whole,
    /// Some, by their indices.
    Part(Vec<usize>),
}

impl TargetObject {
    /// Its voxels as a mask.
    pub(crate) fn mask<'a>(&self, of: &'a Mask) -> Cow<'a, Mask> {
        let Extent::Part(voxels) = &self.extent else { return Cow::Borrowed(of) };
        let mut mask = Mask { shape: of.shape, voxels: vec![false; of.voxels.len()] };
        for voxel in voxels {
            if let Some(flag) = mask.voxels.get_mut(*voxel) {
                *flag = true;
            }
        }
        Cow::Owned(mask)
    }
}

/// The objects of a target in one subject.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetObjects {
    /// The objects, the largest first.
    pub(crate) objects: Vec<TargetObject>,
    /// Sentences about what was left out.
    pub(crate) omissions: Vec<String>,
}

impl TargetObjects {
    /// The whole mask as one object; none if it is empty.
    pub(crate) fn whole(target: &Target, mask: &Mask) -> Self {
        let label = target.name().to_owned();
        let object = TargetObject { label, laterality: None, extent: Extent::Whole };
        let objects = if mask.count() == 0 { Vec::new() } else { vec![object] };
        Self { objects, omissions: Vec::new() }
    }

    /// The parts of a countable target. `side` tells the side of some voxels, if they have one.
    pub(crate) fn parts(
        target: &Target,
        mut parts: Vec<Component>,
        bounds: Bounds,
        smallest: Smallest,
        side: impl Fn(&[usize]) -> Option<Laterality>,
    ) -> Self {
        let mut omissions = Vec::new();
        let is_noise = |it: &Component| smallest.size(it.voxels.len()) < smallest.value;
        let noise: Vec<usize> =
            parts.iter().filter(|it| is_noise(it)).map(|it| it.voxels.len()).collect();
        if !noise.is_empty() {
            let total = smallest.size(noise.iter().sum());
            omissions.push(format!(
                "{} of {}: left out as noise, each of less than {}, together {}.",
                counted(noise.len()),
                target.name(),
                smallest.text(),
                smallest.text_of(total)
            ));
        }
        parts.retain(|it| !is_noise(it));
        parts.sort_by_key(|it| (Reverse(it.voxels.len()), it.voxels.iter().min().copied()));
        let objects_max = bounds.objects_max.unwrap_or(OBJECTS_MAX);
        if parts.len() > objects_max {
            let rest = parts.split_off(objects_max);
            let total = smallest.size(rest.iter().map(|it| it.voxels.len()).sum());
            omissions.push(format!(
                "{} of {}: left out, as only the {objects_max} largest are reported; together {}.",
                counted(rest.len()),
                target.name(),
                smallest.text_of(total)
            ));
        }
        let objects = parts.into_iter().map(|it| TargetObject {
            label: String::new(),
            laterality: side(&it.voxels),
            extent: Extent::Part(it.voxels),
        });
        Self { objects: labelled(target, objects.collect()), omissions }
    }
}

fn counted(parts: usize) -> String {
    if parts == 1 { "1 part".to_owned() } else { format!("{parts} parts") }
}

/// Labels objects by their side, and by a number where several have the same one.
fn labelled(target: &Target, mut objects: Vec<TargetObject>) -> Vec<TargetObject> {
    let name = target.name();
    let base = |it: &TargetObject| match it.laterality {
        Some(Laterality::Left) => format!("left {name}"),
        Some(Laterality::Right) => format!("right {name}"),
        Some(Laterality::Bilateral) => format!("{name} of both sides"),
        None => name.to_owned(),
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for object in &objects {
        *counts.entry(base(object)).or_default() += 1;
    }
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    for object in &mut objects {
        let label = base(object);
        let number = numbers.entry(label.clone()).or_default();
        *number += 1;
        let is_only = counts.get(&label) == Some(&1);
        object.label = if is_only { label } else { format!("{label} {number}") };
    }
    objects
}

/// Takes parts that lie on both sides of the patient apart where they hardly touch: both lungs along the
/// airways. A part that does not fall into a left and a right one stays as it is.
pub(crate) fn sides_apart(
    parts: Vec<Component>,
    mask: &Mask,
    geometry: &VolumeGeometry,
    midplane: Option<Midplane>,
) -> Vec<Component> {
    let Some(midplane) = midplane else { return parts };
    let side = |it: &Component| midplane.side(geometry, &it.voxels);
    let mut apart = Vec::new();
    for part in parts {
        let is_of_both = side(&part) == Some(Laterality::Bilateral);
        let pieces = Some(&part).filter(|_| is_of_both);
        let pieces = pieces.and_then(|it| parts_at_bridges(mask, it, bridge_steps(geometry)));
        match pieces.and_then(|it| left_and_right(it, side)) {
            Some(sides) => apart.extend(sides),
            None => apart.push(part),
        }
    }
    apart
}

/// How many voxels of surface are taken off at most.
fn bridge_steps(geometry: &VolumeGeometry) -> usize {
    let [row, column] = geometry.pixel_spacing.unwrap_or([1.0, 1.0]);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 6")]
    let steps = (BRIDGE_MM / 2.0 / row.max(column)).ceil().clamp(1.0, 6.0) as usize;
    steps
}

/// All pieces of the left as one part, and all of the right; nothing if a piece is of both, or if one
/// side has none.
fn left_and_right(
    pieces: Vec<Component>,
    side: impl Fn(&Component) -> Option<Laterality>,
) -> Option<[Component; 2]> {
    let mut left: Option<Component> = None;
    let mut right: Option<Component> = None;
    for piece in pieces {
        let part = match side(&piece)? {
            Laterality::Left => &mut left,
            Laterality::Right => &mut right,
            Laterality::Bilateral => return None,
        };
        match part {
            None => *part = Some(piece),
            Some(part) => {
                part.touches_edge |= piece.touches_edge;
                part.voxels.extend(piece.voxels);
            }
        }
    }
    Some([left?, right?])
}

/// The plane between left and right of a volume for a target; nothing if its parts have no sides.
pub(crate) fn midplane(
    target: &Target,
    geometry: &VolumeGeometry,
    tissue: impl FnOnce() -> Mask,
    structures: &Mask,
) -> Option<Midplane> {
    match target.parts() {
        Parts::Several { have_sides: true, .. } => Midplane::of(geometry, &tissue(), structures),
        Parts::Several { have_sides: false, .. } | Parts::One => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn part(voxels: std::ops::Range<usize>) -> Component {
        Component { voxels: voxels.collect(), touches_edge: false }
    }

    fn smallest(value: f64) -> Smallest {
        Smallest { value, voxel: 0.001, unit: SizeUnit::Millilitres }
    }

    fn labels(objects: &TargetObjects) -> Vec<&str> {
        objects.objects.iter().map(|it| it.label.as_str()).collect()
    }

    #[test]
    fn pap_14_each_part_is_an_object_the_largest_first_and_noise_is_told() {
        let target: Target = serde_json::from_value(json!("lesion")).unwrap();
        let parts = || vec![part(0..20), part(30..32), part(40..90), part(95..96)];
        let found =
            TargetObjects::parts(&target, parts(), Bounds::default(), smallest(0.01), |_| None);
        assert_eq!(labels(&found), ["lesion 1", "lesion 2"]);
        let mask = Mask { shape: [1, 1, 100], voxels: vec![true; 100] };
        assert_eq!(found.objects[0].mask(&mask).count(), 50);
        assert_eq!(
            found.omissions,
            [
                "2 parts of lesion: left out as noise, each of less than 0.010 mL, together 0.003 mL."
            ]
        );
        let bounds = Bounds { objects_max: Some(1), ..Bounds::default() };
        let one = TargetObjects::parts(&target, parts(), bounds, smallest(0.0), |_| None);
        assert_eq!(labels(&one), ["lesion"]);
        assert_eq!(
            one.omissions,
            ["3 parts of lesion: left out, as only the 1 largest are reported; together 0.023 mL."]
        );
    }

    #[test]
    fn pap_14_objects_of_both_sides_are_named_by_their_side() {
        let target: Target = serde_json::from_value(json!("kidney")).unwrap();
        let side = |voxels: &[usize]| match voxels[0] {
            0..50 => Some(Laterality::Right),
            _ => Some(Laterality::Left),
        };
        let parts = vec![part(0..20), part(60..90), part(30..34)];
        let found = TargetObjects::parts(&target, parts, Bounds::default(), smallest(0.0), side);
        assert_eq!(labels(&found), ["left kidney", "right kidney 1", "right kidney 2"]);
    }

    #[test]
    fn pap_14_a_target_that_is_not_countable_is_one_object() {
        let target: Target = serde_json::from_value(json!("bone")).unwrap();
        let mask = Mask { shape: [1, 1, 5], voxels: vec![true, false, false, true, true] };
        let found = TargetObjects::whole(&target, &mask);
        assert_eq!(labels(&found), ["bone"]);
        assert_eq!(*found.objects[0].mask(&mask), mask);
        let empty = Mask { voxels: vec![false; 5], ..mask };
        assert!(TargetObjects::whole(&target, &empty).objects.is_empty());
    }
}
