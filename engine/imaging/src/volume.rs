//! Slices stacked into a volume, or the reason why they are none (DIN-81, PAP-21). Pure.

use domain::{PatientSpace, VolumeGeometry};

use crate::slice::Slice;

/// Most voxels of a volume: a whole body at 0.5 mm.
const VOXELS_MAX: usize = 4 << 30;

/// Distances between slices may differ by this share of their middle …
const SPACING_TOLERANCE: f64 = 0.01;

/// … or by this much, in mm, whichever is more.
const SPACING_TOLERANCE_MM: f64 = 0.1;

/// Directions of slices may differ by this much in each cosine.
const ORIENTATION_TOLERANCE: f64 = 1e-3;

/// Slices of a stack without tilt stay this close to one line, in mm per mm of height.
const SHEAR_TOLERANCE: f64 = 0.01;

/// A stated tilt of less than this many degrees is none.
const TILT_DEGREES_MIN: f64 = 0.5;

/// A regular stack of slices.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Where its voxels lie.
    pub geometry: VolumeGeometry,
    /// Values in Hounsfield units: slice by slice, row by row.
    pub values: Vec<f32>,
}

/// Why slices are no volume. All that is wrong is named, not only the first.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", problems.join("; "))]
pub struct GeometryError {
    /// What is wrong, each with its numbers.
    pub problems: Vec<String>,
}

/// Stacks slices along their normal, whatever their order.
///
/// # Errors
///
/// Names tilt, gaps, unequal distances, doubled positions and mixed sizes, directions or frames of
/// reference. No volume in mL may be told from such slices.
pub fn stack(mut slices: Vec<Slice>) -> Result<Volume, GeometryError> {
    let mut problems = Vec::new();
    let Some(first) = slices.first().cloned() else {
        return Err(GeometryError { problems: vec!["there are no slices".to_owned()] });
    };
    let normal = normal(&first.orientation);
    let height = |it: &Slice| dot(&it.position, &normal);
    slices.sort_by(|a, b| height(a).total_cmp(&height(b)));
    check_alike(&first, &slices, &mut problems);
    if first.frame_of_reference.is_empty() {
        problems.push("the slices name no frame of reference".to_owned());
    }
    check_tilt(&slices, &normal, &mut problems);
    let gaps: Vec<f64> = slices
        .iter()
        .zip(slices.iter().skip(1))
        .map(|(lower, upper)| height(upper) - height(lower))
        .collect();
    let spacing = check_spacing(&gaps, &first, &mut problems);
    let voxels = slices.len() * first.rows as usize * first.columns as usize;
    if voxels > VOXELS_MAX {
        problems.push(format!("{voxels} voxels are more than can be worked on"));
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

fn check_alike(first: &Slice, slices: &[Slice], problems: &mut Vec<String>) {
    let differ = |a: &[f64], b: &[f64], by: f64| a.iter().zip(b).any(|(a, b)| (a - b).abs() > by);
    let mut check = |what: &str, is_other: &dyn Fn(&Slice) -> bool| {
        let count = slices.iter().filter(|it| is_other(it)).count();
        if count > 0 {
            problems.push(format!("{count} of {} slices have another {what}", slices.len()));
        }
    };
    check("number of rows or columns", &|it| (it.rows, it.columns) != (first.rows, first.columns));
    check("orientation", &|it| differ(&it.orientation, &first.orientation, ORIENTATION_TOLERANCE));
    check("pixel spacing", &|it| {
        let [a, b] = first.spacing;
        differ(&it.spacing, &first.spacing, SPACING_TOLERANCE * a.min(b))
    });
    check("frame of reference", &|it| it.frame_of_reference != first.frame_of_reference);
}

/// Tilt shows as slices that shift sideways as they go up, and is often stated too.
fn check_tilt(slices: &[Slice], normal: &[f64; 3], problems: &mut Vec<String>) {
    let (Some(first), Some(last)) = (slices.first(), slices.last()) else { return };
    let way: [f64; 3] = std::array::from_fn(|i| {
        last.position.get(i).copied().unwrap_or_default()
            - first.position.get(i).copied().unwrap_or_default()
    });
    let up = dot(&way, normal);
    let sideways = (dot(&way, &way) - up * up).max(0.0).sqrt();
    let stated = slices.iter().map(|it| it.tilt.abs()).fold(0.0, f64::max);
    if up > 0.0 && sideways > SHEAR_TOLERANCE * up {
        let degrees = sideways.atan2(up).to_degrees();
        problems.push(format!(
            "the stack is sheared by gantry tilt: {degrees:.1} degrees measured, {stated:.1} stated"
        ));
    } else if stated >= TILT_DEGREES_MIN {
        problems.push(format!("the gantry was tilted by {stated:.1} degrees"));
    }
}

/// The distance between slices, if it is one.
fn check_spacing(gaps: &[f64], first: &Slice, problems: &mut Vec<String>) -> f64 {
    let mut sorted = gaps.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(middle) = sorted.get(sorted.len() / 2).copied() else {
        if first.thickness <= 0.0 {
            problems.push("a single slice without a thickness has no volume".to_owned());
        }
        return first.thickness;
    };
    let tolerance = (SPACING_TOLERANCE * middle).max(SPACING_TOLERANCE_MM);
    let doubled = gaps.iter().filter(|it| **it < 1e-3).count();
    if doubled > 0 {
        problems.push(format!("{doubled} slices lie where another one lies"));
    }
    let (least, most) = (sorted.first().copied(), sorted.last().copied());
    if let (Some(least), Some(most)) = (least, most)
        && (middle - least > tolerance || most - middle > tolerance)
    {
        problems.push(format!("the spacing between slices is unequal: {least:.3} to {most:.3} mm"));
    }
    // The mean, not the middle: their sum is the height of the stack.
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
