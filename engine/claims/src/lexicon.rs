//! All phrases, found by their first word.

use std::collections::HashMap;

use crate::cue::{CueKind, Direction};
use crate::phrase::{Phrase, Span};
use crate::sentence::Token;

/// What a phrase means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A finding.
    Finding {
        /// Its number in the vocabulary.
        concept: usize,
        /// Whether it is a general word, whose site decides.
        is_general: bool,
        /// Whether it denies the finding by itself.
        is_denial: bool,
    },
    /// A cue.
    Cue(CueKind, Direction),
    /// A site of the body, by its number in the vocabulary.
    Site(usize),
}

impl Meaning {
    /// Which of two phrases of the same length holds.
    const fn rank(self) -> u8 {
        match self {
            Self::Finding { is_denial: true, .. } => 0,
            Self::Finding { is_general: false, .. } => 1,
            Self::Finding { .. } => 2,
            Self::Cue(..) => 3,
            Self::Site(_) => 4,
        }
    }
}

/// A phrase in a sentence, with what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) span: Span,
    pub(crate) meaning: Meaning,
}

/// All phrases.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lexicon {
    entries: Vec<(Phrase, Meaning)>,
    by_first_word: HashMap<String, Vec<usize>>,
}

impl Lexicon {
    /// Adds a phrase. The same phrase as a cue of the same kind in another direction is one cue for
    /// either.
    pub(crate) fn add(&mut self, phrase: Phrase, meaning: Meaning) {
        if let Meaning::Cue(kind, direction) = meaning {
            for (known, other) in &mut self.entries {
                if let Meaning::Cue(known_kind, known_direction) = other
                    && *known_kind == kind
                    && *known == phrase
                {
                    *known_direction = known_direction.and(direction);
                    return;
                }
            }
        }
        for word in phrase.first_words() {
            self.by_first_word.entry(word).or_default().push(self.entries.len());
        }
        self.entries.push((phrase, meaning));
    }

    /// The phrases of a sentence, in their order. Of phrases that name the same words the longest
    /// holds; of general words for several findings all are kept.
    pub(crate) fn hits(&self, sentence: &[Token]) -> Vec<Hit> {
        let mut found: Vec<Hit> = Vec::new();
        for (start, token) in sentence.iter().enumerate() {
            for entry in self.by_first_word.get(&token.text).into_iter().flatten() {
                let Some((phrase, meaning)) = self.entries.get(*entry) else { continue };
                if let Some(span) = phrase.span(sentence, start) {
                    found.push(Hit { span, meaning: *meaning });
                }
            }
        }
        found.sort_by_key(|it| {
            let length = it.span.named.len();
            let width = it.span.end - it.span.start;
            (usize::MAX - length, it.meaning.rank(), width, it.span.start)
        });
        let mut kept: Vec<Hit> = Vec::new();
        let mut is_taken = vec![false; sentence.len()];
        for hit in found {
            let is_free = hit.span.named.iter().all(|it| is_taken.get(*it) == Some(&false));
            let is_another = matches!(hit.meaning, Meaning::Finding { is_general: true, .. })
                && kept.iter().any(|it| is_general(it.meaning) && it.span == hit.span);
            if is_free || is_another {
                for named in &hit.span.named {
                    if let Some(taken) = is_taken.get_mut(*named) {
                        *taken = true;
                    }
                }
                kept.push(hit);
            }
        }
        kept.sort_by_key(|it| it.span.start);
        kept
    }
}

const fn is_general(meaning: Meaning) -> bool {
    matches!(meaning, Meaning::Finding { is_general: true, .. })
}
