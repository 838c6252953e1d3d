//! The templates of a site's messages, and the fonts of the pages inside of messages.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use contracts::ReportForm;
use domain::row_keys::ChangeRow;
use domain::{Abnormality, Circumstances, Code, ErrorChain, LabRow};
use encoding::hl7::escape::Delimiters;
use tera::{Context, Kwargs, State, Tera};

use crate::hl7::changes::ChangeView;
use crate::hl7::laboratory;
use crate::hl7::orders::{GroupView, OrderRow};
use crate::hl7::view::{
    CodeView, DocumentView, HeaderView, MeasurementRow, Notice, PatientRow, View, view,
};
use crate::input::{ReportError, ReportInput, TemplateError};
use crate::layout::fonts::Fonts;
use crate::layout::narrative::Narrative;
use crate::layout::pdf;
use crate::status::BANNER;

/// Name of the template of ORU^R01, in the program and in the folder of a site.
const ORU: &str = "oru.hl7";

/// Name of the template of MDM.
const MDM: &str = "mdm.hl7";

/// The templates of the program, by name.
const BUILT_IN: [(&str, &str); 2] = [
    (ORU, include_str!("../../../../templates/hl7/oru.hl7")),
    (MDM, include_str!("../../../../templates/hl7/mdm.hl7")),
];

/// The templates of messages, and the fonts of their pages.
pub struct Templates {
    tera: Tera,
    fonts: Fonts,
}

impl Templates {
    /// The templates of the program, replaced by those of the same name in `folder`. Every template
    /// is rendered with an example, so that a mistake shows when the engine starts, not with the first
    /// report.
    ///
    /// # Errors
    ///
    /// Fails if a template cannot be read, does not parse, or cannot be filled in.
    pub fn open(folder: Option<&Path>, fonts: Fonts) -> Result<Self, TemplateError> {
        let mut tera = Tera::default();
        tera.register_filter("hl7", |value: &str, _: Kwargs, _: &State| {
            Delimiters::default().escaped(value)
        });
        for (name, built_in) in BUILT_IN {
            let replacement = folder.map(|it| read_replacement(&it.join(name))).transpose()?;
            let text = replacement.flatten().unwrap_or_else(|| built_in.to_owned());
            tera.add_raw_template(name, &text)
                .map_err(|error| TemplateError::Template(error.to_string()))?;
        }
        let templates = Self { tera, fonts };
        for (name, _) in BUILT_IN {
            templates.render(name, &example())?;
        }
        Ok(templates)
    }

    /// The fonts of pages.
    pub const fn fonts(&self) -> &Fonts {
        &self.fonts
    }

    /// The ORU^R01 of a run.
    ///
    /// # Errors
    ///
    /// Fails if the template cannot be filled in, or no page can be made.
    pub(crate) fn oru(
        &self,
        input: &ReportInput<'_>,
        control_id: &str,
    ) -> Result<String, ReportError> {
        let document = self.document(input, input.recipient.preferences.report)?;
        Ok(self.render(ORU, &view(input, control_id, document))?)
    }

    /// The MDM of a run. Its document is text, unless the destination prefers pages.
    ///
    /// # Errors
    ///
    /// As for [`Self::oru`].
    pub(crate) fn mdm(
        &self,
        input: &ReportInput<'_>,
        control_id: &str,
    ) -> Result<String, ReportError> {
        let form = match input.recipient.preferences.report {
            ReportForm::None | ReportForm::Text => ReportForm::Text,
            ReportForm::Pdf => ReportForm::Pdf,
        };
        // A cancellation has no content (9.3.11).
        let document = self.document(input, form)?.filter(|_| !input.status.is_withdrawn);
        Ok(self.render(MDM, &view(input, control_id, document))?)
    }

    /// The report itself in this form. The document of a withdrawn result is empty: it replaces what the
    /// receiver has under the same key.
    fn document(
        &self,
        input: &ReportInput<'_>,
        form: ReportForm,
    ) -> Result<Option<DocumentView>, ReportError> {
        let narrative = (!input.status.is_withdrawn).then(|| Narrative::new(input));
        Ok(match form {
            ReportForm::None => None,
            ReportForm::Text => {
                let text = narrative.map(|it| it.text()).unwrap_or_default();
                Some(DocumentView { value_type: "FT", text, pdf: String::new() })
            }
            ReportForm::Pdf => {
                let pages = narrative.map(|it| pdf::encode(&it, &self.fonts)).transpose()?;
                let pdf = pages.map(|it| BASE64_STANDARD.encode(it)).unwrap_or_default();
                Some(DocumentView { value_type: "ED", text: String::new(), pdf })
            }
        })
    }

    /// Fills in a template: one segment a line, empty lines left out.
    fn render(&self, name: &str, view: &View<'_>) -> Result<String, TemplateError> {
        let context = Context::from_serialize(view).map_err(|error| not_filled_in(&error))?;
        let text = self.tera.render(name, &context).map_err(|error| not_filled_in(&error))?;
        let segments: Vec<&str> =
            text.lines().map(str::trim_end).filter(|it| !it.is_empty()).collect();
        if !segments.first().is_some_and(|it| it.starts_with("MSH|")) {
            return Err(TemplateError::Template("a message begins with `MSH|`".to_owned()));
        }
        Ok(segments.join("\r") + "\r")
    }
}

