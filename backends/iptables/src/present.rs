//! What is there already, as `iptables-save` prints it, and the way from that to a program.
//!
//! A chain is ours when its name says so, a rule in a built-in chain when it leads to one
//! of our chains. Everything else in a dump is somebody else's and stays. Chains with our
//! names that kube-proxy left behind are taken over: they mean the same.
//!
//! Invariant: reads only names and jumps; what a chain of ours holds is not compared, for
//! it is written anew.

use crate::diff::{Changes, Jump, Patch};
use crate::names::{BuiltIn, ChainName, Table};
use crate::program::{Chain, PerTable, Program, Rule, Rules};
use crate::render::note;
use nfc_ir::Family;
use std::collections::{BTreeMap, BTreeSet};

/// The text for `iptables-restore --noflush` that puts `program` in the place of whatever
/// of ours is in `dump`, the output of `iptables-save` on the node.
///
/// The tool has no "insert unless there", so text that is loaded a second time must know
/// which jumps exist.
#[must_use]
pub fn render_onto(dump: &str, program: &Program) -> String {
    format!("{}{}", note(program), replace(dump, program))
}

/// The way from what `dump` shows to `new`.
pub(crate) fn replace(dump: &str, new: &Program) -> Patch {
    let mut dump = read(dump);
    if dump.has_kubelet && !new.tables.filter.chains.contains_key(&ChainName::Firewall) {
        dump.tables.filter.leave(ChainName::Firewall);
    }
    let tables = PerTable::each(|t| changes(dump.tables.get(t), new.tables.get(t)));
    // What the guard was for goes with it.
    let loses_guard = tables.filter.deleted.contains_key(&ChainName::Firewall);
    let closes_loopback = loses_guard && new.family == Family::Ipv4;
    let is_touched = new.routes_loopback || closes_loopback;
    Patch {
        family: new.family,
        tables,
        local_addresses: new.local_addresses.clone(),
        routes_loopback: new.routes_loopback,
        route_localnet: is_touched.then_some(new.routes_loopback),
    }
}

/// What a dump says.
#[derive(Default)]
struct Dump {
    tables: PerTable<Present>,
    /// Whether a kubelet looks after chains on this node.
    has_kubelet: bool,
}

/// What is ours in one table of a dump.
#[derive(Default)]
struct Present {
    chains: BTreeSet<ChainName>,
    /// Our rules in built-in chains.
    jumps: BTreeMap<BuiltIn, Vec<Found>>,
    /// Chains of ours that a chain of somebody else leads to.
    held: BTreeSet<ChainName>,
}

/// A rule in a built-in chain that leads to a chain of ours.
struct Found {
    /// Matches and target, as printed.
    text: String,
    target: ChainName,
}

impl Present {
    /// Takes a chain for somebody else's.
    fn leave(&mut self, chain: ChainName) {
        self.chains.remove(&chain);
        for found in self.jumps.values_mut() {
            found.retain(|jump| jump.target != chain);
        }
    }
}

fn changes(present: &Present, new: &Rules) -> Changes {
    let stale = || {
        let chains = present.chains.iter().copied();
        chains.filter(|name| !new.chains.contains_key(name))
    };
    // A chain that somebody else leads to cannot be deleted; empty, it does nothing.
    let (held, gone): (Vec<_>, Vec<_>) = stale().partition(|name| present.held.contains(name));
    let emptied = held.into_iter().map(|name| (name, Chain::default()));
    let mut changes = Changes {
        written: new.chains.clone(),
        deleted: gone.into_iter().map(|name| (name, None)).collect(),
        ..Changes::default()
    };
    changes.written.extend(emptied);
    for at in BuiltIn::ALL {
        let found = present.jumps.get(&at).map_or(&[][..], Vec::as_slice);
        let wanted = new.jumps.get(&at).map_or(&[][..], Vec::as_slice);
        hook(&mut changes, at, found, wanted);
    }
    changes
}

/// Jumps that are there already stay where they are: kubelet's jump to the chain that it
/// shares with us has been there before ours, and is below them on every node. Missing ones
/// are put at the head, as kube-proxy does.
fn hook(changes: &mut Changes, at: BuiltIn, found: &[Found], wanted: &[Rule]) {
    let mut missing: Vec<_> = wanted.iter().map(|rule| (words(&rule.to_string()), rule)).collect();
    for Found { text, .. } in found {
        let own = words(text);
        match missing.iter().position(|(wanted, _)| *wanted == own) {
            Some(index) => drop(missing.remove(index)),
            None => changes.unhooked.push((at, Jump::Found(text.clone()))),
        }
    }
    if !missing.is_empty() {
        let rules = missing.into_iter().map(|(_, rule)| rule.clone()).collect();
        changes.hooked.insert(at, rules);
    }
}

/// The chain by whose disappearance kubelet notices that its rules were flushed. It would
/// not notice that only the chain it shares with us is gone.
const KUBELET_CANARY: &str = ":KUBE-KUBELET-CANARY ";

fn read(text: &str) -> Dump {
    let mut dump = Dump::default();
    let mut table = None;
    for line in text.lines() {
        dump.has_kubelet |= line.starts_with(KUBELET_CANARY);
        if let Some(name) = line.strip_prefix('*') {
            table = Table::ALL.into_iter().find(|t| t.to_string() == name);
        } else if let Some(table) = table {
            read_line(dump.tables.get_mut(table), table, line);
        }
    }
    dump
}

fn read_line(present: &mut Present, table: Table, line: &str) {
    if let Some(declared) = line.strip_prefix(':') {
        let name = declared.split(' ').next().unwrap_or_default();
        present.chains.extend(ChainName::parse(table, name));
        return;
    }
    // `iptables-save -c` puts counters before the rule.
    let rule = match line.strip_prefix('[') {
        Some(counted) => counted.split_once("] ").map_or("", |(_, rule)| rule),
        None => line,
    };
    let Some((chain, text)) = rule.strip_prefix("-A ").and_then(|r| r.split_once(' ')) else {
        return;
    };
    if ChainName::parse(table, chain).is_some() {
        return;
    }
    let Some(target) = target(text).and_then(|name| ChainName::parse(table, &name)) else {
        return;
    };
    if let Some(built_in) = BuiltIn::parse(chain) {
        let jumps = present.jumps.entry(built_in).or_default();
        jumps.push(Found { text: text.to_owned(), target });
    } else {
        present.held.insert(target);
    }
}

/// The chain that a rule leads to, if it does.
fn target(text: &str) -> Option<String> {
    let mut words = words(text).into_iter();
    words.find(|word| word == "-j" || word == "-g")?;
    words.next()
}

/// The words of a line, with quotes and escapes taken away as `iptables-restore` does.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut is_quoted = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if is_quoted => word.get_or_insert_default().extend(chars.next()),
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !is_quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_as_the_tool_cuts_them() {
        let text = r#"-m comment --comment "a \"b\" c"  -j X"#;
        assert_eq!(words(text), ["-m", "comment", "--comment", "a \"b\" c", "-j", "X"]);
        assert_eq!(words("\"\""), [""]);
    }

    #[test]
    fn a_target_inside_a_comment_is_none() {
        let text = r#"-m comment --comment "-j KUBE-SERVICES" -j ACCEPT"#;
        assert_eq!(target(text).as_deref(), Some("ACCEPT"));
    }
}
