//! Splits the reasoning of a model into steps, each with the boxes that it cites (OUT-41, PAP-45).
//!
//! A step is a sentence or a line. A citation is never split, and what holds nothing but citations
//! (a list in JSON, its brackets) belongs to the step before it. No letter is lost but white space
//! between steps.

use std::ops::Range;

use crate::model_answer::{CitedBox, cited_boxes, folded};

/// One step of a reasoning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThoughtStep {
    /// The words of the model.
    pub text: String,
    /// The boxes that it cites, in order.
    pub boxes: Vec<CitedBox>,
}

/// A citation, with its place in characters.
struct Citation {
    cited: CitedBox,
    at: Range<usize>,
}

/// A character of a reasoning.
#[derive(Clone, Copy)]
struct Letter {
    character: char,
    is_cited: bool,
}

/// The steps of a reasoning, in order.
pub fn thought_steps(thought: &str) -> Vec<ThoughtStep> {
    let citations = citations(thought);
    let letters = letters(thought, &citations);
    let mut steps: Vec<Range<usize>> = Vec::new();
    for part in parts(&letters) {
        let words = letters.get(part.clone()).unwrap_or_default();
        match steps.last_mut() {
            Some(before) if !has_words(words) => before.end = part.end,
            _ => steps.push(part),
        }
    }
    let mut citations = citations.into_iter().peekable();
    let mut found = Vec::new();
    for range in steps {
        let text = letters.get(range.clone()).unwrap_or_default();
        let text: String = text.iter().map(|it| it.character).collect();
        let mut boxes = Vec::new();
        while let Some(citation) = citations.next_if(|it| it.at.start < range.end) {
            boxes.push(citation.cited);
        }
        if !text.trim().is_empty() {
            found.push(ThoughtStep { text: text.trim().to_owned(), boxes });
        }
    }
    found
}

/// The citations of a text. Each of its characters is one in the text that they are found in.
fn citations(thought: &str) -> Vec<Citation> {
    let folded = folded(thought);
    let starts: Vec<usize> = folded.char_indices().map(|(at, _)| at).collect();
    let character = |byte: usize| starts.partition_point(|it| *it < byte);
    let cited = cited_boxes(thought).into_iter();
    cited
        .map(|cited| Citation { at: character(cited.at.start)..character(cited.at.end), cited })
        .collect()
}

/// The characters of a reasoning, and which of them are part of a citation.
fn letters(thought: &str, citations: &[Citation]) -> Vec<Letter> {
    let mut letters: Vec<Letter> =
        thought.chars().map(|character| Letter { character, is_cited: false }).collect();
    for citation in citations {
        for letter in letters.get_mut(citation.at.clone()).unwrap_or_default() {
            letter.is_cited = true;
        }
    }
    letters
}

/// Sentences and lines, without a gap between them.
fn parts(letters: &[Letter]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for (index, letter) in letters.iter().enumerate() {
        let before = letters.get(begin..index).unwrap_or_default();
        let next = letters.get(index + 1).map(|it| it.character);
        if !letter.is_cited && is_end(before, letter.character, next) {
            parts.push(begin..index + 1);
            begin = index + 1;
        }
    }
    parts.push(begin..letters.len());
    parts
}

/// Whether a letter ends a sentence or a line.
fn is_end(before: &[Letter], letter: char, next: Option<char>) -> bool {
    match letter {
        '\n' | '。' | '！' | '？' => true,
        '.' | '!' | '?' => next.is_none_or(char::is_whitespace) && !is_numbering(before),
        _ => false,
    }
}

/// Whether the word at the end of a text is the number of a list, or one letter of an abbreviation.
fn is_numbering(text: &[Letter]) -> bool {
    let word = text.iter().rev().map(|it| it.character).take_while(|it| !it.is_whitespace());
    let mut word = word.peekable();
    let last = word.next();
    let is_one_letter = word.peek().is_none() && last.is_some_and(char::is_alphabetic);
    is_one_letter || last.into_iter().chain(word).all(|it| it.is_ascii_digit())
}

/// Whether a part says anything beside its citations.
fn has_words(part: &[Letter]) -> bool {
    let words: String = part.iter().filter(|it| !it.is_cited).map(|it| it.character).collect();
    // The language of a fenced block is no word.
    words.trim() != "```json" && words.chars().any(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(thought: &str, expected: &[(&str, &[&str])]) {
        let steps = thought_steps(thought);
        let found: Vec<(&str, Vec<&str>)> = steps
            .iter()
            .map(|it| (it.text.as_str(), it.boxes.iter().map(|it| it.label.as_str()).collect()))
            .collect();
        let expected: Vec<(&str, Vec<&str>)> =
            expected.iter().map(|(text, labels)| (*text, labels.to_vec())).collect();
        assert_eq!(found, expected, "{thought}");
    }

    #[test]
    fn out_41_each_sentence_and_line_is_a_step_with_the_boxes_it_cites() {
        check(
            "Ribs are intact. 'right_lung' with bbox [2, 3, 20, 21] is clear, 3.5 cm deep.\n\
             heart bbox [10, 4, 25, 24] and {\"Part\":\"aorta\",\"bbox\":\"[1, 2, 3, 4]\"}\n\nNormal!",
            &[
                ("Ribs are intact.", &[]),
                ("'right_lung' with bbox [2, 3, 20, 21] is clear, 3.5 cm deep.", &["right_lung"]),
                (
                    "heart bbox [10, 4, 25, 24] and {\"Part\":\"aorta\",\"bbox\":\"[1, 2, 3, 4]\"}",
                    &["heart", "aorta"],
                ),
                ("Normal!", &[]),
            ],
        );
        check("1. Lungs.\n2. Heart.", &[("1. Lungs.", &[]), ("2. Heart.", &[])]);
        check("", &[]);
        check(" \n ", &[]);
    }

    #[test]
    fn out_41_a_list_of_boxes_belongs_to_the_step_before_it() {
        check(
            "The lungs:\n```json\n[\n{\"bbox_2d\": [1,2,3,4],\n\"label\": \"a\"},\n\
             {\"bbox_2d\": [5,6,7,8],\"label\": \"b\"}\n]\n```\nClear.",
            &[
                (
                    "The lungs:\n```json\n[\n{\"bbox_2d\": [1,2,3,4],\n\"label\": \"a\"},\n\
                     {\"bbox_2d\": [5,6,7,8],\"label\": \"b\"}\n]\n```",
                    &["a", "b"],
                ),
                ("Clear.", &[]),
            ],
        );
    }

    #[test]
    fn out_41_chinese_sentences_with_full_width_brackets_keep_their_boxes() {
        check(
            "肋骨完整。｛“bbox_2d”：［１２７，131，485，720］，“label”：“肺”｝清晰。正常",
            &[
                ("肋骨完整。", &[]),
                ("｛“bbox_2d”：［１２７，131，485，720］，“label”：“肺”｝清晰。", &["肺"]),
                ("正常", &[]),
            ],
        );
    }

    #[test]
    fn out_41_no_letter_of_the_reasoning_is_lost() {
        let thought = "a. b c? lung bbox [1, 2, 3, 4]. \n\n d e.g. f 2. g\n{\"bbox\":[1,2,3,4]}";
        let joined: String = thought_steps(thought).iter().map(|it| it.text.as_str()).collect();
        let dense = |text: &str| text.chars().filter(|it| !it.is_whitespace()).collect::<String>();
        assert_eq!(dense(&joined), dense(thought));
    }
}
