//! Who works next on the device. Pure: the time is handed in, and one call is one step.
//!
//! A step is seeing a picture, reading a piece of a question, or saying one word of every answer that
//! is so far. Steps are short, so whoever is urgent waits for one at most.

use std::time::Duration;

use citrus_v::Need;
use domain::Priority;

/// A routine question that has had no place for so long counts as an urgent one: nobody waits for ever.
const AGE: Duration = Duration::from_mins(2);

/// What can work on questions, a step at a time.
pub trait Network {
    /// A question, and how far it is.
    type Job;

    /// What fails.
    type Error;

    /// What a job needs next.
    fn need(&self, job: &Self::Job) -> Need;

    /// Most tokens that a job may take in memory.
    fn tokens_max(&self, job: &Self::Job) -> usize;

    /// Sees a job's next picture.
    ///
    /// # Errors
    ///
    /// Fails if this job cannot go on.
    fn see(&self, job: &mut Self::Job) -> Result<(), Self::Error>;

    /// Reads at most `most` further tokens.
    ///
    /// # Errors
    ///
    /// Fails if this job cannot go on.
    fn read(&self, job: &mut Self::Job, most: usize) -> Result<(), Self::Error>;

    /// Says a word of each job.
    ///
    /// # Errors
    ///
    /// Fails if none of them can go on.
    fn say(&self, jobs: &mut [&mut Self::Job]) -> Result<(), Self::Error>;

    /// Draws what a job means.
    ///
    /// # Errors
    ///
    /// Fails if this job cannot go on.
    fn draw(&self, job: &mut Self::Job) -> Result<(), Self::Error>;

    /// Takes a job's memory away; it reads again when it goes on.
    fn forget(&self, job: &mut Self::Job);
}

/// How much there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Questions at work.
    pub jobs: usize,
    /// Tokens in memory, of all that are at work.
    pub tokens: usize,
    /// Tokens of a question that are read in one step.
    pub piece: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { jobs: 8, tokens: 32_768, piece: 256 }
    }
}

/// What was done in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A picture of this question was seen.
    Saw(u64),
    /// A piece of this question was read.
    Read(u64),
    /// What this question means was drawn.
    Drew(u64),
    /// These said a word each.
    Said(Vec<u64>),
}

/// Why a question ended without an answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped<E> {
    /// It was not answered in time.
    #[error("it was not answered in time")]
    Late,
    /// The network failed.
    #[error("the network failed")]
    Failed(E),
}

/// A question that ended.
pub struct Ended<N: Network> {
    /// Its number.
    pub id: u64,
    /// The question with its answer, or why there is none.
    pub outcome: Result<N::Job, Stopped<N::Error>>,
}

struct Waiting<J> {
    id: u64,
    priority: Priority,
    arrived: Duration,
    deadline: Option<Duration>,
    /// Since when it has had no place.
    since: Duration,
    /// Whether it has a place in memory.
    is_active: bool,
    job: J,
}

/// A question that can never be answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("question and answer may take {needed} tokens, there is room for {room}")]
pub struct TooLarge {
    /// What it may take.
    pub needed: usize,
    /// What there is.
    pub room: usize,
}

/// Decides who works next.
pub struct Scheduler<N: Network> {
    network: N,
    limits: Limits,
    waiting: Vec<Waiting<N::Job>>,
    has_said: bool,
}

impl<N: Network> Scheduler<N> {
    /// One without work.
    pub const fn new(network: N, limits: Limits) -> Self {
        Self { network, limits, waiting: Vec::new(), has_said: false }
    }

    /// What works.
    pub const fn network(&self) -> &N {
        &self.network
    }

    /// How many questions are not answered yet.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a question on.
    ///
    /// # Errors
    ///
    /// Fails if there will never be enough memory for it.
    pub fn add(
        &mut self,
        id: u64,
        job: N::Job,
        priority: Priority,
        now: Duration,
        deadline: Option<Duration>,
    ) -> Result<(), TooLarge> {
        let (needed, room) = (self.network.tokens_max(&job), self.limits.tokens);
        if needed > room {
            return Err(TooLarge { needed, room });
        }
        let (arrived, since, is_active) = (now, now, false);
        self.waiting.push(Waiting { id, priority, arrived, deadline, since, is_active, job });
        Ok(())
    }

