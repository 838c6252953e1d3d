//! Names of persons as DICOM writes them: `family^given^middle^prefix^suffix` (PS3.5, 6.2, PN).

use std::fmt;

/// A name that was taken apart: up to three groups of components, alphabetic, ideographic and
/// phonetic, in this order.
#[derive(Clone, PartialEq, Eq)]
pub struct PersonName {
    groups: Vec<NameGroup>,
}

/// One representation of a name.
#[derive(Clone, PartialEq, Eq)]
pub struct NameGroup {
    components: Vec<String>,
}

impl fmt::Debug for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonName(..)")
    }
}

impl fmt::Debug for NameGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameGroup(..)")
    }
}

impl PersonName {
    /// Takes a name apart: groups at `=`, components at `^`.
    pub fn parse(text: &str) -> Self {
        Self { groups: text.split('=').map(NameGroup::parse).collect() }
    }

    /// The groups, in the order of their representation. A group may be empty.
    pub fn groups(&self) -> &[NameGroup] {
        &self.groups
    }

    /// The groups beside each other, with spaces between their components.
    pub fn printed(&self) -> String {
        let groups: Vec<String> = self.groups.iter().map(NameGroup::printed).collect();
        groups.join(" ").trim().to_owned()
    }

    /// The components that are not empty, of all groups, with one space between words.
    pub fn display_name(&self) -> String {
        let components = self.groups.iter().flat_map(|group| &group.components);
        let words: Vec<&str> = components.flat_map(|it| it.split_whitespace()).collect();
        words.join(" ")
    }
}

impl NameGroup {
    fn parse(text: &str) -> Self {
        Self { components: text.split('^').map(str::to_owned).collect() }
    }

    /// Whether nothing is written for this representation, not even a separator.
    pub fn is_empty(&self) -> bool {
        self.components.len() <= 1 && self.family().is_empty()
    }

    /// Family name.
    pub fn family(&self) -> &str {
        self.component(0)
    }

    /// Given name.
    pub fn given(&self) -> &str {
        self.component(1)
    }

    /// Middle name.
    pub fn middle(&self) -> &str {
        self.component(2)
    }

    /// Name prefix: `Dr`.
    pub fn prefix(&self) -> &str {
        self.component(3)
    }

    /// Name suffix: `MD`.
    pub fn suffix(&self) -> &str {
        self.component(4)
    }

    fn component(&self, index: usize) -> &str {
        self.components.get(index).map_or("", String::as_str)
    }

    fn printed(&self) -> String {
        self.components.join(" ").trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_read_in_the_order_of_dicom() {
        let name = PersonName::parse("DOE^JANE^Q^DR^MD");
        let group = &name.groups()[0];
        assert_eq!([group.family(), group.given(), group.middle()], ["DOE", "JANE", "Q"]);
        assert_eq!([group.prefix(), group.suffix()], ["DR", "MD"]);
        assert_eq!(PersonName::parse("DOE").groups()[0].given(), "");
    }

    #[test]
    fn every_representation_is_a_group_of_its_own() {
        let name = PersonName::parse("Yamada^Tarou=山田^太郎=やまだ^たろう");
        assert_eq!(name.groups().len(), 3);
        assert_eq!(name.groups()[1].family(), "山田");
        assert_eq!(name.printed(), "Yamada Tarou 山田 太郎 やまだ たろう");
        let ideographic = PersonName::parse("=山田^太郎");
        assert!(ideographic.groups()[0].is_empty() && !ideographic.groups()[1].is_empty());
        assert_eq!(ideographic.display_name(), "山田 太郎");
    }

    #[test]
    fn a_display_name_has_one_space_between_words() {
        assert_eq!(PersonName::parse("DOE^JANE^^DR").display_name(), "DOE JANE DR");
        assert_eq!(PersonName::parse("").display_name(), "");
        assert_eq!(PersonName::parse("DOE^^").printed(), "DOE");
    }

    #[test]
    fn sec_37_a_name_is_not_shown_by_mistake() {
        assert_eq!(format!("{:?}", PersonName::parse("DOE^JANE")), "PersonName(..)");
    }
}
