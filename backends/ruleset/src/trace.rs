//! What a table does to the first packet of a connection.
//!
//! A walk splits wherever chance decides: every number that a rule may draw is followed,
//! with its probability. The walk knows the shapes that rules in this house have; anything
//! else is an error, never a guess.
//!
//! Invariant: reads the table as the kernel would; knows nothing of who made it.

use crate::expr::{Expr, Generator, Match, Statement, Verdict};
use crate::render::FieldValue;
use crate::{Chain, Elements, Hook, Key, Row, Set, Table, Type, Value};
use nfc_backend::TraceError;
use nfc_ir::{Choice, Ingress, Outcome, Packet};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// How deep chains may lead into chains. The kernel allows 16 (`NFT_JUMP_STACK_SIZE`).
const DEPTH_MAX: usize = 16;

/// A packet on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Walker {
    /// Protocol, source and ingress as it came; the destination as it is now.
    pub packet: Packet,
    /// Whether the destination was rewritten.
    pub rewritten: bool,
    /// Its mark.
    pub mark: u32,
    /// Its priority.
    pub priority: u32,
    /// Whether the source is to be rewritten.
    pub masquerade: bool,
}

/// How a walk through one hook ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The packet goes on.
    Onward,
    /// It was dropped.
    Drop,
    /// It was refused.
    Reject,
}

/// One of the ways a packet may go, and how probable it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// The packet at the end.
    pub walker: Walker,
    /// How it ended.
    pub end: End,
    /// The probability.
    pub share: f64,
}

/// What becomes of `packet` on a node with these `addresses`: received ones meet
/// prerouting, then input or forward; the node's own meet output; all that leave meet
/// postrouting.
///
/// # Errors
///
/// [`TraceError`] for a shape that is not understood, and when chance decides between
/// outcomes of different kinds.
pub fn trace(table: &Table, addresses: &[IpAddr], packet: &Packet) -> Result<Outcome, TraceError> {
    let first = match packet.ingress {
        Ingress::Interface(_) => Hook::Prerouting,
        Ingress::Local => Hook::Output,
    };
    let mut ended = Vec::new();
    for way in walk_hook(table, addresses, first, Walker::new(packet))? {
        ended.extend(go_on(table, addresses, way)?);
    }
    outcome(ended)
}

/// The rest of the path after the destination is settled.
fn go_on(table: &Table, addresses: &[IpAddr], way: Way) -> Result<Vec<Way>, TraceError> {
    let destination = way.walker.packet.destination.ip();
    let to_node = addresses.contains(&destination) || destination.is_loopback();
    let hooks: &[Hook] = match way.walker.packet.ingress {
        Ingress::Local => &[Hook::Postrouting],
        Ingress::Interface(_) if to_node => &[Hook::Input],
        Ingress::Interface(_) => &[Hook::Forward, Hook::Postrouting],
    };
    let mut ways = vec![way];
    for hook in hooks {
        let mut next = Vec::new();
        for way in ways {
            if way.end == End::Onward {
                let on = walk_hook(table, addresses, *hook, way.walker)?;
                next.extend(on.into_iter().map(|w| Way { share: w.share * way.share, ..w }));
            } else {
                next.push(way);
            }
        }
        ways = next;
    }
    Ok(ways)
}

fn outcome(ways: Vec<Way>) -> Result<Outcome, TraceError> {
    let mut choices: BTreeMap<Choice, f64> = BTreeMap::new();
    let mut others = Vec::new();
    for way in ways {
        let Walker { packet, rewritten, masquerade, .. } = way.walker;
        match way.end {
            End::Onward if rewritten => {
                let choice = Choice { endpoint: packet.destination, masquerade };
                *choices.entry(choice).or_default() += way.share;
            }
            End::Onward => others.push(Outcome::Pass),
            End::Drop => others.push(Outcome::Drop),
            End::Reject => others.push(Outcome::Reject),
        }
    }
    match others.split_first() {
        None => Ok(Outcome::Balance(choices)),
        Some((first, rest)) if choices.is_empty() && rest.iter().all(|o| o == first) => {
            Ok(first.clone())
        }
        Some(_) => Err(unknown("table", "chance decides between outcomes of different kinds")),
    }
}

