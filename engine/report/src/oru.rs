//! ORU^R01 through a template (HL7 v2.5.1, 7.3.1; requirements HL7-50..53, HL7-60).

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{Code, ErrorChain, LabRow, Order, ResultSet};
use encoding::hl7_escape::Delimiters;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tera::{Context, Kwargs, State, Tera};

use crate::compose::{About, ReportError};
use crate::narrative::Narrative;
use crate::pdf::{self, Fonts};
use crate::status::{BANNER, Words};

/// Name of the template, in the program and in a site's folder.
pub const ORU: &str = "oru.hl7";

/// Results of imaging (LOINC).
pub(crate) const IMAGING: (&str, &str) = ("18748-4", "Diagnostic imaging study");

/// Results of a laboratory (LOINC; HL7-64).
pub(crate) const LABORATORY: (&str, &str) = ("11502-2", "Laboratory report");

/// Decimal places of measurements: a thousandth of a mL.
const PLACES: usize = 3;

/// Why a template is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file cannot be read.
    #[error("cannot read the template `{file}`")]
    Io {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no template, or does not work out.
    #[error("{0}")]
    Template(String),
}

/// As what a message carries the report itself, beside its findings (HL7-60).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportForm {
    /// Not at all.
    #[default]
    None,
    /// As formatted text (`FT`).
    Text,
    /// As a PDF (`ED`).
    Pdf,
}

/// Whom a message is from and to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MessageHeader {
    /// Name of the destination.
    pub destination: String,
    /// MSH-3.
    pub sending_application: String,
    /// MSH-4.
    pub sending_facility: String,
    /// MSH-5.
    pub receiving_application: String,
    /// MSH-6.
    pub receiving_facility: String,
    /// MSH-18.
    pub character_set: String,
    /// As what it carries the report.
    pub report: ReportForm,
}

/// What a site writes with: templates and fonts.
pub struct Templates {
    tera: Tera,
    fonts: Fonts,
}

#[derive(Serialize)]
struct View<'a> {
    header: &'a MessageHeader,
    control_id: &'a str,
    time: String,
    run: String,
    banner: &'a str,
    status: &'a str,
    report: CodeView<'a>,
    patient: PatientRow,
    orders: Vec<OrderRow>,
    study_uid: String,
    findings: String,
    measurements: Vec<MeasurementRow>,
    laboratory: Vec<LabView>,
    producer: String,
    document: Option<DocumentView>,
}

/// The report itself, in one of its forms.
#[derive(Serialize)]
struct DocumentView {
    /// OBX-2.
    value_type: &'static str,
    text: String,
    /// In base 64.
    pdf: String,
}

#[derive(Serialize)]
struct CodeView<'a> {
    code: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct PatientRow {
    id: String,
    issuer: String,
    /// XPN, delimiters included.
    name: String,
    birth_date: String,
    sex: String,
}

#[derive(Serialize)]
struct OrderRow {
    placer: String,
    filler: String,
    accession: String,
    requested_procedure: String,
    code: String,
    text: String,
    scheme: String,
    observed: String,
}

#[derive(Serialize)]
struct MeasurementRow {
    code: Code,
    of: String,
    value: String,
    unit: Code,
}

#[derive(Serialize)]
struct LabView {
    value_type: &'static str,
    #[serde(flatten)]
    row: LabRow,
    flag: &'static str,
}

