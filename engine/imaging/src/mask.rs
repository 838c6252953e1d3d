//! Which voxels belong to a shape.

use domain::VolumeGeometry;

use crate::rle::FlatMask;

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

    /// One that was drawn slice by slice; nothing, if a slice is missing or of another size.
    pub fn of_slices(geometry: &VolumeGeometry, slices: &[FlatMask]) -> Option<Self> {
        let (rows, columns) = (geometry.rows, geometry.columns);
        let fits = slices.iter().all(|it| (it.height, it.width) == (rows, columns));
        if !fits || slices.len() != geometry.positions.len() {
            return None;
        }
        let shape = [slices.len(), rows as usize, columns as usize];
        Some(Self { shape, voxels: slices.iter().flat_map(|it| it.pixels.clone()).collect() })
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
