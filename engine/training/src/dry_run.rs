//! What a stage would train, and the memory that it would need, worked out from `config.json`
//! before any weight is read.

use std::fmt;

use citrus_v::Config;
use citrus_v::tensor_shapes::tensor_shapes;
use serde::Serialize;

use crate::parts::is_constant;
use crate::stages::{PlanProblem, Stage, StagePlan};

/// The size of a number: weights, gradients and moments are in f32.
const NUMBER_BYTES: u64 = 4;

/// The modules in tables, each with what the canonical names of its tensors begin with.
const MODULES: [(&str, &str); 9] = [
    ("embeddings", "language_model.embed_tokens."),
    ("decoder layers", "language_model."),
    ("output layer", "lm_head."),
    ("aligner", "visual.merger."),
    ("vision encoder", "visual."),
    ("[SEG] projector", "seg_projector."),
    ("SAM 2 image encoder", "sam.image_encoder."),
    ("SAM 2 mask decoder", "sam.sam_mask_decoder."),
    ("SAM 2 prompt encoder", "sam."),
];

/// The parameters of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ModuleCount {
    /// The module.
    pub module: &'static str,
    /// Its parameters.
    pub parameters: u64,
    /// Those of them that are trained.
    pub trained: u64,
}

/// The memory of a stage in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// All weights.
    pub weights: u64,
    /// The gradients of a row, and their sum over the rows of a step.
    pub gradients: u64,
    /// The two moments of AdamW.
    pub optimizer: u64,
    /// The moving average of the weights.
    pub average: u64,
    /// What the language model keeps of a full row for its gradient; nothing if no gradient passes
    /// through it. The row is taken as one sample, for which attention needs most.
    pub activations: u64,
}

/// What a stage would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// The stage.
    pub stage: Stage,
    /// Its modules.
    pub modules: Vec<ModuleCount>,
    /// Its memory.
    pub memory: MemoryEstimate,
    /// Why it cannot be carried out, if so.
    #[serde(serialize_with = "as_text")]
    pub problems: Vec<PlanProblem>,
}

fn as_text<S: serde::Serializer>(
    problems: &[PlanProblem],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(problems.iter().map(ToString::to_string))
}

impl DryRun {
    /// Works out what a plan does with a model of this configuration.
    pub fn of(config: &Config, plan: &StagePlan) -> Self {
        let shapes = tensor_shapes(config);
        let empty = MODULES.map(|it| ModuleCount { module: it.0, parameters: 0, trained: 0 });
        let mut modules = empty.to_vec();
        for (name, shape) in &shapes {
            let place = MODULES.iter().position(|it| name.starts_with(it.1));
            let module = place.and_then(|it| modules.get_mut(it));
            let Some(module) = module.filter(|_| !is_constant(name)) else { continue };
            let count = shape.iter().product::<usize>() as u64;
            module.parameters += count;
            module.trained += if plan.trains(name) { count } else { 0 };
        }
        modules.retain(|it| it.parameters > 0);
        let sum = |of: fn(&ModuleCount) -> u64| modules.iter().map(of).sum::<u64>();
        let trained = sum(|it| it.trained) * NUMBER_BYTES;
        let names: Vec<&str> = shapes.keys().map(String::as_str).collect();
        let memory = MemoryEstimate {
            weights: sum(|it| it.parameters) * NUMBER_BYTES,
            gradients: 2 * trained,
            optimizer: 2 * trained,
            average: if plan.average_decay.is_some() { trained } else { 0 },
            activations: activations(config, plan, &names),
        };
        Self { stage: plan.stage, modules, memory, problems: plan.problems(&names) }
    }
}

