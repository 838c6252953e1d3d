//! The prefix cache and the image feature cache: what was computed for one request is reused for
//! the next one with the same picture or the same beginning.
//!
//! - Features of the vision encoder and embeddings of SAM 2 are found by the SHA-256 of the resized
//!   picture.
//! - A KV cache is found by its tokens and the digests of all pictures among them. The longest
//!   common prefix is reused.
//!
//! All entries share one limit in bytes; the least recently used entry is evicted first.

use candle_core::{Result, Tensor};
use imaging::Picture;
use sha2::{Digest as _, Sha256};

use crate::kv_cache::KvCache;
use crate::sam::ImageEmbedding;

/// The SHA-256 of a picture.
pub(crate) type Digest = [u8; 32];

/// The digest of a picture's size and pixels.
pub(crate) fn digest(picture: &Picture) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(picture.width.to_le_bytes());
    hasher.update(picture.height.to_le_bytes());
    hasher.update(&picture.rgb);
    hasher.finalize().into()
}

/// A picture among tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageStart {
    /// The position of its first image token.
    pub(crate) position: usize,
    /// What the picture is: all image tokens look the same.
    pub(crate) digest: Digest,
}

/// Tokens with the pictures among them: the key of a KV cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) token_ids: Vec<u32>,
    pub(crate) images: Vec<ImageStart>,
}

impl Prefix {
    const fn len(&self) -> usize {
        self.token_ids.len()
    }

    /// The length of the longest common prefix, in tokens.
    fn common_length(&self, other: &Self) -> usize {
        let tokens = self.token_ids.iter().zip(&other.token_ids);
        let common_tokens = tokens.take_while(|(a, b)| a == b).count();
        // If only one of the two has a picture at a position, their tokens differ there already.
        let mut images = self.images.iter().zip(&other.images);
        match images.find(|(a, b)| a != b) {
            Some((a, b)) => common_tokens.min(a.position).min(b.position),
            None => common_tokens,
        }
    }
}

/// The hidden state of a `[SEG]` token.
#[derive(Clone, Debug)]
pub(crate) struct SegState {
    /// The position of the token in prompt and completion.
    pub(crate) position: usize,
    /// The hidden state, `[1, hidden]`.
    pub(crate) hidden: Tensor,
}

/// A KV cache that a new sequence starts with.
pub(crate) struct CachedPrefix {
    pub(crate) kv_cache: KvCache,
    /// The hidden states of the `[SEG]` tokens in it.
    pub(crate) seg_states: Vec<SegState>,
}

enum Content {
    VisionFeatures { digest: Digest, features: Tensor },
    SamEmbedding { digest: Digest, embedding: ImageEmbedding },
    KvPrefix { prefix: Prefix, kv_cache: KvCache, seg_states: Vec<SegState> },
}

impl Content {
    /// The length of the common prefix; zero for what is no KV cache.
    fn common_length(&self, other: &Prefix) -> usize {
        match self {
            Self::KvPrefix { prefix, .. } => prefix.common_length(other),
            Self::VisionFeatures { .. } | Self::SamEmbedding { .. } => 0,
        }
    }

    /// Whether this is the KV cache of a prefix of `other`.
    fn is_prefix_of(&self, other: &Prefix) -> bool {
        match self {
            Self::KvPrefix { prefix, .. } => prefix.common_length(other) == prefix.len(),
            Self::VisionFeatures { .. } | Self::SamEmbedding { .. } => false,
        }
    }
}

struct Entry {
    content: Content,
    size_bytes: usize,
}

/// The cache with its entries, the most recently used last.
#[derive(Default)]
pub(crate) struct PrefixCache {
    bytes_max: usize,
    size_bytes: usize,
    entries: Vec<Entry>,
}

