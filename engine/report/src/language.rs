//! Languages: which one a text is in, and the label of unsigned results in that of the site
//! (OUT-03).

use domain::{Code, named_enum};

use crate::status::{BANNER, WITHDRAWAL_NOTICE};

named_enum! {
    /// A language of reports and labels, by its tag (RFC 5646).
    pub enum Language {
        /// English.
        English = "en",
        /// German.
        German = "de",
        /// French.
        French = "fr",
        /// Spanish.
        Spanish = "es",
        /// Chinese.
        Chinese = "zh",
        /// Japanese.
        Japanese = "ja",
        /// Korean.
        Korean = "ko",
    }
}

impl Default for Language {
    /// The language of the fixed words of reports.
    fn default() -> Self {
        Self::English
    }
}

/// Words that are frequent in reports of one of the languages in Latin letters, and rare in others.
const FREQUENT: [(Language, &[&str]); 4] = [
    (
        Language::English,
        &["the", "and", "of", "is", "are", "with", "without", "not", "there", "no", "by", "left"],
    ),
    (
        Language::German,
        &[
            "der", "die", "das", "und", "ist", "kein", "keine", "mit", "ohne", "nicht", "im",
            "links",
        ],
    ),
    (
        Language::French,
        &["le", "les", "et", "est", "pas", "avec", "sans", "du", "une", "dans", "gauche", "aucun"],
    ),
    (
        Language::Spanish,
        &["el", "los", "las", "y", "es", "con", "sin", "del", "una", "en", "se", "izquierdo"],
    ),
];

