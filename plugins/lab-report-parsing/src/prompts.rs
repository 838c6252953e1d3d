//! The prompts for the shared model: a set for each language, with one for each task and a part for
//! each kind of document. A site replaces any of them; a result names the version that was used.

use std::collections::BTreeMap;

use plugin_toolkit::prompt::Prompt;
use serde::Deserialize;

use crate::document::kind::Kind;
use crate::page::Page;
use crate::vocabulary::is_han;

/// A language of prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Language {
    /// English.
    #[serde(rename = "en")]
    English,
    /// Chinese.
    #[serde(rename = "zh")]
    Chinese,
}

/// What the model is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PromptTask {
    /// The table of a page.
    Table,
    /// The result of an entry.
    Question,
    /// The abnormal entries.
    Abnormal,
}

/// What a site says about prompts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prompts {
    /// The language of all prompts, if it is not that of each page.
    language: Option<Language>,
    /// The prompts in English that the site replaces.
    en: PromptSet,
    /// The prompts in Chinese that the site replaces.
    zh: PromptSet,
}

/// The prompts of a language that a site replaces.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PromptSet {
    table: Option<String>,
    question: Option<String>,
    abnormal: Option<String>,
    document: Option<String>,
    /// The parts about kinds of documents, by the name of the kind.
    kinds: BTreeMap<String, String>,
}

impl Prompts {
    /// The prompt of a task for a page.
    pub(crate) fn of(&self, task: PromptTask, page: &Page) -> Prompt {
        let language = self.language_of(page);
        let set = self.set(language);
        let (name, own, standard) = match task {
            PromptTask::Table => ("table", &set.table, standard_table(language)),
            PromptTask::Question => ("question", &set.question, standard_question(language)),
            PromptTask::Abnormal => ("abnormal", &set.abnormal, standard_abnormal(language)),
        };
        let text = own.as_deref().unwrap_or(standard);
        Prompt::new(&format!("{name}/{}", language.name()), text)
    }

    /// The prompt for a page of a document of any of these kinds, with a part for each.
    pub(crate) fn of_document(&self, kinds: &[Kind], page: &Page) -> Prompt {
        let language = self.language_of(page);
        let set = self.set(language);
        let general = set.document.as_deref().unwrap_or(standard_document(language));
        let mut lines = vec![general.trim().to_owned()];
        for kind in kinds {
            let own = set.kinds.get(&kind.name).map(String::as_str);
            let part = own.unwrap_or(standard_part(&kind.name, language)).trim();
            lines.push(format!("- {}. {part}", kind.outline()).trim_end().to_owned());
        }
        Prompt::new(&format!("document/{}", language.name()), &lines.join("\n"))
    }

    const fn set(&self, language: Language) -> &PromptSet {
        match language {
            Language::English => &self.en,
            Language::Chinese => &self.zh,
        }
    }

    fn language_of(&self, page: &Page) -> Language {
        self.language.unwrap_or_else(|| Language::of(page))
    }
}

impl Language {
    const fn name(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh",
        }
    }

    /// The language of a page. Chinese pages have many Latin abbreviations and units.
    fn of(page: &Page) -> Self {
        let letters = || page.words.iter().flat_map(|it| it.text.chars());
        let chinese = letters().filter(|it| is_han(*it)).count();
        let latin = letters().filter(char::is_ascii_alphabetic).count();
        if chinese * 4 > latin { Self::Chinese } else { Self::English }
    }
}

const fn standard_table(language: Language) -> &'static str {
    match language {
        Language::English => include_str!("../prompts/en/table.txt"),
        Language::Chinese => include_str!("../prompts/zh/table.txt"),
    }
}

const fn standard_question(language: Language) -> &'static str {
    match language {
        Language::English => include_str!("../prompts/en/question.txt"),
        Language::Chinese => include_str!("../prompts/zh/question.txt"),
    }
}

