//! Segmentation (PS3.3, A.51; requirements OUT-10..20): BINARY, and where a destination prefers it,
//! FRACTIONAL or LABELMAP.

use contracts::SegmentationForm;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use domain::{Code, ResultSet, Segment, Segmentation, SopInstanceUid, VolumeGeometry, derived_uid};

use crate::dicom::dataset::{
    DataSet, Object, ObjectHeader, ObjectUids, code_item, parameters, reference,
};
use crate::input::{ReportError, ReportInput, StudyDescription};

/// Series Number, high enough to come after the series of a scanner.
const SERIES_NUMBER: u32 = 9001;

/// Series and instance of segmentation number `index` of a result. Each form has a series of its own.
pub(crate) fn uids(results: &ResultSet, index: usize, form: SegmentationForm) -> ObjectUids {
    let series = match form {
        SegmentationForm::Binary => "seg",
        SegmentationForm::Fractional => "fractional",
        SegmentationForm::Labelmap => "labelmap",
    };
    ObjectUids::derive(results, series, index)
}

/// One frame: a plane of one segment; in a label map, a plane of all segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    /// Position of the segment. `None` in a label map.
    segment: Option<usize>,
    /// Position of the plane.
    plane: usize,
}

/// The frames of a segmentation with the bytes of Pixel Data.
struct EncodedFrames {
    frames: Vec<Frame>,
    pixels: Vec<u8>,
}

/// Encodes the segmentations of a run, an object each.
///
/// # Errors
///
/// Fails if a mask is missing or of the wrong size, or segments cannot be encoded as label map.
pub(crate) fn encode(
    input: &ReportInput<'_>,
    study: &StudyDescription,
) -> Result<Vec<Object>, ReportError> {
    let segmentations = input.results.segmentations.iter().enumerate();
    segmentations.map(|(index, it)| encode_one(input, study, index, it)).collect()
}

fn encode_one(
    input: &ReportInput<'_>,
    study: &StudyDescription,
    index: usize,
    segmentation: &Segmentation,
) -> Result<Object, ReportError> {
    let ReportInput { results, status, .. } = input;
    let form = input.recipient.preferences.segmentation;
    let labels: Vec<&str> = segmentation.segments.iter().map(|it| it.label.as_str()).collect();
    let header = ObjectHeader {
        sop_class: form.sop_class(),
        uids: uids(results, index, form),
        modality: "SEG",
        series_number: SERIES_NUMBER,
        series_description: &status.series_description(&labels.join(", ")),
        index,
    };
    let EncodedFrames { frames, pixels } = encoded_frames(input, segmentation, form)?;
    let dimensions_uid = derived_uid(&[&header.uids.instance, "dimensions"]);
    let set = header.data_set(input, study);
    let set = image(set, &segmentation.geometry, frames.len(), form);
    let set = references(set, segmentation);
    let set = dimensions(set, &dimensions_uid, segmentation, form);
    let description = if status.needs_banner { "AI draft, not verified" } else { "" };
    let set = set
        .text(tags::SEGMENTATION_TYPE, VR::CS, form.segmentation_type())
        .sequence(tags::SEGMENT_SEQUENCE, segments(segmentation, results, form))
        .text(tags::CONTENT_LABEL, VR::CS, "SEGMENTATION")
        .text(tags::CONTENT_DESCRIPTION, VR::LO, description)
        .text(tags::CONTENT_CREATOR_NAME, VR::PN, &creator(results))
        .sequence(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared(&segmentation.geometry)])
        .sequence(
            tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
            frames.iter().map(|it| per_frame(*it, segmentation)).collect(),
        )
        .bytes(tags::PIXEL_DATA, VR::OB, pixels);
    header.object(&set)
}

/// The person who has changed or signed the result, if one has.
fn creator(results: &ResultSet) -> String {
    results.attested.as_ref().map(|it| it.by.dicom_name()).unwrap_or_default()
}

/// The items of the Segment Sequence. A label map describes its background too.
fn segments(
    segmentation: &Segmentation,
    results: &ResultSet,
    form: SegmentationForm,
) -> Vec<DataSet> {
    let segments = segmentation.segments.iter().enumerate();
    let segments = segments.map(|(position, it)| segment(position, it, segmentation, results));
    match form {
        SegmentationForm::Binary | SegmentationForm::Fractional => segments.collect(),
        SegmentationForm::Labelmap => std::iter::once(background()).chain(segments).collect(),
    }
}

