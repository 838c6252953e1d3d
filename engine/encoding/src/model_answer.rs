//! Parses the text that a vision-language model generates: its reasoning, its answer, and the
//! bounding boxes that it cites (PAP-02 to PAP-04).

use std::ops::Range;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// The parts of a generated text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelAnswer {
    /// The reasoning between `<think>` and `</think>`, if there is any.
    pub think: Option<String>,
    /// The text between `<answer>` and `</answer>`; without these tags, all but the reasoning.
    pub answer: String,
    /// Deviations from the expected form: with any, a person has to look before anything is sent.
    pub flaws: Vec<Flaw>,
}

/// A deviation from the expected form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Neither reasoning nor answer is tagged.
    Unmarked,
    /// The reasoning has no closing tag.
    UnclosedThought,
    /// The answer has no closing tag.
    UnclosedAnswer,
    /// A tag occurs more than once.
    Repeated,
    /// There is no answer.
    Empty,
}

impl ModelAnswer {
    /// Parses a generated text. Reasoning never becomes part of the answer (OUT-41).
    pub fn parse(text: &str) -> Self {
        let mut flaws = Vec::new();
        let count = |mark: &str| text.matches(mark).count();
        if ["<think>", "</think>", "<answer>", "</answer>"].iter().any(|it| count(it) > 1) {
            flaws.push(Flaw::Repeated);
        }
        let (think, rest) = thought(text, &mut flaws);
        let answer = answer(&rest, think.is_some(), &mut flaws);
        if answer.is_empty() {
            flaws.push(Flaw::Empty);
        }
        Self { think, answer, flaws }
    }
}

/// The reasoning, and the text without it.
fn thought(text: &str, flaws: &mut Vec<Flaw>) -> (Option<String>, String) {
    // Some chat templates write the opening tag themselves: then only the closing one is generated.
    let (before, inside) = match (text.split_once("<think>"), text.contains("</think>")) {
        (Some((before, inside)), _) => (before, inside),
        (None, true) => ("", text),
        (None, false) => return (None, text.to_owned()),
    };
    // The last closing tag counts: text between two of them is reasoning, not answer.
    if let Some((think, after)) = inside.rsplit_once("</think>") {
        return (Some(think.trim().to_owned()), format!("{before}{after}"));
    }
    flaws.push(Flaw::UnclosedThought);
    let (think, after) = inside.split_once("<answer>").unwrap_or((inside, ""));
    let rest = if after.is_empty() { String::new() } else { format!("<answer>{after}") };
    (Some(think.trim().to_owned()), format!("{before}{rest}"))
}

fn answer(rest: &str, has_thought: bool, flaws: &mut Vec<Flaw>) -> String {
    let Some((_, inside)) = rest.split_once("<answer>") else {
        if !has_thought {
            flaws.push(Flaw::Unmarked);
        }
        return rest.replace("</answer>", "").trim().to_owned();
    };
    let Some((answer, _)) = inside.rsplit_once("</answer>") else {
        flaws.push(Flaw::UnclosedAnswer);
        return inside.trim().to_owned();
    };
    answer.replace("<answer>", "").replace("</answer>", "").trim().to_owned()
}

/// A bounding box that a model cites, in pixels of the image that the model was given.
#[derive(Clone, Debug, PartialEq)]
pub struct CitedBox {
    /// The label of the box, or nothing.
    pub label: String,
    /// Left, top, right, bottom.
    pub corners: [f64; 4],
    /// Its place in the text, in bytes of the text with plain brackets and digits.
    pub at: Range<usize>,
}

/// Why a box cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoxError {
    /// Its corners are in the wrong order, or it has no area.
    #[error("the box has its corners the wrong way round, or no area")]
    Inverted,
    /// It lies entirely outside the image.
    #[error("the box lies outside of the picture")]
    Outside,
}

