//! The body of a CT: what is at each place.

use crate::anatomy::{LesionKind, Organ, Side};
use crate::random::Random;
use crate::shape::{Ellipse, Ellipsoid};

/// Units of x and y in one of z: a body is twice as long as half of its width.
const UNITS_PER_Z: f32 = 2.0;

/// The level between abdomen and chest.
pub(super) const DIAPHRAGM: f32 = 0.5;

/// How often a place is tried for a lesion.
const TRIES: usize = 40;

/// The part of a radius above and below the middle to which a lesion reaches.
const REACH: f32 = 0.6;

/// What a voxel is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Air,
    Fat,
    Muscle,
    Bone,
    Canal,
    Organ(Organ),
    /// The lesion of this number.
    Lesion(usize),
}

/// A body with its lesions.
pub(super) struct Body {
    outline: Ellipse,
    /// What is inside of the layer of fat.
    inside: Ellipse,
    lungs: [Ellipsoid; 2],
    heart: Ellipsoid,
    liver: Ellipsoid,
    spleen: Ellipsoid,
    kidneys: [Ellipsoid; 2],
    aorta: Ellipse,
    spine: Ellipse,
    canal: Ellipse,
    /// How much contrast medium there is, from 0 to 1.
    contrast: f32,
    planned: Vec<PlannedLesion>,
}

/// A lesion of a body.
pub(super) struct PlannedLesion {
    pub(super) kind: LesionKind,
    pub(super) side: Option<Side>,
    extent: Extent,
    units: f32,
}

enum Extent {
    /// A ball without its tips: the middle and the radius in x and y.
    Ball([f32; 3], f32),
    /// The back of a lung, behind this level.
    Fluid(f32),
    /// The aorta below the diaphragm.
    Aorta,
}

impl Body {
    pub(super) fn drawn(random: &mut Random) -> Self {
        let [across, down] = [random.between(0.80, 0.90), random.between(0.58, 0.68)];
        let fat = random.between(0.04, 0.09);
        let lung = |side: Side, random: &mut Random| Ellipsoid {
            center: [side.sign() * random.between(0.36, 0.40), random.between(-0.05, 0.0), 0.72],
            radii: [
                random.between(0.27, 0.31),
                random.between(0.38, 0.44),
                random.between(0.25, 0.30),
            ],
        };
        let kidney = |side: Side, random: &mut Random| Ellipsoid {
            center: [
                side.sign() * random.between(0.33, 0.39),
                random.between(0.22, 0.28),
                random.between(0.20, 0.26),
            ],
            radii: [
                random.between(0.10, 0.13),
                random.between(0.12, 0.15),
                random.between(0.10, 0.13),
            ],
        };
        let is_wide = random.chance(25);
        let aorta = if is_wide { random.between(0.11, 0.14) } else { random.between(0.048, 0.065) };
        let spine = [0.0, random.between(0.40, 0.44)];
        let [_, back] = spine;
        let mut body = Self {
            outline: Ellipse::new([0.0, 0.0], [across, down], 0.0),
            inside: Ellipse::new([0.0, 0.0], [across - fat, down - fat], 0.0),
            lungs: Side::ALL.map(|it| lung(it, random)),
            heart: Ellipsoid {
                center: [random.between(0.06, 0.14), random.between(-0.24, -0.16), 0.62],
                radii: [random.between(0.20, 0.26), random.between(0.17, 0.22), 0.13],
            },
            liver: Ellipsoid {
                center: [random.between(-0.38, -0.32), random.between(-0.12, -0.04), 0.40],
                radii: [random.between(0.34, 0.40), random.between(0.34, 0.40), 0.20],
            },
            spleen: Ellipsoid {
                center: [random.between(0.48, 0.54), random.between(0.08, 0.16), 0.40],
                radii: [random.between(0.14, 0.18), random.between(0.18, 0.24), 0.14],
            },
            kidneys: Side::ALL.map(|it| kidney(it, random)),
            aorta: Ellipse::disc([random.between(0.03, 0.07), back - 0.20 - aorta], aorta),
            spine: Ellipse::new(
                spine,
                [random.between(0.13, 0.16), random.between(0.11, 0.13)],
                0.0,
            ),
            canal: Ellipse::disc([0.0, back + 0.06], 0.04),
            contrast: random.unit(),
            planned: Vec::new(),
        };
        if is_wide {
            body.plan(
                LesionKind::Aneurysm,
                None,
                Extent::Aorta,
                body.units(Label::Organ(Organ::Aorta)),
            );
        }
        body.plan_lesions(random);
        body
    }

    fn plan(&mut self, kind: LesionKind, side: Option<Side>, extent: Extent, units: f32) {
        self.planned.push(PlannedLesion { kind, side, extent, units });
    }

