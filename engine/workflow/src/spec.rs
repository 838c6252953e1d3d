//! A workflow file, as written. The comments here are the manual; `workflows/README.md` holds it.

use std::fmt;
use std::time::Duration;

use domain::NodeOutput;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::duration;
use crate::facts::Facts;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    /// Its name: small letters, digits and dashes.
    pub(crate) workflow: Spanned<String>,
    /// What it is for, in a sentence.
    #[serde(default)]
    pub(crate) description: String,
    /// What starts it.
    pub(crate) on: OnSpec,
    /// `stat` or `routine`, or an expression that gives one of them.
    #[serde(default)]
    pub(crate) priority: Option<Spanned<String>>,
    /// Its steps, by name.
    pub(crate) nodes: NodeMap,
    /// What goes where.
    #[serde(default)]
    pub(crate) deliver: Vec<DeliverySpec>,
    /// Its tests, run by `isocenter test`.
    #[serde(default)]
    pub(crate) tests: Vec<TestSpec>,
}

/// Exactly one of the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnSpec {
    /// Images of a study arrive.
    #[serde(default)]
    pub(crate) study: Option<Spanned<StudySpec>>,
    /// A message arrives.
    #[serde(default)]
    pub(crate) message: Option<Spanned<MessageSpec>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StudySpec {
    /// Which studies. All, if it is left out.
    #[serde(default)]
    pub(crate) when: Option<Spanned<String>>,
    /// When a study is taken to be complete.
    pub(crate) complete: CompleteSpec,
    /// What to do about instances that come after the run was started.
    #[serde(default)]
    pub(crate) late: LateSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageSpec {
    /// Type and event, such as `ORU^R01`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Which messages of this type. All, if it is left out.
    #[serde(default)]
    pub(crate) when: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompleteSpec {
    /// Nothing has come for so long.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) quiet: Duration,
    /// The longest wait, and what then.
    #[serde(default)]
    pub(crate) at_most: Option<AtMostSpec>,
    /// What else must be there.
    #[serde(default)]
    pub(crate) expect: Vec<ExpectSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AtMostSpec {
    /// So long after the first instance.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) after: Duration,
    /// `run` with what is there, `hold` for a person, or `fail`.
    pub(crate) then: OverdueSpec,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OverdueSpec {
    Run,
    Hold,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExpectSpec {
    Order,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LateSpec {
    Ignore,
    #[default]
    Alert,
}

/// One step.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSpec {
    /// What does the work.
    pub(crate) plugin: Spanned<String>,
    /// What to tell it.
    #[serde(default)]
    pub(crate) with: Option<Spanned<Value>>,
    /// The steps it comes after, and whose findings it reads.
    #[serde(default)]
    pub(crate) after: Vec<Spanned<String>>,
    /// Skip it unless this holds.
    #[serde(default)]
    pub(crate) when: Option<Spanned<String>>,
    /// How often to try.
    #[serde(default)]
    pub(crate) retry: RetrySpec,
    /// How long one try may take.
    #[serde(default = "node_timeout", deserialize_with = "duration::deserialize")]
    pub(crate) timeout: Duration,
}

/// Ten minutes.
const fn node_timeout() -> Duration {
    Duration::from_mins(10)
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetrySpec {
    /// All tries together.
    pub(crate) attempts: u32,
    /// The wait before the second; each further one waits twice as long.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) backoff: Duration,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self { attempts: 3, backoff: Duration::from_secs(2) }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliverySpec {
    /// A destination of the site file.
    pub(crate) to: Spanned<String>,
    /// `seg`, `sr`, `oru`, `json`.
    pub(crate) what: Vec<Spanned<String>>,
    /// The steps that must be done. All, if it is left out.
    #[serde(default)]
    pub(crate) after: Vec<Spanned<String>>,
}

/// One test.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestSpec {
    pub(crate) given: GivenSpec,
    pub(crate) expect: ExpectedSpec,
}

/// What there is, and what the plugins would say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GivenSpec {
    #[serde(flatten)]
    pub(crate) facts: GivenFacts,
    /// By node: its findings, or `{ reject: … }`, or `{ fail: … }`.
    pub(crate) plugins: std::collections::BTreeMap<String, AnswerSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GivenFacts {
    pub(crate) study: crate::facts::StudyFacts,
    pub(crate) order: Option<crate::facts::OrderFacts>,
    pub(crate) message: crate::facts::MessageFacts,
}

impl GivenFacts {
    pub(crate) fn facts(&self) -> Facts {
        let order = self.order.clone();
        let order = order.map(|it| crate::facts::OrderFacts { exists: true, ..it });
        Facts {
            study: self.study.clone(),
            order: order.unwrap_or_default(),
            message: self.message.clone(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum AnswerSpec {
    Reject {
        reject: String,
    },
    Fail {
        fail: String,
    },
    /// Findings: read to be checked, since no condition can ask for them yet.
    Output(#[expect(dead_code, reason = "reading it is the check")] Box<NodeOutput>),
}

/// What must come of it. What is left out is not looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExpectedSpec {
    /// Whether the workflow takes it at all.
    pub(crate) starts: Option<bool>,
    /// The nodes that did their work, in order.
    pub(crate) path: Option<Vec<String>>,
    /// The destinations that get something, in order.
    pub(crate) delivered: Option<Vec<String>>,
    /// `completed` or `failed`.
    pub(crate) end: Option<String>,
    /// `stat` or `routine`.
    pub(crate) priority: Option<String>,
}

/// Nodes in the order of the file.
#[derive(Debug)]
pub(crate) struct NodeMap(pub(crate) Vec<(Spanned<String>, NodeSpec)>);

impl<'de> Deserialize<'de> for NodeMap {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = NodeMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nodes by their names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NodeMap, A::Error> {
                let mut nodes = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    nodes.push(entry);
                }
                Ok(NodeMap(nodes))
            }
        }
        source.deserialize_map(InOrder)
    }
}
