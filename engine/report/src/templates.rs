//! What a site writes messages with: templates and fonts.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use contracts::ReportForm;
use domain::{Code, ErrorChain, LabRow};
use encoding::hl7::escape::Delimiters;
use tera::{Context, Kwargs, State, Tera};

use crate::fonts::Fonts;
use crate::messages::{
    CodeView, DocumentView, HeaderView, MeasurementRow, Notice, OrderRow, PatientRow, View,
    laboratory, view,
};
use crate::narrative::Narrative;
use crate::pdf;
use crate::status::BANNER;
use crate::writing::{ReportError, TemplateError, Writing};

/// Names of the templates, in the program and in a site's folder.
pub const ORU: &str = "oru.hl7";
/// See [`ORU`].
pub const MDM: &str = "mdm.hl7";

/// The templates of the program.
const OWN: [(&str, &str); 2] = [
    (ORU, include_str!("../../../templates/hl7/oru.hl7")),
    (MDM, include_str!("../../../templates/hl7/mdm.hl7")),
];

/// What a site writes with: templates and fonts.
pub struct Templates {
    tera: Tera,
    fonts: Fonts,
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
        let mut tera = Tera::default();
        tera.register_filter("hl7", |value: &str, _: Kwargs, _: &State| {
            Delimiters::default().escaped(value)
        });
        for (name, own) in OWN {
            let replaced = folder.map(|it| it.join(name)).filter(|it| it.exists());
            let text = match &replaced {
                Some(path) => std::fs::read_to_string(path).map_err(|source| {
                    TemplateError::Io { file: path.display().to_string(), source }
                })?,
                None => own.to_owned(),
            };
            let unusable = |it: tera::Error| TemplateError::Template(it.to_string());
            tera.add_raw_template(name, &text).map_err(unusable)?;
        }
        let templates = Self { tera, fonts };
        for (name, _) in OWN {
            templates.render(name, &example())?;
        }
        Ok(templates)
    }

    /// What pages are set in.
    pub const fn fonts(&self) -> &Fonts {
        &self.fonts
    }

    /// Fills in the message for a run.
    ///
    /// # Errors
    ///
    /// Fails if the template does not work out, or no page can be set.
    pub(crate) fn oru(
        &self,
        writing: &Writing<'_>,
        control_id: &str,
    ) -> Result<String, ReportError> {
        let document = self.document(writing, writing.recipient.preferences.report)?;
        Ok(self.render(ORU, &view(writing, control_id, document))?)
    }

    /// Fills in the document message for a run. A document has content: text, if nothing else is wanted.
    ///
    /// # Errors
    ///
    /// As for [`Self::oru`].
    pub(crate) fn mdm(
        &self,
        writing: &Writing<'_>,
        control_id: &str,
    ) -> Result<String, ReportError> {
        let form = match writing.recipient.preferences.report {
            ReportForm::None => ReportForm::Text,
            other => other,
        };
        // A cancellation has no content (9.3.11).
        let document = self.document(writing, form)?.filter(|_| !writing.words.is_void);
        Ok(self.render(MDM, &view(writing, control_id, document))?)
    }

    fn document(
        &self,
        writing: &Writing<'_>,
        form: ReportForm,
    ) -> Result<Option<DocumentView>, ReportError> {
        if writing.words.is_void {
            // The report that the receiver has is emptied under its own key.
            let value_type = match form {
                ReportForm::None => return Ok(None),
                ReportForm::Text => "FT",
                ReportForm::Pdf => "ED",
            };
            let (text, pdf) = (String::new(), String::new());
            return Ok(Some(DocumentView { value_type, text, pdf }));
        }
        let narrative = || Narrative::of(writing.results, writing.about, writing.words);
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

    fn render(&self, name: &str, view: &View<'_>) -> Result<String, TemplateError> {
        let chain = |error: tera::Error| TemplateError::Template(ErrorChain(&error).to_string());
        let context = Context::from_serialize(view).map_err(chain)?;
        let text = self.tera.render(name, &context).map_err(chain)?;
        let segments: Vec<&str> =
            text.lines().map(str::trim_end).filter(|it| !it.is_empty()).collect();
        if !segments.first().is_some_and(|it| it.starts_with("MSH|")) {
            return Err(TemplateError::Template("a message begins with `MSH|`".to_owned()));
        }
        Ok(segments.join("\r") + "\r")
    }
}

/// Enough of everything to find a misspelt name in a template.
fn example() -> View<'static> {
    let text = || "1".to_owned();
    let code = || Code::new("1", "LN", "text");
    View {
        header: HeaderView::default(),
        control_id: "1",
        time: text(),
        run: text(),
        banner: BANNER,
        status: "R",
        observation_status: "R",
        report: CodeView { code: "1", text: "text" },
        patient: example_patient(),
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
        laboratory: vec![laboratory(&example_row())],
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

fn example_patient() -> PatientRow {
    let text = || "1".to_owned();
    PatientRow { id: text(), issuer: text(), name: text(), birth_date: text(), sex: text() }
}

fn example_row() -> LabRow {
    let text = || "1".to_owned();
    LabRow {
        entry_name: text(),
        result: text(),
        reference: text(),
        unit: text(),
        code: text(),
        scheme: text(),
        abnormality: domain::Abnormality::Normal,
        flag_received: text(),
        disagrees: false,
        doubt: String::new(),
    }
}
