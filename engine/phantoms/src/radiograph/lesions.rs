//! Lesions of a chest radiograph: which there are, and where.

use crate::anatomy::{LesionKind, Side, Zone};
use crate::cloud::Cloud;
use crate::random::Random;
use crate::shape::Ellipse;

use super::chest::Chest;

/// How often a place is tried for a lesion.
const TRIES: usize = 60;

/// Directions around a place: cosine and sine of twelve angles.
const AROUND: [[f32; 2]; 12] = [
    [1.0, 0.0],
    [0.866_025_4, 0.5],
    [0.5, 0.866_025_4],
    [0.0, 1.0],
    [-0.5, 0.866_025_4],
    [-0.866_025_4, 0.5],
    [-1.0, 0.0],
    [-0.866_025_4, -0.5],
    [-0.5, -0.866_025_4],
    [0.0, -1.0],
    [0.5, -0.866_025_4],
    [0.866_025_4, -0.5],
];

/// A lesion before it is drawn.
#[derive(Clone, Debug)]
pub(super) struct PlannedLesion {
    pub(super) kind: LesionKind,
    pub(super) side: Option<Side>,
    pub(super) zone: Option<Zone>,
    pub(super) extent: Extent,
    /// How much brighter it is: than the lung, or around the lung than the tissue behind it.
    strength: f32,
}

/// Where a lesion is.
#[derive(Clone, Debug)]
pub(super) enum Extent {
    /// In any of these discs.
    Discs(Vec<Ellipse>),
    /// Below a level that rises to the outside.
    Fluid {
        /// The lowest point of the level.
        level: f32,
    },
    /// Outside of the lung that has drawn back.
    Air {
        /// What the lung still fills.
        lung: Ellipse,
        /// Where the air ends below.
        end: f32,
    },
    /// The whole heart.
    Heart,
}

impl Extent {
    pub(super) fn contains(&self, chest: &Chest, x: f32, y: f32) -> bool {
        match self {
            Self::Discs(discs) => discs.iter().any(|it| it.contains(x, y)),
            Self::Fluid { level } => {
                let outside = (x.abs() - 0.34).max(0.0);
                y > level - 1.2 * outside * outside
            }
            Self::Air { lung, end } => y < *end && !lung.contains(x, y),
            Self::Heart => chest.heart.contains(x, y),
        }
    }
}

impl PlannedLesion {
    /// How much brighter the lesion makes a place.
    pub(super) fn change(&self, cloud: &Cloud, x: f32, y: f32) -> f32 {
        match self.kind {
            LesionKind::Consolidation => self.strength * (1.0 + 0.35 * cloud.at(y, x)),
            _ => self.strength,
        }
    }
}

/// The lesions of a chest.
pub(super) fn planned(chest: &Chest, random: &mut Random) -> Vec<PlannedLesion> {
    let mut lesions = Vec::new();
    // One picture in four is without any lesion of the lungs.
    if !random.chance(25) {
        for side in Side::ALL {
            lesions.extend(around_lung(chest, side, random));
            in_lung(chest, side, random, &mut lesions);
        }
    }
    if chest.is_enlarged {
        let kind = LesionKind::Cardiomegaly;
        // Its size is what is abnormal; it is as bright as any heart.
        let extent = Extent::Heart;
        lesions.push(PlannedLesion { kind, side: None, zone: None, extent, strength: 0.0 });
    }
    lesions
}

/// Fluid or air around a lung.
fn around_lung(chest: &Chest, side: Side, random: &mut Random) -> Option<PlannedLesion> {
    let lung = chest.lung(side);
    let [middle, _] = lung.ellipse.center;
    let zone = None;
    let side = Some(lung.side);
    match random.below(100) {
        0..25 => {
            let extent = Extent::Fluid { level: random.between(0.10, 0.34) };
            let strength = random.between(0.05, 0.11);
            Some(PlannedLesion { kind: LesionKind::Effusion, side, zone, extent, strength })
        }
        25..45 => {
            let inward = lung.side.sign() * random.between(0.07, 0.12);
            let center = [middle - inward, random.between(0.10, 0.20)];
            let radii = [random.between(0.24, 0.28), random.between(0.62, 0.72)];
            let end = random.between(0.05, 0.30);
            let extent = Extent::Air { lung: Ellipse::new(center, radii, 0.0), end };
            let strength = random.between(-0.46, -0.41);
            Some(PlannedLesion { kind: LesionKind::Pneumothorax, side, zone, extent, strength })
        }
        _ => None,
    }
}

/// Adds opacities of a lung, apart from each other.
fn in_lung(chest: &Chest, side: Side, random: &mut Random, lesions: &mut Vec<PlannedLesion>) {
    let mut taken: Vec<[f32; 3]> = Vec::new();
    for kind in [LesionKind::Consolidation, LesionKind::Mass, LesionKind::Nodule] {
        if !random.chance(22) {
            continue;
        }
        let radius = match kind {
            LesionKind::Consolidation => random.between(0.13, 0.17),
            LesionKind::Mass => random.between(0.09, 0.12),
            _ => random.between(0.035, 0.055),
        };
        let around: Vec<&PlannedLesion> =
            lesions.iter().filter(|it| it.side == Some(side)).collect();
        let Some(center) = free_place(chest, side, radius, &around, &taken, random) else {
            continue;
        };
        let [x, y] = center;
        taken.push([x, y, radius]);
        let discs = match kind {
            LesionKind::Consolidation => {
                let mut part = || {
                    let offset = [random.between(-0.06, 0.06), random.between(-0.06, 0.06)];
                    let [across, down] = offset;
                    let size = radius * random.between(0.5, 0.62);
                    Ellipse::disc([x + across, y + down], size)
                };
                vec![part(), part(), part(), part()]
            }
            _ => vec![Ellipse::disc(center, radius)],
        };
        let strength = match kind {
            LesionKind::Consolidation => random.between(0.16, 0.22),
            _ => random.between(0.18, 0.28),
        };
        let extent = Extent::Discs(discs);
        let zone = Some(zone_of(y));
        lesions.push(PlannedLesion { kind, side: Some(side), zone, extent, strength });
    }
}

/// The third of the lung at a height.
const fn zone_of(y: f32) -> Zone {
    if y < -0.36 {
        Zone::Upper
    } else if y < 0.03 {
        Zone::Middle
    } else {
        Zone::Lower
    }
}

/// A place where a disc is wholly in the lung, and apart from other lesions.
fn free_place(
    chest: &Chest,
    side: Side,
    radius: f32,
    around: &[&PlannedLesion],
    taken: &[[f32; 3]],
    random: &mut Random,
) -> Option<[f32; 2]> {
    let is_free = |x: f32, y: f32| {
        let is_lung = chest.is_pleural(side, x, y);
        let in_pleura =
            |it: &&PlannedLesion| it.kind.is_pleural() && it.extent.contains(chest, x, y);
        is_lung && !around.iter().any(in_pleura)
    };
    (0..TRIES).find_map(|_| {
        let x = side.sign() * random.between(0.16, 0.72);
        let y = random.between(-0.70, 0.45);
        let is_apart = taken.iter().all(|[other_x, other_y, other]| {
            let distance = radius + other + 0.04;
            let across = x - other_x;
            let down = y - other_y;
            across * across + down * down > distance * distance
        });
        let edge = radius * 1.05;
        let is_inside =
            AROUND.iter().all(|[cosine, sine]| is_free(x + cosine * edge, y + sine * edge));
        (is_apart && is_inside && is_free(x, y)).then_some([x, y])
    })
}
