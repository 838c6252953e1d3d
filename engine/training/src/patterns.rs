//! Patterns of the names of tensors, as in the files of the release.

use citrus_v::tensor_names::release_name;
use serde::{Deserialize, Serialize};

/// Patterns of names in the files of the release. `*` stands for any characters, also none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamePatterns(Vec<String>);

impl NamePatterns {
    /// These patterns.
    pub fn new(patterns: &[&str]) -> Self {
        Self(patterns.iter().map(|it| (*it).to_owned()).collect())
    }

    /// Whether one of the patterns is that of this tensor, given by its canonical name.
    pub fn matches(&self, canonical: &str) -> bool {
        let name = release_name(canonical);
        self.0.iter().any(|it| is_match(it, &name))
    }

    /// The patterns that none of these tensors has, which are probably misspelt.
    pub fn unused(&self, canonical: &[&str]) -> Vec<&str> {
        let names: Vec<String> = canonical.iter().map(|it| release_name(it)).collect();
        let is_unused = |pattern: &&String| !names.iter().any(|it| is_match(pattern, it));
        self.0.iter().filter(is_unused).map(String::as_str).collect()
    }
}

/// Whether a name has a pattern.
fn is_match(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name) in [
            ("*", "a.b"),
            ("a.*", "a.b.c"),
            ("*.bias", "a.bias"),
            ("a.*.c", "a.b.b.c"),
            ("a*b*c", "a.b.b.c"),
            ("a", "a"),
            ("a*", "a"),
        ] {
            assert!(is_match(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "ab"), ("a.*", "b.a.c"), ("*.bias", "a.weight"), ("a*a", "a")]
        {
            assert!(!is_match(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn pap_50_patterns_are_of_the_names_in_the_files_of_the_release() {
        let patterns = NamePatterns::new(&["mllm.model.visual.merger.*", "mllm.lm_head.*", "x"]);
        assert!(patterns.matches("visual.merger.ln_q.weight"));
        assert!(patterns.matches("lm_head.weight"));
        assert!(!patterns.matches("visual.blocks.0.norm1.weight"));
        assert_eq!(patterns.unused(&["visual.merger.ln_q.weight", "lm_head.weight"]), ["x"]);
    }
}
