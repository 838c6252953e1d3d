//! What is drawn of a chest, and whether its masks say so.

use super::*;
use crate::anatomy::LesionKind;

/// The drawing of a seed in an upright pose, and the values of its places.
fn drawn(seed: u64, without: Option<usize>) -> (Drawing, Vec<f32>) {
    let mut random = Random::new(seed, "radiograph");
    let chest = Chest::drawn(&mut random);
    let frame = Frame::new(128, Pose { angle: 0.0, scale: 1.0, shift: [0.0, 0.0] });
    let mut planned = lesions::planned(&chest, &mut random);
    planned.sort_by_key(|it| (it.kind, it.side));
    if let Some(index) = without {
        planned.remove(index);
    }
    let drawing = Drawing::of(&chest, planned, frame);
    let values = drawing.painted(&chest, &Cloud::drawn(&mut Random::new(seed, "cloud")));
    (drawing, values)
}

/// Without noise, a lesion changes its mask and nothing else.
#[test]
fn a_lesion_is_drawn_in_its_mask_and_nowhere_else() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let (whole, values) = drawn(seed, None);
        for (index, (lesion, mask)) in whole.lesions.iter().enumerate() {
            seen.insert(lesion.kind);
            if lesion.kind == LesionKind::Cardiomegaly {
                assert_eq!(*mask, whole.heart);
                continue;
            }
            let (_, other) = drawn(seed, Some(index));
            let changed: Vec<bool> =
                values.iter().zip(&other).map(|(a, b)| a.to_bits() != b.to_bits()).collect();
            assert_eq!(changed, mask.pixels, "{lesion:?} of {seed}");
        }
    }
    assert_eq!(seen, LesionKind::OF_RADIOGRAPH.into());
}

#[test]
fn lesions_around_a_lung_are_no_lung_and_those_within_are() {
    for seed in 0..60 {
        let (drawing, _) = drawn(seed, None);
        for (lesion, mask) in &drawing.lesions {
            let Some(side) = lesion.side else { continue };
            let lung = &drawing.lungs[usize::from(side == Side::Left)];
            let shared = mask.pixels.iter().zip(&lung.pixels).filter(|it| *it.0 && *it.1).count();
            let expected = if lesion.kind.is_pleural() { 0 } else { area(mask) };
            assert_eq!(shared, expected, "{lesion:?} of {seed}");
        }
    }
}

/// On the picture as it comes, with light, focus and noise.
#[test]
fn organs_are_as_bright_as_they_are_drawn() {
    let mean = |phantom: &Phantom, inside: &dyn Fn(usize) -> bool| {
        let all = (0..phantom.grey.len()).filter(|it| inside(*it));
        let values: Vec<f64> = all.map(|it| f64::from(phantom.grey[it])).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    for seed in 0..40 {
        let phantom = radiograph(seed, 128);
        let mask = |organ: Organ| {
            let found = phantom.organs.iter().find(|it| it.organ == organ);
            found.unwrap_or_else(|| panic!("{organ:?} of {seed}")).mask.pixels.clone()
        };
        let lungs = [mask(Organ::Lung(Side::Right)), mask(Organ::Lung(Side::Left))];
        let in_lung = mean(&phantom, &|it| lungs[0][it] || lungs[1][it]);
        for organ in [Organ::Heart, Organ::Spine, Organ::Aorta, Organ::Liver] {
            let pixels = mask(organ);
            assert!(mean(&phantom, &|it| pixels[it]) > in_lung + 25.0, "{organ:?} of {seed}");
        }
        let places = |side: usize| {
            let columns = (0..lungs[side].len()).filter(|it| lungs[side][*it]).map(|it| it % 128);
            let columns: Vec<usize> = columns.collect();
            columns.iter().sum::<usize>() / columns.len()
        };
        // The patient's right is on the left of the picture.
        assert!(places(0) < places(1));
    }
}

#[test]
fn the_same_seed_gives_the_same_picture_and_others_differ() {
    assert_eq!(radiograph(5, 96), radiograph(5, 96));
    assert_ne!(radiograph(5, 96).grey, radiograph(6, 96).grey);
}
