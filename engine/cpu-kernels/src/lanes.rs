//! Numbers side by side in a register, and which registers this machine has.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m256i, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps,
};

/// Numbers side by side.
///
/// # Safety
///
/// Whoever calls these has compiled for a machine that has the instructions, and runs on one.
pub(crate) trait Lanes: Copy {
    /// How many.
    const COUNT: usize;

    /// Whether `a * b + c` is one instruction.
    const IS_FUSED: bool;

    /// Noughts.
    unsafe fn zero() -> Self;

    /// The same number in all.
    unsafe fn splat(number: f32) -> Self;

    /// As they lie in memory.
    unsafe fn load(from: *const f32) -> Self;

    /// The first `count`; noughts after them.
    unsafe fn load_some(from: *const f32, count: usize) -> Self;

    /// Writes them.
    unsafe fn store(self, to: *mut f32);

    /// Writes the first `count`.
    unsafe fn store_some(self, to: *mut f32, count: usize);

    /// `self * by + plus`.
    unsafe fn times_plus(self, by: Self, plus: Self) -> Self;
}

#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::inline_always,
    reason = "instructions exist only inside of what is compiled for them"
)]
impl Lanes for __m512 {
    const COUNT: usize = 16;
    const IS_FUSED: bool = true;

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
        // SAFETY: the caller has the instruction, and the numbers are there.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> Self {
        // SAFETY: as above; what is masked is not touched.
        unsafe { _mm512_maskz_loadu_ps(first_of_sixteen(count), from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has the instruction, and the place is theirs.
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        // SAFETY: as above; what is masked is not touched.
        unsafe { _mm512_mask_storeu_ps(to, first_of_sixteen(count), self) }
    }

    #[inline(always)]
    unsafe fn times_plus(self, by: Self, plus: Self) -> Self {
        // SAFETY: the caller has the instruction.
        unsafe { _mm512_fmadd_ps(self, by, plus) }
    }
}

/// A bit for each of the first lanes, of which there are at most sixteen.
#[cfg(target_arch = "x86_64")]
#[expect(clippy::inline_always, reason = "it is one instruction")]
#[inline(always)]
const fn first_of_sixteen(count: usize) -> u16 {
    u16::MAX >> (16 - count)
}

/// Eight lanes that are, and eight that are not.
#[cfg(target_arch = "x86_64")]
const MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::inline_always,
    reason = "instructions exist only inside of what is compiled for them"
)]
#[inline(always)]
unsafe fn mask(count: usize) -> __m256i {
    // SAFETY: a count is at most eight, so that eight masks follow its place.
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - count).cast()) }
}

#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::inline_always,
    reason = "instructions exist only inside of what is compiled for them"
)]
impl Lanes for __m256 {
    const COUNT: usize = 8;
    const IS_FUSED: bool = true;

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
        // SAFETY: the caller has the instruction, and the numbers are there.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> Self {
        // SAFETY: as above; what is masked is not touched.
        unsafe { _mm256_maskload_ps(from, mask(count)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has the instruction, and the place is theirs.
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        // SAFETY: as above; what is masked is not touched.
        unsafe { _mm256_maskstore_ps(to, mask(count), self) }
    }

    #[inline(always)]
    unsafe fn times_plus(self, by: Self, plus: Self) -> Self {
        // SAFETY: the caller has the instruction.
        unsafe { _mm256_fmadd_ps(self, by, plus) }
    }
}

#[expect(clippy::inline_always, reason = "it is the inside of a loop")]
impl Lanes for [f32; 4] {
    const COUNT: usize = 4;
    const IS_FUSED: bool = cfg!(target_arch = "aarch64");

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
        // SAFETY: the caller says that the numbers are there.
        unsafe { from.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> Self {
        let mut numbers = [0.0; 4];
        // SAFETY: the caller says that so many are there, at most four.
        unsafe { std::ptr::copy_nonoverlapping(from, numbers.as_mut_ptr(), count) };
        numbers
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller says that the place is theirs.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }

    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        // SAFETY: the caller says that so many may be written, at most four.
        unsafe { std::ptr::copy_nonoverlapping(self.as_ptr(), to, count) }
    }

    #[inline(always)]
    unsafe fn times_plus(self, by: Self, plus: Self) -> Self {
        let mut sums = plus;
        for ((sum, a), b) in sums.iter_mut().zip(self).zip(by) {
            *sum = times_plus::<Self>(a, b, *sum);
        }
        sums
    }
}

/// Sets of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// Sixteen lanes.
    Avx512,
    /// Eight lanes.
    Avx2,
    /// What every CPU has.
    Plain,
}

/// The best that this machine has.
pub(crate) fn instructions() -> Instructions {
    #[cfg(test)]
    if let Some(it) = tests::asked_for() {
        return it;
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::is_x86_feature_detected as has;
        let has_fma = has!("avx2") && has!("fma");
        if has_fma && has!("avx512f") && has!("avx512vl") && has!("avx512dq") && has!("avx512bw") {
            return Instructions::Avx512;
        }
        if has_fma {
            return Instructions::Avx2;
        }
    }
    Instructions::Plain
}

/// Makes, of a generic function over the numbers side by side, one that chooses at run time.
macro_rules! dispatched {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $kind:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        $vis unsafe fn $name($($arg: $kind),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
            unsafe fn wide($($arg: $kind),*) {
                // SAFETY: the caller keeps the promise of the body.
                unsafe { $body::<std::arch::x86_64::__m512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn middle($($arg: $kind),*) {
                // SAFETY: the caller keeps the promise of the body.
                unsafe { $body::<std::arch::x86_64::__m256>($($arg),*) }
            }
            match $crate::lanes::instructions() {
                // SAFETY: the machine has the instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::lanes::Instructions::Avx512 => unsafe { wide($($arg),*) },
                // SAFETY: the machine has the instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::lanes::Instructions::Avx2 => unsafe { middle($($arg),*) },
                // SAFETY: the caller keeps the promise of the body.
                _ => unsafe { $body::<[f32; 4]>($($arg),*) },
            }
        }
    };
}
pub(crate) use dispatched;

/// `a * b + c`, in one instruction where there is one: elsewhere that would be a slow function.
#[expect(clippy::inline_always, reason = "it is one instruction")]
#[inline(always)]
pub(crate) fn times_plus<L: Lanes>(a: f32, b: f32, c: f32) -> f32 {
    if L::IS_FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, PoisonError};

    use super::{Instructions, instructions};

    const ALL: [Instructions; 3] = [Instructions::Plain, Instructions::Avx2, Instructions::Avx512];

    /// One more than the place in `ALL`; other tests may run with it as well.
    static ASKED_FOR: AtomicUsize = AtomicUsize::new(0);
    static TURN: Mutex<()> = Mutex::new(());

    pub(crate) fn asked_for() -> Option<Instructions> {
        ALL.get(ASKED_FOR.load(Ordering::Relaxed).wrapping_sub(1)).copied()
    }

    /// Does it with every set of instructions that this machine has.
    pub(crate) fn with_each(mut work: impl FnMut(Instructions)) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        ASKED_FOR.store(0, Ordering::Relaxed);
        let best = ALL.iter().position(|it| *it == instructions()).unwrap();
        for (index, it) in ALL.into_iter().enumerate().take(best + 1) {
            ASKED_FOR.store(index + 1, Ordering::Relaxed);
            work(it);
        }
        ASKED_FOR.store(0, Ordering::Relaxed);
    }
}
