//! Whether a study is complete, from all evidence for and against it (DIN-50..54). Pure.
//!
//! What a modality states that it has sent outweighs silence: while a request for storage
//! commitment names instances that have not arrived, or an association that brought some is still
//! open, silence is no sign of the end. What a workflow accepts as sufficient outweighs both.

use std::time::Duration;

use contracts::{SeriesSnapshot, StudySnapshot};
use jiff::Timestamp;
use workflow::{Completion, Enough, Expect, Overdue, SeriesRule};

use crate::timing::after;

/// Whether a study is complete, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Completeness {
    /// It is.
    Complete {
        /// The evidence, for people.
        reason: String,
    },
    /// It is not, as far as the evidence goes.
    Waiting {
        /// When to look again, if nothing arrives before.
        until: Option<Timestamp>,
        /// What it waits for.
        reason: String,
    },
    /// It is not, and the longest wait has passed.
    Overdue {
        /// What the workflow wants done now.
        then: Overdue,
        /// When to look again.
        until: Option<Timestamp>,
        /// What is lacking. The text stays the same while the same is lacking.
        lacking: String,
    },
}

/// Weighs the evidence at `now`.
///
/// With `late_since`, a run has begun already, and that is when the first instance arrived after
/// it. The longest wait then counts from there, and only silence is sufficient: a signal that
/// ended the first part of the study is no evidence about what arrived late.
pub(crate) fn completeness(
    rule: &Completion,
    study: &StudySnapshot,
    late_since: Option<Timestamp>,
    now: Timestamp,
) -> Completeness {
    let evidence = Evidence { rule, study, now };
    let missing: Vec<String> =
        rule.expect.iter().filter(|it| !evidence.is_met(it)).map(described).collect();
    if missing.is_empty() {
        if let Some(signal) = evidence.sufficient_signal().filter(|_| late_since.is_none()) {
            let reason = format!("{signal}: {}", evidence.inventory());
            return Completeness::Complete { reason };
        }
        if evidence.objection().is_none() && evidence.quiet_at() <= now {
            let quiet = rule.quiet.as_secs_f64();
            let reason = format!("quiet for {quiet} s: {}", evidence.inventory());
            return Completeness::Complete { reason };
        }
    }
    let deadline = after(late_since.unwrap_or(study.first_received), rule.at_most.after);
    let until = evidence.next_look(deadline);
    let lacking = if missing.is_empty() {
        evidence.objection().unwrap_or_else(|| "more instances".to_owned())
    } else {
        missing.join(", ")
    };
    if deadline <= now {
        return Completeness::Overdue { then: rule.at_most.then, until, lacking };
    }
    let reason = format!("waits for {lacking}: {}", evidence.inventory());
    Completeness::Waiting { until, reason }
}

struct Evidence<'a> {
    rule: &'a Completion,
    study: &'a StudySnapshot,
    now: Timestamp,
}

impl Evidence<'_> {
    /// Whether something that the workflow expects has arrived.
    fn is_met(&self, expect: &Expect) -> bool {
        let study = self.study;
        match expect {
            Expect::Order => study.orders.iter().any(|it| !it.is_cancelled),
            Expect::ExamComplete => study.orders.iter().any(|it| it.order.is_examined()),
            Expect::Commitment => self.is_committed(),
            Expect::Instances(count) => self.instance_count() >= *count,
            Expect::Series(rule) => {
                study.series.iter().filter(|it| matches_rule(rule, it)).count() >= rule.count
            }
        }
    }

    /// Whether everything that a modality states it has sent has arrived.
    fn is_committed(&self) -> bool {
        self.study.announced.instances > 0 && self.study.announced.missing == 0
    }

    /// A signal that the workflow accepts without silence, if there is one.
    fn sufficient_signal(&self) -> Option<&'static str> {
        self.rule.enough.iter().find_map(|it| match it {
            Enough::Commitment => self
                .is_committed()
                .then_some("all instances of the commitment request have arrived"),
            Enough::ExamComplete => self
                .is_met(&Expect::ExamComplete)
                .then_some("the order states that the exam is over"),
            Enough::Expected => Some("everything expected has arrived"),
            Enough::Association(wait) => {
                let has_passed = self.associations_over_at(*wait).is_some_and(|it| it <= self.now);
                let is_sufficient = has_passed && self.study.announced.missing == 0;
                is_sufficient.then_some("all associations have ended")
            }
        })
    }

    /// When all associations have been over for `wait`; `None` while one is open.
    fn associations_over_at(&self, wait: Duration) -> Option<Timestamp> {
        let associations = &self.study.associations;
        let ended = associations.last_ended.filter(|_| associations.open == 0)?;
        Some(after(ended.max(self.study.last_received), wait))
    }

    /// Why silence is no sign of the end.
    fn objection(&self) -> Option<String> {
        let announced = self.study.announced;
        if announced.missing > 0 {
            return Some(format!(
                "{} of {} instances that a modality states it has sent",
                announced.missing, announced.instances
            ));
        }
        (self.study.associations.open > 0).then(|| "the end of an association".to_owned())
    }

    fn quiet_at(&self) -> Timestamp {
        after(self.study.last_received, self.rule.quiet)
    }

    /// The first moment at which the verdict may change although nothing arrives.
    fn next_look(&self, deadline: Timestamp) -> Option<Timestamp> {
        let associations_over = self.rule.enough.iter().filter_map(|it| match it {
            Enough::Association(wait) => self.associations_over_at(*wait),
            Enough::Commitment | Enough::ExamComplete | Enough::Expected => None,
        });
        let moments = associations_over.chain([self.quiet_at(), deadline]);
        moments.filter(|it| *it > self.now).min()
    }

    fn instance_count(&self) -> usize {
        self.study.series.iter().map(|it| it.instances.len()).sum()
    }

    /// What has arrived, for people.
    fn inventory(&self) -> String {
        let series = self.study.series.len();
        let instances = self.instance_count();
        let order =
            self.study.orders.first().map(|it| format!(", order found by {}", it.matched_by));
        format!("{instances} instances in {series} series{}", order.unwrap_or_default())
    }
}

fn matches_rule(rule: &SeriesRule, series: &SeriesSnapshot) -> bool {
    let has_description = match &rule.description {
        None => true,
        Some(wanted) => series.description.to_lowercase().contains(wanted),
    };
    has_description
        && rule.modality.as_ref().is_none_or(|it| *it == series.modality)
        && rule.body_part.as_ref().is_none_or(|it| *it == series.body_part)
        && series.instances.len() >= rule.instances
}

/// What is expected, for people.
fn described(expect: &Expect) -> String {
    match expect {
        Expect::Order => "an order".to_owned(),
        Expect::ExamComplete => "an order that states that the exam is over".to_owned(),
        Expect::Commitment => "a request for storage commitment".to_owned(),
        Expect::Instances(count) => format!("{count} instances"),
        Expect::Series(rule) => {
            let terms = [&rule.modality, &rule.body_part, &rule.description];
            let terms: Vec<&str> = terms.into_iter().flatten().map(String::as_str).collect();
            format!("{} series {} of {} instances", rule.count, terms.join(" "), rule.instances)
        }
    }
}
