//! Continuous batching: decides which request runs the next step on the device.
//!
//! A step is the encoding of one image, a chunk of prefill, one decode step of the whole batch, or
//! a segmentation. Steps are short, so an urgent request waits for one at most. The scheduler is
//! pure: the caller passes the time in, and one call of [`Scheduler::step`] is one step.
//!
//! Every step begins with *admission*: requests are sorted by urgency and arrival, and admitted in
//! this order while the limits of [`Limits`] hold. A request that is no longer admitted is
//! *preempted*: its KV cache is released, and it prefills again later.

use std::time::Duration;

use citrus_v::Phase;
use domain::Priority;

/// A routine request that was not admitted for this long counts as urgent, so that no request
/// starves.
const STARVATION_LIMIT: Duration = Duration::from_mins(2);

/// Runs the steps of requests on a device.
pub trait Executor {
    /// A request and the progress of its sequence.
    type Request;

    /// The error of a step.
    type Error;

    /// The phase that the request is in: the kind of its next step.
    fn phase(&self, request: &Self::Request) -> Phase;

    /// The upper bound on the tokens that the request holds in the KV cache.
    fn tokens_max(&self, request: &Self::Request) -> usize;

    /// Encodes the next image of a request.
    ///
    /// # Errors
    ///
    /// Fails if this request cannot continue.
    fn encode_image(&self, request: &mut Self::Request) -> Result<(), Self::Error>;

    /// Prefills at most `chunk` further tokens of a request.
    ///
    /// # Errors
    ///
    /// Fails if this request cannot continue.
    fn prefill(&self, request: &mut Self::Request, chunk: usize) -> Result<(), Self::Error>;

    /// Generates one token of each request in the batch.
    ///
    /// # Errors
    ///
    /// Fails if none of them can continue.
    fn decode(&self, batch: &mut [&mut Self::Request]) -> Result<(), Self::Error>;

    /// Segments the next masks of a request.
    ///
    /// # Errors
    ///
    /// Fails if this request cannot continue.
    fn segment(&self, request: &mut Self::Request) -> Result<(), Self::Error>;

    /// Releases the KV cache of a request; it prefills again when it continues.
    fn release(&self, request: &mut Self::Request);
}

/// The limits of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of admitted requests.
    pub requests: usize,
    /// The maximum number of tokens in the KV caches of all admitted requests.
    pub tokens: usize,
    /// The number of tokens that one step prefills.
    pub prefill_chunk: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests: 8, tokens: 32_768, prefill_chunk: 256 }
    }
}

/// The step that was run, with the numbers of the requests it advanced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An image was encoded.
    EncodedImage(u64),
    /// A chunk was prefilled.
    Prefilled(u64),
    /// Masks were segmented.
    Segmented(u64),
    /// Each request of the batch generated a token.
    Decoded(Vec<u64>),
}

/// Why a request finished without a response.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Abort<E> {
    /// Its deadline has passed.
    #[error("it was not answered in time")]
    DeadlineExceeded,
    /// A step failed.
    #[error("the network failed")]
    Failed(E),
}

/// A request that left the scheduler.
pub struct Finished<E: Executor> {
    /// The number of the request.
    pub id: u64,
    /// The request with its sequence, or the reason it was aborted.
    pub outcome: Result<E::Request, Abort<E::Error>>,
}

/// What one call of [`Scheduler::step`] did.
pub struct StepOutcome<E: Executor> {
    /// The step; none if there was nothing to do.
    pub step: Option<Step>,
    /// The requests that finished, in this step or because their deadline has passed.
    pub finished: Vec<Finished<E>>,
}

/// A request in the scheduler.
struct Entry<R> {
    id: u64,
    priority: Priority,
    arrived: Duration,
    deadline: Option<Duration>,
    /// Since when it has been waiting for admission.
    waiting_since: Duration,
    is_admitted: bool,
    request: R,
}

/// A request that can never be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("prompt and completion may take {needed} tokens, there is room for {room}")]
pub struct ExceedsTokenLimit {
    /// The tokens that the request may need.
    pub needed: usize,
    /// The limit of [`Limits::tokens`].
    pub room: usize,
}

/// The scheduler with all requests that are not finished.
pub struct Scheduler<E: Executor> {
    executor: E,
    limits: Limits,
    entries: Vec<Entry<E::Request>>,
    /// Whether the last step was a decode step: then a request that prefills is next.
    was_decode: bool,
}

impl<E: Executor> Scheduler<E> {
    /// A scheduler without requests.
    pub const fn new(executor: E, limits: Limits) -> Self {
        Self { executor, limits, entries: Vec::new(), was_decode: false }
    }

