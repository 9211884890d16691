//! The walk of a packet through a program, in the order of the kernel's hooks.
//!
//! Where a rule leaves it to chance, the walk goes on both ways, so that the outcome has
//! every endpoint with its probability. The packet is the first of its connection, and its
//! client was never seen before.
//!
//! Order of the hooks: `include/uapi/linux/netfilter_ipv4.h` (nat before filter at OUTPUT,
//! nat PREROUTING before routing). A table ends at its first verdict; the nat table is
//! asked once for the destination and once for the source of a connection.
//!
//! Invariant: reads the rules, never the Ir. What it does not know is an error.

use crate::names::{BuiltIn, ChainName, Table};
use crate::program::{Match, Program, Rule, Sense, State, Target};
use nfc_backend::TraceError;
use nfc_ir::{Choice, Ingress, Outcome, Packet};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Deeper than our chains ever lead, so that a loop is noticed.
const DEPTH_MAX: usize = 16;

/// The interface over which the node talks to itself.
const LOOPBACK: &str = "lo";

/// Walks `packet` through `program`.
pub(crate) fn trace(program: &Program, packet: &Packet) -> Result<Outcome, TraceError> {
    let walk = Walk { program, packet };
    let start = vec![Course::new(packet)];
    let courses = match &packet.ingress {
        Ingress::Interface(name) => walk.received(name, start)?,
        Ingress::Local => walk.sent(start)?,
    };
    outcome(&courses)
}

/// One way that the packet may take.
#[derive(Clone, Debug)]
struct Course {
    /// Probability of this way.
    share: f64,
    destination: SocketAddr,
    is_rewritten: bool,
    mark: u32,
    is_masqueraded: bool,
    /// What the filter table said, once a rule said something.
    verdict: Option<Verdict>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accept,
    Drop,
    Reject,
}

impl Course {
    fn new(packet: &Packet) -> Self {
        Self {
            share: 1.0,
            destination: packet.destination,
            is_rewritten: false,
            mark: 0,
            is_masqueraded: false,
            verdict: None,
        }
    }

    fn is_refused(&self) -> bool {
        matches!(self.verdict, Some(Verdict::Drop | Verdict::Reject))
    }

    /// What becomes of a packet that takes this way, shares aside.
    fn outcome(&self) -> Outcome {
        match self.verdict {
            Some(Verdict::Drop) => Outcome::Drop,
            Some(Verdict::Reject) => Outcome::Reject,
            _ if self.is_rewritten => {
                let choice = Choice { endpoint: self.destination, masquerade: self.is_masqueraded };
                Outcome::Balance(BTreeMap::from([(choice, self.share)]))
            }
            Some(Verdict::Accept) => Outcome::Accept,
            None => Outcome::Pass,
        }
    }
}

/// Puts all ways together. A packet that is sent to an endpoint on some ways and refused on
/// others has no outcome that could be named.
fn outcome(courses: &[Course]) -> Result<Outcome, TraceError> {
    let mut shares = BTreeMap::new();
    let mut others = Vec::new();
    for course in courses {
        match course.outcome() {
            Outcome::Balance(choices) => {
                for (choice, share) in choices {
                    *shares.entry(choice).or_insert(0.0) += share;
                }
            }
            other if others.contains(&other) => {}
            other => others.push(other),
        }
    }
    match (shares.is_empty(), others.as_slice()) {
        (false, []) => Ok(Outcome::Balance(shares)),
        (true, [only]) => Ok(only.clone()),
        _ => Err(TraceError {
            place: "the end of the walk".to_owned(),
            what: "chance alone decides between an endpoint and something else".to_owned(),
        }),
    }
}

/// Where in the kernel a rule is looked at.
#[derive(Clone, Copy)]
struct Hook<'a> {
    table: Table,
    chain: BuiltIn,
    /// The interface that the packet came in through; empty where there is none.
    interface: &'a str,
}

/// What a rule makes of a packet that it matches.
enum Effect {
    /// The next rule is looked at.
    Continue,
    /// The calling chain goes on.
    Return,
    /// The table is done with the packet.
    End,
    /// Another chain is looked at first.
    Jump(ChainName),
}

struct Walk<'a> {
    program: &'a Program,
    packet: &'a Packet,
}

