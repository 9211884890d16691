//! The kernel's own account of one packet, read from what its tools print.
//!
//! Invariant: repeats what the kernel said, in its order; how that was asked for, and whether
//! it agrees with the prediction, are no affair of this file.

use nfc_ir::Packet;
use nfc_kernel::conntrack::Connection;

/// The built-in chains in the order in which a packet that is forwarded meets them, each with
/// its tables (`iptables(8)`; the priorities of `linux/netfilter_ipv4.h`).
const HOOKS: [(&str, &[&str]); 5] = [
    ("PREROUTING", &["raw", "mangle", "nat"]),
    ("INPUT", &["mangle", "filter", "nat"]),
    ("FORWARD", &["mangle", "filter"]),
    ("OUTPUT", &["raw", "mangle", "nat", "filter"]),
    ("POSTROUTING", &["mangle", "nat"]),
];

/// What the kernel itself says of one packet that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The packet.
    pub packet: Packet,
    /// What became of it, in words.
    pub landing: String,
    /// Its entry in connection tracking; a packet that goes nowhere leaves none. `None` where
    /// the entries could not be had.
    pub entries: Option<Vec<Connection>>,
    /// The rules that it met; `None` where they could not be had.
    pub rules: Option<Met>,
    /// What could not be had, and why.
    pub skipped: Vec<String>,
}

/// The rules that a packet met, in the words of their kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// Those of nft, as the kernel traced them.
    Trace(Vec<Traced>),
    /// Those of iptables that counted it.
    Counters(Vec<Counted>),
}

/// One step of a packet in an nft trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Family and name of the table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule that matched; `None` at the end of a chain.
    pub rule: Option<String>,
    /// What followed: `goto cluster-tcp-3`, `accept`, `continue`; for a base chain's policy,
    /// `policy accept`.
    pub verdict: String,
}

/// One rule of iptables whose counter moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule, as `iptables-save` prints it.
    pub rule: String,
    /// How many packets it counted.
    pub packets: u64,
}

/// The steps in what `nft monitor trace` printed of one packet, those in `own_table` left out:
/// it is there for the trace's sake.
pub fn traced<'a>(lines: impl IntoIterator<Item = &'a str>, own_table: &str) -> Vec<Traced> {
    let steps = lines.into_iter().filter_map(step);
    steps.filter(|step| step.table.split(' ').nth(1) != Some(own_table)).collect()
}

/// `trace id 0d8ef20e ip nfc output rule ip daddr @s accept (verdict accept)`. Lines with
/// `packet:` tell headers, and no step.
fn step(line: &str) -> Option<Traced> {
    let mut words = line.trim().strip_prefix("trace id ")?.splitn(6, ' ').skip(1);
    let (family, table, chain) = (words.next()?, words.next()?, words.next()?);
    let (kind, rest) = (words.next()?, words.next().unwrap_or(""));
    let (rule, verdict) = match kind {
        "rule" => {
            let (rule, verdict) = rest.rsplit_once(" (verdict ")?;
            (Some(rule.trim().to_owned()), verdict.trim_end_matches(')').to_owned())
        }
        "verdict" => (None, rest.to_owned()),
        "policy" => (None, format!("policy {rest}")),
        _ => return None,
    };
    let table = format!("{family} {table}");
    Some(Traced { table, chain: chain.to_owned(), rule, verdict })
}

/// The rules whose packet counters differ between two listings of `iptables-save -c` of the
/// same rules, in the order in which a packet meets them.
#[must_use]
pub fn counted(before: &str, after: &str) -> Vec<Counted> {
    let (before, after) = (rules(before), rules(after));
    let both = before.iter().zip(&after);
    let moved = both.filter_map(|(old, new)| {
        let packets = new.packets.checked_sub(old.packets).filter(|packets| *packets > 0)?;
        (old.rule == new.rule).then(|| Counted { packets, ..new.clone() })
    });
    let moved: Vec<_> = moved.collect();
    let mut met = Vec::new();
    for (hook, tables) in HOOKS {
        for table in tables {
            walk(&moved, table, hook, &mut met);
        }
    }
    met
}

