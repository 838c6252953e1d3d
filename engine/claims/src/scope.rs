//! Which cue applies to which finding. A scope goes from the cue to the end of its clause, and
//! over the items of a list.

use domain::Presence;

use crate::claim::{Experiencer, State, Temporality};
use crate::cue::{Category, Cue, CueKind, Direction};
use crate::reading::{Mention, Reading};
use crate::sentence::TokenKind;

/// Finite verbs: two of them on both sides of "and" are two clauses.
const VERBS: [&str; 36] = [
    "is",
    "are",
    "was",
    "were",
    "has",
    "have",
    "had",
    "shows",
    "show",
    "showed",
    "demonstrates",
    "demonstrate",
    "reveals",
    "reveal",
    "remains",
    "remain",
    "appears",
    "appear",
    "contains",
    "lies",
    "lie",
    "persists",
    "persist",
    "terminates",
    "includes",
    "measures",
    "extends",
    "projects",
    "can",
    "cannot",
    "could",
    "may",
    "might",
    "should",
    "will",
    "does",
];

/// Words between a subject and what is said of it.
const AUXILIARIES: [&str; 50] = [
    "is",
    "are",
    "was",
    "were",
    "has",
    "have",
    "had",
    "been",
    "be",
    "being",
    "now",
    "currently",
    "also",
    "still",
    "completely",
    "entirely",
    "partially",
    "partly",
    "nearly",
    "almost",
    "slightly",
    "mildly",
    "moderately",
    "markedly",
    "significantly",
    "substantially",
    "further",
    "remains",
    "remain",
    "appears",
    "appear",
    "does",
    "do",
    "did",
    "may",
    "will",
    "again",
    "since",
    "largely",
    "it",
    "this",
    "these",
    "they",
    "otherwise",
    "both",
    "all",
    "as",
    "well",
    "not",
    "essentially",
];

/// Words that say that something is seen: with them, a verb closes a list that a denial opens.
const SEEN: [&str; 12] = [
    "seen",
    "identified",
    "noted",
    "present",
    "evident",
    "demonstrated",
    "detected",
    "visualized",
    "found",
    "appreciated",
    "visible",
    "observed",
];

/// Words after which a verb belongs to a relative clause.
const RELATIVE: [&str; 4] = ["that", "which", "who", "as"];

/// Words between the items of a list.
const CONNECTORS: [&str; 9] = ["and", "or", "nor", "及", "和", "或", "与", "等", "以"];

/// Words that, beside [`DETERMINERS`] and [`SIDES_AND_SIZES`], begin a new claim behind a comma,
/// rather than the next item of a list.
const NEW_CLAIM: [&str; 14] = [
    "that",
    "multiple",
    "several",
    "few",
    "scattered",
    "patchy",
    "chronic",
    "old",
    "normal",
    "some",
    "slight",
    "extensive",
    "massive",
    "heart",
];

/// Words that begin a clause of its own behind "and".
const DETERMINERS: [&str; 8] = ["a", "an", "the", "there", "it", "this", "these", "they"];

/// Sides and sizes behind "and" begin a new claim, unless the word before is one too.
const SIDES_AND_SIZES: [&str; 14] = [
    "left",
    "right",
    "bilateral",
    "bibasilar",
    "small",
    "large",
    "tiny",
    "trace",
    "moderate",
    "mild",
    "severe",
    "minimal",
    "minor",
    "stable",
];

/// What a sentence says of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) presence: Presence,
    pub(crate) temporality: Temporality,
    pub(crate) experiencer: Experiencer,
    pub(crate) state: Option<State>,
}

/// How a cue reaches a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reach {
    kind: CueKind,
    /// Number of tokens between them.
    distance: usize,
    is_forward: bool,
    /// Whether it is a second thought ("but cannot be excluded"), which holds against the first.
    is_second_thought: bool,
}

