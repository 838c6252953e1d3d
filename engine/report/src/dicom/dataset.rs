//! Data sets, built element by element (PS3.5), and the modules that every object of the engine
//! has.

use contracts::Output;
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR, dicom_value};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;
use domain::{Algorithm, Code, OutputKind, PatientId, ResultSet, derived_uid};
use encoding::dicom::file_meta::FileMeta;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::input::{ReportContext, ReportError, ReportInput, StudyDescription};

/// Explicit VR Little Endian (OUT-20).
const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";

/// A data set under construction.
#[derive(Clone, Debug)]
pub(crate) struct DataSet(InMemDicomObject);

impl Default for DataSet {
    fn default() -> Self {
        Self(InMemDicomObject::new_empty())
    }
}

impl DataSet {
    /// Adds text, cut to the length that its VR holds. A backslash is replaced, since it would
    /// separate two values, and so are control characters, but for line breaks where the VR has
    /// lines.
    #[must_use]
    pub(crate) fn text(mut self, tag: Tag, vr: VR, value: &str) -> Self {
        let length_max = match vr {
            VR::SH | VR::CS | VR::AE | VR::DS => 16,
            VR::LO | VR::UI => 64,
            VR::ST => 1024,
            _ => usize::MAX,
        };
        let is_text = !matches!(vr, VR::CS | VR::DS | VR::IS);
        let value = if is_text { value.replace('\\', "/") } else { value.to_owned() };
        let has_lines = matches!(vr, VR::ST | VR::LT | VR::UT);
        let is_unfit = |it: char| it.is_control() && !(has_lines && matches!(it, '\n' | '\r'));
        let value: String =
            value.chars().take(length_max).map(|it| if is_unfit(it) { ' ' } else { it }).collect();
        let value = value.trim_end_matches(' ').to_owned();
        let value = if value.is_empty() { PrimitiveValue::Empty } else { value.into() };
        self.0.put(DataElement::new(tag, vr, value));
        self
    }

    /// Adds an identifier of at most sixteen characters. A longer one is left empty, and so is one
    /// with characters that have no place in it: changed, it would be the identifier of something
    /// else (HL7-41).
    #[must_use]
    pub(crate) fn identifier(self, tag: Tag, value: &str) -> Self {
        let is_unfit = |it: char| it == '\\' || it.is_control();
        let fits = value.chars().count() <= 16 && !value.contains(is_unfit);
        self.text(tag, VR::SH, if fits { value } else { "" })
    }

    /// Adds several values of text, such as an Image Type.
    #[must_use]
    pub(crate) fn texts(mut self, tag: Tag, vr: VR, values: &[String]) -> Self {
        let values = PrimitiveValue::Strs(values.iter().cloned().collect());
        self.0.put(DataElement::new(tag, vr, values));
        self
    }

    /// Adds decimals, each in at most sixteen characters (PS3.5, 6.2).
    #[must_use]
    pub(crate) fn decimals(self, tag: Tag, values: &[f64]) -> Self {
        let values: Vec<String> = values.iter().map(|it| decimal(*it)).collect();
        self.texts(tag, VR::DS, &values)
    }

    /// Adds an unsigned number of 16 bits (US).
    #[must_use]
    pub(crate) fn short(mut self, tag: Tag, value: u16) -> Self {
        self.0.put(DataElement::new(tag, VR::US, dicom_value!(U16, [value])));
        self
    }

    /// Adds unsigned numbers of 32 bits (UL).
    #[must_use]
    pub(crate) fn longs(mut self, tag: Tag, values: &[u32]) -> Self {
        let values = PrimitiveValue::U32(values.iter().copied().collect());
        self.0.put(DataElement::new(tag, VR::UL, values));
        self
    }

    /// Adds a floating point number of double precision (FD).
    #[must_use]
    pub(crate) fn float(mut self, tag: Tag, value: f64) -> Self {
        self.0.put(DataElement::new(tag, VR::FD, dicom_value!(F64, [value])));
        self
    }

