//! The four stages of the paper (table 4), as presets that a plan may change.

use serde::{Deserialize, Serialize};

use crate::forward::{GradientScale, ScaledModules};
use crate::losses::{DiceSmoothing, LossSettings, LossWeights};
use crate::optimizer::AdamWSettings;
use crate::parts::{Part, is_constant};
use crate::patterns::NamePatterns;

/// All tensors of the language model and the vision encoder.
const MULTIMODAL: &str = "mllm.*";

/// The vision encoder with its merger.
const VISION: &str = "mllm.model.visual.*";

/// The projector of `[SEG]`.
const PROJECTOR: &str = "seg_projector.*";

/// SAM 2.
const SAM: &str = "grounding_encoder.sam2_model.*";

/// A stage of the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Stage 1: the vision encoder is aligned with the language model, which stays as it is.
    ConceptAlignment,
    /// Stage 2: language model and vision encoder learn to understand medical images.
    Comprehension,
    /// Stage 3: instructions, with masks of which only a thousandth of the gradient counts.
    Instruction,
    /// Stage 4: projector and SAM 2 learn to draw; language model and vision encoder stay.
    Segmentation,
}

/// Where presets are from. The two differ in the weights of the losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The paper.
    Paper,
    /// The configuration of the release.
    Release,
}

/// The learning rate of each part; a part without one is not changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LearningRates {
    /// Of the language model.
    pub language_model: Option<f64>,
    /// Of the vision encoder.
    pub vision_encoder: Option<f64>,
    /// Of the aligner.
    pub aligner: Option<f64>,
    /// Of the segmentation.
    pub segmentation: Option<f64>,
}

impl LearningRates {
    /// The learning rate of a part.
    pub const fn of(&self, part: Part) -> Option<f64> {
        match part {
            Part::LanguageModel => self.language_model,
            Part::VisionEncoder => self.vision_encoder,
            Part::Aligner => self.aligner,
            Part::Segmentation => self.segmentation,
        }
    }
}

/// How a stage is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePlan {
    /// The stage.
    pub stage: Stage,
    /// The tensors that are trained, if their part has a learning rate as well.
    pub trained: NamePatterns,
    /// The learning rates.
    pub rates: LearningRates,
    /// How often all samples are seen.
    pub epochs: u32,
    /// How the losses are computed.
    pub losses: LossSettings,
    /// The scaling of the gradient of the masks, if any.
    pub gradient_scale: Option<GradientScale>,
    /// The constants of the optimizer.
    pub optimizer: AdamWSettings,
    /// The weight decay of tensors that decay.
    pub weight_decay: f64,
    /// The largest norm of all gradients together.
    pub clip_norm: f64,
    /// The steps in which the learning rate rises to its maximum.
    pub warmup_steps: u32,
    /// The rows of a step.
    pub rows_per_step: usize,
    /// The tokens of a row at most.
    pub row_length: usize,
    /// The decay of the moving average of the weights, if one is kept.
    pub average_decay: Option<f64>,
}

/// Why a plan cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanProblem {
    /// Stage 4 would change language model or vision encoder.
    #[error("stage 4 trains the {part}: projector and SAM 2 only are trained in it")]
    NotFrozen {
        /// The name of the part.
        part: &'static str,
    },
    /// A pattern has no tensor.
    #[error("no tensor of the model has the pattern `{0}`")]
    UnusedPattern(String),
    /// Nothing is trained.
    #[error("no tensor is trained: none has a pattern of `trained` and a rate of its part")]
    NothingTrained,
    /// A value is out of its range.
    #[error("`{0}` must be larger than zero")]
    NotPositive(&'static str),
}

impl Stage {
    /// All stages, in their order.
    pub const ALL: [Self; 4] =
        [Self::ConceptAlignment, Self::Comprehension, Self::Instruction, Self::Segmentation];