/// The results of operations that a row keeps in the language model. Counted in `language_model.rs`
/// and `attention.rs` of `citrus-v`: norms, projections, rotary embedding, attention and MLP of a
/// layer keep about 22 times the width, 14 times that of keys and 4 times that of the MLP for each
/// token, and 6 numbers for each pair of tokens and head.
fn activations(config: &Config, plan: &StagePlan, canonical: &[&str]) -> u64 {
    let is_before_output =
        |it: &str| it.starts_with("language_model.") || it.starts_with("visual.");
    if !canonical.iter().any(|it| is_before_output(it) && plan.trains(it)) {
        return 0;
    }
    let text = &config.text;
    let kv_width = text.kv_heads * text.head_dim();
    let of_token = 22 * text.hidden + 14 * kv_width + 4 * text.intermediate;
    let of_pairs = 6 * text.heads * plan.row_length;
    (of_token + of_pairs) as u64 * (plan.row_length * text.layers) as u64 * NUMBER_BYTES
}

/// A number of bytes in GB with one digit.
struct Gigabytes(u64);

impl fmt::Display for Gigabytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.1} GB", self.0 as f64 / 1e9)
    }
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stage {}", self.stage.number())?;
        writeln!(f, "  {:<22}{:>16}{:>16}", "module", "parameters", "trained")?;
        for ModuleCount { module, parameters, trained } in &self.modules {
            writeln!(f, "  {module:<22}{parameters:>16}{trained:>16}")?;
        }
        let MemoryEstimate { weights, gradients, optimizer, average, activations } = self.memory;
        for (name, bytes) in [
            ("weights", weights),
            ("gradients", gradients),
            ("optimizer", optimizer),
            ("average", average),
            ("activations at most", activations),
        ] {
            writeln!(f, "  {name:<22}{}", Gigabytes(bytes))?;
        }
        writeln!(f, "  without what the encoders of pictures keep for their gradients")?;
        for problem in &self.problems {
            writeln!(f, "  problem: {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::Source;

    /// The configuration of the release.
    const RELEASE: &str = include_str!("../../citrus-v/tests/configs/flat.json");

    fn dry_run(stage: Stage) -> DryRun {
        DryRun::of(&Config::parse(RELEASE).unwrap(), &stage.plan(Source::Paper))
    }

    fn module(of: &DryRun, name: &str) -> ModuleCount {
        *of.modules.iter().find(|it| it.module == name).unwrap()
    }

    #[test]
    fn pap_50_a_dry_run_counts_what_each_stage_trains() {
        for (stage, multimodal, vision) in [
            (Stage::ConceptAlignment, false, true),
            (Stage::Comprehension, true, true),
            (Stage::Instruction, true, true),
            (Stage::Segmentation, false, false),
        ] {
            let found = dry_run(stage);
            assert_eq!(found.problems, [], "{stage:?}");
            for (name, is_trained) in [
                ("decoder layers", multimodal),
                ("aligner", vision),
                ("[SEG] projector", stage == Stage::Segmentation),
                ("SAM 2 mask decoder", stage == Stage::Segmentation),
            ] {
                let ModuleCount { parameters, trained, .. } = module(&found, name);
                assert_eq!(trained, if is_trained { parameters } else { 0 }, "{stage:?} {name}");
            }
        }
    }

    #[test]
    fn pap_50_a_dry_run_knows_the_size_of_the_release() {
        let found = dry_run(Stage::Segmentation);
        let parameters: u64 = found.modules.iter().map(|it| it.parameters).sum();
        // Qwen2.5-VL 7B has 8.29 billion parameters, SAM 2 large without its memory 0.21 billion.
        assert!((8_450_000_000..8_550_000_000).contains(&parameters), "{parameters}");
        assert_eq!(module(&found, "embeddings").parameters, 152_064 * 3584);
        let MemoryEstimate { weights, gradients, optimizer, average, activations } = found.memory;
        assert_eq!(weights, 4 * parameters);
        assert_eq!(gradients, optimizer);
        assert_eq!((average, activations), (0, 0), "no gradient passes the language model");
        assert!(gradients < 3_000_000_000, "{gradients}");
        assert!(dry_run(Stage::ConceptAlignment).memory.activations > 0);
        let text = found.to_string();
        assert!(text.contains("stage 4") && text.contains("SAM 2 image encoder"), "{text}");
    }
}
