use std::collections::BTreeMap;

use domain::{NodeOutput, Presence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What conditions can ask about. Nothing in it says who the patient is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The study.
    #[serde(default)]
    pub study: StudyFacts,
    /// The order that asks for it. Empty fields if there is none.
    #[serde(default)]
    pub order: OrderFacts,
    /// The message.
    #[serde(default)]
    pub message: MessageFacts,
    /// What nodes have done so far, by their names: for conditions of nodes after them.
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
    /// Modality asked for.
    pub modality: String,
    /// Code of what was asked for.
    pub procedure_code: String,
    /// Words for what was asked for.
    pub procedure: String,
}

/// `message` in conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MessageFacts {
    /// Type and event: `ORU^R01`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many observations it has.
    pub observations: i64,
    /// Codes of its observations.
    pub codes: Vec<String>,
    /// How many files are in it.
    pub files: i64,
    /// Types of the files in it, each once: `["application/pdf"]`.
    pub media_types: Vec<String>,
    /// What kind of document it is about (TXA-2).
    pub document_kind: String,
}

/// `series` under `where`: one of those a node is to be done for.
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
    /// Takes in what another step of the same node found.
    pub fn add(&mut self, other: Self) {
        self.state = other.state;
        self.findings.extend(other.findings);
        self.rows += other.rows;
        self.abnormal += other.abnormal;
    }

    /// What a node that is done says to conditions.
    pub fn done(output: &NodeOutput) -> Self {
        let presence = |it: Presence| match it {
            Presence::Present => "present",
            Presence::Absent => "absent",
            Presence::Possible => "possible",
            Presence::Unknown => "unknown",
        };
        let findings = output.findings.iter().map(|it| FindingFacts {
            code: it.code.value.clone(),
            meaning: it.code.meaning.clone(),
            presence: presence(it.presence).to_owned(),
        });
        let count = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
        let is_abnormal = |it: &&domain::LabRow| it.abnormality.is_abnormal();
        Self {
            state: "done".to_owned(),
            findings: findings.collect(),
            rows: count(output.laboratory.len()),
            abnormal: count(output.laboratory.iter().filter(is_abnormal).count()),
        }
    }
}

impl Facts {
    /// Facts in which every field holds something, to try conditions on.
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

    /// The same, before any node has done anything.
    pub(crate) fn sample() -> Self {
        let one = |text: &str| vec![text.to_owned()];
        Self {
            study: StudyFacts {
                modalities: one("CT"),
                body_parts: one("CHEST"),
                description: "CT chest".to_owned(),
                series_descriptions: one("axial"),
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
                kind: "ORU^R01".to_owned(),
                observations: 1,
                codes: one("6690-2"),
                files: 1,
                media_types: one("application/pdf"),
                document_kind: "DI".to_owned(),
            },
            nodes: BTreeMap::new(),
        }
    }
}
