//! Shapes in the coordinates of the body.

use crate::frame::sine_and_cosine;

/// An ellipse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ellipse {
    pub(crate) center: [f32; 2],
    radii: [f32; 2],
    sine: f32,
    cosine: f32,
}

impl Ellipse {
    pub(crate) fn new(center: [f32; 2], radii: [f32; 2], angle: f32) -> Self {
        let [sine, cosine] = sine_and_cosine(angle);
        Self { center, radii, sine, cosine }
    }

    pub(crate) fn disc(center: [f32; 2], radius: f32) -> Self {
        Self::new(center, [radius, radius], 0.0)
    }

    /// The square of the distance from the middle: 1 at the edge.
    pub(crate) fn depth(&self, x: f32, y: f32) -> f32 {
        let [across, down] = self.center;
        let [a, b] = self.radii;
        let x = x - across;
        let y = y - down;
        let u = (self.cosine * x + self.sine * y) / a;
        let v = (self.cosine * y - self.sine * x) / b;
        u * u + v * v
    }

    pub(crate) fn contains(&self, x: f32, y: f32) -> bool {
        self.depth(x, y) <= 1.0
    }
}

/// An ellipsoid along the axes of the body. z runs from 0 (the feet) to 1 (the head) of a volume.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ellipsoid {
    pub(crate) center: [f32; 3],
    pub(crate) radii: [f32; 3],
}

impl Ellipsoid {
    /// The square of the distance from the middle: 1 at the surface.
    pub(crate) fn depth(&self, x: f32, y: f32, z: f32) -> f32 {
        let [cx, cy, cz] = self.center;
        let [a, b, c] = self.radii;
        let u = (x - cx) / a;
        let v = (y - cy) / b;
        let w = (z - cz) / c;
        u * u + v * v + w * w
    }

    pub(crate) fn contains(&self, x: f32, y: f32, z: f32) -> bool {
        self.depth(x, y, z) <= 1.0
    }
}
