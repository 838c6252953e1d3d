//! Objects of a mask: things that are countable, such as lesions, each a set of voxels of its own.
//!
//! What was drawn as several masks on one slice is several objects, even where they touch; what was
//! drawn as one mask is as many objects as it has connected parts. From slice to slice, parts that
//! touch (26 neighbours) are of one object, in the order of their overlap, unless that would join two
//! parts that touch on a slice and were drawn as two masks there.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::components::Component;
use crate::{FlatMask, Mask};

/// Two masks of a slice whose intersection over union is larger show the same thing. This cannot hold
/// for one mask and two that do not overlap.
const SAME_OVERLAP: f64 = 0.5;

/// The objects of a mask, in the order of their first voxels. `drawn` has the masks of each slice;
/// pixels of theirs that are not in the mask do not count, such as those of padding. A pixel of
/// several masks is of the first.
pub fn objects(mask: &Mask, drawn: &[Vec<FlatMask>]) -> Vec<Component> {
    let mut parts = Parts::default();
    for (slice, masks) in drawn.iter().enumerate() {
        parts.add_slice(mask, slice, masks);
    }
    let mut objects: Vec<Vec<usize>> = parts.joined();
    for object in &mut objects {
        object.sort_unstable();
    }
    objects.sort_by_key(|it| it.first().copied());
    objects.into_iter().map(|it| Component::of(mask, it)).collect()
}

/// A pair of parts that touch, on two slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    below: usize,
    above: usize,
}

/// The connected parts of the masks of all slices so far.
#[derive(Default)]
struct Parts {
    /// The voxels of each part.
    voxels: Vec<Vec<usize>>,
    /// For each part, the parts that touch it on its slice and were drawn as other masks.
    apart: Vec<BTreeSet<usize>>,
    /// How many pixels two parts on adjacent slices have at the same place.
    links: BTreeMap<Link, usize>,
    /// The part of each pixel of the slice before.
    before: Vec<Option<usize>>,
}

impl Parts {
    fn add_slice(&mut self, mask: &Mask, slice: usize, masks: &[FlatMask]) {
        let [_, rows, columns] = mask.shape;
        let grid = Grid { rows, columns };
        let start = slice * rows * columns;
        let within = mask.voxels.get(start..start + rows * columns).unwrap_or_default();
        let drawings = drawings(within, masks);
        let mut parts: Vec<Option<usize>> = vec![None; within.len()];
        for (first, drawing) in drawings.iter().enumerate() {
            if drawing.is_none() || is_taken(&parts, first) {
                continue;
            }
            let number = self.voxels.len();
            let pixels = flooded(grid, &drawings, first);
            for pixel in &pixels {
                put(&mut parts, *pixel, number);
            }
            self.voxels.push(pixels.into_iter().map(|it| start + it).collect());
            self.apart.push(BTreeSet::new());
        }
        self.note_neighbours(grid, &parts);
        self.before = parts;
    }

    /// Notes which parts of a slice touch each other, and which touch a part of the slice before.
    fn note_neighbours(&mut self, grid: Grid, parts: &[Option<usize>]) {
        for (pixel, part) in parts.iter().enumerate() {
            let Some(part) = *part else { continue };
            for neighbour in grid.around(pixel) {
                if let Some(other) = parts.get(neighbour).copied().flatten()
                    && other != part
                    && let Some(apart) = self.apart.get_mut(part)
                {
                    apart.insert(other);
                }
                if let Some(below) = self.before.get(neighbour).copied().flatten() {
                    let overlap = self.links.entry(Link { below, above: part }).or_default();
                    *overlap += usize::from(neighbour == pixel);
                }
            }
        }
    }