/// Walks through the base chains of one hook.
///
/// # Errors
///
/// [`TraceError`] for a shape that is not understood.
pub fn walk_hook(
    table: &Table,
    addresses: &[IpAddr],
    hook: Hook,
    walker: Walker,
) -> Result<Vec<Way>, TraceError> {
    let here = |chain: &Chain| chain.base.is_some_and(|b| b.hook == hook);
    let walk = Walk { table, addresses };
    let mut ways = vec![Way { walker, end: End::Onward, share: 1.0 }];
    for (name, chain) in table.listed_chains().filter(|(_, c)| here(c)) {
        let mut next = Vec::new();
        for way in ways {
            if way.end == End::Onward {
                let state = State { walker: way.walker, share: way.share };
                next.extend(walk.chain(name, chain, state, 0)?.into_iter().map(Step::ended));
            } else {
                next.push(way);
            }
        }
        ways = next;
    }
    Ok(ways)
}

impl Walker {
    /// A packet that nothing has touched yet.
    #[must_use]
    pub fn new(packet: &Packet) -> Self {
        Self { packet: packet.clone(), rewritten: false, mark: 0, priority: 0, masquerade: false }
    }
}

fn unknown(place: impl Into<String>, what: impl Into<String>) -> TraceError {
    TraceError { place: place.into(), what: what.into() }
}

/// A packet inside a chain.
#[derive(Clone, Debug)]
struct State {
    walker: Walker,
    share: f64,
}

/// What a rule or a chain leaves behind.
enum Step {
    /// On to the next statement or rule.
    Next(State),
    /// Back to the chain that jumped here.
    Return(State),
    /// The hook is over.
    End(State, End),
}

impl Step {
    /// The way that this is at the end of a base chain.
    fn ended(self) -> Way {
        let (state, end) = match self {
            Self::Next(state) | Self::Return(state) => (state, End::Onward),
            Self::End(state, end) => (state, end),
        };
        Way { walker: state.walker, end, share: state.share }
    }
}

struct Walk<'a> {
    table: &'a Table,
    addresses: &'a [IpAddr],
}