    /// Its number in the paper.
    pub const fn number(self) -> u8 {
        match self {
            Self::ConceptAlignment => 1,
            Self::Comprehension => 2,
            Self::Instruction => 3,
            Self::Segmentation => 4,
        }
    }

    /// The tensors that this stage trains.
    fn trained(self) -> NamePatterns {
        match self {
            Self::ConceptAlignment => NamePatterns::new(&[VISION]),
            Self::Comprehension => NamePatterns::new(&[MULTIMODAL]),
            Self::Instruction => NamePatterns::new(&[MULTIMODAL, PROJECTOR, SAM]),
            Self::Segmentation => NamePatterns::new(&[PROJECTOR, SAM]),
        }
    }

    /// The learning rates of the paper.
    ///
    /// Stage 3 trains the segmentation too, but the paper gives no learning rate for it, and the
    /// optimizer of the release has no group for it: it is not changed unless a plan sets a rate.
    fn rates(self) -> LearningRates {
        let multimodal = LearningRates {
            language_model: Some(1e-5),
            vision_encoder: Some(2e-6),
            aligner: Some(1e-5),
            segmentation: None,
        };
        match self {
            Self::ConceptAlignment => LearningRates { language_model: None, ..multimodal },
            Self::Comprehension | Self::Instruction => multimodal,
            Self::Segmentation => {
                LearningRates { segmentation: Some(8e-5), ..LearningRates::default() }
            }
        }
    }

    const fn epochs(self) -> u32 {
        match self {
            Self::ConceptAlignment => 1,
            Self::Comprehension => 2,
            Self::Instruction => 3,
            Self::Segmentation => 10,
        }
    }

    /// The plan of the paper for this stage, with the losses of paper or release.
    pub fn plan(self, source: Source) -> StagePlan {
        let losses = match source {
            Source::Paper => {
                LossSettings { weights: LossWeights::PAPER, smoothing: DiceSmoothing::PAPER }
            }
            Source::Release => {
                LossSettings { weights: LossWeights::RELEASE, smoothing: DiceSmoothing::RELEASE }
            }
        };
        let scale = GradientScale { at: ScaledModules::ProjectorOutput, factor: 0.001 };
        StagePlan {
            stage: self,
            trained: self.trained(),
            rates: self.rates(),
            epochs: self.epochs(),
            losses,
            gradient_scale: (self == Self::Instruction).then_some(scale),
            optimizer: AdamWSettings::default(),
            weight_decay: 0.1,
            clip_norm: 1.0,
            warmup_steps: 100,
            rows_per_step: 64,
            row_length: 12_288,
            average_decay: None,
        }
    }
}

impl StagePlan {
    /// Whether a tensor is trained, by its canonical name.
    pub fn trains(&self, canonical: &str) -> bool {
        self.rates.of(Part::of(canonical)).is_some()
            && !is_constant(canonical)
            && self.trained.matches(canonical)
    }

    /// All reasons for which the plan cannot be carried out on a model with these tensors.
    pub fn problems(&self, canonical: &[&str]) -> Vec<PlanProblem> {
        let mut problems: Vec<PlanProblem> =
            self.not_positive().into_iter().map(PlanProblem::NotPositive).collect();
        let unused = self.trained.unused(canonical).into_iter();
        problems.extend(unused.map(|it| PlanProblem::UnusedPattern(it.to_owned())));
        let trained: Vec<&str> = canonical.iter().copied().filter(|it| self.trains(it)).collect();
        if trained.is_empty() {
            problems.push(PlanProblem::NothingTrained);
        }
        for part in [Part::LanguageModel, Part::VisionEncoder, Part::Aligner] {
            let is_trained = trained.iter().any(|it| Part::of(it) == part);
            if self.stage == Stage::Segmentation && is_trained {
                problems.push(PlanProblem::NotFrozen { part: part.name() });
            }
        }
        problems
    }

