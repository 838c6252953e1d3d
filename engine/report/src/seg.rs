//! DICOM Segmentation, BINARY (PS3.3, A.51; requirements OUT-10, OUT-11, OUT-14..20).

use std::collections::BTreeMap;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::{Code, ResultSet, Segment, Segmentation, VolumeGeometry, derived_uid};

use crate::compose::{About, ReportError, StudyAbout};
use crate::dataset::{SeriesAbout, Set, code_item, common, parameters, reference};
use crate::status::Words;

/// Segmentation Storage.
pub const SOP_CLASS: &str = "1.2.840.10008.5.1.4.1.1.66.4";

/// High enough to stand behind the series of a scanner.
const SERIES_NUMBER: u32 = 9001;

/// Where a segmentation of a run goes: its series and instance, the same on every try (DIN-64).
pub fn uids(results: &ResultSet, index: usize) -> (String, String) {
    let run = results.name();
    let series = derived_uid(&[&run, "seg", "series"]);
    (series, derived_uid(&[&run, "seg", &index.to_string()]))
}

/// One frame: a segment on a plane.
struct Frame {
    segment: usize,
    plane: usize,
}

/// Writes one segmentation.
///
/// # Errors
///
/// Fails if a mask is missing or of the wrong size.
pub fn encode(
    results: &ResultSet,
    index: usize,
    segmentation: &Segmentation,
    about: &About,
    study: &StudyAbout,
    masks: &BTreeMap<String, Vec<u8>>,
    words: Words,
) -> Result<Vec<u8>, ReportError> {
    let (series_uid, instance_uid) = uids(results, index);
    let labels: Vec<&str> = segmentation.segments.iter().map(|it| it.label.as_str()).collect();
    let prefix = if words.needs_banner { "AI: " } else { "" };
    let series = SeriesAbout {
        modality: "SEG",
        uid: &series_uid,
        number: SERIES_NUMBER,
        description: &format!("{prefix}{}", labels.join(", ")),
        instance: u32::try_from(index + 1).unwrap_or(u32::MAX),
    };
    let (frames, pixels) = frames(segmentation, masks)?;
    let set = common(about, study, &series, (SOP_CLASS, &instance_uid), results.concluded);
    let set = image(set, &segmentation.geometry, frames.len());
    let set = references(set, segmentation);
    let set = dimensions(set, &derived_uid(&[&instance_uid, "dimensions"]));
    let segments = segmentation.segments.iter().enumerate();
    let segments = segments.map(|(at, it)| segment(at, it, segmentation, &instance_uid, words));
    let description = if words.needs_banner { "AI draft, not verified" } else { "" };
    let set = set
        .text(tags::SEGMENTATION_TYPE, VR::CS, "BINARY")
        .sequence(tags::SEGMENT_SEQUENCE, segments.collect())
        .text(tags::CONTENT_LABEL, VR::CS, "SEGMENTATION")
        .text(tags::CONTENT_DESCRIPTION, VR::LO, description)
        .text(tags::CONTENT_CREATOR_NAME, VR::PN, "")
        .sequence(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared(&segmentation.geometry)])
        .sequence(
            tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
            frames.iter().map(|it| per_frame(it, segmentation)).collect(),
        )
        .bytes(tags::PIXEL_DATA, VR::OB, pixels);
    set.to_file(SOP_CLASS, &instance_uid)
}

