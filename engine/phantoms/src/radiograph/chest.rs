//! The shapes of a chest on a frontal radiograph.

use crate::anatomy::Side;
use crate::random::Random;
use crate::shape::Ellipse;

/// The shapes of a chest.
pub(super) struct Chest {
    /// Half of the width of the body.
    pub(super) torso: f32,
    /// The right one and the left one.
    pub(super) lungs: [LungShape; 2],
    pub(super) heart: Ellipse,
    /// Whether the heart is larger than usual.
    pub(super) is_enlarged: bool,
    pub(super) aorta: [Ellipse; 2],
    /// Half of the width of the spine.
    pub(super) spine: f32,
    /// Half of the width of the mediastinum.
    pub(super) mediastinum: f32,
    pub(super) liver: Ellipse,
    pub(super) stomach: Ellipse,
    /// Distance of the ribs, and where the first one is.
    pub(super) ribs: [f32; 2],
}

/// A lung: an ellipse that ends below at the diaphragm.
#[derive(Clone, Copy)]
pub(super) struct LungShape {
    pub(super) side: Side,
    pub(super) ellipse: Ellipse,
    /// The highest point of the diaphragm.
    pub(super) top: [f32; 2],
    /// How fast it falls from there.
    pub(super) fall: f32,
}

impl LungShape {
    fn drawn(side: Side, random: &mut Random) -> Self {
        let middle = side.sign() * random.between(0.40, 0.46);
        let center = [middle, random.between(-0.10, -0.02)];
        let radii = [random.between(0.28, 0.33), random.between(0.62, 0.72)];
        // The liver lifts the right half of the diaphragm.
        let lift = if side == Side::Right { random.between(0.02, 0.09) } else { 0.0 };
        let top = [middle - side.sign() * 0.06, random.between(0.40, 0.50) - lift];
        let fall = random.between(0.7, 1.3);
        Self { side, ellipse: Ellipse::new(center, radii, side.sign() * -0.06), top, fall }
    }

    /// Where the diaphragm is.
    fn diaphragm(&self, x: f32) -> f32 {
        let [middle, top] = self.top;
        top + self.fall * (x - middle) * (x - middle)
    }

    pub(super) fn contains(&self, x: f32, y: f32) -> bool {
        y < self.diaphragm(x) && self.ellipse.contains(x, y)
    }
}

impl Chest {
    pub(super) fn drawn(random: &mut Random) -> Self {
        let lungs = Side::ALL.map(|it| LungShape::drawn(it, random));
        let is_enlarged = random.chance(30);
        let width =
            if is_enlarged { random.between(0.37, 0.43) } else { random.between(0.22, 0.27) };
        let height =
            if is_enlarged { random.between(0.26, 0.31) } else { random.between(0.20, 0.25) };
        let lean = random.between(0.3, 0.6);
        let beat = [random.between(0.08, 0.14), random.between(0.14, 0.22)];
        let arch = [random.between(0.09, 0.12), random.between(-0.36, -0.28)];
        let [_, arch_y] = arch;
        let liver = [random.between(-0.46, -0.38), random.between(0.68, 0.76)];
        Self {
            torso: random.between(0.86, 0.96),
            lungs,
            heart: Ellipse::new(beat, [width, height], lean),
            is_enlarged,
            aorta: [
                Ellipse::disc(arch, random.between(0.08, 0.10)),
                Ellipse::new([0.085, arch_y + 0.42], [random.between(0.045, 0.06), 0.44], 0.0),
            ],
            spine: random.between(0.065, 0.085),
            mediastinum: random.between(0.12, 0.15),
            liver: Ellipse::new(liver, [random.between(0.36, 0.42), 0.34], 0.0),
            stomach: Ellipse::new([0.42, random.between(0.66, 0.74)], [0.17, 0.12], 0.0),
            ribs: [random.between(0.14, 0.19), random.between(-0.9, -0.8)],
        }
    }

    pub(super) fn lung(&self, side: Side) -> &LungShape {
        let [right, left] = &self.lungs;
        match side {
            Side::Right => right,
            Side::Left => left,
        }
    }

    /// Whether a place is in the space of a lung: the lung, or fluid or air around it.
    pub(super) fn is_pleural(&self, side: Side, x: f32, y: f32) -> bool {
        self.lung(side).contains(x, y)
            && x * side.sign() > self.mediastinum
            && !self.heart.contains(x, y)
            && !self.aorta.iter().any(|it| it.contains(x, y))
    }

    pub(super) fn is_torso(&self, x: f32, y: f32) -> bool {
        let is_neck = x.abs() < 0.24 && y < 0.0;
        is_neck || x.abs() < self.torso && y > -0.95 + 0.4 * x * x
    }

    pub(super) fn is_liver(&self, x: f32, y: f32) -> bool {
        self.liver.contains(x, y) && y > self.lung(Side::Right).diaphragm(x) && x < -self.spine
    }

    /// How bright a rib or collar bone makes a place.
    pub(super) fn bones(&self, x: f32, y: f32) -> f32 {
        let [distance, first] = self.ribs;
        let side = x.abs();
        // A rib falls to the outside; its front rises again.
        let bend = y - first - 0.55 * (side - 0.1) * (1.15 - side);
        let number = (bend / distance).floor();
        let within = bend - number * distance;
        let is_rib = (0.0..9.0).contains(&number) && within < distance * 0.28 && side < 0.80;
        let collar = y + 0.74 + 0.12 * side;
        let is_collar = (0.0..0.05).contains(&collar) && (0.10..0.72).contains(&side);
        if is_rib || is_collar { 0.05 } else { 0.0 }
    }
}
