//! Stored floating-point values to f32.
//!
//! Little-endian, as in safetensors and PyTorch archives. f64 is rounded; nothing here changes a value that f32 holds.

use half::{bf16, f16};

/// Width and layout of a stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FloatKind {
    F16,
    Bf16,
    F32,
    F64,
}

impl FloatKind {
    /// Bytes of one value.
    pub(super) const fn width(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Appends the values of `bytes`, a whole number of them, to `values`.
    pub(super) fn decode(self, bytes: &[u8], values: &mut Vec<f32>) {
        match self {
            Self::F16 => values.extend(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())),
            Self::Bf16 => values.extend(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())),
            Self::F32 => values.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
            Self::F64 => values.extend(bytes.chunks_exact(8).map(|b| {
                let value = f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
                value as f32
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_a_half_in_every_width() {
        let stored: [(FloatKind, &[u8]); 4] = [
            (FloatKind::F16, &[0x00, 0x3E]),
            (FloatKind::Bf16, &[0xC0, 0x3F]),
            (FloatKind::F32, &[0, 0, 0xC0, 0x3F]),
            (FloatKind::F64, &[0, 0, 0, 0, 0, 0, 0xF8, 0x3F]),
        ];
        for (kind, bytes) in stored {
            assert_eq!(bytes.len(), kind.width());
            let mut values = Vec::new();
            kind.decode(bytes, &mut values);
            assert_eq!(values, [1.5], "{kind:?}");
        }
    }
}
