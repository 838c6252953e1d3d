//! Delimiters and escape sequences of HL7 v2 (2.5.4 and 2.7; HL7-20 and HL7-22).

use crate::hl7::charset::Hl7Charset;

/// Upper bound of the sequences that are read as one character.
const CHARACTER_BYTES_MAX: usize = 4;

/// The delimiters a message declares in MSH-1 and MSH-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delimiters {
    /// Between fields, MSH-1.
    pub field: char,
    /// Between components.
    pub component: char,
    /// Between repetitions.
    pub repetition: char,
    /// Begins and ends an escape sequence.
    pub escape: char,
    /// Between subcomponents.
    pub subcomponent: char,
}

impl Default for Delimiters {
    fn default() -> Self {
        Self { field: '|', component: '^', repetition: '~', escape: '\\', subcomponent: '&' }
    }
}

impl Delimiters {
    /// The delimiters of a message, which begins with `MSH`.
    ///
    /// Nothing, if there are fewer than four encoding characters, or not all are different.
    pub fn of_message(text: &str) -> Option<Self> {
        let mut characters = text.strip_prefix("MSH")?.chars();
        let field = characters.next()?;
        let encoding: Vec<char> = characters.take_while(|it| *it != field && *it != '\r').collect();
        let (component, repetition, escape, subcomponent) = match encoding.as_slice() {
            // Some senders write the escape character twice.
            [c, r, e, f, s] if e == f => (*c, *r, *e, *s),
            [c, r, e, s] | [c, r, e, s, _] => (*c, *r, *e, *s),
            _ => return None,
        };
        let all = [field, component, repetition, escape, subcomponent];
        let is_sound = all.iter().enumerate().all(|(index, one)| {
            !one.is_alphanumeric()
                && !one.is_control()
                && !all.iter().skip(index + 1).any(|it| it == one)
        });
        is_sound.then_some(Self { field, component, repetition, escape, subcomponent })
    }

    /// Escapes `text` for a field.
    pub fn escaped(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for character in text.chars() {
            let letter = match character {
                it if it == self.field => "F",
                it if it == self.component => "S",
                it if it == self.subcomponent => "T",
                it if it == self.repetition => "R",
                it if it == self.escape => "E",
                '\r' => "X0D",
                '\n' => ".br",
                '\t' => "X09",
                it => {
                    if !it.is_control() {
                        out.push(it);
                    }
                    continue;
                }
            };
            out.push(self.escape);
            out.push_str(letter);
            out.push(self.escape);
        }
        out
    }

    /// Resolves the escape sequences of a field of a message in this character set. Call it once,
    /// after splitting. An unknown sequence stays as it is.
    pub fn unescaped(&self, text: &str, charset: Hl7Charset) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(self.escape) {
            out.push_str(before);
            if let Some(run) = self.hexadecimal_run(after, charset) {
                out.push_str(&run.text);
                rest = run.rest;
                continue;
            }
            let known = after.split_once(self.escape);
            if let Some((meaning, next)) = known.and_then(|it| Some((self.meaning(it.0)?, it.1))) {
                out.push_str(&meaning);
                rest = next;
            } else {
                out.push(self.escape);
                rest = after;
            }
        }
        out.push_str(rest);
        out
    }

    fn meaning(&self, sequence: &str) -> Option<String> {
        let one = |character: char| Some(character.to_string());
        match sequence {
            "F" => one(self.field),
            "S" => one(self.component),
            "T" => one(self.subcomponent),
            "R" => one(self.repetition),
            "E" => one(self.escape),
            "P" => one('#'),
            // Highlighting has no meaning in plain text.
            "H" | "N" | ".fi" | ".nf" => Some(String::new()),
            ".br" | ".ce" => one('\n'),
            _ if sequence.starts_with(".sp") => one('\n'),
            _ if [".in", ".ti", ".sk"].iter().any(|it| sequence.starts_with(it)) => one(' '),
            _ => None,
        }
    }

    /// The text of the hexadecimal sequence that begins here, behind its escape character. A
    /// character of several bytes may be written as several sequences: `\XC3\\XA9\`.
    fn hexadecimal_run<'a>(&self, text: &'a str, charset: Hl7Charset) -> Option<Run<'a>> {
        let (mut bytes, mut rest) = self.hexadecimal(text)?;
        for _ in 0..CHARACTER_BYTES_MAX {
            if let Some(text) = decoded(&bytes, charset) {
                return Some(Run { text, rest });
            }
            let (more, next) = self.hexadecimal(rest.strip_prefix(self.escape)?)?;
            bytes.extend(more);
            rest = next;
        }
        None
    }

    /// The bytes of one sequence, and what follows it.
    fn hexadecimal<'a>(&self, text: &'a str) -> Option<(Vec<u8>, &'a str)> {
        let (digits, rest) = text.strip_prefix('X')?.split_once(self.escape)?;
        let are_pairs = !digits.is_empty()
            && digits.len().is_multiple_of(2)
            && digits.bytes().all(|it| it.is_ascii_hexdigit());
        let pairs = digits.as_bytes().chunks(2).filter(|_| are_pairs);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Vec<u8> = pairs.map(byte).collect::<Option<_>>()?;
        (!bytes.is_empty()).then_some((bytes, rest))
    }
}

