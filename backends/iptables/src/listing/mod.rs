//! Rules read from text: what `iptables-save` prints, what kube-proxy hands to
//! `iptables-restore`, and what this backend renders.
//!
//! Reading cuts the text into tables, chains and rules and no further: a rule of somebody
//! else that no packet of ours meets need not be understood. [`walk`] interprets the rules
//! that are met.
//!
//! Invariant: keeps every rule's own words and line.

mod chance;
mod walk;

use crate::names::{BuiltIn, Table};
use crate::present::words;
use nfc_backend::journey::{ListingError, Way, journey};
use nfc_ir::{Family, Ir, Packet};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Every way of `packet` through the rules in `text`.
pub(crate) fn explain(
    text: &str,
    addresses: &[IpAddr],
    packet: &Packet,
) -> Result<Vec<Way>, ListingError> {
    let family = Family::of(packet.destination.ip());
    let mut listing = read(text, family)?;
    if listing.is_of_other(family) {
        let what = format!("these are not the rules for {family}; give the dump of that family");
        return Err(ListingError { line: 1, what });
    }
    listing.assume_jumps(family);
    journey(&listing, addresses, packet)
}

/// The tables of a listing, by name.
#[derive(Default)]
struct Listing(BTreeMap<String, Chains>);

type Chains = BTreeMap<String, Chain>;

#[derive(Default)]
struct Chain {
    rules: Vec<Rule>,
    /// Line of a policy that is not ACCEPT.
    drops: Option<usize>,
}

struct Rule {
    line: usize,
    /// The rule as it stands in the listing, without counters.
    text: String,
    /// Matches and target.
    words: Vec<String>,
}

impl Listing {
    fn chain(&mut self, table: &str, chain: &str) -> &mut Chain {
        let chains = self.0.entry(table.to_owned()).or_default();
        chains.entry(chain.to_owned()).or_default()
    }

    /// Whether rules name addresses of the other family, and none of this one.
    fn is_of_other(&self, family: Family) -> bool {
        let rules = self.0.values().flat_map(BTreeMap::values).flat_map(|chain| &chain.rules);
        let address = |word: &String| word.split(['/', ',']).next()?.parse::<IpAddr>().ok();
        let mut named = rules.flat_map(|rule| &rule.words).filter_map(address).peekable();
        named.peek().is_some() && named.all(|ip| Family::of(ip) != family)
    }

    /// What kube-proxy hands to `iptables-restore` lacks the jumps from the built-in chains,
    /// which it makes one by one, once. Where a listing has chains of its own but no rule in
    /// a built-in chain, those jumps are taken to be there.
    fn assume_jumps(&mut self, family: Family) {
        let is_hooked = |chains: &Chains| {
            let hooked = |(name, chain): (&String, &Chain)| {
                BuiltIn::parse(name).is_some() && !chain.rules.is_empty()
            };
            chains.iter().any(hooked)
        };
        if self.0.values().any(is_hooked) {
            return;
        }
        let fixed = crate::lower::lower(&Ir::empty(family)).program.tables;
        for table in Table::ALL {
            for (built_in, rules) in &fixed.get(table).jumps {
                for rule in rules {
                    self.assume(table, *built_in, &rule.to_string());
                }
            }
        }
    }

    fn assume(&mut self, table: Table, at: BuiltIn, rule: &str) {
        let words = words(rule);
        let Some(chains) = self.0.get_mut(&table.to_string()) else { return };
        if words.last().is_some_and(|target| chains.contains_key(target)) {
            let text = format!("-A {at}{rule}");
            let chain = chains.entry(at.to_string()).or_default();
            chain.rules.push(Rule { line: 0, text, words });
        }
    }
}