    /// The values that must be larger than zero and are not.
    fn not_positive(&self) -> Vec<&'static str> {
        let mut rates = Part::ALL.iter().filter_map(|it| self.rates.of(*it));
        let are_rates_positive = rates.all(|it| it > 0.0);
        [
            ("rates", are_rates_positive),
            ("epochs", self.epochs > 0),
            ("clip_norm", self.clip_norm > 0.0),
            ("rows_per_step", self.rows_per_step > 0),
            ("row_length", self.row_length > 0),
        ]
        .into_iter()
        .filter(|(_, is_positive)| !is_positive)
        .map(|(name, _)| name)
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tensor of each module, by canonical name.
    const NAMES: [&str; 6] = [
        "language_model.layers.0.mlp.up_proj.weight",
        "lm_head.weight",
        "visual.blocks.0.attn.qkv.weight",
        "visual.merger.ln_q.weight",
        "seg_projector.0.weight",
        "sam.no_mem_embed",
    ];

    #[test]
    fn pap_50_each_stage_trains_the_modules_of_the_table() {
        for (stage, expected) in [
            (Stage::ConceptAlignment, [false, false, true, true, false, false]),
            (Stage::Comprehension, [true, true, true, true, false, false]),
            (Stage::Instruction, [true, true, true, true, true, true]),
            (Stage::Segmentation, [false, false, false, false, true, true]),
        ] {
            let plan = stage.plan(Source::Paper);
            assert_eq!(NAMES.map(|it| plan.trained.matches(it)), expected, "{stage:?}");
            assert_eq!(plan.problems(&NAMES), [], "{stage:?}");
        }
        let constant = "sam.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix";
        assert!(!Stage::Segmentation.plan(Source::Paper).trains(constant));
    }

    #[test]
    fn pap_51_rates_and_epochs_are_those_of_the_table() {
        for (stage, rates, epochs) in [
            (Stage::ConceptAlignment, [None, Some(2e-6), Some(1e-5), None], 1),
            (Stage::Comprehension, [Some(1e-5), Some(2e-6), Some(1e-5), None], 2),
            (Stage::Instruction, [Some(1e-5), Some(2e-6), Some(1e-5), None], 3),
            (Stage::Segmentation, [None, None, None, Some(8e-5)], 10),
        ] {
            let plan = stage.plan(Source::Paper);
            assert_eq!(Part::ALL.map(|it| plan.rates.of(it)), rates, "{stage:?}");
            assert_eq!(plan.epochs, epochs, "{stage:?}");
            assert_eq!(plan.gradient_scale.is_some(), stage == Stage::Instruction);
        }
    }

    #[test]
    fn pap_52_paper_and_release_weight_the_losses_differently() {
        let weights = |source| {
            let LossWeights { token, dice, mask } = Stage::Instruction.plan(source).losses.weights;
            vec![token, dice, mask]
        };
        assert_eq!(weights(Source::Paper), [1.0, 2.0, 1.0]);
        assert_eq!(weights(Source::Release), [1.0, 1.0, 2.0]);
    }

    #[test]
    fn pap_50_stage_four_is_refused_with_a_language_model_that_is_trained() {
        let mut plan = Stage::Segmentation.plan(Source::Paper);
        plan.trained = NamePatterns::new(&["*"]);
        plan.rates.language_model = Some(1e-5);
        let expected = PlanProblem::NotFrozen { part: Part::LanguageModel.name() };
        assert_eq!(plan.problems(&NAMES), [expected]);
    }

    #[test]
    fn every_problem_of_a_plan_is_told_at_once() {
        let mut plan = Stage::ConceptAlignment.plan(Source::Paper);
        plan.trained = NamePatterns::new(&["mllm.visual.*"]);
        plan.epochs = 0;
        assert_eq!(
            plan.problems(&NAMES),
            [
                PlanProblem::NotPositive("epochs"),
                PlanProblem::UnusedPattern("mllm.visual.*".to_owned()),
                PlanProblem::NothingTrained,
            ]
        );
    }
}
