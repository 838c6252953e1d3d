//! The labels that pages name their patient by: those of `patient.yaml`, and those of the site.

use std::sync::LazyLock;

use encoding::laboratory::unit::folded_text;
use serde::Deserialize;

/// What stands behind a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabelRole {
    /// The name of the patient.
    Name,
    /// The name of the patient, if nothing stands before the label.
    PlainName,
    /// The date of birth.
    BirthDate,
    /// The sex.
    Sex,
    /// The age.
    Age,
    /// Sex and age, in either order.
    SexAndAge,
    /// An identifier, with its place in [`PatientLabels::identifier`].
    Identifier(usize),
    /// Something else.
    Other,
}

/// The labels by which pages name their patient.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PatientLabels {
    name: Vec<String>,
    plain_name: Vec<String>,
    birth_date: Vec<String>,
    sex: Vec<String>,
    age: Vec<String>,
    sex_and_age: Vec<String>,
    identifier: Vec<IdentifierLabels>,
    other: Vec<String>,
    not_names: Vec<String>,
    male: Vec<String>,
    female: Vec<String>,
    /// All labels as they are compared, the longest first.
    #[serde(skip)]
    sorted: Vec<(String, LabelRole)>,
}

/// The labels of one kind of identifier.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentifierLabels {
    /// The labels.
    pub(crate) words: Vec<String>,
    /// The authority that assigns these identifiers, as the site names it among its issuers.
    #[serde(default)]
    pub(crate) authority: String,
}

impl PatientLabels {
    /// The labels of `patient.yaml`. That it can be read is tested.
    pub(crate) fn standard() -> &'static Self {
        static STANDARD: LazyLock<PatientLabels> = LazyLock::new(|| {
            let labels: PatientLabels =
                serde_saphyr::from_str(include_str!("../patient.yaml")).unwrap_or_default();
            labels.sorted()
        });
        &STANDARD
    }

    /// These labels and those of a site, which come first.
    pub(crate) fn extended(&self, own: Self) -> Self {
        let join = |own: Vec<String>, known: &[String]| [own, known.to_vec()].concat();
        let labels = Self {
            name: join(own.name, &self.name),
            plain_name: join(own.plain_name, &self.plain_name),
            birth_date: join(own.birth_date, &self.birth_date),
            sex: join(own.sex, &self.sex),
            age: join(own.age, &self.age),
            sex_and_age: join(own.sex_and_age, &self.sex_and_age),
            identifier: [own.identifier, self.identifier.clone()].concat(),
            other: join(own.other, &self.other),
            not_names: join(own.not_names, &self.not_names),
            male: join(own.male, &self.male),
            female: join(own.female, &self.female),
            sorted: Vec::new(),
        };
        labels.sorted()
    }

    fn sorted(mut self) -> Self {
        let lists = [
            (&self.name, LabelRole::Name),
            (&self.plain_name, LabelRole::PlainName),
            (&self.birth_date, LabelRole::BirthDate),
            (&self.sex, LabelRole::Sex),
            (&self.age, LabelRole::Age),
            (&self.sex_and_age, LabelRole::SexAndAge),
            (&self.other, LabelRole::Other),
        ];
        let plain =
            lists.into_iter().flat_map(|(words, role)| words.iter().map(move |it| (it, role)));
        let identifiers = self.identifier.iter().enumerate();
        let identifiers = identifiers.flat_map(|(at, labels)| {
            labels.words.iter().map(move |it| (it, LabelRole::Identifier(at)))
        });
        // A site's label for an identifier wins over a standard one of another role.
        let all = identifiers.chain(plain).map(|(word, role)| (comparable(word), role));
        let mut all: Vec<(String, LabelRole)> = all.collect();
        all.sort_by_key(|(word, _)| std::cmp::Reverse(word.chars().count()));
        self.sorted = all;
        self
    }

    /// The label that a text in comparable form begins with, and its length in bytes.
    pub(crate) fn at_start(&self, text: &str) -> Option<(&str, LabelRole)> {
        let is_here = |label: &&(String, LabelRole)| {
            let rest = text.strip_prefix(label.0.as_str());
            rest.is_some_and(|rest| !continues_word(&label.0, rest))
        };
        self.sorted.iter().find(is_here).map(|(word, role)| (word.as_str(), *role))
    }

    /// The role of a label that a whole text is.
    pub(crate) fn whole(&self, text: &str) -> Option<LabelRole> {
        let text = comparable(text);
        let text = text.trim().trim_end_matches('.');
        let (label, role) = self.at_start(text)?;
        (label.trim_end_matches('.') == text).then_some(role)
    }

    /// The label that a text is, but for one misread letter.
    pub(crate) fn nearly(&self, text: &str) -> Option<LabelRole> {
        let is_near = |label: &&(String, LabelRole)| {
            label.0.chars().count() >= 5 && strsim::levenshtein(&label.0, text) <= 1
        };
        self.sorted.iter().find(is_near).map(|(_, role)| *role)
    }

    /// The labels of an identifier.
    pub(crate) fn identifier(&self, at: usize) -> Option<&IdentifierLabels> {
        self.identifier.get(at)
    }

    /// Whether a word in small letters is no part of a name.
    pub(crate) fn is_no_name(&self, word: &str) -> bool {
        self.not_names.iter().any(|it| it.to_lowercase() == word)
    }

    /// The sex that a word states, `M` or `F`.
    pub(crate) fn sex(&self, word: &str) -> Option<&'static str> {
        let word = word.to_lowercase();
        let is_in = |all: &[String]| all.iter().any(|it| it.to_lowercase() == word);
        if is_in(&self.male) {
            Some("M")
        } else if is_in(&self.female) {
            Some("F")
        } else {
            None
        }
    }
}

