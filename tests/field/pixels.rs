//! Images: their values, bits, compression and geometry.

use crate::case::run;
use crate::images::Right::{Measured, MeasuredAsOrRefused, MeasuredOrRefused, Refused, Told};
use crate::images::{check_all, sent};
use crate::site::Kind;

#[test]
fn field_d01_rescale() {
    run(Kind::Hospital, "d01-rescale", async |site, case| {
        let variants = sent(site, case).await;
        let right = [
            ("0-plain", Measured),
            ("a-none", Refused(&["rescale"])),
            ("b-no-intercept", Refused(&["rescale intercept"])),
            ("c-comma-intercept", Refused(&["rescale intercept"])),
            ("d-comma-slope", Refused(&["rescale slope"])),
            ("e-empty-both", Refused(&["rescale"])),
            ("f-slope-0", Refused(&["rescale slope"])),
            ("g-type-US", MeasuredOrRefused),
            ("h-iodine", Refused(&["rescale type"])),
            ("i-modality-lut", Refused(&["lut"])),
            ("j-two-values", MeasuredOrRefused),
            ("k-per-slice", Measured),
            ("l-slope-text", MeasuredOrRefused),
            ("m-no-slope", Refused(&["rescale slope"])),
        ];
        check_all(case, &variants, &right);
    });
}

#[test]
fn field_d02_padding() {
    run(Kind::Hospital, "d02-padding", async |site, case| {
        let variants = sent(site, case).await;
        let right = [
            ("0-minus-2000", Measured),
            ("a-63536-unsigned", Measured),
            ("b-32767", Measured),
            ("c-4095-of-12", Measured),
            // Nothing says that these pixels are padding.
            ("d-63536-unnamed", Told),
            ("f-vr-wrong", Measured),
        ];
        check_all(case, &variants, &right);
    });
}

/// The volume without the four pixels of a slice whose values need a bit more than are stored.
const WITHOUT_METAL_ML: f64 = 1.1136;

#[test]
fn field_d03_stored_bits() {
    run(Kind::Hospital, "d03-stored-bits", async |site, case| {
        let variants = sent(site, case).await;
        let right = [
            ("0-plain", Measured),
            ("a-signed-12-of-16", Measured),
            ("b-overlay-in-high-bits", Measured),
            ("c-high-bit-15", MeasuredOrRefused),
            ("d-32-bits", MeasuredOrRefused),
            ("e-more-than-stored", MeasuredAsOrRefused(WITHOUT_METAL_ML)),
            ("f-ob-16-bits", Measured),
            ("g-excess-bytes", Measured),
            ("h-one-slice-short", Refused(&[])),
        ];
        check_all(case, &variants, &right);
    });
}

#[test]
fn field_d04_compression() {
    run(Kind::Hospital, "d04-compression", async |site, case| {
        let variants = sent(site, case).await;
        let right = [
            ("0-j2k", Measured),
            ("a-j2k-unsigned-stream-signed-header", Measured),
            ("b-j2k-signed-stream-unsigned-header", Measured),
            ("c-j2k-three-fragments", Measured),
            ("d-j2k-13-bits", Measured),
            ("e-rle", Measured),
            ("f-rle-four-fragments", MeasuredOrRefused),
            ("g-jpeg-lossless", Measured),
            ("h-jpeg-lossless-fragments", Measured),
            ("i-jpeg-lossless-57", Measured),
        ];
        check_all(case, &variants, &right);
    });
}

/// The volume of a single slice.
const ONE_SLICE_ML: f64 = 0.096;

#[test]
fn field_d05_geometry() {
    run(Kind::Hospital, "d05-geometry", async |site, case| {
        let variants = sent(site, case).await;
        let right = [
            ("a-reverse", Measured),
            ("b-sagittal", Measured),
            ("c-oblique", Measured),
            ("d-localizer-inside", MeasuredOrRefused),
            ("e-capture-inside", MeasuredOrRefused),
            ("f-two-phases", MeasuredOrRefused),
            ("g-slice-twice", MeasuredOrRefused),
            ("h-tilt", MeasuredOrRefused),
            ("i-gap", Refused(&[])),
            ("j-no-frame-of-reference", MeasuredOrRefused),
            ("k-one-slice", MeasuredAsOrRefused(ONE_SLICE_ML)),
            ("l-jitter", Measured),
            ("m-negative-spacing", Measured),
            ("n-scout-series", Measured),
            ("o-second-kernel", MeasuredOrRefused),
            ("p-mip", MeasuredOrRefused),
            ("q-comma-spacing", Refused(&[])),
        ];
        check_all(case, &variants, &right);
        for name in ["a-reverse", "b-sagittal", "c-oblique", "l-jitter", "m-negative-spacing"] {
            let compared = variants.compared_masks(site, case, name);
            let is_equal = compared.contains("voxels that differ 0 ");
            let is_placed = !compared.contains("position differs");
            case.check(format!("masks of {name}"), is_equal && is_placed, compared);
        }
    });
}

#[test]
fn field_d07_odd_encodings() {
    run(Kind::Hospital, "d07-odd-encodings", async |site, case| {
        let variants = sent(site, case).await;
        let right = [
            ("0-plain", Measured),
            ("a-trailing-zeros", Measured),
            ("b-trailing-one-zero", MeasuredOrRefused),
            ("c-data-set-trailing-padding", Measured),
            ("d-vr-question-marks", MeasuredOrRefused),
            ("e-vr-zero", MeasuredOrRefused),
            ("f-vr-blank", MeasuredOrRefused),
            ("g-un-undefined-implicit-inside", Measured),
            ("h-un-undefined-explicit-inside", MeasuredOrRefused),
            ("i-private-sq-undefined-implicit", Measured),
            ("j-odd-lengths", Measured),
            ("k-private-ob-fragments", MeasuredOrRefused),
            ("l-command-group-inside", Measured),
            ("m-meta-group-inside", Measured),
            ("n-whole-file-as-data-set", MeasuredOrRefused),
            ("o-out-of-order", Measured),
            ("p-element-twice", MeasuredOrRefused),
            ("q-group-lengths", Measured),
            ("r-item-end-missing", MeasuredOrRefused),
            ("s-sequence-end-missing", MeasuredOrRefused),
            ("t-sequence-longer-than-items", MeasuredOrRefused),
            ("u-after-pixels", Measured),
            ("v-explicit-sent-as-implicit", MeasuredOrRefused),
            ("w-implicit-sent-as-explicit", MeasuredOrRefused),
            ("x-nested-20", Measured),
            ("z-pixel-spacing-odd", Measured),
        ];
        check_all(case, &variants, &right);
    });
}

#[test]
fn field_d12_enhanced_ct() {
    run(Kind::Hospital, "d12-enhanced-ct", async |site, case| {
        let variants = sent(site, case).await;
        let right = [
            ("a-enhanced", Refused(&["several frames"])),
            ("b-legacy-converted", Refused(&["several frames"])),
            ("c-frames-in-ct", Refused(&["frames"])),
            ("d-dose-screen", Refused(&[])),
            ("e-plain-and-enhanced", Measured),
        ];
        check_all(case, &variants, &right);
        let mixed = variants.named("e-plain-and-enhanced");
        let told: String = mixed.reports.iter().map(|it| it.text.clone()).collect();
        let is_named = told.contains("Not looked at") && told.contains("Enhanced CT");
        case.check("the enhanced series is named", is_named, told);
    });
}
