//! Compares the patients whom pages name with the one whom they are filed under. Pure.
//!
//! Plugins read pages and are not told whose they are; the engine knows, and reads no pages. So a
//! plugin states whom each page names, and the comparison is here.

use std::collections::BTreeSet;

use contracts::NodeFailure;
use domain::{
    Code, FiledPatient, IdentityDifference, IdentityField, NodeOutput, OnDoubt, Section,
    StatedPatient,
};

/// Code of the rejection of pages whose patient is doubtful, where the workflow keeps no doubts.
const PATIENT_DOUBTFUL: &str = "patient_doubtful";

/// Code of the rejection of an output that names more patients than documents have.
const TOO_MANY_PATIENTS: &str = "too_many_patients";

/// Upper bound of the statements about patients that are compared with each other.
const STATED_MAX: usize = 200;

/// Checks whose the pages of an output are. The output has no statement about a patient afterwards.
///
/// # Errors
///
/// Fails if a page names another patient, or if two pages name different ones; and if it may be so,
/// and the plugin asks not to keep doubts.
pub(crate) fn checked(
    mut output: NodeOutput,
    filed: Option<&FiledPatient>,
) -> Result<NodeOutput, NodeFailure> {
    let stated = std::mem::take(&mut output.stated_patients);
    if stated.len() > STATED_MAX {
        let code = TOO_MANY_PATIENTS.to_owned();
        let reason = format!("{} patients are named on the pages", stated.len());
        return Err(NodeFailure::Rejected { code, reason });
    }
    let found = Differences::of(&stated, filed);
    if !found.conflicts.is_empty() {
        return Err(NodeFailure::OtherPatient {
            pages: found.conflict_pages.into_iter().collect(),
            fields: found.conflicts.into_iter().collect(),
        });
    }
    if found.doubts.is_empty() {
        return Ok(output);
    }
    if stated.iter().any(|it| it.on_doubt == OnDoubt::Reject) {
        let code = PATIENT_DOUBTFUL.to_owned();
        return Err(NodeFailure::Rejected { code, reason: found.doubt() });
    }
    mark(&mut output, &found.doubt());
    Ok(output)
}

/// Marks every row, and the comment, with a doubt.
fn mark(output: &mut NodeOutput, doubt: &str) {
    for row in &mut output.laboratory {
        if !row.doubt.is_empty() {
            row.doubt.push_str("; ");
        }
        row.doubt.push_str(doubt);
    }
    let line = format!("To be checked: {doubt}.");
    let title = Code::new("121106", "DCM", "Comment");
    match output.sections.iter_mut().find(|it| it.title == title) {
        Some(comment) => comment.text = format!("{line}\n{}", comment.text),
        None => output.sections.push(Section { title, text: line }),
    }
}

/// What differs between the patients of pages, and from the one whom they are filed under.
#[derive(Default)]
struct Differences {
    conflicts: BTreeSet<IdentityField>,
    conflict_pages: BTreeSet<u32>,
    doubts: BTreeSet<IdentityField>,
    doubt_pages: BTreeSet<u32>,
}

impl Differences {
    fn of(stated: &[StatedPatient], filed: Option<&FiledPatient>) -> Self {
        let mut all = Self::default();
        for (index, page) in stated.iter().enumerate() {
            if let Some(filed) = filed {
                all.add(page.compared_with(filed), &[page.page]);
            }
            for other in stated.iter().skip(index + 1) {
                all.add(page.compared_with_page(other), &[page.page, other.page]);
            }
        }
        all
    }

    fn add(&mut self, found: IdentityDifference, pages: &[u32]) {
        if !found.conflicts.is_empty() {
            self.conflict_pages.extend(pages);
        }
        if !found.doubts.is_empty() {
            self.doubt_pages.extend(pages);
        }
        self.conflicts.extend(found.conflicts);
        self.doubts.extend(found.doubts);
    }

