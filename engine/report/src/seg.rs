//! DICOM Segmentation (PS3.3, A.51; requirements OUT-10..20): BINARY, and where a destination wants it,
//! FRACTIONAL or LABELMAP.

use std::collections::BTreeMap;

use contracts::SegmentationForm;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::{Code, ResultSet, Segment, Segmentation, VolumeGeometry, derived_uid};

use crate::dataset::{self, SeriesAbout, Set, code_item, common, parameters, reference};
use crate::status::Words;
use crate::writing::{About, ReportError, StudyAbout};

/// High enough to stand behind the series of a scanner.
const SERIES_NUMBER: u32 = 9001;

/// Where a segmentation of a run goes: its series and instance, the same on every try (DIN-64).
pub fn uids(results: &ResultSet, index: usize, form: SegmentationForm) -> (String, String) {
    let kind = match form {
        SegmentationForm::Binary => "seg",
        SegmentationForm::Fractional => "fractional",
        SegmentationForm::Labelmap => "labelmap",
    };
    dataset::uids(results, kind, index)
}

/// One frame: a segment on a plane; of a label map, a plane.
struct Frame {
    segment: Option<usize>,
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
    (words, form): (Words, SegmentationForm),
) -> Result<Vec<u8>, ReportError> {
    let (series_uid, instance_uid) = uids(results, index, form);
    let labels: Vec<&str> = segmentation.segments.iter().map(|it| it.label.as_str()).collect();
    let series = SeriesAbout {
        modality: "SEG",
        uid: &series_uid,
        number: SERIES_NUMBER,
        description: &words.series(&labels.join(", ")),
        instance: u32::try_from(index + 1).unwrap_or(u32::MAX),
    };
    let (frames, pixels) = frames(segmentation, masks, form)?;
    let class = form.sop_class();
    let set = common(about, study, &series, (class, &instance_uid), results);
    let set = image(set, &segmentation.geometry, frames.len(), form);
    let set = references(set, segmentation);
    let set = dimensions(set, &derived_uid(&[&instance_uid, "dimensions"]), segmentation, form);
    let segments = segmentation.segments.iter().enumerate();
    let segments = segments.map(|(at, it)| segment(at, it, segmentation, results));
    let segments =
        (form == SegmentationForm::Labelmap).then(background).into_iter().chain(segments);
    let description = if words.needs_banner { "AI draft, not verified" } else { "" };
    let set = set
        .text(tags::SEGMENTATION_TYPE, VR::CS, form.segmentation_type())
        .sequence(tags::SEGMENT_SEQUENCE, segments.collect())
        .text(tags::CONTENT_LABEL, VR::CS, "SEGMENTATION")
        .text(tags::CONTENT_DESCRIPTION, VR::LO, description)
        .text(tags::CONTENT_CREATOR_NAME, VR::PN, &creator(results))
        .sequence(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared(&segmentation.geometry)])
        .sequence(
            tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
            frames.iter().map(|it| per_frame(it, segmentation)).collect(),
        )
        .bytes(tags::PIXEL_DATA, VR::OB, pixels);
    set.to_file(class, &instance_uid)
}

/// Who made it what it is: a person, once one has.
fn creator(results: &ResultSet) -> String {
    results.attested.as_ref().map(|it| it.by.dicom_name()).unwrap_or_default()
}

/// The planes on which something is set, and their pixels one after the other (OUT-10, OUT-11).
fn frames(
    segmentation: &Segmentation,
    masks: &BTreeMap<String, Vec<u8>>,
    form: SegmentationForm,
) -> Result<(Vec<Frame>, Vec<u8>), ReportError> {
    let geometry = &segmentation.geometry;
    let (pixels, planes) = (geometry.pixels(), geometry.slices());
    let mask = |it: &Segment| {
        let mask =
            masks.get(&it.mask.sha256).filter(|it| it.len() == (pixels * planes).div_ceil(8));
        mask.map(Vec::as_slice).ok_or(ReportError::MaskMissing)
    };
    let masks: Vec<&[u8]> =
        segmentation.segments.iter().map(mask).collect::<Result<_, ReportError>>()?;
    let (frames, mut written) = match form {
        SegmentationForm::Labelmap => labelled(&masks, pixels, planes)?,
        SegmentationForm::Binary | SegmentationForm::Fractional => {
            separate(&masks, pixels, planes, form)
        }
    };
    if frames.is_empty() {
        return Err(ReportError::NothingToSend("seg"));
    }
    written.resize(written.len().next_multiple_of(2), 0);
    Ok((frames, written))
}

