//! How much memory a load takes: of the kernel, of a program that does nothing else, and of
//! the tool that it starts.
//!
//! The kernel's memory is that of the whole machine, before and after: whatever else goes on
//! meanwhile is in the difference, and what the kernel had in reserve from earlier cells is
//! not. `none` in the same run shows how much that is.
//!
//! Invariant: reads `/proc`; loads nothing but in [`load_once`], which is a process's only
//! work.

use crate::contender::Contender;
use crate::metric::Metric;
use crate::scenario::Transport;
use crate::update::Loaded;
use anyhow::{Context as _, bail};
use nfc_ir::{Family, Node, synth};
use nfc_kernel::{Kernel, Namespace, monotonic_ns};
use std::fs;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The lines of `/proc/meminfo` that hold what rules are made of: small objects and large
/// ones, tables that had no contiguous room, and counters for each CPU.
const KERNEL_LINES: [&str; 3] = ["SUnreclaim:", "VmallocUsed:", "Percpu:"];

/// How often the tool is asked for its memory. What it takes later than its last answer is
/// missed.
const POLL: Duration = Duration::from_millis(2);

/// What a process is to load, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Name of the contender.
    pub backend: String,
    /// How many Services.
    pub services: u32,
    /// How many endpoints each of them has.
    pub endpoints: u32,
    /// Their protocol.
    pub protocol: Transport,
}

/// The kernel's memory for objects at this moment, in bytes; `None` when it does not tell.
#[must_use]
pub fn kernel_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    KERNEL_LINES.iter().map(|name| kilobytes(&text, name)).sum::<Option<u64>>().map(|k| k * 1024)
}

/// The number behind `name` in a text such as `/proc/meminfo`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn peak(process: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    kilobytes(&text, "VmHWM:").map(|k| k * 1024)
}

/// Loads what `order` says where the calling thread is, and prints the most memory that this
/// process and the tool it started had, in bytes.
///
/// # Errors
///
/// When there is no such contender, or the kernel refuses.
pub fn load_once(order: &Order) -> anyhow::Result<()> {
    let contender = Contender::find(&order.backend).context("no such contender")?;
    let ir = synth::cluster_ips(
        Family::Ipv4,
        order.protocol.into(),
        order.services,
        order.endpoints,
        Node::default(),
    );
    let ir = ir.map_err(|flaws| anyhow::anyhow!("the made-up Services are flawed: {flaws:?}"))?;
    let (tool, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| watch_children(&tool, &done));
        let loaded = Loaded::cold(&contender, monotonic_ns, ir, &mut Kernel::new());
        done.store(true, Ordering::Relaxed);
        loaded.map(drop)
    })?;
    let own = peak("self").context("/proc/self/status has no VmHWM")?;
    writeln!(io::stdout(), "{own} {}", tool.into_inner())?;
    Ok(())
}

/// Keeps in `most` the most memory that a child of this process has had.
fn watch_children(most: &AtomicU64, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        for child in children() {
            most.fetch_max(peak(&child).unwrap_or(0), Ordering::Relaxed);
        }
        std::thread::sleep(POLL);
    }
}

/// The children of all threads of this process (`proc(5)`, `CONFIG_PROC_CHILDREN`).
fn children() -> Vec<String> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let of = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).ok();
    let lists: Vec<String> = threads.flatten().filter_map(of).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).map(str::to_owned).collect()
}

/// Has a process of its own load what `order` says in `namespace`, and tells what memory it
/// took. The tool's is left out when no tool was started.
///
/// # Errors
///
/// When the process cannot be started or fails.
pub fn peaks(order: &Order, namespace: &Namespace) -> anyhow::Result<Vec<(Metric, u64)>> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let protocol = match order.protocol {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    };
    let numbers = [order.services.to_string(), order.endpoints.to_string()];
    let run = || {
        Command::new(program)
            .args(["--load-once", &order.backend, "--services", &numbers[0]])
            .args(["--endpoints", &numbers[1], "--protocol", protocol])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
    };
    let output = namespace.run(run)?.context("cannot start a process to load once")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let values: Vec<u64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let [own, tool] = values.as_slice() else {
        bail!("the process that loads once ended with {} and said {text:?}", output.status);
    };
    let all = [(Metric::LoadPeakBytes, *own), (Metric::ToolPeakBytes, *tool)];
    Ok(all.into_iter().filter(|(_, value)| *value > 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_meminfo_is_a_number() {
        let text = "MemTotal:  100 kB\nSUnreclaim:   65604 kB\nPercpu: 2672 kB\n";
        assert_eq!(kilobytes(text, "SUnreclaim:"), Some(65_604));
        assert_eq!(kilobytes(text, "VmallocUsed:"), None);
    }

    #[test]
    fn this_process_has_had_some_memory_and_the_kernel_too() {
        assert!(peak("self").is_some_and(|bytes| bytes > 100_000));
        assert!(kernel_bytes().is_some_and(|bytes| bytes > 1_000_000));
    }

    #[test]
    fn a_child_is_seen_and_its_memory_too() {
        let (most, done) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| watch_children(&most, &done));
            let slept = Command::new("sleep").arg("0.3").status();
            done.store(true, Ordering::Relaxed);
            slept.expect("sleep");
        });
        assert!(most.into_inner() > 0);
    }
}
