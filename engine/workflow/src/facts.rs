//! Facts: the values that conditions can ask about. None of them identifies the patient.

use std::collections::BTreeMap;

use domain::{NodeOutput, Presence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything that conditions can ask about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The study.
    #[serde(default)]
    pub study: StudyFacts,
    /// The order for the study. Its fields are empty, if there is none.
    #[serde(default)]
    pub order: OrderFacts,
    /// The message.
    #[serde(default)]
    pub message: MessageFacts,
    /// What nodes have done so far, by name: for the conditions of nodes after them.
    #[serde(default)]
    pub nodes: BTreeMap<String, NodeFacts>,
}

/// `study` in conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StudyFacts {
    /// Modalities of its series, each once: `["CT"]`.
    pub modalities: Vec<String>,
    /// Body parts of its series, each once.
    pub body_parts: Vec<String>,
    /// Its description.
    pub description: String,
    /// Descriptions of its series.
    pub series_descriptions: Vec<String>,
    /// How many series it has.
    pub series: i64,
    /// How many instances it has.
    pub instances: i64,
}

/// `order` in conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OrderFacts {
    /// Whether there is one.
    pub exists: bool,
    /// `STAT`, `ROUTINE`, or as the RIS wrote it.
    pub priority: String,
    /// Modality that was ordered.
    pub modality: String,
    /// Code of the procedure that was ordered.
    pub procedure_code: String,
    /// Name of the procedure that was ordered.
    pub procedure: String,
}

/// `message` in conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MessageFacts {
    /// Type and event: `ORU^R01`.
    #[serde(rename = "type")]
    pub message_type: String,
    /// How many observations it has that report a result or take one back.
    pub observations: i64,
    /// Codes of these observations.
    pub codes: Vec<String>,
    /// How many files are in it.
    pub files: i64,
    /// Types of the files in it, each once: `["application/pdf"]`.
    pub media_types: Vec<String>,
    /// What kind of document it is about (TXA-2).
    pub document_kind: String,
}

/// `series` under `where`: one of the series of a study.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SeriesFacts {
    /// Its modality.
    pub modality: String,
    /// Its body part.
    pub body_part: String,
    /// Its description.
    pub description: String,
    /// How many instances it has.
    pub instances: i64,
}

/// `nodes.NAME` in conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeFacts {
    /// `done`, `failed` or `skipped`.
    pub state: String,
    /// What it found.
    pub findings: Vec<FindingFacts>,
    /// How many rows of a laboratory report it read.
    pub rows: i64,
    /// How many of them are not as usual.
    pub abnormal: i64,
}

/// One of `nodes.NAME.findings`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FindingFacts {
    /// Its code.
    pub code: String,
    /// What it means.
    pub meaning: String,
    /// `present`, `absent`, `possible` or `unknown`.
    pub presence: String,
}

impl NodeFacts {
    /// Adds the findings of another step of the same node.
    pub fn add(&mut self, other: Self) {
        self.state = other.state;
        self.findings.extend(other.findings);
        self.rows += other.rows;
        self.abnormal += other.abnormal;
    }

    /// The facts of a node that is done with this output.
    pub fn done(output: &NodeOutput) -> Self {
        let findings = output.findings.iter().map(|it| FindingFacts {
            code: it.code.value.clone(),
            meaning: it.code.meaning.clone(),
            presence: presence_name(it.presence).to_owned(),
        });
        let abnormal = output.laboratory.iter().filter(|row| row.abnormality.is_abnormal());
        Self {
            state: "done".to_owned(),
            findings: findings.collect(),
            rows: saturated(output.laboratory.len()),
            abnormal: saturated(abnormal.count()),
        }
    }
}

/// The name of a presence in conditions.
const fn presence_name(presence: Presence) -> &'static str {
    match presence {
        Presence::Present => "present",
        Presence::Absent => "absent",
        Presence::Possible => "possible",
        Presence::Unknown => "unknown",
    }
}

fn saturated(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Facts {
    /// Facts in which every field has a value, to evaluate conditions with.
    pub(crate) fn sample_with(nodes: &[String]) -> Self {
        let finding = FindingFacts {
            code: "1".to_owned(),
            meaning: "one".to_owned(),
            presence: "present".to_owned(),
        };
        let state = "done".to_owned();
        let node = NodeFacts { state, findings: vec![finding], rows: 1, abnormal: 1 };
        let nodes = nodes.iter().map(|it| (it.clone(), node.clone())).collect();
        Self { nodes, ..Self::sample() }
    }

    /// The same facts before any node has ended.
    pub(crate) fn sample() -> Self {
        Self {
            study: StudyFacts {
                modalities: one_text("CT"),
                body_parts: one_text("CHEST"),
                description: "CT chest".to_owned(),
                series_descriptions: one_text("axial"),
                series: 1,
                instances: 1,
            },
            order: OrderFacts {
                exists: true,
                priority: "ROUTINE".to_owned(),
                modality: "CT".to_owned(),
                procedure_code: "24627-2".to_owned(),
                procedure: "CT Chest".to_owned(),
            },
            message: MessageFacts {
                message_type: "ORU^R01".to_owned(),
                observations: 1,
                codes: one_text("6690-2"),
                files: 1,
                media_types: one_text("application/pdf"),
                document_kind: "DI".to_owned(),
            },
            nodes: BTreeMap::new(),
        }
    }
}

fn one_text(text: &str) -> Vec<String> {
    vec![text.to_owned()]
}
