//! Answers to questions, by their kind (PAP-08).

use serde::Deserialize;

/// Most letters of a short answer.
const SHORT_MAX: usize = 200;

/// Of which kind an answer has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A line.
    Short,
    /// Anything.
    #[default]
    Open,
    /// Yes or no.
    TrueFalse,
    /// One of several.
    Choice,
}

/// What means yes, and what means no.
const YES: [&str; 6] = ["yes", "true", "correct", "是", "对", "正确"];
const NO: [&str; 8] = ["no", "false", "incorrect", "否", "不是", "错", "错误", "不对"];

/// The answer, in the words of its kind; nothing, if it is of another kind.
pub(crate) fn answered(kind: Kind, options: &[String], said: &str) -> Option<String> {
    let said = cleaned(said);
    let said = said.trim();
    match kind {
        Kind::Open => Some(said.to_owned()).filter(|it| !it.is_empty()),
        Kind::Short => {
            let is_short = !said.is_empty() && !said.contains('\n');
            Some(said.to_owned()).filter(|it| is_short && it.chars().count() <= SHORT_MAX)
        }
        Kind::TrueFalse => truth(said).map(|it| if it { "yes" } else { "no" }.to_owned()),
        Kind::Choice => chosen(options, said),
    }
}

/// The first word, if it is one for yes or no.
fn truth(said: &str) -> Option<bool> {
    let first: String = said.chars().take_while(|it| it.is_alphabetic()).collect();
    let first = first.to_lowercase();
    let is_one = |words: &[&str]| words.contains(&first.as_str());
    match (is_one(&YES), is_one(&NO)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// An option by its text, or by its letter: `B`, `B.`, `(B) …`.
fn chosen(options: &[String], said: &str) -> Option<String> {
    let bare = |text: &str| text.trim().trim_end_matches(['.', '。']).to_lowercase();
    if let Some(option) = options.iter().find(|it| bare(it) == bare(said)) {
        return Some(option.clone());
    }
    let mut letters = said.trim_start_matches('(').chars();
    let letter = letters.next().filter(char::is_ascii_uppercase)?;
    let rest = letters.as_str();
    if !rest.is_empty() && !rest.starts_with(['.', ')', ':', ':', '、']) {
        return None;
    }
    let index = ('A'..='Z').position(|it| it == letter)?;
    let option = options.get(index)?;
    let text = bare(rest.trim_start_matches(['.', ')', ':', ':', '、']));
    // A letter beside another option's text is neither.
    (text.is_empty() || text == bare(option)).then(|| option.clone())
}

/// Without characters that are not for reading.
pub(crate) fn cleaned(text: &str) -> String {
    text.chars().filter(|it| *it == '\n' || !it.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Vec<String> {
        ["Effusion", "Pneumothorax"].map(str::to_owned).to_vec()
    }

    #[test]
    fn pap_08_an_answer_is_of_its_kind_or_none() {
        let truth = |it: &str| answered(Kind::TrueFalse, &[], it);
        for (said, expected) in [
            ("Yes, there is.", Some("yes")),
            ("是。", Some("yes")),
            ("No.", Some("no")),
            ("否", Some("no")),
            ("Nothing can be seen", None),
            ("It is true", None),
            ("", None),
        ] {
            assert_eq!(truth(said).as_deref(), expected, "{said}");
        }
        let choice = |it: &str| answered(Kind::Choice, &options(), it);
        for (said, expected) in [
            ("effusion.", Some("Effusion")),
            ("B", Some("Pneumothorax")),
            ("(B) Pneumothorax", Some("Pneumothorax")),
            ("A. Pneumothorax", None),
            ("C", None),
            ("Both", None),
            ("A fracture", None),
        ] {
            assert_eq!(choice(said).as_deref(), expected, "{said}");
        }
        assert_eq!(answered(Kind::Short, &[], "left lung").as_deref(), Some("left lung"));
        assert_eq!(answered(Kind::Short, &[], "one\ntwo"), None);
        assert_eq!(answered(Kind::Open, &[], "a\u{7}b\nc").as_deref(), Some("ab\nc"));
        assert_eq!(answered(Kind::Open, &[], " \u{1b} "), None);
    }
}