/// The planes on which something is set, and their bits one after the other (OUT-10, OUT-11).
fn frames(
    segmentation: &Segmentation,
    masks: &BTreeMap<String, Vec<u8>>,
) -> Result<(Vec<Frame>, Vec<u8>), ReportError> {
    let geometry = &segmentation.geometry;
    let plane_bits = geometry.rows as usize * geometry.columns as usize;
    let planes = geometry.positions.len();
    let mut frames = Vec::new();
    let mut flags = Vec::new();
    for (segment, it) in segmentation.segments.iter().enumerate() {
        let mask = masks.get(&it.mask.sha256).ok_or(ReportError::MaskMissing)?;
        if mask.len() != (plane_bits * planes).div_ceil(8) {
            return Err(ReportError::MaskMissing);
        }
        for plane in 0..planes {
            let bits = plane * plane_bits..(plane + 1) * plane_bits;
            let before = flags.len();
            flags.extend(bits.map(|at| encoding::bits::is_set(mask, at)));
            if flags.get(before..).is_some_and(|it| it.contains(&true)) {
                frames.push(Frame { segment, plane });
            } else {
                flags.truncate(before);
            }
        }
    }
    if frames.is_empty() {
        return Err(ReportError::NothingToSend("seg"));
    }
    let mut pixels = encoding::bits::pack(flags);
    pixels.resize(pixels.len().next_multiple_of(2), 0);
    Ok((frames, pixels))
}

fn image(set: Set, geometry: &VolumeGeometry, frames: usize) -> Set {
    let size = |it: u32| u16::try_from(it).unwrap_or(u16::MAX);
    set.texts(tags::IMAGE_TYPE, VR::CS, &["DERIVED".to_owned(), "PRIMARY".to_owned()])
        .text(tags::FRAME_OF_REFERENCE_UID, VR::UI, &geometry.frame_of_reference)
        .text(tags::POSITION_REFERENCE_INDICATOR, VR::LO, "")
        .short(tags::SAMPLES_PER_PIXEL, 1)
        .text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2")
        .text(tags::NUMBER_OF_FRAMES, VR::IS, &frames.to_string())
        .short(tags::ROWS, size(geometry.rows))
        .short(tags::COLUMNS, size(geometry.columns))
        .short(tags::BITS_ALLOCATED, 1)
        .short(tags::BITS_STORED, 1)
        .short(tags::HIGH_BIT, 0)
        .short(tags::PIXEL_REPRESENTATION, 0)
        .text(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, if geometry.lossy { "01" } else { "00" })
        .text(tags::SEGMENTS_OVERLAP, VR::CS, "UNDEFINED")
}

/// Common Instance Reference (PS3.3, C.12.2).
fn references(set: Set, segmentation: &Segmentation) -> Set {
    let geometry = &segmentation.geometry;
    let class = geometry.sop_class.as_str();
    let instances = geometry.instances.iter().map(|it| reference(class, it.as_str())).collect();
    let series = Set::default()
        .text(tags::SERIES_INSTANCE_UID, VR::UI, segmentation.series.as_str())
        .sequence(tags::REFERENCED_INSTANCE_SEQUENCE, instances);
    set.sequence(tags::REFERENCED_SERIES_SEQUENCE, vec![series])
}

/// Segment first, then position (OUT-18).
fn dimensions(set: Set, organization: &str) -> Set {
    let index = |pointer, group, label: &str| {
        Set::default()
            .text(tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization)
            .tag(tags::DIMENSION_INDEX_POINTER, pointer)
            .tag(tags::FUNCTIONAL_GROUP_POINTER, group)
            .text(tags::DIMENSION_DESCRIPTION_LABEL, VR::LO, label)
    };
    let organization_item =
        Set::default().text(tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization);
    set.sequence(tags::DIMENSION_ORGANIZATION_SEQUENCE, vec![organization_item]).sequence(
        tags::DIMENSION_INDEX_SEQUENCE,
        vec![
            index(
                tags::REFERENCED_SEGMENT_NUMBER,
                tags::SEGMENT_IDENTIFICATION_SEQUENCE,
                "Referenced Segment Number",
            ),
            index(
                tags::IMAGE_POSITION_PATIENT,
                tags::PLANE_POSITION_SEQUENCE,
                "Image Position Patient",
            ),
        ],
    )
}

/// UID that names an outlined thing in all encodings of a run (OUT-16).
pub fn tracking_uid(segmentation_uid: &str, number: usize) -> String {
    derived_uid(&[segmentation_uid, "tracking", &number.to_string()])
}

