//! Measures masks (PAP-14): in mm only where the geometry states the size of a pixel (DIN-82), in
//! pixels elsewhere.

use domain::{Code, Measurement, VolumeGeometry};

use crate::Mask;
use crate::diameters::{Axes, axes};

/// Measures a mask: the volume of a stack or the area of an image, then long and short axis in the
/// plane of its slices. An empty mask has no measurements.
pub fn measure(mask: &Mask, geometry: &VolumeGeometry) -> Vec<Measurement> {
    if mask.count() == 0 {
        return Vec::new();
    }
    let volume = mask.millilitres(geometry).map(volume_measurement);
    let [row, column] = geometry.pixel_spacing.unwrap_or([1.0, 1.0]);
    let Axes { long, short } = axes(mask, [row, column]);
    let pixels = Code::new("{pixels}", "UCUM", "pixels");
    let (length, square) = match geometry.pixel_spacing {
        Some(_) => {
            (Code::new("mm", "UCUM", "millimeter"), Code::new("mm2", "UCUM", "square millimeter"))
        }
        None => (pixels.clone(), pixels),
    };
    let axis = |code: &str, meaning: &str, value: f64| Measurement {
        code: Code::new(code, "SCT", meaning),
        value,
        unit: length.clone(),
    };
    let long_axis = axis("103339001", "Long Axis", long);
    let short_axis = axis("103340004", "Short Axis", short);
    let area = volume.is_none().then(|| Measurement {
        code: Code::new("42798000", "SCT", "Area"),
        value: mask.count() as f64 * row * column,
        unit: square,
    });
    volume.into_iter().chain(area).chain([long_axis, short_axis]).collect()
}

fn volume_measurement(millilitres: f64) -> Measurement {
    Measurement {
        code: Code::new("118565006", "SCT", "Volume"),
        value: millilitres,
        unit: Code::new("mL", "UCUM", "milliliter"),
    }
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
            let x = at % 120 - 60;
            let y = at / 120 - 50;
            x * x + y * y <= 40 * 40
        });
        (Mask { shape: [1, 100, 120], voxels: voxels.collect() }, geometry)
    }

    #[test]
    fn pap_14_without_a_spacing_everything_is_in_pixels() {
        let (mask, geometry) = disc(None, None);
        let found = measure(&mask, &geometry);
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
        let found = measure(&mask, &geometry);
        assert!((found[0].value - 2.5125).abs() < 1e-9 && found[0].unit.value == "mL");
        assert!((found[1].value - 40.0).abs() <= 0.5 && found[1].unit.value == "mm");
    }

    #[test]
    fn pap_14_an_image_of_known_spacing_has_an_area_in_square_millimetres() {
        let (mask, geometry) = disc(Some([0.5, 0.5]), None);
        let area = &measure(&mask, &geometry)[0];
        assert!((area.value - 1256.25).abs() < 1e-9 && area.unit.value == "mm2");
    }

    #[test]
    fn a_single_pixel_is_one_pixel_long() {
        let (mut mask, geometry) = disc(None, None);
        mask.voxels = vec![false; 12_000];
        mask.voxels[777] = true;
        assert!((measure(&mask, &geometry)[1].value - 1.0).abs() < 1e-9);
    }
}
