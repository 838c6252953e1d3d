//! What a report in prose claims: which findings are there, denied, doubted or not assessed, now or
//! earlier, new or unchanged, and on which side. By rules, so that no model judges a model.
//!
//! ```
//! use claims::{State, Vocabulary};
//! use domain::Presence;
//!
//! let claims = Vocabulary::standard().claims("The right pneumothorax is not changed. No effusion.");
//! assert_eq!(claims[0].concept, "pneumothorax");
//! assert_eq!(claims[0].presence, Presence::Present);
//! assert_eq!(claims[0].state, Some(State::Unchanged));
//! assert_eq!(claims[1].presence, Presence::Absent);
//! ```
//!
//! The rules are those that were published as `NegEx` (Chapman 2001) and `ConText` (Harkema 2009):
//! cues before and behind a finding, phrases that look like cues and are none, and words that end
//! the scope of a cue. No scope leaves its clause. The steps, each in its module:
//!
//! - `sentence`: a text to sentences, and a sentence to tokens, in English and Chinese;
//! - `phrase`: what a phrase of the data files matches;
//! - `cue`: what the phrases of `data/triggers.*.tsv` mean;
//! - `concept`: the findings of `data/concepts.tsv`, and those that a site adds;
//! - `lexicon`: all phrases, found by their first word;
//! - `reading`: findings, cues and sites of one sentence;
//! - `scope`: which cue applies to which finding;
//! - `site`: the site of the body, and the side, that a finding is of;
//! - `state`: the codes of `data/states.tsv` for what became of a finding;
//! - `vocabulary`: the reading of a whole text;
//! - `comparison`: where two texts agree and differ.
//!
//! **Invariants**
//!
//! - A finding that the vocabulary does not know gives no claim; nor does a general word
//!   ("effusion") beside a site that none of its findings is of ("knee").
//! - No input makes it panic or run long.

mod claim;
mod comparison;
mod concept;
mod cue;
mod lexicon;
mod phrase;
mod reading;
mod scope;
mod sentence;
mod site;
mod state;
mod vocabulary;

pub use claim::{Claim, Experiencer, Sides, State, Temporality};
pub use comparison::{Comparison, Unmatched};
pub use concept::{ConceptEntry, VocabularyError};
pub use vocabulary::Vocabulary;