    /// The voxels of all objects.
    fn joined(self) -> Vec<Vec<usize>> {
        let mut links: Vec<(Link, usize)> = self.links.into_iter().collect();
        links.sort_by_key(|(link, overlap)| (Reverse(*overlap), *link));
        let mut groups = Groups { leaders: (0..self.voxels.len()).collect(), apart: self.apart };
        for (link, _) in links {
            groups.join(link);
        }
        let mut objects: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (part, voxels) in self.voxels.into_iter().enumerate() {
            objects.entry(groups.leader(part)).or_default().extend(voxels);
        }
        objects.into_values().collect()
    }
}

fn is_taken(parts: &[Option<usize>], pixel: usize) -> bool {
    parts.get(pixel).is_some_and(Option::is_some)
}

fn put(parts: &mut [Option<usize>], pixel: usize, number: usize) {
    if let Some(part) = parts.get_mut(pixel) {
        *part = Some(number);
    }
}

/// For each pixel of a slice, the drawing that it belongs to. Masks that show the same thing are one
/// drawing.
fn drawings(within: &[bool], masks: &[FlatMask]) -> Vec<Option<usize>> {
    let mut drawings: Vec<Option<usize>> = vec![None; within.len()];
    let mut sizes: Vec<usize> = Vec::new();
    for mask in masks {
        let mut size = 0;
        let mut overlaps = vec![0_usize; sizes.len()];
        let pixels =
            within.iter().zip(&mask.pixels).map(|(is_within, is_set)| *is_within && *is_set);
        for (drawing, _) in drawings.iter().zip(pixels.clone()).filter(|(_, is_set)| *is_set) {
            size += 1;
            if let Some(overlap) = drawing.and_then(|it| overlaps.get_mut(it)) {
                *overlap += 1;
            }
        }
        let is_same = |(overlap, other): (&usize, &usize)| {
            *overlap as f64 > SAME_OVERLAP * (size + other - overlap) as f64
        };
        let same = overlaps.iter().zip(&sizes).position(is_same);
        let number = same.unwrap_or(sizes.len());
        let mut added = 0;
        for (drawing, is_set) in drawings.iter_mut().zip(pixels) {
            if is_set && drawing.is_none() {
                *drawing = Some(number);
                added += 1;
            }
        }
        match sizes.get_mut(number) {
            Some(size) => *size += added,
            None => sizes.push(added),
        }
    }
    drawings
}

/// The pixels of the drawing of `first` that are connected to it (8 neighbours).
fn flooded(grid: Grid, drawings: &[Option<usize>], first: usize) -> Vec<usize> {
    let drawing = drawings.get(first).copied().flatten();
    let mut found = BTreeSet::from([first]);
    let mut pending = vec![first];
    while let Some(pixel) = pending.pop() {
        for neighbour in grid.around(pixel) {
            if drawings.get(neighbour).copied().flatten() == drawing && found.insert(neighbour) {
                pending.push(neighbour);
            }
        }
    }
    found.into_iter().collect()
}

/// The pixels of a slice.
#[derive(Clone, Copy)]
struct Grid {
    rows: usize,
    columns: usize,
}

impl Grid {
    /// A pixel and its eight neighbours.
    fn around(self, pixel: usize) -> impl Iterator<Item = usize> {
        let columns = self.columns.max(1);
        let row = pixel / columns;
        let column = pixel % columns;
        let rows = row.saturating_sub(1)..(row + 2).min(self.rows);
        let near = column.saturating_sub(1)..(column + 2).min(columns);
        rows.flat_map(move |row| near.clone().map(move |column| row * columns + column))
    }
}

/// Parts that were joined: each has a leader.
struct Groups {
    leaders: Vec<usize>,
    /// By leader: the parts that the group must not be joined with.
    apart: Vec<BTreeSet<usize>>,
}

impl Groups {
    fn leader(&self, part: usize) -> usize {
        let mut at = part;
        while let Some(leader) = self.leaders.get(at).copied().filter(|it| *it != at) {
            at = leader;
        }
        at
    }

