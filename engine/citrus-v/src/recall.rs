//! What was seen and read of late: the same picture, or the same beginning of a question, costs
//! nothing the second time.
//!
//! A picture is the same by SHA-256 of what the vision tower sees of it; a beginning is the same by its
//! tokens and by all pictures in it.

use candle_core::{Result, Tensor};
use imaging::Picture;
use sha2::{Digest as _, Sha256};

use crate::cache::Cache;
use crate::sam::Seen;

/// SHA-256 of a picture.
pub(crate) type Digest = [u8; 32];

/// A picture by its size and pixels.
pub(crate) fn digest(picture: &Picture) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(picture.width.to_le_bytes());
    hasher.update(picture.height.to_le_bytes());
    hasher.update(&picture.rgb);
    hasher.finalize().into()
}

/// Tokens, and which picture begins at which of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passage {
    pub(crate) ids: Vec<u32>,
    pub(crate) pictures: Vec<(usize, Digest)>,
}

impl Passage {
    /// How many tokens both have in common from their beginning.
    fn shared(&self, other: &Self) -> usize {
        let same = self.ids.iter().zip(&other.ids).take_while(|(a, b)| a == b).count();
        let differ = self.pictures.iter().zip(&other.pictures).find(|(a, b)| a != b);
        // Where one has a picture that the other has not, their tokens differ already.
        differ.map_or(same, |(a, b)| same.min(a.0).min(b.0))
    }
}

/// Hidden states of `[SEG]`, and where they stand.
pub(crate) type Segs = Vec<(usize, Tensor)>;

enum What {
    Features(Digest, Tensor),
    Maps(Digest, Seen),
    Read(Passage, Cache, Segs),
}

struct Kept {
    what: What,
    bytes: usize,
}

/// What is kept, up to so many bytes; what was of use longest ago goes first.
#[derive(Default)]
pub(crate) struct Recall {
    bytes_max: usize,
    bytes: usize,
    /// The one that was of use last is the last.
    kept: Vec<Kept>,
}

impl Recall {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, kept: Vec::new() }
    }

    /// Whether anything is kept at all.
    pub(crate) const fn is_on(&self) -> bool {
        self.bytes_max > 0
    }

    /// Keeps nothing of all it has.
    pub(crate) fn forget_all(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }

    /// Whether there is room for so many bytes.
    pub(crate) const fn could_keep(&self, bytes: usize) -> bool {
        bytes <= self.bytes_max
    }

    /// The features of a picture.
    pub(crate) fn features(&mut self, of: &Digest) -> Option<Tensor> {
        let is_it = |it: &What| matches!(it, What::Features(digest, _) if digest == of);
        match self.used(is_it)? {
            What::Features(_, features) => Some(features.clone()),
            _ => None,
        }
    }

    pub(crate) fn keep_features(&mut self, of: Digest, features: &Tensor) {
        self.keep(What::Features(of, features.clone()), bytes_of(features));
    }

    /// What SAM2 sees in a picture.
    pub(crate) fn maps(&mut self, of: &Digest) -> Option<Seen> {
        match self.used(|it| matches!(it, What::Maps(digest, _) if digest == of))? {
            What::Maps(_, maps) => Some(maps.clone()),
            _ => None,
        }
    }

    pub(crate) fn keep_maps(&mut self, of: Digest, maps: &Seen) {
        let bytes = bytes_of(&maps.embedding) + maps.fine.iter().map(bytes_of).sum::<usize>();
        self.keep(What::Maps(of, maps.clone()), bytes);
    }

    /// Keys, values and `[SEG]` of as many of the first `most` tokens as were read before.
    pub(crate) fn beginning(
        &mut self,
        passage: &Passage,
        most: usize,
    ) -> Result<Option<(Cache, Segs)>> {
        let shared = |it: &Kept| match &it.what {
            What::Read(read, _, _) => read.shared(passage).min(most),
            _ => 0,
        };
        let longest = self.kept.iter().map(shared).max().unwrap_or_default();
        if longest == 0 {
            return Ok(None);
        }
        let is_it = |it: &What| matches!(it, What::Read(read, _, _) if read.shared(passage).min(most) == longest);
        let Some(What::Read(_, cache, segs)) = self.used(is_it) else { return Ok(None) };
        let segs = segs.iter().filter(|(at, _)| *at < longest).cloned().collect();
        Ok(Some((cache.beginning(longest)?, segs)))
    }

    /// Whether all of a passage is kept.
    pub(crate) fn knows(&self, passage: &Passage) -> bool {
        let is_all = |it: &Kept| matches!(&it.what, What::Read(read, _, _) if read.shared(passage) == passage.ids.len());
        self.kept.iter().any(is_all)
    }

    /// Keeps what was read. Beginnings of it are not kept beside it.
    pub(crate) fn keep_read(&mut self, passage: Passage, cache: Cache, segs: Segs) {
        if self.knows(&passage) || !self.could_keep(cache.bytes()) {
            return;
        }
        let mut freed = 0;
        self.kept.retain(|it| {
            let is_part = matches!(&it.what, What::Read(read, _, _) if read.shared(&passage) == read.ids.len());
            freed += if is_part { it.bytes } else { 0 };
            !is_part
        });
        self.bytes -= freed;
        let bytes = cache.bytes();
        self.keep(What::Read(passage, cache, segs), bytes);
    }

    fn keep(&mut self, what: What, bytes: usize) {
        if !self.could_keep(bytes) {
            return;
        }
        self.bytes += bytes;
        self.kept.push(Kept { what, bytes });
        while self.bytes > self.bytes_max {
            self.bytes -= self.kept.remove(0).bytes;
        }
    }

    /// The one that is looked for, which was of use last by that.
    fn used(&mut self, is_it: impl Fn(&What) -> bool) -> Option<&What> {
        let index = self.kept.iter().position(|it| is_it(&it.what))?;
        let it = self.kept.remove(index);
        self.kept.push(it);
        self.kept.last().map(|it| &it.what)
    }
}

