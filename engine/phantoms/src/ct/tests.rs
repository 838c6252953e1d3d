//! What is drawn of a body, and whether its masks say so.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::anatomy::LesionKind;

#[test]
fn every_voxel_of_a_mask_has_the_units_of_its_organ() {
    let mut seen = BTreeSet::new();
    for seed in 0..12 {
        let volume = CtVolume::new(seed, 96, 24);
        for index in 0..24 {
            let slice = volume.slice(index);
            for drawn in &slice.phantom.organs {
                seen.insert(drawn.organ);
                let lesions = slice.phantom.lesions.iter().map(|it| &it.mask.pixels);
                let lesions: Vec<&Vec<bool>> = lesions.collect();
                let expected = volume.body.units(Label::Organ(drawn.organ));
                let own = (0..slice.hounsfield.len())
                    .filter(|at| drawn.mask.pixels[*at] && !lesions.iter().any(|it| it[*at]));
                // Noise and unevenness are far smaller than the steps between lung, tissue and bone.
                for at in own {
                    let distance = (f32::from(slice.hounsfield[at]) - expected).abs();
                    assert!(distance < 170.0, "{:?} of {seed}: {distance}", drawn.organ);
                }
            }
        }
    }
    assert_eq!(seen, Organ::ALL.into());
}

#[test]
fn a_lesion_differs_from_what_is_around_it() {
    let mut seen: BTreeMap<LesionKind, usize> = BTreeMap::new();
    for seed in 0..150 {
        let phantom = ct_slice(seed, 128);
        for lesion in &phantom.lesions {
            *seen.entry(lesion.kind).or_default() += 1;
            assert!(area(&lesion.mask) > 5, "{:?} of {seed}", lesion.kind);
            if lesion.kind == LesionKind::Aneurysm {
                continue;
            }
            let mean = |inside: &dyn Fn(usize) -> bool| {
                let all = (0..phantom.grey.len()).filter(|it| inside(*it));
                let values: Vec<f64> = all.map(|it| f64::from(phantom.grey[it])).collect();
                values.iter().sum::<f64>() / values.len() as f64
            };
            let organ = match (lesion.kind, lesion.side) {
                (LesionKind::Nodule | LesionKind::Effusion, Some(side)) => Organ::Lung(side),
                (LesionKind::RenalCyst | LesionKind::RenalCalculus, Some(side)) => {
                    Organ::Kidney(side)
                }
                _ => Organ::Liver,
            };
            let organ = phantom.organs.iter().find(|it| it.organ == organ);
            let organ = &organ.unwrap_or_else(|| panic!("{:?} of {seed}", lesion.kind)).mask;
            let others: Vec<_> = phantom.lesions.iter().map(|it| &it.mask.pixels).collect();
            let inside = mean(&|at| lesion.mask.pixels[at]);
            let around = mean(&|at| organ.pixels[at] && !others.iter().any(|it| it[at]));
            assert!(
                (inside - around).abs() > 15.0,
                "{:?} of {seed}: {inside} {around}",
                lesion.kind
            );
        }
    }
    let kinds: BTreeSet<LesionKind> = seen.keys().copied().collect();
    let expected = LesionKind::OF_CHEST.into_iter().chain(LesionKind::OF_ABDOMEN);
    assert_eq!(kinds, expected.collect());
    assert!(seen.values().all(|it| *it >= 5), "{seen:?}");
}

#[test]
fn lesions_of_a_region_are_those_that_a_report_of_it_tells() {
    for seed in 0..100 {
        let phantom = ct_slice(seed, 64);
        for lesion in &phantom.lesions {
            assert!(phantom.view.kinds().contains(&lesion.kind), "{:?} of {seed}", lesion.kind);
            assert_eq!(lesion.side.is_some(), lesion.kind.has_side());
        }
    }
}

#[test]
fn an_organ_of_one_slice_goes_on_in_the_next() {
    let volume = CtVolume::new(3, 64, 40);
    let middle = |index: u32| {
        let phantom = volume.slice(index).phantom;
        let liver = phantom.organs.iter().find(|it| it.organ == Organ::Liver);
        liver.map(|it| area(&it.mask))
    };
    let areas: Vec<usize> = (12..19).map(|it| middle(it).unwrap()).collect();
    for pair in areas.windows(2) {
        assert!(pair[0].abs_diff(pair[1]) * 4 < pair[0], "{areas:?}");
    }
}
