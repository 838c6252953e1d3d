//! Findings, cues and sites of one sentence.

use crate::cue::{Cue, CueKind};
use crate::lexicon::{Lexicon, Meaning};
use crate::sentence::{Token, TokenKind};

/// A finding that a sentence mentions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    /// The first token.
    pub(crate) start: usize,
    /// The token after the last one.
    pub(crate) end: usize,
    /// The findings that it may be of, by their numbers.
    pub(crate) concepts: Vec<usize>,
    /// Whether it is a general word, whose site decides.
    pub(crate) is_general: bool,
    /// Whether the words deny the finding by themselves.
    pub(crate) is_denial: bool,
}

/// A site of the body that a sentence names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SiteMention {
    /// The first token.
    pub(crate) start: usize,
    /// The token after the last one.
    pub(crate) end: usize,
    /// The site, by its number.
    pub(crate) site: usize,
}

/// One sentence, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) tokens: Vec<Token>,
    pub(crate) mentions: Vec<Mention>,
    pub(crate) cues: Vec<Cue>,
    pub(crate) sites: Vec<SiteMention>,
}

impl Reading {
    /// Reads the tokens of a sentence.
    pub(crate) fn of(lexicon: &Lexicon, tokens: Vec<Token>) -> Self {
        let mut reading = Self::default();
        for hit in lexicon.hits(&tokens) {
            let start = hit.span.start;
            let end = hit.span.end;
            match hit.meaning {
                Meaning::Cue(kind, direction) => {
                    reading.cues.push(Cue { kind, direction, start, end });
                }
                Meaning::Site(site) => reading.sites.push(SiteMention { start, end, site }),
                Meaning::Finding { concept, is_general, is_denial } => {
                    match reading.mentions.last_mut() {
                        Some(last) if last.start == start && last.end == end => {
                            last.concepts.push(concept);
                        }
                        _ => reading.mentions.push(Mention {
                            start,
                            end,
                            concepts: vec![concept],
                            is_general,
                            is_denial,
                        }),
                    }
                }
            }
        }
        reading.tokens = tokens;
        reading
    }

    /// The kind of a token, if there is one.
    pub(crate) fn kind(&self, at: usize) -> Option<TokenKind> {
        self.tokens.get(at).map(|it| it.kind)
    }

    /// The text of a token; empty behind the end.
    pub(crate) fn word(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |it| it.text.as_str())
    }

    /// The cue that begins with a token.
    pub(crate) fn cue_at(&self, at: usize) -> Option<&Cue> {
        self.cues.iter().find(|it| it.start == at)
    }

    /// Whether the sentence opens with a heading of this kind, such as "Indication:".
    pub(crate) fn heading(&self) -> Option<CueKind> {
        let first = self.cues.iter().find(|it| it.start == 0)?;
        (self.kind(first.end) == Some(TokenKind::Colon)).then_some(first.kind)
    }

    /// Whether the sentence opens with a heading: at most four words and a colon.
    pub(crate) fn has_heading(&self) -> bool {
        self.tokens.iter().take(5).any(|it| it.kind == TokenKind::Colon)
    }
}