/// The planes with at least one pixel in a segment, and their pixels one after the other (OUT-10,
/// OUT-11).
fn encoded_frames(
    input: &ReportInput<'_>,
    segmentation: &Segmentation,
    form: SegmentationForm,
) -> Result<EncodedFrames, ReportError> {
    let pixels = segmentation.geometry.pixels();
    let planes = segmentation.geometry.slices();
    let mut masks = Vec::new();
    for segment in &segmentation.segments {
        let mask = input.masks.get(&segment.mask.sha256);
        let mask = mask.filter(|it| it.len() == (pixels * planes).div_ceil(8));
        masks.push(mask.ok_or(ReportError::MaskMissing)?.as_slice());
    }
    let mut encoded = match form {
        SegmentationForm::Binary => separate(&masks, pixels, planes, binary),
        SegmentationForm::Fractional => separate(&masks, pixels, planes, fractional),
        SegmentationForm::Labelmap => labelled(&masks, pixels, planes)?,
    };
    if encoded.frames.is_empty() {
        return Err(ReportError::NothingToSend("seg"));
    }
    encoded.pixels.resize(encoded.pixels.len().next_multiple_of(2), 0);
    Ok(encoded)
}

/// The pixels of one plane of a mask: whether each is set.
fn plane(mask: &[u8], pixels: usize, plane: usize) -> impl Iterator<Item = bool> {
    (plane * pixels..(plane + 1) * pixels).map(|at| encoding::bits::is_set(mask, at))
}

/// Makes the bytes of Pixel Data from the pixels of all frames: whether each is set.
type PixelEncoder = fn(&mut dyn Iterator<Item = bool>) -> Vec<u8>;

/// One bit per pixel.
fn binary(flags: &mut dyn Iterator<Item = bool>) -> Vec<u8> {
    encoding::bits::pack(flags)
}

/// One byte per pixel: all of it, or none.
fn fractional(flags: &mut dyn Iterator<Item = bool>) -> Vec<u8> {
    flags.map(|is_set| if is_set { u8::MAX } else { 0 }).collect()
}

/// A frame for each segment and plane; `encode` makes bytes of the pixels of all frames.
fn separate(masks: &[&[u8]], pixels: usize, planes: usize, encode: PixelEncoder) -> EncodedFrames {
    let mut frames = Vec::new();
    let mut framed_masks = Vec::new();
    for (segment, mask) in masks.iter().enumerate() {
        for index in (0..planes).filter(|it| plane(mask, pixels, *it).any(|is_set| is_set)) {
            frames.push(Frame { segment: Some(segment), plane: index });
            framed_masks.push(*mask);
        }
    }
    let mut flags =
        frames.iter().zip(framed_masks).flat_map(|(it, mask)| plane(mask, pixels, it.plane));
    let pixels = encode(&mut flags);
    EncodedFrames { frames, pixels }
}

/// For each pixel the number of its segment, zero for none; a frame for each plane with a segment.
fn labelled(masks: &[&[u8]], pixels: usize, planes: usize) -> Result<EncodedFrames, ReportError> {
    let mut encoded = EncodedFrames { frames: Vec::new(), pixels: Vec::new() };
    for index in 0..planes {
        let mut labels = vec![0_u8; pixels];
        for (segment, mask) in masks.iter().enumerate() {
            let number = u8::try_from(segment + 1).map_err(|_| ReportError::Overlapping)?;
            let flags = plane(mask, pixels, index);
            for (label, _) in labels.iter_mut().zip(flags).filter(|(_, is_set)| *is_set) {
                if *label != 0 {
                    return Err(ReportError::Overlapping);
                }
                *label = number;
            }
        }
        if labels.iter().any(|it| *it != 0) {
            encoded.frames.push(Frame { segment: None, plane: index });
            encoded.pixels.extend(labels);
        }
    }
    Ok(encoded)
}

