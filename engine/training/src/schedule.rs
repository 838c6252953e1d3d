//! The learning rate over the steps of a run.

/// The factor of the learning rate at a step: linear warm-up, then half a cosine down to zero
/// (table 4 of the paper), where it stays.
pub fn cosine_schedule(step: u32, warmup: u32, total: u32) -> f64 {
    if step < warmup {
        return f64::from(step) / f64::from(warmup.max(1));
    }
    let progress = f64::from(step - warmup) / f64::from(total.saturating_sub(warmup).max(1));
    (0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pap_51_the_learning_rate_falls_along_half_a_cosine() {
        for (step, expected) in
            [(0, 1e-5), (25, 8.5355e-6), (50, 5e-6), (75, 1.4645e-6), (100, 0.0), (101, 0.0)]
        {
            let found = 1e-5 * cosine_schedule(step, 0, 100);
            assert!((found - expected).abs() < 1e-9, "{step}: {found}");
        }
    }

    #[test]
    fn pap_51_the_learning_rate_rises_to_its_maximum_in_the_warm_up() {
        let found: Vec<f64> = (0..7).map(|it| cosine_schedule(it, 4, 6)).collect();
        for (found, expected) in found.iter().zip([0.0, 0.25, 0.5, 0.75, 1.0, 0.5, 0.0]) {
            assert!((found - expected).abs() < 1e-12, "{found}, not {expected}");
        }
    }
}