impl Walk<'_> {
    fn chain(
        &self,
        name: &str,
        chain: &Chain,
        state: State,
        depth: usize,
    ) -> Result<Vec<Step>, TraceError> {
        if depth > DEPTH_MAX {
            return Err(unknown(name, "chains lead into each other too deep"));
        }
        let mut done = Vec::new();
        let mut current = vec![state];
        for rule in &chain.rules {
            let mut next = Vec::new();
            for state in current {
                for step in self.rule(name, &rule.statements, state, depth)? {
                    match step {
                        Step::Next(state) => next.push(state),
                        over => done.push(over),
                    }
                }
            }
            current = next;
        }
        done.extend(current.into_iter().map(Step::Return));
        Ok(done)
    }

    fn rule(
        &self,
        chain: &str,
        statements: &[Statement],
        mut state: State,
        depth: usize,
    ) -> Result<Vec<Step>, TraceError> {
        for statement in statements {
            match statement {
                Statement::Match(test) => {
                    if !self.holds(chain, test, &state.walker)? {
                        break;
                    }
                }
                Statement::SetMark(bits) => state.walker.mark |= bits,
                Statement::ClearMark(bits) => state.walker.mark &= !bits,
                Statement::Masquerade => {
                    state.walker.masquerade = true;
                    return Ok(vec![Step::End(state, End::Onward)]);
                }
                Statement::Reject => return Ok(vec![Step::End(state, End::Reject)]),
                Statement::Verdict(verdict) => return self.follow(verdict, state, depth),
                Statement::Vmap { key, map } => {
                    let elements = self.elements(chain, map)?;
                    let key = plain_key(chain, key, &state.walker)?;
                    if let Some(row) = elements.get(key.bytes()) {
                        return self.follow(&Verdict::from_row(row.value), state, depth);
                    }
                    break;
                }
                Statement::Dnat { key, map } => return self.dnat(chain, key, map, &state),
                Statement::SetPriority { key, map } if !is_drawn(key) => {
                    let set = self.set(chain, map)?;
                    let Some(row) = self.found(chain, key, set, &state.walker)? else {
                        break;
                    };
                    state.walker.priority = self.number(row);
                }
                Statement::SetPriority { key, map } => {
                    return self.draw_priority(chain, key, map, &state, statements);
                }
                Statement::ClearPriority => state.walker.priority = 0,
                // A client never seen before is all that is traced: nothing that packets
                // leave in a map has been there before or is looked at again.
                Statement::Remember { .. } | Statement::Forget { .. } => {}
            }
        }
        Ok(vec![Step::Next(state)])
    }

    fn follow(
        &self,
        verdict: &Verdict,
        state: State,
        depth: usize,
    ) -> Result<Vec<Step>, TraceError> {
        let (name, returns) = match verdict {
            Verdict::Accept => return Ok(vec![Step::End(state, End::Onward)]),
            Verdict::Drop => return Ok(vec![Step::End(state, End::Drop)]),
            Verdict::Return => return Ok(vec![Step::Return(state)]),
            Verdict::Jump(name) => (name, true),
            Verdict::Goto(name) => (name, false),
        };
        let Some(chain) = self.table.chains.get(name) else {
            return Err(unknown(name, "there is no such chain"));
        };
        let steps = self.chain(name, chain, state, depth + 1)?;
        let back = |step| match step {
            Step::Return(state) if returns => Step::Next(state),
            other => other,
        };
        Ok(steps.into_iter().map(back).collect())
    }

    /// Rewrites the destination, for every slot that the rule may draw.
    fn dnat(
        &self,
        chain: &str,
        key: &[Expr],
        map: &str,
        state: &State,
    ) -> Result<Vec<Step>, TraceError> {
        let set = self.set(chain, map)?;
        let mut steps = Vec::new();
        for (mut state, row) in self.draw(chain, key, set, state)? {
            let Some(row) = row else {
                steps.push(Step::Next(state));
                continue;
            };
            state.walker.packet.destination = self.endpoint(chain, set, row)?;
            state.walker.rewritten = true;
            steps.push(Step::End(state, End::Onward));
        }
        Ok(steps)
    }

    /// Keeps a number that chance picks in the priority. The rule ends there.
    fn draw_priority(
        &self,
        chain: &str,
        key: &[Expr],
        map: &str,
        state: &State,
        statements: &[Statement],
    ) -> Result<Vec<Step>, TraceError> {
        let set = self.set(chain, map)?;
        if !statements.last().is_some_and(|s| matches!(s, Statement::SetPriority { .. })) {
            return Err(unknown(chain, "a rule goes on after a number was drawn"));
        }
        let drawn = self.draw(chain, key, set, state)?.into_iter().map(|(mut state, row)| {
            state.walker.priority = row.map_or(state.walker.priority, |row| self.number(row));
            Step::Next(state)
        });
        Ok(drawn.collect())
    }

    /// The number that a row leads to.
    fn number(&self, row: Row<'_>) -> u32 {
        let FieldValue::Class(number) = Type::Class.value(self.table.family, row.value) else {
            unreachable!("a field's value is of the field's type");
        };
        number
    }

    /// What is found under a key in which nothing is drawn.
    fn found<'s>(
        &self,
        chain: &str,
        key: &[Expr],
        set: &'s Set,
        walker: &Walker,
    ) -> Result<Option<Row<'s>>, TraceError> {
        if !protocols_match(key, walker) {
            return Ok(None);
        }
        Ok(set.elements.get(plain_key(chain, key, walker)?.bytes()))
    }

    /// What is found under the key: once, or for each number that the key may end in.
    fn draw<'s>(
        &self,
        chain: &str,
        key: &[Expr],
        set: &'s Set,
        state: &State,
    ) -> Result<Vec<(State, Option<Row<'s>>)>, TraceError> {
        let (Some((Expr::Number { modulus, .. }, plain)), true) =
            (key.split_last(), protocols_match(key, &state.walker))
        else {
            return Ok(vec![(state.clone(), self.found(chain, key, set, &state.walker)?)]);
        };
        let start = plain_key(chain, plain, &state.walker)?;
        let share = state.share / f64::from(*modulus);
        let found = |slot| {
            let state = State { share, ..state.clone() };
            (state, set.elements.get(start.number(slot).bytes()))
        };
        Ok((0..*modulus).map(found).collect())
    }

    fn endpoint(&self, chain: &str, set: &Set, row: Row<'_>) -> Result<SocketAddr, TraceError> {
        let Value::Data(fields) = &set.value else {
            return Err(unknown(chain, "a dnat through a map without data"));
        };
        let family = self.table.family;
        let ([Type::Address, Type::Port], Some(port)) =
            (fields.types().as_slice(), row.value.get(Type::Address.padded_len(family)..))
        else {
            return Err(unknown(chain, "a dnat to something else than address and port"));
        };
        let values = (Type::Address.value(family, row.value), Type::Port.value(family, port));
        let (FieldValue::Address(ip), FieldValue::Port(port)) = values else {
            unreachable!("a field's value is of the field's type");
        };
        Ok(SocketAddr::new(ip, port))
    }

    fn set(&self, chain: &str, name: &str) -> Result<&Set, TraceError> {
        let set = self.table.sets.get(name);
        set.ok_or_else(|| unknown(chain, format!("there is no set {name}")))
    }

    fn elements(&self, chain: &str, name: &str) -> Result<&Elements, TraceError> {
        self.set(chain, name).map(|set| &set.elements)
    }

    fn holds(&self, chain: &str, test: &Match, walker: &Walker) -> Result<bool, TraceError> {
        let Walker { packet, rewritten, mark, .. } = walker;
        let (source, destination) = (packet.source.ip(), packet.destination.ip());
        let is_local = |ip: IpAddr| ip.is_loopback() || self.addresses.contains(&ip);
        Ok(match test {
            Match::Saddr { not, block } => block.contains(&source) != *not,
            Match::Daddr { not, block } => block.contains(&destination) != *not,
            Match::Iifname { not, name, prefix } => {
                // A packet without an incoming interface has the empty name
                // (`net/netfilter/nft_meta.c`, `nft_meta_store_ifname`).
                let own = match &packet.ingress {
                    Ingress::Interface(own) => own.as_str(),
                    Ingress::Local => "",
                };
                let is = if *prefix { own.starts_with(name.as_str()) } else { own == name };
                is != *not
            }
            Match::Mark(mask) => mark & mask != 0,
            Match::PriorityBits { mask, value } => walker.priority & mask == *value,
            Match::SaddrLocal => is_local(source),
            Match::DaddrLocal => is_local(destination),
            Match::CtStatusDnat => *rewritten,
            Match::CtStateNew => true,
            Match::L4proto(protocol) => packet.protocol == *protocol,
            Match::In { not, key, set } => {
                let set = self.set(chain, set)?;
                let key = plain_key(chain, key, walker)?;
                let found = if set.interval {
                    in_ranges(self.table, set, key.bytes())
                } else {
                    set.elements.get(key.bytes()).is_some()
                };
                found != *not
            }
        })
    }
}

