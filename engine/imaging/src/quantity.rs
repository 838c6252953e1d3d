//! How large an outlined thing is (PAP-14): in mm only where the geometry says what a pixel is (DIN-82).

use domain::{Code, Measurement, VolumeGeometry};

use crate::Mask;

/// What is measured on a mask: volume and longest diameter of a stack, area and longest diameter of
/// an image. Nothing is measured where nothing is outlined.
pub fn measured(mask: &Mask, geometry: &VolumeGeometry) -> Vec<Measurement> {
    if mask.count() == 0 {
        return Vec::new();
    }
    let volume = mask.millilitres(geometry).map(volume_of);
    let [row, column] = geometry.pixel_spacing.unwrap_or([1.0, 1.0]);
    let diameter = longest(mask, [row, column]);
    let pixels = Code::new("{pixels}", "UCUM", "pixels");
    let (length, square) = match geometry.pixel_spacing {
        Some(_) => {
            (Code::new("mm", "UCUM", "millimeter"), Code::new("mm2", "UCUM", "square millimeter"))
        }
        None => (pixels.clone(), pixels),
    };
    let long_axis = Measurement {
        code: Code::new("103339001", "SCT", "Long Axis"),
        value: diameter,
        unit: length,
    };
    let area = volume.is_none().then(|| Measurement {
        code: Code::new("42798000", "SCT", "Area"),
        value: mask.count() as f64 * row * column,
        unit: square,
    });
    volume.into_iter().chain(area).chain([long_axis]).collect()
}

fn volume_of(millilitres: f64) -> Measurement {
    Measurement {
        code: Code::new("118565006", "SCT", "Volume"),
        value: millilitres,
        unit: Code::new("mL", "UCUM", "milliliter"),
    }
}

/// Greatest distance between two points of the outline within one slice (Feret), where rows and
/// columns are so far apart. The outline runs half a pixel beyond the centres.
fn longest(mask: &Mask, [row, column]: [f64; 2]) -> f64 {
    let [_, rows, columns] = mask.shape;
    let slices = mask.voxels.chunks((rows * columns).max(1));
    slices.map(|it| diameter(it, columns, [row, column])).fold(0.0, f64::max)
}

fn diameter(pixels: &[bool], columns: usize, [row, column]: [f64; 2]) -> f64 {
    let mut points = Vec::new();
    for (index, line) in pixels.chunks(columns.max(1)).enumerate() {
        // Only the ends of a row can be on the hull.
        let (Some(first), Some(last)) =
            (line.iter().position(|it| *it), line.iter().rposition(|it| *it))
        else {
            continue;
        };
        let y = index as f64;
        for x in [first as f64, last as f64] {
            let around = [(x - 0.5, y), (x + 0.5, y), (x, y - 0.5), (x, y + 0.5)];
            points.extend(around.map(|(x, y)| (x * column, y * row)));
        }
    }
    let hull = hull(points);
    let mut most = 0.0_f64;
    for (at, a) in hull.iter().enumerate() {
        for b in hull.iter().skip(at + 1) {
            most = most.max((a.0 - b.0).hypot(a.1 - b.1));
        }
    }
    most
}

/// The convex hull of points (Andrew's monotone chain).
fn hull(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    points.dedup();
    let half = |points: &mut dyn Iterator<Item = (f64, f64)>| {
        let mut chain: Vec<(f64, f64)> = Vec::new();
        for point in points {
            while let [.., a, b] = chain.as_slice() {
                let turn = (b.0 - a.0) * (point.1 - a.1) - (b.1 - a.1) * (point.0 - a.0);
                if turn > 0.0 {
                    break;
                }
                chain.pop();
            }
            chain.push(point);
        }
        chain
    };
    let mut all = half(&mut points.iter().copied());
    all.extend(half(&mut points.iter().rev().copied()));
    all
}

#[cfg(test)]
mod tests {
    use domain::PatientSpace;

    use super::*;

    fn disc(
        pixel_spacing: Option<[f64; 2]>,
        space: Option<PatientSpace>,
    ) -> (Mask, VolumeGeometry) {
        let geometry = VolumeGeometry {
            rows: 100,
            columns: 120,
            pixel_spacing,
            space,
            instances: vec!["1.2".parse().unwrap()],
            sop_class: "1.2.840.10008.5.1.4.1.1.1".parse().unwrap(),
            lossy: false,
        };
        let voxels = (0..100 * 120).map(|at| {
            let (x, y) = (at % 120 - 60, at / 120 - 50);
            x * x + y * y <= 40 * 40
        });
        (Mask { shape: [1, 100, 120], voxels: voxels.collect() }, geometry)
    }

    #[test]
    fn pap_14_without_a_spacing_everything_is_in_pixels() {
        let (mask, geometry) = disc(None, None);
        let found = measured(&mask, &geometry);
        let named = |at: usize| (found[at].code.meaning.as_str(), found[at].unit.value.as_str());
        assert_eq!((named(0), found[0].value.round()), (("Area", "{pixels}"), 5025.0));
        assert_eq!(named(1), ("Long Axis", "{pixels}"));
        assert!((found[1].value - 80.0).abs() <= 1.0, "{}", found[1].value);
    }

    #[test]
    fn pap_14_with_a_spacing_it_is_in_millimetres() {
        let space = PatientSpace {
            frame_of_reference: "1.9".to_owned(),
            orientation: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            slice_spacing: 2.0,
            slice_thickness: 2.0,
            positions: vec![[0.0; 3]],
        };
        let (mask, geometry) = disc(Some([0.5, 0.5]), Some(space));
        let found = measured(&mask, &geometry);
        assert!((found[0].value - 2.5125).abs() < 1e-9 && found[0].unit.value == "mL");
        assert!((found[1].value - 40.0).abs() <= 0.5 && found[1].unit.value == "mm");
    }

    #[test]
    fn pap_14_an_image_of_known_spacing_has_an_area_in_square_millimetres() {
        let (mask, geometry) = disc(Some([0.5, 0.5]), None);
        let area = &measured(&mask, &geometry)[0];
        assert!((area.value - 1256.25).abs() < 1e-9 && area.unit.value == "mm2");
    }

    #[test]
    fn a_single_pixel_is_one_pixel_long() {
        let (mut mask, geometry) = disc(None, None);
        mask.voxels = vec![false; 12_000];
        mask.voxels[777] = true;
        assert!((measured(&mask, &geometry)[1].value - 1.0).abs() < 1e-9);
    }
}
