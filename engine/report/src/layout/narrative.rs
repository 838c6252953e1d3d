//! The report for people, as headings and lines: the same content whatever it is printed on.

use domain::{Abnormality, Code, LabRow, Measurement, PersonName, Region, ResultSet, Segment};
use jiff::Timestamp;

use crate::input::{ReportContext, ReportInput};
use crate::language::Language;

/// Code (LOINC) of the section with the impression.
pub(crate) const IMPRESSION: &str = "19005-8";

/// Decimal places of measurements: a thousandth of a mL.
pub(crate) const PLACES: usize = 3;

/// The type of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportType {
    /// Results of imaging.
    Imaging,
    /// Results of a laboratory.
    Laboratory,
}

impl ReportType {
    /// The type of the report of a run. A laboratory report that came as images is one all the same
    /// (HL7-64).
    pub(crate) fn of(input: &ReportInput<'_>) -> Self {
        let is_imaging = input.context.study.is_some() && input.results.laboratory.is_empty();
        if is_imaging { Self::Imaging } else { Self::Laboratory }
    }

    /// Its code (LOINC).
    pub(crate) fn code(self) -> Code {
        match self {
            Self::Imaging => Code::new("18748-4", "LN", "Diagnostic imaging study"),
            Self::Laboratory => Code::new("11502-2", "LN", "Laboratory report"),
        }
    }
}

/// A report as lines of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrative {
    /// The type of report.
    pub title: String,
    /// The banner of every page (OUT-03). Empty, once a person has signed.
    pub banner: &'static str,
    /// The language of what the result says.
    pub language: Language,
    /// Patient and study, by name and value.
    pub facts: Vec<Fact>,
    /// The findings.
    pub sections: Vec<NarrativeSection>,
    /// The algorithms that made the report, with time and run.
    pub colophon: String,
    /// When the report was made.
    pub concluded: Timestamp,
    /// What is no part of the report and goes with its pages.
    pub annex: Option<Annex>,
}

/// Pages that follow those of a report, and are no part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annex {
    /// Its heading.
    pub heading: String,
    /// What every reader has to know of it.
    pub notice: String,
    /// The banner of its pages, whoever has signed the report.
    pub banner: &'static str,
    /// Its sections.
    pub sections: Vec<NarrativeSection>,
}

/// A line with a name and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What the value is: `Patient ID`.
    pub name: &'static str,
    /// The value.
    pub value: String,
}

/// A heading with its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarrativeSection {
    /// The heading.
    pub heading: String,
    /// The lines below it.
    pub lines: Vec<String>,
    /// Whether the lines list findings, measurements, regions or laboratory rows. Otherwise they are
    /// prose of the result.
    pub is_list: bool,
}

impl Narrative {
    /// The report of a run, without an annex.
    pub(crate) fn new(input: &ReportInput<'_>) -> Self {
        let ReportInput { results, context, status, .. } = input;
        let algorithms: Vec<String> =
            results.algorithms.iter().map(|it| format!("{} {}", it.name, it.version)).collect();
        let created = input.created_at();
        let time = created.strftime("%Y-%m-%d %H:%M UTC");
        Self {
            title: ReportType::of(input).code().meaning,
            banner: if status.needs_banner { input.label() } else { "" },
            language: input.language(),
            facts: facts(results, context),
            sections: sections(results),
            concluded: created,
            annex: None,
            colophon: format!("{}, {time}, run {}", algorithms.join(", "), results.run),
        }
    }

    /// The lines of findings, measurements, regions and laboratory rows, without prose.
    pub(crate) fn list_lines(&self) -> Vec<String> {
        let lists = self.sections.iter().filter(|section| section.is_list);
        lists.flat_map(|section| section.lines.clone()).collect()
    }

    /// The whole report as plain text.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![self.title.clone()];
        if !self.banner.is_empty() {
            lines.push(self.banner.to_owned());
        }
        lines.push(String::new());
        lines.extend(self.facts.iter().map(|fact| format!("{}: {}", fact.name, fact.value)));
        for section in &self.sections {
            lines.extend([String::new(), section.heading.clone()]);
            lines.extend(section.lines.iter().cloned());
        }
        lines.extend([String::new(), self.colophon.clone()]);
        lines.join("\n")
    }
}

