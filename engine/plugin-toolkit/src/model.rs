//! The model that has answered. Results name it, and its warning has to be passed on with them.

use std::collections::BTreeMap;

use domain::InferResponse;

/// Identity of the model behind an answer, as the engine filled it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelIdentity {
    /// Name of the model.
    pub name: String,
    /// SHA-256 of its files, in hex; empty for a model on another machine.
    pub digest: String,
    /// Whether its products were computed in eight bits.
    pub is_eight_bit: bool,
    /// A restriction of its use that every reader of the result must see.
    pub warning: Option<String>,
}

impl ModelIdentity {
    /// The model that has given this answer.
    pub fn of(answer: &InferResponse) -> Self {
        Self {
            name: answer.model.clone(),
            digest: answer.digest.clone(),
            is_eight_bit: answer.is_eight_bit,
            warning: answer.warning.clone(),
        }
    }

    /// A sentence that credits the model: `Drafted by model NAME DIGEST (WARNING).`
    pub fn attribution(&self, participle: &str) -> String {
        let digest = if self.digest.is_empty() { "" } else { " " };
        let warning = self.warning.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        format!("{participle} by model {}{digest}{}{warning}.", self.name, self.digest)
    }

    /// The model as parameters of an algorithm: `model`, `model_sha256`, and `warning` if there is
    /// one.
    pub fn parameters(&self) -> BTreeMap<String, String> {
        let mut parameters = BTreeMap::from([
            ("model".to_owned(), self.name.clone()),
            ("model_sha256".to_owned(), self.digest.clone()),
        ]);
        if let Some(warning) = &self.warning {
            parameters.insert("warning".to_owned(), warning.clone());
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_answer::answer;

    #[test]
    fn an_attribution_names_model_digest_and_warning() {
        let mut given = answer("x");
        given.model = "tiny".to_owned();
        assert_eq!(ModelIdentity::of(&given).attribution("Read"), "Read by model tiny.");
        given.digest = "abc".to_owned();
        given.warning = Some("for research".to_owned());
        let identity = ModelIdentity::of(&given);
        assert_eq!(identity.attribution("Read"), "Read by model tiny abc (for research).");
        assert_eq!(identity.parameters()["model_sha256"], "abc");
        assert_eq!(identity.parameters()["warning"], "for research");
    }

    #[test]
    fn another_digest_is_another_model() {
        let one = ModelIdentity::of(&InferResponse { digest: "a".to_owned(), ..answer("") });
        let other = ModelIdentity::of(&InferResponse { digest: "b".to_owned(), ..answer("") });
        assert_ne!(one, other);
    }
}