/// The template of a site. Nothing, if it has none of this name: in the place of one that cannot be
/// read, that of the program would say something else.
fn read_replacement(path: &Path) -> Result<Option<String>, TemplateError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TemplateError::Io { file: path.display().to_string(), source }),
    }
}

fn not_filled_in(error: &tera::Error) -> TemplateError {
    TemplateError::Template(ErrorChain(error).to_string())
}

/// Values for every field, to find a misspelt name in a template.
fn example() -> View<'static> {
    View {
        header: HeaderView::default(),
        control_id: "1",
        time: text(),
        run: text(),
        banner: BANNER,
        status: "R",
        observation_status: "R",
        report: CodeView { code: text(), text: text() },
        patient: example_patient(),
        groups: vec![GroupView {
            order: example_order(),
            status: "R",
            parent: text(),
            is_own: true,
            laboratory: vec![laboratory::row(&example_row(), "R")],
        }],
        orders: vec![example_order()],
        study_uid: text(),
        findings: text(),
        changes: vec![ChangeView {
            row: ChangeRow { finding: example_code(), key: text(), change: example_code() },
            is_void: false,
            status: "R",
        }],
        measurements: vec![MeasurementRow {
            code: example_code(),
            of: text(),
            value: text(),
            unit: example_code(),
            key: 1,
            status: "R",
        }],
        laboratory: vec![laboratory::row(&example_row(), "R")],
        producer: text(),
        document: Some(DocumentView { value_type: "FT", text: text(), pdf: text() }),
        notice: Notice {
            event: "T02",
            structure: "MDM_T02",
            number: text(),
            parent: text(),
            completion: "DO",
            availability: "AV",
            signed_by: text(),
            interpreter: text(),
            signed_at: text(),
        },
    }
}

fn example_order() -> OrderRow {
    OrderRow {
        placer: text(),
        filler: text(),
        placer_identifier: text(),
        filler_identifier: text(),
        accession: text(),
        requested_procedure: text(),
        code: text(),
        text: text(),
        scheme: text(),
        observed: text(),
        observed_until: text(),
        specimen: text(),
    }
}

fn example_patient() -> PatientRow {
    PatientRow {
        id: text(),
        issuer: text(),
        authority: text(),
        name: text(),
        birth_date: text(),
        sex: text(),
    }
}

fn example_row() -> LabRow {
    LabRow {
        entry_name: text(),
        result: text(),
        reference: text(),
        unit: text(),
        code: text(),
        scheme: text(),
        abnormality: Abnormality::Normal,
        flag_received: text(),
        disagrees: false,
        doubt: String::new(),
        withdrawn: None,
        key: 1,
        circumstances: Circumstances { notes: vec![text()], ..Circumstances::default() },
        ..LabRow::default()
    }
}

fn example_code() -> Code {
    Code::new("1", "LN", "text")
}

/// Text that is not empty.
fn text() -> String {
    "1".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(name: &str, template: &str) -> Result<Templates, TemplateError> {
        let folder =
            std::env::temp_dir().join(format!("isocenter-templates-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), template).unwrap();
        let opened = Templates::open(Some(&folder), Fonts::default());
        std::fs::remove_dir_all(folder).unwrap();
        opened
    }

    #[test]
    fn the_templates_of_the_program_are_filled_in() {
        assert!(Templates::open(None, Fonts::default()).is_ok());
    }

    #[test]
    fn a_misspelt_name_shows_when_the_engine_starts() {
        let error = open(ORU, "MSH|{{ headr.sending_application }}").err().unwrap().to_string();
        assert!(error.contains("headr"), "{error}");
        assert!(open(MDM, "MSH|{% for %}").is_err());
    }

    #[test]
    fn hl7_50_a_template_of_the_site_that_cannot_be_read_is_not_replaced_by_another() {
        let folder =
            std::env::temp_dir().join(format!("isocenter-templates-{}", uuid::Uuid::now_v7()));
        // A link to itself cannot be followed, not even by root.
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(folder.join(ORU), folder.join(ORU)).unwrap();
        let opened = Templates::open(Some(&folder), Fonts::default());
        std::fs::remove_dir_all(folder).unwrap();
        assert!(matches!(opened.err(), Some(TemplateError::Io { .. })));
    }

    #[test]
    fn a_message_begins_with_its_header() {
        let error = open(ORU, "PID|1").err().unwrap().to_string();
        assert!(error.contains("MSH|"), "{error}");
    }

    #[test]
    fn a_segment_ends_with_a_carriage_return_and_empty_lines_are_left_out() {
        let templates =
            open(ORU, "MSH|{{ control_id }}\n\n  \nPID|{{ patient.id | hl7 }}\n").unwrap();
        assert_eq!(templates.render(ORU, &example()).unwrap(), "MSH|1\rPID|1\r");
    }

    #[test]
    fn the_filter_escapes_what_would_be_a_delimiter() {
        let template = "MSH|{{ \"a|b\" | hl7 }}";
        let templates = open(ORU, template).unwrap();
        assert_eq!(templates.render(ORU, &example()).unwrap(), "MSH|a\\F\\b\r");
    }
}