/// Patient, study and signature; what is not known is left out.
fn facts(results: &ResultSet, context: &ReportContext) -> Vec<Fact> {
    let demographics = &context.demographics;
    let study = context.study.clone().unwrap_or_default();
    let ordered = context.orders.first().map(|order| order.key.accession.clone());
    let accession = ordered.filter(|it| !it.is_empty()).unwrap_or(study.accession);
    let mut facts = vec![
        Fact { name: "Patient", value: PersonName::parse(&demographics.name).printed() },
        Fact { name: "Patient ID", value: context.patient.value.clone() },
        Fact { name: "Born", value: demographics.birth_date.clone() },
        Fact { name: "Sex", value: demographics.sex.clone() },
        Fact { name: "Accession number", value: accession },
        Fact { name: "Study", value: study.description },
        Fact { name: "Study date", value: study.date },
        Fact { name: "Signed", value: signature(results).unwrap_or_default() },
    ];
    facts.retain(|fact| !fact.value.is_empty());
    facts
}

/// The person who signed, when, and what the signature means (21 CFR 11.50).
fn signature(results: &ResultSet) -> Option<String> {
    let attested = results.attested.as_ref()?;
    let meaning = attested.meaning?;
    let name = attested.by.printed_name();
    let time = attested.at.strftime("%Y-%m-%d %H:%M UTC");
    Some(format!("{name}, {}, {time}: {}", attested.by.organization, meaning.name()))
}

/// The lists, then the prose; a section without lines is left out.
fn sections(results: &ResultSet) -> Vec<NarrativeSection> {
    let mut findings: Vec<String> =
        results.findings.iter().flat_map(|finding| lines(&finding.text)).collect();
    if findings.is_empty() && results.sections.is_empty() {
        findings.push(no_findings(results).to_owned());
    }
    let mut measurements = Vec::new();
    for segment in results.segmentations.iter().flat_map(|it| &it.segments) {
        measurements.extend(segment.measurements.iter().map(|it| measurement(segment, it)));
    }
    let regions = results.regions.iter().map(region).collect();
    let laboratory = results.laboratory.iter().map(laboratory_row).collect();
    let mut sections = vec![
        list("Findings", findings),
        list("Measurements", measurements),
        list("Regions", regions),
        list("Laboratory", laboratory),
    ];
    sections.extend(results.sections.iter().map(|section| NarrativeSection {
        heading: section.title.meaning.clone(),
        lines: lines(&section.text),
        is_list: false,
    }));
    sections.retain(|section| !section.lines.is_empty());
    sections
}

/// What is stated where nothing was found. That a laboratory result is as usual is stated only where
/// it could be compared.
pub(crate) fn no_findings(results: &ResultSet) -> &'static str {
    let is_compared = |row: &LabRow| row.abnormality != Abnormality::Unknown;
    if results.laboratory.is_empty() {
        "No findings."
    } else if results.laboratory.iter().all(is_compared) {
        "No result is outside of its reference."
    } else {
        "No finding is stated: not every result could be compared with a reference."
    }
}

fn list(heading: &str, lines: Vec<String>) -> NarrativeSection {
    NarrativeSection { heading: heading.to_owned(), lines, is_list: true }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn measurement(segment: &Segment, measurement: &Measurement) -> String {
    let Measurement { code, unit, value, .. } = measurement;
    format!("{} of {}: {value:.PLACES$} {}", code.meaning, segment.label, unit.value)
}

/// A marked box as a line: its label and where it is.
pub(crate) fn region(region: &Region) -> String {
    let [left, top, right, bottom] = region.corners;
    let Region { label, instance, .. } = region;
    format!("{label}: columns {left} to {right}, rows {top} to {bottom} of image {instance}")
}

fn laboratory_row(row: &LabRow) -> String {
    let LabRow { entry_name, result, unit, .. } = row;
    if let Some(reason) = row.withdrawn {
        return format!("{entry_name}: {}", reason.reason());
    }
    let reference = match row.reference.as_str() {
        "" => String::new(),
        reference => format!(" (reference {reference})"),
    };
    let flags: Vec<String> = row.flags().into_iter().filter(|it| it != "N").collect();
    let flag = flags.join(" ");
    let about = &row.circumstances;
    let time = about.observed_at.as_ref().map(domain::ObservedAt::printed).unwrap_or_default();
    let stated = [about.specimen.clone(), time].into_iter().chain(about.notes.iter().cloned());
    let stated: Vec<String> = stated.filter(|it| !it.is_empty()).collect();
    let stated = match stated.join("; ").replace('\n', " ") {
        it if it.is_empty() => it,
        it => format!(" [{it}]"),
    };
    let doubt = match row.doubt.as_str() {
        "" => String::new(),
        doubt => format!(" (to be checked: {doubt})"),
    };
    let line = format!("{entry_name}: {result} {unit}{reference} {flag}");
    format!("{}{stated}{doubt}", line.trim_end())
}
