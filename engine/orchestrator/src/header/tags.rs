//! The attributes of a header that the engine reads (PS3.6, 6).

use encoding::dicom::header::Tag;

pub(crate) const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
pub(crate) const IMAGE_TYPE: Tag = Tag(0x0008, 0x0008);
pub(crate) const SOP_CLASS_UID: Tag = Tag(0x0008, 0x0016);
pub(crate) const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
pub(crate) const STUDY_DATE: Tag = Tag(0x0008, 0x0020);
pub(crate) const STUDY_TIME: Tag = Tag(0x0008, 0x0030);
pub(crate) const ACCESSION_NUMBER: Tag = Tag(0x0008, 0x0050);
pub(crate) const MODALITY: Tag = Tag(0x0008, 0x0060);
pub(crate) const MANUFACTURER: Tag = Tag(0x0008, 0x0070);
pub(crate) const STUDY_DESCRIPTION: Tag = Tag(0x0008, 0x1030);
pub(crate) const SERIES_DESCRIPTION: Tag = Tag(0x0008, 0x103E);
pub(crate) const PATIENT_NAME: Tag = Tag(0x0010, 0x0010);
pub(crate) const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
pub(crate) const ISSUER_OF_PATIENT_ID: Tag = Tag(0x0010, 0x0021);
pub(crate) const PATIENT_BIRTH_DATE: Tag = Tag(0x0010, 0x0030);
pub(crate) const PATIENT_SEX: Tag = Tag(0x0010, 0x0040);
pub(crate) const PATIENT_AGE: Tag = Tag(0x0010, 0x1010);
pub(crate) const BODY_PART_EXAMINED: Tag = Tag(0x0018, 0x0015);
pub(crate) const VIEW_POSITION: Tag = Tag(0x0018, 0x5101);
pub(crate) const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000D);
pub(crate) const SERIES_INSTANCE_UID: Tag = Tag(0x0020, 0x000E);
pub(crate) const STUDY_ID: Tag = Tag(0x0020, 0x0010);
pub(crate) const SERIES_NUMBER: Tag = Tag(0x0020, 0x0011);
pub(crate) const ACQUISITION_NUMBER: Tag = Tag(0x0020, 0x0012);
pub(crate) const INSTANCE_NUMBER: Tag = Tag(0x0020, 0x0013);
pub(crate) const PATIENT_ORIENTATION: Tag = Tag(0x0020, 0x0020);
pub(crate) const IMAGE_POSITION_PATIENT: Tag = Tag(0x0020, 0x0032);
pub(crate) const IMAGE_ORIENTATION_PATIENT: Tag = Tag(0x0020, 0x0037);
pub(crate) const FRAME_OF_REFERENCE_UID: Tag = Tag(0x0020, 0x0052);
pub(crate) const LATERALITY: Tag = Tag(0x0020, 0x0060);
pub(crate) const IMAGE_LATERALITY: Tag = Tag(0x0020, 0x0062);
pub(crate) const REQUESTED_PROCEDURE_ID: Tag = Tag(0x0040, 0x1001);
pub(crate) const PLACER_ORDER_NUMBER: Tag = Tag(0x0040, 0x2016);
pub(crate) const FILLER_ORDER_NUMBER: Tag = Tag(0x0040, 0x2017);
