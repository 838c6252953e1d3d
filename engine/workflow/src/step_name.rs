//! Names of the steps of a run. A node is one step of the same name; a node with `for_each` is one step
//! for each item, `bone.1`, `bone.2`, and so on.

use std::fmt;

/// The name of a step, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepName<'a> {
    /// Name of the node. It contains no dot: the check of a workflow file refuses one.
    pub node: &'a str,
    /// Number of the item, from one, for a node with `for_each`.
    pub number: Option<usize>,
}

impl<'a> StepName<'a> {
    /// Takes the name of a step apart. A text that is no step of a node with `for_each` is the name of
    /// a node.
    pub fn parse(text: &'a str) -> Self {
        let parts = text.split_once('.');
        match parts.and_then(|(node, number)| Some((node, number.parse().ok()?))) {
            Some((node, number)) => Self { node, number: Some(number) },
            None => Self { node: text, number: None },
        }
    }
}

impl fmt::Display for StepName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{}.{number}", self.node),
            None => f.write_str(self.node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_belongs_to_its_node() {
        assert_eq!(StepName::parse("bone"), StepName { node: "bone", number: None });
        assert_eq!(StepName::parse("bone.12"), StepName { node: "bone", number: Some(12) });
        assert_eq!(StepName::parse("bone.x"), StepName { node: "bone.x", number: None });
    }

    #[test]
    fn a_name_is_written_as_it_is_read() {
        for name in ["bone", "bone.1", "lung-left.10000"] {
            assert_eq!(StepName::parse(name).to_string(), name);
        }
    }
}
