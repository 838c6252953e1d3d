//! Long and short axis of a mask, as RECIST 1.1 defines them: within one slice, never across slices.
//!
//! The outline of a slice is made of the middles of the four edges of each pixel on the boundary: a
//! pixel of the mask with a neighbour to the side, above or below that is not in it. So a single
//! pixel is one pixel long, and every distance is in the unit of the spacing.
//!
//! - **Long axis**: the largest distance between two points of the outline of one slice.
//! - **Short axis**: in the same slice, the largest distance at right angles to the long axis between
//!   two points of the outline that lie at the same place along it, to within half a pixel.
//!
//! Of several long axes of the same length, the one with the longest short axis is reported.

use std::collections::VecDeque;

use crate::Mask;

/// Lengths that differ by less than this are the same.
const LENGTH_TOLERANCE: f64 = 1e-9;

/// Long and short axis, in the unit of the spacing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Axes {
    pub(crate) long: f64,
    pub(crate) short: f64,
}

/// The axes of a mask; zero if it is empty. `spacing` is the distance of rows, then of columns.
pub(crate) fn axes(mask: &Mask, spacing: [f64; 2]) -> Axes {
    let [_, rows, columns] = mask.shape;
    let mut best = Axes::default();
    for pixels in mask.voxels.chunks((rows * columns).max(1)) {
        let slice = SliceMask { pixels, columns, spacing };
        let Diameter { length, directions } = slice.diameter();
        if length <= 0.0 || length < best.long - LENGTH_TOLERANCE {
            continue;
        }
        let outline = slice.outline();
        let [row, column] = spacing;
        let width = |it: &Point| widest(&outline, *it, row.min(column) / 2.0);
        let short = directions.iter().map(width).fold(0.0, f64::max);
        if length > best.long + LENGTH_TOLERANCE || short > best.short {
            best = Axes { long: length, short };
        }
    }
    best
}

/// The pixels of one slice.
struct SliceMask<'a> {
    pixels: &'a [bool],
    columns: usize,
    /// Distance of rows, then of columns.
    spacing: [f64; 2],
}

/// The largest distance of a slice.
struct Diameter {
    length: f64,
    /// The direction of each pair of points that far apart, of length 1.
    directions: Vec<Point>,
}

/// A point of a slice, or a direction in it, in the unit of the spacing.
#[derive(Clone, Copy, PartialEq)]
struct Point {
    x: f64,
    y: f64,
}

impl SliceMask<'_> {
    /// The middles of the edges of a pixel.
    fn edges(&self, row: usize, column: usize) -> [Point; 4] {
        let [row_distance, column_distance] = self.spacing;
        let x = column as f64;
        let y = row as f64;
        let middles = [[x - 0.5, y], [x + 0.5, y], [x, y - 0.5], [x, y + 0.5]];
        middles.map(|[x, y]| Point { x: x * column_distance, y: y * row_distance })
    }

    fn diameter(&self) -> Diameter {
        let mut points = Vec::new();
        for (row, line) in self.pixels.chunks(self.columns.max(1)).enumerate() {
            // Only the ends of a row can be on the hull.
            let ends = [line.iter().position(|it| *it), line.iter().rposition(|it| *it)];
            points.extend(ends.into_iter().flatten().flat_map(|it| self.edges(row, it)));
        }
        let hull = convex_hull(points);
        let mut longest = Diameter { length: 0.0, directions: Vec::new() };
        for (at, a) in hull.iter().enumerate() {
            for b in hull.iter().skip(at + 1) {
                longest.consider(*a, *b);
            }
        }
        longest
    }

    fn outline(&self) -> Vec<Point> {
        let columns = self.columns.max(1);
        let is_set = |at: Option<usize>| at.and_then(|it| self.pixels.get(it)) == Some(&true);
        let mut points = Vec::new();
        for (at, _) in self.pixels.iter().enumerate().filter(|(_, is_set)| **is_set) {
            let column = at % columns;
            let is_inside = is_set(at.checked_sub(columns))
                && is_set(at.checked_add(columns))
                && is_set((column > 0).then(|| at - 1))
                && is_set((column + 1 < columns).then(|| at + 1));
            if !is_inside {
                points.extend(self.edges(at / columns, column));
            }
        }
        points
    }
}

impl Diameter {
    fn consider(&mut self, a: Point, b: Point) {
        let across = Point { x: b.x - a.x, y: b.y - a.y };
        let length = across.x.hypot(across.y);
        if length <= 0.0 || length < self.length - LENGTH_TOLERANCE {
            return;
        }
        if length > self.length + LENGTH_TOLERANCE {
            self.directions.clear();
        }
        self.length = self.length.max(length);
        self.directions.push(Point { x: across.x / length, y: across.y / length });
    }
}

/// A point by its place along an axis, and at right angles to it.
#[derive(Clone, Copy)]
struct Placed {
    along: f64,
    across: f64,
}

/// The largest distance at right angles to a direction between two points whose places along it differ
/// by at most `tolerance`.
fn widest(outline: &[Point], direction: Point, tolerance: f64) -> f64 {
    let place = |it: &Point| Placed {
        along: it.x * direction.x + it.y * direction.y,
        across: it.y * direction.x - it.x * direction.y,
    };
    let mut placed: Vec<Placed> = outline.iter().map(place).collect();
    placed.sort_by(|a, b| a.along.total_cmp(&b.along));
    // The candidates for both ends among the points within the tolerance: the outermost is in front.
    let mut highest: VecDeque<Placed> = VecDeque::new();
    let mut lowest: VecDeque<Placed> = VecDeque::new();
    let mut widest = 0.0_f64;
    for point in placed {
        let start = point.along - tolerance - LENGTH_TOLERANCE;
        for candidates in [&mut highest, &mut lowest] {
            while candidates.front().is_some_and(|it| it.along < start) {
                candidates.pop_front();
            }
        }
        while highest.back().is_some_and(|it| it.across <= point.across) {
            highest.pop_back();
        }
        while lowest.back().is_some_and(|it| it.across >= point.across) {
            lowest.pop_back();
        }
        highest.push_back(point);
        lowest.push_back(point);
        if let (Some(high), Some(low)) = (highest.front(), lowest.front()) {
            widest = widest.max(high.across - low.across);
        }
    }
    widest
}

