//! An axial CT of chest and abdomen.
//!
//! Every voxel is of one thing: a label first, then its Hounsfield units. Organs are ellipsoids in
//! the coordinates of the body (`frame`), with z from the pelvis (0) to the neck (1). Lesions are
//! balls without their tips, so that no slice has a speck of one.

use imaging::FlatMask;

use crate::anatomy::Organ;
use crate::cloud::Cloud;
use crate::frame::{Frame, Pose};
use crate::look::level;
use crate::phantom::{DrawnOrgan, Lesion, Phantom, View, area};
use crate::random::Random;

mod body;

use body::{Body, Label};

/// The volume of a patient.
pub struct CtVolume {
    seed: u64,
    frame: Frame,
    body: Body,
    cloud: Cloud,
    /// Standard deviation of the noise in Hounsfield units.
    noise: f32,
    slices: u32,
}

/// A slice of a volume.
pub struct CtSlice {
    /// Hounsfield units, row by row.
    pub hounsfield: Vec<i16>,
    /// The slice as a picture in the window of its region, with its masks.
    pub phantom: Phantom,
}

impl CtVolume {
    /// The volume of a seed, of this many rows and columns, and slices.
    pub fn new(seed: u64, size: u32, slices: u32) -> Self {
        let mut random = Random::new(seed, "ct");
        let body = Body::drawn(&mut random);
        let frame = Frame::new(size, Pose::drawn(&mut random));
        let cloud = Cloud::drawn(&mut random);
        let noise = random.between(4.0, 14.0);
        Self { seed, frame, body, cloud, noise, slices: slices.max(1) }
    }

    /// Number of slices.
    pub const fn slices(&self) -> u32 {
        self.slices
    }

    /// A slice, counted from the feet.
    pub fn slice(&self, index: u32) -> CtSlice {
        let z = (index as f32 + 0.5) / self.slices as f32;
        self.slice_at(z, u64::from(index))
    }

    fn slice_at(&self, z: f32, number: u64) -> CtSlice {
        let mut random = Random::new(self.seed ^ number << 40, "ct noise");
        let labels: Vec<Label> =
            self.frame.places().map(|[x, y]| self.body.label(x, y, z)).collect();
        let places = self.frame.places();
        let units = labels.iter().zip(places).map(|(label, [x, y])| {
            let units = self.body.units(*label) + Body::unevenness(*label) * self.cloud.at(x, y);
            whole(units + self.noise * random.noise())
        });
        let hounsfield: Vec<i16> = units.collect();
        let view = if z > body::DIAPHRAGM { View::ChestSlice } else { View::AbdomenSlice };
        let [low, width] = self.window(view);
        let grey = hounsfield.iter().map(|it| level((f32::from(*it) - low) / width * 255.0));
        let phantom = Phantom {
            seed: self.seed,
            view,
            size: self.frame.size,
            grey: grey.collect(),
            organs: self.organs(&labels),
            lesions: self.lesions(&labels),
        };
        CtSlice { hounsfield, phantom }
    }

    /// The lower bound and the width of the window in which a slice is shown.
    fn window(&self, view: View) -> [f32; 2] {
        let mut random = Random::new(self.seed, "window");
        match view {
            View::AbdomenSlice => [random.between(-180.0, -130.0), random.between(360.0, 460.0)],
            View::Radiograph | View::ChestSlice => {
                [random.between(-1050.0, -950.0), random.between(1250.0, 1500.0)]
            }
        }
    }

    fn mask(&self, labels: &[Label], is_inside: impl Fn(Label) -> bool) -> Option<FlatMask> {
        let pixels = labels.iter().map(|it| is_inside(*it)).collect();
        let mask = FlatMask { height: self.frame.size, width: self.frame.size, pixels };
        (area(&mask) > 0).then_some(mask)
    }

    fn organs(&self, labels: &[Label]) -> Vec<DrawnOrgan> {
        let one = |organ: Organ| {
            let mask = self.mask(labels, |it| self.body.organ(it) == Some(organ))?;
            Some(DrawnOrgan { organ, mask })
        };
        Organ::ALL.into_iter().filter_map(one).collect()
    }

    fn lesions(&self, labels: &[Label]) -> Vec<Lesion> {
        let planned = self.body.planned().iter().enumerate();
        let drawn = planned.filter_map(|it| {
            let mask = self.mask(labels, |label| label == Label::Lesion(it.0))?;
            Some(Lesion { kind: it.1.kind, side: it.1.side, zone: None, mask })
        });
        let mut lesions: Vec<Lesion> = drawn.collect();
        lesions.sort_by_key(|it| (it.kind, it.side));
        lesions
    }
}

/// A slice of the CT of a seed, of this many rows and columns: more often than not one with a
/// lesion, if the volume has any.
pub fn ct_slice(seed: u64, size: u32) -> Phantom {
    let volume = CtVolume::new(seed, size, 1);
    let mut random = Random::new(seed, "level");
    let levels = volume.body.levels_of_lesions();
    let chosen = random.choice(&levels).copied().filter(|_| random.chance(70));
    let free =
        if random.chance(50) { random.between(0.14, 0.46) } else { random.between(0.56, 0.86) };
    volume.slice_at(chosen.unwrap_or(free), 0).phantom
}

/// Hounsfield units as they are stored.
fn whole(units: f32) -> i16 {
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the range of CT")]
    let whole = (units + 0.5).floor().clamp(-1024.0, 3071.0) as i16;
    whole
}

#[cfg(test)]
mod tests;
