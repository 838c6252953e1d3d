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
}

/// `study` in conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MessageFacts {
    /// Type and event: `ORU^R01`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many observations it has.
    pub observations: i64,
    /// Codes of its observations.
    pub codes: Vec<String>,
}

impl Facts {
    /// Facts in which every field holds something, to try conditions on.
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
            },
        }
    }
}