/// The convex hull of points (Andrew's monotone chain). Its two ends are in it twice.
fn convex_hull(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by(|a, b| a.x.total_cmp(&b.x).then(a.y.total_cmp(&b.y)));
    points.dedup();
    let mut hull = half_hull(points.iter().copied());
    hull.extend(half_hull(points.iter().rev().copied()));
    hull
}

/// One half of the hull, of points in order.
fn half_hull(points: impl Iterator<Item = Point>) -> Vec<Point> {
    let mut chain: Vec<Point> = Vec::new();
    for point in points {
        while let [.., a, b] = chain.as_slice() {
            let cross = (b.x - a.x) * (point.y - a.y) - (b.y - a.y) * (point.x - a.x);
            if cross > 0.0 {
                break;
            }
            chain.pop();
        }
        chain.push(point);
    }
    chain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A slice with an ellipse whose half axes are `a` and `b` pixels, turned by `degrees`.
    fn ellipse(a: f64, b: f64, degrees: f64) -> Mask {
        let sine = degrees.to_radians().sin();
        let cosine = degrees.to_radians().cos();
        let is_in = |at: usize| {
            let x = (at % 101) as f64 - 50.0;
            let y = (at / 101) as f64 - 50.0;
            let along = x * cosine + y * sine;
            let across = y * cosine - x * sine;
            (along / a).powi(2) + (across / b).powi(2) <= 1.0
        };
        Mask { shape: [1, 101, 101], voxels: (0..101 * 101).map(is_in).collect() }
    }

    #[test]
    fn pap_14_the_axes_of_a_turned_ellipse_are_its_own() {
        for degrees in [0.0, 10.0, 30.0, 45.0, 77.0, 90.0, 133.0] {
            let Axes { long, short } = axes(&ellipse(40.0, 15.0, degrees), [0.5, 0.5]);
            assert!((long - 40.0).abs() <= 0.5, "{degrees}: {long}");
            assert!((short - 15.0).abs() <= 0.5, "{degrees}: {short}");
        }
    }

    #[test]
    fn pap_14_both_axes_are_of_one_slice() {
        let mut mask = ellipse(20.0, 4.0, 0.0);
        mask.voxels.extend(ellipse(15.0, 14.0, 0.0).voxels);
        mask.shape = [2, 101, 101];
        let Axes { long, short } = axes(&mask, [1.0, 1.0]);
        assert!((long - 40.0).abs() <= 1.0 && (short - 8.0).abs() <= 1.0, "{long} {short}");
    }

    #[test]
    fn pap_14_rows_and_columns_have_their_own_spacing() {
        // 3 rows of 5 columns, of 2 mm and 1 mm.
        let is_in = |at: usize| (2..5).contains(&(at / 10)) && (2..7).contains(&(at % 10));
        let mask = Mask { shape: [1, 10, 10], voxels: (0..100).map(is_in).collect() };
        let Axes { long, short } = axes(&mask, [2.0, 1.0]);
        assert!((long - 50.0_f64.sqrt()).abs() < 1.0, "{long}");
        assert!(short > 4.5 && short < 7.0, "{short}");
    }

    #[test]
    fn a_single_pixel_is_one_pixel_long_and_wide() {
        let mut mask = Mask { shape: [1, 4, 5], voxels: vec![false; 20] };
        mask.voxels[7] = true;
        assert_eq!(axes(&mask, [1.0, 1.0]), Axes { long: 1.0, short: 1.0 });
        mask.voxels[7] = false;
        assert_eq!(axes(&mask, [1.0, 1.0]), Axes::default());
    }

    proptest! {
        /// Every pair of points of the outline is looked at, in the place of the hull and of windows.
        #[test]
        fn the_axes_are_those_of_all_pairs(pixels in prop::collection::vec(any::<bool>(), 48)) {
            let spacing = [0.7, 1.3];
            let slice = SliceMask { pixels: &pixels, columns: 8, spacing };
            let outline = slice.outline();
            let mut best = Axes::default();
            for a in &outline {
                for b in &outline {
                    let length = (b.x - a.x).hypot(b.y - a.y);
                    if length <= 0.0 || length < best.long - LENGTH_TOLERANCE {
                        continue;
                    }
                    let direction = Point { x: (b.x - a.x) / length, y: (b.y - a.y) / length };
                    let mut short = 0.0_f64;
                    for c in &outline {
                        for d in &outline {
                            let x = d.x - c.x;
                            let y = d.y - c.y;
                            let along = x * direction.x + y * direction.y;
                            if along.abs() <= 0.35 + LENGTH_TOLERANCE {
                                short = short.max((y * direction.x - x * direction.y).abs());
                            }
                        }
                    }
                    if length > best.long + LENGTH_TOLERANCE || short > best.short {
                        best = Axes { long: length, short };
                    }
                }
            }
            let found = axes(&Mask { shape: [1, 6, 8], voxels: pixels }, spacing);
            prop_assert!((found.long - best.long).abs() < 1e-6, "{found:?} {best:?}");
            prop_assert!((found.short - best.short).abs() < 1e-6, "{found:?} {best:?}");
        }
    }
}
