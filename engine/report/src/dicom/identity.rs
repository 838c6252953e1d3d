//! Whether the identity of a patient fits into the attributes of an object as it is (PS3.5, 6.2).
//! Cut to length, or without a character, it would be that of another patient.

use domain::PatientId;

use crate::input::{ReportContext, ReportError};

/// Longest value of Patient ID and Issuer of Patient ID (LO), and longest group of a Patient's Name
/// (PN), in characters.
const CHARACTERS_MAX: usize = 64;

/// Most groups of a name, and most components of a group.
const NAME_GROUPS_MAX: usize = 3;
const NAME_COMPONENTS_MAX: usize = 5;

/// Checks that every object can state the identity.
///
/// # Errors
///
/// Names the attribute that cannot hold it, and why. No value: it is personal.
pub(crate) fn check(context: &ReportContext) -> Result<(), ReportError> {
    let PatientId { value, issuer } = &context.patient;
    check_text("Patient ID (0010,0020)", value)?;
    // An OID goes into another attribute, without a limit.
    if context.patient.issuer_oid().is_none() {
        check_text("Issuer of Patient ID (0010,0021)", issuer)?;
    }
    let attribute = "Patient's Name (0010,0010)";
    let name = &context.demographics.name;
    check_characters(attribute, name)?;
    let groups: Vec<&str> = name.split('=').collect();
    if groups.len() > NAME_GROUPS_MAX {
        return unfit(attribute, "has more than three groups");
    }
    if groups.iter().any(|it| it.split('^').count() > NAME_COMPONENTS_MAX) {
        return unfit(attribute, "has more than five components");
    }
    if groups.iter().any(|it| it.chars().count() > CHARACTERS_MAX) {
        return unfit(attribute, TOO_LONG);
    }
    Ok(())
}

const TOO_LONG: &str = "has more than 64 characters";

fn check_text(attribute: &'static str, text: &str) -> Result<(), ReportError> {
    if text.chars().count() > CHARACTERS_MAX {
        return unfit(attribute, TOO_LONG);
    }
    check_characters(attribute, text)
}

fn check_characters(attribute: &'static str, text: &str) -> Result<(), ReportError> {
    if text.contains('\\') {
        return unfit(attribute, "has a backslash, which separates values");
    }
    if text.contains(char::is_control) {
        return unfit(attribute, "has a control character");
    }
    Ok(())
}

const fn unfit(attribute: &'static str, problem: &'static str) -> Result<(), ReportError> {
    Err(ReportError::Identity { attribute, problem })
}

#[cfg(test)]
mod tests {
    use crate::fixture::Fixture;

    use super::*;

    fn problem(change: impl FnOnce(&mut ReportContext)) -> Option<(&'static str, &'static str)> {
        let mut fixture = Fixture::new();
        change(&mut fixture.context);
        match check(&fixture.context) {
            Err(ReportError::Identity { attribute, problem }) => Some((attribute, problem)),
            Err(other) => panic!("{other:?}"),
            Ok(()) => None,
        }
    }

    #[test]
    fn din_76_an_identity_that_fits_goes_out_as_it_is() {
        assert_eq!(problem(|_| {}), None);
        assert_eq!(problem(|it| it.patient.value = "x".repeat(64)), None);
        assert_eq!(problem(|it| it.demographics.name = String::new()), None);
        assert_eq!(
            problem(|it| it.demographics.name = "A^B^C^D^E=山田^太郎=や^た".to_owned()),
            None
        );
        assert_eq!(problem(|it| it.patient.issuer = format!("1.2.{}", "3".repeat(60))), None);
    }

    #[test]
    fn din_76_an_identity_that_does_not_fit_is_held_and_not_changed() {
        let of_id = |value: &str| problem(|it| it.patient.value = value.to_owned()).unwrap();
        let of_name = |name: &str| problem(|it| it.demographics.name = name.to_owned()).unwrap();
        assert_eq!(of_id(&"x".repeat(65)), ("Patient ID (0010,0020)", TOO_LONG));
        assert_eq!(of_id("D06G\\X").1, "has a backslash, which separates values");
        assert_eq!(of_id("4711\t").1, "has a control character");
        let issuer = problem(|it| it.patient.issuer = "x".repeat(65)).unwrap();
        assert_eq!(issuer, ("Issuer of Patient ID (0010,0021)", TOO_LONG));
        assert_eq!(of_name(&format!("DOE^{}", "J".repeat(61))).1, TOO_LONG);
        assert_eq!(of_name("DOE^^^^^^^JOHN").1, "has more than five components");
        assert_eq!(of_name("A=B=C=D").1, "has more than three groups");
        assert_eq!(of_name("DOE\t^JOHN\r\n^").1, "has a control character");
        assert_eq!(of_name("DOE\\JOHN").1, "has a backslash, which separates values");
    }
}