impl Walk<'_> {
    fn received(&self, interface: &str, start: Vec<Course>) -> Result<Vec<Course>, TraceError> {
        let at = |table, chain| Hook { table, chain, interface };
        let routed = self.hook(at(Table::Nat, BuiltIn::Prerouting), start)?;
        let is_for_node = |course: &Course| self.is_local(course.destination.ip());
        let (inward, through): (Vec<_>, Vec<_>) = routed.into_iter().partition(is_for_node);
        // What is delivered here never meets POSTROUTING, and so keeps its source.
        let mut done = self.hook(at(Table::Filter, BuiltIn::Input), inward)?;
        let forwarded = self.hook(at(Table::Filter, BuiltIn::Forward), through)?;
        done.extend(self.hook(at(Table::Nat, BuiltIn::Postrouting), forwarded)?);
        Ok(done)
    }

    fn sent(&self, start: Vec<Course>) -> Result<Vec<Course>, TraceError> {
        let at = |table, chain| Hook { table, chain, interface: "" };
        let routed = self.hook(at(Table::Nat, BuiltIn::Output), start)?;
        let allowed = self.hook(at(Table::Filter, BuiltIn::Output), routed)?;
        let gone = self.hook(at(Table::Nat, BuiltIn::Postrouting), allowed)?;
        let comes_back = |course: &Course| self.is_local(course.destination.ip());
        let (back, mut done): (Vec<_>, Vec<_>) = gone.into_iter().partition(comes_back);
        let input = Hook { table: Table::Filter, chain: BuiltIn::Input, interface: LOOPBACK };
        done.extend(self.hook(input, back)?);
        Ok(done)
    }

    fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.program.local_addresses.contains(&address)
    }

    /// All ways on from a hook; those that were refused before do not get there.
    fn hook(&self, hook: Hook<'_>, courses: Vec<Course>) -> Result<Vec<Course>, TraceError> {
        let (mut done, alive): (Vec<_>, Vec<_>) = courses.into_iter().partition(Course::is_refused);
        let tables = &self.program.tables;
        let rules = tables.get(hook.table).jumps.get(&hook.chain);
        let rules = rules.map_or(&[][..], Vec::as_slice);
        let rest = self.rules(hook, rules, alive, &mut done, 0)?;
        done.extend(rest);
        Ok(done)
    }

    /// Takes `courses` through a chain's rules. Those that a verdict stops go to `ended`,
    /// those that come out at the end are returned.
    fn rules(
        &self,
        hook: Hook<'_>,
        rules: &[Rule],
        courses: Vec<Course>,
        ended: &mut Vec<Course>,
        depth: usize,
    ) -> Result<Vec<Course>, TraceError> {
        let mut here = courses;
        let mut out = Vec::new();
        for rule in rules {
            let mut next = Vec::new();
            for course in here {
                let chance = self.chance(hook, rule, &course)?;
                let (taken, passed) = split(course, chance);
                next.extend(passed);
                let Some(mut taken) = taken else { continue };
                match effect(hook, rule, &mut taken)? {
                    Effect::Continue => next.push(taken),
                    Effect::Return => out.push(taken),
                    Effect::End => ended.push(taken),
                    Effect::Jump(to) => next.extend(self.jump(hook, to, taken, ended, depth)?),
                }
            }
            here = next;
            if here.is_empty() {
                break;
            }
        }
        out.extend(here);
        Ok(out)
    }

    fn jump(
        &self,
        hook: Hook<'_>,
        to: ChainName,
        course: Course,
        ended: &mut Vec<Course>,
        depth: usize,
    ) -> Result<Vec<Course>, TraceError> {
        if depth == DEPTH_MAX {
            return Err(error(hook, format!("chains lead in a circle at {to}")));
        }
        let chains = &self.program.tables.get(hook.table).chains;
        let Some(chain) = chains.get(&to) else {
            return Err(error(hook, format!("there is no chain {to}")));
        };
        self.rules(hook, &chain.rules, vec![course], ended, depth + 1)
    }

    /// The probability that all matches of `rule` hold.
    fn chance(&self, hook: Hook<'_>, rule: &Rule, course: &Course) -> Result<f64, TraceError> {
        let mut chance = 1.0;
        for each in &rule.matches {
            chance *= match each {
                Match::Probability(share) => share.probability(),
                Match::Turn(every) => 1.0 / f64::from(*every),
                certain => f64::from(u8::from(self.holds(hook, rule, certain, course)?)),
            };
            if chance <= 0.0 {
                break;
            }
        }
        Ok(chance)
    }

    fn holds(
        &self,
        hook: Hook<'_>,
        rule: &Rule,
        each: &Match,
        course: &Course,
    ) -> Result<bool, TraceError> {
        let source = self.packet.source.ip();
        Ok(match each {
            Match::Comment(_) | Match::Remember(_) => true,
            // The list of a client never seen before is empty.
            Match::SeenWithin(..) => false,
            Match::Protocol(protocol) => self.packet.protocol == *protocol,
            Match::Source(address, sense) => sense.of(address.contains(source)),
            Match::Destination(address, sense) => {
                sense.of(address.contains(course.destination.ip()))
            }
            Match::DestinationPort(port) if has_protocol(rule) => {
                course.destination.port() == *port
            }
            Match::DestinationPort(_) => {
                return Err(error(hook, "a port is matched without a protocol".into()));
            }
            Match::InInterface(name, sense) if hook.chain != BuiltIn::Postrouting => {
                sense.of(is_interface(hook.interface, name))
            }
            Match::InInterface(..) => {
                return Err(error(hook, "an input interface is matched".into()));
            }
            Match::State(states, sense) => sense.of(states.iter().any(|s| course.is_in(*s))),
            Match::Mark(mask, sense) => sense.of(course.mark & mask == *mask),
            Match::SourceIsLocal => self.is_local(source),
            Match::DestinationIsLocal => self.is_local(course.destination.ip()),
            Match::Probability(_) | Match::Turn(_) => {
                return Err(error(hook, "chance was asked for certainty".into()));
            }
        })
    }
}

