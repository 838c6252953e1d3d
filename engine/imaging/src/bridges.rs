//! Takes a connected structure apart at thin bridges, such as two lungs that touch along the airways.

use std::collections::VecDeque;

use crate::Mask;
use crate::components::{Component, Connectivity, components, mask_of, neighbours};

/// Share of the voxels that are left after thinning, above which a part is one of its own.
const PART_SHARE: f64 = 0.1;

/// The parts into which a component falls when its surface is taken off, voxel by voxel and at most
/// `steps_max` times; each with the voxels that lie nearest to it. Nothing if it does not fall apart.
pub fn parts_at_bridges(
    mask: &Mask,
    component: &Component,
    steps_max: usize,
) -> Option<Vec<Component>> {
    let whole = mask_of(mask, std::iter::once(component));
    let mut thinned = whole.clone();
    for _ in 0..steps_max {
        thinned = without_surface(&thinned);
        let left = thinned.count() as f64;
        let is_part = |it: &Component| it.voxels.len() as f64 > PART_SHARE * left;
        let parts = components(&thinned, Connectivity::TwentySix);
        let cores: Vec<Component> = parts.into_iter().filter(is_part).collect();
        if cores.len() > 1 {
            return Some(grown(&whole, &cores));
        }
    }
    None
}

/// The voxels of a mask all of whose neighbours through faces are in it. Beyond the first and the last
/// slice the structure goes on.
fn without_surface(mask: &Mask) -> Mask {
    let [slices, rows, columns] = mask.shape;
    let is_inside = |voxel: usize| {
        let column = voxel % columns;
        let row = voxel / columns % rows;
        let slice = voxel / (rows * columns);
        let is_set = |at: usize| mask.voxels.get(at) == Some(&true);
        let in_plane = column > 0
            && row > 0
            && column + 1 < columns
            && row + 1 < rows
            && is_set(voxel - 1)
            && is_set(voxel + 1)
            && is_set(voxel - columns)
            && is_set(voxel + columns);
        in_plane
            && (slice == 0 || is_set(voxel - rows * columns))
            && (slice + 1 == slices || is_set(voxel + rows * columns))
    };
    let voxels = mask.voxels.iter().enumerate().map(|(voxel, is_set)| *is_set && is_inside(voxel));
    Mask { shape: mask.shape, voxels: voxels.collect() }
}

/// Lets cores grow, one step of faces at a time, until all of a mask that they reach is taken.
fn grown(whole: &Mask, cores: &[Component]) -> Vec<Component> {
    let steps = Connectivity::TwentySix.steps();
    let mut is_free = whole.voxels.clone();
    let mut parts: Vec<Vec<usize>> = vec![Vec::new(); cores.len()];
    let mut pending: VecDeque<Growth> = VecDeque::new();
    for (part, core) in cores.iter().enumerate() {
        for voxel in &core.voxels {
            take(&mut is_free, *voxel);
            pending.push_back(Growth { part, voxel: *voxel });
        }
    }
    while let Some(Growth { part, voxel }) = pending.pop_front() {
        if let Some(voxels) = parts.get_mut(part) {
            voxels.push(voxel);
        }
        for next in neighbours(whole, voxel, &steps) {
            if take(&mut is_free, next) {
                pending.push_back(Growth { part, voxel: next });
            }
        }
    }
    parts.into_iter().map(|it| Component::of(whole, it)).collect()
}

/// A voxel that a part has reached.
struct Growth {
    part: usize,
    voxel: usize,
}

/// Takes a voxel. False if it was not free.
fn take(is_free: &mut [bool], voxel: usize) -> bool {
    is_free.get_mut(voxel).is_some_and(std::mem::take)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two boxes of 6 x 6 pixels on 3 slices, with a bridge of `thickness` rows.
    fn boxes(thickness: usize) -> Mask {
        let is_set = |at: usize| {
            let column = at % 24;
            let row = at / 24 % 12;
            let is_box =
                (3..9).contains(&row) && ((2..8).contains(&column) || (16..22).contains(&column));
            is_box || ((8..16).contains(&column) && (5..5 + thickness).contains(&row))
        };
        Mask { shape: [3, 12, 24], voxels: (0..3 * 12 * 24).map(is_set).collect() }
    }

    fn parts(mask: &Mask) -> Option<Vec<Component>> {
        let whole = components(mask, Connectivity::TwentySix);
        assert_eq!(whole.len(), 1);
        parts_at_bridges(mask, &whole[0], 1)
    }

    #[test]
    fn pap_14_a_structure_falls_apart_at_a_thin_bridge_and_loses_no_voxel() {
        for thickness in [1, 2] {
            let mask = boxes(thickness);
            let parts = parts(&mask).unwrap();
            assert_eq!(parts.len(), 2);
            let sizes: Vec<usize> = parts.iter().map(|it| it.voxels.len()).collect();
            assert_eq!(sizes.iter().sum::<usize>() as u64, mask.count());
            assert!(sizes.iter().all(|it| *it >= 3 * 6 * 6), "{sizes:?}");
        }
    }

    #[test]
    fn pap_14_a_structure_with_a_thick_bridge_is_one() {
        assert_eq!(parts(&boxes(4)), None);
    }
}
