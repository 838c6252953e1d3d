//! A workflow file, as written. The comments here are the manual; `workflows/README.md` holds it.

use std::fmt;
use std::time::Duration;

use domain::NodeOutput;
use schemars::JsonSchema;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::duration;
use crate::facts::Facts;

/// The whole file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    /// Its name: small letters, digits and dashes.
    #[schemars(with = "String")]
    pub(crate) workflow: Spanned<String>,
    /// What it is for, in a sentence.
    #[serde(default)]
    pub(crate) description: String,
    /// What starts it.
    pub(crate) on: OnSpec,
    /// By when a run should have ended; a person is told if it has not.
    #[serde(default, deserialize_with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub(crate) sla: Option<Duration>,
    /// `stat` or `routine`, or an expression that gives one of them.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) priority: Option<Spanned<String>>,
    /// Its steps, by name. A workflow that only passes images on has none.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, NodeSpec>")]
    pub(crate) nodes: NodeMap,
    /// What goes where.
    #[serde(default)]
    pub(crate) deliver: Vec<DeliverySpec>,
    /// Its tests, run by `isocenter test`.
    #[serde(default)]
    pub(crate) tests: Vec<TestSpec>,
}

/// Exactly one of the three.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnSpec {
    /// Images of a study arrive.
    #[serde(default)]
    #[schemars(with = "Option<StudySpec>")]
    pub(crate) study: Option<Spanned<StudySpec>>,
    /// A message arrives.
    #[serde(default)]
    #[schemars(with = "Option<MessageSpec>")]
    pub(crate) message: Option<Spanned<MessageSpec>>,
    /// A message arrives that carries a document: a file, or the text of one (MDM).
    #[serde(default)]
    #[schemars(with = "Option<DocumentSpec>")]
    pub(crate) document: Option<Spanned<DocumentSpec>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StudySpec {
    /// Which studies. All, if it is left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) when: Option<Spanned<String>>,
    /// When a study is taken to be complete.
    pub(crate) complete: CompleteSpec,
    /// What to do about instances that come after the run was started.
    #[serde(default)]
    pub(crate) late: LateSpec,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageSpec {
    /// Type and event, such as `ORU^R01`, or several; `MDM^*` is every event of a type.
    #[serde(rename = "type")]
    #[schemars(with = "OneOrMany")]
    pub(crate) kinds: Spanned<OneOrMany>,
    /// Which messages of this type. All, if it is left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) when: Option<Spanned<String>>,
}

/// One text or a list of them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn list(&self) -> Vec<String> {
        match self {
            Self::One(it) => vec![it.clone()],
            Self::Many(all) => all.clone(),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentSpec {
    /// Which documents. All, if it is left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) when: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompleteSpec {
    /// Nothing has come for so long.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) quiet: Duration,
    /// The longest wait, and what then.
    #[serde(default)]
    pub(crate) at_most: Option<AtMostSpec>,
    /// What else must be there.
    #[serde(default)]
    pub(crate) expect: Vec<ExpectSpec>,
    /// What is enough, without waiting for quiet.
    #[serde(default)]
    pub(crate) enough: Vec<EnoughSpec>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AtMostSpec {
    /// So long after the first instance.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) after: Duration,
    /// `run` with what is there, `hold` for a person, or `fail`.
    pub(crate) then: OverdueSpec,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OverdueSpec {
    Run,
    Hold,
    Fail,
}

/// Something that must be there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExpectSpec {
    /// An order that asks for the study.
    Order,
    /// An order that says that the examination is over (ORC-5 `CM`).
    ExamComplete,
    /// A request for storage commitment, of which everything has come.
    Commitment,
    /// So many instances.
    Instances(usize),
    /// Series of a kind.
    Series(SeriesRuleSpec),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SeriesRuleSpec {
    /// Modality.
    pub(crate) modality: Option<String>,
    /// Body part.
    pub(crate) body_part: Option<String>,
    /// Words in the series description, in small or capital letters.
    pub(crate) description: Option<String>,
    /// How many such series; one, if it is left out.
    pub(crate) count: Option<usize>,
    /// Instances that each of them must have; one, if it is left out.
    pub(crate) instances: Option<usize>,
}

/// Something that is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EnoughSpec {
    /// Everything that a request for storage commitment names has come.
    Commitment,
    /// An order says that the examination is over.
    ExamComplete,
    /// Everything under `expect` is there.
    Expected,
    /// All associations that brought instances have ended, so long ago. Not for modalities that
    /// open one for each image (DIN-54).
    Association(
        #[serde(deserialize_with = "duration::deserialize")]
        #[schemars(with = "String")]
        Duration,
    ),
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LateSpec {
    Ignore,
    #[default]
    Alert,
    /// Run again on all; the result adds to the earlier one.
    Amend,
    /// Run again on all; the result replaces the earlier one.
    Replace,
}

/// One step.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSpec {
    /// The plugin that does the work. A step has this or `review`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) plugin: Option<Spanned<String>>,
    /// The role of the person who does it: looks at everything that was found, changes, signs or
    /// rejects it. Every step of a plugin has to come before.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) review: Option<Spanned<String>>,
    /// What to tell it.
    #[serde(default)]
    #[schemars(with = "Option<Value>")]
    pub(crate) with: Option<Spanned<Value>>,
    /// The steps it comes after, and whose findings it reads.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) after: Vec<Spanned<String>>,
    /// `all` of the steps before must have done their work, or `any`: one is enough, once none of
    /// them goes on.
    #[serde(default)]
    pub(crate) join: JoinSpec,
    /// Do it once for each `series` or each `instance`.
    #[serde(default)]
    pub(crate) for_each: Option<ForEachSpec>,
    /// With `for_each`: only for those this holds for; it asks about `series`.
    #[serde(default, rename = "where")]
    #[schemars(with = "Option<String>")]
    pub(crate) pick: Option<Spanned<String>>,
    /// Do it only if one of these steps has failed for good: then the run has not.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) on_failure_of: Vec<Spanned<String>>,
    /// Do it when everything else has ended, however it did.
    #[serde(default, rename = "finally")]
    pub(crate) is_final: bool,
    /// By when it should have ended, once it may be worked on; a person is told if it has not.
    #[serde(default, deserialize_with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub(crate) sla: Option<Duration>,
    /// Work on it only at this time of the day, as `20:00-06:00`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) only_between: Option<Spanned<String>>,
    /// Skip it unless this holds.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) when: Option<Spanned<String>>,
    /// How often to try.
    #[serde(default)]
    pub(crate) retry: RetrySpec,
    /// How long one try may take.
    #[serde(default = "node_timeout", deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) timeout: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JoinSpec {
    #[default]
    All,
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ForEachSpec {
    Series,
    Instance,
}

/// Ten minutes.
const fn node_timeout() -> Duration {
    Duration::from_mins(10)
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetrySpec {
    /// All tries together.
    pub(crate) attempts: u32,
    /// The wait before the second; each further one waits twice as long.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) backoff: Duration,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self { attempts: 3, backoff: Duration::from_secs(2) }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliverySpec {
    /// A destination of the site file.
    #[schemars(with = "String")]
    pub(crate) to: Spanned<String>,
    /// `images` as they were received; DICOM `seg` (masks), `sr` (measurements), `narrative` (the report as SR), `pr` (regions as
    /// presentation state), `sc` (pictures with everything drawn in), `pdf`; HL7 `oru`, `mdm`;
    /// `fhir`; `json`.
    #[schemars(with = "Vec<String>")]
    pub(crate) what: Vec<Spanned<String>>,
    /// The steps that must be done. All, if it is left out.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) after: Vec<Spanned<String>>,
}

/// One test.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestSpec {
    pub(crate) given: GivenSpec,
    pub(crate) expect: ExpectedSpec,
}

/// What there is, and what the plugins would say.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GivenSpec {
    #[serde(flatten)]
    pub(crate) facts: GivenFacts,
    /// By node: its findings, or `{ reject: … }`, or `{ fail: … }`.
    pub(crate) plugins: std::collections::BTreeMap<String, AnswerSpec>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct GivenFacts {
    pub(crate) study: crate::facts::StudyFacts,
    pub(crate) order: Option<crate::facts::OrderFacts>,
    pub(crate) message: crate::facts::MessageFacts,
    /// The series, for `for_each`. Left out, there is one, of the study's first modality.
    pub(crate) series: Vec<crate::facts::SeriesFacts>,
}

impl GivenFacts {
    pub(crate) fn facts(&self) -> Facts {
        let order = self.order.clone();
        let order = order.map(|it| crate::facts::OrderFacts { exists: true, ..it });
        Facts {
            study: self.study.clone(),
            order: order.unwrap_or_default(),
            message: self.message.clone(),
            ..Facts::default()
        }
    }

    pub(crate) fn series(&self) -> Vec<crate::facts::SeriesFacts> {
        if !self.series.is_empty() {
            return self.series.clone();
        }
        let modality = self.study.modalities.first().cloned().unwrap_or_default();
        vec![crate::facts::SeriesFacts { modality, instances: 1, ..Default::default() }]
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum AnswerSpec {
    Reject {
        reject: String,
    },
    Fail {
        fail: String,
    },
    /// Findings.
    Output(#[schemars(with = "serde_json::Value")] Box<NodeOutput>),
}

/// What must come of it. What is left out is not looked at.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
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
#[derive(Debug, Default)]
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