/// Image Pixel, Frame of Reference and Segmentation Image (PS3.3, C.8.20.2).
fn image(
    set: DataSet,
    geometry: &VolumeGeometry,
    frames: usize,
    form: SegmentationForm,
) -> DataSet {
    let bits = match form {
        SegmentationForm::Binary => 1,
        SegmentationForm::Fractional | SegmentationForm::Labelmap => 8,
    };
    let overlap = match form {
        SegmentationForm::Binary | SegmentationForm::Fractional => "UNDEFINED",
        SegmentationForm::Labelmap => "NO",
    };
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
        .short(tags::ROWS, u16::try_from(geometry.rows).unwrap_or(u16::MAX))
        .short(tags::COLUMNS, u16::try_from(geometry.columns).unwrap_or(u16::MAX))
        .short(tags::BITS_ALLOCATED, bits)
        .short(tags::BITS_STORED, bits)
        .short(tags::HIGH_BIT, bits - 1)
        .short(tags::PIXEL_REPRESENTATION, 0)
        .text(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, if geometry.lossy { "01" } else { "00" })
        .text(tags::SEGMENTS_OVERLAP, VR::CS, overlap)
}

/// Common Instance Reference (PS3.3, C.12.2).
fn references(set: DataSet, segmentation: &Segmentation) -> DataSet {
    let geometry = &segmentation.geometry;
    let class = geometry.sop_class.as_str();
    let instances = geometry.instances.iter().map(|it| reference(class, it.as_str())).collect();
    let series = DataSet::default()
        .text(tags::SERIES_INSTANCE_UID, VR::UI, segmentation.series.as_str())
        .sequence(tags::REFERENCED_INSTANCE_SEQUENCE, instances);
    set.sequence(tags::REFERENCED_SERIES_SEQUENCE, vec![series])
}

/// The dimensions of the frames: segment first, then position (OUT-18), each only where there is one.
fn dimensions(
    set: DataSet,
    organization: &str,
    segmentation: &Segmentation,
    form: SegmentationForm,
) -> DataSet {
    let has_space = segmentation.geometry.space.is_some();
    let mut dimensions = Vec::new();
    match form {
        SegmentationForm::Binary | SegmentationForm::Fractional => dimensions.push(Dimension {
            index: tags::REFERENCED_SEGMENT_NUMBER,
            group: tags::SEGMENT_IDENTIFICATION_SEQUENCE,
            label: "Referenced Segment Number",
        }),
        SegmentationForm::Labelmap if has_space => {}
        SegmentationForm::Labelmap => dimensions.push(Dimension {
            index: tags::FRAME_LABEL,
            group: tags::FRAME_CONTENT_SEQUENCE,
            label: "Frame Label",
        }),
    }
    if has_space {
        dimensions.push(Dimension {
            index: tags::IMAGE_POSITION_PATIENT,
            group: tags::PLANE_POSITION_SEQUENCE,
            label: "Image Position Patient",
        });
    }
    let organization_item =
        DataSet::default().text(tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization);
    let dimensions = dimensions.into_iter().map(|it| it.item(organization)).collect();
    set.sequence(tags::DIMENSION_ORGANIZATION_SEQUENCE, vec![organization_item])
        .sequence(tags::DIMENSION_INDEX_SEQUENCE, dimensions)
}

/// A dimension of the frames (PS3.3, C.7.6.17).
struct Dimension {
    /// Dimension Index Pointer.
    index: Tag,
    /// Functional Group Pointer.
    group: Tag,
    /// Dimension Description Label.
    label: &'static str,
}

impl Dimension {
    fn item(&self, organization: &str) -> DataSet {
        DataSet::default()
            .text(tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization)
            .tag(tags::DIMENSION_INDEX_POINTER, self.index)
            .tag(tags::FUNCTIONAL_GROUP_POINTER, self.group)
            .text(tags::DIMENSION_DESCRIPTION_LABEL, VR::LO, self.label)
    }
}

/// Segment Number of the segment at this position.
fn number(position: usize) -> u16 {
    u16::try_from(position + 1).unwrap_or(u16::MAX)
}