    /// The doubt as a clause, without anything of either patient.
    fn doubt(&self) -> String {
        let pages: Vec<String> = self.doubt_pages.iter().map(ToString::to_string).collect();
        let fields: Vec<&str> = self
            .doubts
            .iter()
            .map(|it| match it {
                IdentityField::Name => "the name",
                IdentityField::BirthDate => "the date of birth",
                IdentityField::Identifier => "the identifier",
                IdentityField::Sex => "the sex",
            })
            .collect();
        let pages = pages.join(" and ");
        let fields = fields.join(" and ");
        format!("page {pages} may be of another patient ({fields} differs)")
    }
}

#[cfg(test)]
mod tests {
    use domain::{Demographics, LabRow};

    use super::*;

    fn filed() -> FiledPatient {
        let demographics = Demographics {
            name: "DOE^JANE".to_owned(),
            birth_date: "19800101".to_owned(),
            sex: "F".to_owned(),
        };
        FiledPatient { demographics, identifiers: Vec::new() }
    }

    fn output(pages: &[(u32, &str)]) -> NodeOutput {
        let of = |(page, name): &(u32, &str)| StatedPatient {
            page: *page,
            name: (*name).to_owned(),
            is_recognised: true,
            on_doubt: OnDoubt::Mark,
            ..StatedPatient::default()
        };
        NodeOutput {
            laboratory: vec![LabRow::default()],
            stated_patients: pages.iter().map(of).collect(),
            ..NodeOutput::default()
        }
    }

    #[test]
    fn pap_10_a_page_of_another_patient_is_rejected_and_named_by_its_number_only() {
        let found = checked(output(&[(1, "Jane Doe"), (2, "Alpha, Anna")]), Some(&filed()));
        let failure = found.unwrap_err();
        let fields = vec![IdentityField::Name];
        assert_eq!(failure, NodeFailure::OtherPatient { pages: vec![1, 2], fields });
        let reason = failure.to_string();
        assert!(reason.starts_with("patient_conflict: page 1 and 2 "), "{reason}");
        assert!(!reason.contains("Anna") && !reason.contains("Jane"), "{reason}");
    }

    #[test]
    fn pap_10_pages_of_two_patients_are_rejected_whoever_they_are_filed_under() {
        for filed in [None, Some(FiledPatient::default())] {
            let found = checked(output(&[(1, "Alpha, Anna"), (2, "Beta, Bert")]), filed.as_ref());
            assert!(matches!(found, Err(NodeFailure::OtherPatient { .. })), "{found:?}");
            let found = checked(output(&[(1, "Alpha, Anna"), (2, "ANNA ALPHA")]), filed.as_ref());
            assert!(found.is_ok());
        }
    }

    #[test]
    fn pap_10_a_doubt_about_the_patient_is_marked_or_rejected_as_the_workflow_asks() {
        let marked = checked(output(&[(1, "Jahe Doe")]), Some(&filed())).unwrap();
        let doubt = "page 1 may be of another patient (the name differs)";
        assert_eq!(marked.laboratory[0].doubt, doubt);
        assert_eq!(marked.sections[0].text, format!("To be checked: {doubt}."));
        let mut strict = output(&[(1, "Jahe Doe")]);
        strict.stated_patients[0].on_doubt = OnDoubt::Reject;
        let code = PATIENT_DOUBTFUL.to_owned();
        let rejected = NodeFailure::Rejected { code, reason: doubt.to_owned() };
        assert_eq!(checked(strict, Some(&filed())), Err(rejected));
    }

    #[test]
    fn sec_31_an_output_that_names_countless_patients_is_rejected() {
        let pages: Vec<(u32, &str)> = (0..1000).map(|it| (it, "Jane Doe")).collect();
        let found = checked(output(&pages), Some(&filed()));
        assert!(matches!(found, Err(NodeFailure::Rejected { .. })), "{found:?}");
    }

    #[test]
    fn pap_10_what_pages_state_of_a_patient_is_not_kept() {
        let kept = checked(output(&[(1, "Jane Doe")]), Some(&filed())).unwrap();
        assert_eq!(kept.stated_patients, []);
        assert_eq!(kept.laboratory, [LabRow::default()]);
    }
}
