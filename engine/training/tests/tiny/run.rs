//! Steps of the trainer: the loss falls, nothing else changes, and a run can be resumed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use citrus_v::{CitrusV, Weights};
use training::batch::{SampleData, row_input};
use training::error::TrainingError;
use training::forward::row_losses;
use training::losses::BatchCounts;
use training::patterns::NamePatterns;
use training::stages::{LearningRates, PlanProblem, Source, Stage, StagePlan};
use training::trainer::{StepReport, Trainer};

use crate::model::{LOSSES, data, folder, mixed_data, open};

/// All tensors, with one learning rate, in rows of 200 tokens.
fn plan() -> StagePlan {
    StagePlan {
        trained: NamePatterns::new(&["*"]),
        rates: LearningRates {
            language_model: Some(3e-3),
            vision_encoder: Some(3e-3),
            aligner: Some(3e-3),
            segmentation: Some(3e-3),
        },
        losses: LOSSES,
        gradient_scale: None,
        epochs: 12,
        warmup_steps: 2,
        rows_per_step: 8,
        row_length: 200,
        ..Stage::Instruction.plan(Source::Paper)
    }
}

fn lengths(data: &[SampleData]) -> Vec<usize> {
    data.iter().map(|it| it.sample.len()).collect()
}

fn trainer(plan: StagePlan, seed: u64) -> Trainer {
    Trainer::open(&folder(), plan, seed, lengths(&mixed_data()), &Device::Cpu).unwrap()
}

fn steps(trainer: &mut Trainer, count: usize) -> Vec<StepReport> {
    let data = mixed_data();
    (0..count).map(|_| trainer.step(&data).unwrap().unwrap()).collect()
}

fn values(trainer: &Trainer) -> BTreeMap<String, Vec<f32>> {
    let flat = |it: &Tensor| it.flatten_all().unwrap().to_vec1().unwrap();
    let parameters = trainer.parameters().iter();
    parameters.map(|it| (it.name.clone(), flat(it.variable.as_tensor()))).collect()
}

fn temporary(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("training-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn pap_52_steps_on_a_batch_reduce_each_loss() {
    let mut trainer = trainer(plan(), 1);
    assert_eq!(trainer.steps(), 12);
    let reports = steps(&mut trainer, 12);
    assert_eq!(trainer.step(&mixed_data()).unwrap(), None, "the run is over");
    let first = &reports[0];
    let last = &reports[11];
    assert!(last.token < 0.7 * first.token, "{first:?} {last:?}");
    assert!(last.dice < first.dice && last.mask < first.mask, "{first:?} {last:?}");
    assert_eq!(first.counts, last.counts);
}

#[test]
fn pap_50_what_a_stage_does_not_train_stays_to_the_bit() {
    for stage in Stage::ALL {
        let plan = StagePlan {
            row_length: 200,
            rows_per_step: 8,
            warmup_steps: 0,
            ..stage.plan(Source::Paper)
        };
        let of_plan = plan.clone();
        let mut trainer = trainer(plan, 1);
        let source = open(|_| false).weights;
        steps(&mut trainer, 1);
        let parent = temporary(&format!("stage{}", stage.number()));
        trainer.save(&parent.join("new"), &folder()).unwrap();
        let index = citrus_v::CheckpointIndex::read(&parent.join("new")).unwrap();
        let written = Weights::open(index, DType::F32, &Device::Cpu).unwrap();
        let mut changed = 0;
        for name in source.names() {
            let flat = |it: &Weights| {
                it.get(name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let is_same = flat(&source) == flat(&written);
            assert!(is_same || of_plan.trains(name), "{stage:?} changes {name}");
            changed += usize::from(!is_same);
        }
        assert!(changed > 5, "{stage:?} changes {changed} tensors");
        std::fs::remove_dir_all(parent).unwrap();
    }
}

#[test]
fn pap_57_a_run_is_decided_by_its_seed() {
    let run = |seed| {
        let mut trainer = trainer(plan(), seed);
        (steps(&mut trainer, 3), values(&trainer))
    };
    let first = run(1);
    assert!(first == run(1), "the same seed");
    assert!(first != run(2), "another seed");
}

#[test]
fn pap_57_a_resumed_run_is_the_one_that_was_not_interrupted() {
    // Two steps in each epoch, so that one is interrupted within it.
    let plan = StagePlan { rows_per_step: 1, average_decay: Some(0.9), epochs: 3, ..plan() };
    let mut whole = trainer(plan.clone(), 7);
    let expected = steps(&mut whole, 5);
    let mut first = trainer(plan, 7);
    let mut found = steps(&mut first, 3);
    let parent = temporary("resumed");
    let checkpoint = parent.join("step-3");
    first.save(&checkpoint, &folder()).unwrap();
    drop(first);
    let lengths = lengths(&mixed_data());
    let mut second = Trainer::resume(&checkpoint, lengths, &Device::Cpu).unwrap();
    assert_eq!(second.position().step, 3);
    found.extend(steps(&mut second, 2));
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found.total - expected.total).abs() < 1e-6, "{found:?}, not {expected:?}");
    }
    let expected = values(&whole);
    for (name, found) in values(&second) {
        let pairs = found.iter().zip(&expected[&name]);
        assert!(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 1e-6, "{name}");
    }
    // A checkpoint is a model as any other.
    CitrusV::load(&checkpoint, DType::F32, &Device::Cpu).unwrap();
    std::fs::remove_dir_all(parent).unwrap();
}

