//! What the matrix kernel multiplies: single floats, or pairs of bf16 that share a word.
//!
//! Everything in memory is counted in words of 32 bits, so one kernel serves both: a block of 16 channels is 16 words
//! of f32 or 8 words of two bf16 each, the even channel in the low half. Sums are f32 either way.

use crate::simd::{LANES, Portable, Simd};

/// How inputs and weights meet.
///
/// # Safety
/// As [`Simd`]'s methods; in addition the instruction set needs what the implementation states.
pub(crate) trait Element<S: Simd> {
    /// Words that hold a block of [`LANES`] channels of one pixel.
    const WORDS: usize;
    /// `sum` plus the products of a word of inputs, spread over the vector, with a vector of weights.
    unsafe fn multiply_add(input: S::V, weights: S::V, sum: S::V) -> S::V;
    /// Writes a block of channels for the matrix kernel to read: [`Self::WORDS`] words.
    unsafe fn write(to: *mut f32, channels: S::V);
}

/// One float per word.
pub(crate) struct Single;

impl<S: Simd> Element<S> for Single {
    const WORDS: usize = LANES;
    #[inline(always)]
    unsafe fn multiply_add(input: S::V, weights: S::V, sum: S::V) -> S::V {
        unsafe { S::fma(input, weights, sum) }
    }
    #[inline(always)]
    unsafe fn write(to: *mut f32, channels: S::V) {
        unsafe { S::store(to, channels) }
    }
}

/// Two bf16 per word.
pub(crate) struct Pair;

/// With AVX512-BF16, which must be switched on beside AVX-512F.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{Element, LANES, Pair};
    use crate::simd::Avx512;
    use std::arch::x86_64::*;

    impl Element<Avx512> for Pair {
        const WORDS: usize = LANES / 2;
        #[inline(always)]
        unsafe fn multiply_add(input: __m512, weights: __m512, sum: __m512) -> __m512 {
            // SAFETY: vectors of 512 bits, all of whose bits mean something in either reading.
            unsafe {
                _mm512_dpbf16_ps(
                    sum,
                    std::mem::transmute::<__m512, __m512bh>(input),
                    std::mem::transmute::<__m512, __m512bh>(weights),
                )
            }
        }
        #[inline(always)]
        unsafe fn write(to: *mut f32, channels: __m512) {
            unsafe { to.cast::<__m256bh>().write_unaligned(_mm512_cvtneps_pbh(channels)) }
        }
    }
}

/// In plain Rust: what the others are compared with.
impl Element<Portable> for Pair {
    const WORDS: usize = LANES / 2;
    #[inline(always)]
    unsafe fn multiply_add(
        input: <Portable as Simd>::V,
        weights: <Portable as Simd>::V,
        mut sum: <Portable as Simd>::V,
    ) -> <Portable as Simd>::V {
        for i in 0..LANES {
            let (x, w) = (unpair(input[i]), unpair(weights[i]));
            sum[i] += x[1] * w[1];
            sum[i] += x[0] * w[0];
        }
        sum
    }
    #[inline(always)]
    unsafe fn write(to: *mut f32, channels: <Portable as Simd>::V) {
        for (i, two) in channels.chunks_exact(2).enumerate() {
            unsafe { to.add(i).write(pair(two[0], two[1])) };
        }
    }
}

/// Makes `fn name(isa, precision, args)` that runs the generic kernel `$generic::<S, E>(args)` with the instruction set of
/// `isa` on and the element of `precision`; see `isa_fn!`.
macro_rules! element_fn {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $generic:ident) => {
        $(#[$doc])*
        pub(crate) unsafe fn $name(isa: $crate::simd::Isa, precision: $crate::Precision, $($arg: $ty),*) {
            #[inline(always)]
            unsafe fn single<S: Simd>($($arg: $ty),*) {
                unsafe { $generic::<S, $crate::kernels::element::Single>($($arg),*) }
            }
            isa_fn! {
                fn singles($($arg: $ty),*) = single
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
            unsafe fn avx512_pairs($($arg: $ty),*) {
                unsafe { $generic::<$crate::simd::Avx512, $crate::kernels::element::Pair>($($arg),*) }
            }
            // SAFETY: `isa_fn!` says why the processor has `isa`; `Engine::new` asks `Precision::runs_on` for the other half.
            match (precision, isa) {
                ($crate::Precision::F32, _) => unsafe { singles(isa, $($arg),*) },
                #[cfg(target_arch = "x86_64")]
                ($crate::Precision::Bf16, $crate::simd::Isa::Avx512) => unsafe { avx512_pairs($($arg),*) },
                ($crate::Precision::Bf16, $crate::simd::Isa::Portable) => unsafe {
                    $generic::<$crate::simd::Portable, $crate::kernels::element::Pair>($($arg),*)
                },
                #[allow(unreachable_patterns, reason = "a processor may have these two only")]
                ($crate::Precision::Bf16, other) => unreachable!("{other} has no bf16"),
            }
        }
    };
}
pub(crate) use element_fn;

/// The nearest bf16, ties to even; its 16 bits are the upper half of an f32's.
fn nearest(v: f32) -> u32 {
    let bits = v.to_bits();
    if v.is_nan() {
        // Rounding could carry a NaN over into infinity.
        return bits >> 16 | 0x40;
    }
    (bits + 0x7fff + (bits >> 16 & 1)) >> 16
}

/// Two floats, rounded, in one word; the first one in the low half.
pub(crate) fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(nearest(high) << 16 | nearest(low))
}

/// The two floats of a word.
fn unpair(word: f32) -> [f32; 2] {
    let bits = word.to_bits();
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest_and_to_even() {
        // bf16 has 8 bits of precision: between 1 and 2 its steps are 1/128.
        let step = 1.0 / 128.0;
        for (given, expected) in [
            (1.0, 1.0),
            (1.0 + 0.5 * step, 1.0),
            (1.0 + 0.51 * step, 1.0 + step),
            (1.0 + 1.5 * step, 1.0 + 2.0 * step),
            (-1.0 - 0.4 * step, -1.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(unpair(pair(given, 0.0)), [expected, 0.0]);
            assert_eq!(unpair(pair(3.0, given)), [3.0, expected]);
        }
        assert!(unpair(pair(f32::NAN, 1.0))[0].is_nan());
        assert!(unpair(pair(f32::from_bits(0x7f80_0001), 1.0))[0].is_nan(), "a NaN of low bits alone");
    }
}