impl CitedBox {
    /// The box on the source image, in whole pixels: scaled from `seen` (width, height) to `source`
    /// and rounded down. True if it had to be clipped at the edge.
    ///
    /// # Errors
    ///
    /// Fails if the corners are in the wrong order, or the box lies outside the image.
    pub fn on_source(
        &self,
        seen: [u32; 2],
        source: [u32; 2],
    ) -> Result<([u32; 4], bool), BoxError> {
        let [left, top, right, bottom] = self.corners;
        if !(left < right && top < bottom) {
            return Err(BoxError::Inverted);
        }
        let [width, height] = seen.map(f64::from);
        if left >= width || top >= height || right <= 0.0 || bottom <= 0.0 {
            return Err(BoxError::Outside);
        }
        let is_cut = left < 0.0 || top < 0.0 || right > width || bottom > height;
        let [across, down] = source.map(f64::from);
        let (across, down) = (across / width, down / height);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "cut to the picture"
        )]
        let whole = |it: f64, scale: f64| (it * scale) as u32;
        let (left, right) = (whole(left.max(0.0), across), whole(right.min(width), across));
        let (top, bottom) = (whole(top.max(0.0), down), whole(bottom.min(height), down));
        Ok(([left, top, right, bottom], is_cut))
    }
}

/// Four numbers as models write them: in any kind of brackets, as one group or two.
const QUAD: &str = r"[\[(]\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*[\])]?\s*,\s*[\[(]?\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*[\])]";

/// The forms in which a box is cited, with its label. Four numbers alone are no box: they may be a
/// date.
static FORMS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let reference = r"(?:<\|object_ref_start\|>(?P<label>[^<]*)<\|object_ref_end\|>\s*)?";
    let forms = [
        format!(r"{reference}<\|box_start\|>\s*{QUAD}\s*<\|box_end\|>"),
        format!(r#"\{{[^{{}}]*"bbox(?:_2d)?"\s*:\s*"?\s*{QUAD}\s*"?[^{{}}]*\}}"#),
        format!(
            r"(?:'(?P<label>[^'\n]*)'\s+with\s+|(?P<word>[\w-]+)\s+(?:with\s+)?)bbox\s*[:=]?\s*{QUAD}"
        ),
        format!(r"<bbox>\s*{QUAD}\s*</bbox>"),
    ];
    forms.iter().filter_map(|it| Regex::new(it).ok()).collect()
});

/// The label in a JSON object.
static LABEL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#""(?:label|Part)"\s*:\s*"(?P<label>[^"]*)""#).ok());

/// All boxes that a text cites, in their order.
pub fn cited_boxes(text: &str) -> Vec<CitedBox> {
    let folded = folded(text);
    let mut found: Vec<CitedBox> = Vec::new();
    for form in FORMS.iter() {
        for captures in form.captures_iter(&folded) {
            let Some(cited) = cited(&captures) else { continue };
            let is_new =
                found.iter().all(|it| it.at.end <= cited.at.start || cited.at.end <= it.at.start);
            if is_new {
                found.push(cited);
            }
        }
    }
    found.sort_by_key(|it| it.at.start);
    found
}

fn cited(captures: &Captures<'_>) -> Option<CitedBox> {
    let whole = captures.get(0)?;
    let named = captures.name("label").or_else(|| captures.name("word"));
    let in_object = || {
        let label = LABEL.as_ref()?.captures(whole.as_str())?;
        Some(label.name("label")?.as_str().to_owned())
    };
    let label = named.map(|it| it.as_str().trim().to_owned()).or_else(in_object);
    // The numbers are the groups without a name, the last four.
    let groups = captures.iter().skip(1).flatten().map(|it| it.as_str());
    let numbers: Vec<f64> = groups.filter_map(|it| it.parse().ok()).collect();
    let corners = numbers.get(numbers.len().checked_sub(4)?..)?.try_into().ok()?;
    Some(CitedBox { label: label.unwrap_or_default(), corners, at: whole.range() })
}