    /// The executor of the steps.
    pub const fn executor(&self) -> &E {
        &self.executor
    }

    /// The number of requests that are not finished.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a request, which waits for admission.
    ///
    /// # Errors
    ///
    /// Fails if the request needs more tokens than the limit, so that it could never be admitted.
    pub fn add(
        &mut self,
        id: u64,
        request: E::Request,
        priority: Priority,
        now: Duration,
        deadline: Option<Duration>,
    ) -> Result<(), ExceedsTokenLimit> {
        let needed = self.executor.tokens_max(&request);
        let room = self.limits.tokens;
        if needed > room {
            return Err(ExceedsTokenLimit { needed, room });
        }
        self.entries.push(Entry {
            id,
            priority,
            arrived: now,
            deadline,
            waiting_since: now,
            is_admitted: false,
            request,
        });
        Ok(())
    }

    /// Drops a request; it is not reported as finished.
    pub fn cancel(&mut self, id: u64) {
        self.entries.retain(|it| it.id != id);
    }

    /// Runs one step, if there is one.
    pub fn step(&mut self, now: Duration) -> StepOutcome<E> {
        let mut finished = self.remove_expired(now);
        self.admit(now);
        let step = self.run_step(now, &mut finished);
        let executor = &self.executor;
        let complete =
            self.entries.extract_if(.., |it| executor.phase(&it.request) == Phase::Finished);
        finished.extend(complete.map(|it| Finished { id: it.id, outcome: Ok(it.request) }));
        StepOutcome { step, finished }
    }

    fn remove_expired(&mut self, now: Duration) -> Vec<Finished<E>> {
        let expired =
            self.entries.extract_if(.., |it| it.deadline.is_some_and(|deadline| deadline <= now));
        expired.map(|it| Finished { id: it.id, outcome: Err(Abort::DeadlineExceeded) }).collect()
    }

    /// Admits requests in the order of urgency and arrival, and preempts those that no longer fit.
    fn admit(&mut self, now: Duration) {
        self.entries.sort_by_key(|it| (urgency(it, now), it.arrived, it.id));
        let mut requests = 0;
        let mut tokens = 0;
        for entry in &mut self.entries {
            let needed = self.executor.tokens_max(&entry.request);
            let fits = requests < self.limits.requests && tokens + needed <= self.limits.tokens;
            if fits {
                requests += 1;
                tokens += needed;
            } else if entry.is_admitted {
                self.executor.release(&mut entry.request);
            }
            entry.is_admitted = fits;
            // Waiting ends with admission. A routine request that has become urgent stays urgent.
            let is_starved = now.saturating_sub(entry.waiting_since) >= STARVATION_LIMIT;
            if fits && entry.priority == Priority::Routine && !is_starved {
                entry.waiting_since = now;
            }
        }
    }

    /// Runs the next step of the most urgent admitted requests. A decode step of the batch and a
    /// step of a request that is not decoding yet alternate.
    fn run_step(&mut self, now: Duration, finished: &mut Vec<Finished<E>>) -> Option<Step> {
        let first = self.entries.iter().find(|it| it.is_admitted)?;
        let most_urgent = urgency(first, now);
        let mut has_decoding = false;
        let mut first_preparing = None;
        for (index, entry) in self.entries.iter().enumerate() {
            if !entry.is_admitted || urgency(entry, now) != most_urgent {
                continue;
            }
            if self.executor.phase(&entry.request) == Phase::Decode {
                has_decoding = true;
            } else if first_preparing.is_none() {
                first_preparing = Some(index);
            }
        }
        match first_preparing {
            Some(index) if !has_decoding || self.was_decode => {
                self.was_decode = false;
                self.run_single(index, finished)
            }
            _ => {
                self.was_decode = true;
                self.run_batch(finished)
            }
        }
    }

    /// Runs a step of one request that is not decoding.
    fn run_single(&mut self, index: usize, finished: &mut Vec<Finished<E>>) -> Option<Step> {
        let entry = self.entries.get_mut(index)?;
        let id = entry.id;
        let request = &mut entry.request;
        let (step, outcome) = match self.executor.phase(request) {
            Phase::EncodeImage => (Step::EncodedImage(id), self.executor.encode_image(request)),
            Phase::Segment => (Step::Segmented(id), self.executor.segment(request)),
            Phase::Prefill | Phase::Decode | Phase::Finished => {
                (Step::Prefilled(id), self.executor.prefill(request, self.limits.prefill_chunk))
            }
        };
        if let Err(error) = outcome {
            self.entries.remove(index);
            finished.push(Finished { id, outcome: Err(Abort::Failed(error)) });
        }
        Some(step)
    }