impl Reading {
    /// What the sentence says of a finding.
    pub(crate) fn verdict(&self, mention: &Mention, heading: Option<CueKind>) -> Verdict {
        let reaches: Vec<Reach> =
            self.cues.iter().filter_map(|it| self.reach(it, mention)).collect();
        let has = |kind: CueKind| reaches.iter().any(|it| it.kind == kind) || heading == Some(kind);
        let experiencer =
            if has(CueKind::Family) { Experiencer::Family } else { Experiencer::Patient };
        if has(CueKind::Hypothetical) {
            return Verdict {
                presence: Presence::Unknown,
                temporality: Temporality::Hypothetical,
                experiencer,
                state: None,
            };
        }
        let said = self.presence(mention, &reaches);
        let is_gone = said == Presence::Absent && self.was_seen_earlier(mention);
        let state = match nearest(&reaches, Category::State) {
            _ if is_gone => Some(State::Resolved),
            Some(CueKind::State(state)) => Some(state),
            _ => None,
        };
        let is_over = state == Some(State::Resolved)
            && matches!(said, Presence::Present | Presence::Absent)
            && experiencer == Experiencer::Patient;
        let presence = if is_over { Presence::Absent } else { said };
        let state = if presence == Presence::Absent && !is_over { None } else { state };
        // Of a relative, only that it was there is told.
        let is_historical =
            has(CueKind::Historical) && state.is_none() && experiencer == Experiencer::Patient;
        let temporality =
            if is_historical { Temporality::Historical } else { Temporality::Current };
        Verdict { presence, temporality, experiencer, state }
    }

    fn presence(&self, mention: &Mention, reaches: &[Reach]) -> Presence {
        if reaches.iter().any(|it| it.kind == CueKind::Doubt) {
            return Presence::Possible;
        }
        let denied_before = reaches.iter().any(|it| {
            it.kind == CueKind::Negation
                && it.is_forward
                && self.is_direct(mention.start.saturating_sub(it.distance), mention.start)
        });
        match nearest(reaches, Category::Presence) {
            // "No fracture is suspected", "no evidence of possible pneumonia".
            Some(CueKind::Possible) if denied_before => Presence::Absent,
            Some(CueKind::Possible | CueKind::Doubt) => Presence::Possible,
            Some(CueKind::Unknown) => Presence::Unknown,
            Some(CueKind::Negation) => Presence::Absent,
            _ if mention.is_denial => Presence::Absent,
            _ => Presence::Present,
        }
    }

    /// Whether the words before a finding say that it was seen earlier.
    fn was_seen_earlier(&self, mention: &Mention) -> bool {
        let mut earlier = self.cues.iter().filter(|it| it.kind == CueKind::Earlier);
        earlier.any(|it| it.end <= mention.start && self.is_direct(it.end, mention.start))
    }

    /// Whether neither a comma nor another finding stands between two tokens.
    fn is_direct(&self, start: usize, end: usize) -> bool {
        let is_plain = (start..end).all(|at| self.kind(at).is_some_and(TokenKind::is_word));
        is_plain && !self.mentions.iter().any(|it| it.start >= start && it.end <= end)
    }

    fn reach(&self, cue: &Cue, mention: &Mention) -> Option<Reach> {
        if cue.kind.category() == Category::None {
            return None;
        }
        let is_inside = cue.start >= mention.start && cue.end <= mention.end;
        let is_around = mention.start >= cue.start && mention.end <= cue.end;
        let reach = |distance, is_forward, is_second_thought| Reach {
            kind: cue.kind,
            distance,
            is_forward,
            is_second_thought,
        };
        if is_inside || is_around {
            return Some(reach(0, true, false));
        }
        match self.direction(cue) {
            Direction::Forward if cue.end <= mention.start => self
                .reaches_forward(cue, mention)
                .then(|| reach(mention.start - cue.end, true, false)),
            Direction::Backward if mention.end <= cue.start => {
                let is_second_thought = self.reaches_backward(cue, mention)?;
                Some(reach(cue.start - mention.end, false, is_second_thought))
            }
            _ => None,
        }
    }

    /// The direction of a cue in this sentence.
    fn direction(&self, cue: &Cue) -> Direction {
        if cue.direction != Direction::Either {
            return cue.direction;
        }
        let is_predicate = cue.start > 0 && AUXILIARIES.contains(&self.word(cue.start - 1));
        let is_behind = self.mentions.iter().any(|it| it.end == cue.start);
        let ends_clause = self.kind(cue.end).is_none_or(|it| !it.is_word())
            || CONNECTORS.contains(&self.word(cue.end))
            || self.cue_at(cue.end).is_some_and(|it| it.kind == CueKind::Terminate);
        let has_before = self.mentions.iter().any(|it| it.end <= cue.start);
        let follows = self.mentions.iter().filter(|it| it.start >= cue.end);
        let has_after = follows
            .filter(|it| (cue.end..it.start).all(|at| self.kind(at) != Some(TokenKind::Comma)))
            .any(|it| self.reaches_forward(cue, it));
        let is_backward = has_before && (is_predicate || is_behind && ends_clause) || !has_after;
        if is_backward { Direction::Backward } else { Direction::Forward }
    }