/// The text with full-width characters replaced by their plain forms, one by one. Byte offsets may
/// shift.
pub(crate) fn folded(text: &str) -> String {
    let plain = |it: char| match it {
        '（' => '(',
        '）' => ')',
        '［' | '【' => '[',
        '］' | '】' => ']',
        '，' | '、' => ',',
        '：' => ':',
        '“' | '”' | '＂' => '"',
        '‘' | '’' => '\'',
        '｛' => '{',
        '｝' => '}',
        '０'..='９' => char::from_digit(u32::from(it) - u32::from('０'), 10).unwrap_or(it),
        it => it,
    };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, think: Option<&str>, answer: &str, flaws: &[Flaw]) {
        let found = ModelAnswer::parse(text);
        assert_eq!(found.think.as_deref(), think, "{text}");
        assert_eq!((found.answer.as_str(), found.flaws.as_slice()), (answer, flaws), "{text}");
    }

    #[test]
    fn pap_02_thoughts_never_become_the_answer() {
        check("<think>lungs</think><answer>clear</answer>", Some("lungs"), "clear", &[]);
        check("<think>lungs</think>\nclear", Some("lungs"), "clear", &[]);
        check("clear", None, "clear", &[Flaw::Unmarked]);
        check("lungs</think><answer>clear</answer>", Some("lungs"), "clear", &[]);
        let cut = [Flaw::UnclosedThought, Flaw::Empty];
        check("<think>lungs are", Some("lungs are"), "", &cut);
        let unclosed = [Flaw::UnclosedThought];
        check("<think>lungs<answer>clear</answer>", Some("lungs"), "clear", &unclosed);
        check("<think>a</think><answer>clear", Some("a"), "clear", &[Flaw::UnclosedAnswer]);
        check("<think>a</think><answer> </answer>", Some("a"), "", &[Flaw::Empty]);
        check("", None, "", &[Flaw::Unmarked, Flaw::Empty]);
        let twice = "<think>he said '</think>' and</think><answer>x</answer>";
        check(twice, Some("he said '</think>' and"), "x", &[Flaw::Repeated]);
        let nested = "<think>a<think>b</think>c</think><answer>x</answer>";
        check(nested, Some("a<think>b</think>c"), "x", &[Flaw::Repeated]);
    }

    #[track_caller]
    fn check_boxes(text: &str, expected: &[(&str, [f64; 4])]) {
        let found = cited_boxes(text);
        let found: Vec<_> = found.iter().map(|it| (it.label.as_str(), it.corners)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn pap_03_every_form_is_the_same_box() {
        let corners = [127.0, 131.0, 485.0, 720.0];
        for (text, label) in [
            (r#"{"Part":"lung","bbox":"[127, 131, 485, 720]"}"#, "lung"),
            ("'right lung' with bbox [127, 131, 485, 720]", "right lung"),
            ("lung_lower_lobe_right bbox [127, 131, 485, 720]", "lung_lower_lobe_right"),
            ("```json\n[\n{\"bbox_2d\": [127,131,485,720],\"label\": \"lung\"}\n]\n```", "lung"),
            ("<|box_start|>(127,131),(485,720)<|box_end|>", ""),
            (
                "<|object_ref_start|>lung<|object_ref_end|><|box_start|>(127,131),(485,720)<|box_end|>",
                "lung",
            ),
            ("<|box_start|>[127, 131),(485, 720]<|box_end|>", ""),
            ("｛“bbox_2d”：［１２７，131，485，720］，“label”：“肺”｝", "肺"),
            ("the lung <bbox>[127, 131, 485, 720]</bbox>", ""),
        ] {
            check_boxes(text, &[(label, corners)]);
        }
    }

    #[test]
    fn pap_07_each_box_keeps_its_own_label() {
        let text = "[{\"bbox_2d\": [1,2,3,4],\"label\": \"a\"},\n{\"bbox_2d\": [5,6,7,8.5],\"label\": \"b\"}]";
        check_boxes(text, &[("a", [1.0, 2.0, 3.0, 4.0]), ("b", [5.0, 6.0, 7.0, 8.5])]);
    }

    #[test]
    fn pap_03_numbers_in_prose_are_no_box() {
        check_boxes("seen on 2024,10,12,30 and [1, 2, 3, 4] and (1,2),(3,4)", &[]);
    }

    #[test]
    fn pap_04_a_box_goes_back_to_the_pixels_of_its_picture() {
        let cited = |corners| CitedBox { label: String::new(), corners, at: 0..1 };
        let on = |corners| cited(corners).on_source([140, 84], [131, 97]);
        assert_eq!(on([14.0, 8.4, 70.0, 42.0]), Ok(([13, 9, 65, 48], false)));
        assert_eq!(on([-5.0, 0.0, 500.0, 42.0]), Ok(([0, 0, 131, 48], true)));
        assert_eq!(on([70.0, 0.0, 14.0, 42.0]), Err(BoxError::Inverted));
        assert_eq!(on([f64::NAN, 0.0, 14.0, 42.0]), Err(BoxError::Inverted));
        assert_eq!(on([140.0, 0.0, 150.0, 42.0]), Err(BoxError::Outside));
    }
}
