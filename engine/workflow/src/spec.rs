//! The keys of a workflow file. The comments on fields are the descriptions in the JSON Schema, and
//! `workflows/README.md` documents the same keys.

use std::fmt;
use std::time::Duration;

use domain::NodeOutput;
use schemars::JsonSchema;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use crate::duration;
use crate::facts::Facts;

/// The whole file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    /// Its name: lower-case letters, digits and dashes.
    #[schemars(with = "String")]
    pub(crate) workflow: Spanned<String>,
    /// Its purpose, in a sentence.
    #[serde(default)]
    pub(crate) description: String,
    /// What starts it.
    pub(crate) on: OnSpec,
    /// How long a run may take; a person is notified if it takes longer.
    #[serde(default, deserialize_with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub(crate) sla: Option<Duration>,
    /// `stat` or `routine`, or an expression that gives one of them.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) priority: Option<Spanned<String>>,
    /// Its nodes, by name. A workflow that only passes images on has none.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, NodeSpec>")]
    pub(crate) nodes: NodeMap,
    /// Which outputs are sent to which destination.
    #[serde(default)]
    pub(crate) deliver: Vec<DeliverySpec>,
    /// Its tests, run by `isocenter test`.
    #[serde(default)]
    pub(crate) tests: Vec<TestSpec>,
}

/// The trigger: exactly one of the three keys.
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

/// The key `on.study`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StudySpec {
    /// Which studies. All, if it is left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) when: Option<Spanned<String>>,
    /// When a study counts as complete.
    pub(crate) complete: CompleteSpec,
    /// What to do about instances that arrive after the run was started.
    #[serde(default)]
    pub(crate) late: LateSpec,
}

/// The key `on.message`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageSpec {
    /// Type and event, such as `ORU^R01`, or several; `MDM^*` is every event of a type.
    #[serde(rename = "type")]
    #[schemars(with = "OneOrMany")]
    pub(crate) types: Spanned<OneOrMany>,
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

/// The key `on.document`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentSpec {
    /// Which documents. All, if it is left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) when: Option<Spanned<String>>,
}

/// The key `complete` of a study.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompleteSpec {
    /// Nothing has arrived for this long.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) quiet: Duration,
    /// The longest wait, and what happens then.
    #[serde(default)]
    pub(crate) at_most: Option<AtMostSpec>,
    /// What else must have arrived.
    #[serde(default)]
    pub(crate) expect: Vec<ExpectSpec>,
    /// What completes a study at once, without a quiet period.
    #[serde(default)]
    pub(crate) enough: Vec<EnoughSpec>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AtMostSpec {
    /// How long after the first instance.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) after: Duration,
    /// `run` with what has arrived, `hold` for a person, or `fail`.
    pub(crate) then: OverdueSpec,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OverdueSpec {
    Run,
    Hold,
    Fail,
}

/// Something that must have arrived.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExpectSpec {
    /// An order for the study.
    Order,
    /// An order with the status that the examination is complete (ORC-5 `CM`).
    ExamComplete,
    /// A request for storage commitment, of which every instance has arrived.
    Commitment,
    /// This number of instances.
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
    /// Part of the series description, in upper or lower case.
    pub(crate) description: Option<String>,
    /// The number of such series; one, if it is left out.
    pub(crate) count: Option<usize>,
    /// The number of instances that each of them must have; one, if it is left out.
    pub(crate) instances: Option<usize>,
}

/// Something that completes a study at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EnoughSpec {
    /// Every instance that a request for storage commitment names has arrived.
    Commitment,
    /// An order has the status that the examination is complete.
    ExamComplete,
    /// Everything under `expect` has arrived.
    Expected,
    /// All associations that sent instances ended this long ago. Not for modalities that open one for each
    /// image (DIN-54).
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

/// One node.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSpec {
    /// The plugin that does the work. A node has this or `review`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) plugin: Option<Spanned<String>>,
    /// The role of the person who does the work: reviews all findings, and changes, signs or rejects
    /// them. Every node of a plugin has to come before.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) review: Option<Spanned<String>>,
    /// Settings for the plugin.
    #[serde(default)]
    #[schemars(with = "Option<Value>")]
    pub(crate) with: Option<Spanned<Value>>,
    /// The nodes that it comes after, and whose findings it reads.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) after: Vec<Spanned<String>>,
    /// `all` of the nodes before must be done, or `any`: one is enough, once none of the others can still
    /// become done.
    #[serde(default)]
    pub(crate) join: JoinSpec,
    /// Do it once for each `series` or each `instance`.
    #[serde(default)]
    pub(crate) for_each: Option<ForEachSpec>,
    /// With `for_each`: only for the items for which this holds; it asks about `series`.
    #[serde(default, rename = "where")]
    #[schemars(with = "Option<String>")]
    pub(crate) pick: Option<Spanned<String>>,
    /// Do it only if one of these nodes has failed: then the run has not.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) on_failure_of: Vec<Spanned<String>>,
    /// Do it after everything else has ended, however that ended.
    #[serde(default, rename = "finally")]
    pub(crate) is_final: bool,
    /// How long after its opening it should have ended; a person is notified if it has not.
    #[serde(default, deserialize_with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub(crate) sla: Option<Duration>,
    /// Work on it only in these hours of the day: `20:00-06:00`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) only_between: Option<Spanned<String>>,
    /// Skip it unless this holds.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) when: Option<Spanned<String>>,
    /// How often it is attempted.
    #[serde(default)]
    pub(crate) retry: RetrySpec,
    /// How long one attempt may take.
    #[serde(default = "node_timeout", deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) timeout: Duration,
}

impl NodeSpec {
    /// The settings of the plugin: an empty object, if none are given.
    pub(crate) fn settings(&self) -> Value {
        let given = self.with.as_ref().map(|with| with.value.clone());
        given.filter(|it| !it.is_null()).unwrap_or_else(|| Value::Object(Map::new()))
    }
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

/// The longest attempt, if a file specifies none.
const fn node_timeout() -> Duration {
    Duration::from_mins(10)
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetrySpec {
    /// The number of attempts, the first included.
    pub(crate) attempts: u32,
    /// The wait before the second attempt; each further one waits twice as long.
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
    /// `images` as they were received; DICOM `seg` (masks), `sr` (measurements), `narrative` (the report
    /// as SR), `pr` (regions as presentation state), `sc` (images with the findings drawn in), `pdf`; HL7
    /// `oru`, `mdm`; `fhir`; `json`.
    #[schemars(with = "Vec<String>")]
    pub(crate) what: Vec<Spanned<String>>,
    /// The nodes that must have ended. All, if it is left out.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) after: Vec<Spanned<String>>,
    /// Whether the reasoning of the model goes with it: an SR of its own with `sr` or `narrative`, an
    /// annex of `pdf`, a part of `json`. Messages and bundles never have it.
    #[serde(default, rename = "reasoning")]
    #[schemars(with = "Option<bool>")]
    pub(crate) has_reasoning: Option<Spanned<bool>>,
}

/// One test.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestSpec {
    pub(crate) given: GivenSpec,
    pub(crate) expect: ExpectedSpec,
}

/// The facts of a test, and the answers of the plugins.
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

/// The expected outcome. What is left out is not compared.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExpectedSpec {
    /// Whether a run starts at all.
    pub(crate) starts: Option<bool>,
    /// The nodes that are done, in order.
    pub(crate) path: Option<Vec<String>>,
    /// The destinations of the deliveries that are released, in order.
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