impl PrefixCache {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, size_bytes: 0, entries: Vec::new() }
    }

    /// Whether anything is cached at all.
    pub(crate) const fn is_enabled(&self) -> bool {
        self.bytes_max > 0
    }

    /// Removes all entries.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.size_bytes = 0;
    }

    /// Whether an entry of this size can be stored.
    pub(crate) const fn can_store(&self, size_bytes: usize) -> bool {
        size_bytes <= self.bytes_max
    }

    /// The features that the vision encoder computed for a picture.
    pub(crate) fn vision_features(&mut self, wanted: &Digest) -> Option<Tensor> {
        let is_wanted =
            |it: &Content| matches!(it, Content::VisionFeatures { digest, .. } if digest == wanted);
        let Content::VisionFeatures { features, .. } = self.find(is_wanted)? else { return None };
        Some(features.clone())
    }

    pub(crate) fn store_vision_features(&mut self, digest: Digest, features: &Tensor) {
        let content = Content::VisionFeatures { digest, features: features.clone() };
        self.store(content, tensor_bytes(features));
    }

    /// The embedding that the image encoder of SAM 2 computed for a picture.
    pub(crate) fn sam_embedding(&mut self, wanted: &Digest) -> Option<ImageEmbedding> {
        let is_wanted =
            |it: &Content| matches!(it, Content::SamEmbedding { digest, .. } if digest == wanted);
        let Content::SamEmbedding { embedding, .. } = self.find(is_wanted)? else { return None };
        Some(embedding.clone())
    }

    pub(crate) fn store_sam_embedding(&mut self, digest: Digest, embedding: &ImageEmbedding) {
        let high_res: usize = embedding.high_res.iter().map(tensor_bytes).sum();
        let size_bytes = tensor_bytes(&embedding.embedding) + high_res;
        self.store(Content::SamEmbedding { digest, embedding: embedding.clone() }, size_bytes);
    }

    /// The KV cache of the longest cached prefix of `wanted`, cut to at most `length_max` tokens.
    pub(crate) fn longest_prefix(
        &mut self,
        wanted: &Prefix,
        length_max: usize,
    ) -> Result<Option<CachedPrefix>> {
        let reusable = |it: &Content| it.common_length(wanted).min(length_max);
        let longest = self.entries.iter().map(|it| reusable(&it.content)).max().unwrap_or(0);
        if longest == 0 {
            return Ok(None);
        }
        let found = self.find(|it| reusable(it) == longest);
        let Some(Content::KvPrefix { kv_cache, seg_states, .. }) = found else { return Ok(None) };
        let seg_states = seg_states.iter().filter(|it| it.position < longest).cloned().collect();
        Ok(Some(CachedPrefix { kv_cache: kv_cache.prefix(longest)?, seg_states }))
    }

    /// Whether all tokens of a prefix are cached.
    pub(crate) fn contains(&self, wanted: &Prefix) -> bool {
        self.entries.iter().any(|it| match &it.content {
            Content::KvPrefix { prefix, .. } => prefix.common_length(wanted) == wanted.len(),
            Content::VisionFeatures { .. } | Content::SamEmbedding { .. } => false,
        })
    }

    /// Stores the KV cache of a prefix. Shorter prefixes of it are removed: they are part of it.
    pub(crate) fn store_prefix(
        &mut self,
        prefix: Prefix,
        kv_cache: KvCache,
        seg_states: Vec<SegState>,
    ) {
        let size_bytes = kv_cache.size_bytes();
        if self.contains(&prefix) || !self.can_store(size_bytes) {
            return;
        }
        let covered = self.entries.extract_if(.., |it| it.content.is_prefix_of(&prefix));
        let freed: usize = covered.map(|it| it.size_bytes).sum();
        self.size_bytes -= freed;
        self.store(Content::KvPrefix { prefix, kv_cache, seg_states }, size_bytes);
    }

    fn store(&mut self, content: Content, size_bytes: usize) {
        if !self.can_store(size_bytes) {
            return;
        }
        self.size_bytes += size_bytes;
        self.entries.push(Entry { content, size_bytes });
        while self.size_bytes > self.bytes_max {
            self.size_bytes -= self.entries.remove(0).size_bytes;
        }
    }

    /// Finds an entry and marks it as the most recently used.
    fn find(&mut self, is_wanted: impl Fn(&Content) -> bool) -> Option<&Content> {
        let index = self.entries.iter().position(|it| is_wanted(&it.content))?;
        let entry = self.entries.remove(index);
        self.entries.push(entry);
        self.entries.last().map(|it| &it.content)
    }
}