/// The flags of one plane of a mask.
fn plane(mask: &[u8], pixels: usize, plane: usize) -> impl Iterator<Item = bool> {
    (plane * pixels..(plane + 1) * pixels).map(|at| encoding::bits::is_set(mask, at))
}

/// A frame for each segment and plane.
fn separate(
    masks: &[&[u8]],
    pixels: usize,
    planes: usize,
    form: SegmentationForm,
) -> (Vec<Frame>, Vec<u8>) {
    let mut frames = Vec::new();
    let mut kept = Vec::new();
    for (segment, mask) in masks.iter().enumerate() {
        for index in (0..planes).filter(|it| plane(mask, pixels, *it).any(|it| it)) {
            frames.push(Frame { segment: Some(segment), plane: index });
            kept.push((*mask, index));
        }
    }
    let flags = kept.into_iter().flat_map(|(mask, index)| plane(mask, pixels, index));
    let written = match form {
        SegmentationForm::Fractional => flags.map(|it| if it { u8::MAX } else { 0 }).collect(),
        _ => encoding::bits::pack(flags),
    };
    (frames, written)
}

/// The number of a segment in each pixel, nought being none; every plane on which there is one.
fn labelled(
    masks: &[&[u8]],
    pixels: usize,
    planes: usize,
) -> Result<(Vec<Frame>, Vec<u8>), ReportError> {
    let (mut frames, mut written) = (Vec::new(), Vec::new());
    for index in 0..planes {
        let mut labels = vec![0_u8; pixels];
        for (segment, mask) in masks.iter().enumerate() {
            let number = u8::try_from(segment + 1).map_err(|_| ReportError::Overlapping)?;
            let set = labels.iter_mut().zip(plane(mask, pixels, index)).filter(|(_, it)| *it);
            for (label, _) in set {
                if *label != 0 {
                    return Err(ReportError::Overlapping);
                }
                *label = number;
            }
        }
        if labels.iter().any(|it| *it != 0) {
            frames.push(Frame { segment: None, plane: index });
            written.extend(labels);
        }
    }
    Ok((frames, written))
}