    /// Drops a question. Nobody hears of it again.
    pub fn cancel(&mut self, id: u64) {
        self.waiting.retain(|it| it.id != id);
    }

    /// Does one step, if there is one to do. Gives what was done, and who ended with it.
    pub fn step(&mut self, now: Duration) -> (Option<Step>, Vec<Ended<N>>) {
        let mut ended = self.late(now);
        self.admit(now);
        let step = self.work(now, &mut ended);
        let mut index = 0;
        while let Some(it) = self.waiting.get(index) {
            if self.network.need(&it.job) == Need::Nothing {
                let it = self.waiting.remove(index);
                ended.push(Ended { id: it.id, outcome: Ok(it.job) });
            } else {
                index += 1;
            }
        }
        (step, ended)
    }

    fn late(&mut self, now: Duration) -> Vec<Ended<N>> {
        let is_late = |it: &Waiting<N::Job>| it.deadline.is_some_and(|it| it <= now);
        let late = self.waiting.extract_if(.., |it| is_late(it));
        late.map(|it| Ended { id: it.id, outcome: Err(Stopped::Late) }).collect()
    }

    /// Gives the places in memory to those that come first, and takes them from the others.
    fn admit(&mut self, now: Duration) {
        self.waiting.sort_by_key(|it| (urgency(it, now), it.arrived, it.id));
        let (mut jobs, mut tokens) = (0, 0);
        for it in &mut self.waiting {
            let needed = self.network.tokens_max(&it.job);
            let fits = jobs < self.limits.jobs && tokens + needed <= self.limits.tokens;
            if fits {
                jobs += 1;
                tokens += needed;
            } else if it.is_active {
                self.network.forget(&mut it.job);
            }
            it.is_active = fits;
            // Once it has a place it waits for nobody: an urgent one may still take it.
            if fits && it.priority == Priority::Routine && now.saturating_sub(it.since) < AGE {
                it.since = now;
            }
        }
    }

    /// The step of whoever comes first. Those as urgent as the first take turns: a piece of a question,
    /// then a word of every answer.
    fn work(&mut self, now: Duration, ended: &mut Vec<Ended<N>>) -> Option<Step> {
        let first = self.waiting.iter().find(|it| it.is_active)?;
        let most = urgency(first, now);
        let is_first = |it: &Waiting<N::Job>| it.is_active && urgency(it, now) == most;
        let network = &self.network;
        let says = |it: &Waiting<N::Job>| network.need(&it.job) == Need::Say;
        let speaks = self.waiting.iter().any(|it| is_first(it) && says(it));
        let prepares = self.waiting.iter().position(|it| is_first(it) && !says(it));
        match prepares {
            Some(index) if !speaks || self.has_said => {
                self.has_said = false;
                self.prepare(index, ended)
            }
            _ => {
                self.has_said = true;
                self.speak(ended)
            }
        }
    }

    fn prepare(&mut self, index: usize, ended: &mut Vec<Ended<N>>) -> Option<Step> {
        let it = self.waiting.get_mut(index)?;
        let id = it.id;
        let (step, outcome) = match self.network.need(&it.job) {
            Need::See => (Step::Saw(id), self.network.see(&mut it.job)),
            Need::Draw => (Step::Drew(id), self.network.draw(&mut it.job)),
            _ => (Step::Read(id), self.network.read(&mut it.job, self.limits.piece)),
        };
        if let Err(error) = outcome {
            self.waiting.remove(index);
            ended.push(Ended { id, outcome: Err(Stopped::Failed(error)) });
        }
        Some(step)
    }