    /// Whether the scope of a cue goes forward to a finding.
    fn reaches_forward(&self, cue: &Cue, mention: &Mention) -> bool {
        let category = cue.kind.category();
        let is_heading = self.kind(cue.end) == Some(TokenKind::Colon);
        (cue.end..mention.start).all(|at| {
            let ends = self.cue_at(at).is_some_and(|it| match it.kind {
                CueKind::Terminate => true,
                CueKind::Limit => matches!(category, Category::Presence | Category::State),
                CueKind::Negation => category == Category::Temporality && !is_heading,
                _ => false,
            });
            if ends && !is_heading {
                return false;
            }
            match self.kind(at) {
                Some(TokenKind::Comma) => is_heading || self.is_list(at, cue, mention),
                Some(TokenKind::Colon) => at == cue.end,
                Some(TokenKind::Word) if self.word(at) == "and" => {
                    is_heading || !self.opens_clause(at, category)
                }
                _ => true,
            }
        })
    }

    /// Whether the scope of a cue goes backward to a finding, and whether it is a second thought.
    fn reaches_backward(&self, cue: &Cue, mention: &Mention) -> Option<bool> {
        let mut predicate = cue.start;
        while predicate > mention.end && AUXILIARIES.contains(&self.word(predicate - 1)) {
            predicate -= 1;
        }
        let mut is_blocked = false;
        let mut is_second_thought = false;
        for at in mention.end..predicate {
            match self.cue_at(at) {
                Some(it) if it.kind == CueKind::Terminate => {
                    if it.direction == Direction::Forward {
                        continue;
                    }
                    if it.end < predicate {
                        return None;
                    }
                    is_second_thought = true;
                    is_blocked = false;
                }
                Some(it) if it.kind.category() == cue.kind.category() => {
                    is_blocked |= self.direction(it) == Direction::Backward;
                }
                _ => {}
            }
            match self.kind(at) {
                Some(TokenKind::Comma) if !self.is_passed(at, predicate, cue) => return None,
                Some(TokenKind::Colon) if at + 1 < predicate => return None,
                Some(TokenKind::Word) if self.is_other_clause(at, mention) => is_blocked = true,
                _ => {}
            }
        }
        (!is_blocked).then_some(is_second_thought)
    }

    /// Whether a word between a finding and a cue behind it belongs to another clause.
    fn is_other_clause(&self, at: usize, mention: &Mention) -> bool {
        let word = self.word(at);
        if word == "and" {
            return self.has_verb(mention.end, at)
                && self.has_verb(at + 1, self.clause_end(at + 1));
        }
        let is_relative = (at.saturating_sub(2)..at).any(|it| RELATIVE.contains(&self.word(it)));
        VERBS.contains(&word) && !is_relative && !self.is_in_cue(at)
    }

    fn is_in_cue(&self, at: usize) -> bool {
        self.cues.iter().any(|it| it.start <= at && at < it.end)
    }

    /// Whether a comma between a finding and a cue behind it does not separate them: nothing stands
    /// between comma and cue, or the comma is one of a list.
    fn is_passed(&self, comma: usize, predicate: usize, cue: &Cue) -> bool {
        if comma + 1 >= predicate {
            return true;
        }
        let has_mention = self.mentions.iter().any(|it| it.start > comma && it.end <= cue.start);
        if self.kind(comma + 1) == Some(TokenKind::Han) {
            return !has_mention;
        }
        let is_closed = (comma + 1..predicate).any(|it| matches!(self.word(it), "and" | "or"));
        has_mention && is_closed && !self.has_verb(comma + 1, predicate)
    }

    /// Whether a list goes on behind a comma, so that a cue before it reaches a finding behind it.
    fn is_list(&self, comma: usize, cue: &Cue, mention: &Mention) -> bool {
        let category = cue.kind.category();
        let end = self.segment_end(comma + 1);
        if self.kind(comma + 1) == Some(TokenKind::Han) {
            return (comma + 1..end).all(|at| {
                self.mentions.iter().any(|it| it.start <= at && at < it.end)
                    || CONNECTORS.contains(&self.word(at))
                    || self.kind(at) == Some(TokenKind::Enumeration)
            });
        }
        let is_connector = |at: &usize| CONNECTORS.contains(&self.word(*at));
        let first = (comma + 1..end).find(|at| !is_connector(at)).unwrap_or(end);
        let says_more = self.cue_at(first).is_some_and(|it| {
            it.kind.category() == Category::Presence && category != Category::Presence
                || it.kind == CueKind::Terminate
        });
        if says_more {
            return false;
        }
        if self.has_closing_or(comma, mention) {
            return true;
        }
        let word = self.word(first);
        let begins_claim = [&DETERMINERS[..], &SIDES_AND_SIZES, &NEW_CLAIM];
        !self.has_open_verb(first, end) && !begins_claim.iter().any(|it| it.contains(&word))
    }

