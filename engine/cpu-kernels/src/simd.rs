//! SIMD registers as one trait, and the choice of the instruction set at run time.
//!
//! A kernel is a function that is generic over [`Lanes`]. [`simd_dispatch!`] compiles it for each
//! instruction set and calls the best that the machine has.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m256i, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps,
};

/// A register of several f32 numbers.
///
/// # Safety
///
/// The methods may only be called in functions compiled for the instruction set of the register, on
/// a machine that has it; pointers must be valid for the numbers that are read or written.
pub(crate) trait Lanes: Copy {
    /// The number of lanes.
    const COUNT: usize;

    /// Whether `a * b + c` is one instruction.
    const HAS_FMA: bool;

    /// All lanes zero.
    unsafe fn zero() -> Self;

    /// The same number in all lanes.
    unsafe fn splat(number: f32) -> Self;

    /// Loads all lanes.
    unsafe fn load(from: *const f32) -> Self;

    /// Loads the first `count` lanes; the others are zero.
    unsafe fn load_partial(from: *const f32, count: usize) -> Self;

    /// Stores all lanes.
    unsafe fn store(self, to: *mut f32);

    /// Stores the first `count` lanes.
    unsafe fn store_partial(self, to: *mut f32, count: usize);

    /// `self * factor + addend`.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
}

#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::inline_always,
    reason = "the instructions are only available in functions compiled for them"
)]
impl Lanes for __m512 {
    const COUNT: usize = 16;
    const HAS_FMA: bool = true;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller has the instruction.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(number: f32) -> Self {
        // SAFETY: the caller has the instruction.
        unsafe { _mm512_set1_ps(number) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has the instruction, and the numbers are valid.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        // SAFETY: as above; masked lanes are not accessed.
        unsafe { _mm512_maskz_loadu_ps(first_of_sixteen(count), from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has the instruction, and owns the memory.
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn store_partial(self, to: *mut f32, count: usize) {
        // SAFETY: as above; masked lanes are not accessed.
        unsafe { _mm512_mask_storeu_ps(to, first_of_sixteen(count), self) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the caller has the instruction.
        unsafe { _mm512_fmadd_ps(self, factor, addend) }
    }
}

/// A mask with a bit for each of the first `count` lanes, at most sixteen.
#[cfg(target_arch = "x86_64")]
#[expect(clippy::inline_always, reason = "it is one instruction")]
#[inline(always)]
const fn first_of_sixteen(count: usize) -> u16 {
    u16::MAX >> (16 - count)
}

/// Eight active lanes followed by eight inactive ones.
#[cfg(target_arch = "x86_64")]
const MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::inline_always,
    reason = "the instructions are only available in functions compiled for them"
)]
#[inline(always)]
unsafe fn mask(count: usize) -> __m256i {
    // SAFETY: a count is at most eight, so that eight masks follow its place.
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - count).cast()) }
}