/// Whether some element's ranges hold every field of the key.
fn in_ranges(table: &Table, set: &Set, key: &[u8]) -> bool {
    let types = set.key.types();
    set.elements.iter().any(|row| {
        let (first, last) = row.key.split_at(row.key.len() / 2);
        let mut at = 0;
        types.iter().all(|field| {
            let value = |bytes: &[u8]| field.value(table.family, &bytes[at..]);
            let inside = (value(first)..=value(last)).contains(&value(key));
            at += field.padded_len(table.family);
            inside
        })
    })
}

/// Whether the key ends in a number that is drawn.
fn is_drawn(key: &[Expr]) -> bool {
    matches!(key.last(), Some(Expr::Number { .. }))
}

/// A port field of a named protocol tests the protocol before it is read.
fn protocols_match(key: &[Expr], walker: &Walker) -> bool {
    key.iter().all(|field| match field {
        Expr::Sport(crate::Transport::Of(p)) | Expr::Dport(crate::Transport::Of(p)) => {
            *p == walker.packet.protocol
        }
        _ => true,
    })
}

/// The key that these fields of the packet make.
fn plain_key(chain: &str, key: &[Expr], walker: &Walker) -> Result<Key, TraceError> {
    let packet = &walker.packet;
    key.iter().try_fold(Key::new(), |made, field| {
        Ok(match field {
            Expr::Saddr => made.addr(packet.source.ip()),
            Expr::SaddrTail => match packet.source.ip() {
                IpAddr::V6(ip) => made.raw(&ip.octets()[4..]),
                IpAddr::V4(_) => return Err(unknown(chain, "IPv4 addresses have no tail")),
            },
            Expr::Daddr => made.addr(packet.destination.ip()),
            Expr::L4proto => made.proto(packet.protocol),
            Expr::Priority => made.number(walker.priority),
            Expr::PriorityBits(mask) => made.number(walker.priority & mask),
            Expr::Sport(_) => made.port(packet.source.port()),
            Expr::Dport(_) => made.port(packet.destination.port()),
            Expr::Number { generator: Generator::Random, .. } => {
                return Err(unknown(chain, "chance decides about a verdict"));
            }
            Expr::Number { .. } => return Err(unknown(chain, "a hash decides about a verdict")),
        })
    })
}