fn bytes_of(it: &Tensor) -> usize {
    it.elem_count() * it.dtype().size_in_bytes()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn tensor(numbers: usize) -> Tensor {
        Tensor::zeros(numbers, DType::F32, &Device::Cpu).unwrap()
    }

    fn read(tokens: usize) -> Cache {
        let keys = Tensor::zeros((1, tokens, 1, 2), DType::F32, &Device::Cpu).unwrap();
        let mut cache = Cache::default();
        cache.extended(0, &keys, &keys).unwrap();
        cache
    }

    fn passage(ids: &[u32], pictures: &[(usize, u8)]) -> Passage {
        let pictures = pictures.iter().map(|(at, it)| (*at, [*it; 32])).collect();
        Passage { ids: ids.to_vec(), pictures }
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for_and_what_is_of_use_stays() {
        let mut recall = Recall::new(100);
        recall.keep_features([1; 32], &tensor(10));
        recall.keep_features([2; 32], &tensor(10));
        assert!(recall.features(&[1; 32]).is_some());
        recall.keep_features([3; 32], &tensor(10));
        let there = [1, 2, 3].map(|it| recall.features(&[it; 32]).is_some());
        assert_eq!((there, recall.bytes), ([true, false, true], 80));
        recall.keep_features([4; 32], &tensor(26));
        assert!(recall.features(&[4; 32]).is_none() && recall.bytes == 80);
        assert!(recall.maps(&[1; 32]).is_none());
    }

    #[test]
    fn a_beginning_ends_where_a_token_or_a_picture_differs() {
        let one = passage(&[1, 2, 9, 9, 3, 4], &[(2, 7)]);
        for (other, expected) in [
            (passage(&[1, 2, 9, 9, 3, 5], &[(2, 7)]), 5),
            (passage(&[1, 2, 9, 9, 3, 4], &[(2, 8)]), 2),
            (passage(&[1, 2], &[]), 2),
            (passage(&[2, 2], &[]), 0),
            (passage(&[1, 2, 9, 9, 3, 4, 9, 9], &[(2, 7), (6, 1)]), 6),
        ] {
            assert_eq!((one.shared(&other), other.shared(&one)), (expected, expected), "{other:?}");
        }
    }

    #[test]
    fn the_longest_beginning_is_found_once() {
        let mut recall = Recall::new(1 << 20);
        let seg = |at: usize| (at, tensor(1));
        recall.keep_read(passage(&[1, 2], &[]), read(2), vec![]);
        recall.keep_read(passage(&[1, 2, 3, 4], &[]), read(4), vec![seg(1), seg(3)]);
        assert_eq!(recall.kept.len(), 1, "the shorter is part of the longer");
        recall.keep_read(passage(&[1, 2, 3], &[]), read(3), vec![]);
        assert_eq!(recall.kept.len(), 1, "all of it is there");
        let asked = passage(&[1, 2, 3, 5], &[]);
        let (cache, segs) = recall.beginning(&asked, 3).unwrap().unwrap();
        assert_eq!((cache.len(), segs.len()), (3, 1));
        assert_eq!(recall.beginning(&asked, 2).unwrap().unwrap().0.len(), 2);
        assert!(recall.beginning(&passage(&[5], &[]), 1).unwrap().is_none());
    }
}