fn segment(
    position: usize,
    segment: &Segment,
    segmentation: &Segmentation,
    results: &ResultSet,
) -> DataSet {
    let algorithm = &segmentation.algorithm;
    let identification = DataSet::default()
        .code(tags::ALGORITHM_FAMILY_CODE_SEQUENCE, &algorithm_family())
        .text(tags::ALGORITHM_VERSION, VR::LO, &algorithm.version)
        .text(tags::ALGORITHM_PARAMETERS, VR::LT, &parameters(algorithm).join("\r\n"))
        .text(tags::ALGORITHM_NAME, VR::LO, &algorithm.name);
    DataSet::default()
        .short(tags::SEGMENT_NUMBER, number(position))
        .text(tags::SEGMENT_LABEL, VR::LO, &segment.label)
        .code(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, &segment.category)
        .sequence(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, vec![property_type(segment)])
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

/// What a segment is, with its side as a modifier (CID 244).
fn property_type(segment: &Segment) -> DataSet {
    let kind = code_item(&segment.kind);
    match segment.laterality {
        Some(side) => kind.code(tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE, &side.code()),
        None => kind,
    }
}

/// The pixels of a label map that belong to no segment.
fn background() -> DataSet {
    let code = Code::new("125040", "DCM", "Background");
    DataSet::default()
        .short(tags::SEGMENT_NUMBER, 0)
        .text(tags::SEGMENT_LABEL, VR::LO, "Background")
        .code(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, &code)
        .code(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, &code)
        .text(tags::SEGMENT_ALGORITHM_TYPE, VR::CS, "MANUAL")
}

/// The family of algorithms (CID 7162): every plugin counts as artificial intelligence.
pub(crate) fn algorithm_family() -> Code {
    Code::new("123110", "DCM", "Artificial Intelligence")
}

/// The functional groups that all frames share (PS3.3, C.7.6.16).
fn shared(geometry: &VolumeGeometry) -> DataSet {
    let Some(space) = &geometry.space else { return DataSet::default() };
    let orientation =
        DataSet::default().decimals(tags::IMAGE_ORIENTATION_PATIENT, &space.orientation);
    let measures = DataSet::default()
        .decimals(tags::SLICE_THICKNESS, &[space.slice_thickness])
        .decimals(tags::SPACING_BETWEEN_SLICES, &[space.slice_spacing])
        .decimals(tags::PIXEL_SPACING, &geometry.pixel_spacing.unwrap_or_default());
    DataSet::default()
        .sequence(tags::PLANE_ORIENTATION_SEQUENCE, vec![orientation])
        .sequence(tags::PIXEL_MEASURES_SEQUENCE, vec![measures])
}

/// The functional groups of one frame.
fn per_frame(frame: Frame, segmentation: &Segmentation) -> DataSet {
    let geometry = &segmentation.geometry;
    let source =
        geometry.instances.get(frame.plane).map(SopInstanceUid::as_str).unwrap_or_default();
    let plane = u32::try_from(frame.plane + 1).unwrap_or(u32::MAX);
    let has_plane_index = geometry.space.is_some() || frame.segment.is_none();
    let mut index: Vec<u32> = Vec::new();
    index.extend(frame.segment.map(|segment| u32::from(number(segment))));
    index.extend(has_plane_index.then_some(plane));
    let purpose = Code::new("121322", "DCM", "Source image for image processing operation");
    let source = reference(geometry.sop_class.as_str(), source)
        .text(tags::SPATIAL_LOCATIONS_PRESERVED, VR::CS, "YES")
        .code(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, &purpose);
    let derivation = DataSet::default()
        .sequence(
            tags::DERIVATION_CODE_SEQUENCE,
            vec![code_item(&Code::new("113076", "DCM", "Segmentation"))],
        )
        .sequence(tags::SOURCE_IMAGE_SEQUENCE, vec![source]);
    let content = DataSet::default().longs(tags::DIMENSION_INDEX_VALUES, &index);
    let content = match (frame.segment, &geometry.space) {
        (None, None) => content.text(tags::FRAME_LABEL, VR::LO, &plane.to_string()),
        _ => content,
    };
    let set = DataSet::default()
        .sequence(tags::DERIVATION_IMAGE_SEQUENCE, vec![derivation])
        .sequence(tags::FRAME_CONTENT_SEQUENCE, vec![content]);
    let set = match &geometry.space {
        Some(space) => {
            let position = space.positions.get(frame.plane).copied().unwrap_or_default();
            let plane = DataSet::default().decimals(tags::IMAGE_POSITION_PATIENT, &position);
            set.sequence(tags::PLANE_POSITION_SEQUENCE, vec![plane])
        }
        None => set,
    };
    match frame.segment {
        Some(segment) => {
            let segment =
                DataSet::default().short(tags::REFERENCED_SEGMENT_NUMBER, number(segment));
            set.sequence(tags::SEGMENT_IDENTIFICATION_SEQUENCE, vec![segment])
        }
        None => set,
    }
}