fn number(at: usize) -> u16 {
    u16::try_from(at + 1).unwrap_or(u16::MAX)
}

fn segment(
    at: usize,
    segment: &Segment,
    segmentation: &Segmentation,
    instance_uid: &str,
    words: Words,
) -> Set {
    let algorithm = &segmentation.algorithm;
    let identification = Set::default()
        .code(tags::ALGORITHM_FAMILY_CODE_SEQUENCE, &algorithm_family())
        .text(tags::ALGORITHM_VERSION, VR::LO, &algorithm.version)
        .text(tags::ALGORITHM_PARAMETERS, VR::LT, &parameters(algorithm).join("\r\n"))
        .text(tags::ALGORITHM_NAME, VR::LO, &algorithm.name);
    Set::default()
        .short(tags::SEGMENT_NUMBER, number(at))
        .text(tags::SEGMENT_LABEL, VR::LO, &segment.label)
        .code(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, &segment.category)
        .code(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, &segment.kind)
        .text(tags::SEGMENT_ALGORITHM_TYPE, VR::CS, words.segment_algorithm)
        .text(tags::SEGMENT_ALGORITHM_NAME, VR::LO, &algorithm.name)
        .sequence(tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE, vec![identification])
        .text(tags::TRACKING_ID, VR::UT, &segment.tracking_id)
        .text(tags::TRACKING_UID, VR::UI, &tracking_uid(instance_uid, at))
}

/// What kind of algorithm: CID 7162. Everything a plugin does counts as such.
pub fn algorithm_family() -> Code {
    Code::new("123110", "DCM", "Artificial Intelligence")
}

fn shared(geometry: &VolumeGeometry) -> Set {
    let orientation =
        Set::default().decimals(tags::IMAGE_ORIENTATION_PATIENT, &geometry.orientation);
    let measures = Set::default()
        .decimals(tags::SLICE_THICKNESS, &[geometry.slice_thickness])
        .decimals(tags::SPACING_BETWEEN_SLICES, &[geometry.slice_spacing])
        .decimals(tags::PIXEL_SPACING, &geometry.pixel_spacing);
    Set::default()
        .sequence(tags::PLANE_ORIENTATION_SEQUENCE, vec![orientation])
        .sequence(tags::PIXEL_MEASURES_SEQUENCE, vec![measures])
}

fn per_frame(frame: &Frame, segmentation: &Segmentation) -> Set {
    let geometry = &segmentation.geometry;
    let position = geometry.positions.get(frame.plane).copied().unwrap_or_default();
    let source =
        geometry.instances.get(frame.plane).map(domain::SopInstanceUid::as_str).unwrap_or_default();
    let index =
        [u32::from(number(frame.segment)), u32::try_from(frame.plane + 1).unwrap_or(u32::MAX)];
    let purpose = Code::new("121322", "DCM", "Source image for image processing operation");
    let source = reference(geometry.sop_class.as_str(), source)
        .text(tags::SPATIAL_LOCATIONS_PRESERVED, VR::CS, "YES")
        .code(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, &purpose);
    let derivation = Set::default()
        .sequence(
            tags::DERIVATION_CODE_SEQUENCE,
            vec![code_item(&Code::new("113076", "DCM", "Segmentation"))],
        )
        .sequence(tags::SOURCE_IMAGE_SEQUENCE, vec![source]);
    let content = Set::default().longs(tags::DIMENSION_INDEX_VALUES, &index);
    let plane = Set::default().decimals(tags::IMAGE_POSITION_PATIENT, &position);
    let segment = Set::default().short(tags::REFERENCED_SEGMENT_NUMBER, number(frame.segment));
    Set::default()
        .sequence(tags::DERIVATION_IMAGE_SEQUENCE, vec![derivation])
        .sequence(tags::FRAME_CONTENT_SEQUENCE, vec![content])
        .sequence(tags::PLANE_POSITION_SEQUENCE, vec![plane])
        .sequence(tags::SEGMENT_IDENTIFICATION_SEQUENCE, vec![segment])
}
