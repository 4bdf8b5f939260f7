//! Sixteen floats at a time, on whatever the processor has.
//!
//! Every kernel is written once over [`Simd`], whose vector always holds [`LANES`] floats: one AVX-512 register, two
//! AVX registers, four NEON registers or an array. `isa_fn!` makes the entry points that switch the instruction set on.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

use std::fmt;

/// Floats per vector, and channels per block of the activation layout.
pub(crate) const LANES: usize = 16;

/// Arithmetic on vectors of [`LANES`] floats.
///
/// # Safety
/// The methods of an implementation may be called only where its instruction set is switched on and present; loads and
/// stores need [`LANES`] valid floats behind the pointer (no alignment).
pub(crate) trait Simd: Copy {
    /// The vector.
    type V: Copy;
    /// Vectors of weights that one tile of the matrix kernel is wide at most; chosen for the number of registers.
    const MAX_WIDTH: usize;
    unsafe fn splat(v: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// The larger of each pair; `b` where one of them is NaN (except on NEON, where the result is NaN).
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `v` where `a > b`, 0 elsewhere.
    unsafe fn where_above(a: Self::V, b: Self::V, v: Self::V) -> Self::V;
    /// Asks for the cache line at `p`, which need not exist, to be brought near.
    unsafe fn prefetch(_p: *const f32) {}
    /// a * b + c.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
}

/// An instruction set that the kernels exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512F, 32 registers of 16 floats.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 and FMA, 16 registers of 8 floats.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Arm NEON, 32 registers of 4 floats.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Plain Rust.
    Portable,
}

impl Isa {
    /// The fastest one that this processor has.
    #[must_use]
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// All that this processor has, fastest first; [`Isa::Portable`] is always the last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            // All that `isa_fn!` switches on; a virtual machine may hide one and show the other.
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 && is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512);
            }
            if avx2 {
                all.push(Self::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        all.push(Self::Neon);
        all.push(Self::Portable);
        all
    }

    /// Widest tile of the matrix kernel, in vectors (see `kernels::matmul`).
    pub(crate) fn max_width(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::MAX_WIDTH,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::MAX_WIDTH,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Neon::MAX_WIDTH,
            Self::Portable => Portable::MAX_WIDTH,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2+FMA",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "NEON",
            Self::Portable => "portable",
        })
    }
}

/// Makes `fn name(isa, args)` that runs the generic kernel `$generic::<S>(args)` with the instruction set of `isa` on.
///
/// The generic kernel must be `#[inline(always)]` and free of closures, so that it is compiled inside the function
/// that has the instruction set switched on.
macro_rules! isa_fn {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $generic:ident) => {
        $(#[$doc])*
        pub(crate) unsafe fn $name(isa: $crate::simd::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            unsafe fn avx512($($arg: $ty),*) {
                unsafe { $generic::<$crate::simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $ty),*) {
                unsafe { $generic::<$crate::simd::Avx2>($($arg),*) }
            }
            // SAFETY: whoever calls kernels has an `isa` of `Isa::available`: `Engine::new`, `measure_peak` and
            // `training::Kernels::with` assert it, `training::Kernels::detect` takes the first.
            match isa {
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Isa::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Isa::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                $crate::simd::Isa::Neon => unsafe { $generic::<$crate::simd::Neon>($($arg),*) },
                $crate::simd::Isa::Portable => unsafe { $generic::<$crate::simd::Portable>($($arg),*) },
            }
        }
    };
}
pub(crate) use isa_fn;
