//! Plain Rust: an array of 16 floats; the path that every other one is tested against.

use super::LANES;
use super::Simd;

/// Plain Rust: an array of 16 floats; the path that every other one is tested against.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type V = [f32; LANES];
    const MAX_WIDTH: usize = 1;
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self::V {
        [v; LANES]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { p.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { p.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add(mut a: Self::V, b: Self::V) -> Self::V {
        for i in 0..LANES {
            a[i] += b[i];
        }
        a
    }
    #[inline(always)]
    unsafe fn sub(mut a: Self::V, b: Self::V) -> Self::V {
        for i in 0..LANES {
            a[i] -= b[i];
        }
        a
    }
    #[inline(always)]
    unsafe fn mul(mut a: Self::V, b: Self::V) -> Self::V {
        for i in 0..LANES {
            a[i] *= b[i];
        }
        a
    }
    #[inline(always)]
    unsafe fn max(mut a: Self::V, b: Self::V) -> Self::V {
        for i in 0..LANES {
            a[i] = if a[i] > b[i] { a[i] } else { b[i] };
        }
        a
    }
    #[inline(always)]
    unsafe fn fma(mut a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        for i in 0..LANES {
            a[i] = a[i] * b[i] + c[i];
        }
        a
    }
    #[inline(always)]
    unsafe fn where_above(a: Self::V, b: Self::V, mut v: Self::V) -> Self::V {
        for i in 0..LANES {
            v[i] = if a[i] > b[i] { v[i] } else { 0.0 };
        }
        v
    }
}