    /// Whether the items behind a comma, up to the first verb, are joined by "or".
    fn has_closing_or(&self, comma: usize, mention: &Mention) -> bool {
        let mut end = self.clause_end(comma + 1).max(mention.end);
        for at in comma + 1..end {
            if VERBS.contains(&self.word(at)) && !self.is_in_mention(at) {
                end = at;
                break;
            }
        }
        let or = (comma + 1..end).find(|at| matches!(self.word(*at), "or" | "nor"));
        or.is_some_and(|or| self.mentions.iter().any(|it| it.start > or && it.start < end))
            && mention.start < end
    }

    fn is_in_mention(&self, at: usize) -> bool {
        self.mentions.iter().any(|it| it.start <= at && at < it.end)
    }

    /// Whether "and" begins a clause of its own.
    fn opens_clause(&self, and: usize, category: Category) -> bool {
        let first = self.word(and + 1);
        let before = self.word(and.saturating_sub(1));
        let end = self.clause_end(and + 1);
        let is_new_claim = SIDES_AND_SIZES.contains(&first)
            && !SIDES_AND_SIZES.contains(&before)
            && category == Category::Presence
            && !self.is_last_of_list(and);
        VERBS.contains(&first)
            || DETERMINERS.contains(&first)
            || is_new_claim
            || self.has_verb(self.clause_start(and), and) && self.has_open_verb(and + 1, end)
    }

    /// Whether "and" stands behind a comma, as before the last item of a list.
    fn is_last_of_list(&self, and: usize) -> bool {
        and > 0 && self.kind(and - 1) == Some(TokenKind::Comma)
    }

    fn has_verb(&self, start: usize, end: usize) -> bool {
        (start..end).any(|at| VERBS.contains(&self.word(at)) && !self.is_in_mention(at))
    }

    /// Whether a verb stands there that does not merely say that something is seen.
    fn has_open_verb(&self, start: usize, end: usize) -> bool {
        (start..end).any(|at| {
            VERBS.contains(&self.word(at))
                && !self.is_in_mention(at)
                && !SEEN.contains(&self.word(at + 1))
        })
    }

    /// The end of the part between commas.
    fn segment_end(&self, start: usize) -> usize {
        let ends = |at: &usize| {
            matches!(self.kind(*at), Some(TokenKind::Comma | TokenKind::Colon))
                || self.cue_at(*at).is_some_and(|it| it.kind == CueKind::Terminate)
        };
        (start..self.tokens.len()).find(ends).unwrap_or(self.tokens.len())
    }

    /// The end of the clause: a word that ends scopes, a colon, or the end of the sentence.
    fn clause_end(&self, start: usize) -> usize {
        let ends = |at: &usize| {
            self.kind(*at) == Some(TokenKind::Colon)
                || self.cue_at(*at).is_some_and(|it| it.kind == CueKind::Terminate)
        };
        (start..self.tokens.len()).find(ends).unwrap_or(self.tokens.len())
    }

    /// The start of the part between commas that a token belongs to.
    fn clause_start(&self, end: usize) -> usize {
        let ends = |at: &usize| matches!(self.kind(*at), Some(TokenKind::Comma | TokenKind::Colon));
        (0..end).rev().find(ends).map_or(0, |it| it + 1)
    }
}

/// The cue of a category that holds: a second thought, or else the nearest.
fn nearest(reaches: &[Reach], category: Category) -> Option<CueKind> {
    let of_category = reaches.iter().filter(|it| it.kind.category() == category);
    let rank = |kind| match kind {
        CueKind::Doubt | CueKind::Possible => 0,
        CueKind::Unknown => 1,
        CueKind::Affirmed => 2,
        _ => 3,
    };
    let first = of_category.min_by_key(|it| (!it.is_second_thought, it.distance, rank(it.kind)));
    first.map(|it| it.kind)
}
