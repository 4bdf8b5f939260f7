//! How exactly inputs and weights are multiplied.

use crate::simd::Isa;
use std::fmt;

/// How exactly inputs and weights are multiplied; sums, and everything between layers, are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 24 bits.
    #[default]
    F32,
    /// Both rounded to bf16, which has 8 bits, in 1x1 convolutions and in windows other than Winograd's and the first
    /// layer's. Other results, to about 1 % of an embedding's length; needs AVX512-BF16.
    Bf16,
}

impl Precision {
    /// True if this processor multiplies so with instruction set `isa`; plain Rust always can, slowly, for tests.
    #[must_use]
    pub fn runs_on(self, isa: Isa) -> bool {
        match (self, isa) {
            (Self::F32, _) | (Self::Bf16, Isa::Portable) => true,
            #[cfg(target_arch = "x86_64")]
            // The one switches the other on, and a virtual machine may hide either.
            (Self::Bf16, Isa::Avx512) => is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw"),
            (Self::Bf16, _) => false,
        }
    }

    /// Values in a word of 32 bits.
    pub(crate) fn values_per_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}
