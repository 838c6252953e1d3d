//! A question being answered, one step at a time: so that many can take turns on one device.
//!
//! Seeing a picture, reading a piece of the question, saying one word of each of several answers: each
//! is a step. What is in between lies in the [`Session`].

use candle_core::Tensor;

use crate::cache::Cache;
use crate::decoding::{Chooser, Decoding};
use crate::model::{Answer, CitrusV, Ending, ModelError, Question, Segmentation};
use crate::positions::{Grid, PlacesError, TextPositions, text_positions};
use crate::recall::{Digest, Passage, digest};
use crate::text::{Turn, causal_mask};

/// A question, and how far its answer is.
pub struct Session {
    question: Question,
    positions: TextPositions,
    /// Which picture begins at which token; nothing, if nothing is to be remembered of it.
    pictures: Option<Vec<(usize, Digest)>>,
    /// Tokens that had been read before it began.
    recalled: usize,
    was_put_aside: bool,
    /// Features of the pictures seen so far.
    features: Vec<Tensor>,
    /// Embeddings of the question, once all pictures were seen.
    embeddings: Option<Tensor>,
    cache: Cache,
    /// The hidden state of the last token that was read, `[1, hidden]`.
    hidden: Option<Tensor>,
    said: Vec<u32>,
    segs: Vec<(usize, Tensor)>,
    chooser: Chooser,
    decoding: Decoding,
    ending: Option<Ending>,
}

/// What a session needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To see a picture.
    See,
    /// To read on.
    Read,
    /// To say the next word.
    Say,
    /// To draw what was meant. A session does not ask for that: whoever runs it does.
    Draw,
    /// Nothing: the answer is there.
    Nothing,
}

impl Session {
    /// What it needs next.
    pub fn need(&self) -> Need {
        if self.ending.is_some() {
            Need::Nothing
        } else if self.features.len() < self.question.grids.len() && self.embeddings.is_none() {
            Need::See
        } else if self.hidden.is_none() {
            Need::Read
        } else {
            Need::Say
        }
    }

    /// Words said so far.
    pub fn said(&self) -> &[u32] {
        &self.said
    }

    /// Tokens that were not read for it, because they had been read for another.
    pub const fn recalled(&self) -> usize {
        self.recalled
    }

    /// Most tokens that there may be in memory.
    pub fn tokens_max(&self) -> usize {
        self.question.ids.len().saturating_add(self.decoding.tokens_max)
    }

    /// Gives its memory back. Question and words are read again when it goes on. What an answer that has
    /// ended means to draw stays: nothing is read for it any more.
    pub fn forget(&mut self) {
        self.was_put_aside = true;
        self.cache = Cache::default();
        self.hidden = None;
        if self.ending.is_none() {
            self.segs.clear();
        }
    }

    /// How many `[SEG]` were read.
    pub const fn segs(&self) -> usize {
        self.segs.len()
    }

    /// The hidden states of every `[SEG]` so far, `[n, hidden]`.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn seg_hidden(&self) -> Result<Option<Tensor>, ModelError> {
        let rows: Vec<&Tensor> = self.segs.iter().map(|(_, it)| it).collect();
        if rows.is_empty() { Ok(None) } else { Ok(Some(Tensor::cat(&rows, 0)?)) }
    }

    /// Ends it where it is.
    pub fn cancel(&mut self) {
        self.ending.get_or_insert(Ending::Cancelled);
    }

    /// The question it is about.
    pub const fn question(&self) -> &Question {
        &self.question
    }

    /// What was said, once it has ended.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn into_answer(self) -> Result<Answer, ModelError> {
        let seg_hidden = self.seg_hidden()?;
        let seg_positions = self.segs.into_iter().map(|(at, _)| at).collect();
        let ending = self.ending.unwrap_or(Ending::Cancelled);
        Ok(Answer { ids: self.said, ending, seg_positions, seg_hidden })
    }

    /// The first `count` tokens of question and answer; nothing, if they are not to be remembered.
    fn passage(&self, count: usize) -> Option<Passage> {
        let pictures = self.pictures.as_ref()?.iter().filter(|(at, _)| *at < count);
        let ids = self.question.ids.iter().chain(&self.said).take(count);
        Some(Passage { ids: ids.copied().collect(), pictures: pictures.copied().collect() })
    }

    /// The number of the token at a place of question and answer.
    fn token(&self, at: usize) -> Option<u32> {
        let length = self.question.ids.len();
        let in_answer = || self.said.get(at.checked_sub(length)?).copied();
        self.question.ids.get(at).copied().or_else(in_answer)
    }

    /// Where a token stands on the three axes.
    fn place(&self, at: usize) -> [i64; 3] {
        let behind = i64::try_from(at).unwrap_or(i64::MAX) + self.positions.delta;
        self.positions.axes.each_ref().map(|axis| axis.get(at).copied().unwrap_or(behind))
    }
}

