//! Partial freezing: gradients pass through what is not trained, and are those that they would be.

use std::collections::BTreeMap;

use candle_core::Tensor;
use training::batch::row_input;
use training::forward::{GradientScale, ScaledModules, row_losses};
use training::parts::{Part, is_constant};

use crate::model::{LOSSES, Trainable, mixed_data, open};

/// The gradients of all variables for one row of all samples.
fn gradients(of: &Trainable, scale: Option<GradientScale>) -> BTreeMap<String, Tensor> {
    let config = of.model.config();
    let numbers: Vec<usize> = (0..mixed_data().len()).collect();
    let input =
        row_input(&mixed_data(), &numbers, config.tokens.image, config.vision.merge).unwrap();
    let losses = row_losses(&of.model, &input, input.row.counts(), &LOSSES, scale).unwrap();
    let store = losses.total(&LOSSES, scale).unwrap().unwrap().backward().unwrap();
    let variables = of.weights.variables().into_iter();
    let found = variables.filter_map(|(name, it)| Some((name, store.get(&it)?.detach())));
    found.collect()
}

fn norm(x: &Tensor) -> f32 {
    x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt()
}

/// Fails unless a gradient is `factor` times another.
#[track_caller]
fn assert_scaled(name: &str, found: &Tensor, whole: &Tensor, factor: f64) {
    let expected = (whole * factor).unwrap();
    let error = norm(&(found - &expected).unwrap());
    let tolerance = 1e-3 * norm(&expected) + 1e-7;
    assert!(error <= tolerance, "{name}: {error} of {} apart", norm(&expected));
}

#[test]
fn pap_50_gradients_pass_through_layers_that_are_not_trained() {
    let whole = gradients(&open(|it| !is_constant(it)), None);
    let middle_is_frozen = |it: &str| {
        !it.starts_with("language_model.layers.1.") && !it.starts_with("visual.blocks.1.")
    };
    // A frozen layer in the middle; stage 1; stages 2 and 4; the projector alone.
    let choices: [fn(&str) -> bool; 5] = [
        middle_is_frozen,
        |it| it.starts_with("visual."),
        |it| Part::of(it) != Part::Segmentation,
        |it| Part::of(it) == Part::Segmentation,
        |it| it.starts_with("seg_projector."),
    ];
    for (choice, is_chosen) in choices.into_iter().enumerate() {
        let trainable = open(move |it| is_chosen(it) && !is_constant(it));
        let found = gradients(&trainable, None);
        let expected: Vec<&String> = whole.keys().filter(|it| is_chosen(it)).collect();
        assert_eq!(found.keys().collect::<Vec<_>>(), expected, "choice {choice}");
        assert!(trainable.weights.variables().keys().all(|it| is_chosen(it)));
        for (name, gradient) in &found {
            assert_scaled(name, gradient, &whole[name], 1.0);
        }
    }
}

#[test]
fn pap_50_the_gradient_of_masks_is_scaled_where_each_reading_says() {
    let trainable = open(|it| Part::of(it) == Part::Segmentation && !is_constant(it));
    let whole = gradients(&trainable, None);
    assert!(norm(&whole["sam.no_mem_embed"]) > 0.0);
    for at in [ScaledModules::ProjectorOutput, ScaledModules::AllSegmentation] {
        let found = gradients(&trainable, Some(GradientScale { at, factor: 0.001 }));
        for (name, gradient) in &found {
            let is_scaled =
                name.starts_with("seg_projector.") || at == ScaledModules::AllSegmentation;
            let factor = if is_scaled { 0.001 } else { 1.0 };
            assert_scaled(name, gradient, &whole[name], factor);
        }
    }
}
