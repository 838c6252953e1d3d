//! Connected components of masks in 3-D, and filled holes.

use crate::Mask;

/// Which neighbours of a voxel are connected to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connectivity {
    /// Neighbours that share a face.
    Six,
    /// Neighbours that share a face, an edge or a corner.
    TwentySix,
}

impl Connectivity {
    /// The steps to the neighbours of a voxel.
    pub(crate) fn steps(self) -> Vec<[isize; 3]> {
        let mut steps = Vec::new();
        for z in -1..=1_isize {
            for y in -1..=1_isize {
                for x in -1..=1_isize {
                    let distance = z.abs() + y.abs() + x.abs();
                    let touches = match self {
                        Self::Six => distance == 1,
                        Self::TwentySix => distance > 0,
                    };
                    if touches {
                        steps.push([z, y, x]);
                    }
                }
            }
        }
        steps
    }
}

/// A connected component of a mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Indices of its voxels in the mask.
    pub voxels: Vec<usize>,
    /// Whether one of its voxels lies on the edge of its slice.
    pub touches_edge: bool,
}

impl Component {
    /// Some voxels of a mask as a component.
    pub(crate) fn of(mask: &Mask, voxels: Vec<usize>) -> Self {
        let touches_edge = voxels.iter().any(|it| is_on_edge(mask, *it));
        Self { voxels, touches_edge }
    }
}

/// The connected components of a mask, in the order of their first voxels.
pub fn components(mask: &Mask, connectivity: Connectivity) -> Vec<Component> {
    let steps = connectivity.steps();
    let mut is_unvisited = mask.voxels.clone();
    let mut found = Vec::new();
    for start in 0..is_unvisited.len() {
        if is_unvisited.get(start) != Some(&true) {
            continue;
        }
        let mut component = Component { voxels: Vec::new(), touches_edge: false };
        let mut pending = vec![start];
        set(&mut is_unvisited, start, false);
        while let Some(voxel) = pending.pop() {
            component.voxels.push(voxel);
            component.touches_edge |= is_on_edge(mask, voxel);
            for next in neighbours(mask, voxel, &steps) {
                if is_unvisited.get(next) == Some(&true) {
                    set(&mut is_unvisited, next, false);
                    pending.push(next);
                }
            }
        }
        found.push(component);
    }
    found
}

fn set(flags: &mut [bool], index: usize, value: bool) {
    if let Some(flag) = flags.get_mut(index) {
        *flag = value;
    }
}

fn coordinates(mask: &Mask, voxel: usize) -> [usize; 3] {
    let [_, rows, columns] = mask.shape;
    [voxel / (rows * columns), voxel / columns % rows, voxel % columns]
}

fn is_on_edge(mask: &Mask, voxel: usize) -> bool {
    let [_, rows, columns] = mask.shape;
    let [_, row, column] = coordinates(mask, voxel);
    row == 0 || column == 0 || row + 1 == rows || column + 1 == columns
}

/// The voxels that steps lead to.
pub(crate) fn neighbours<'a>(
    mask: &Mask,
    voxel: usize,
    steps: &'a [[isize; 3]],
) -> impl Iterator<Item = usize> + use<'a> {
    let [slices, rows, columns] = mask.shape;
    let [z, y, x] = coordinates(mask, voxel);
    steps.iter().filter_map(move |[dz, dy, dx]| {
        let z = z.checked_add_signed(*dz).filter(|it| *it < slices)?;
        let y = y.checked_add_signed(*dy).filter(|it| *it < rows)?;
        let x = x.checked_add_signed(*dx).filter(|it| *it < columns)?;
        Some((z * rows + y) * columns + x)
    })
}

/// The components of a mask with `voxels_min` voxels or more, as a mask.
#[must_use]
pub fn retain_large(mask: &Mask, connectivity: Connectivity, voxels_min: usize) -> Mask {
    let components = components(mask, connectivity);
    mask_of(mask, components.iter().filter(|it| it.voxels.len() >= voxels_min))
}

/// A mask of some components of another mask.
#[must_use]
pub fn mask_of<'a>(mask: &Mask, components: impl Iterator<Item = &'a Component>) -> Mask {
    let mut some = Mask { shape: mask.shape, voxels: vec![false; mask.voxels.len()] };
    for voxel in components.flat_map(|it| &it.voxels) {
        set(&mut some.voxels, *voxel, true);
    }
    some
}

/// Fills the holes of a mask: background from which no path through voxel faces leads out of the
/// volume. The first and the last slice are open.
#[must_use]
pub fn fill_holes(mask: &Mask) -> Mask {
    let [slices, rows, columns] = mask.shape;
    let background = Mask { shape: mask.shape, voxels: mask.voxels.iter().map(|it| !it).collect() };
    let mut filled = mask.clone();
    for part in components(&background, Connectivity::Six) {
        let is_open = part.voxels.iter().any(|voxel| {
            let slice = voxel / (rows * columns).max(1);
            slice == 0 || slice + 1 == slices
        });
        if !part.touches_edge && !is_open {
            part.voxels.iter().for_each(|it| set(&mut filled.voxels, *it, true));
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask(shape: [usize; 3], set: &[[usize; 3]]) -> Mask {
        let [_, rows, columns] = shape;
        let mut voxels = vec![false; shape.iter().product()];
        for [z, y, x] in set {
            voxels[(z * rows + y) * columns + x] = true;
        }
        Mask { shape, voxels }
    }

    #[test]
    fn corners_touch_in_26_and_not_in_6() {
        let mask = mask([2, 2, 2], &[[0, 0, 0], [1, 1, 1]]);
        assert_eq!(components(&mask, Connectivity::TwentySix).len(), 1);
        assert_eq!(components(&mask, Connectivity::Six).len(), 2);
    }

    #[test]
    fn a_closed_shell_is_filled_and_one_with_a_hole_in_a_face_is_not() {
        let shell: Vec<[usize; 3]> = (0..125)
            .map(|i| [i / 25, i / 5 % 5, i % 5])
            .filter(|it| it.iter().all(|i| (1..4).contains(i)) && *it != [2, 2, 2])
            .collect();
        assert_eq!(fill_holes(&mask([5, 5, 5], &shell)).count(), 27);
        let open: Vec<_> = shell.into_iter().filter(|it| *it != [2, 2, 3]).collect();
        assert_eq!(fill_holes(&mask([5, 5, 5], &open)).count(), 25);
    }

    proptest! {
        #[test]
        fn parts_make_up_the_whole(voxels in prop::collection::vec(any::<bool>(), 60)) {
            let mask = Mask { shape: [3, 4, 5], voxels };
            for connectivity in [Connectivity::Six, Connectivity::TwentySix] {
                let parts = components(&mask, connectivity);
                prop_assert_eq!(&mask_of(&mask, parts.iter()), &mask);
                let count: usize = parts.iter().map(|it| it.voxels.len()).sum();
                prop_assert_eq!(count as u64, mask.count());
            }
            let filled = fill_holes(&mask);
            prop_assert!(mask.voxels.iter().zip(&filled.voxels).all(|(a, b)| !a || *b));
            prop_assert_eq!(fill_holes(&filled).count(), filled.count());
        }
    }
}