const fn standard_abnormal(language: Language) -> &'static str {
    match language {
        Language::English => include_str!("../prompts/en/abnormal.txt"),
        Language::Chinese => include_str!("../prompts/zh/abnormal.txt"),
    }
}

const fn standard_document(language: Language) -> &'static str {
    match language {
        Language::English => include_str!("../prompts/en/document.txt"),
        Language::Chinese => include_str!("../prompts/zh/document.txt"),
    }
}

/// The part about a kind of `kinds.yaml`; nothing about a kind of the site.
fn standard_part(kind: &str, language: Language) -> &'static str {
    match (kind, language) {
        ("laboratory_report", Language::English) => {
            include_str!("../prompts/en/laboratory_report.txt")
        }
        ("laboratory_report", Language::Chinese) => {
            include_str!("../prompts/zh/laboratory_report.txt")
        }
        ("prescription", Language::English) => include_str!("../prompts/en/prescription.txt"),
        ("prescription", Language::Chinese) => include_str!("../prompts/zh/prescription.txt"),
        ("imaging_report", Language::English) => include_str!("../prompts/en/imaging_report.txt"),
        ("imaging_report", Language::Chinese) => include_str!("../prompts/zh/imaging_report.txt"),
        ("discharge_summary", Language::English) => {
            include_str!("../prompts/en/discharge_summary.txt")
        }
        ("discharge_summary", Language::Chinese) => {
            include_str!("../prompts/zh/discharge_summary.txt")
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::kinds;
    use crate::page::Word;

    fn page(text: &str) -> Page {
        let text = text.to_owned();
        let word = Word { text, left: 0.0, top: 0.0, right: 9.0, bottom: 9.0, chinese: None };
        Page { words: vec![word], ..Page::default() }
    }

    #[test]
    fn pap_10_a_page_is_asked_about_in_its_language() {
        let prompts = Prompts::default();
        let of = |text: &str| prompts.of(PromptTask::Table, &page(text));
        let chinese = of("检验项目 WBC 结果 10^9/L");
        assert!(chinese.name == "table/zh" && chinese.text.contains("检验"), "{chinese:?}");
        let english = of("Test Result WBC");
        assert!(english.name == "table/en" && english.text.contains("Markdown"), "{english:?}");
        assert_ne!(chinese.version(), english.version());
        let fixed: Prompts = serde_json::from_str(r#"{"language": "zh"}"#).unwrap();
        assert_eq!(fixed.of(PromptTask::Question, &page("Test")).name, "question/zh");
    }

    #[test]
    fn pap_10_a_prompt_that_a_site_replaces_is_another_version() {
        let own = r#"{"zh": {"table": "请写表格", "kinds": {"prescription": "药品"}}}"#;
        let own: Prompts = serde_json::from_str(own).unwrap();
        let standard = Prompts::default();
        let chinese = page("检验");
        assert_eq!(own.of(PromptTask::Table, &chinese).text, "请写表格");
        let version = |it: &Prompts| it.of(PromptTask::Table, &chinese).version();
        assert_ne!(version(&own), version(&standard));
        let english = page("Test");
        let in_english = |it: &Prompts| it.of(PromptTask::Table, &english).version();
        assert_eq!(in_english(&own), in_english(&standard));
        let kinds = kinds(&[]).unwrap();
        let document = |it: &Prompts| it.of_document(&kinds, &chinese).version();
        assert_ne!(document(&own), document(&standard));
        assert!(serde_json::from_str::<Prompts>(r#"{"fr": {}}"#).is_err());
    }

    #[test]
    fn pap_13_the_prompt_for_documents_has_a_part_for_each_kind() {
        let kinds = kinds(&[]).unwrap();
        for (text, mark) in [("Prescription", "Every drug"), ("处方笺", "每种药品")] {
            let prompt = Prompts::default().of_document(&kinds, &page(text));
            assert!(prompt.text.contains(mark), "{}", prompt.text);
            for kind in &kinds {
                assert!(prompt.text.contains(&format!("- {}: ", kind.name)), "{}", prompt.text);
            }
        }
    }
}
