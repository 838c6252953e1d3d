//! Delimiters and escape sequences of HL7 v2 (2.5.4 and 2.7; HL7-20 and HL7-22).

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

    /// Resolves the escape sequences of a field. Call it once, after splitting. An unknown sequence
    /// stays as it is.
    pub fn unescaped(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(self.escape) {
            out.push_str(before);
            let Some((sequence, next)) = after.split_once(self.escape) else {
                out.push(self.escape);
                rest = after;
                continue;
            };
            if let Some(meaning) = self.meaning(sequence) {
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
            _ => hexadecimal(sequence.strip_prefix('X')?),
        }
    }
}

fn hexadecimal(digits: &str) -> Option<String> {
    if digits.is_empty() || digits.len() % 2 == 1 || !digits.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    // Text must not contain a zero: a sequence that encodes one stays as it is.
    String::from_utf8(bytes?).ok().filter(|it| !it.contains('\0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hl7_22_sequences_are_decoded_once() {
        let delimiters = Delimiters::default();
        let text = delimiters.unescaped("a\\F\\b\\E\\F\\E\\c\\X4142\\d\\.br\\e\\H\\f\\Zxx\\g\\");
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
            // A tab is a control character and is dropped; everything else survives.
            prop_assert_eq!(delimiters.unescaped(&escaped), text.replace('\t', ""));
        }

        #[test]
        fn no_text_upsets_the_decoder(text in ".*") {
            Delimiters::default().unescaped(&text);
        }
    }
}