    fn speak(&mut self, ended: &mut Vec<Ended<N>>) -> Option<Step> {
        let network = &self.network;
        let speakers = self.waiting.iter_mut();
        let speakers = speakers.filter(|it| it.is_active && network.need(&it.job) == Need::Say);
        let (ids, mut jobs): (Vec<u64>, Vec<&mut N::Job>) =
            speakers.map(|it| (it.id, &mut it.job)).unzip();
        if let Err(error) = network.say(&mut jobs) {
            // It fails for all alike: the first is told why, the others begin again.
            let (first, others) = ids.split_first()?;
            self.waiting.retain(|it| it.id != *first);
            for it in self.waiting.iter_mut().filter(|it| others.contains(&it.id)) {
                self.network.forget(&mut it.job);
            }
            ended.push(Ended { id: *first, outcome: Err(Stopped::Failed(error)) });
        }
        Some(Step::Said(ids))
    }
}

/// How urgent a question is by now.
fn urgency<J>(it: &Waiting<J>, now: Duration) -> Priority {
    if now.saturating_sub(it.since) >= AGE { Priority::Stat } else { it.priority }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A question of so many pictures, pieces and words.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Fake {
        pictures: usize,
        pieces: usize,
        words: usize,
        seen: usize,
        read: usize,
        said: usize,
        forgotten: usize,
        masks: usize,
        drawn: usize,
    }

    #[derive(Default)]
    struct Machine {
        fails_at: Cell<Option<usize>>,
    }

    impl Network for Machine {
        type Job = Fake;
        type Error = &'static str;

        fn need(&self, it: &Fake) -> Need {
            match it {
                it if it.said == it.words && it.drawn < it.masks => Need::Draw,
                it if it.said == it.words => Need::Nothing,
                it if it.seen < it.pictures => Need::See,
                it if it.read < it.pieces => Need::Read,
                _ => Need::Say,
            }
        }

        fn tokens_max(&self, it: &Fake) -> usize {
            it.pieces + it.words
        }

        fn see(&self, it: &mut Fake) -> Result<(), &'static str> {
            it.seen += 1;
            Ok(())
        }

        fn read(&self, it: &mut Fake, _: usize) -> Result<(), &'static str> {
            it.read += 1;
            Ok(())
        }

        fn say(&self, jobs: &mut [&mut Fake]) -> Result<(), &'static str> {
            if self.fails_at.get() == Some(jobs.len()) {
                return Err("no memory");
            }
            for job in jobs.iter_mut() {
                job.said += 1;
            }
            Ok(())
        }

        fn draw(&self, it: &mut Fake) -> Result<(), &'static str> {
            it.drawn += 1;
            Ok(())
        }

        fn forget(&self, it: &mut Fake) {
            it.read = 0;
            it.forgotten += 1;
        }
    }

    fn fake(pictures: usize, pieces: usize, words: usize) -> Fake {
        Fake { pictures, pieces, words, ..Fake::default() }
    }

    fn scheduler(jobs: usize) -> Scheduler<Machine> {
        Scheduler::new(Machine::default(), Limits { jobs, tokens: 1000, piece: 1 })
    }

    const NOW: Duration = Duration::ZERO;

    /// All steps until nothing is left, and who ended with which.
    fn run(scheduler: &mut Scheduler<Machine>) -> Vec<(Step, Vec<u64>)> {
        let mut steps = Vec::new();
        while !scheduler.is_empty() {
            let (step, ended) = scheduler.step(NOW);
            steps.push((step.unwrap(), ended.iter().map(|it| it.id).collect()));
            assert!(steps.len() < 1000);
        }
        steps
    }

    #[test]
    fn an_urgent_question_waits_for_one_step_at_most_also_if_all_places_are_taken() {
        for places in [1, 2, 4] {
            for before in 1..12 {
                let mut scheduler = scheduler(places);
                for id in 0..4 {
                    scheduler.add(id, fake(1, 3, 20), Priority::Routine, NOW, None).unwrap();
                }
                for _ in 0..before {
                    scheduler.step(NOW);
                }
                let urgent = Fake { masks: 1, ..fake(1, 2, 3) };
                scheduler.add(9, urgent, Priority::Stat, NOW, None).unwrap();
                // It is seen, read and answered before anybody else gets a step of their own.
                let expected = [Step::Saw(9), Step::Read(9), Step::Read(9)];
                for expected in expected {
                    assert_eq!(scheduler.step(NOW).0, Some(expected), "{places} {before}");
                }
                for _ in 0..3 {
                    let (step, _) = scheduler.step(NOW);
                    assert!(matches!(step, Some(Step::Said(ids)) if ids.contains(&9)));
                }
                let (step, ended) = scheduler.step(NOW);
                assert_eq!((step, ended[0].id), (Some(Step::Drew(9)), 9));
                // Who was put aside for it is answered as well.
                let ended: Vec<u64> = run(&mut scheduler).into_iter().flat_map(|it| it.1).collect();
                assert_eq!(ended.len(), 4, "{places} {before}");
            }
        }
    }

    #[test]
    fn who_is_put_aside_reads_again_and_loses_no_word() {
        let mut scheduler = scheduler(1);
        scheduler.add(1, fake(0, 2, 5), Priority::Routine, NOW, None).unwrap();
        for _ in 0..4 {
            scheduler.step(NOW);
        }
        scheduler.add(2, fake(0, 1, 1), Priority::Stat, NOW, None).unwrap();
        let mut last = None;
        while !scheduler.is_empty() {
            last = scheduler.step(NOW).1.pop().or(last);
        }
        let job = last.unwrap().outcome.unwrap();
        assert_eq!((job.forgotten, job.said, job.read), (1, 5, 2));
    }

    #[test]
    fn words_of_many_are_said_together_and_new_questions_are_read_in_between() {
        let mut scheduler = scheduler(8);
        scheduler.add(1, fake(0, 1, 6), Priority::Routine, NOW, None).unwrap();
        scheduler.step(NOW);
        scheduler.add(2, fake(0, 2, 2), Priority::Routine, NOW, None).unwrap();
        let steps: Vec<Step> = run(&mut scheduler).into_iter().map(|it| it.0).collect();
        let (one, both) = (Step::Said(vec![1]), Step::Said(vec![1, 2]));
        let expected = [
            one.clone(),
            Step::Read(2),
            one.clone(),
            Step::Read(2),
            both.clone(),
            both,
            one.clone(),
            one,
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn nobody_waits_for_ever_and_nobody_is_answered_too_late() {
        let mut scheduler = scheduler(1);
        scheduler.add(1, fake(0, 1, 1), Priority::Routine, NOW, None).unwrap();
        let deadline = Some(Duration::from_secs(5));
        scheduler.add(2, fake(0, 1, 1), Priority::Routine, NOW, deadline).unwrap();
        scheduler.add(3, fake(0, 1, 9), Priority::Stat, AGE, None).unwrap();
        // The old one has become as urgent, and came first.
        let (step, ended) = scheduler.step(AGE);
        assert_eq!(step, Some(Step::Read(1)));
        assert_eq!(ended[0].id, 2);
        assert_eq!(ended[0].outcome.as_ref().err(), Some(&Stopped::Late));
    }

    #[test]
    fn what_never_fits_is_refused_and_what_fails_fails_alone() {
        let mut scheduler = scheduler(8);
        let huge = scheduler.add(1, fake(0, 900, 200), Priority::Stat, NOW, None);
        assert_eq!(huge, Err(TooLarge { needed: 1100, room: 1000 }));
        scheduler.add(2, fake(0, 1, 2), Priority::Routine, NOW, None).unwrap();
        scheduler.add(3, fake(0, 1, 2), Priority::Routine, NOW, None).unwrap();
        // Two at once are too many for the memory.
        scheduler.network().fails_at.set(Some(2));
        let mut outcomes = Vec::new();
        while !scheduler.is_empty() {
            outcomes
                .extend(scheduler.step(NOW).1.into_iter().map(|it| (it.id, it.outcome.is_ok())));
        }
        assert_eq!(outcomes.len(), 2);
        assert!(outcomes.iter().any(|it| it.1), "{outcomes:?}");
        scheduler.cancel(7);
    }
}