fn tensor_bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn tensor(count: usize) -> Tensor {
        Tensor::zeros(count, DType::F32, &Device::Cpu).unwrap()
    }

    fn kv_cache(tokens: usize) -> KvCache {
        let keys = Tensor::zeros((1, tokens, 1, 2), DType::F32, &Device::Cpu).unwrap();
        let mut cache = KvCache::default();
        cache.append(0, &keys, &keys).unwrap();
        cache
    }

    fn prefix(token_ids: &[u32], images: &[(usize, u8)]) -> Prefix {
        let image = |(position, digest): &(usize, u8)| ImageStart {
            position: *position,
            digest: [*digest; 32],
        };
        Prefix { token_ids: token_ids.to_vec(), images: images.iter().map(image).collect() }
    }

    fn seg_state(position: usize) -> SegState {
        SegState { position, hidden: tensor(1) }
    }

    #[test]
    fn the_least_recently_used_entry_is_evicted_at_the_limit() {
        let mut cache = PrefixCache::new(100);
        cache.store_vision_features([1; 32], &tensor(10));
        cache.store_vision_features([2; 32], &tensor(10));
        assert!(cache.vision_features(&[1; 32]).is_some());
        cache.store_vision_features([3; 32], &tensor(10));
        let cached = [1, 2, 3].map(|it| cache.vision_features(&[it; 32]).is_some());
        assert_eq!((cached, cache.size_bytes), ([true, false, true], 80));
        cache.store_vision_features([4; 32], &tensor(26));
        assert!(cache.vision_features(&[4; 32]).is_none() && cache.size_bytes == 80);
        assert!(cache.sam_embedding(&[1; 32]).is_none());
    }

    #[test]
    fn a_common_prefix_ends_where_a_token_or_a_picture_differs() {
        let one = prefix(&[1, 2, 9, 9, 3, 4], &[(2, 7)]);
        for (other, expected) in [
            (prefix(&[1, 2, 9, 9, 3, 5], &[(2, 7)]), 5),
            (prefix(&[1, 2, 9, 9, 3, 4], &[(2, 8)]), 2),
            (prefix(&[1, 2], &[]), 2),
            (prefix(&[2, 2], &[]), 0),
            (prefix(&[1, 2, 9, 9, 3, 4, 9, 9], &[(2, 7), (6, 1)]), 6),
        ] {
            let lengths = (one.common_length(&other), other.common_length(&one));
            assert_eq!(lengths, (expected, expected), "{other:?}");
        }
    }

    #[test]
    fn the_longest_prefix_is_stored_once() {
        let mut cache = PrefixCache::new(1 << 20);
        cache.store_prefix(prefix(&[1, 2], &[]), kv_cache(2), vec![]);
        let seg_states = vec![seg_state(1), seg_state(3)];
        cache.store_prefix(prefix(&[1, 2, 3, 4], &[]), kv_cache(4), seg_states);
        assert_eq!(cache.entries.len(), 1, "the shorter prefix is part of the longer");
        cache.store_prefix(prefix(&[1, 2, 3], &[]), kv_cache(3), vec![]);
        assert_eq!(cache.entries.len(), 1, "all of it is cached");
        let wanted = prefix(&[1, 2, 3, 5], &[]);
        let found = cache.longest_prefix(&wanted, 3).unwrap().unwrap();
        assert_eq!((found.kv_cache.len(), found.seg_states.len()), (3, 1));
        assert_eq!(cache.longest_prefix(&wanted, 2).unwrap().unwrap().kv_cache.len(), 2);
        assert!(cache.longest_prefix(&prefix(&[5], &[]), 1).unwrap().is_none());
    }
}
