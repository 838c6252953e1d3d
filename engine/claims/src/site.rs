//! The site of the body, and the side, that a finding is of: what the words beside it name.

use crate::claim::Sides;
use crate::cue::CueKind;
use crate::reading::{Mention, Reading};
use crate::sentence::TokenKind;

/// Words between a finding and the site that it is in.
const PREPOSITIONS: [&str; 14] = [
    "in",
    "of",
    "within",
    "at",
    "along",
    "around",
    "near",
    "from",
    "on",
    "involving",
    "throughout",
    "over",
    "into",
    "for",
];

/// Maximum number of words between a finding and the site that is named beside it.
const WORDS_MAX: usize = 8;

impl Reading {
    /// The site that is named beside a finding: before it in its part of the sentence, behind it
    /// after a preposition, or in the heading.
    pub(crate) fn site_of(&self, mention: &Mention) -> Option<usize> {
        self.adjacent_site(mention)
            .or_else(|| self.site_behind(mention))
            .or_else(|| self.site_before(mention))
            .or_else(|| self.site_of_heading(mention))
            .or_else(|| self.site_of_topic(mention))
    }

    /// The site within or directly before the words of a finding.
    fn adjacent_site(&self, mention: &Mention) -> Option<usize> {
        let start = mention.start.saturating_sub(2);
        let close = self.sites.iter().rev().find(|it| {
            it.start >= start && it.end <= mention.end && !self.is_cut(it.end, mention.start)
        });
        close.map(|it| it.site)
    }

    fn site_behind(&self, mention: &Mention) -> Option<usize> {
        let end = self.tokens.len().min(mention.end + WORDS_MAX);
        let mut has_preposition = false;
        for at in mention.end..end {
            if self.ends_part(at) || self.mentions.iter().any(|it| it.start == at) {
                return None;
            }
            has_preposition |= PREPOSITIONS.contains(&self.word(at));
            if let Some(site) = self.sites.iter().find(|it| it.start == at)
                && has_preposition
            {
                return Some(site.site);
            }
        }
        None
    }

    /// The nearest site before a finding, in the same part of the sentence.
    fn site_before(&self, mention: &Mention) -> Option<usize> {
        let before = self.sites.iter().rev().find(|it| it.end <= mention.start)?;
        (!self.is_cut(before.end, mention.start)).then_some(before.site)
    }

    fn site_of_heading(&self, mention: &Mention) -> Option<usize> {
        let colon = self.tokens.iter().position(|it| it.kind == TokenKind::Colon)?;
        let named = self.sites.iter().find(|it| it.end <= colon && colon < mention.start)?;
        let is_heading = colon < WORDS_MAX && !self.mentions.iter().any(|it| it.start < colon);
        is_heading.then_some(named.site)
    }

    /// In Chinese the site that a sentence began with is that of all its parts.
    fn site_of_topic(&self, mention: &Mention) -> Option<usize> {
        let is_chinese = self.kind(mention.start) == Some(TokenKind::Han);
        let before = self.sites.iter().rev().find(|it| it.end <= mention.start)?;
        is_chinese.then_some(before.site)
    }

    /// Whether another part of the sentence begins between two tokens.
    fn is_cut(&self, start: usize, end: usize) -> bool {
        (start..end).any(|at| self.ends_part(at) || matches!(self.word(at), "and" | "or"))
    }

    /// Whether a part of a sentence ends with a token.
    fn ends_part(&self, at: usize) -> bool {
        matches!(self.kind(at), Some(TokenKind::Comma | TokenKind::Colon | TokenKind::Enumeration))
            || self.cue_at(at).is_some_and(|it| it.kind == CueKind::Terminate)
    }

    /// The sides that are named for a finding: before it, back to the finding before; else behind
    /// it, up to the next one; else those of the finding that it is joined with.
    pub(crate) fn sides_of(&self, mention: &Mention) -> Sides {
        let mut joined = Sides::default();
        let mut at = mention.start;
        let mut is_own = true;
        while at > 0 && !self.ends_part(at - 1) {
            at -= 1;
            is_own &= !self.mentions.iter().any(|it| it.start <= at && at < it.end);
            let named = Sides::of_word(self.word(at));
            if is_own && !named.is_none() {
                return self.both_sides(at, named);
            }
            joined = joined.and(named);
        }
        let within = (mention.start..mention.end).map(|at| Sides::of_word(self.word(at)));
        let within = within.fold(Sides::default(), Sides::and);
        if !within.is_none() {
            return within;
        }
        let end = (mention.end..self.tokens.len())
            .find(|at| self.ends_part(*at) || self.mentions.iter().any(|it| it.start == *at));
        let behind = mention.end..end.unwrap_or(self.tokens.len());
        let behind =
            behind.map(|at| Sides::of_word(self.word(at))).fold(Sides::default(), Sides::and);
        if behind.is_none() { joined } else { behind }
    }

    /// A side with the one that it is joined with: "left and right".
    fn both_sides(&self, at: usize, named: Sides) -> Sides {
        if at >= 2 && matches!(self.word(at - 1), "and" | "or" | "to" | "and/or") {
            named.and(Sides::of_word(self.word(at - 2)))
        } else {
            named
        }
    }
}