/// The text of hexadecimal sequences that follow each other, and what comes after them.
struct Run<'a> {
    text: String,
    rest: &'a str,
}

/// Bytes as text in the character set of their message, or in UTF-8, in which some senders write
/// them whatever the set is. Nothing if they are neither; text must not contain a zero.
fn decoded(bytes: &[u8], charset: Hl7Charset) -> Option<String> {
    let own = charset.decode(bytes);
    let text = if own.is_lossless { own.text } else { String::from_utf8(bytes.to_vec()).ok()? };
    (!text.contains('\0')).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, charset: &str) -> String {
        let charset = Hl7Charset::parse(charset, Hl7Charset::Utf8).unwrap();
        Delimiters::default().unescaped(text, charset)
    }

    #[test]
    fn hl7_22_hexadecimal_is_in_the_character_set_of_the_message() {
        for (text, charset, expected) in [
            ("Lef\\XE8\\vre Ren\\XE9\\e", "8859/1", "Lefèvre Renée"),
            ("\\XA4\\", "8859/15", "€"),
            ("\\X967CD55C\\", "GB 18030-2000", "東誠"),
            ("\\X96\\\\X7C\\\\XD5\\\\X5C\\", "GB 18030-2000", "東誠"),
            ("caf\\XC3A9\\", "UNICODE UTF-8", "café"),
            ("caf\\XC3\\\\XA9\\", "UNICODE UTF-8", "café"),
            // What is no character of the set stays as it is.
            ("caf\\XE9\\ au lait", "UNICODE UTF-8", "caf\\XE9\\ au lait"),
            ("one\\X0D0A\\two", "8859/1", "one\r\ntwo"),
            ("one\\X000d\\\\X0A\\two", "8859/1", "one\\X000d\\\ntwo"),
            ("\\X41\\\\F\\\\X42\\", "8859/1", "A|B"),
            ("\\X4\\ \\X\\ \\Xgg\\", "8859/1", "\\X4\\ \\X\\ \\Xgg\\"),
        ] {
            assert_eq!(read(text, charset), expected, "{text} in {charset}");
        }
    }

    #[test]
    fn hl7_22_sequences_are_decoded_once() {
        let text = read("a\\F\\b\\E\\F\\E\\c\\X4142\\d\\.br\\e\\H\\f\\Zxx\\g\\", "UNICODE UTF-8");
        assert_eq!(text, "a|b\\F\\cABd\ne".to_owned() + "f\\Zxx\\g\\");
    }

    #[test]
    fn hl7_20_delimiters_are_those_of_the_message() {
        let found = Delimiters::of_message("MSH#*~\\&#A").unwrap();
        assert_eq!((found.field, found.component), ('#', '*'));
        assert!(Delimiters::of_message("MSH|^^^^|").is_none());
        assert!(Delimiters::of_message("MSH|^~\\&#|A").is_some());
    }

    proptest! {
        #[test]
        fn sec_27_a_value_comes_back_and_makes_no_segment(text in "[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\u{9f}]*") {
            let delimiters = Delimiters::default();
            let escaped = delimiters.escaped(&text);
            prop_assert!(!escaped.contains(['\r', '\n', '|', '^', '&', '~']));
            prop_assert_eq!(delimiters.unescaped(&escaped, Hl7Charset::Utf8), text);
        }

        #[test]
        fn no_text_upsets_the_decoder(text in ".*") {
            Delimiters::default().unescaped(&text, Hl7Charset::Latin1);
        }
    }
}
