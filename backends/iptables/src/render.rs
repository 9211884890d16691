//! Programs and patches as the text that `iptables-restore --noflush` reads.
//!
//! The spelling of a rule is kube-proxy's. Chains stand together by Service, so that the
//! text can be read; the order of chains means nothing to the kernel.
//!
//! Invariant: values in, text out; decides nothing about what is in a chain.

use crate::diff::{Changes, Jump, Patch};
use crate::names::Table;
use crate::program::{Address, Match, Program, Rule, Sense, State, Target};
use nfc_ir::Family;
use std::fmt::{self, Display, Formatter, Write as _};

/// The text for a node without older rules of ours. For two families it is one file that
/// both tools load: each skips the rules marked for the other (iptables(8), `-4`).
pub(crate) fn render(programs: &[Program]) -> String {
    let patches: Vec<_> = programs
        .iter()
        .map(|program| crate::diff::diff(&Program::empty(program.family), program))
        .collect();
    let rules = match patches.as_slice() {
        [only] => only.to_string(),
        several => Together(several).to_string(),
    };
    let notes: String = programs.iter().map(note).collect();
    notes + &rules
}

/// What a program needs and restore text cannot say.
pub(crate) fn note(program: &Program) -> &'static str {
    if program.routes_loopback {
        "# Node ports on 127.0.0.0/8 also need: sysctl -w net.ipv4.conf.all.route_localnet=1\n"
    } else {
        ""
    }
}

/// The text that carries out a patch.
impl Display for Patch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Table::ALL
            .iter()
            .try_for_each(|table| write_table(f, *table, &[("", self.tables.get(*table))]))
    }
}

/// Patches of several families as one text.
struct Together<'a>(&'a [Patch]);

impl Display for Together<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for table in Table::ALL {
            let marked = self.0.iter().map(|patch| {
                let mark = match patch.family {
                    Family::Ipv4 => "-4 ",
                    Family::Ipv6 => "-6 ",
                };
                (mark, patch.tables.get(table))
            });
            write_table(f, table, &marked.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// One table. Lines for chains cannot be marked for a family; a chain that only one family
/// fills stays empty in the other.
fn write_table(f: &mut Formatter<'_>, table: Table, all: &[(&str, &Changes)]) -> fmt::Result {
    if all.iter().all(|(_, changes)| changes.is_empty()) {
        return Ok(());
    }
    writeln!(f, "*{table}")?;
    write_chain_lines(f, all)?;
    for (mark, changes) in all {
        write_changes(f, mark, changes)?;
    }
    writeln!(f, "COMMIT")
}

/// A chain line creates the chain, or empties it. One that is to be deleted must be empty.
fn write_chain_lines(f: &mut Formatter<'_>, all: &[(&str, &Changes)]) -> fmt::Result {
    let mut lines: Vec<_> = all
        .iter()
        .flat_map(|(_, changes)| {
            let written = changes.written.iter().map(|(n, c)| (c.owner.as_ref(), n));
            let deleted = changes.deleted.iter().map(|(n, o)| (o.as_ref(), n));
            written.chain(deleted)
        })
        .collect();
    lines.sort();
    lines.dedup_by_key(|(_, name)| *name);
    lines.iter().try_for_each(|(_, name)| writeln!(f, ":{name} - [0:0]"))
}

fn write_changes(f: &mut Formatter<'_>, mark: &str, changes: &Changes) -> fmt::Result {
    for (chain, jump) in &changes.unhooked {
        match jump {
            Jump::Own(rule) => writeln!(f, "{mark}-D {chain}{rule}")?,
            Jump::Found(text) => writeln!(f, "{mark}-D {chain} {text}")?,
        }
    }
    let mut written: Vec<_> = changes.written.iter().collect();
    written.sort_by_key(|(name, chain)| (chain.owner.as_ref(), *name));
    for (name, chain) in written {
        for rule in &chain.rules {
            writeln!(f, "{mark}-A {name}{rule}")?;
        }
    }
    for (chain, rules) in &changes.hooked {
        for (position, rule) in (1..).zip(rules) {
            writeln!(f, "{mark}-I {chain} {position}{rule}")?;
        }
    }
    changes.deleted.keys().try_for_each(|name| writeln!(f, "{mark}-X {name}"))
}

/// Matches and target, each with a blank before it.
impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for each in &self.matches {
            write_match(f, each)?;
        }
        match self.target {
            Some(target) => write_target(f, target),
            None => Ok(()),
        }
    }
}