    /// Adds floating point numbers of single precision (FL).
    #[must_use]
    pub(crate) fn singles(mut self, tag: Tag, values: &[f64]) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "pixels, and half ones")]
        let values = values.iter().map(|it| *it as f32).collect();
        self.0.put(DataElement::new(tag, VR::FL, PrimitiveValue::F32(values)));
        self
    }

    /// Adds the tag of an element (AT).
    #[must_use]
    pub(crate) fn tag(mut self, tag: Tag, value: Tag) -> Self {
        self.0.put(DataElement::new(tag, VR::AT, dicom_value!(Tags, [value])));
        self
    }

    /// Adds bytes.
    #[must_use]
    pub(crate) fn bytes(mut self, tag: Tag, vr: VR, value: Vec<u8>) -> Self {
        self.0.put(DataElement::new(tag, vr, PrimitiveValue::U8(value.into())));
        self
    }

    /// Adds a sequence.
    #[must_use]
    pub(crate) fn sequence(mut self, tag: Tag, items: Vec<Self>) -> Self {
        let items: Vec<InMemDicomObject> = items.into_iter().map(|it| it.0).collect();
        self.0.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
        self
    }

    /// Adds a sequence of one code.
    #[must_use]
    pub(crate) fn code(self, tag: Tag, code: &Code) -> Self {
        self.sequence(tag, vec![code_item(code)])
    }

    /// Adds signed numbers of 32 bits (SL).
    #[must_use]
    pub(crate) fn signed(mut self, tag: Tag, values: &[i32]) -> Self {
        let values = PrimitiveValue::I32(values.iter().copied().collect());
        self.0.put(DataElement::new(tag, VR::SL, values));
        self
    }

    /// Removes an element.
    #[must_use]
    pub(crate) fn without(mut self, tag: Tag) -> Self {
        self.0.remove_element(tag);
        self
    }

    /// The file with this data set (PS3.10).
    ///
    /// # Errors
    ///
    /// Fails if the library cannot encode it.
    pub(crate) fn to_file(
        &self,
        sop_class: &str,
        sop_instance: &str,
    ) -> Result<Vec<u8>, ReportError> {
        let meta = FileMeta {
            sop_class,
            sop_instance,
            transfer_syntax: EXPLICIT_LITTLE_ENDIAN,
            sending_ae: "",
            receiving_ae: "",
        };
        let mut file = meta.to_bytes();
        self.0
            .write_dataset_with_ts(&mut file, &EXPLICIT_VR_LITTLE_ENDIAN.erased())
            .map_err(|error| ReportError::Unwritable(Box::new(error)))?;
        Ok(file)
    }
}

/// A decimal string of at most sixteen characters.
fn decimal(value: f64) -> String {
    let plain = format!("{value}");
    if plain.len() <= 16 {
        return plain;
    }
    let whole = format!("{}", value.trunc()).len();
    let places = 15_usize.saturating_sub(whole + usize::from(value < 0.0 && value > -1.0));
    let short = format!("{value:.places$}");
    if short.len() <= 16 { short } else { format!("{value:.9e}") }
}

/// The item of a code sequence (PS3.3, 8.8).
pub(crate) fn code_item(code: &Code) -> DataSet {
    let is_short = code.value.chars().count() <= 16;
    let set = if is_short {
        DataSet::default().text(tags::CODE_VALUE, VR::SH, &code.value)
    } else {
        DataSet::default().text(tags::LONG_CODE_VALUE, VR::UC, &code.value)
    };
    set.text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, &code.scheme).text(
        tags::CODE_MEANING,
        VR::LO,
        &code.meaning,
    )
}

/// An item that refers to an instance.
pub(crate) fn reference(sop_class: &str, sop_instance: &str) -> DataSet {
    DataSet::default().text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, sop_class).text(
        tags::REFERENCED_SOP_INSTANCE_UID,
        VR::UI,
        sop_instance,
    )
}

/// Date of a point in time on the clock of the site, as dates of images are (DA).
pub(crate) fn date(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y%m%d").to_string()
}

/// Time of day of a point in time on the clock of the site (TM).
pub(crate) fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%H%M%S").to_string()
}

/// Date and time on the clock of the site (DT).
pub(crate) fn date_time(at: Timestamp) -> String {
    format!("{}{}", date(at), time(at))
}

/// A DICOM object that has been encoded.
pub(crate) struct Object {
    /// Series and instance.
    pub(crate) uids: ObjectUids,
    /// SOP Class UID.
    pub(crate) sop_class: &'static str,
    /// The file (PS3.10).
    pub(crate) file: Vec<u8>,
}

impl Object {
    /// The object as an output of this kind.
    pub(crate) fn into_output(self, kind: OutputKind) -> Output {
        Output {
            kind,
            id: self.uids.instance,
            series: self.uids.series,
            sop_class: self.sop_class.to_owned(),
            bytes: self.file,
            stored: None,
        }
    }
}

/// The UIDs of an object of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectUids {
    /// Series Instance UID.
    pub(crate) series: String,
    /// SOP Instance UID.
    pub(crate) instance: String,
}

impl ObjectUids {
    /// The UIDs of object number `index` of a series of the result. They are derived from its name,
    /// so that they are the same on every attempt (DIN-64).
    pub(crate) fn derive(results: &ResultSet, series: &str, index: usize) -> Self {
        let name = results.name();
        Self {
            series: derived_uid(&[&name, series, "series"]),
            instance: derived_uid(&[&name, series, &index.to_string()]),
        }
    }
}