    /// Joins the groups of two parts, unless they are to be told apart.
    fn join(&mut self, link: Link) {
        let first = self.leader(link.below);
        let second = self.leader(link.above);
        let apart = self.apart.get(first).into_iter().flatten();
        let is_apart = apart.into_iter().any(|it| self.leader(*it) == second);
        if first == second || is_apart {
            return;
        }
        // The smaller number leads, so that the chains are short: parts are numbered slice by slice.
        let leader = first.min(second);
        let joined = first.max(second);
        let moved = self.apart.get_mut(joined).map(std::mem::take).unwrap_or_default();
        if let Some(apart) = self.apart.get_mut(leader) {
            apart.extend(moved);
        }
        if let Some(entry) = self.leaders.get_mut(joined) {
            *entry = leader;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slice of 1 x 12 pixels; `#` is drawn.
    fn drawn(line: &str) -> FlatMask {
        let pixels: Vec<bool> = line.chars().map(|it| it == '#').collect();
        FlatMask { height: 1, width: 12, pixels }
    }

    /// The objects of slices, each a list of masks, as `slice:pixels` of each.
    fn found(slices: &[&[&str]]) -> Vec<String> {
        let drawn: Vec<Vec<FlatMask>> =
            slices.iter().map(|masks| masks.iter().map(|it| drawn(it)).collect()).collect();
        let mut voxels = vec![false; slices.len() * 12];
        for (slice, masks) in drawn.iter().enumerate() {
            for mask in masks {
                for (at, _) in mask.pixels.iter().enumerate().filter(|(_, is_set)| **is_set) {
                    voxels[slice * 12 + at] = true;
                }
            }
        }
        let mask = Mask { shape: [slices.len(), 1, 12], voxels };
        let objects = objects(&mask, &drawn);
        let texts = objects.iter().map(|it| {
            let voxels = it.voxels.iter().map(|at| format!("{}:{}", at / 12, at % 12));
            voxels.collect::<Vec<_>>().join(" ")
        });
        texts.collect()
    }

    #[test]
    fn pap_14_one_mask_with_two_parts_is_two_objects() {
        assert_eq!(found(&[&["##....###..."]]), ["0:0 0:1", "0:6 0:7 0:8"]);
        assert_eq!(found(&[&["............"]]), Vec::<String>::new());
    }

    #[test]
    fn pap_14_two_masks_that_touch_are_two_objects_on_every_slice() {
        let slice: &[&str] = &["###.........", "...###......"];
        let expected = ["0:0 0:1 0:2 1:0 1:1 1:2", "0:3 0:4 0:5 1:3 1:4 1:5"];
        assert_eq!(found(&[slice, slice]), expected);
        // The next slice has both in one mask: it is of the one that it overlaps most.
        let objects = found(&[slice, &["#####......."]]);
        assert_eq!(objects, ["0:0 0:1 0:2 1:0 1:1 1:2 1:3 1:4", "0:3 0:4 0:5"]);
    }

    #[test]
    fn pap_14_an_object_is_followed_through_the_slices_that_it_touches() {
        let objects = found(&[&["##.......##."], &["..#.....#..."], &["...#...#...."]]);
        assert_eq!(objects, ["0:0 0:1 1:2 2:3", "0:9 0:10 1:8 2:7"]);
        let interrupted = found(&[&["##.........."], &[], &["##.........."]]);
        assert_eq!(interrupted.len(), 2);
    }

    #[test]
    fn pap_14_two_arms_that_join_on_another_slice_are_one_object() {
        let objects = found(&[&["##..........", ".....##....."], &["#######....."]]);
        assert_eq!(objects.len(), 1);
    }

    #[test]
    fn pap_14_a_thing_that_was_drawn_twice_is_one_object() {
        let objects = found(&[&["#####.......", ".#####......"]]);
        assert_eq!(objects, ["0:0 0:1 0:2 0:3 0:4 0:5"]);
        // A third mask around two others adds what only it has.
        let objects = found(&[&["###.........", ".....###....", "###..###.###"]]);
        assert_eq!(objects, ["0:0 0:1 0:2", "0:5 0:6 0:7", "0:9 0:10 0:11"]);
    }
}
