//! How fast this machine can multiply and add at most, so that a network's speed can be judged.

use crate::memory::Aligned;
use crate::pool::Pool;
use crate::simd::{Isa, LANES, Simd, isa_fn};
use std::time::Instant;

/// Independent sums: enough to hide the latency of a multiply-add on every processor at hand.
const SUMS: usize = 12;
/// Multiply-adds of each sum per round.
const STEPS: usize = 200_000;

isa_fn! {
    /// Multiplies and adds registers without touching memory, then stores the sums so that the work is not optimised away.
    ///
    /// # Safety
    /// `output` covers [`LANES`] floats.
    fn spin(factor: f32, output: *mut f32) = spin_generic
}

#[inline(always)]
unsafe fn spin_generic<S: Simd>(factor: f32, output: *mut f32) {
    unsafe {
        let (factor, addend) = (S::splat(factor), S::splat(1e-6));
        // Different starts, so that the sums cannot be merged into one.
        let mut sums = [S::splat(1.0); SUMS];
        for (i, s) in sums.iter_mut().enumerate() {
            *s = S::splat(1.0 + i as f32);
        }
        for _ in 0..STEPS {
            for s in &mut sums {
                *s = S::fma(*s, factor, addend);
            }
        }
        let mut total = sums[0];
        for s in &sums[1..] {
            total = S::add(total, *s);
        }
        S::store(output, total);
    }
}

/// GFLOP/s of `threads` threads doing nothing but multiply-adds in registers (2 per multiply-add), the best of several rounds.
///
/// # Panics
/// If this processor lacks `isa`.
#[must_use]
pub fn measure_peak(isa: Isa, threads: usize) -> f64 {
    assert!(Isa::available().contains(&isa), "this processor has no {isa}");
    let mut pool = Pool::new(threads);
    let threads = pool.threads();
    let mut memory = Aligned::zeros(threads * LANES);
    let output = memory.span();
    let flop = (threads * SUMS * STEPS * LANES * 2) as f64;
    let mut best = 0.0_f64;
    for _ in 0..12 {
        let start = Instant::now();
        pool.run(threads, &|_, item| {
            // SAFETY: each item has a vector of its own.
            unsafe { spin(isa, std::hint::black_box(0.999_999), output.part(item * LANES, LANES).write()) };
        });
        std::hint::black_box(memory.as_slice());
        best = best.max(flop / start.elapsed().as_secs_f64() * 1e-9);
    }
    best
}
