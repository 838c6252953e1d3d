//! Whether a study is complete, from everything that speaks for or against it (DIN-50..54). Pure.
//!
//! What a modality says it has sent outweighs silence: while a request for storage commitment names
//! instances that have not come, or an association that brought some is still open, silence is no
//! sign of the end. What a workflow takes for enough outweighs both.

use std::time::Duration;

use contracts::{SeriesSnapshot, StudySnapshot};
use jiff::Timestamp;
use workflow::{Completion, Enough, Expect, Overdue, SeriesRule};

/// How a study stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Completeness {
    /// Complete, and this is why.
    Complete(String),
    /// Not, as far as can be told; look again then, if nothing comes before.
    Waits {
        /// When to look again.
        until: Option<Timestamp>,
        /// What for.
        what: String,
    },
    /// Not, and the longest wait is over.
    Overdue {
        /// What to do now.
        then: Overdue,
        /// When to look again.
        until: Option<Timestamp>,
        /// What is lacking. The same for as long as the same is lacking.
        lack: String,
    },
}

/// How a study stands at `now`. After a run, the longest wait counts from `late_since`, when the first
/// instance came after it, and only silence is enough: what told of the end before says nothing of
/// what came late.
pub(crate) fn completeness(
    rule: &Completion,
    study: &StudySnapshot,
    late_since: Option<Timestamp>,
    now: Timestamp,
) -> Completeness {
    let evidence = Evidence { rule, study, now };
    let missing: Vec<String> =
        rule.expect.iter().filter(|it| !evidence.is_there(it)).map(shown).collect();
    if missing.is_empty() {
        if let Some(enough) = evidence.enough().filter(|_| late_since.is_none()) {
            return Completeness::Complete(format!("{enough}: {}", evidence.counted()));
        }
        if evidence.objection().is_none() && evidence.quiet_at() <= now {
            let quiet = rule.quiet.as_secs_f64();
            return Completeness::Complete(format!("quiet for {quiet} s: {}", evidence.counted()));
        }
    }
    let deadline = after(late_since.unwrap_or(study.first_received), rule.at_most.0);
    let until = evidence.next_look(deadline);
    let lack = if missing.is_empty() {
        evidence.objection().unwrap_or_else(|| "more instances".to_owned())
    } else {
        missing.join(", ")
    };
    if deadline <= now {
        return Completeness::Overdue { then: rule.at_most.1, until, lack };
    }
    Completeness::Waits { until, what: format!("waits for {lack}: {}", evidence.counted()) }
}

pub(crate) fn after(start: Timestamp, wait: Duration) -> Timestamp {
    start.checked_add(wait).unwrap_or(Timestamp::MAX)
}

struct Evidence<'a> {
    rule: &'a Completion,
    study: &'a StudySnapshot,
    now: Timestamp,
}

impl Evidence<'_> {
    fn is_there(&self, expect: &Expect) -> bool {
        let study = self.study;
        let instances = || study.series.iter().map(|it| it.instances.len()).sum::<usize>();
        match expect {
            Expect::Order => study.orders.iter().any(|it| !it.is_cancelled),
            Expect::ExamComplete => study.orders.iter().any(|it| it.order.is_examined()),
            Expect::Commitment => self.is_committed(),
            Expect::Instances(count) => instances() >= *count,
            Expect::Series(rule) => {
                study.series.iter().filter(|it| is_of(rule, it)).count() >= rule.count
            }
        }
    }

    /// Everything that a modality says it has sent is here.
    fn is_committed(&self) -> bool {
        self.study.announced.instances > 0 && self.study.announced.missing == 0
    }

    /// What is enough without silence, if anything is.
    fn enough(&self) -> Option<&'static str> {
        self.rule.enough.iter().find_map(|it| match it {
            Enough::Commitment => {
                self.is_committed().then_some("all that the modality asked to commit is here")
            }
            Enough::ExamComplete => {
                self.is_there(&Expect::ExamComplete).then_some("the order says the exam is over")
            }
            Enough::Expected => Some("all that is expected is here"),
            Enough::Association(wait) => {
                let is_over = self.associations_over_at(*wait).is_some_and(|it| it <= self.now);
                let is_fine = is_over && self.study.announced.missing == 0;
                is_fine.then_some("all associations have ended")
            }
        })
    }

    fn associations_over_at(&self, wait: Duration) -> Option<Timestamp> {
        let associations = &self.study.associations;
        let ended = associations.last_ended.filter(|_| associations.open == 0)?;
        Some(after(ended.max(self.study.last_received), wait))
    }

    /// Why silence is no sign of the end.
    fn objection(&self) -> Option<String> {
        let announced = self.study.announced;
        if announced.missing > 0 {
            let (missing, all) = (announced.missing, announced.instances);
            return Some(format!("{missing} of {all} instances that a modality says it has sent"));
        }
        (self.study.associations.open > 0).then(|| "the end of an association".to_owned())
    }

    fn quiet_at(&self) -> Timestamp {
        after(self.study.last_received, self.rule.quiet)
    }

    /// The first moment at which anything may be otherwise without anything coming.
    fn next_look(&self, deadline: Timestamp) -> Option<Timestamp> {
        let over = self.rule.enough.iter().filter_map(|it| match it {
            Enough::Association(wait) => self.associations_over_at(*wait),
            _ => None,
        });
        let times = over.chain([self.quiet_at(), deadline]);
        times.filter(|it| *it > self.now).min()
    }

    fn counted(&self) -> String {
        let series = self.study.series.len();
        let instances: usize = self.study.series.iter().map(|it| it.instances.len()).sum();
        let by = self.study.orders.first().map(|it| format!(", order found by {}", it.matched_by));
        format!("{instances} instances in {series} series{}", by.unwrap_or_default())
    }
}

fn is_of(rule: &SeriesRule, series: &SeriesSnapshot) -> bool {
    let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|it| it == found);
    let has_words = |wanted: &String| series.description.to_lowercase().contains(wanted);
    is(&rule.modality, &series.modality)
        && is(&rule.body_part, &series.body_part)
        && rule.description.as_ref().is_none_or(has_words)
        && series.instances.len() >= rule.instances
}

fn shown(expect: &Expect) -> String {
    match expect {
        Expect::Order => "an order".to_owned(),
        Expect::ExamComplete => "an order that says the exam is over".to_owned(),
        Expect::Commitment => "a request for storage commitment".to_owned(),
        Expect::Instances(count) => format!("{count} instances"),
        Expect::Series(rule) => {
            let words = [&rule.modality, &rule.body_part, &rule.description];
            let words: Vec<&str> = words.into_iter().flatten().map(String::as_str).collect();
            format!("{} series {} of {} instances", rule.count, words.join(" "), rule.instances)
        }
    }
}
