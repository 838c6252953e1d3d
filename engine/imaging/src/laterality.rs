//! The side of the patient on which voxels lie.
//!
//! Sides come from the coordinates of the patient, whose x axis runs to the patient's left (PS3.3,
//! C.7.6.2.1.1), and never from the columns of an image: they are right for every position of the
//! patient and every orientation of the slices. An image without coordinates has no sides.

use domain::{Laterality, VolumeGeometry};

use crate::Mask;

/// Width of the sheets in which tissue is counted, in mm.
const SHEET_MM: f64 = 1.0;

/// Width of the border of the field of view, in sheets.
const BORDER: usize = 3;

/// A body is cut off where the border has more than this share of the tissue of an average sheet.
const CUT_SHARE: f64 = 0.5;

/// Voxels are of one side if more than this share of them lies there.
const SIDE_SHARE: f64 = 0.75;

/// The sagittal plane in the middle of the patient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Midplane {
    /// Its x coordinate in the patient, in mm.
    x: f64,
}

impl Midplane {
    /// The plane with as much tissue to the left as to the right. If there is hardly any tissue beside
    /// the structures themselves, the middle of the field of view.
    ///
    /// Nothing if the grid has no coordinates, or if the body is cut off at one side only: then its
    /// middle is not known.
    pub fn of(geometry: &VolumeGeometry, tissue: &Mask, structures: &Mask) -> Option<Self> {
        let axis = LateralAxis::of(geometry)?;
        let around = tissue.voxels.iter().zip(&structures.voxels);
        let around = around.filter(|(is_tissue, is_structure)| **is_tissue && !**is_structure);
        if (around.count() as u64) < structures.count() {
            return Some(Self { x: f64::midpoint(axis.low, axis.high) });
        }
        let mut sheets = vec![0_u64; axis.sheet(axis.high) + 1];
        for (voxel, _) in tissue.voxels.iter().enumerate().filter(|(_, is_tissue)| **is_tissue) {
            if let Some(sheet) = sheets.get_mut(axis.sheet(axis.x(voxel))) {
                *sheet += 1;
            }
        }
        let total: u64 = sheets.iter().sum();
        let average = total as f64 / sheets.len() as f64;
        let is_cut = |border: u64| border as f64 > CUT_SHARE * average * BORDER as f64;
        let right: u64 = sheets.iter().take(BORDER).sum();
        let left: u64 = sheets.iter().rev().take(BORDER).sum();
        if is_cut(right) != is_cut(left) {
            return None;
        }
        let mut passed = 0;
        let middle = sheets.iter().position(|it| {
            passed += it;
            passed * 2 >= total
        })?;
        Some(Self { x: axis.low + (middle as f64 + 0.5) * SHEET_MM })
    }

    /// The side of some voxels: both, if a good part of them lies on either. Nothing for no voxels.
    pub fn side(self, geometry: &VolumeGeometry, voxels: &[usize]) -> Option<Laterality> {
        let axis = LateralAxis::of(geometry)?;
        if voxels.is_empty() {
            return None;
        }
        let left = voxels.iter().filter(|it| axis.x(**it) > self.x).count();
        let share = left as f64 / voxels.len() as f64;
        Some(if share > SIDE_SHARE {
            Laterality::Left
        } else if share < 1.0 - SIDE_SHARE {
            Laterality::Right
        } else {
            Laterality::Bilateral
        })
    }
}

/// The x coordinates of the voxels of a grid.
struct LateralAxis<'a> {
    positions: &'a [[f64; 3]],
    rows: usize,
    columns: usize,
    /// Change of x from one row to the next.
    row_step: f64,
    /// Change of x from one column to the next.
    column_step: f64,
    low: f64,
    high: f64,
}