impl Templates {
    /// The templates of the program, replaced by those of the same name in `folder`; pages are set in
    /// `fonts`.
    ///
    /// # Errors
    ///
    /// Fails if one cannot be read, or does not work out on an example: a site hears of it when
    /// the engine starts, not when the first report is due.
    pub fn open(folder: Option<&Path>, fonts: Fonts) -> Result<Self, TemplateError> {
        let own = include_str!("../../../templates/hl7/oru.hl7");
        let replaced = folder.map(|it| it.join(ORU)).filter(|it| it.exists());
        let text = match &replaced {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| TemplateError::Io { file: path.display().to_string(), source })?,
            None => own.to_owned(),
        };
        let mut tera = Tera::default();
        tera.register_filter("hl7", |value: &str, _: Kwargs, _: &State| {
            Delimiters::default().escaped(value)
        });
        tera.add_raw_template(ORU, &text).map_err(|it| TemplateError::Template(it.to_string()))?;
        let templates = Self { tera, fonts };
        templates.render(&example())?;
        Ok(templates)
    }

    /// Fills in the message for a run.
    ///
    /// # Errors
    ///
    /// Fails if the template does not work out, or no page can be set.
    pub(crate) fn oru(
        &self,
        results: &ResultSet,
        about: &About,
        words: Words,
        header: &MessageHeader,
        control_id: &str,
    ) -> Result<String, ReportError> {
        let document = self.document(results, about, words, header.report)?;
        Ok(self.render(&view(results, about, words, header, control_id, document))?)
    }

    fn document(
        &self,
        results: &ResultSet,
        about: &About,
        words: Words,
        form: ReportForm,
    ) -> Result<Option<DocumentView>, ReportError> {
        let narrative = || Narrative::of(results, about, words);
        let view = |value_type, text, pdf| Ok(Some(DocumentView { value_type, text, pdf }));
        match form {
            ReportForm::None => Ok(None),
            ReportForm::Text => view("FT", narrative().text(), String::new()),
            ReportForm::Pdf => {
                let pages = pdf::encode(&narrative(), &self.fonts)?;
                view("ED", String::new(), BASE64_STANDARD.encode(pages))
            }
        }
    }

    fn render(&self, view: &View<'_>) -> Result<String, TemplateError> {
        let chain = |error: tera::Error| TemplateError::Template(ErrorChain(&error).to_string());
        let context = Context::from_serialize(view).map_err(chain)?;
        let text = self.tera.render(ORU, &context).map_err(chain)?;
        let segments: Vec<&str> =
            text.lines().map(str::trim_end).filter(|it| !it.is_empty()).collect();
        if !segments.first().is_some_and(|it| it.starts_with("MSH|")) {
            return Err(TemplateError::Template("a message begins with `MSH|`".to_owned()));
        }
        Ok(segments.join("\r") + "\r")
    }
}

fn view<'a>(
    results: &'a ResultSet,
    about: &'a About,
    words: Words,
    header: &'a MessageHeader,
    control_id: &'a str,
    document: Option<DocumentView>,
) -> View<'a> {
    let time = hl7_time(results.concluded);
    let (code, text) = if about.study.is_some() { IMAGING } else { LABORATORY };
    let names: Vec<String> =
        results.algorithms.iter().map(|it| format!("{} {}", it.name, it.version)).collect();
    View {
        header,
        control_id,
        run: results.run.to_string(),
        banner: if words.needs_banner { BANNER } else { "" },
        status: words.hl7,
        report: CodeView { code, text },
        patient: patient(about),
        orders: orders(results, about, &time),
        study_uid: about.study.as_ref().map(|it| it.uid.clone()).unwrap_or_default(),
        findings: findings(results),
        measurements: measurements(results),
        laboratory: results.laboratory.iter().map(laboratory).collect(),
        producer: names.join(", "),
        document,
        time,
    }
}

fn patient(about: &About) -> PatientRow {
    let escape = |it: &str| Delimiters::default().escaped(it);
    // DICOM has prefix before suffix, HL7 suffix before prefix. Groups of DICOM are repetitions.
    let groups: Vec<&str> = about.demographics.name.split('=').collect();
    let name = |(index, group): (usize, &&str)| {
        let part = |at: usize| escape(group.split('^').nth(at).unwrap_or_default());
        let parts = [0, 1, 2, 4, 3].map(part).join("^");
        let parts = parts.trim_end_matches('^').to_owned();
        if groups.len() == 1 {
            return parts;
        }
        let kind = ["A", "I", "P"].get(index).copied().unwrap_or_default();
        let missing = 7_usize.saturating_sub(parts.matches('^').count());
        format!("{parts}{}{kind}", "^".repeat(missing))
    };
    let names: Vec<String> =
        groups.iter().enumerate().filter(|(_, it)| !it.is_empty()).map(name).collect();
    PatientRow {
        id: about.patient.value.clone(),
        issuer: about.patient.issuer.clone(),
        name: names.join("~"),
        birth_date: about.demographics.birth_date.clone(),
        sex: about.demographics.sex.clone(),
    }
}