/// Cuts a listing into chains and rules. Rules that are marked for the other family
/// (iptables-restore(8), `-4`) are left out.
fn read(text: &str, family: Family) -> Result<Listing, ListingError> {
    let mut listing = Listing::default();
    let mut table = None;
    for (line, words) in (1..).zip(text.lines().map(str::trim)) {
        let error = |what: &str| ListingError { line, what: what.to_owned() };
        if words.is_empty() || words.starts_with('#') {
            continue;
        }
        if let Some(name) = words.strip_prefix('*') {
            listing.0.entry(name.to_owned()).or_default();
            table = Some(name.to_owned());
        } else if words == "COMMIT" {
            table = None;
        } else if let Some(table) = &table {
            read_line(&mut listing, table, family, line, words)?;
        } else {
            return Err(error("no table has begun; expected the output of iptables-save"));
        }
    }
    let has_chains = listing.0.values().any(|chains| !chains.is_empty());
    let nothing = || ListingError { line: 1, what: "the listing holds no chain".to_owned() };
    if has_chains { Ok(listing) } else { Err(nothing()) }
}

fn read_line(
    listing: &mut Listing,
    table: &str,
    family: Family,
    line: usize,
    text: &str,
) -> Result<(), ListingError> {
    if let Some(declared) = text.strip_prefix(':') {
        let mut parts = declared.split_whitespace();
        let chain = listing.chain(table, parts.next().unwrap_or_default());
        let is_open = parts.next().is_none_or(|policy| matches!(policy, "ACCEPT" | "-"));
        chain.drops = (!is_open).then_some(line);
        return Ok(());
    }
    let (mark, other) = match family {
        Family::Ipv4 => ("-4 ", "-6 "),
        Family::Ipv6 => ("-6 ", "-4 "),
    };
    // `iptables-save -c` puts counters before the rule.
    let rule = match text.strip_prefix('[') {
        Some(counted) => counted.split_once("] ").map_or("", |(_, rule)| rule),
        None => text.strip_prefix(mark).unwrap_or(text),
    };
    if rule.starts_with(other) {
        return Ok(());
    }
    let mut words = words(rule);
    let unknown = |what: &str| ListingError { line, what: format!("{what}: {rule}") };
    match words.first().map(String::as_str) {
        Some("-A" | "--append" | "-I" | "--insert") if words.len() > 1 => {
            insert(listing, table, line, rule, words);
        }
        Some("-N") if words.len() == 2 => drop(listing.chain(table, &words.swap_remove(1))),
        Some("-X" | "-F") => {}
        Some("-D") => return Err(unknown("a change is no listing, for it deletes a rule")),
        _ => return Err(unknown("this is no line of iptables-save")),
    }
    Ok(())
}

/// Puts a rule where `-A`, or `-I` with or without a number, puts it.
fn insert(listing: &mut Listing, table: &str, line: usize, text: &str, mut words: Vec<String>) {
    let is_insert = words[0] == "-I" || words[0] == "--insert";
    let number = words.get(2).filter(|_| is_insert).and_then(|w| w.parse::<usize>().ok());
    let rest = words.split_off(if number.is_some() { 3 } else { 2 });
    let rules = &mut listing.chain(table, &words[1]).rules;
    let at = match (is_insert, number) {
        (false, _) => rules.len(),
        (true, number) => number.unwrap_or(1).saturating_sub(1).min(rules.len()),
    };
    rules.insert(at, Rule { line, text: text.to_owned(), words: rest });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_stand_where_the_tool_puts_them() {
        let text = "*nat\n:A - [0:0]\n-A A -j X\n-I A -j Y\n[3:4] -A A -j Z\n-I A 2 -j W\nCOMMIT\n";
        let listing = read(text, Family::Ipv4).unwrap_or_default();
        let targets: Vec<_> =
            listing.0["nat"]["A"].rules.iter().filter_map(|r| r.words.last()).collect();
        assert_eq!(targets, ["Y", "W", "X", "Z"]);
    }

    #[test]
    fn text_that_is_no_listing_is_refused_with_its_line() {
        for (text, line) in [
            ("table ip nfc {\n}\n", 1),
            ("*nat\n:A - [0:0]\n-A A -j B\nhello\nCOMMIT\n", 4),
            ("*nat\n:A - [0:0]\n-D A -j B\nCOMMIT\n", 3),
            ("", 1),
        ] {
            assert_eq!(read(text, Family::Ipv4).err().map(|e| e.line), Some(line), "{text}");
        }
    }
}
