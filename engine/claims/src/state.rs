//! The codes of what became of a finding: the lines of `data/states.tsv` (OUT-31).

use domain::Code;

use crate::claim::State;

const STATES: &str = include_str!("../data/states.tsv");

/// The coding scheme of SNOMED CT.
const SNOMED: &str = "SCT";

impl State {
    /// Its code, a value of 288533004 (Change values) of SNOMED CT.
    pub fn code(self) -> Option<Code> {
        let lines = STATES.lines().filter(|it| !it.starts_with('#'));
        lines.map(|it| it.split('\t').collect()).find_map(|columns: Vec<&str>| {
            let [name, value, meaning] = columns.as_slice() else { return None };
            (*name == self.name()).then(|| Code::new(value, SNOMED, meaning))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn out_31_every_state_has_a_code_of_its_own() {
        let states =
            [State::New, State::Increased, State::Decreased, State::Unchanged, State::Resolved];
        let codes: BTreeSet<String> = states.iter().map(|it| it.code().unwrap().value).collect();
        assert_eq!(codes.len(), states.len());
        assert_eq!(STATES.lines().filter(|it| !it.starts_with('#')).count(), states.len());
        let unchanged = State::Unchanged.code().unwrap();
        assert_eq!(unchanged, Code::new("260388006", "SCT", "No status change"));
    }
}