    fn plan_lesions(&mut self, random: &mut Random) {
        if random.chance(25) {
            return;
        }
        for (side, lung) in Side::ALL.into_iter().zip(self.lungs) {
            if random.chance(22) {
                let level = random.between(0.08, 0.20);
                let units = random.between(5.0, 20.0);
                self.plan(LesionKind::Effusion, Some(side), Extent::Fluid(level), units);
            }
            if random.chance(30) {
                let radius = random.between(0.04, 0.08);
                let units = random.between(20.0, 60.0);
                self.plan_ball(LesionKind::Nodule, Some(side), lung, radius, units, random);
            }
        }
        let liver = self.liver;
        let parenchyma = self.units(Label::Organ(Organ::Liver));
        if random.chance(30) {
            let units = parenchyma - random.between(45.0, 65.0);
            let radius = random.between(0.06, 0.11);
            self.plan_ball(LesionKind::LiverLesion, None, liver, radius, units, random);
        }
        if random.chance(30) {
            let radius = random.between(0.05, 0.10);
            let units = random.between(-8.0, 4.0) - 30.0 * (1.0 - self.contrast);
            self.plan_ball(LesionKind::HepaticCyst, None, liver, radius, units, random);
        }
        for (side, kidney) in Side::ALL.into_iter().zip(self.kidneys) {
            if random.chance(30) {
                let radius = random.between(0.045, 0.06);
                let units = random.between(-10.0, 5.0) - 30.0 * (1.0 - self.contrast);
                self.plan_ball(LesionKind::RenalCyst, Some(side), kidney, radius, units, random);
            }
            if random.chance(25) {
                let radius = random.between(0.035, 0.048);
                let units = random.between(500.0, 900.0);
                self.plan_ball(
                    LesionKind::RenalCalculus,
                    Some(side),
                    kidney,
                    radius,
                    units,
                    random,
                );
            }
        }
    }

    /// Plans a ball inside of an organ, apart from other lesions, if there is room.
    fn plan_ball(
        &mut self,
        kind: LesionKind,
        side: Option<Side>,
        organ: Ellipsoid,
        radius: f32,
        units: f32,
        random: &mut Random,
    ) {
        let [cx, cy, cz] = organ.center;
        let [a, b, c] = organ.radii;
        let own = organ_of(kind, side).map(Label::Organ);
        let place = (0..TRIES).find_map(|_| {
            let x = cx + a * random.between(-0.9, 0.9);
            let y = cy + b * random.between(-0.9, 0.9);
            let z = cz + c * random.between(-0.8, 0.8);
            let tip = REACH * radius / UNITS_PER_Z;
            // Below the diaphragm what is of the abdomen, above it what is of the chest.
            let is_of_chest = kind == LesionKind::Nodule;
            let fits = if is_of_chest { z - tip > DIAPHRAGM } else { z + tip < DIAPHRAGM };
            let edge = radius * 1.1;
            let is_inside = [-tip, 0.0, tip].iter().all(|rise| {
                let around = [
                    [edge, 0.0],
                    [-edge, 0.0],
                    [0.0, edge],
                    [0.0, -edge],
                    [edge * 0.7, edge * 0.7],
                    [-edge * 0.7, edge * 0.7],
                    [edge * 0.7, -edge * 0.7],
                    [-edge * 0.7, -edge * 0.7],
                ];
                around.iter().all(|[across, down]| {
                    organ.contains(x + across, y + down, z + rise)
                        && Some(self.label(x + across, y + down, z + rise)) == own
                })
            });
            (fits && is_inside).then_some([x, y, z])
        });
        if let Some(place) = place {
            self.plan(kind, side, Extent::Ball(place, radius), units);
        }
    }

    /// What is at a place.
    pub(super) fn label(&self, x: f32, y: f32, z: f32) -> Label {
        if !self.outline.contains(x, y) {
            return Label::Air;
        }
        if !self.inside.contains(x, y) {
            return Label::Fat;
        }
        if self.canal.contains(x, y) {
            return Label::Canal;
        }
        let organ = self.organ_at(x, y, z);
        let is_lesion = |it: &PlannedLesion| it.contains(organ, x, y, z);
        if let Some(index) = self.planned.iter().position(is_lesion) {
            return Label::Lesion(index);
        }
        match organ {
            Some(organ) => Label::Organ(organ),
            None if self.inside.depth(x, y) < 0.78 => Label::Fat,
            None if z > DIAPHRAGM && is_rib(x, y) => Label::Bone,
            None => Label::Muscle,
        }
    }

