//! Answers of a kind (PAP-08): short, open, yes or no, or one of several options.
//!
//! A model answers in prose. [`AnswerKind::extract`] finds the answer of a kind in it, or nothing:
//! an answer of another kind is never guessed at. [`ask_of_kind`] asks a second time with another
//! sampling before it rejects.

use domain::{InferResponse, Sampling};
use plugin_api::{Context, Level, NodeError};
use serde::Deserialize;

use crate::answer::AnswerProblem;
use crate::question::Question;
use crate::text::printable;

/// Upper bound of a short answer, in characters.
const SHORT_CHARS_MAX: usize = 200;

/// Temperature of the second attempt, so that it can differ from the first.
const RETRY_TEMPERATURE: f32 = 0.7;

/// The kind of answer that a question asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerKind {
    /// One line, of up to 200 characters.
    Short,
    /// Any text.
    #[default]
    Open,
    /// Yes or no.
    TrueFalse,
    /// One of several options.
    Choice,
}

/// First words that mean yes, in English and Chinese.
const YES: [&str; 6] = ["yes", "true", "correct", "是", "对", "正确"];

/// First words that mean no.
const NO: [&str; 8] = ["no", "false", "incorrect", "否", "不是", "错", "错误", "不对"];

/// Marks between the letter of an option and its text; the last two are the full-width `)` and `:` of
/// Chinese text.
const AFTER_LETTER: [char; 6] = ['.', ')', ':', '、', '\u{ff09}', '\u{ff1a}'];

impl AnswerKind {
    /// The answer of this kind in a text of the model; nothing if the text is an answer of another
    /// kind. `options` are those of a [`AnswerKind::Choice`].
    pub fn extract(self, options: &[String], text: &str) -> Option<String> {
        let text = printable(text);
        let text = text.trim();
        match self {
            Self::Open => (!text.is_empty()).then(|| text.to_owned()),
            Self::Short => {
                let is_line = !text.is_empty() && !text.contains('\n');
                (is_line && text.chars().count() <= SHORT_CHARS_MAX).then(|| text.to_owned())
            }
            Self::TrueFalse => {
                truth(text).map(|is_true| if is_true { "yes" } else { "no" }.to_owned())
            }
            Self::Choice => choice(options, text),
        }
    }
}

/// Whether the first word means yes or no; nothing if it means neither.
fn truth(text: &str) -> Option<bool> {
    let first: String = text.chars().take_while(|it| it.is_alphabetic()).collect();
    let first = first.to_lowercase();
    match (YES.contains(&first.as_str()), NO.contains(&first.as_str())) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// The option that a text names, by its own text or by its letter: `B`, `B.`, `(B) …`.
fn choice(options: &[String], text: &str) -> Option<String> {
    if let Some(option) = options.iter().find(|it| comparable(it) == comparable(text)) {
        return Some(option.clone());
    }
    let mut letters = text.trim_start_matches('(').chars();
    let letter = letters.next().filter(char::is_ascii_uppercase)?;
    let rest = letters.as_str();
    if !rest.is_empty() && !rest.starts_with(AFTER_LETTER) {
        return None;
    }
    let index = ('A'..='Z').position(|it| it == letter)?;
    let option = options.get(index)?;
    // The letter of one option with the text of another is neither of them.
    let text = comparable(rest.trim_start_matches(AFTER_LETTER));
    (text.is_empty() || text == comparable(option)).then(|| option.clone())
}

/// An option in the form in which options are compared.
fn comparable(text: &str) -> String {
    text.trim().trim_end_matches(['.', '。']).to_lowercase()
}

/// An answer of a kind.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerOfKind {
    /// The answer of the kind, as [`AnswerKind::extract`] found it.
    pub text: String,
    /// The whole answer it was found in.
    pub answer: InferResponse,
}

/// Asks a question until its answer is of a kind: once with the question's own sampling, and once
/// with another one.
///
/// # Errors
///
/// As [`Question::ask_parsed`], and rejects a second answer of another kind.
pub fn ask_of_kind(
    context: &Context<'_>,
    question: &Question<'_>,
    kind: AnswerKind,
    options: &[String],
) -> Result<AnswerOfKind, NodeError> {
    let other_sampling =
        Sampling { temperature: RETRY_TEMPERATURE, seed: 1, ..question.sampling.clone() };
    let attempts = [question.clone(), Question { sampling: other_sampling, ..question.clone() }];
    for attempt in &attempts {
        let answer = attempt.ask_parsed(context)?;
        if let Some(text) = kind.extract(options, &answer.answer) {
            return Ok(AnswerOfKind { text, answer });
        }
        context.log(Level::Warning, "the answer is of another kind than asked for");
    }
    Err(AnswerProblem::WrongKind { attempts: attempts.len() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Vec<String> {
        ["Effusion", "Pneumothorax"].map(str::to_owned).to_vec()
    }

    #[test]
    fn pap_08_an_answer_is_of_its_kind_or_none() {
        let truth = |it: &str| AnswerKind::TrueFalse.extract(&[], it);
        for (text, expected) in [
            ("Yes, there is.", Some("yes")),
            ("是。", Some("yes")),
            ("No.", Some("no")),
            ("否", Some("no")),
            ("Nothing can be seen", None),
            ("It is true", None),
            ("", None),
        ] {
            assert_eq!(truth(text).as_deref(), expected, "{text}");
        }
        let choice = |it: &str| AnswerKind::Choice.extract(&options(), it);
        for (text, expected) in [
            ("effusion.", Some("Effusion")),
            ("B", Some("Pneumothorax")),
            ("(B) Pneumothorax", Some("Pneumothorax")),
            ("B：Pneumothorax", Some("Pneumothorax")),
            ("A）", Some("Effusion")),
            ("A. Pneumothorax", None),
            ("C", None),
            ("Both", None),
            ("A fracture", None),
        ] {
            assert_eq!(choice(text).as_deref(), expected, "{text}");
        }
        assert_eq!(AnswerKind::Short.extract(&[], "left lung").as_deref(), Some("left lung"));
        assert_eq!(AnswerKind::Short.extract(&[], "one\ntwo"), None);
        assert_eq!(AnswerKind::Open.extract(&[], "a\u{7}b\nc").as_deref(), Some("ab\nc"));
        assert_eq!(AnswerKind::Open.extract(&[], " \u{1b} "), None);
    }
}
