//! The objects of a target: each is measured, and is a segment and a finding of its own.
//!
//! A target that is not countable is one object. Of a countable one, each connected part is an object,
//! but for parts that are smaller than noise; what is left out is told.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use domain::{Laterality, VolumeGeometry};
use imaging::Mask;
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
    /// Its voxels in the mask of the target.
    pub(crate) voxels: Vec<usize>,
}

impl TargetObject {
    /// Its voxels as a mask.
    pub(crate) fn mask(&self, of: &Mask) -> Mask {
        let mut mask = Mask { shape: of.shape, voxels: vec![false; of.voxels.len()] };
        for voxel in &self.voxels {
            if let Some(flag) = mask.voxels.get_mut(*voxel) {
                *flag = true;
            }
        }
        mask
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
        let voxels = mask.voxels.iter().enumerate().filter(|(_, is_set)| **is_set);
        let voxels: Vec<usize> = voxels.map(|(voxel, _)| voxel).collect();
        let object = TargetObject { label: target.name().to_owned(), laterality: None, voxels };
        Self {
            objects: Some(object).filter(|it| !it.voxels.is_empty()).into_iter().collect(),
            omissions: Vec::new(),
        }
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
            voxels: it.voxels,
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
        assert_eq!(found.objects[0].voxels.len(), 50);
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
        assert_eq!(found.objects[0].mask(&mask), mask);
        let empty = Mask { voxels: vec![false; 5], ..mask };
        assert!(TargetObjects::whole(&target, &empty).objects.is_empty());
    }
}