/// A chain's rules, and behind each those of the chain that it leads to. iptables refuses
/// chains that lead back to themselves.
fn walk(moved: &[Counted], table: &str, chain: &str, met: &mut Vec<Counted>) {
    for rule in moved.iter().filter(|rule| rule.table == table && rule.chain == chain) {
        met.push(rule.clone());
        if let Some(target) = target(&rule.rule) {
            walk(moved, table, target, met);
        }
    }
}

/// What a rule does stands behind what it matches, comments included.
fn target(rule: &str) -> Option<&str> {
    let (_, target) = rule.rsplit_once(" -j ").or_else(|| rule.rsplit_once(" -g "))?;
    target.split(' ').next()
}

/// All rules of a listing with their counters: `[1:60] -A KUBE-SERVICES ...`.
fn rules(listing: &str) -> Vec<Counted> {
    let mut table = "";
    let mut rules = Vec::new();
    for line in listing.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        }
        rules.extend(rule(table, line));
    }
    rules
}

fn rule(table: &str, line: &str) -> Option<Counted> {
    let (counters, rule) = line.strip_prefix('[')?.split_once("] ")?;
    let packets = counters.split(':').next()?.parse().ok()?;
    let chain = rule.strip_prefix("-A ")?.split(' ').next()?.to_owned();
    Some(Counted { table: table.to_owned(), chain, rule: rule.to_owned(), packets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_without_headers_and_without_its_own_table() {
        let lines = [
            "trace id 0d8ef20e ip nfc-trace output packet: oif \"lo\" ip saddr 192.0.2.2 ",
            "trace id 0d8ef20e ip nfc-trace output rule ip daddr 10.96.0.1 meta nftrace set 1 \
             (verdict continue)",
            "trace id 0d8ef20e ip nfc-trace output policy accept ",
            "trace id 0d8ef20e ip nfc output rule ip daddr . tcp dport vmap @m (verdict goto c)",
            "trace id 0d8ef20e ip nfc c rule tcp dport 80 drop comment \"a (b)\" (verdict drop)",
            "trace id 0d8ef20e ip nfc output verdict continue ",
            "trace id 0d8ef20e ip nfc output policy accept ",
            "something else",
        ];
        let steps = traced(lines, "nfc-trace");
        let told: Vec<_> =
            steps.iter().map(|s| (&*s.chain, s.rule.as_deref(), &*s.verdict)).collect();
        let expected = [
            ("output", Some("ip daddr . tcp dport vmap @m"), "goto c"),
            ("c", Some("tcp dport 80 drop comment \"a (b)\""), "drop"),
            ("output", None, "continue"),
            ("output", None, "policy accept"),
        ];
        assert_eq!(told, expected);
        assert!(steps.iter().all(|step| step.table == "ip nfc"));
    }

    #[test]
    fn rules_that_counted_stand_in_the_order_of_the_path() {
        let before = "*filter\n:FORWARD ACCEPT [0:0]\n[3:9] -A FORWARD -j SEEN\n[0:0] -A SEEN -j DROP\n\
                      COMMIT\n*nat\n[0:0] -A DO -j DNAT --to-destination 10.0.0.1:80\n\
                      [0:0] -A PREROUTING -m comment --comment \"a -j b\" -j DO\n\
                      [7:7] -A PREROUTING -j OTHER\nCOMMIT\n";
        let after = before
            .replace("[3:9]", "[4:12]")
            .replace("[0:0] -A DO", "[1:60] -A DO")
            .replace("[0:0] -A PREROUTING", "[1:60] -A PREROUTING");
        let met = counted(before, &after);
        let told: Vec<_> = met.iter().map(|c| (&*c.table, &*c.chain, c.packets)).collect();
        assert_eq!(told, [("nat", "PREROUTING", 1), ("nat", "DO", 1), ("filter", "FORWARD", 1)]);
        assert!(counted(before, before).is_empty());
    }
}
