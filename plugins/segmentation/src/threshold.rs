//! Outlines targets by Hounsfield units alone. The table in the crate documentation defines each
//! target.

use std::collections::BTreeMap;

use domain::Algorithm;
use imaging::Mask;
use imaging::components::{Component, Connectivity, components, fill_holes, mask_of, retain_large};
use imaging::mask::voxel_millilitres;
use plugin_api::VolumeRef;

use crate::known_target::HounsfieldTarget;
use crate::target::Target;

/// Lower bound of a connected part of bone, in voxels.
const BONE_VOXELS_MIN: usize = 64;

/// Lower bound of a connected part of lung, in mL.
const LUNG_MILLILITRES_MIN: f64 = 1.0;

/// The voxels of a target. Padding is in no target, though a target may be all around it.
pub(crate) fn mask(target: HounsfieldTarget, volume: &VolumeRef<'_>) -> Mask {
    let [low, high] = target.range();
    let all = Mask::of(&volume.geometry, volume.values, |hu| low <= hu && hu <= high);
    let parts = match target {
        HounsfieldTarget::Bone => retain_large(&all, Connectivity::TwentySix, BONE_VOXELS_MIN),
        HounsfieldTarget::Lung => {
            let voxel = voxel_millilitres(&volume.geometry).unwrap_or_default();
            let parts = components(&all, Connectivity::TwentySix);
            let is_lung = |part: &&Component| {
                !part.touches_edge && part.voxels.len() as f64 * voxel >= LUNG_MILLILITRES_MIN
            };
            mask_of(&all, parts.iter().filter(is_lung))
        }
        HounsfieldTarget::Body => {
            let parts = components(&all, Connectivity::TwentySix);
            mask_of(&all, parts.iter().max_by_key(|it| it.voxels.len()).into_iter())
        }
    };
    fill_holes(&parts).without(volume.values.iter().map(|it| it.is_nan()))
}

/// All that is denser than fat and air: it shows where the middle of the patient is.
pub(crate) fn tissue(volume: &VolumeRef<'_>) -> Mask {
    let [low, _] = HounsfieldTarget::Body.range();
    Mask::of(&volume.geometry, volume.values, |it| it >= low)
}

/// The ranges of Hounsfield units, as the algorithm of a segmentation.
pub(crate) fn algorithm(targets: &[Target], version: &str) -> Algorithm {
    let ranges = targets.iter().filter_map(|target| {
        let [low, high] = target.hounsfield()?.range();
        let range = if high > 1e9 { format!(">= {low} HU") } else { format!("{low} to {high} HU") };
        Some((target.name().to_owned(), range))
    });
    Algorithm {
        name: "Isocenter threshold segmentation".to_owned(),
        version: version.to_owned(),
        parameters: ranges.collect::<BTreeMap<_, _>>(),
    }
}

#[cfg(test)]
mod tests {
    use domain::{PatientSpace, VolumeGeometry};

    use super::*;

    /// A stack of ten slices of ten rows and columns of 1 mm.
    fn geometry() -> VolumeGeometry {
        VolumeGeometry {
            rows: 10,
            columns: 10,
            pixel_spacing: Some([1.0, 1.0]),
            space: Some(PatientSpace {
                frame_of_reference: "1.9".to_owned(),
                orientation: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
                slice_spacing: 1.0,
                slice_thickness: 1.0,
                positions: (0..10_u8).map(|it| [0.0, 0.0, f64::from(it)]).collect(),
            }),
            instances: (1..=10).map(|it| format!("1.2.{it}").parse().unwrap()).collect(),
            sop_class: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            lossy: false,
        }
    }

    /// Bone all around a voxel of padding and one of tissue: a hole is filled, and padding is none.
    #[test]
    fn din_80_padding_within_bone_is_no_bone() {
        let mut values = vec![700.0_f32; 1000];
        values[555] = f32::NAN;
        values[444] = 40.0;
        let found =
            mask(HounsfieldTarget::Bone, &VolumeRef { geometry: geometry(), values: &values });
        let missing: Vec<usize> = (0..1000).filter(|it| !found.voxels[*it]).collect();
        assert_eq!(missing, [555]);
    }

    #[test]
    fn din_80_a_volume_of_padding_has_no_target() {
        let values = vec![f32::NAN; 1000];
        for target in [HounsfieldTarget::Bone, HounsfieldTarget::Lung, HounsfieldTarget::Body] {
            let volume = VolumeRef { geometry: geometry(), values: &values };
            assert_eq!(mask(target, &volume).count(), 0, "{target:?}");
        }
    }
}
