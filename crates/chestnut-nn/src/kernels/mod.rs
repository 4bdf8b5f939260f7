//! The arithmetic, one file per kind of kernel, each written once for all instruction sets.
//!
//! Activations are blocked: `[channel / 16][image][row][column][16]`, so that 16 channels of a pixel are one vector and
//! a range of channels is one contiguous piece of memory (a concatenation costs nothing).

#![allow(clippy::needless_range_loop, reason = "plain nests over constants are what the compiler keeps in registers")]

pub(crate) mod element;
pub(crate) mod elementwise;
pub(crate) mod matmul;
pub(crate) mod pack;
pub(crate) mod winograd;