#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::inline_always,
    reason = "the instructions are only available in functions compiled for them"
)]
impl Lanes for __m256 {
    const COUNT: usize = 8;
    const HAS_FMA: bool = true;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller has the instruction.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(number: f32) -> Self {
        // SAFETY: the caller has the instruction.
        unsafe { _mm256_set1_ps(number) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has the instruction, and the numbers are valid.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        // SAFETY: as above; masked lanes are not accessed.
        unsafe { _mm256_maskload_ps(from, mask(count)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has the instruction, and owns the memory.
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn store_partial(self, to: *mut f32, count: usize) {
        // SAFETY: as above; masked lanes are not accessed.
        unsafe { _mm256_maskstore_ps(to, mask(count), self) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the caller has the instruction.
        unsafe { _mm256_fmadd_ps(self, factor, addend) }
    }
}

#[expect(clippy::inline_always, reason = "it is the inside of a loop")]
impl Lanes for [f32; 4] {
    const COUNT: usize = 4;
    const HAS_FMA: bool = cfg!(target_arch = "aarch64");

    #[inline(always)]
    unsafe fn zero() -> Self {
        [0.0; 4]
    }

    #[inline(always)]
    unsafe fn splat(number: f32) -> Self {
        [number; 4]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller guarantees that the numbers are valid.
        unsafe { from.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        let mut numbers = [0.0; 4];
        // SAFETY: the caller guarantees `count` valid numbers, at most four.
        unsafe { std::ptr::copy_nonoverlapping(from, numbers.as_mut_ptr(), count) };
        numbers
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller guarantees that it owns the memory.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }

    #[inline(always)]
    unsafe fn store_partial(self, to: *mut f32, count: usize) {
        // SAFETY: the caller guarantees memory for `count` numbers, at most four.
        unsafe { std::ptr::copy_nonoverlapping(self.as_ptr(), to, count) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        let mut sums = addend;
        for ((sum, a), b) in sums.iter_mut().zip(self).zip(factor) {
            *sum = mul_add::<Self>(a, b, *sum);
        }
        sums
    }
}

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    /// Sixteen lanes.
    Avx512,
    /// Eight lanes.
    Avx2,
    /// The instructions that every CPU has, on four numbers at a time.
    Baseline,
}

/// The best instruction set that this machine has.
pub(crate) fn instruction_set() -> InstructionSet {
    #[cfg(test)]
    if let Some(it) = tests::forced() {
        return it;
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::is_x86_feature_detected as has;
        let has_fma = has!("avx2") && has!("fma");
        if has_fma && has!("avx512f") && has!("avx512vl") && has!("avx512dq") && has!("avx512bw") {
            return InstructionSet::Avx512;
        }
        if has_fma {
            return InstructionSet::Avx2;
        }
    }
    InstructionSet::Baseline
}

/// Defines a function that calls a kernel, generic over [`Lanes`], with the best instruction set.
macro_rules! simd_dispatch {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $kind:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        $vis unsafe fn $name($($arg: $kind),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
            unsafe fn with_avx512($($arg: $kind),*) {
                // SAFETY: the caller upholds the contract of the kernel.
                unsafe { $body::<std::arch::x86_64::__m512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn with_avx2($($arg: $kind),*) {
                // SAFETY: the caller upholds the contract of the kernel.
                unsafe { $body::<std::arch::x86_64::__m256>($($arg),*) }
            }
            match $crate::simd::instruction_set() {
                // SAFETY: the machine has the instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::InstructionSet::Avx512 => unsafe { with_avx512($($arg),*) },
                // SAFETY: the machine has the instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::InstructionSet::Avx2 => unsafe { with_avx2($($arg),*) },
                // SAFETY: the caller upholds the contract of the kernel.
                _ => unsafe { $body::<[f32; 4]>($($arg),*) },
            }
        }
    };
}
pub(crate) use simd_dispatch;

/// `a * b + c`, fused where there is an instruction for it: without one, `f32::mul_add` is a slow
/// function.
#[expect(clippy::inline_always, reason = "it is one instruction")]
#[inline(always)]
pub(crate) fn mul_add<L: Lanes>(a: f32, b: f32, c: f32) -> f32 {
    if L::HAS_FMA { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, PoisonError};

    use super::{InstructionSet, instruction_set};

    const ALL: [InstructionSet; 3] =
        [InstructionSet::Baseline, InstructionSet::Avx2, InstructionSet::Avx512];

    /// One more than the index in `ALL`; zero if none is forced. Tests that run in parallel may use
    /// it as well.
    static FORCED: AtomicUsize = AtomicUsize::new(0);
    static LOCK: Mutex<()> = Mutex::new(());

    pub(crate) fn forced() -> Option<InstructionSet> {
        ALL.get(FORCED.load(Ordering::Relaxed).wrapping_sub(1)).copied()
    }

    /// Runs `work` with every instruction set that this machine has.
    pub(crate) fn with_each(mut work: impl FnMut(InstructionSet)) {
        let _guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        FORCED.store(0, Ordering::Relaxed);
        let best = ALL.iter().position(|it| *it == instruction_set()).unwrap();
        for (index, it) in ALL.into_iter().enumerate().take(best + 1) {
            FORCED.store(index + 1, Ordering::Relaxed);
            work(it);
        }
        FORCED.store(0, Ordering::Relaxed);
    }
}
