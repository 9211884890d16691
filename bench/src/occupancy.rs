//! What the CPUs of the machine did for some time: for us, for anybody, and for the host's
//! other guests.
//!
//! Invariant: reads `/proc` only, and judges nothing; what cannot be read is not there.

use crate::record::CpuTime;
use std::fs;

/// The counts of `/proc` go up by one every so many milliseconds of a CPU (`USER_HZ` is 100
/// on every architecture that Rust knows but Alpha).
const TICK_MS: u64 = 10;

/// A look at the counts of the CPUs, to be compared with a later one.
#[derive(Clone, Copy, Debug)]
pub struct Watch(Option<CpuTime>);

impl Watch {
    /// Looks for the first time.
    #[must_use]
    pub fn start() -> Self {
        Self(now())
    }

    /// What has happened since.
    #[must_use]
    pub fn elapsed(&self) -> Option<CpuTime> {
        Some(between(self.0?, now()?))
    }
}

/// What has happened from one look to the next.
pub(crate) fn between(before: CpuTime, after: CpuTime) -> CpuTime {
    CpuTime {
        capacity_ms: after.capacity_ms.saturating_sub(before.capacity_ms),
        own_ms: after.own_ms.saturating_sub(before.own_ms),
        user_ms: after.user_ms.saturating_sub(before.user_ms),
        system_ms: after.system_ms.saturating_sub(before.system_ms),
        steal_ms: after.steal_ms.saturating_sub(before.steal_ms),
    }
}

/// Everything since the machine and the process were started.
fn now() -> Option<CpuTime> {
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let process = fs::read_to_string("/proc/self/stat").ok()?;
    counted(&machine, &process)
}

/// proc(5): `cpu` has user, nice, system, idle, iowait, irq, softirq and steal; fields 14 to
/// 17 of a process are its time in user and in kernel mode, and the same of the children that
/// it has waited for.
///
/// Other programs are told by their time in user mode: what the kernel does in the background
/// to take our own worlds apart would else be counted against them.
pub(crate) fn counted(machine: &str, process: &str) -> Option<CpuTime> {
    let numbers = |text: &str| -> Vec<u64> {
        text.split_whitespace().map_while(|word| word.parse().ok()).collect()
    };
    let cpus = numbers(machine.lines().next()?.strip_prefix("cpu ")?);
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = cpus[..] else { return None };
    // The name of the process, in brackets, may hold anything; its state is a letter.
    let fields: Vec<&str> = process.rsplit_once(") ")?.1.split_whitespace().collect();
    let times: Vec<u64> = fields.get(11..15)?.iter().filter_map(|word| word.parse().ok()).collect();
    let [own, _, children, _] = times[..] else { return None };
    let (user, system) = (user + nice, system + irq + softirq);
    Some(CpuTime {
        capacity_ms: (user + system + idle + iowait + steal) * TICK_MS,
        own_ms: (own + children) * TICK_MS,
        user_ms: user * TICK_MS,
        system_ms: system * TICK_MS,
        steal_ms: steal * TICK_MS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_found_where_proc_has_them() {
        let machine = "cpu  100 1 50 800 7 2 3 37 0 0\ncpu0 1 2 3\n";
        let process = "42 (a) b) R 1 42 42 0 -1 0 9 9 9 9 11 22 33 44 20 0 1";
        let expected = CpuTime {
            capacity_ms: 10_000,
            own_ms: 440,
            user_ms: 1_010,
            system_ms: 550,
            steal_ms: 370,
        };
        assert_eq!(counted(machine, process), Some(expected));
        assert_eq!(counted("", process), None);
        assert_eq!(counted(machine, "42 (a) R"), None);
    }

    #[test]
    fn a_busy_process_is_seen_to_be_busy() {
        let watch = Watch::start();
        let begun = std::time::Instant::now();
        let mut sum = 0_u64;
        while begun.elapsed().as_millis() < 300 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let elapsed = watch.elapsed().expect("Linux");
        assert!(elapsed.own_ms >= 20 && elapsed.user_ms >= 20, "{elapsed:?}");
        assert!(elapsed.user_ms <= elapsed.capacity_ms, "{elapsed:?}");
    }
}
