//! Stacks slices into a volume, or names every problem that makes them none (DIN-81, PAP-21).
//!
//! A volume in mL is computed from its spacing, so an irregular stack is an error and never a
//! guess.

use domain::{PatientSpace, VolumeGeometry};

use crate::slice::Slice;

/// Upper bound of the voxels of a volume: a whole body at 0.5 mm.
const VOXELS_MAX: usize = 4 << 30;

/// Tolerance of the distances between slices, as a share of their median. The larger one of this
/// and [`SPACING_TOLERANCE_MM`] applies.
const SPACING_TOLERANCE: f64 = 0.01;

/// Tolerance of the distances between slices, in mm.
const SPACING_TOLERANCE_MM: f64 = 0.1;

/// Two slices that are less than this far apart, in mm, have the same position.
const DUPLICATE_DISTANCE_MM: f64 = 1e-3;

/// Tolerance of the orientation of slices, in each direction cosine.
const ORIENTATION_TOLERANCE: f64 = 1e-3;

/// Upper bound of the lateral shift of a stack without tilt, in mm per mm of height.
const SHEAR_TOLERANCE: f64 = 0.01;

/// A stated gantry tilt of less than this many degrees counts as none.
const TILT_DEGREES_MIN: f64 = 0.5;

/// A regular stack of slices.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Position of the voxels in the patient.
    pub geometry: VolumeGeometry,
    /// Values after the rescale of the modality, in Hounsfield units for CT: slice by slice, row by
    /// row. A voxel of padding is not a number (NaN).
    pub values: Vec<f32>,
}

/// Why slices are no volume: all problems, not only the first.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", joined(problems))]
pub struct GeometryError {
    /// The problems, in the order in which they were found. Never empty.
    pub problems: Vec<VolumeProblem>,
}

fn joined(problems: &[VolumeProblem]) -> String {
    let sentences: Vec<String> = problems.iter().map(ToString::to_string).collect();
    sentences.join("; ")
}

/// A property of slices because of which they are no regular stack, with its numbers.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VolumeProblem {
    /// The series is empty.
    #[error("there are no slices")]
    NoSlices,
    /// Some slices differ from the first one in a property that a stack has only once.
    #[error("{count} of {total} slices have another {property}")]
    Mixed {
        /// The property.
        property: SliceProperty,
        /// Number of slices that differ.
        count: usize,
        /// Number of slices.
        total: usize,
    },
    /// Frame of Reference UID (0020,0052) is missing.
    #[error("the slices name no frame of reference")]
    NoFrameOfReference,
    /// The slices shift sideways as they go up: the gantry was tilted.
    #[error(
        "the stack is sheared by gantry tilt: {measured:.1} degrees measured, {stated:.1} stated"
    )]
    Sheared {
        /// Angle between the stack and the normal of its slices, in degrees.
        measured: f64,
        /// The largest Gantry/Detector Tilt (0018,1120), in degrees.
        stated: f64,
    },
    /// Gantry/Detector Tilt (0018,1120) is not zero.
    #[error("the gantry was tilted by {stated:.1} degrees")]
    TiltStated {
        /// The largest tilt, in degrees.
        stated: f64,
    },
    /// A single slice has neither a neighbour nor a thickness.
    #[error("a single slice without a thickness has no volume")]
    NoThickness,
    /// Several slices have the same position.
    #[error("{count} slices lie where another one lies")]
    DuplicatePosition {
        /// Number of slices at the position of their predecessor.
        count: usize,
    },
    /// The distances between slices differ: slices are missing, or were made with several spacings.
    #[error("the spacing between slices is unequal: {min:.3} to {max:.3} mm")]
    UnequalSpacing {
        /// The smallest distance, in mm.
        min: f64,
        /// The largest distance, in mm.
        max: f64,
    },
    /// The volume is beyond the limit of memory (SEC-24).
    #[error("{voxels} voxels are more than can be worked on")]
    TooLarge {
        /// Number of voxels.
        voxels: usize,
    },
}

/// A property that all slices of a stack have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceProperty {
    /// Rows (0028,0010) and Columns (0028,0011).
    Size,
    /// Image Orientation (Patient) (0020,0037).
    Orientation,
    /// Pixel Spacing (0028,0030).
    PixelSpacing,
    /// Frame of Reference UID (0020,0052).
    FrameOfReference,
}