/// Whether what follows a label belongs to its last word.
fn continues_word(label: &str, rest: &str) -> bool {
    let is_letter = |it: char| it.is_ascii_alphanumeric() || matches!(it, '\u{c0}'..='\u{24f}');
    label.ends_with(is_letter) && rest.starts_with(|it: char| is_letter(it) || it == '\'')
}

/// A text in the form in which labels are compared: plain characters in lower case. It has as many
/// characters as the text.
pub(crate) fn comparable(text: &str) -> String {
    let lower = |it: char| it.to_lowercase().next().unwrap_or(it);
    folded_text(text).chars().map(lower).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pap_10_the_labels_that_ship_can_be_read() {
        let labels = PatientLabels::standard();
        assert!(labels.sorted.len() > 100);
        assert_eq!(labels.at_start("name: x").map(|it| it.1), Some(LabelRole::PlainName));
        assert_eq!(labels.at_start("doctor name: x").map(|it| it.1), Some(LabelRole::Other));
        assert_eq!(labels.at_start("names: x"), None);
        assert_eq!(labels.at_start("姓名:李").map(|it| it.1), Some(LabelRole::PlainName));
        assert_eq!(labels.sex("女"), Some("F"));
    }

    #[test]
    fn pap_10_a_site_adds_labels_of_its_own_with_their_authority() {
        let own = "{ name: [Nombre], identifier: [{ words: [HOSP-No], authority: HOSP }] }";
        let labels = PatientLabels::standard().extended(serde_saphyr::from_str(own).unwrap());
        assert_eq!(labels.at_start("nombre: x").map(|it| it.1), Some(LabelRole::Name));
        let Some((_, LabelRole::Identifier(at))) = labels.at_start("hosp-no 12") else { panic!() };
        assert_eq!(labels.identifier(at).unwrap().authority, "HOSP");
        let known = labels.at_start("mrn 12").map(|it| it.1);
        assert!(matches!(known, Some(LabelRole::Identifier(_))), "{known:?}");
    }
}
