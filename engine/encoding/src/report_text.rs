//! Splits a report in prose into findings and impression, in English and Chinese.

use std::sync::LazyLock;

use regex::Regex;

/// The parts of a report in prose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportText {
    /// The findings.
    pub findings: String,
    /// The impression; empty if the report has no such heading.
    pub impression: String,
}

/// A heading at the beginning of a line, with whatever marks it as one.
static HEADING: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let findings = "findings?|影像所见|影像表现|检查所见|所见";
    let impression = "impressions?|conclusions?|诊断意见|影像诊断|诊断印象|印象|结论|诊断";
    let text = format!(
        r"(?im)^[\s#*]*(?:(?P<findings>{findings})|(?P<impression>{impression}))[\s*]*[:：][\s*]*"
    );
    Regex::new(&text).ok()
});

impl ReportText {
    /// Splits a report at its headings. Text before the first heading, or without any, is findings.
    /// Parts with the same heading are joined.
    pub fn parse(text: &str) -> Self {
        let mut report = Self::default();
        let headings: Vec<_> = HEADING.iter().flat_map(|it| it.captures_iter(text)).collect();
        let whole = |at: usize| headings.get(at).and_then(|it| it.get(0));
        let before = whole(0).map_or(text.len(), |it| it.start());
        add(&mut report.findings, text.get(..before));
        for (index, heading) in headings.iter().enumerate() {
            let begin = whole(index).map_or(text.len(), |it| it.end());
            let end = whole(index + 1).map_or(text.len(), |it| it.start());
            let is_impression = heading.name("impression").is_some();
            let part = if is_impression { &mut report.impression } else { &mut report.findings };
            add(part, text.get(begin..end));
        }
        report
    }
}

fn add(part: &mut String, more: Option<&str>) {
    let more = more.unwrap_or_default().trim();
    if !part.is_empty() && !more.is_empty() {
        part.push('\n');
    }
    part.push_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pap_02_findings_and_impression_are_told_apart_by_their_headings() {
        for (text, findings, impression) in [
            ("Findings: Clear lungs.\nImpression: Normal.", "Clear lungs.", "Normal."),
            ("**FINDINGS:**\nClear.\n\n## Impression:\n1. Normal.", "Clear.", "1. Normal."),
            ("影像所见:双肺纹理清晰。\n诊断意见:未见异常。", "双肺纹理清晰。", "未见异常。"),
            ("影像所见：双肺纹理清晰。\n诊断意见：未见异常。", "双肺纹理清晰。", "未见异常。"),
            ("Clear lungs.\nConclusion: Normal.", "Clear lungs.", "Normal."),
            ("No findings: of note.", "No findings: of note.", ""),
            ("Clear lungs. The impression: none.", "Clear lungs. The impression: none.", ""),
            ("Findings: a\nImpression: b\nFindings: c", "a\nc", "b"),
            ("", "", ""),
        ] {
            let found = ReportText::parse(text);
            let expected =
                ReportText { findings: findings.to_owned(), impression: impression.to_owned() };
            assert_eq!(found, expected, "{text}");
        }
    }
}