impl std::fmt::Display for SliceProperty {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Size => "number of rows or columns",
            Self::Orientation => "orientation",
            Self::PixelSpacing => "pixel spacing",
            Self::FrameOfReference => "frame of reference",
        })
    }
}

/// Stacks slices along their normal, whatever their order.
///
/// # Errors
///
/// All [`VolumeProblem`]s of the slices. No volume in mL may be computed from such slices.
pub fn stack(mut slices: Vec<Slice>) -> Result<Volume, GeometryError> {
    let mut problems = Vec::new();
    let Some(first) = slices.first().cloned() else {
        return Err(GeometryError { problems: vec![VolumeProblem::NoSlices] });
    };
    let normal = normal(&first.orientation);
    slices.sort_by(|a, b| height(a, &normal).total_cmp(&height(b, &normal)));
    check_mixed(&first, &slices, &mut problems);
    if first.frame_of_reference.is_empty() {
        problems.push(VolumeProblem::NoFrameOfReference);
    }
    check_tilt(&slices, &normal, &mut problems);
    let gaps: Vec<f64> = slices
        .iter()
        .zip(slices.iter().skip(1))
        .map(|(lower, upper)| height(upper, &normal) - height(lower, &normal))
        .collect();
    let spacing = check_spacing(&gaps, &first, &mut problems);
    let voxels = slices.len() * first.rows as usize * first.columns as usize;
    if voxels > VOXELS_MAX {
        problems.push(VolumeProblem::TooLarge { voxels });
    }
    if !problems.is_empty() {
        return Err(GeometryError { problems });
    }
    let geometry = VolumeGeometry {
        rows: first.rows,
        columns: first.columns,
        pixel_spacing: Some(first.spacing),
        space: Some(PatientSpace {
            frame_of_reference: first.frame_of_reference.clone(),
            orientation: first.orientation,
            slice_spacing: spacing,
            slice_thickness: if first.thickness > 0.0 { first.thickness } else { spacing },
            positions: slices.iter().map(|it| it.position).collect(),
        }),
        instances: slices.iter().map(|it| it.instance.clone()).collect(),
        sop_class: first.sop_class.clone(),
        lossy: slices.iter().any(|it| it.is_lossy),
    };
    let values = slices.into_iter().flat_map(|it| it.values).collect();
    Ok(Volume { geometry, values })
}

/// Height of a slice along the normal of the stack, in mm.
fn height(slice: &Slice, normal: &[f64; 3]) -> f64 {
    dot(&slice.position, normal)
}

fn check_mixed(first: &Slice, slices: &[Slice], problems: &mut Vec<VolumeProblem>) {
    let properties = [
        SliceProperty::Size,
        SliceProperty::Orientation,
        SliceProperty::PixelSpacing,
        SliceProperty::FrameOfReference,
    ];
    let total = slices.len();
    for property in properties {
        let count = slices.iter().filter(|it| differs(property, it, first)).count();
        if count > 0 {
            problems.push(VolumeProblem::Mixed { property, count, total });
        }
    }
}

/// Whether two slices differ in a property by more than its tolerance.
fn differs(property: SliceProperty, a: &Slice, b: &Slice) -> bool {
    match property {
        SliceProperty::Size => (a.rows, a.columns) != (b.rows, b.columns),
        SliceProperty::Orientation => {
            is_beyond(&a.orientation, &b.orientation, ORIENTATION_TOLERANCE)
        }
        SliceProperty::PixelSpacing => {
            let [rows, columns] = b.spacing;
            is_beyond(&a.spacing, &b.spacing, SPACING_TOLERANCE * rows.min(columns))
        }
        SliceProperty::FrameOfReference => a.frame_of_reference != b.frame_of_reference,
    }
}

/// Whether any two numbers at the same place differ by more than `tolerance`.
fn is_beyond(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.iter().zip(b).any(|(a, b)| (a - b).abs() > tolerance)
}