    /// The organ at a place, as if there were no lesions.
    fn organ_at(&self, x: f32, y: f32, z: f32) -> Option<Organ> {
        if self.spine.contains(x, y) {
            return Some(Organ::Spine);
        }
        if self.aorta.contains(x, y) && z < 0.9 {
            return Some(Organ::Aorta);
        }
        if self.heart.contains(x, y, z) {
            return Some(Organ::Heart);
        }
        for (side, kidney) in Side::ALL.into_iter().zip(&self.kidneys) {
            if kidney.contains(x, y, z) {
                return Some(Organ::Kidney(side));
            }
        }
        for (side, lung) in Side::ALL.into_iter().zip(&self.lungs) {
            if z > DIAPHRAGM && lung.contains(x, y, z) {
                return Some(Organ::Lung(side));
            }
        }
        if z <= DIAPHRAGM && self.liver.contains(x, y, z) && x < 0.06 {
            return Some(Organ::Liver);
        }
        if z <= DIAPHRAGM && self.spleen.contains(x, y, z) {
            return Some(Organ::Spleen);
        }
        None
    }

    /// The organ of a label. What is abnormal of a whole organ is still that organ; a lesion in an
    /// organ belongs to it.
    pub(super) fn organ(&self, label: Label) -> Option<Organ> {
        match label {
            Label::Organ(organ) => Some(organ),
            Label::Lesion(index) => {
                let lesion = self.planned.get(index)?;
                organ_of(lesion.kind, lesion.side)
            }
            Label::Air | Label::Fat | Label::Muscle | Label::Bone | Label::Canal => None,
        }
    }

    /// All lesions, by their numbers.
    pub(super) fn planned(&self) -> &[PlannedLesion] {
        &self.planned
    }

    /// A level at which each lesion is seen.
    pub(super) fn levels_of_lesions(&self) -> Vec<f32> {
        let level = |it: &PlannedLesion| match it.extent {
            Extent::Ball([_, _, z], _) => z,
            Extent::Fluid(_) => 0.70,
            Extent::Aorta => 0.30,
        };
        self.planned.iter().map(level).collect()
    }

    /// Hounsfield units of a label.
    pub(super) fn units(&self, label: Label) -> f32 {
        match label {
            Label::Air => -1000.0,
            Label::Fat => -95.0,
            Label::Muscle => 48.0,
            Label::Bone => 550.0,
            Label::Canal => 25.0,
            Label::Organ(Organ::Spine) => 420.0,
            Label::Organ(Organ::Lung(_)) => -820.0,
            Label::Organ(Organ::Heart) => 70.0 + 90.0 * self.contrast,
            Label::Organ(Organ::Aorta) => 75.0 + 150.0 * self.contrast,
            Label::Organ(Organ::Liver) => 85.0 + 45.0 * self.contrast,
            Label::Organ(Organ::Spleen) => 75.0 + 60.0 * self.contrast,
            Label::Organ(Organ::Kidney(_)) => 65.0 + 130.0 * self.contrast,
            Label::Lesion(index) => self.planned.get(index).map_or(0.0, |it| it.units),
        }
    }

    /// How much the units of a label vary by place.
    pub(super) const fn unevenness(label: Label) -> f32 {
        match label {
            Label::Air | Label::Canal => 2.0,
            Label::Organ(Organ::Lung(_)) => 45.0,
            Label::Organ(Organ::Spine) | Label::Bone => 60.0,
            Label::Fat | Label::Muscle | Label::Organ(_) | Label::Lesion(_) => 7.0,
        }
    }
}

/// Whether a place of the wall of the chest is of a rib: they lie at steps around it.
fn is_rib(x: f32, y: f32) -> bool {
    let step = (y * 3.4 + x * x).abs();
    step - step.floor() < 0.35
}

impl PlannedLesion {
    /// Whether it is at a place that is of this organ.
    fn contains(&self, organ: Option<Organ>, x: f32, y: f32, z: f32) -> bool {
        match (&self.extent, organ) {
            (Extent::Ball([cx, cy, cz], radius), Some(_)) => {
                if organ != organ_of(self.kind, self.side) {
                    return false;
                }
                let rise = (z - cz) * UNITS_PER_Z;
                let across = x - cx;
                let down = y - cy;
                let square = across * across + down * down + rise * rise;
                rise.abs() <= REACH * radius && square <= radius * radius
            }
            (Extent::Fluid(level), Some(Organ::Lung(side))) => {
                self.side == Some(side) && y > *level
            }
            (Extent::Aorta, Some(Organ::Aorta)) => z <= DIAPHRAGM,
            _ => false,
        }
    }
}

/// The organ that a lesion belongs to. Fluid is around the lung, not of it.
const fn organ_of(kind: LesionKind, side: Option<Side>) -> Option<Organ> {
    match (kind, side) {
        (LesionKind::Nodule, Some(side)) => Some(Organ::Lung(side)),
        (LesionKind::RenalCyst | LesionKind::RenalCalculus, Some(side)) => {
            Some(Organ::Kidney(side))
        }
        (LesionKind::LiverLesion | LesionKind::HepaticCyst, _) => Some(Organ::Liver),
        (LesionKind::Aneurysm, _) => Some(Organ::Aorta),
        _ => None,
    }
}
