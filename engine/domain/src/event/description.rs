//! What `EVENTS.md` shows of each kind of event.

use super::catalogue::{
    commitment, delivery, instance, message, operation, patient, review, run, study,
};
use super::kind::with_kinds;
use super::{Action, EventBody, EventKind};

/// One row of `EVENTS.md`.
#[derive(Clone, Copy, Debug)]
pub struct EventDescription {
    /// What the event happens to: `instance`, `run`, …
    pub aggregate: &'static str,
    /// The kind of event.
    pub kind: EventKind,
    /// What happened, in a sentence.
    pub meaning: &'static str,
    /// What was done to the subject.
    pub action: Action,
    /// The names of its fields.
    pub fields: &'static [&'static str],
}

/// Declares [`EventKind::description`].
macro_rules! declare {
    ($($module:ident { $($variant:ident = $name:literal,)+ })+) => {
        impl EventKind {
            /// What `EVENTS.md` shows of the kind.
            pub const fn description(self) -> EventDescription {
                match self {
                    $($(Self::$variant => describe::<$module::$variant>(stringify!($module)),)+)+
                }
            }
        }
    };
}

with_kinds!(declare);

const fn describe<B: EventBody>(aggregate: &'static str) -> EventDescription {
    EventDescription {
        aggregate,
        kind: B::KIND,
        meaning: B::MEANING,
        action: B::ACTION,
        fields: B::FIELDS,
    }
}
