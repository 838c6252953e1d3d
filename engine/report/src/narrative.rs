//! A report in words, for people: the same content whatever it is printed on.

use domain::{Abnormality, LabRow, Region, ResultSet};

use jiff::Timestamp;

use crate::dataset::made_at;
use crate::status::{BANNER, Words};
use crate::writing::About;

/// Results of imaging (LOINC).
pub(crate) const IMAGING: (&str, &str) = ("18748-4", "Diagnostic imaging study");

/// Results of a laboratory (LOINC; HL7-64).
pub(crate) const LABORATORY: (&str, &str) = ("11502-2", "Laboratory report");

/// Headings of what is listed rather than told in prose.
const LISTED: [&str; 4] = ["Findings", "Measurements", "Regions", "Laboratory"];

/// Decimal places of measurements: a thousandth of a mL.
const PLACES: usize = 3;

/// A report as lines of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrative {
    /// What it is.
    pub title: String,
    /// What has to be seen first, on every page (OUT-03). Nothing, once a person has signed.
    pub banner: &'static str,
    /// Whose it is and what about: a name and a value each.
    pub facts: Vec<(&'static str, String)>,
    /// What was found: headings and their lines.
    pub sections: Vec<(String, Vec<String>)>,
    /// Who made it, and when.
    pub colophon: String,
    /// When.
    pub concluded: Timestamp,
}

impl Narrative {
    /// The report of a run.
    pub fn of(results: &ResultSet, about: &About, words: Words) -> Self {
        let (_, title) = kind(results, about);
        let makers: Vec<String> =
            results.algorithms.iter().map(|it| format!("{} {}", it.name, it.version)).collect();
        let at = made_at(results);
        let time = at.strftime("%Y-%m-%d %H:%M UTC");
        Self {
            title: title.to_owned(),
            banner: if words.needs_banner { BANNER } else { "" },
            facts: facts(results, about),
            sections: sections(results),
            concluded: at,
            colophon: format!("{}, {time}, run {}", makers.join(", "), results.run),
        }
    }

    /// What was found, without what is said in prose: lines of findings, measurements and laboratory.
    pub fn listed(&self) -> Vec<String> {
        let is_listed = |heading: &str| LISTED.contains(&heading);
        let listed = self.sections.iter().filter(|(heading, _)| is_listed(heading));
        listed.flat_map(|(_, lines)| lines.clone()).collect()
    }

    /// All of it as plain text, a line each.
    pub fn text(&self) -> String {
        let mut lines = vec![self.title.clone()];
        if !self.banner.is_empty() {
            lines.push(self.banner.to_owned());
        }
        lines.push(String::new());
        lines.extend(self.facts.iter().map(|(name, value)| format!("{name}: {value}")));
        for (heading, content) in &self.sections {
            lines.extend([String::new(), heading.clone()]);
            lines.extend(content.iter().cloned());
        }
        lines.extend([String::new(), self.colophon.clone()]);
        lines.join("\n")
    }
}

fn facts(results: &ResultSet, about: &About) -> Vec<(&'static str, String)> {
    let who = &about.demographics;
    // Components of a name are read with spaces; alphabetic and ideographic beside each other.
    let name: Vec<String> =
        who.name.split('=').map(|it| it.replace('^', " ").trim().to_owned()).collect();
    let study = about.study.clone().unwrap_or_default();
    let accession = about.orders.first().map(|it| it.key.accession.clone());
    let accession = accession.filter(|it| !it.is_empty()).unwrap_or(study.accession);
    let all = [
        ("Patient", name.join(" ").trim().to_owned()),
        ("Patient ID", about.patient.value.clone()),
        ("Born", who.birth_date.clone()),
        ("Sex", who.sex.clone()),
        ("Accession number", accession),
        ("Study", study.description),
        ("Study date", study.date),
        ("Signed", signed(results)),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// Who stands for it, when, and what the signature means (21 CFR 11.50).
fn signed(results: &ResultSet) -> String {
    let Some(attested) = &results.attested else { return String::new() };
    let Some(meaning) = attested.meaning else { return String::new() };
    let (name, at) = (attested.by.printed_name(), attested.at.strftime("%Y-%m-%d %H:%M UTC"));
    format!("{name}, {}, {at}: {}", attested.by.organization, meaning.name())
}

fn sections(results: &ResultSet) -> Vec<(String, Vec<String>)> {
    let split = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let mut findings: Vec<String> =
        results.findings.iter().flat_map(|it| split(&it.text)).collect();
    if findings.is_empty() && results.sections.is_empty() {
        findings.push("No findings.".to_owned());
    }
    let mut sections = vec![(LISTED[0].to_owned(), findings)];
    let segments = results.segmentations.iter().flat_map(|it| &it.segments);
    let measured = |segment: &domain::Segment, it: &domain::Measurement| {
        let (name, unit) = (&it.code.meaning, &it.unit.value);
        format!("{name} of {}: {:.PLACES$} {unit}", segment.label, it.value)
    };
    let measurements: Vec<String> =
        segments.flat_map(|it| it.measurements.iter().map(move |m| measured(it, m))).collect();
    sections.push((LISTED[1].to_owned(), measurements));
    sections.push((LISTED[2].to_owned(), results.regions.iter().map(region).collect()));
    sections.push((LISTED[3].to_owned(), results.laboratory.iter().map(row).collect()));
    sections.extend(results.sections.iter().map(|it| (it.title.meaning.clone(), split(&it.text))));
    sections.retain(|(_, lines)| !lines.is_empty());
    sections
}

/// What the report is of. A laboratory report that came as pictures is one all the same (HL7-64).
pub(crate) fn kind(results: &ResultSet, about: &About) -> (&'static str, &'static str) {
    let is_imaging = about.study.is_some() && results.laboratory.is_empty();
    if is_imaging { IMAGING } else { LABORATORY }
}

/// Where something was marked, in words.
pub(crate) fn region(region: &Region) -> String {
    let [left, top, right, bottom] = region.corners;
    let Region { label, instance, .. } = region;
    format!("{label}: columns {left} to {right}, rows {top} to {bottom} of image {instance}")
}

fn row(row: &LabRow) -> String {
    let LabRow { entry_name, result, unit, reference, .. } = row;
    let reference =
        if reference.is_empty() { String::new() } else { format!(" (reference {reference})") };
    let flag = match row.abnormality {
        Abnormality::Normal => "",
        it => it.flag(),
    };
    let doubt = if row.doubt.is_empty() {
        String::new()
    } else {
        format!(" (to be checked: {})", row.doubt)
    };
    let line = format!("{entry_name}: {result} {unit}{reference} {flag}");
    format!("{}{doubt}", line.trim_end())
}