fn image(set: Set, geometry: &VolumeGeometry, frames: usize, form: SegmentationForm) -> Set {
    let size = |it: u32| u16::try_from(it).unwrap_or(u16::MAX);
    let bits = if form == SegmentationForm::Binary { 1 } else { 8 };
    let set = match &geometry.space {
        Some(space) => set
            .text(tags::FRAME_OF_REFERENCE_UID, VR::UI, &space.frame_of_reference)
            .text(tags::POSITION_REFERENCE_INDICATOR, VR::LO, ""),
        None => set.text(tags::PATIENT_ORIENTATION, VR::CS, ""),
    };
    let set = match form {
        SegmentationForm::Binary => set,
        SegmentationForm::Fractional => set
            .text(tags::SEGMENTATION_FRACTIONAL_TYPE, VR::CS, "OCCUPANCY")
            .short(tags::MAXIMUM_FRACTIONAL_VALUE, u16::from(u8::MAX)),
        SegmentationForm::Labelmap => set.short(tags::PIXEL_PADDING_VALUE, 0),
    };
    set.texts(tags::IMAGE_TYPE, VR::CS, &["DERIVED".to_owned(), "PRIMARY".to_owned()])
        .short(tags::SAMPLES_PER_PIXEL, 1)
        .text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2")
        .text(tags::NUMBER_OF_FRAMES, VR::IS, &frames.to_string())
        .short(tags::ROWS, size(geometry.rows))
        .short(tags::COLUMNS, size(geometry.columns))
        .short(tags::BITS_ALLOCATED, bits)
        .short(tags::BITS_STORED, bits)
        .short(tags::HIGH_BIT, bits - 1)
        .short(tags::PIXEL_REPRESENTATION, 0)
        .text(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, if geometry.lossy { "01" } else { "00" })
        .text(
            tags::SEGMENTS_OVERLAP,
            VR::CS,
            if form == SegmentationForm::Labelmap { "NO" } else { "UNDEFINED" },
        )
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

/// Segment first, then position (OUT-18); each only where there is one.
fn dimensions(
    set: Set,
    organization: &str,
    segmentation: &Segmentation,
    form: SegmentationForm,
) -> Set {
    let index = |pointer, group, label: &str| {
        Set::default()
            .text(tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization)
            .tag(tags::DIMENSION_INDEX_POINTER, pointer)
            .tag(tags::FUNCTIONAL_GROUP_POINTER, group)
            .text(tags::DIMENSION_DESCRIPTION_LABEL, VR::LO, label)
    };
    let organization_item =
        Set::default().text(tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization);
    let segment = (form != SegmentationForm::Labelmap).then(|| {
        index(
            tags::REFERENCED_SEGMENT_NUMBER,
            tags::SEGMENT_IDENTIFICATION_SEQUENCE,
            "Referenced Segment Number",
        )
    });
    let position = if segmentation.geometry.space.is_some() {
        Some(index(
            tags::IMAGE_POSITION_PATIENT,
            tags::PLANE_POSITION_SEQUENCE,
            "Image Position Patient",
        ))
    } else if segment.is_none() {
        Some(index(tags::FRAME_LABEL, tags::FRAME_CONTENT_SEQUENCE, "Frame Label"))
    } else {
        None
    };
    set.sequence(tags::DIMENSION_ORGANIZATION_SEQUENCE, vec![organization_item])
        .sequence(tags::DIMENSION_INDEX_SEQUENCE, segment.into_iter().chain(position).collect())
}

fn number(at: usize) -> u16 {
    u16::try_from(at + 1).unwrap_or(u16::MAX)
}

fn segment(at: usize, segment: &Segment, segmentation: &Segmentation, results: &ResultSet) -> Set {
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
        .text(
            tags::SEGMENT_ALGORITHM_TYPE,
            VR::CS,
            if segment.is_edited { "SEMIAUTOMATIC" } else { "AUTOMATIC" },
        )
        .text(tags::SEGMENT_ALGORITHM_NAME, VR::LO, &algorithm.name)
        .sequence(tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE, vec![identification])
        .text(tags::TRACKING_ID, VR::UT, &segment.tracking_id)
        .text(tags::TRACKING_UID, VR::UI, &results.tracking_uid(&segment.tracking_id))
}

/// What a label map says of pixels that belong to no segment.
fn background() -> Set {
    let code = Code::new("125040", "DCM", "Background");
    Set::default()
        .short(tags::SEGMENT_NUMBER, 0)
        .text(tags::SEGMENT_LABEL, VR::LO, "Background")
        .code(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, &code)
        .code(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, &code)
        .text(tags::SEGMENT_ALGORITHM_TYPE, VR::CS, "MANUAL")
}

/// What kind of algorithm: CID 7162. Everything a plugin does counts as such.
pub fn algorithm_family() -> Code {
    Code::new("123110", "DCM", "Artificial Intelligence")
}

fn shared(geometry: &VolumeGeometry) -> Set {
    let Some(space) = &geometry.space else { return Set::default() };
    let orientation = Set::default().decimals(tags::IMAGE_ORIENTATION_PATIENT, &space.orientation);
    let measures = Set::default()
        .decimals(tags::SLICE_THICKNESS, &[space.slice_thickness])
        .decimals(tags::SPACING_BETWEEN_SLICES, &[space.slice_spacing])
        .decimals(tags::PIXEL_SPACING, &geometry.pixel_spacing.unwrap_or_default());
    Set::default()
        .sequence(tags::PLANE_ORIENTATION_SEQUENCE, vec![orientation])
        .sequence(tags::PIXEL_MEASURES_SEQUENCE, vec![measures])
}

fn per_frame(frame: &Frame, segmentation: &Segmentation) -> Set {
    let geometry = &segmentation.geometry;
    let source =
        geometry.instances.get(frame.plane).map(domain::SopInstanceUid::as_str).unwrap_or_default();
    let plane = u32::try_from(frame.plane + 1).unwrap_or(u32::MAX);
    let by_plane = geometry.space.is_some() || frame.segment.is_none();
    let index: Vec<u32> = frame
        .segment
        .map(|it| u32::from(number(it)))
        .into_iter()
        .chain(by_plane.then_some(plane))
        .collect();
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
    let content = match (frame.segment, &geometry.space) {
        (None, None) => content.text(tags::FRAME_LABEL, VR::LO, &plane.to_string()),
        _ => content,
    };
    let set = Set::default()
        .sequence(tags::DERIVATION_IMAGE_SEQUENCE, vec![derivation])
        .sequence(tags::FRAME_CONTENT_SEQUENCE, vec![content]);
    let set = match &geometry.space {
        Some(space) => {
            let position = space.positions.get(frame.plane).copied().unwrap_or_default();
            let plane = Set::default().decimals(tags::IMAGE_POSITION_PATIENT, &position);
            set.sequence(tags::PLANE_POSITION_SEQUENCE, vec![plane])
        }
        None => set,
    };
    match frame.segment {
        Some(segment) => {
            let segment = Set::default().short(tags::REFERENCED_SEGMENT_NUMBER, number(segment));
            set.sequence(tags::SEGMENT_IDENTIFICATION_SEQUENCE, vec![segment])
        }
        None => set,
    }
}
