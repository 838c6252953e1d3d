//! A phrase of a data file, and where it stands in a sentence.

use crate::sentence::{Token, TokenKind, tokens};

/// Words that begin another clause, so that a clause ends before them.
const CLAUSE_WORDS: [&str; 6] = ["but", "and", "while", "whereas", "however", "although"];

/// A part of a phrase.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    /// This word or character.
    Word(String),
    /// Up to so many words or characters of any kind (`~3`).
    Gap(usize),
    /// The end of a clause (`$`).
    ClauseEnd,
}

/// Whether the last word of a phrase may be in the plural.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// It is as written.
    AsWritten,
    /// It may end with `s` or `es`.
    Any,
}

/// A phrase of a data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phrase {
    elements: Vec<Element>,
    number: Number,
}

/// Where a phrase stands in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first token.
    pub(crate) start: usize,
    /// The token after the last one.
    pub(crate) end: usize,
    /// The tokens that the phrase names: all but those in a gap.
    pub(crate) named: Vec<usize>,
}

impl Phrase {
    /// Reads a phrase; nothing if it does not begin with a word.
    pub(crate) fn parse(text: &str, number: Number) -> Option<Self> {
        let mut elements = Vec::new();
        let mut parts = text.split('~');
        push_words(&mut elements, parts.next()?);
        for part in parts {
            let length = part.chars().next()?.to_digit(10)?;
            elements.push(Element::Gap(usize::try_from(length).ok()?));
            push_words(&mut elements, part.get(1..)?);
        }
        matches!(elements.first(), Some(Element::Word(_))).then_some(Self { elements, number })
    }

    /// The words that a sentence must contain where the phrase begins: one of them.
    pub(crate) fn first_words(&self) -> Vec<String> {
        let Some(Element::Word(first)) = self.elements.first() else { return Vec::new() };
        let mut words = vec![first.clone()];
        if self.number == Number::Any && self.elements.len() == 1 {
            words.extend(["s", "es"].map(|ending| format!("{first}{ending}")));
        }
        words
    }

    /// The span of the phrase, if the sentence contains it from a token on.
    pub(crate) fn span(&self, sentence: &[Token], start: usize) -> Option<Span> {
        let mut named = Vec::new();
        let end = self.follow(0, sentence, start, &mut named)?;
        Some(Span { start, end, named })
    }

    fn follow(
        &self,
        element: usize,
        sentence: &[Token],
        at: usize,
        named: &mut Vec<usize>,
    ) -> Option<usize> {
        match self.elements.get(element) {
            None => Some(at),
            Some(Element::Word(word)) => {
                let token = sentence.get(at)?;
                if !self.is_word(element, word, token) {
                    return None;
                }
                named.push(at);
                let end = self.follow(element + 1, sentence, at + 1, named);
                if end.is_none() {
                    named.pop();
                }
                end
            }
            Some(Element::Gap(longest)) => {
                for length in 0..=*longest {
                    let end = self.follow(element + 1, sentence, at + length, named);
                    if end.is_some() {
                        return end;
                    }
                    if !sentence.get(at + length).is_some_and(|it| it.kind.is_word()) {
                        return None;
                    }
                }
                None
            }
            Some(Element::ClauseEnd) => {
                let is_end = sentence.get(at).is_none_or(|it| {
                    !it.kind.is_word() || CLAUSE_WORDS.contains(&it.text.as_str())
                });
                if is_end { self.follow(element + 1, sentence, at, named) } else { None }
            }
        }
    }

    fn is_word(&self, element: usize, word: &str, token: &Token) -> bool {
        if token.text == word {
            return true;
        }
        let may_be_plural = self.number == Number::Any
            && element + 1 == self.elements.len()
            && token.kind == TokenKind::Word;
        may_be_plural && matches!(token.text.strip_prefix(word), Some("s" | "es"))
    }
}

/// Adds the words of a part of a phrase.
fn push_words(elements: &mut Vec<Element>, text: &str) {
    for part in text.split_whitespace() {
        if part == "$" {
            elements.push(Element::ClauseEnd);
        } else {
            elements.extend(tokens(part).into_iter().map(|it| Element::Word(it.text)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(phrase: &str, number: Number, sentence: &str) -> Option<(usize, usize, usize)> {
        let sentence = tokens(sentence);
        let phrase = Phrase::parse(phrase, number).unwrap();
        let span = (0..sentence.len()).find_map(|start| phrase.span(&sentence, start))?;
        Some((span.start, span.end, span.named.len()))
    }

    #[test]
    fn a_gap_takes_words_and_no_comma() {
        assert_eq!(
            found("heart ~2 enlarged", Number::Any, "heart is mildly enlarged"),
            Some((0, 4, 2))
        );
        assert_eq!(found("heart ~2 enlarged", Number::Any, "heart, enlarged"), None);
        assert_eq!(found("胸腔~3积液", Number::Any, "左侧胸腔少量积液"), Some((2, 8, 4)));
    }

    #[test]
    fn the_plural_is_found_where_it_is_allowed() {
        assert_eq!(found("mass", Number::Any, "two masses"), Some((1, 2, 1)));
        assert_eq!(found("mass", Number::AsWritten, "two masses"), None);
        assert_eq!(found("none $", Number::AsWritten, "none in the kidney"), None);
    }
}
