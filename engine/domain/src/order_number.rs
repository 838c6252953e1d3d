//! Order numbers: a number is one order's only together with what assigned it.

use serde::{Deserialize, Serialize};

/// An order number together with what assigned it (EI; HL7 v2.5.1, 2.A.28).
///
/// `1001` of the emergency department is not `1001` of intensive care.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderNumber {
    /// EI.1; empty if there is no number.
    pub number: String,
    /// What assigned it.
    #[serde(default)]
    pub assigner: Assigner,
}

/// What assigned an order number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assigner {
    /// Nobody is named, and the sender is not known either.
    #[default]
    Unknown,
    /// The number names an authority.
    Authority {
        /// EI.2.
        namespace: String,
        /// EI.3.
        universal_id: String,
        /// EI.4: `ISO`, `DNS`, …
        universal_id_type: String,
    },
    /// The number names none: it is one of the system that sent it.
    Sender {
        /// MSH-3.
        application: String,
        /// MSH-4.
        facility: String,
    },
}

/// Separates the parts of a sender where they are compared as one text. No field holds it.
const SEPARATOR: char = '\u{1f}';

impl OrderNumber {
    /// Whether there is no number.
    pub const fn is_empty(&self) -> bool {
        self.number.is_empty()
    }

    /// The components of the number as EI. Those of the assigner are empty unless the number names
    /// one.
    pub fn parts(&self) -> [&str; 4] {
        match &self.assigner {
            Assigner::Authority { namespace, universal_id, universal_id_type } => {
                [&self.number, namespace, universal_id, universal_id_type]
            }
            Assigner::Unknown | Assigner::Sender { .. } => [&self.number, "", "", ""],
        }
    }

    /// The number with its authority, for people: `1001^ED`.
    pub fn text(&self) -> String {
        self.parts().join("^").trim_end_matches('^').to_owned()
    }

    /// What `newer` says, or this where it says nothing. A number that is repeated without the
    /// authority it was first named with keeps it.
    #[must_use]
    pub fn updated(self, newer: Self) -> Self {
        let loses_authority = newer.number == self.number && newer.assigner.authority().is_empty();
        if newer.is_empty() || loses_authority { self } else { newer }
    }
}

impl Assigner {
    /// The authority, as authorities are compared: its name, or its universal ID where it has no
    /// name. Empty if none is named.
    pub fn authority(&self) -> &str {
        match self {
            Self::Authority { namespace, universal_id, .. } => {
                if namespace.is_empty() {
                    universal_id
                } else {
                    namespace
                }
            }
            Self::Unknown | Self::Sender { .. } => "",
        }
    }

    /// The sender, as senders are compared, if the number is one of its own; else empty.
    pub fn sender(&self) -> String {
        match self {
            Self::Sender { application, facility } => format!("{application}{SEPARATOR}{facility}"),
            Self::Unknown | Self::Authority { .. } => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(number: &str, namespace: &str, universal_id: &str) -> OrderNumber {
        OrderNumber {
            number: number.to_owned(),
            assigner: Assigner::Authority {
                namespace: namespace.to_owned(),
                universal_id: universal_id.to_owned(),
                universal_id_type: if universal_id.is_empty() { "" } else { "ISO" }.to_owned(),
            },
        }
    }

    fn bare(number: &str, application: &str) -> OrderNumber {
        let application = application.to_owned();
        let assigner = Assigner::Sender { application, facility: "H".to_owned() };
        OrderNumber { number: number.to_owned(), assigner }
    }

    #[test]
    fn hl7_40_a_number_is_written_with_its_authority() {
        assert_eq!(of("1001", "ED", "").text(), "1001^ED");
        assert_eq!(of("1001", "", "1.2.3").text(), "1001^^1.2.3^ISO");
        assert_eq!(bare("1001", "RIS").text(), "1001");
        assert_eq!(OrderNumber::default().text(), "");
    }

    #[test]
    fn hl7_40_a_number_that_is_repeated_without_its_authority_keeps_it() {
        let ed = of("1001", "ED", "");
        assert_eq!(ed.clone().updated(bare("1001", "RIS")), ed);
        assert_eq!(ed.clone().updated(OrderNumber::default()), ed);
        assert_eq!(bare("1001", "RIS").updated(ed.clone()), ed);
    }
}
