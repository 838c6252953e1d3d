//! Order numbers: a number is one order's only together with what assigned it.

use serde::{Deserialize, Deserializer, Serialize};

/// An order number together with what assigned it (EI; HL7 v2.5.1, 2.A.28).
///
/// `1001` of the emergency department is not `1001` of intensive care.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrderNumber {
    /// EI.1; empty if there is no number.
    pub number: String,
    /// What assigned it.
    #[serde(default, deserialize_with = "assigner")]
    pub assigner: Assigner,
}

/// What assigned an order number.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

    /// The same number, with its authority under the name that a site gives it.
    #[must_use]
    pub fn with_authority_named(mut self, name_of: impl Fn(&str) -> String) -> Self {
        let name = name_of(self.assigner.authority());
        let is_renamed = name != self.assigner.authority();
        if let Assigner::Authority { namespace, .. } = &mut self.assigner
            && is_renamed
        {
            *namespace = name;
        }
        self
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

    /// What assigners are compared by: the authority, or the application and the facility of the
    /// sender.
    pub fn key(&self) -> [&str; 3] {
        match self {
            Self::Sender { application, facility } => ["", application, facility],
            Self::Unknown | Self::Authority { .. } => [self.authority(), "", ""],
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

/// Reads what assigned a number. Documents of laboratories were once stored with the text of EI.2 to
/// EI.4, empty for a number of the sender.
fn assigner<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Assigner, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Whole(Assigner),
        Text(String),
    }
    let text = match Stored::deserialize(deserializer)? {
        Stored::Whole(assigner) => return Ok(assigner),
        Stored::Text(text) => text,
    };
    let mut parts = text.split('^').map(ToOwned::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    let assigner =
        Assigner::Authority { namespace: next(), universal_id: next(), universal_id_type: next() };
    Ok(if assigner.authority().is_empty() { Assigner::Unknown } else { assigner })
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
    fn hl7_53_an_authority_gets_the_name_that_the_site_gives_it() {
        let name_of = |named: &str| if named == "1.2.3" { "LAB" } else { named }.to_owned();
        let named = |number: OrderNumber| number.with_authority_named(name_of).text();
        assert_eq!(named(of("F1", "", "1.2.3")), "F1^LAB^1.2.3^ISO");
        assert_eq!(named(of("F1", "", "1.2.4")), "F1^^1.2.4^ISO");
        assert_eq!(named(of("F1", "LAB", "")), "F1^LAB");
        assert_eq!(named(bare("F1", "LIS")), "F1");
    }

    #[test]
    fn hl7_53_numbers_of_documents_that_were_stored_before_are_read() {
        let read = |assigner: &str| {
            let text = format!("{{\"number\":\"F1\",\"assigner\":\"{assigner}\"}}");
            serde_json::from_str::<OrderNumber>(&text).unwrap()
        };
        assert_eq!(read("LAB"), of("F1", "LAB", ""));
        assert_eq!(read("^1.2.3^ISO"), of("F1", "", "1.2.3"));
        assert_eq!(read("").assigner, Assigner::Unknown);
        for number in [of("F1", "LAB", "1.2.3"), bare("F1", "LIS"), OrderNumber::default()] {
            let text = serde_json::to_string(&number).unwrap();
            assert_eq!(serde_json::from_str::<OrderNumber>(&text).unwrap(), number);
        }
    }

    #[test]
    fn hl7_40_a_number_that_is_repeated_without_its_authority_keeps_it() {
        let ed = of("1001", "ED", "");
        assert_eq!(ed.clone().updated(bare("1001", "RIS")), ed);
        assert_eq!(ed.clone().updated(OrderNumber::default()), ed);
        assert_eq!(bare("1001", "RIS").updated(ed.clone()), ed);
    }
}
