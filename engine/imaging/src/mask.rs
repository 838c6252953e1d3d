//! Which voxels belong to a shape.

use domain::VolumeGeometry;

/// A shape on the grid of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Slices, rows, columns.
    pub shape: [usize; 3],
    /// One flag a voxel: slice by slice, row by row.
    pub voxels: Vec<bool>,
}

impl Mask {
    /// The voxels for which `is_in` holds.
    pub fn of(geometry: &VolumeGeometry, values: &[f32], is_in: impl Fn(f32) -> bool) -> Self {
        let shape = [geometry.positions.len(), geometry.rows as usize, geometry.columns as usize];
        Self { shape, voxels: values.iter().map(|it| is_in(*it)).collect() }
    }

    /// How many voxels belong to it.
    pub fn count(&self) -> u64 {
        self.voxels.iter().filter(|it| **it).count() as u64
    }

    /// Its volume in mL: voxels times the spacing of rows, columns and slices (DIN-82).
    pub fn millilitres(&self, geometry: &VolumeGeometry) -> f64 {
        let [rows, columns] = geometry.pixel_spacing;
        self.count() as f64 * rows * columns * geometry.slice_spacing / 1000.0
    }

    /// One bit a voxel, lowest first, without a gap between slices (OUT-11).
    pub fn packed(&self) -> Vec<u8> {
        encoding::bits::pack(self.voxels.iter().copied())
    }
}