#[test]
fn pap_52_the_loss_does_not_depend_on_packing() {
    let data = mixed_data();
    let trainable = open(|_| false);
    let config = trainable.model.config();
    let losses = |rows: &[Vec<usize>]| {
        let inputs: Vec<_> = rows
            .iter()
            .map(|it| row_input(&data, it, config.tokens.image, config.vision.merge).unwrap())
            .collect();
        let mut counts = BatchCounts::default();
        for input in &inputs {
            counts += input.row.counts();
        }
        let mut total = 0.0;
        for input in &inputs {
            let losses = row_losses(&trainable.model, input, counts, &LOSSES, None).unwrap();
            if let Some(loss) = losses.total(&LOSSES, None).unwrap() {
                total += f64::from(loss.to_scalar::<f32>().unwrap());
            }
        }
        total
    };
    let alone = losses(&[vec![0], vec![1], vec![2], vec![3], vec![4]]);
    for rows in [vec![vec![0, 1, 2, 3, 4]], vec![vec![4, 3], vec![2, 1, 0]]] {
        assert!((losses(&rows) - alone).abs() < 1e-5, "{rows:?}");
    }
}

#[test]
fn a_batch_without_labels_changes_nothing() {
    let mut silent = data("Is anybody there?", "No.", &[]);
    silent.sample.labels.fill(training::losses::IGNORED);
    let lengths = vec![silent.sample.len()];
    let plan = StagePlan { warmup_steps: 0, ..plan() };
    let mut trainer = Trainer::open(&folder(), plan, 1, lengths, &Device::Cpu).unwrap();
    let before = values(&trainer);
    let report = trainer.step(&[silent]).unwrap().unwrap();
    assert!(report.total.abs() < 1e-12 && report.gradient_norm.abs() < 1e-12, "{report:?}");
    assert!(before == values(&trainer));
}

#[test]
fn a_plan_that_cannot_be_carried_out_is_refused_before_weights_are_read() {
    let plan = StagePlan { trained: NamePatterns::new(&["mllm.visual.*"]), ..plan() };
    let refused = Trainer::open(&folder(), plan, 1, vec![], &Device::Cpu).err().unwrap();
    let TrainingError::Plan(problems) = refused else { panic!("{refused}") };
    assert!(problems.contains(&PlanProblem::NothingTrained));
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_names_its_samples() {
    let mut data = mixed_data();
    let shape = data[1].patches[0].shape().clone();
    data[1].patches[0] = Tensor::full(f32::NAN, shape, &Device::Cpu).unwrap();
    let mut trainer = trainer(StagePlan { warmup_steps: 0, ..plan() }, 1);
    let before = values(&trainer);
    let error = trainer.step(&data).unwrap_err();
    let TrainingError::Diverged { step: 0, samples, .. } = error else { panic!("{error}") };
    assert!(samples.contains(&1));
    assert!(before == values(&trainer), "nothing is changed");
}
