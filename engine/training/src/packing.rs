//! Best-fit packing of samples into rows (<https://arxiv.org/abs/2404.10830>).

use std::collections::BTreeSet;

use crate::sample::TooLong;

/// Packs items of these lengths into rows of at most `capacity` tokens. Returns the items of each
/// row in order; the rows are in the order of their first items.
///
/// The longest item goes first, into the fullest row that has space for it. There are never more
/// rows than if each item went into the first row with space: in the rare case that this needs
/// fewer, it is taken.
///
/// # Errors
///
/// Fails if an item is longer than a row.
pub fn pack(lengths: &[usize], capacity: usize) -> Result<Vec<Vec<usize>>, TooLong> {
    if let Some(longest) = lengths.iter().max().filter(|it| **it > capacity) {
        return Err(TooLong { needed: *longest, most: capacity });
    }
    let mut by_length: Vec<usize> = (0..lengths.len()).collect();
    let length = |item: &usize| lengths.get(*item).copied().unwrap_or_default();
    by_length.sort_by_key(|it| std::cmp::Reverse(length(it)));
    let mut rows = best_fit(&by_length, length, capacity);
    let tokens: usize = lengths.iter().sum();
    if rows.len() > tokens.div_ceil(capacity.max(1)) {
        let other = first_fit(lengths, capacity);
        if other.len() < rows.len() {
            rows = other;
        }
    }
    for row in &mut rows {
        row.sort_unstable();
    }
    rows.sort_unstable_by_key(|it| it.first().copied());
    Ok(rows)
}

/// Puts each item into the fullest row with space for it.
fn best_fit(items: &[usize], length: impl Fn(&usize) -> usize, capacity: usize) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // The free space of each row, with its index.
    let mut spaces = BTreeSet::new();
    for item in items {
        let needed = length(item);
        let found = spaces.range((needed, 0)..).next().copied();
        let (space, index) = if let Some(space) = found {
            spaces.remove(&space);
            space
        } else {
            rows.push(Vec::new());
            (capacity, rows.len() - 1)
        };
        if let Some(row) = rows.get_mut(index) {
            row.push(*item);
        }
        spaces.insert((space - needed, index));
    }
    rows
}

/// Puts each item into the first row with space for it, in the order of the items.
fn first_fit(lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut spaces = LargestSpace::of(lengths.len(), capacity);
    for (item, length) in lengths.iter().enumerate() {
        let index = spaces.take(*length);
        if index >= rows.len() {
            rows.resize(index + 1, Vec::new());
        }
        if let Some(row) = rows.get_mut(index) {
            row.push(item);
        }
    }
    rows
}

/// The free spaces of rows as a binary tree: each node has the largest space below it.
struct LargestSpace {
    /// The root is at index 1, the children of a node at twice its index and one more.
    nodes: Vec<usize>,
    leaves: usize,
}

impl LargestSpace {
    /// Empty rows of this capacity.
    fn of(rows: usize, capacity: usize) -> Self {
        let leaves = rows.next_power_of_two().max(1);
        Self { nodes: vec![capacity; 2 * leaves], leaves }
    }

    fn space(&self, node: usize) -> usize {
        self.nodes.get(node).copied().unwrap_or_default()
    }

    /// The first row with this space, which is taken.
    fn take(&mut self, needed: usize) -> usize {
        let mut node = 1;
        while node < self.leaves {
            node *= 2;
            if self.space(node) < needed {
                node += 1;
            }
        }
        let row = node - self.leaves;
        let mut space = self.space(node) - needed;
        while node > 0 {
            if let Some(it) = self.nodes.get_mut(node) {
                *it = space;
            }
            space = space.max(self.space(node ^ 1));
            node /= 2;
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// First fit, written down as it is defined.
    fn slow_first_fit(lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
        let mut rows: Vec<(usize, Vec<usize>)> = Vec::new();
        for (item, length) in lengths.iter().enumerate() {
            match rows.iter_mut().find(|it| it.0 + length <= capacity) {
                Some(row) => {
                    row.0 += length;
                    row.1.push(item);
                }
                None => rows.push((*length, vec![item])),
            }
        }
        rows.into_iter().map(|it| it.1).collect()
    }

    #[test]
    fn pap_53_the_example_of_the_paper_needs_three_rows_and_one_cut() {
        // Lengths 7, 4 and 3 in rows of 5: the first is cut into 5 and 2.
        let rows = pack(&[5, 2, 4, 3], 5).unwrap();
        assert_eq!(rows, [vec![0], vec![1, 3], vec![2]]);
    }

    #[test]
    fn pap_53_a_row_of_the_release_is_filled_as_worked_out() {
        // 13000 is cut into 12288 and 712.
        let lengths = [12288, 9000, 3000, 288, 12288, 712, 500, 11000];
        let rows = pack(&lengths, 12288).unwrap();
        assert_eq!(rows, [vec![0], vec![1, 2, 3], vec![4], vec![5, 6, 7]]);
    }

    #[test]
    fn pap_53_what_is_longer_than_a_row_is_refused() {
        assert_eq!(pack(&[1, 6], 5), Err(TooLong { needed: 6, most: 5 }));
        assert_eq!(pack(&[], 5), Ok(vec![]));
    }

    #[test]
    fn pap_53_first_fit_is_taken_where_it_needs_fewer_rows() {
        let lengths = [3, 2, 7, 2, 6, 4];
        let by_length: Vec<usize> = {
            let mut items: Vec<usize> = (0..lengths.len()).collect();
            items.sort_by_key(|it| std::cmp::Reverse(lengths[*it]));
            items
        };
        let best = best_fit(&by_length, |it| lengths[*it], 12);
        let first = slow_first_fit(&lengths, 12);
        assert!(first.len() < best.len());
        assert_eq!(pack(&lengths, 12).unwrap().len(), first.len());
    }

    proptest! {
        #[test]
        fn pap_53_rows_lose_nothing_and_waste_no_more_than_first_fit(
            lengths in proptest::collection::vec(1_usize..40, 0..60),
            capacity in 40_usize..80,
        ) {
            let rows = pack(&lengths, capacity).unwrap();
            let mut items: Vec<usize> = rows.iter().flatten().copied().collect();
            items.sort_unstable();
            prop_assert_eq!(items, (0..lengths.len()).collect::<Vec<_>>());
            for row in &rows {
                prop_assert!(row.iter().map(|it| lengths[*it]).sum::<usize>() <= capacity);
                prop_assert!(row.is_sorted());
            }
            prop_assert!(rows.iter().map(|it| it[0]).is_sorted());
            prop_assert!(rows.len() <= slow_first_fit(&lengths, capacity).len());
            prop_assert_eq!(first_fit(&lengths, capacity), slow_first_fit(&lengths, capacity));
        }
    }
}