    /// Runs a decode step of all admitted requests that are decoding, whatever their urgency.
    fn run_batch(&mut self, finished: &mut Vec<Finished<E>>) -> Option<Step> {
        let executor = &self.executor;
        let batch = self
            .entries
            .iter_mut()
            .filter(|it| it.is_admitted && executor.phase(&it.request) == Phase::Decode);
        let (ids, mut requests): (Vec<u64>, Vec<&mut E::Request>) =
            batch.map(|it| (it.id, &mut it.request)).unzip();
        if let Err(error) = executor.decode(&mut requests) {
            // The whole batch failed: the first request is aborted, the others prefill again.
            let (first, others) = ids.split_first()?;
            self.entries.retain(|it| it.id != *first);
            for entry in self.entries.iter_mut().filter(|it| others.contains(&it.id)) {
                self.executor.release(&mut entry.request);
            }
            finished.push(Finished { id: *first, outcome: Err(Abort::Failed(error)) });
        }
        Some(Step::Decoded(ids))
    }
}

/// The urgency of a request at this time: its priority, or urgent if it has waited for too long.
fn urgency<R>(entry: &Entry<R>, now: Duration) -> Priority {
    if now.saturating_sub(entry.waiting_since) >= STARVATION_LIMIT {
        Priority::Stat
    } else {
        entry.priority
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A request with this many images, prefill chunks, tokens to generate and masks, and the
    /// progress of each.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct FakeRequest {
        images: usize,
        chunks: usize,
        tokens: usize,
        masks: usize,
        encoded: usize,
        prefilled: usize,
        generated: usize,
        segmented: usize,
        released: usize,
    }

    #[derive(Default)]
    struct FakeExecutor {
        /// A decode step of this many requests fails.
        fails_at: Cell<Option<usize>>,
    }

    impl Executor for FakeExecutor {
        type Request = FakeRequest;
        type Error = &'static str;

        fn phase(&self, request: &FakeRequest) -> Phase {
            if request.generated == request.tokens {
                let has_masks = request.segmented < request.masks;
                if has_masks { Phase::Segment } else { Phase::Finished }
            } else if request.encoded < request.images {
                Phase::EncodeImage
            } else if request.prefilled < request.chunks {
                Phase::Prefill
            } else {
                Phase::Decode
            }
        }

        fn tokens_max(&self, request: &FakeRequest) -> usize {
            request.chunks + request.tokens
        }

        fn encode_image(&self, request: &mut FakeRequest) -> Result<(), &'static str> {
            request.encoded += 1;
            Ok(())
        }

        fn prefill(&self, request: &mut FakeRequest, _: usize) -> Result<(), &'static str> {
            request.prefilled += 1;
            Ok(())
        }

        fn decode(&self, batch: &mut [&mut FakeRequest]) -> Result<(), &'static str> {
            if self.fails_at.get() == Some(batch.len()) {
                return Err("no memory");
            }
            for request in batch.iter_mut() {
                request.generated += 1;
            }
            Ok(())
        }

        fn segment(&self, request: &mut FakeRequest) -> Result<(), &'static str> {
            request.segmented += 1;
            Ok(())
        }

        fn release(&self, request: &mut FakeRequest) {
            request.prefilled = 0;
            request.released += 1;
        }
    }

    fn request(images: usize, chunks: usize, tokens: usize) -> FakeRequest {
        FakeRequest { images, chunks, tokens, ..FakeRequest::default() }
    }

    fn scheduler(requests: usize) -> Scheduler<FakeExecutor> {
        let limits = Limits { requests, tokens: 1000, prefill_chunk: 1 };
        Scheduler::new(FakeExecutor::default(), limits)
    }

    const NOW: Duration = Duration::ZERO;

    /// All steps until nothing is left, and the requests that finished with each.
    fn run(scheduler: &mut Scheduler<FakeExecutor>) -> Vec<(Step, Vec<u64>)> {
        let mut steps = Vec::new();
        while !scheduler.is_empty() {
            let StepOutcome { step, finished } = scheduler.step(NOW);
            steps.push((step.unwrap(), finished.iter().map(|it| it.id).collect()));
            assert!(steps.len() < 1000);
        }
        steps
    }

    #[test]
    fn an_urgent_request_waits_for_one_step_at_most_also_if_all_places_are_occupied() {
        for places in [1, 2, 4] {
            for before in 1..12 {
                let mut scheduler = scheduler(places);
                for id in 0..4 {
                    scheduler.add(id, request(1, 3, 20), Priority::Routine, NOW, None).unwrap();
                }
                for _ in 0..before {
                    scheduler.step(NOW);
                }
                let urgent = FakeRequest { masks: 1, ..request(1, 2, 3) };
                scheduler.add(9, urgent, Priority::Stat, NOW, None).unwrap();
                // It is served before any other request gets a step of its own.
                let expected = [Step::EncodedImage(9), Step::Prefilled(9), Step::Prefilled(9)];
                for expected in expected {
                    assert_eq!(scheduler.step(NOW).step, Some(expected), "{places} {before}");
                }
                for _ in 0..3 {
                    let step = scheduler.step(NOW).step;
                    assert!(matches!(step, Some(Step::Decoded(ids)) if ids.contains(&9)));
                }
                let StepOutcome { step, finished } = scheduler.step(NOW);
                assert_eq!((step, finished[0].id), (Some(Step::Segmented(9)), 9));
                // The requests that were preempted for it finish as well.
                let finished: Vec<u64> =
                    run(&mut scheduler).into_iter().flat_map(|it| it.1).collect();
                assert_eq!(finished.len(), 4, "{places} {before}");
            }
        }
    }

    #[test]
    fn a_preempted_request_prefills_again_and_loses_no_token() {
        let mut scheduler = scheduler(1);
        scheduler.add(1, request(0, 2, 5), Priority::Routine, NOW, None).unwrap();
        for _ in 0..4 {
            scheduler.step(NOW);
        }
        scheduler.add(2, request(0, 1, 1), Priority::Stat, NOW, None).unwrap();
        let mut last = None;
        while !scheduler.is_empty() {
            last = scheduler.step(NOW).finished.pop().or(last);
        }
        let request = last.unwrap().outcome.unwrap();
        assert_eq!((request.released, request.generated, request.prefilled), (1, 5, 2));
    }

    #[test]
    fn requests_decode_in_one_batch_and_new_requests_prefill_in_between() {
        let mut scheduler = scheduler(8);
        scheduler.add(1, request(0, 1, 6), Priority::Routine, NOW, None).unwrap();
        scheduler.step(NOW);
        scheduler.add(2, request(0, 2, 2), Priority::Routine, NOW, None).unwrap();
        let steps: Vec<Step> = run(&mut scheduler).into_iter().map(|it| it.0).collect();
        let one = Step::Decoded(vec![1]);
        let both = Step::Decoded(vec![1, 2]);
        let expected = [
            one.clone(),
            Step::Prefilled(2),
            one.clone(),
            Step::Prefilled(2),
            both.clone(),
            both,
            one.clone(),
            one,
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn no_request_starves_and_none_is_served_after_its_deadline() {
        let mut scheduler = scheduler(1);
        scheduler.add(1, request(0, 1, 1), Priority::Routine, NOW, None).unwrap();
        let deadline = Some(Duration::from_secs(5));
        scheduler.add(2, request(0, 1, 1), Priority::Routine, NOW, deadline).unwrap();
        scheduler.add(3, request(0, 1, 9), Priority::Stat, STARVATION_LIMIT, None).unwrap();
        // The oldest request has become as urgent, and arrived first.
        let StepOutcome { step, finished } = scheduler.step(STARVATION_LIMIT);
        assert_eq!(step, Some(Step::Prefilled(1)));
        assert_eq!(finished[0].id, 2);
        assert_eq!(finished[0].outcome.as_ref().err(), Some(&Abort::DeadlineExceeded));
    }

    #[test]
    fn a_request_that_never_fits_is_refused_and_a_failing_step_aborts_one_request() {
        let mut scheduler = scheduler(8);
        let huge = scheduler.add(1, request(0, 900, 200), Priority::Stat, NOW, None);
        assert_eq!(huge, Err(ExceedsTokenLimit { needed: 1100, room: 1000 }));
        scheduler.add(2, request(0, 1, 2), Priority::Routine, NOW, None).unwrap();
        scheduler.add(3, request(0, 1, 2), Priority::Routine, NOW, None).unwrap();
        // Two at once are too many for the memory.
        scheduler.executor().fails_at.set(Some(2));
        let mut outcomes = Vec::new();
        while !scheduler.is_empty() {
            let finished = scheduler.step(NOW).finished;
            outcomes.extend(finished.into_iter().map(|it| (it.id, it.outcome.is_ok())));
        }
        assert_eq!(outcomes.len(), 2);
        assert!(outcomes.iter().any(|it| it.1), "{outcomes:?}");
        scheduler.cancel(7);
    }
}
