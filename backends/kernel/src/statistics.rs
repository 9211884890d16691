//! Counters and lists that the kernel keeps in `/proc/net` for the calling thread's
//! namespace.
//!
//! Invariant: reads; what a number means is known elsewhere.

use std::fs;
use std::io;

/// `/proc/net` itself shows the namespace of the main thread (`proc_net(5)`).
const FOLDER: &str = "/proc/thread-self/net";

/// The counter `name` of TCP's extended statistics, as `nstat` shows it with `TcpExt` in
/// front; `None` when the kernel has no such counter.
///
/// # Errors
///
/// The system's error when `/proc` is not there.
pub fn tcp_extended(name: &str) -> io::Result<Option<u64>> {
    let text = fs::read_to_string(format!("{FOLDER}/netstat"))?;
    Ok(counter(&text, "TcpExt:", name))
}

/// The tables of iptables-legacy that are in use, or of ip6tables-legacy. Reading this makes
/// none, as `iptables-legacy-save` would.
///
/// # Errors
///
/// The system's error without root.
pub fn legacy_tables(ipv6: bool) -> io::Result<Vec<String>> {
    let name = if ipv6 { "ip6_tables_names" } else { "ip_tables_names" };
    match fs::read_to_string(format!("{FOLDER}/{name}")) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        // The kernel has no such tables.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A line of names is followed by a line of numbers, both with the same head.
fn counter(text: &str, head: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(head));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let mut both = names.split_whitespace().zip(numbers.split_whitespace());
    both.find(|(own, _)| *own == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_name() {
        let text = "TcpExt: A IPReversePathFilter B\nTcpExt: 1 23 4\nIpExt: B\nIpExt: 5\n";
        assert_eq!(counter(text, "TcpExt:", "IPReversePathFilter"), Some(23));
        assert_eq!(counter(text, "IpExt:", "B"), Some(5));
        assert_eq!(counter(text, "TcpExt:", "C"), None);
        assert!(tcp_extended("SyncookiesSent").expect("/proc").is_some());
    }
}
