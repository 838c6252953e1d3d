//! A frontal radiograph of a chest.
//!
//! Drawn as attenuation: air is dark, tissue grey, bone and fluid bright. Organs are shapes in the
//! coordinates of the body (`frame`), varied within what is usual. The masks are made first, and
//! what is painted follows them pixel by pixel.

use imaging::FlatMask;

use crate::anatomy::{Organ, Side};
use crate::cloud::Cloud;
use crate::frame::{Frame, Pose};
use crate::letters;
use crate::look::Look;
use crate::phantom::{DrawnOrgan, Lesion, Phantom, View, area};
use crate::random::Random;

mod chest;
mod lesions;

use chest::Chest;
use lesions::{Extent, PlannedLesion};

/// The radiograph of a seed, of this many rows and columns.
pub fn radiograph(seed: u64, size: u32) -> Phantom {
    let mut random = Random::new(seed, "radiograph");
    let chest = Chest::drawn(&mut random);
    let frame = Frame::new(size, Pose::drawn(&mut random));
    let planned = lesions::planned(&chest, &mut random);
    let look = Look::drawn(&mut random);
    let cloud = Cloud::drawn(&mut random);
    let drawing = Drawing::of(&chest, planned, frame);
    let values = drawing.painted(&chest, &cloud);
    let mut grey = look.applied(frame, values, &mut random);
    letters::burn(&mut grey, size, &mut random);
    Phantom {
        seed,
        view: View::Radiograph,
        size,
        grey,
        organs: drawing.organs(),
        lesions: drawing.lesions(),
    }
}

/// The masks of a radiograph.
struct Drawing {
    frame: Frame,
    torso: FlatMask,
    /// The lungs themselves.
    lungs: [FlatMask; 2],
    heart: FlatMask,
    aorta: FlatMask,
    spine: FlatMask,
    liver: FlatMask,
    lesions: Vec<(PlannedLesion, FlatMask)>,
}

impl Drawing {
    /// The masks of a chest. Lesions that would be too small to see are left out.
    fn of(chest: &Chest, planned: Vec<PlannedLesion>, frame: Frame) -> Self {
        let smallest = frame.size as usize * frame.size as usize / 5000;
        let heart = frame.mask(|x, y| chest.heart.contains(x, y));
        let mut lungs = Side::ALL.map(|side| frame.mask(|x, y| chest.is_pleural(side, x, y)));
        let mut drawn: Vec<(PlannedLesion, FlatMask)> = Vec::new();
        // What is around a lung comes first: what is in the lung is not there.
        let (around, within): (Vec<_>, Vec<_>) =
            planned.into_iter().partition(|it| it.kind.is_pleural());
        for lesion in around.into_iter().chain(within) {
            let [right, left] = &mut lungs;
            let lung = if lesion.side == Some(Side::Right) { right } else { left };
            let mut mask = match &lesion.extent {
                Extent::Heart => heart.clone(),
                extent => frame.mask(|x, y| extent.contains(chest, x, y)),
            };
            if lesion.side.is_some() {
                for (pixel, is_lung) in mask.pixels.iter_mut().zip(&lung.pixels) {
                    *pixel &= *is_lung;
                }
            }
            if area(&mask) < smallest {
                continue;
            }
            if lesion.kind.is_pleural() {
                for (pixel, is_taken) in lung.pixels.iter_mut().zip(&mask.pixels) {
                    *pixel &= !is_taken;
                }
            }
            drawn.push((lesion, mask));
        }
        drawn.sort_by_key(|it| (it.0.kind, it.0.side));
        Self {
            frame,
            torso: frame.mask(|x, y| chest.is_torso(x, y)),
            lungs,
            heart,
            aorta: frame.mask(|x, y| chest.aorta.iter().any(|it| it.contains(x, y))),
            spine: frame.mask(|x, _| x.abs() < chest.spine),
            liver: frame.mask(|x, y| chest.is_liver(x, y)),
            lesions: drawn,
        }
    }

    /// How bright each place is, before light, focus and noise.
    fn painted(&self, chest: &Chest, cloud: &Cloud) -> Vec<f32> {
        let bright = self.frame.places().map(|[x, y]| {
            // Vertebrae and the discs between them.
            let segment = y / 0.13;
            let is_disc = segment - segment.floor() < 0.22;
            let middle = if x.abs() < chest.mediastinum { 0.05 } else { 0.0 };
            let stomach = if chest.stomach.contains(x, y) { -0.16 } else { 0.0 };
            let spine = if x.abs() < chest.spine && is_disc { -0.04 } else { 0.0 };
            0.50 + middle + stomach + spine + chest.bones(x, y) + 0.015 * cloud.at(x, y)
        });
        let mut values: Vec<f32> = bright.collect();
        let mut add = |mask: &FlatMask, change: f32| {
            for (value, is_inside) in values.iter_mut().zip(&mask.pixels) {
                if *is_inside {
                    *value += change;
                }
            }
        };
        for lung in &self.lungs {
            add(lung, -0.31);
        }
        add(&self.heart, 0.13);
        add(&self.aorta, 0.08);
        add(&self.spine, 0.11);
        add(&self.liver, 0.12);
        let places: Vec<[f32; 2]> = self.frame.places().collect();
        for lung in &self.lungs {
            for ((value, is_inside), [x, y]) in values.iter_mut().zip(&lung.pixels).zip(&places) {
                if *is_inside {
                    // Vessels.
                    *value += 0.035 * cloud.at(x * 1.4, y * 1.4);
                }
            }
        }
        for (lesion, mask) in &self.lesions {
            for ((value, is_inside), [x, y]) in values.iter_mut().zip(&mask.pixels).zip(&places) {
                if *is_inside {
                    *value += lesion.change(cloud, *x, *y);
                }
            }
        }
        for (value, is_inside) in values.iter_mut().zip(&self.torso.pixels) {
            if !is_inside {
                *value = 0.02;
            }
        }
        values
    }

    /// The organs, as far as they are in the picture.
    fn organs(&self) -> Vec<DrawnOrgan> {
        let [right, left] = &self.lungs;
        let all = [
            (Organ::Spine, &self.spine),
            (Organ::Lung(Side::Right), right),
            (Organ::Lung(Side::Left), left),
            (Organ::Heart, &self.heart),
            (Organ::Aorta, &self.aorta),
            (Organ::Liver, &self.liver),
        ];
        let clipped = all.map(|(organ, mask)| {
            let pixels =
                mask.pixels.iter().zip(&self.torso.pixels).map(|(it, torso)| *it && *torso);
            let mask = FlatMask { pixels: pixels.collect(), ..mask.clone() };
            DrawnOrgan { organ, mask }
        });
        clipped.into_iter().filter(|it| area(&it.mask) > 0).collect()
    }

    fn lesions(self) -> Vec<Lesion> {
        let lesions = self.lesions.into_iter().map(|(planned, mask)| Lesion {
            kind: planned.kind,
            side: planned.side,
            zone: planned.zone,
            mask,
        });
        lesions.collect()
    }
}

#[cfg(test)]
mod tests;