impl<'a> LateralAxis<'a> {
    fn of(geometry: &'a VolumeGeometry) -> Option<Self> {
        let space = geometry.space.as_ref()?;
        let [row_spacing, column_spacing] = geometry.pixel_spacing?;
        // The first three direction cosines are of the rows: they say where the next column lies.
        let [along_row, _, _, along_column, _, _] = space.orientation;
        let mut axis = Self {
            positions: &space.positions,
            rows: geometry.rows as usize,
            columns: geometry.columns as usize,
            row_step: along_column * row_spacing,
            column_step: along_row * column_spacing,
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
        };
        let last_row = axis.row_step * f64::from(geometry.rows.saturating_sub(1));
        let last_column = axis.column_step * f64::from(geometry.columns.saturating_sub(1));
        for [x, _, _] in &space.positions {
            for corner in [0.0, last_row, last_column, last_row + last_column] {
                axis.low = axis.low.min(x + corner);
                axis.high = axis.high.max(x + corner);
            }
        }
        (axis.low.is_finite() && axis.high.is_finite()).then_some(axis)
    }

    fn x(&self, voxel: usize) -> f64 {
        let columns = self.columns.max(1);
        let pixels = (self.rows * columns).max(1);
        let first = self.positions.get(voxel / pixels).map_or(f64::NAN, |[x, _, _]| *x);
        let row = voxel % pixels / columns;
        let column = voxel % columns;
        first + row as f64 * self.row_step + column as f64 * self.column_step
    }

    /// The number of the sheet of an x coordinate, from the right of the patient.
    fn sheet(&self, x: f64) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a distance within the field of view; what is not a number is the first sheet"
        )]
        let sheet = ((x - self.low) / SHEET_MM).max(0.0) as usize;
        sheet
    }
}

#[cfg(test)]
mod tests {
    use domain::PatientSpace;

    use super::*;

    /// Size of a voxel, in mm.
    const VOXEL: f64 = 4.0;

    /// Voxels of a stack in each direction.
    const SIZE: u32 = 64;

    /// A stack whose rows, columns and slices run in these directions, about the middle of a patient
    /// who lies 20 mm to the side of the table's middle.
    fn stack(orientation: [f64; 6]) -> VolumeGeometry {
        let [a, b, c, d, e, f] = orientation;
        let normal = [b * f - c * e, c * d - a * f, a * e - b * d];
        let half = f64::from(SIZE - 1) / 2.0 * VOXEL;
        let position = |slice: u32| {
            let height = f64::from(slice) * VOXEL - half;
            [0, 1, 2].map(|axis| {
                let corner = -half * (orientation[axis] + orientation[axis + 3]);
                corner + height * normal[axis] + if axis == 0 { 20.0 } else { 0.0 }
            })
        };
        VolumeGeometry {
            rows: SIZE,
            columns: SIZE,
            pixel_spacing: Some([VOXEL, VOXEL]),
            space: Some(PatientSpace {
                frame_of_reference: "1.9".to_owned(),
                orientation,
                slice_spacing: VOXEL,
                slice_thickness: VOXEL,
                positions: (0..SIZE).map(position).collect(),
            }),
            instances: (1..=SIZE).map(|it| format!("1.2.{it}").parse().unwrap()).collect(),
            sop_class: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            lossy: false,
        }
    }

    /// The voxels within `radius` of a point of the patient.
    fn ball(geometry: &VolumeGeometry, center: [f64; 3], radius: f64) -> Mask {
        let space = geometry.space.as_ref().unwrap();
        let size = SIZE as usize;
        let is_in = |voxel: usize| {
            let first = space.positions[voxel / (size * size)];
            let row = (voxel / size % size) as f64 * VOXEL;
            let column = (voxel % size) as f64 * VOXEL;
            let square = |axis: usize| {
                let along_row = space.orientation[axis] * column;
                let along_column = space.orientation[axis + 3] * row;
                (first[axis] + along_row + along_column - center[axis]).powi(2)
            };
            square(0) + square(1) + square(2) <= radius * radius
        };
        Mask { shape: [size; 3], voxels: (0..size * size * size).map(is_in).collect() }
    }

    fn voxels(mask: &Mask) -> Vec<usize> {
        (0..mask.voxels.len()).filter(|it| mask.voxels[*it]).collect()
    }