/// What the modules that every object has are filled in with, beside patient and study.
pub(crate) struct ObjectHeader<'a> {
    /// SOP Class UID.
    pub(crate) sop_class: &'static str,
    /// Series and instance.
    pub(crate) uids: ObjectUids,
    /// Modality.
    pub(crate) modality: &'static str,
    /// Series Number.
    pub(crate) series_number: u32,
    /// Series Description.
    pub(crate) series_description: &'a str,
    /// Position in the series, from zero; Instance Number is one more.
    pub(crate) index: usize,
}

impl ObjectHeader<'_> {
    /// Starts the data set of an object with the modules that every object has: Patient, General
    /// Study, General Series, General Equipment and SOP Common.
    pub(crate) fn data_set(&self, input: &ReportInput<'_>, study: &StudyDescription) -> DataSet {
        let ReportInput { context, .. } = input;
        let engine = &context.engine;
        let at = input.created_at();
        // A day that is none is left open, whoever has sent it.
        let birth_date = &context.demographics.birth_date;
        let birth_date = encoding::dicom::date_time::date(birth_date).unwrap_or_default();
        let instance_number = u32::try_from(self.index + 1).unwrap_or(u32::MAX);
        let set = DataSet::default()
            .text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192")
            .text(tags::INSTANCE_CREATION_DATE, VR::DA, &date(at))
            .text(tags::INSTANCE_CREATION_TIME, VR::TM, &time(at))
            .text(tags::SOP_CLASS_UID, VR::UI, self.sop_class)
            .text(tags::SOP_INSTANCE_UID, VR::UI, &self.uids.instance)
            .text(tags::STUDY_DATE, VR::DA, &study.date)
            .text(tags::STUDY_TIME, VR::TM, &study.time)
            .text(tags::SERIES_DATE, VR::DA, &date(at))
            .text(tags::SERIES_TIME, VR::TM, &time(at))
            .text(tags::CONTENT_DATE, VR::DA, &date(at))
            .text(tags::CONTENT_TIME, VR::TM, &time(at))
            .identifier(tags::ACCESSION_NUMBER, &study.accession)
            .text(tags::MODALITY, VR::CS, self.modality)
            .text(tags::MANUFACTURER, VR::LO, &engine.manufacturer)
            .text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "")
            .text(tags::SERIES_DESCRIPTION, VR::LO, self.series_description)
            .text(tags::MANUFACTURER_MODEL_NAME, VR::LO, &engine.model)
            .text(tags::PATIENT_NAME, VR::PN, &context.demographics.name)
            .text(tags::PATIENT_ID, VR::LO, &context.patient.value)
            .text(tags::PATIENT_BIRTH_DATE, VR::DA, &birth_date)
            .text(tags::PATIENT_SEX, VR::CS, &context.demographics.sex)
            .text(tags::DEVICE_SERIAL_NUMBER, VR::LO, &engine.serial)
            .text(tags::SOFTWARE_VERSIONS, VR::LO, &engine.version)
            // No plugin claims clearance for clinical use (OUT-61).
            .text(tags::CONTENT_QUALIFICATION, VR::CS, "RESEARCH")
            .sequence(tags::CONTRIBUTING_EQUIPMENT_SEQUENCE, vec![contribution(context, at)])
            .text(tags::STUDY_INSTANCE_UID, VR::UI, &study.uid)
            .text(tags::SERIES_INSTANCE_UID, VR::UI, &self.uids.series)
            .identifier(tags::STUDY_ID, &study.id)
            .text(tags::SERIES_NUMBER, VR::IS, &self.series_number.to_string())
            .text(tags::INSTANCE_NUMBER, VR::IS, &instance_number.to_string());
        let set = if study.description.is_empty() {
            set
        } else {
            set.text(tags::STUDY_DESCRIPTION, VR::LO, &study.description)
        };
        with_issuer(set, &context.patient)
    }

    /// The object with this data set, which [`Self::data_set`] started.
    ///
    /// # Errors
    ///
    /// Fails if the library cannot encode the data set.
    pub(crate) fn object(self, data_set: &DataSet) -> Result<Object, ReportError> {
        let file = data_set.to_file(self.sop_class, &self.uids.instance)?;
        Ok(Object { uids: self.uids, sop_class: self.sop_class, file })
    }
}