impl Language {
    /// The tag (RFC 5646).
    pub const fn tag(self) -> &'static str {
        self.name()
    }

    /// The code of the language in structured reports (PS3.16, TID 1204).
    pub(crate) fn code(self) -> Code {
        let meaning = match self {
            Self::English => "English",
            Self::German => "German",
            Self::French => "French",
            Self::Spanish => "Spanish",
            Self::Chinese => "Chinese",
            Self::Japanese => "Japanese",
            Self::Korean => "Korean",
        };
        Code::new(self.tag(), "RFC5646", meaning)
    }

    /// The label of every result that nobody has signed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::English => BANNER,
            Self::German => "KI-erzeugt - nicht von ärztlicher Seite geprüft",
            Self::French => "Généré par IA - non vérifié par un médecin",
            Self::Spanish => "Generado por IA - no verificado por un médico",
            Self::Chinese => "AI生成 - 未经医师审核",
            Self::Japanese => "AI生成 - 医師による確認なし",
            Self::Korean => "AI 생성 - 의사가 확인하지 않음",
        }
    }

    /// The label of a row that is passed on from a laboratory as it was stated, in a report that
    /// nobody has signed.
    pub(crate) const fn passed_on_label(self) -> &'static str {
        match self {
            Self::English => "Passed on from the laboratory unchanged - not verified here",
            Self::German => "Unverändert vom Labor übernommen - hier nicht geprüft",
            Self::French => "Transmis du laboratoire sans changement - non vérifié ici",
            Self::Spanish => "Transmitido del laboratorio sin cambios - no verificado aquí",
            Self::Chinese => "检验科结果原样转发 - 此处未经审核",
            Self::Japanese => "検査室の結果をそのまま転送 - ここでは未確認",
            Self::Korean => "검사실 결과를 그대로 전달 - 여기서는 확인되지 않음",
        }
    }

    /// The text in place of a result that was withdrawn.
    pub const fn withdrawal_notice(self) -> &'static str {
        match self {
            Self::English => WITHDRAWAL_NOTICE,
            Self::German => "Dieser Befund wurde zurückgezogen und darf nicht verwendet werden",
            Self::French => "Ce résultat a été retiré et ne doit pas être utilisé",
            Self::Spanish => "Este resultado fue retirado y no debe utilizarse",
            Self::Chinese => "本结果已撤回，不得使用",
            Self::Japanese => "この結果は撤回されました。使用しないでください",
            Self::Korean => "이 결과는 철회되었으며 사용해서는 안 됩니다",
        }
    }

    /// The language that a text is in, by its letters and, in Latin letters, by frequent words.
    /// `None` if it tells none apart.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let count = |is_of: fn(char) -> bool| text.chars().filter(|it| is_of(*it)).count();
        let latin = count(|it| matches!(it, 'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}'));
        let han = count(|it| matches!(it, '\u{3400}'..='\u{9fff}'));
        let kana = count(|it| matches!(it, '\u{3041}'..='\u{30ff}'));
        let hangul = count(|it| matches!(it, '\u{ac00}'..='\u{d7a3}'));
        // An ideograph or a syllable says as much as several letters.
        if 3 * (han + kana + hangul) <= latin {
            return Self::of_words(text);
        }
        Some(if hangul > han + kana {
            Self::Korean
        } else if kana * 4 > han {
            Self::Japanese
        } else {
            Self::Chinese
        })
    }

    /// The language in Latin letters whose frequent words are in a text most often, if it is one.
    fn of_words(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        let words: Vec<&str> = text.split(|it: char| !it.is_alphabetic()).collect();
        let count = |frequent: &[&str]| words.iter().filter(|it| frequent.contains(it)).count();
        let mut best = None;
        let mut most = 0;
        for (language, frequent) in FREQUENT {
            let found = count(frequent);
            if found > most {
                best = Some(language);
                most = found;
            } else if found == most {
                best = None;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use contracts::ReportForm;
    use dicom_dictionary_std::tags;
    use dicom_object::InMemDicomObject;
    use domain::{OutputKind, ResultStatus, Section};

    use super::*;
    use crate::fixture::{Fixture, items, read, texts, value};

    fn text(fixture: &Fixture, kind: OutputKind) -> String {
        let mut outputs = fixture.compose(&[kind]).unwrap();
        String::from_utf8(outputs.remove(0).bytes).unwrap()
    }

    /// The languages that a structured report states, in order.
    fn languages(item: &InMemDicomObject) -> Vec<String> {
        let mut found = Vec::new();
        for item in items(item, tags::CONTENT_SEQUENCE) {
            let name = items(item, tags::CONCEPT_NAME_CODE_SEQUENCE).first();
            if name.is_some_and(|it| value(it, tags::CODE_VALUE) == "121049") {
                let language = &items(item, tags::CONCEPT_CODE_SEQUENCE)[0];
                assert_eq!(value(language, tags::CODING_SCHEME_DESIGNATOR), "RFC5646");
                found.push(value(language, tags::CODE_VALUE));
            }
            found.extend(languages(item));
        }
        found
    }

    #[test]
    fn out_03_the_label_is_beside_every_observation_in_the_language_of_the_site() {
        let label = Language::Chinese.label();
        let mut fixture = Fixture::new();
        fixture.context.engine.language = Language::Chinese;
        fixture.recipient.preferences.report = ReportForm::Pdf;
        for fixture in [fixture.clone(), fixture.clone().laboratory()] {
            let oru = text(&fixture, OutputKind::Oru);
            let lines: Vec<&str> = oru.split('\r').collect();
            let observations = lines.iter().zip(lines.iter().skip(1));
            let mut labelled = 0;
            for (line, next) in observations.filter(|(it, _)| it.starts_with("OBX")) {
                // What names the study is no statement about the patient.
                let is_study = line.contains("113014^DICOM Study");
                let is_labelled = line.contains(label) || *next == format!("NTE|1||{label}");
                assert_eq!(is_labelled, !is_study, "{line}\n{next}");
                labelled += usize::from(is_labelled);
            }
            assert!(labelled >= 3, "{oru}");
        }
        fixture.recipient.preferences.report = ReportForm::Text;
        assert!(text(&fixture, OutputKind::Mdm).contains(label));
        assert!(text(&fixture, OutputKind::Fhir).contains(label));
        let mut signed = Fixture::with_status(ResultStatus::Signed);
        signed.context.engine.language = Language::Chinese;
        let oru = text(&signed, OutputKind::Oru);
        assert!(!oru.contains(label) && !oru.contains("NTE|"), "{oru}");
        let mut withdrawn = Fixture::with_status(ResultStatus::Withdrawn)
            .sent_before(&Fixture::new().compose(&[OutputKind::Oru]).unwrap(), true);
        withdrawn.context.engine.language = Language::Chinese;
        assert!(text(&withdrawn, OutputKind::Oru).contains("本结果已撤回"));
    }

    #[test]
    fn out_40_a_report_states_the_language_of_its_text() {
        for kind in [OutputKind::Sr, OutputKind::Narrative] {
            let report = |fixture: &Fixture| {
                let outputs = fixture.compose(&[kind]).unwrap();
                read(outputs.iter().find(|it| it.kind == kind).unwrap())
            };
            let mut fixture = Fixture::new();
            assert_eq!(languages(&report(&fixture)), ["en"]);
            fixture.results.findings[0].text = "未见骨折。".to_owned();
            fixture.results.sections[0].text = "未见异常。".to_owned();
            fixture.results.regions[0].label = "结节".to_owned();
            fixture.results.sections.push(Section {
                title: Code::new("121106", "DCM", "Comment"),
                text: "Drafted by the model, and to be checked by a reader.".to_owned(),
            });
            // The label is in the language of the site, and says so.
            let object = report(&fixture);
            assert_eq!(languages(&object), ["zh", "en"], "{}", kind.name());
            assert!(texts(&object).contains(&BANNER.to_owned()));
            fixture.context.engine.language = Language::Chinese;
            assert_eq!(languages(&report(&fixture)), ["zh"]);
        }
    }

    #[test]
    fn out_51_pages_state_the_language_of_their_text() {
        let pages = |fixture: &Fixture| {
            let output = fixture.compose(&[OutputKind::Pdf]).unwrap().remove(0);
            String::from_utf8_lossy(&output.bytes).into_owned()
        };
        let mut fixture = Fixture::new();
        assert!(pages(&fixture).contains("/Lang(en)"));
        fixture.results.findings[0].text = "未见骨折。".to_owned();
        fixture.results.sections[0].text = "未见异常。".to_owned();
        fixture.results.regions[0].label = "结节".to_owned();
        assert!(pages(&fixture).contains("/Lang(zh)"));
    }

    #[test]
    fn out_40_a_text_tells_its_language_by_letters_and_words() {
        for (text, expected) in [
            ("There is no pleural effusion; the heart is not enlarged.", Some(Language::English)),
            ("Kein Pleuraerguss. Das Herz ist nicht vergrößert.", Some(Language::German)),
            ("Pas d'épanchement pleural. Le cœur est normal.", Some(Language::French)),
            ("Sin derrame pleural. El corazón es normal.", Some(Language::Spanish)),
            ("双肺未见异常。CT 示右肺上叶结节 8 mm。", Some(Language::Chinese)),
            ("胸水は認めません。心拡大なし。", Some(Language::Japanese)),
            ("흉수는 없습니다. CT 정상.", Some(Language::Korean)),
            ("Findings: 8.5 mL", None),
            ("12.5", None),
            ("", None),
        ] {
            assert_eq!(Language::of_text(text), expected, "{text}");
        }
    }

    #[test]
    fn out_03_every_language_has_its_own_label_and_knows_it_again() {
        let labels: std::collections::BTreeSet<&str> =
            Language::ALL.iter().map(|it| it.label()).collect();
        assert_eq!(labels.len(), Language::ALL.len());
        for language in [Language::Chinese, Language::Japanese, Language::Korean] {
            assert_eq!(Language::of_text(language.label()), Some(language));
        }
    }
}
