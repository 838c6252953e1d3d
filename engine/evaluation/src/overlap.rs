//! Overlap of masks and boxes (PAP-61, PAP-64).

/// Dice coefficient of two masks of packed bits: twice the size of their intersection, divided by
/// the sum of their sizes. Two empty masks have a coefficient of 1.
pub fn dice(one: &[u8], other: &[u8]) -> f64 {
    let intersection: u64 =
        one.iter().zip(other).map(|(a, b)| u64::from((a & b).count_ones())).sum();
    let sum = bits_set(one) + bits_set(other);
    if sum == 0 { 1.0 } else { 2.0 * intersection as f64 / sum as f64 }
}

fn bits_set(mask: &[u8]) -> u64 {
    mask.iter().map(|it| u64::from(it.count_ones())).sum()
}

/// Intersection over union of two boxes: left, top, right, bottom.
pub fn iou(one: [f64; 4], other: [f64; 4]) -> f64 {
    let intersection = area([
        one[0].max(other[0]),
        one[1].max(other[1]),
        one[2].min(other[2]),
        one[3].min(other[3]),
    ]);
    let union = area(one) + area(other) - intersection;
    if union > 0.0 { intersection / union } else { 0.0 }
}

/// Area of a box; 0 if its corners are inverted.
fn area([left, top, right, bottom]: [f64; 4]) -> f64 {
    (right - left).max(0.0) * (bottom - top).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pap_61_dice_of_the_same_of_halves_and_of_nothing() {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(dice(&[0xFF], &[0xFF]), 1.0) && near(dice(&[0], &[0]), 1.0));
        assert!(near(dice(&[0x0F], &[0xFF]), 8.0 / 12.0) && near(dice(&[0x0F], &[0xF0]), 0.0));
    }

    #[test]
    fn pap_64_half_of_a_box_is_half() {
        assert!((iou([0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.0]) - 0.5).abs() < 1e-12);
        assert!(iou([0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 3.0, 3.0]).abs() < 1e-12);
        assert!(iou([0.0; 4], [0.0; 4]).abs() < 1e-12);
    }
}