    /// Orientations of head first and feet first, supine, prone and decubitus, of sagittal and coronal
    /// slices, and of slices that are tilted about all axes.
    fn orientations() -> Vec<[f64; 6]> {
        let mut all = vec![
            [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0],
            [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            [1.0, 0.0, 0.0, 0.0, -1.0, 0.0],
            [0.0, 1.0, 0.0, -1.0, 0.0, 0.0],
            [0.0, -1.0, 0.0, 1.0, 0.0, 0.0],
            [0.0, 1.0, 0.0, 0.0, 0.0, -1.0],
            [0.0, -1.0, 0.0, 0.0, 0.0, -1.0],
            [1.0, 0.0, 0.0, 0.0, 0.0, -1.0],
            [-1.0, 0.0, 0.0, 0.0, 0.0, -1.0],
        ];
        let tilted: Vec<[f64; 6]> = all
            .iter()
            .map(|it| {
                let row = turned([it[0], it[1], it[2]]);
                let column = turned([it[3], it[4], it[5]]);
                [row[0], row[1], row[2], column[0], column[1], column[2]]
            })
            .collect();
        all.extend(tilted);
        all
    }

    /// Turns a direction by 25 degrees about z, then by 20 about x.
    fn turned([x, y, z]: [f64; 3]) -> [f64; 3] {
        let about_z = 25.0_f64.to_radians();
        let about_x = 20.0_f64.to_radians();
        let across = x * about_z.sin() + y * about_z.cos();
        [
            x * about_z.cos() - y * about_z.sin(),
            across * about_x.cos() - z * about_x.sin(),
            across * about_x.sin() + z * about_x.cos(),
        ]
    }

    #[test]
    fn pap_14_left_is_the_left_of_the_patient_in_every_orientation() {
        for orientation in orientations() {
            let geometry = stack(orientation);
            let body = ball(&geometry, [20.0, 0.0, 0.0], 100.0);
            let left = ball(&geometry, [60.0, 30.0, 10.0], 18.0);
            let right = ball(&geometry, [-15.0, 30.0, 10.0], 18.0);
            let both = ball(&geometry, [20.0, 30.0, 10.0], 18.0);
            let midplane = Midplane::of(&geometry, &body, &left).unwrap();
            let side = |mask: &Mask| midplane.side(&geometry, &voxels(mask));
            assert_eq!(side(&left), Some(Laterality::Left), "{orientation:?}");
            assert_eq!(side(&right), Some(Laterality::Right), "{orientation:?}");
            assert_eq!(side(&both), Some(Laterality::Bilateral), "{orientation:?}");
        }
    }

    #[test]
    fn pap_14_without_tissue_around_the_middle_is_that_of_the_field_of_view() {
        let geometry = stack([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let only = ball(&geometry, [60.0, 0.0, 0.0], 18.0);
        let midplane = Midplane::of(&geometry, &only, &only).unwrap();
        assert_eq!(midplane.side(&geometry, &voxels(&only)), Some(Laterality::Left));
    }

    #[test]
    fn pap_14_a_body_that_is_cut_off_at_one_side_has_no_known_middle() {
        let geometry = stack([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let none = Mask { shape: [SIZE as usize; 3], voxels: vec![false; 64 * 64 * 64] };
        let cut = ball(&geometry, [120.0, 0.0, 0.0], 100.0);
        assert_eq!(Midplane::of(&geometry, &cut, &none), None);
        let all = Mask { voxels: vec![true; 64 * 64 * 64], ..none.clone() };
        assert!(Midplane::of(&geometry, &all, &none).is_some());
    }

    #[test]
    fn pap_14_an_image_without_coordinates_has_no_sides() {
        let mut geometry = stack([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        geometry.space = None;
        let none = Mask { shape: [SIZE as usize; 3], voxels: vec![false; 64 * 64 * 64] };
        assert_eq!(Midplane::of(&geometry, &none, &none), None);
    }
}