/// Adds the issuer of the Patient ID: its name, or its OID as Universal Entity ID (PS3.3, 10.15).
fn with_issuer(set: DataSet, patient: &PatientId) -> DataSet {
    if let Some(oid) = patient.issuer_oid() {
        let qualifiers = DataSet::default().text(tags::UNIVERSAL_ENTITY_ID, VR::UT, oid).text(
            tags::UNIVERSAL_ENTITY_ID_TYPE,
            VR::CS,
            "ISO",
        );
        return set.sequence(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE, vec![qualifiers]);
    }
    if patient.issuer.is_empty() {
        return set;
    }
    set.text(tags::ISSUER_OF_PATIENT_ID, VR::LO, &patient.issuer)
}

/// The contribution of the engine, with its run (OUT-60).
fn contribution(context: &ReportContext, at: Timestamp) -> DataSet {
    let engine = &context.engine;
    DataSet::default()
        .text(tags::MANUFACTURER, VR::LO, &engine.manufacturer)
        .text(tags::MANUFACTURER_MODEL_NAME, VR::LO, &engine.model)
        .text(tags::DEVICE_SERIAL_NUMBER, VR::LO, &engine.serial)
        .text(tags::SOFTWARE_VERSIONS, VR::LO, &engine.version)
        .text(tags::CONTRIBUTION_DATE_TIME, VR::DT, &date_time(at))
        .text(tags::CONTRIBUTION_DESCRIPTION, VR::ST, &format!("run {}", context.run))
        .code(
            tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE,
            &Code::new("109102", "DCM", "Processing Equipment"),
        )
}

/// The parameters of an algorithm, a line `name=value` each (OUT-33).
pub(crate) fn parameters(algorithm: &Algorithm) -> Vec<String> {
    algorithm.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_fit_into_sixteen_characters() {
        for value in
            [0.0, 0.661_468, -158.135_803_222_656_25, 1.0 / 3.0, -1.0 / 3.0, 1e-12, 1e20, -0.1]
        {
            let text = decimal(value);
            assert!(text.len() <= 16, "{text}");
            let again: f64 = text.parse().unwrap();
            assert!((again - value).abs() <= 1e-9 * value.abs().max(1.0), "{text}");
        }
    }

    fn value(set: &DataSet, tag: Tag) -> String {
        set.0.element(tag).unwrap().to_str().unwrap().into_owned()
    }

    #[test]
    fn hl7_41_an_identifier_that_is_too_long_is_left_empty_and_not_cut() {
        let fits = DataSet::default().identifier(tags::ACCESSION_NUMBER, "ABCDEFGH12345678");
        assert_eq!(value(&fits, tags::ACCESSION_NUMBER), "ABCDEFGH12345678");
        let longer = DataSet::default().identifier(tags::ACCESSION_NUMBER, "ABCDEFGH123456789");
        assert_eq!(value(&longer, tags::ACCESSION_NUMBER), "");
    }

    #[test]
    fn hl7_41_an_identifier_with_foreign_characters_is_left_empty_and_not_changed() {
        for foreign in ["A1\\A2", "A1\tA2", "A1\n"] {
            let set = DataSet::default().identifier(tags::STUDY_ID, foreign);
            assert_eq!(value(&set, tags::STUDY_ID), "", "{foreign:?}");
        }
    }

    #[test]
    fn din_76_control_characters_of_an_image_do_not_go_into_objects() {
        let set = DataSet::default().text(tags::STUDY_DESCRIPTION, VR::LO, "CT\u{b}HEAD\u{0}\u{0}");
        assert_eq!(value(&set, tags::STUDY_DESCRIPTION), "CT HEAD");
        let set = DataSet::default().text(tags::TEXT_VALUE, VR::UT, "a\r\nb\tc");
        assert_eq!(value(&set, tags::TEXT_VALUE), "a\r\nb c");
    }

    #[test]
    fn text_is_cut_to_its_vr_and_stays_one_value() {
        let set = DataSet::default().text(tags::STUDY_DESCRIPTION, VR::LO, &"x".repeat(100));
        assert_eq!(value(&set, tags::STUDY_DESCRIPTION).len(), 64);
        let set = DataSet::default().text(tags::STUDY_DESCRIPTION, VR::LO, "head\\neck");
        assert_eq!(value(&set, tags::STUDY_DESCRIPTION), "head/neck");
    }

    #[test]
    fn a_code_longer_than_sixteen_characters_is_a_long_code_value() {
        let short = code_item(&Code::new("1234567890123456", "99X", "short"));
        assert_eq!(value(&short, tags::CODE_VALUE), "1234567890123456");
        let long = code_item(&Code::new("12345678901234567", "99X", "long"));
        assert_eq!(value(&long, tags::LONG_CODE_VALUE), "12345678901234567");
        assert!(long.0.element(tags::CODE_VALUE).is_err());
    }
}
