//! A point or a box on a picture.

use serde::{Deserialize, Serialize, Serializer};

/// A place on a picture: x and y, or left, top, right and bottom.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Vec<f64>")]
pub enum Region {
    /// A point.
    Point([f64; 2]),
    /// A box. Right and bottom are the edges behind its last column and row.
    Box([f64; 4]),
}

impl Region {
    /// The coordinates, x and y in turn.
    pub const fn coordinates(&self) -> &[f64] {
        match self {
            Self::Point(it) => it,
            Self::Box(it) => it,
        }
    }

    /// The place with each coordinate changed: by its axis (0 for x, 1 for y) and its value.
    #[must_use]
    pub fn map(self, change: impl Fn(usize, f64) -> f64) -> Self {
        match self {
            Self::Point([x, y]) => Self::Point([change(0, x), change(1, y)]),
            Self::Box([left, top, right, bottom]) => {
                Self::Box([change(0, left), change(1, top), change(0, right), change(1, bottom)])
            }
        }
    }
}

/// Why numbers are no place on a picture.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// A place has two numbers or four.
    #[error("a place has two numbers or four, not {0}")]
    Count(usize),
    /// A number is infinite or none.
    #[error("a coordinate is not a number")]
    NotFinite,
}

impl TryFrom<Vec<f64>> for Region {
    type Error = RegionError;

    /// Corners in the wrong order are put in order, as ms-swift does.
    fn try_from(numbers: Vec<f64>) -> Result<Self, RegionError> {
        if numbers.iter().any(|it| !it.is_finite()) {
            return Err(RegionError::NotFinite);
        }
        match *numbers {
            [x, y] => Ok(Self::Point([x, y])),
            [x1, y1, x2, y2] => Ok(Self::Box([x1.min(x2), y1.min(y2), x1.max(x2), y1.max(y2)])),
            _ => Err(RegionError::Count(numbers.len())),
        }
    }
}

impl Serialize for Region {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.coordinates().iter().map(|it| Coordinate(*it)))
    }
}

/// A coordinate, written without a point if it is whole.
struct Coordinate(f64);

impl Serialize for Coordinate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match whole(self.0) {
            Some(whole) => serializer.serialize_i64(whole),
            None => serializer.serialize_f64(self.0),
        }
    }
}

/// A number as an integer, if it is a small one.
pub(crate) fn whole(number: f64) -> Option<i64> {
    if number.fract() != 0.0 || number.abs() >= 1e15 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and in the range")]
    let whole = number as i64;
    Some(whole)
}
