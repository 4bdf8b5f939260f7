//! A few threads that wait close by.
//!
//! One image through DenseNet121 is 120 steps of 0.1 to 0.5 ms each, so handing a step to a sleeping thread would cost
//! more than it gains: workers spin for a moment before they sleep. Work items are claimed from a counter; which
//! thread computes an item never changes its value, so results are the same bits for every number of threads.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Rounds of spinning before a worker sleeps: about 0.1 ms, longer than the pause between two steps.
const SPIN: u32 = 20_000;

/// A step's work: called with (worker, item).
type Job<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// The job as the workers see it. The lifetime is erased; [`Pool::run`] does not return before all workers are done.
#[derive(Clone, Copy)]
struct ErasedJob(*const (dyn Fn(usize, usize) + Sync));

// SAFETY: the pointee is `Sync`, and `Pool::run` keeps it alive while any worker may use it.
unsafe impl Send for ErasedJob {}

struct Shared {
    /// Increased by one for each job; a worker that sees a new value joins in.
    epoch: AtomicUsize,
    next: AtomicUsize,
    items: AtomicUsize,
    busy: AtomicUsize,
    failed: AtomicBool,
    stop: AtomicBool,
    sleeping: AtomicUsize,
    job: Mutex<Option<ErasedJob>>,
    wake: Condvar,
}

/// A fixed set of worker threads; the calling thread is worker 0.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// `threads` workers in all, at least 1.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            items: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleeping: AtomicUsize::new(0),
            job: Mutex::new(None),
            wake: Condvar::new(),
        });
        let workers = (1..threads.max(1))
            .map(|id| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || worker(id, &shared))
            })
            .collect();
        Self { shared, workers }
    }

    /// Threads, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job(worker, item)` once for every item below `items`, in parallel, and returns when all are done.
    ///
    /// # Panics
    /// If a call panicked.
    pub(crate) fn run(&mut self, items: usize, job: Job) {
        if self.workers.is_empty() || items < 2 {
            (0..items).for_each(|i| job(0, i));
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes, and this function leaves only once `busy` is 0 (also when the caller's own
        // share panics), so no worker holds the reference afterwards. `&mut self` keeps a second job away.
        let erased = ErasedJob(unsafe { std::mem::transmute::<Job<'_>, *const (dyn Fn(usize, usize) + Sync)>(job) });
        {
            let mut slot = shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            *slot = Some(erased);
            shared.items.store(items, Ordering::Relaxed);
            shared.next.store(0, Ordering::Relaxed);
            shared.busy.store(self.workers.len(), Ordering::Relaxed);
            shared.epoch.fetch_add(1, Ordering::Release);
            if shared.sleeping.load(Ordering::SeqCst) > 0 {
                shared.wake.notify_all();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| claim(shared, 0, job)));
        let mut rounds = 0_u32;
        while shared.busy.load(Ordering::Acquire) > 0 {
            rounds += 1;
            if rounds < SPIN { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let failed = shared.failed.swap(false, Ordering::Relaxed);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!failed, "a worker thread of the engine panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        {
            let _guard = self.shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.epoch.fetch_add(1, Ordering::Release);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker's panic was already reported by `run`.
            let _ = worker.join();
        }
    }
}

fn claim(shared: &Shared, worker: usize, job: Job) {
    let items = shared.items.load(Ordering::Relaxed);
    loop {
        let item = shared.next.fetch_add(1, Ordering::Relaxed);
        if item >= items {
            return;
        }
        job(worker, item);
    }
}

fn worker(id: usize, shared: &Shared) {
    let mut seen = 0;
    loop {
        let mut rounds = 0;
        while shared.epoch.load(Ordering::Acquire) == seen {
            rounds += 1;
            if rounds < SPIN {
                std::hint::spin_loop();
                continue;
            }
            let mut guard = shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            shared.sleeping.fetch_add(1, Ordering::SeqCst);
            while shared.epoch.load(Ordering::Acquire) == seen {
                guard = shared.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            shared.sleeping.fetch_sub(1, Ordering::SeqCst);
        }
        seen += 1;
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        let job = *shared.job.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ErasedJob(job)) = job {
            // SAFETY: see `Pool::run`: the job outlives this worker's decrement of `busy`.
            let job = unsafe { &*job };
            if catch_unwind(AssertUnwindSafe(|| claim(shared, id, job))).is_err() {
                shared.failed.store(true, Ordering::Relaxed);
            }
        }
        shared.busy.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_once_and_panics_come_back() {
        let mut pool = Pool::new(3);
        for items in [0, 1, 2, 7, 1000] {
            let counts: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
            pool.run(items, &|_, i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
        }
        let failed = catch_unwind(AssertUnwindSafe(|| pool.run(50, &|_, i| assert!(i != 20))));
        assert!(failed.is_err());
        pool.run(5, &|_, _| ());
    }
}