fn write_match(f: &mut Formatter<'_>, each: &Match) -> fmt::Result {
    match each {
        Match::Comment(text) => write_comment(f, text),
        Match::Protocol(protocol) => write!(f, " -m {protocol} -p {protocol}"),
        Match::Source(address, sense) => write!(f, "{sense} -s {address}"),
        Match::Destination(address, sense) => write!(f, "{sense} -d {address}"),
        Match::DestinationPort(port) => write!(f, " --dport {port}"),
        Match::InInterface(name, sense) => write!(f, "{sense} -i {name}"),
        Match::State(states, sense) => {
            write!(f, " -m conntrack{sense} --ctstate ")?;
            write_states(f, states)
        }
        Match::Mark(mask, sense) => write!(f, " -m mark{sense} --mark {mask:#010x}/{mask:#010x}"),
        Match::SourceIsLocal => f.write_str(" -m addrtype --src-type LOCAL"),
        Match::DestinationIsLocal => f.write_str(" -m addrtype --dst-type LOCAL"),
        Match::Probability(share) => {
            let probability = share.probability();
            write!(f, " -m statistic --mode random --probability {probability:.10}")
        }
        Match::Turn(every) => write!(f, " -m statistic --mode nth --every {every} --packet 0"),
        Match::SeenWithin(list, seconds) => {
            write!(f, " -m recent --name {list} --rcheck --seconds {seconds} --reap")
        }
        Match::Remember(list) => write!(f, " -m recent --name {list} --set"),
    }
}

/// Quoted only where a blank makes it necessary. A quote or a line break in a name could end
/// the comment, or the rule: the first is escaped, the second becomes a blank.
fn write_comment(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"'\\".contains(c);
    f.write_str(" -m comment --comment ")?;
    if !text.is_empty() && text.chars().all(is_plain) {
        return f.write_str(text);
    }
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() => f.write_char(' ')?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

fn write_states(f: &mut Formatter<'_>, states: &[State]) -> fmt::Result {
    for (i, state) in states.iter().enumerate() {
        f.write_str(if i == 0 { "" } else { "," })?;
        f.write_str(match state {
            State::Invalid => "INVALID",
            State::New => "NEW",
            State::Related => "RELATED",
            State::Established => "ESTABLISHED",
            State::Dnat => "DNAT",
        })?;
    }
    Ok(())
}

fn write_target(f: &mut Formatter<'_>, target: Target) -> fmt::Result {
    match target {
        Target::Jump(chain) => write!(f, " -j {chain}"),
        Target::Accept => f.write_str(" -j ACCEPT"),
        Target::Drop => f.write_str(" -j DROP"),
        Target::Reject => f.write_str(" -j REJECT"),
        Target::Return => f.write_str(" -j RETURN"),
        Target::SetMark(mask) => write!(f, " -j MARK --or-mark {mask:#010x}"),
        Target::FlipMark(mask) => write!(f, " -j MARK --xor-mark {mask:#010x}"),
        Target::Masquerade => f.write_str(" -j MASQUERADE --random-fully"),
        Target::Dnat(address) => write!(f, " -j DNAT --to-destination {address}"),
    }
}

impl Display for Sense {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Is => "",
            Self::IsNot => " !",
        })
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "{host}"),
            Self::Block(block) => write!(f, "{block}"),
        }
    }
}
