//! Generated images, as their headers and pixels are read.

use std::fs;
use std::io::Cursor;

use dicom_dictionary_std::tags;
use encoding::dicom::file_meta;
use encoding::dicom::header::{Encoding, Header, Tag, read};
use encoding::dicom::implicit_vr;
use fastrand::Rng;
use proptest::prelude::*;
use simulators::phantom::Phantom;
use system_tests::generators::dicom::{Identity, Pixels};
use system_tests::{Scratch, study};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";

/// How far a value may be from what it should be: less than a tenth of any step of the scanner.
const UNIT_TOLERANCE: f64 = 1e-2;

/// Rows and columns of the generated slices.
const SIZE: u16 = 16;

fn one_slice() -> Phantom {
    Phantom { size: SIZE, pixel: 20.0, slices: 1, ..study("generated") }
}

/// A data set without its file meta information.
fn data_set(file: &[u8]) -> Vec<u8> {
    file[file_meta::split(file).unwrap().0..].to_vec()
}

fn header(data: &[u8], syntax: &str) -> Header {
    let length = u64::try_from(data.len()).unwrap();
    read(Cursor::new(data), Some(length), Encoding::of(syntax)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// DIN-80: each value of a CT is what its file states, padding is no tissue, and what leaves
    /// the unit open is refused with the name of the attribute.
    #[test]
    fn din_80_no_value_of_a_ct_is_changed(seed in any::<u64>()) {
        let pixels = Pixels::any(&mut Rng::with_seed(seed), SIZE);
        let scratch = Scratch::default();
        let path = scratch.path("slice.dcm");
        let files = one_slice().files_with(|_, set| pixels.apply_to(set));
        fs::write(&path, &files[0]).unwrap();
        let read = imaging::slice::read(&path);
        if let Some(defect) = pixels.defect {
            let reason = read.err().map(|it| it.to_string()).unwrap_or_default();
            prop_assert!(reason.contains(defect.attribute()), "{defect:?}: {reason}");
            return Ok(());
        }
        let values = read.unwrap().values;
        let expected = pixels.expected();
        prop_assert_eq!(values.len(), expected.len());
        for (value, expected) in values.into_iter().zip(expected) {
            match expected {
                None => prop_assert!(value.is_nan(), "padding is {value} in {pixels:?}"),
                Some(expected) => {
                    let difference = (f64::from(value) - expected).abs();
                    prop_assert!(difference < UNIT_TOLERANCE, "{value}, not {expected}");
                }
            }
        }
    }

    /// DIN-60, DIN-73: identifier, authority and name are read as they were written, in every
    /// character set and in either encoding.
    #[test]
    fn din_73_who_an_image_is_of_is_read_in_every_encoding(seed in any::<u64>()) {
        let identity = Identity::any(&mut Rng::with_seed(seed));
        let files = one_slice().files_with(|_, set| identity.apply_to(set));
        let explicit = data_set(&files[0]);
        let implicit = implicit_vr::written(&explicit).unwrap();
        for (data, syntax) in [(&explicit, EXPLICIT), (&implicit, IMPLICIT)] {
            let header = header(data, syntax);
            let text = |tag: dicom_core::Tag| header.text(Tag(tag.0, tag.1));
            let id = text(tags::PATIENT_ID).unwrap();
            prop_assert!(id.is_lossless);
            prop_assert_eq!(&id.text, &identity.patient_id);
            let issuer = text(tags::ISSUER_OF_PATIENT_ID).map(|it| it.text).unwrap_or_default();
            prop_assert_eq!(issuer, identity.issuer);
            let name = text(tags::PATIENT_NAME).unwrap();
            prop_assert!(name.is_lossless);
            prop_assert_eq!(&name.text, identity.name);
        }
    }

    /// SEC-21: a data set that is cut is refused or read up to the cut, and never as another
    /// patient's.
    #[test]
    fn sec_21_a_data_set_that_is_cut_is_of_nobody_else(seed in any::<u64>(), at in 0.0..1.0_f64) {
        let identity = Identity::any(&mut Rng::with_seed(seed));
        let files = one_slice().files_with(|_, set| identity.apply_to(set));
        let data = data_set(&files[0]);
        let cut = &data[..(data.len() as f64 * at) as usize];
        let length = u64::try_from(cut.len()).unwrap();
        let Ok(header) = read(Cursor::new(cut), Some(length), Encoding::of(EXPLICIT)) else {
            return Ok(());
        };
        let tag = tags::PATIENT_ID;
        let id = header.text(Tag(tag.0, tag.1)).map(|it| it.text);
        prop_assert!(id.is_none_or(|it| it == identity.patient_id));
    }
}
