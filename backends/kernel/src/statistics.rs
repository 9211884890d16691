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

/// Whether anybody listens to `group` of a netlink protocol (`NETLINK_*`), one of the first 32
/// groups, which are numbered from 1.
///
/// # Errors
///
/// The system's error when `/proc` is not there.
pub fn is_listened_to(protocol: u8, group: u8) -> io::Result<bool> {
    Ok(has_listener(&fs::read_to_string(format!("{FOLDER}/netlink"))?, protocol, group))
}

/// A socket's line begins with its address, protocol, port and groups
/// (`netlink_native_seq_show`, `net/netlink/af_netlink.c`).
fn has_listener(text: &str, protocol: u8, group: u8) -> bool {
    text.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let own = words.next().and_then(|word| word.parse().ok());
        let groups = words.nth(1).and_then(|word| u32::from_str_radix(word, 16).ok());
        let bit = group.checked_sub(1).and_then(|shift| 1u32.checked_shl(shift.into()));
        own == Some(protocol) && groups.zip(bit).is_some_and(|(groups, bit)| groups & bit != 0)
    })
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

    #[test]
    fn listeners_are_told_by_their_groups() {
        let text = "sk Eth Pid Groups Rmem\n00000000926fcdfe 12  0          00000000 0\n\
                    00000000628b64a7 12  21763      00000100 0\n";
        assert!(has_listener(text, 12, 9) && !has_listener(text, 12, 8));
        assert!(!has_listener(text, 0, 9) && !has_listener(text, 12, 0));
        assert!(!is_listened_to(12, 31).expect("/proc"));
    }
}
