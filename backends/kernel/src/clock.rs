//! Time and place of a thread: a monotonic clock in nanoseconds, and the CPU it runs on.
//!
//! Invariant: reads clocks, computes nothing from them.

use crate::sys;
use std::io;

/// Nanoseconds of `CLOCK_MONOTONIC`, which is never set back.
#[must_use]
pub fn monotonic_ns() -> u64 {
    nanoseconds(libc::CLOCK_MONOTONIC)
}

fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let Ok(time) = sys::time(clock) else {
        unreachable!("clocks that every Linux has can be read");
    };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + rest
}

/// Keeps the calling thread on one CPU, so that its caches and its softirqs are there too.
///
/// # Errors
///
/// `EINVAL` when there is no such CPU, or the process may not use it.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    sys::pin(cpu)
}

/// The CPU that the calling thread is on.
///
/// # Errors
///
/// The system's error on kernels that do not tell.
pub fn current_cpu() -> io::Result<usize> {
    sys::cpu()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward_in_nanoseconds() {
        let before = monotonic_ns();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let passed = monotonic_ns() - before;
        assert!((2_000_000..2_000_000_000).contains(&passed), "{passed} ns");
    }

    #[test]
    fn a_pinned_thread_stays_on_its_cpu() {
        std::thread::spawn(|| {
            let cpu = current_cpu().expect("the CPU");
            pin_to_cpu(cpu).expect("a CPU that was just in use");
            assert_eq!(current_cpu().expect("the CPU"), cpu);
            assert!(pin_to_cpu(1 << 20).is_err(), "no machine has so many CPUs");
        })
        .join()
        .expect("no panic");
    }
}