/// Gantry tilt shows as slices that shift sideways as they go up, and is often stated too.
fn check_tilt(slices: &[Slice], normal: &[f64; 3], problems: &mut Vec<VolumeProblem>) {
    let (Some(first), Some(last)) = (slices.first(), slices.last()) else { return };
    let shift: [f64; 3] = std::array::from_fn(|i| {
        last.position.get(i).copied().unwrap_or_default()
            - first.position.get(i).copied().unwrap_or_default()
    });
    let up = dot(&shift, normal);
    let sideways = (dot(&shift, &shift) - up * up).max(0.0).sqrt();
    let stated = slices.iter().map(|it| it.tilt.abs()).fold(0.0, f64::max);
    if up > 0.0 && sideways > SHEAR_TOLERANCE * up {
        let measured = sideways.atan2(up).to_degrees();
        problems.push(VolumeProblem::Sheared { measured, stated });
    } else if stated >= TILT_DEGREES_MIN {
        problems.push(VolumeProblem::TiltStated { stated });
    }
}

/// The distance between slices in mm: their mean, or the thickness of a single slice.
fn check_spacing(gaps: &[f64], first: &Slice, problems: &mut Vec<VolumeProblem>) -> f64 {
    let mut sorted = gaps.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(min), Some(median), Some(max)) =
        (sorted.first(), sorted.get(sorted.len() / 2), sorted.last())
    else {
        if first.thickness <= 0.0 {
            problems.push(VolumeProblem::NoThickness);
        }
        return first.thickness;
    };
    let tolerance = (SPACING_TOLERANCE * median).max(SPACING_TOLERANCE_MM);
    let count = gaps.iter().filter(|it| **it < DUPLICATE_DISTANCE_MM).count();
    if count > 0 {
        problems.push(VolumeProblem::DuplicatePosition { count });
    }
    if median - min > tolerance || max - median > tolerance {
        problems.push(VolumeProblem::UnequalSpacing { min: *min, max: *max });
    }
    // The mean and not the median: the distances must add up to the height of the stack.
    gaps.iter().sum::<f64>() / gaps.len() as f64
}

fn normal([a, b, c, d, e, f]: &[f64; 6]) -> [f64; 3] {
    [b * f - c * e, c * d - a * f, a * e - b * d]
}

fn dot(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(z: u8) -> Slice {
        Slice {
            instance: format!("1.2.{z}").parse().unwrap(),
            sop_class: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            rows: 2,
            columns: 3,
            orientation: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            position: [0.0, 0.0, f64::from(z)],
            spacing: [0.5, 0.5],
            thickness: 2.0,
            frame_of_reference: "1.9".to_owned(),
            tilt: 0.0,
            is_lossy: false,
            values: vec![f32::from(z); 6],
        }
    }

    fn stacked(change: impl Fn(usize, &mut Slice)) -> Result<Volume, GeometryError> {
        let mut slices: Vec<Slice> = [4, 0, 2, 6].map(slice).into();
        slices.iter_mut().enumerate().for_each(|(index, it)| change(index, it));
        stack(slices)
    }

    #[track_caller]
    fn check_problem(change: impl Fn(usize, &mut Slice), expected: &str) {
        let error = stacked(change).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn pap_21_slices_are_sorted_by_position_not_by_arrival() {
        let volume = stacked(|_, _| {}).unwrap();
        let space = volume.geometry.space.unwrap();
        let heights: Vec<f64> = space.positions.iter().map(|it| it[2]).collect();
        assert_eq!(heights, [0.0, 2.0, 4.0, 6.0]);
        assert!((volume.values[6] - 2.0).abs() < 1e-6);
        assert!((space.slice_spacing - 2.0).abs() < 1e-9);
    }

    #[test]
    fn din_81_whatever_makes_a_stack_irregular_is_named() {
        check_problem(
            |i, it| it.position[2] += if i == 3 { 1.0 } else { 0.0 },
            "unequal: 2.000 to 3.000 mm",
        );
        check_problem(|_, it| it.position[1] = it.position[2] * 0.2, "tilt: 11.3 degrees measured");
        check_problem(|_, it| it.tilt = 12.5, "tilted by 12.5 degrees");
        check_problem(
            |i, it| it.position[2] = if i == 0 { 0.0 } else { it.position[2] },
            "where another one lies",
        );
        check_problem(|i, it| it.rows += u32::from(i == 1), "another number of rows");
        check_problem(
            |i, it| it.orientation[1] = if i == 1 { 0.1 } else { 0.0 },
            "another orientation",
        );
        check_problem(|i, it| it.frame_of_reference = i.to_string(), "another frame of reference");
    }

    #[test]
    fn din_81_small_differences_are_tolerated() {
        assert!(stacked(|i, it| it.position[2] += if i == 3 { 0.05 } else { 0.0 }).is_ok());
    }
}
