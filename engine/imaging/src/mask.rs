//! Sets of voxels on the grid of a volume.

use domain::VolumeGeometry;

/// Volume of a voxel in mL; nothing if the geometry does not state it.
pub fn voxel_millilitres(geometry: &VolumeGeometry) -> Option<f64> {
    let space = geometry.space.as_ref()?;
    let [rows, columns] = geometry.pixel_spacing?;
    Some(rows * columns * space.slice_spacing / 1000.0)
}

/// A set of voxels on the grid of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Number of slices, rows and columns.
    pub shape: [usize; 3],
    /// One flag per voxel: slice by slice, row by row.
    pub voxels: Vec<bool>,
}

impl Mask {
    /// The voxels whose value satisfies `is_in`. The value of padding is not a number (NaN), which
    /// lies in no range.
    pub fn of(geometry: &VolumeGeometry, values: &[f32], is_in: impl Fn(f32) -> bool) -> Self {
        let shape = [geometry.slices(), geometry.rows as usize, geometry.columns as usize];
        Self { shape, voxels: values.iter().map(|it| is_in(*it)).collect() }
    }

    /// The voxels of the mask that are not among the excluded ones, such as those of padding.
    #[must_use]
    pub fn without(mut self, excluded: impl IntoIterator<Item = bool>) -> Self {
        for (voxel, is_excluded) in self.voxels.iter_mut().zip(excluded) {
            *voxel &= !is_excluded;
        }
        self
    }

    /// Number of voxels in the set.
    pub fn count(&self) -> u64 {
        self.voxels.iter().filter(|it| **it).count() as u64
    }

    /// Unpacks the bits of [`Mask::packed`]; nothing if they do not have the size of the grid.
    pub fn unpacked(geometry: &VolumeGeometry, packed: &[u8]) -> Option<Self> {
        let voxels = geometry.slices() * geometry.pixels();
        let shape = [geometry.slices(), geometry.rows as usize, geometry.columns as usize];
        (packed.len() == voxels.div_ceil(8)).then(|| Self {
            shape,
            voxels: (0..voxels).map(|at| encoding::bits::is_set(packed, at)).collect(),
        })
    }

    /// Volume in mL: number of voxels x row spacing x column spacing x slice spacing (DIN-82).
    /// Nothing if the geometry does not state them.
    pub fn millilitres(&self, geometry: &VolumeGeometry) -> Option<f64> {
        Some(self.count() as f64 * voxel_millilitres(geometry)?)
    }

    /// One bit per voxel, lowest bit first, without a gap between slices (OUT-11).
    pub fn packed(&self) -> Vec<u8> {
        encoding::bits::pack(self.voxels.iter().copied())
    }
}
