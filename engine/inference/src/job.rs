//! The model as the scheduler sees it: a [`Job`] is a question with its answer so far. After the last
//! word comes drawing, a picture at a time.

use std::cell::RefCell;
use std::time::Instant;

use citrus_v::{CitrusV, Ending, ModelError, Need, Segmentation, Session};
use domain::{AnswerMask, ErrorChain, InferAnswer, InferRequest};

use crate::scheduler::Network;
use crate::wire::{InferFault, answer_of, mask_of};

/// Most masks that are drawn in one step: each takes memory of its own, and others wait meanwhile.
const DRAWN_AT_ONCE: usize = 8;

/// A question at work.
pub(crate) struct Job {
    id: u64,
    session: Session,
    /// Width and height of each picture, as it was sent.
    sources: Vec<[u32; 2]>,
    request: InferRequest,
    /// What was drawn for each `[SEG]` so far.
    drawn: Vec<Option<Segmentation>>,
    is_heard: bool,
    /// How many words of the answer were passed on.
    told: usize,
    asked: Instant,
}

impl Job {
    pub(crate) fn new(
        id: u64,
        session: Session,
        sources: Vec<[u32; 2]>,
        request: InferRequest,
        (is_heard, asked): (bool, Instant),
    ) -> Self {
        // The session has them as the network sees them.
        let request = InferRequest { pictures: Vec::new(), ..request };
        let (drawn, told) = (Vec::new(), 0);
        Self { id, session, sources, request, drawn, is_heard, told, asked }
    }

    /// The first `[SEG]` that is not drawn yet.
    fn undrawn(&self) -> Option<usize> {
        let is_drawn = |it: usize| self.drawn.get(it).is_some_and(Option::is_some);
        let has_picture = |it: usize| self.request.mask_picture(it) < self.sources.len();
        (0..self.session.segs()).find(|it| has_picture(*it) && !is_drawn(*it))
    }
}

/// The model, and words of answers that somebody wants to hear at once.
pub(crate) struct AtWork {
    pub(crate) model: CitrusV,
    said: RefCell<Vec<(u64, String)>>,
}

impl AtWork {
    pub(crate) const fn new(model: CitrusV) -> Self {
        Self { model, said: RefCell::new(Vec::new()) }
    }

    /// What was said since this was asked last, of which question.
    pub(crate) fn said(&self) -> Vec<(u64, String)> {
        self.said.take()
    }

    /// The answer of a question that has ended.
    pub(crate) fn answered(&self, job: Job) -> Result<InferAnswer, InferFault> {
        let failed =
            |error: &dyn std::error::Error| InferFault::unavailable(ErrorChain(error).to_string());
        let question = job.session.question();
        let tokens = [question.ids.len(), job.session.said().len()];
        let seen = question.fitted.first().map(|it| [it.width, it.height]);
        let recalled = job.session.recalled();
        let answer = job.session.into_answer().map_err(|it| failed(&it))?;
        let text = self.model.tokens().decode(&answer.ids).map_err(|it| failed(&it))?;
        let mut said = answer_of(text, seen, job.sources.first().copied());
        for (seg, drawn) in job.drawn.iter().enumerate() {
            let picture = job.request.mask_picture(seg);
            if let (Some(drawn), Some(size)) = (drawn, job.sources.get(picture)) {
                let mask = mask_of(&drawn.mask, *size, Some(drawn.iou));
                said.masks.push(AnswerMask { picture, ..mask });
            }
        }
        said.is_cut = answer.ending != Ending::Said;
        (said.tokens, said.recalled) = (tokens, recalled);
        said.milliseconds = u64::try_from(job.asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(said)
    }

    /// Further words of a job, once they are whole letters.
    fn hear(&self, job: &mut Job) {
        let words = job.session.said();
        let fresh = self.model.tokens().decode(words.get(job.told..).unwrap_or_default());
        // What cannot be decoded is told of with the whole answer.
        if let Ok(text) = fresh
            && !text.is_empty()
            && !text.ends_with(char::REPLACEMENT_CHARACTER)
        {
            job.told = words.len();
            self.said.borrow_mut().push((job.id, text));
        }
    }
}

impl Network for AtWork {
    type Job = Job;
    type Error = ModelError;

    fn need(&self, job: &Job) -> Need {
        match job.session.need() {
            Need::Nothing if job.undrawn().is_some() => Need::Draw,
            need => need,
        }
    }

    fn tokens_max(&self, job: &Job) -> usize {
        job.session.tokens_max()
    }

    fn see(&self, job: &mut Job) -> Result<(), ModelError> {
        self.model.see(&mut job.session)
    }

    fn read(&self, job: &mut Job, most: usize) -> Result<(), ModelError> {
        self.model.read(&mut job.session, most)
    }

    fn say(&self, jobs: &mut [&mut Job]) -> Result<(), ModelError> {
        let mut sessions: Vec<&mut Session> = jobs.iter_mut().map(|it| &mut it.session).collect();
        self.model.say(&mut sessions, &mut |_, _, _| {})?;
        for job in jobs.iter_mut().filter(|it| it.is_heard) {
            self.hear(job);
        }
        Ok(())
    }

    fn draw(&self, job: &mut Job) -> Result<(), ModelError> {
        let Some(first) = job.undrawn() else { return Ok(()) };
        let picture = job.request.mask_picture(first);
        let of_it = |it: &usize| job.request.mask_picture(*it) == picture;
        let segs = (first..job.session.segs()).filter(of_it).take(DRAWN_AT_ONCE);
        let segs: Vec<usize> = segs.collect();
        let drawn = self.model.draw(&job.session, &segs, picture)?;
        job.drawn.resize_with(job.session.segs(), || None);
        for (seg, drawn) in segs.into_iter().zip(drawn) {
            if let Some(slot) = job.drawn.get_mut(seg) {
                *slot = Some(drawn);
            }
        }
        Ok(())
    }

    fn forget(&self, job: &mut Job) {
        job.session.forget();
    }
}