/// One row per order; one without an order, so that the report can be filed (HL7-42, DIN-65).
fn orders(results: &ResultSet, about: &About, time: &str) -> Vec<OrderRow> {
    let study = about.study.clone().unwrap_or_default();
    let observed = match (study.date.as_str(), study.time.get(..6)) {
        ("", _) => time.to_owned(),
        (date, Some(time)) => format!("{date}{time}"),
        (date, None) => date.to_owned(),
    };
    let row = |order: &Order| OrderRow {
        placer: order.key.placer.clone(),
        filler: if order.key.filler.is_empty() {
            own_filler(results)
        } else {
            order.key.filler.clone()
        },
        accession: if order.key.accession.is_empty() {
            study.accession.clone()
        } else {
            order.key.accession.clone()
        },
        requested_procedure: order.key.requested_procedure.clone(),
        code: order.procedure_code.clone(),
        text: order.procedure.clone(),
        scheme: order.procedure_scheme.clone(),
        observed: observed.clone(),
    };
    // A table made by a machine never goes out under the numbers of the laboratory (HL7-64).
    if about.study.is_some() && !about.orders.is_empty() {
        return about.orders.iter().map(row).collect();
    }
    let (code, text) = if about.study.is_some() { IMAGING } else { LABORATORY };
    vec![OrderRow {
        placer: String::new(),
        filler: own_filler(results),
        accession: study.accession.clone(),
        requested_procedure: String::new(),
        code: code.to_owned(),
        text: text.to_owned(),
        scheme: "LN".to_owned(),
        observed,
    }]
}

/// The same report always has the same number, so that a receiver replaces it (HL7-53).
fn own_filler(results: &ResultSet) -> String {
    results.known_as().simple().to_string().chars().take(20).collect()
}

/// What was found, and what is said in prose. That there is nothing is only said where nobody says anything.
fn findings(results: &ResultSet) -> String {
    let findings = results.findings.iter().map(|it| it.text.clone());
    let prose = results.sections.iter().map(|it| format!("{}:\n{}", it.title.meaning, it.text));
    let lines: Vec<String> = findings.chain(prose).collect();
    if lines.is_empty() { "No findings.".to_owned() } else { lines.join("\n") }
}

fn measurements(results: &ResultSet) -> Vec<MeasurementRow> {
    let segments = results.segmentations.iter().flat_map(|it| &it.segments);
    let row = |of: &str, it: &domain::Measurement| MeasurementRow {
        code: it.code.clone(),
        of: of.to_owned(),
        value: format!("{:.PLACES$}", it.value),
        unit: it.unit.clone(),
    };
    segments.flat_map(|it| it.measurements.iter().map(|m| row(&it.label, m))).collect()
}

fn laboratory(row: &LabRow) -> LabView {
    // NM only for a pure decimal (HL7-60).
    let is_number = row.result.parse::<f64>().is_ok_and(f64::is_finite)
        && row.result.chars().all(|it| it.is_ascii_digit() || ".+-".contains(it));
    let value_type = if is_number { "NM" } else { "ST" };
    LabView { value_type, row: row.clone(), flag: row.abnormality.flag() }
}

fn hl7_time(at: Timestamp) -> String {
    format!("{}+0000", at.strftime("%Y%m%d%H%M%S"))
}

/// Enough of everything to find a misspelt name in a template.
fn example() -> View<'static> {
    static HEADER: MessageHeader = MessageHeader {
        destination: String::new(),
        sending_application: String::new(),
        sending_facility: String::new(),
        receiving_application: String::new(),
        receiving_facility: String::new(),
        character_set: String::new(),
        report: ReportForm::None,
    };
    let text = || "1".to_owned();
    let code = || Code::new("1", "LN", "text");
    let row = LabRow {
        entry_name: text(),
        result: text(),
        reference: text(),
        unit: text(),
        code: text(),
        scheme: text(),
        abnormality: domain::Abnormality::Normal,
        flag_received: text(),
        disagrees: false,
    };
    View {
        header: &HEADER,
        control_id: "1",
        time: text(),
        run: text(),
        banner: BANNER,
        status: "R",
        report: CodeView { code: "1", text: "text" },
        patient: PatientRow {
            id: text(),
            issuer: text(),
            name: text(),
            birth_date: text(),
            sex: text(),
        },
        orders: vec![OrderRow {
            placer: text(),
            filler: text(),
            accession: text(),
            requested_procedure: text(),
            code: text(),
            text: text(),
            scheme: text(),
            observed: text(),
        }],
        study_uid: text(),
        findings: text(),
        measurements: vec![MeasurementRow {
            code: code(),
            of: text(),
            value: text(),
            unit: code(),
        }],
        laboratory: vec![laboratory(&row)],
        producer: text(),
        document: Some(DocumentView { value_type: "FT", text: text(), pdf: text() }),
    }
}
