//! Who turned out to be whom: a graph of patients in which merges are edges (HL7-30). Pure.
//!
//! A statement about two patients is never removed from the graph, only contradicted later. Who is
//! the same as whom is a function of all statements, so the order in which messages arrive, and how
//! often, makes no difference.

use std::collections::{BTreeMap, BTreeSet};

/// A statement about two patients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assertion<T> {
    /// When it was made, by the clock of the sender, in microseconds since 1970.
    pub at: i64,
    /// Whether the two are the same; otherwise an earlier statement that they are is withdrawn.
    pub is_same: bool,
    /// The patient whose identifier ends.
    pub from: T,
    /// The patient whose identifier remains.
    pub to: T,
}

/// The root of every patient that a statement names: who the patient turned out to be.
///
/// Of the patients that are the same, the root is the one that was merged into no other. If there
/// are several, or none because the merges form a circle, it is the one that the latest statement
/// lets remain.
pub fn roots<T: Ord + Clone>(assertions: &[Assertion<T>]) -> BTreeMap<T, T> {
    let edges = standing(assertions);
    let mut families: BTreeMap<T, BTreeSet<T>> = BTreeMap::new();
    for it in assertions {
        for one in [&it.from, &it.to] {
            families.entry(one.clone()).or_insert_with(|| BTreeSet::from([one.clone()]));
        }
    }
    for edge in &edges {
        let joined: BTreeSet<T> = [&edge.from, &edge.to]
            .into_iter()
            .filter_map(|it| families.get(it).cloned())
            .flatten()
            .collect();
        for member in &joined {
            families.insert(member.clone(), joined.clone());
        }
    }
    let root = |(one, family): (&T, &BTreeSet<T>)| (one.clone(), root_of(one, family, &edges));
    families.iter().map(root).collect()
}

/// The latest statement about each two patients, if it is that they are the same.
fn standing<T: Ord + Clone>(assertions: &[Assertion<T>]) -> Vec<&Assertion<T>> {
    let mut latest: BTreeMap<(&T, &T), &Assertion<T>> = BTreeMap::new();
    for it in assertions.iter().filter(|it| it.from != it.to) {
        let pair = if it.from < it.to { (&it.from, &it.to) } else { (&it.to, &it.from) };
        let known = latest.entry(pair).or_insert(it);
        // At the same moment, taking back outweighs: nobody is merged by mistake.
        let weight = |it: &Assertion<T>| (it.at, !it.is_same);
        if (weight(it), it) > (weight(known), *known) {
            *known = it;
        }
    }
    latest.into_values().filter(|it| it.is_same).collect()
}

fn root_of<T: Ord + Clone>(one: &T, family: &BTreeSet<T>, edges: &[&Assertion<T>]) -> T {
    let within = || edges.iter().filter(|it| family.contains(&it.to));
    let goes = |patient: &T| within().any(|it| it.from == *patient);
    let staying: Vec<&T> = family.iter().filter(|it| !goes(it)).collect();
    if let [only] = staying.as_slice() {
        return (*only).clone();
    }
    let counts = |it: &&&Assertion<T>| staying.is_empty() || staying.contains(&&it.to);
    let last = within().filter(counts).max();
    last.map_or_else(|| one.clone(), |it| it.to.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(at: i64, is_same: bool, from: u8, to: u8) -> Assertion<u8> {
        Assertion { at, is_same, from, to }
    }

    #[track_caller]
    fn check(assertions: &[Assertion<u8>], expected: &[(u8, u8)]) {
        assert_eq!(roots(assertions), expected.iter().copied().collect());
    }

    #[test]
    fn hl7_30_chains_end_at_the_last_survivor() {
        check(&[said(1, true, 1, 2), said(2, true, 2, 3)], &[(1, 3), (2, 3), (3, 3)]);
        check(&[said(1, true, 2, 3), said(1, true, 1, 2)], &[(1, 3), (2, 3), (3, 3)]);
    }

    #[test]
    fn hl7_30_a_merge_the_other_way_round_brings_the_old_name_back() {
        check(&[said(1, true, 1, 2), said(2, true, 2, 1)], &[(1, 1), (2, 1)]);
        check(&[said(1, true, 1, 2), said(2, true, 1, 3)], &[(1, 3), (2, 3), (3, 3)]);
        let circle = [said(1, true, 1, 2), said(2, true, 2, 3), said(3, true, 3, 1)];
        check(&circle, &[(1, 1), (2, 1), (3, 1)]);
    }

    #[test]
    fn hl7_37_what_is_taken_back_parts_those_it_joined_and_nobody_else() {
        let merged = [said(1, true, 1, 2), said(2, true, 2, 3), said(3, true, 4, 2)];
        let parted = [merged.as_slice(), &[said(9, false, 2, 3)]].concat();
        check(&parted, &[(1, 2), (2, 2), (3, 3), (4, 2)]);
        // An old message that comes again does not join them again; a new one does.
        let repeated = [parted.as_slice(), &[said(2, true, 2, 3)]].concat();
        check(&repeated, &[(1, 2), (2, 2), (3, 3), (4, 2)]);
        let again = [parted.as_slice(), &[said(10, true, 2, 3)]].concat();
        check(&again, &[(1, 3), (2, 3), (3, 3), (4, 3)]);
    }

    prop_compose! {
        fn word()(at in 0..6_i64, is_same in prop::bool::weighted(0.8), from in 0..7_u8, to in 0..7_u8)
            -> Assertion<u8> { said(at, is_same, from, to) }
    }

    proptest! {
        #[test]
        fn hl7_30_order_and_repetition_make_no_difference(
            (words, shuffled) in prop::collection::vec(word(), 0..14).prop_flat_map(|words| {
                let twice = [words.clone(), words.clone()].concat();
                (Just(words), Just(twice).prop_shuffle())
            }),
        ) {
            prop_assert_eq!(roots(&words), roots(&shuffled));
        }

        #[test]
        fn hl7_30_everybody_has_one_root_that_is_its_own(words in prop::collection::vec(word(), 0..14)) {
            let roots = roots(&words);
            for root in roots.values() {
                prop_assert_eq!(&roots[root], root);
            }
        }

        /// Merges as a hospital makes them: nobody who went stays for another. Whatever the order
        /// of messages, all end at the same survivor.
        #[test]
        fn hl7_30_a_tree_of_merges_ends_at_its_survivor(
            (parents, order) in prop::collection::vec(any::<prop::sample::Index>(), 1..12)
                .prop_flat_map(|parents| {
                    let order: Vec<usize> = (0..parents.len()).collect();
                    (Just(parents), Just(order).prop_shuffle())
                }),
        ) {
            // Patient n + 1 goes into one of those before it; patient 0 stays.
            let merge = |n: &usize| {
                let to = parents[*n].index(n + 1);
                said(0, true, u8::try_from(n + 1).unwrap(), u8::try_from(to).unwrap())
            };
            let words: Vec<_> = order.iter().map(merge).collect();
            prop_assert!(roots(&words).values().all(|it| *it == 0));
        }
    }
}