impl CitrusV {
    /// Begins to answer a question.
    ///
    /// # Errors
    ///
    /// Fails if question and pictures do not fit together.
    pub fn begin(&self, question: Question, decoding: &Decoding) -> Result<Session, ModelError> {
        let (image, merge) = (self.config().tokens.image, self.config().vision.merge);
        let positions = text_positions(&question.ids, image, &question.grids, merge)?;
        let pictures = self.recall().is_on().then(|| {
            let starts = starts(&question.ids, image, &question.grids, merge);
            starts.into_iter().zip(question.fitted.iter().map(digest)).collect::<Vec<_>>()
        });
        Ok(Session {
            // Pictures that came as patches only cannot be told apart.
            pictures: pictures.filter(|it| it.len() == question.grids.len()),
            recalled: 0,
            was_put_aside: false,
            question,
            positions,
            features: Vec::new(),
            embeddings: None,
            cache: Cache::default(),
            hidden: None,
            said: Vec::new(),
            segs: Vec::new(),
            chooser: Chooser::new(decoding.clone()),
            decoding: decoding.clone(),
            ending: None,
        })
    }

    /// Sees the next picture of a session.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn see(&self, session: &mut Session) -> Result<(), ModelError> {
        let size = |it: &[usize; 3]| it.iter().product::<usize>();
        let index = session.features.len();
        let grids = &session.question.grids;
        let (Some(grid), Some(patches)) = (grids.get(index), &session.question.patches) else {
            return Ok(());
        };
        let key = session.pictures.as_ref().and_then(|it| Some(it.get(index)?.1));
        if let Some(features) = key.and_then(|it| self.recall().features(&it)) {
            session.features.push(features);
            return Ok(());
        }
        let first: usize = grids.iter().take(index).map(size).sum();
        let patches = patches.narrow(0, first, size(grid))?.to_dtype(self.dtype())?;
        let features = self.vision().forward(&patches, &[*grid])?;
        if let Some(key) = key {
            self.recall().keep_features(key, &features);
        }
        session.features.push(features);
        Ok(())
    }

    /// Reads at most `most` further tokens of a session.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn read(&self, session: &mut Session, most: usize) -> Result<(), ModelError> {
        let question = self.whole_question(session)?;
        let asked = question.dim(0)?;
        let all = asked + session.said.len();
        self.recall_beginning(session, all)?;
        let before = session.cache.len();
        let count = most.max(1).min(all - before);
        let mut parts = Vec::new();
        if before < asked {
            parts.push(question.narrow(0, before, count.min(asked - before))?);
        }
        let said: Vec<u32> =
            (before.max(asked)..before + count).filter_map(|it| session.token(it)).collect();
        if !said.is_empty() {
            parts.push(self.text().embed(&said)?);
        }
        let embeddings = Tensor::cat(&parts, 0)?.unsqueeze(0)?;
        let places: Vec<[i64; 3]> = (before..before + count).map(|it| session.place(it)).collect();
        let axes: [Vec<i64>; 3] = std::array::from_fn(|axis| {
            places.iter().filter_map(|it| it.get(axis).copied()).collect()
        });
        let axes = axes.each_ref().map(Vec::as_slice);
        let turn = Turn::of(self.text().config(), &[axes], self.device())?;
        let mask = causal_mask(count, before, &[], self.device(), self.dtype())?;
        let hidden =
            self.text().forward(&embeddings, &turn, mask.as_ref(), Some(&mut session.cache))?;
        self.keep_segs(session, before, &hidden.squeeze(0)?)?;
        if before + count == all {
            session.hidden = Some(hidden.narrow(1, count - 1, 1)?.squeeze(0)?);
            self.remember_question(session)?;
        }
        Ok(())
    }

    /// Takes over what was read before of the first tokens. The last is read again: what comes after it
    /// is not remembered.
    fn recall_beginning(&self, session: &mut Session, all: usize) -> Result<(), ModelError> {
        let Some(passage) = session.passage(all).filter(|_| session.cache.is_empty()) else {
            return Ok(());
        };
        if let Some((cache, segs)) = self.recall().beginning(&passage, all.saturating_sub(1))? {
            // One that was put aside finds its own question again: nobody has asked that before.
            if session.recalled == 0 && !session.was_put_aside {
                session.recalled = cache.len();
            }
            session.cache = cache;
            session.segs = segs;
        }
        Ok(())
    }

    /// Remembers a question, for others that begin like it.
    fn remember_question(&self, session: &Session) -> Result<(), ModelError> {
        let asked = session.question.ids.len();
        let Some(passage) = session.passage(asked) else { return Ok(()) };
        let mut recall = self.recall();
        if !recall.knows(&passage) && recall.could_keep(session.cache.bytes()) {
            let segs = session.segs.iter().filter(|(at, _)| *at < asked).cloned().collect();
            recall.keep_read(passage, session.cache.beginning(asked)?, segs);
        }
        Ok(())
    }

    /// Remembers all of a session that has ended: the conversation may go on from there.
    fn remember_answer(&self, session: &mut Session) {
        let cache = std::mem::take(&mut session.cache);
        if let Some(passage) = session.passage(cache.len()) {
            self.recall().keep_read(passage, cache, session.segs.clone());
        }
    }

    /// What comes next after each token of a text, as logits.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn expected(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>, ModelError> {
        let places: Vec<i64> = (0..).take(ids.len()).collect();
        let turn = Turn::of(self.text().config(), &[[places.as_slice(); 3]], self.device())?;
        let mask = causal_mask(ids.len(), 0, &[], self.device(), self.dtype())?;
        let embeddings = self.text().embed(ids)?.unsqueeze(0)?;
        let hidden = self.text().forward(&embeddings, &turn, mask.as_ref(), None)?;
        Ok(self.text().logits(&hidden.squeeze(0)?)?.to_vec2()?)
    }

    /// Embeddings of a session's question: features of the pictures in their places.
    fn whole_question(&self, session: &mut Session) -> Result<Tensor, ModelError> {
        if let Some(embeddings) = &session.embeddings {
            return Ok(embeddings.clone());
        }
        let embeddings = self.placed(&session.question.ids, &session.features)?;
        session.embeddings = Some(embeddings.clone());
        session.features.clear();
        Ok(embeddings)
    }

    /// Embeddings of tokens, with features in the places of pictures.
    pub(crate) fn placed(&self, ids: &[u32], features: &[Tensor]) -> Result<Tensor, ModelError> {
        let words = self.text().embed(ids)?;
        if features.is_empty() {
            return Ok(words);
        }
        let features = Tensor::cat(features, 0)?;
        // Each row from the words, or, behind them, from the features.
        let mut next = ids.len();
        let from = ids.iter().enumerate().map(|(at, id)| {
            if *id != self.config().tokens.image {
                return u32::try_from(at).unwrap_or(u32::MAX);
            }
            next += 1;
            u32::try_from(next - 1).unwrap_or(u32::MAX)
        });
        let from: Vec<u32> = from.collect();
        let (found, expected) = (next - ids.len(), features.dim(0)?);
        if found != expected {
            return Err(PlacesError { found, expected }.into());
        }
        let both = Tensor::cat(&[&words, &features.to_dtype(words.dtype())?], 0)?;
        Ok(both.index_select(&Tensor::new(from.as_slice(), self.device())?, 0)?)
    }

    /// Draws what some `[SEG]` of a session mean into one of its pictures.
    ///
    /// # Errors
    ///
    /// Fails if this model draws no masks, or the device fails.
    pub fn draw(
        &self,
        session: &Session,
        segs: &[usize],
        picture: usize,
    ) -> Result<Vec<Segmentation>, ModelError> {
        let hidden = segs.iter().filter_map(|it| Some(&session.segs.get(*it)?.1));
        let hidden: Vec<&Tensor> = hidden.collect();
        match session.question.fitted.get(picture) {
            Some(picture) if !hidden.is_empty() => self.segment(picture, &Tensor::cat(&hidden, 0)?),
            _ => Ok(Vec::new()),
        }
    }

    /// Says the next word of each session that needs it. `seen` is shown each session's number, word
    /// and logits. The weights are read once for all of them.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn say(
        &self,
        sessions: &mut [&mut Session],
        seen: &mut dyn FnMut(usize, u32, &[f32]),
    ) -> Result<(), ModelError> {
        let mut rows = Vec::new();
        let mut speakers = Vec::new();
        for (index, session) in sessions.iter().enumerate() {
            if let (Need::Say, Some(hidden)) = (session.need(), &session.hidden) {
                rows.push(hidden.clone());
                speakers.push(index);
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let logits = self.text().logits(&Tensor::cat(&rows, 0)?)?.to_vec2::<f32>()?;
        let mut chosen = Vec::new();
        for (index, logits) in speakers.iter().zip(logits) {
            let Some(session) = sessions.get_mut(*index) else { continue };
            if let Some(token) = session.choose(&logits) {
                seen(*index, token, &logits);
                if session.ending.is_none() {
                    chosen.push((*index, token));
                }
            }
            if session.ending.is_some() {
                self.remember_answer(session);
            }
        }
        self.read_words(sessions, &chosen)
    }

    /// Reads one word of each of these sessions, all at once.
    fn read_words(
        &self,
        sessions: &mut [&mut Session],
        chosen: &[(usize, u32)],
    ) -> Result<(), ModelError> {
        if chosen.is_empty() {
            return Ok(());
        }
        let (mut caches, mut places, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        for (index, session) in sessions.iter_mut().enumerate() {
            if chosen.iter().any(|(it, _)| *it == index) {
                places.push(session.place(session.cache.len()).map(|it| [it]));
                owners.push((index, session.cache.len()));
                caches.push(std::mem::take(&mut session.cache));
            }
        }
        let tokens: Vec<u32> = chosen.iter().map(|(_, token)| *token).collect();
        let axes: Vec<[&[i64]; 3]> =
            places.iter().map(|it| it.each_ref().map(<[i64; 1]>::as_slice)).collect();
        let turn = Turn::of(self.text().config(), &axes, self.device())?;
        let hidden = self.text().step(&tokens, &turn, &mut caches)?;
        for (row, ((index, before), cache)) in owners.into_iter().zip(caches).enumerate() {
            let Some(session) = sessions.get_mut(index) else { continue };
            let hidden = hidden.narrow(0, row, 1)?;
            session.cache = cache;
            self.keep_segs(session, before, &hidden)?;
            session.hidden = Some(hidden);
        }
        Ok(())
    }

    /// Keeps the hidden states `[n, hidden]` of every `[SEG]` among tokens that begin at `before`.
    fn keep_segs(
        &self,
        session: &mut Session,
        before: usize,
        hidden: &Tensor,
    ) -> Result<(), ModelError> {
        let Some(seg) = self.config().seg.as_ref().map(|it| it.token) else { return Ok(()) };
        for at in 0..hidden.dim(0)? {
            if session.token(before + at) == Some(seg) {
                // By itself: a part of a piece would keep all of it.
                session.segs.push((before + at, hidden.narrow(0, at, 1)?.copy()?));
            }
        }
        Ok(())
    }
}

impl Session {
    /// Chooses the next word by these logits; none, if that ends the answer.
    fn choose(&mut self, logits: &[f32]) -> Option<u32> {
        let all: Vec<u32> = self.question.ids.iter().chain(&self.said).copied().collect();
        if self.said.len() >= self.decoding.tokens_max {
            self.ending = Some(Ending::Length);
            return None;
        }
        let token = self.chooser.choose(logits.to_vec(), &all);
        if self.decoding.stop.contains(&token) {
            self.ending = Some(Ending::Said);
            return None;
        }
        self.said.push(token);
        if self.said.len() == self.decoding.tokens_max {
            // One that nobody reads has no hidden state.
            self.ending = Some(Ending::Length);
        }
        Some(token)
    }
}

/// Where each picture begins among tokens: an `image` stands for each of its pieces.
fn starts(ids: &[u32], image: u32, grids: &[Grid], merge: usize) -> Vec<usize> {
    let places = ids.iter().enumerate().filter(|(_, id)| **id == image).map(|(at, _)| at);
    let places: Vec<usize> = places.collect();
    let mut next = 0;
    let start = |grid: &Grid| {
        let at = places.get(next).copied();
        next += grid.iter().product::<usize>() / (merge * merge);
        at
    };
    grids.iter().filter_map(start).collect()
}
