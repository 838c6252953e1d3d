//! Splits a text into sentences, and a sentence into tokens.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A word or a number.
    Word,
    /// One Chinese character.
    Han,
    /// A comma between clauses or items.
    Comma,
    /// The Chinese comma between the items of a list.
    Enumeration,
    /// A colon.
    Colon,
    /// A question mark.
    Question,
}

impl TokenKind {
    /// Whether the token is a part of a clause, rather than a mark between clauses.
    pub(crate) const fn is_word(self) -> bool {
        matches!(self, Self::Word | Self::Han)
    }
}

/// A word, a Chinese character or a punctuation mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// In lower case and half width.
    pub(crate) text: String,
    pub(crate) kind: TokenKind,
}

/// A sentence of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sentence<'a> {
    pub(crate) text: &'a str,
    /// Whether it is the first of its line.
    pub(crate) opens_line: bool,
    /// Whether a blank line stands before it.
    pub(crate) is_after_blank_line: bool,
}

/// Words after which a full stop ends no sentence.
const ABBREVIATIONS: [&str; 12] =
    ["dr", "vs", "approx", "e.g", "i.e", "fig", "mr", "mrs", "incl", "resp", "st", "ca"];

/// Words at the end of a line that cannot be the last of a sentence.
const DANGLING: [&str; 18] = [
    "no", "of", "or", "and", "for", "the", "a", "an", "with", "without", "in", "is", "are", "to",
    "at", "on", "not", "by",
];

/// The same for Chinese, where words are not separated.
const DANGLING_CHINESE: [&str; 12] =
    ["未见", "无", "及", "和", "或", "与", "的", "可能", "考虑", "未见明显", "没有", "不能"];

/// The sentences of a text.
pub(crate) fn sentences(text: &str) -> Vec<Sentence<'_>> {
    let mut found = Vec::new();
    let mut begin = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((offset, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let before = text.get(begin..offset).unwrap_or_default();
        let end = offset + character.len_utf8();
        if is_end(before, character, next, text.get(end..).unwrap_or_default()) {
            found.extend(sentence(text, begin, end));
            begin = end;
        }
    }
    found.extend(sentence(text, begin, text.len()));
    found
}

/// The sentence between two offsets, if there is anything in it.
fn sentence(text: &str, begin: usize, end: usize) -> Option<Sentence<'_>> {
    let whole = text.get(begin..end)?;
    let trimmed = whole.trim();
    let has_content = trimmed.chars().any(char::is_alphanumeric);
    let indent = whole.len() - whole.trim_start().len();
    let before = text.get(..begin + indent)?;
    let gap = before.get(before.trim_end().len()..)?;
    has_content.then_some(Sentence {
        text: trimmed,
        opens_line: before.trim_end().is_empty() || gap.contains('\n'),
        is_after_blank_line: gap.matches('\n').count() > 1,
    })
}

/// Whether a sentence ends with this character.
fn is_end(before: &str, character: char, next: Option<char>, after: &str) -> bool {
    match character {
        '。' | '；' | ';' | '!' | '！' | '?' | '？' => true,
        '.' => is_full_stop(before, next),
        '\n' => !is_continued(before, after),
        _ => false,
    }
}

fn is_full_stop(before: &str, next: Option<char>) -> bool {
    let begins_anew = next.is_some_and(char::is_uppercase)
        && before.chars().next_back().is_some_and(char::is_lowercase);
    if !begins_anew && next.is_some_and(|it| !it.is_whitespace()) {
        return false;
    }
    let is_list_number = before.trim().chars().all(|it| it.is_ascii_digit());
    let last = before.rsplit(char::is_whitespace).next().unwrap_or_default().to_lowercase();
    !is_list_number && !ABBREVIATIONS.contains(&last.as_str())
}

/// Whether a sentence goes on in the next line.
fn is_continued(before: &str, after: &str) -> bool {
    let line = before.trim_end();
    if line.trim_start().is_empty() {
        return true;
    }
    let next = after.chars().find(|it| *it == '\n' || !it.is_whitespace());
    if next == Some('\n') {
        return false;
    }
    let last = line.rsplit(char::is_whitespace).next().unwrap_or_default().to_lowercase();
    next.is_some_and(char::is_lowercase)
        || line.ends_with([',', '，', '、'])
        || DANGLING.contains(&last.as_str())
        || DANGLING_CHINESE.iter().any(|it| line.ends_with(it))
}

/// Whether a character is Chinese.
fn is_han(character: char) -> bool {
    matches!(character, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// A character in lower case and half width.
fn folded(character: char) -> char {
    let code = u32::from(character);
    let half = if (0xff01..=0xff5e).contains(&code) {
        char::from_u32(code - 0xfee0).unwrap_or(character)
    } else {
        character
    };
    half.to_lowercase().next().unwrap_or(half)
}

/// The tokens of a sentence. Hyphens and slashes separate words; brackets and quotes are left out.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::new();
    let mut word = String::new();
    let mut characters = text.chars().map(folded).peekable();
    while let Some(character) = characters.next() {
        let is_decimal_point = character == '.'
            && word.ends_with(|it: char| it.is_ascii_digit())
            && characters.peek().is_some_and(char::is_ascii_digit);
        let is_apostrophe = matches!(character, '\'' | '’') && !word.is_empty();
        if is_decimal_point || character.is_alphanumeric() && !is_han(character) {
            word.push(character);
        } else if is_apostrophe {
            word.push('\'');
        } else {
            close(&mut found, &mut word);
            found.extend(mark(character));
        }
    }
    close(&mut found, &mut word);
    found
}

/// Adds the word that has been read, if there is one.
fn close(found: &mut Vec<Token>, word: &mut String) {
    if !word.is_empty() {
        found.push(Token { text: std::mem::take(word), kind: TokenKind::Word });
    }
}

/// The token that a character is by itself.
fn mark(character: char) -> Option<Token> {
    let kind = match character {
        ',' => TokenKind::Comma,
        '、' => TokenKind::Enumeration,
        ':' => TokenKind::Colon,
        '?' => TokenKind::Question,
        it if is_han(it) => TokenKind::Han,
        _ => return None,
    };
    Some(Token { text: character.to_string(), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        sentences(text).into_iter().map(|it| it.text).collect()
    }

    #[test]
    fn a_full_stop_in_a_number_or_an_abbreviation_ends_no_sentence() {
        let text = "1. A 2.5 cm mass vs. cyst. 2. No effusion.Heart normal.";
        assert_eq!(texts(text), ["1. A 2.5 cm mass vs. cyst.", "2. No effusion.", "Heart normal."]);
        assert_eq!(texts("未见气胸。左侧积液；心影增大"), ["未见气胸。", "左侧积液；", "心影增大"]);
    }

    #[test]
    fn a_line_that_is_wrapped_is_no_end_of_a_sentence() {
        assert_eq!(
            texts("There is no\npneumothorax.\nHeart normal"),
            ["There is no\npneumothorax.", "Heart normal"]
        );
        assert_eq!(texts("双肺未见\n实变"), ["双肺未见\n实变"]);
        assert_eq!(texts("No effusion\n\nsmall mass"), ["No effusion", "small mass"]);
    }

    #[test]
    fn characters_are_tokens_in_chinese_and_words_in_english() {
        let read: Vec<String> =
            tokens("ＣＴ未见 ground-glass 1.5cm，").into_iter().map(|it| it.text).collect();
        assert_eq!(read, ["ct", "未", "见", "ground", "glass", "1.5cm", ","]);
    }
}