impl Sense {
    fn of(self, holds: bool) -> bool {
        holds == (self == Self::Is)
    }
}

impl Course {
    /// The packet is the first of its connection, whose destination may have been rewritten
    /// on the way (`xt_conntrack` looks at both).
    fn is_in(&self, state: State) -> bool {
        match state {
            State::New => true,
            State::Dnat => self.is_rewritten,
            State::Invalid | State::Related | State::Established => false,
        }
    }
}

/// The part of `course` that a rule takes, and the part that it does not.
fn split(course: Course, chance: f64) -> (Option<Course>, Option<Course>) {
    if chance <= 0.0 {
        return (None, Some(course));
    }
    if chance >= 1.0 {
        return (Some(course), None);
    }
    let part = |share| Course { share: course.share * share, ..course.clone() };
    (Some(part(chance)), Some(part(1.0 - chance)))
}

fn has_protocol(rule: &Rule) -> bool {
    rule.matches.iter().any(|m| matches!(m, Match::Protocol(_)))
}

/// A trailing `+` stands for any rest. Where there is no input interface, the kernel
/// compares with an empty name (`ip_packet_match`, `net/ipv4/netfilter/ip_tables.c`).
fn is_interface(interface: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(prefix) => interface.starts_with(prefix),
        None => interface == pattern,
    }
}

fn effect(hook: Hook<'_>, rule: &Rule, course: &mut Course) -> Result<Effect, TraceError> {
    let Some(target) = rule.target else {
        return Ok(Effect::Continue);
    };
    match (target, hook.table) {
        (Target::Jump(to), _) => return Ok(Effect::Jump(to)),
        (Target::Return, _) => return Ok(Effect::Return),
        (Target::SetMark(mask), _) => {
            course.mark |= mask;
            return Ok(Effect::Continue);
        }
        (Target::FlipMark(mask), _) => {
            course.mark ^= mask;
            return Ok(Effect::Continue);
        }
        (Target::Accept, Table::Filter) => course.verdict = Some(Verdict::Accept),
        (Target::Drop, Table::Filter) => course.verdict = Some(Verdict::Drop),
        (Target::Reject, Table::Filter) => course.verdict = Some(Verdict::Reject),
        (Target::Accept, Table::Nat) => {}
        (Target::Dnat(to), Table::Nat)
            if matches!(hook.chain, BuiltIn::Prerouting | BuiltIn::Output) =>
        {
            course.destination = to;
            course.is_rewritten = true;
        }
        (Target::Masquerade, Table::Nat) if hook.chain == BuiltIn::Postrouting => {
            course.is_masqueraded = true;
        }
        (other, _) => return Err(error(hook, format!("{other:?} cannot stand here"))),
    }
    Ok(Effect::End)
}

fn error(hook: Hook<'_>, what: String) -> TraceError {
    TraceError { place: format!("{} {}", hook.table, hook.chain), what }
}
