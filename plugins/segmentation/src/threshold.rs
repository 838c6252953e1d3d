//! Outlines targets by Hounsfield units alone. The table in the crate documentation defines each
//! target.

use std::collections::BTreeMap;

use domain::Algorithm;
use imaging::Mask;
use imaging::components::{Component, Connectivity, components, fill_holes, mask_of, retain_large};
use imaging::mask::voxel_millilitres;
use plugin_api::VolumeRef;

use crate::target::Target;

/// Lower bound of a connected part of bone, in voxels.
const BONE_VOXELS_MIN: usize = 64;

/// Lower bound of a connected part of lung, in mL.
const LUNG_MILLILITRES_MIN: f64 = 1.0;

/// The voxels of a target; none if Hounsfield units do not distinguish it.
pub(crate) fn mask(target: Target, volume: &VolumeRef<'_>) -> Mask {
    let (low, high) = target.hounsfield_range().unwrap_or((f32::MAX, f32::MIN));
    let all = Mask::of(&volume.geometry, volume.values, |hu| low <= hu && hu <= high);
    let parts = match target {
        Target::Bone => retain_large(&all, Connectivity::TwentySix, BONE_VOXELS_MIN),
        Target::Lung => {
            let voxel = voxel_millilitres(&volume.geometry).unwrap_or_default();
            let parts = components(&all, Connectivity::TwentySix);
            let is_lung = |part: &&Component| {
                !part.touches_edge && part.voxels.len() as f64 * voxel >= LUNG_MILLILITRES_MIN
            };
            mask_of(&all, parts.iter().filter(is_lung))
        }
        _ => {
            let parts = components(&all, Connectivity::TwentySix);
            mask_of(&all, parts.iter().max_by_key(|it| it.voxels.len()).into_iter())
        }
    };
    fill_holes(&parts)
}

/// The ranges of Hounsfield units, as the algorithm of a segmentation.
pub(crate) fn algorithm(targets: &[Target], version: &str) -> Algorithm {
    let ranges = targets.iter().filter_map(|target| {
        let (low, high) = target.hounsfield_range()?;
        let range = if high > 1e9 { format!(">= {low} HU") } else { format!("{low} to {high} HU") };
        Some((target.name().to_owned(), range))
    });
    Algorithm {
        name: "Isocenter threshold segmentation".to_owned(),
        version: version.to_owned(),
        parameters: ranges.collect::<BTreeMap<_, _>>(),
    }
}
