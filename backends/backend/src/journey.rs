//! A packet's journey through rules that were read from a listing, with everything it met.
//!
//! A backend that can read its tool's listing says what each hook makes of a packet
//! ([`Rules`]); the order of the hooks is the kernel's and the same for all, so it stands
//! here ([`journey`]). Where chance decides, the journey goes on every way.
//!
//! The packet is the first of its connection. Order of the hooks:
//! `include/uapi/linux/netfilter.h`, and for what a node sends to itself
//! `net/ipv4/ip_output.c` (the loopback link brings it back to PREROUTING and INPUT).
//!
//! Invariant: knows hooks, and how no rule is spelled.

use nfc_ir::{Choice, Ingress, Outcome, Packet};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The interface over which a node talks to itself.
const LOOPBACK: &str = "lo";

/// A rule that a packet met and that did something with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Visit {
    /// The hook at which the packet was.
    pub hook: Hook,
    /// The table: `nat`, `ip nfc`, `ipvs`.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule, as it stands in the listing.
    pub rule: String,
    /// The elements of sets and maps that decided, as they stand in the listing.
    pub elements: Vec<String>,
    /// Line of the listing, counted from 1; 0 for a rule that the listing leaves out and
    /// that is known to be there.
    pub line: usize,
}

/// A hook of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// A packet was received.
    Prerouting,
    /// It is for the node.
    Input,
    /// It goes on to somebody else.
    Forward,
    /// The node sends it.
    Output,
    /// It leaves.
    Postrouting,
}

impl Hook {
    /// All hooks, in the order of the enum.
    pub const ALL: [Self; 5] =
        [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting];

    /// Its name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One way that a packet may go.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// Its probability.
    pub share: f64,
    /// What it met, in order.
    pub visits: Vec<Visit>,
    /// How it ended.
    pub end: End,
}

/// How a way ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// At an endpoint.
    Endpoint(Choice),
    /// Refused with an ICMP error.
    Reject,
    /// Dropped in silence.
    Drop,
    /// Let through by a rule.
    Accept,
    /// No rule decided about it.
    Pass,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(Choice { endpoint, masquerade }) => {
                let masquerade = if *masquerade { " masqueraded" } else { "" };
                write!(f, "{endpoint}{masquerade}")
            }
            Self::Reject => f.write_str("reject"),
            Self::Drop => f.write_str("drop"),
            Self::Accept => f.write_str("accept"),
            Self::Pass => f.write_str("pass"),
        }
    }
}

/// The outcome that ways make together; `None` when chance decides between outcomes of
/// different kinds, which no single [`Outcome`] says.
#[must_use]
pub fn outcome(ways: &[Way]) -> Option<Outcome> {
    let mut choices: BTreeMap<Choice, f64> = BTreeMap::new();
    let mut others = Vec::new();
    for way in ways {
        match way.end {
            End::Endpoint(choice) => *choices.entry(choice).or_default() += way.share,
            End::Reject => others.push(Outcome::Reject),
            End::Drop => others.push(Outcome::Drop),
            End::Accept => others.push(Outcome::Accept),
            End::Pass => others.push(Outcome::Pass),
        }
    }
    others.dedup();
    match (choices.is_empty(), others.as_slice()) {
        (false, []) => Some(Outcome::Balance(choices)),
        (true, [only]) => Some(only.clone()),
        _ => None,
    }
}

/// A listing that cannot be followed: it cannot be read, or the packet met something whose
/// effect is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ListingError {
    /// Line of the listing, counted from 1.
    pub line: usize,
    /// What is not understood.
    pub what: String,
}

/// A packet on its way.
#[derive(Clone, Debug)]
pub struct Course {
    /// Protocol and source as they came; the destination as it is now.
    pub packet: Packet,
    /// Probability of this way.
    pub share: f64,
    /// Whether the destination was rewritten.
    pub is_rewritten: bool,
    /// Whether the source was rewritten.
    pub is_masqueraded: bool,
    /// The packet mark.
    pub mark: u32,
    /// The packet's priority.
    pub priority: u32,
    /// What was decided about it, as far as something was.
    pub verdict: Option<Verdict>,
    /// What it met.
    pub visits: Vec<Visit>,
}

/// What a rule may decide about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It is discarded.
    Drop,
    /// It is refused.
    Reject,
}

impl Course {
    fn new(packet: &Packet) -> Self {
        Self {
            packet: packet.clone(),
            share: 1.0,
            is_rewritten: false,
            is_masqueraded: false,
            mark: 0,
            priority: 0,
            verdict: None,
            visits: Vec::new(),
        }
    }

    /// The same packet on a way with a probability of `share` among those that go on here.
    #[must_use]
    pub fn part(&self, share: f64) -> Self {
        Self { share: self.share * share, ..self.clone() }
    }

    /// Whether it goes no further.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.verdict, Some(Verdict::Drop | Verdict::Reject))
    }

    /// Gives it a new destination.
    pub fn rewrite(&mut self, destination: SocketAddr) {
        self.packet.destination = destination;
        self.is_rewritten = true;
    }

    fn end(self) -> Way {
        let choice = Choice { endpoint: self.packet.destination, masquerade: self.is_masqueraded };
        let end = match self.verdict {
            Some(Verdict::Drop) => End::Drop,
            Some(Verdict::Reject) => End::Reject,
            _ if self.is_rewritten => End::Endpoint(choice),
            Some(Verdict::Accept) => End::Accept,
            None => End::Pass,
        };
        Way { share: self.share, visits: self.visits, end }
    }
}

/// Where a packet is, for rules that ask.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The hook.
    pub hook: Hook,
    /// The interface it came in through; empty where there is none.
    pub interface: &'a str,
    /// Whether it has been through the hooks before, and now comes back over the loopback
    /// link: the nat chains are not asked again.
    pub is_back: bool,
    /// The node's addresses.
    pub addresses: &'a [IpAddr],
}

impl Place<'_> {
    /// Whether `address` is the node's own; every loopback address is.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }
}

/// Rules that a packet can be sent through.
pub trait Rules {
    /// All ways on from a hook, for a packet that has not been refused.
    ///
    /// # Errors
    ///
    /// [`ListingError`] when the packet meets something that is not understood.
    fn pass(&self, place: Place<'_>, course: Course) -> Result<Vec<Course>, ListingError>;

    /// Whether packets to `address` are the node's because these rules make them so.
    fn binds(&self, _address: IpAddr) -> bool {
        false
    }
}

/// Sends `packet` through `rules`, on a node with these `addresses`.
///
/// # Errors
///
/// [`ListingError`] when the packet meets something that is not understood.
pub fn journey(
    rules: &dyn Rules,
    addresses: &[IpAddr],
    packet: &Packet,
) -> Result<Vec<Way>, ListingError> {
    let start = vec![Course::new(packet)];
    let travel = Travel { rules, addresses };
    let ended = match &packet.ingress {
        Ingress::Interface(name) => travel.received(name, start)?,
        Ingress::Local => travel.sent(start)?,
    };
    Ok(ended.into_iter().map(Course::end).collect())
}

struct Travel<'a> {
    rules: &'a dyn Rules,
    addresses: &'a [IpAddr],
}

impl<'a> Travel<'a> {
    fn at(&self, hook: Hook, interface: &'a str) -> Place<'a> {
        Place { hook, interface, is_back: false, addresses: self.addresses }
    }

    fn received(&self, name: &'a str, start: Vec<Course>) -> Result<Vec<Course>, ListingError> {
        let routed = self.hook(self.at(Hook::Prerouting, name), start)?;
        let (inward, through) = self.split(routed);
        let delivered = self.hook(self.at(Hook::Input, name), inward)?;
        // IPVS sends on from here what it takes: that leaves.
        let (mut done, taken) = self.split(delivered);
        let forwarded = self.hook(self.at(Hook::Forward, name), through)?;
        let leaving = taken.into_iter().chain(forwarded).collect();
        done.extend(self.hook(self.at(Hook::Postrouting, ""), leaving)?);
        Ok(done)
    }

    fn sent(&self, start: Vec<Course>) -> Result<Vec<Course>, ListingError> {
        let allowed = self.hook(self.at(Hook::Output, ""), start)?;
        let gone = self.hook(self.at(Hook::Postrouting, ""), allowed)?;
        let (back, mut done) = self.split(gone);
        let again = |hook| Place { is_back: true, ..self.at(hook, LOOPBACK) };
        let back = self.hook(again(Hook::Prerouting), back)?;
        done.extend(self.hook(again(Hook::Input), back)?);
        Ok(done)
    }

    /// Those for the node, and those for somebody else.
    fn split(&self, courses: Vec<Course>) -> (Vec<Course>, Vec<Course>) {
        let is_for_node = |course: &Course| {
            let ip = course.packet.destination.ip();
            let own = ip.is_loopback() || self.addresses.contains(&ip) || self.rules.binds(ip);
            own || course.is_refused()
        };
        courses.into_iter().partition(is_for_node)
    }

    /// All ways on from a hook; those that were refused before do not get there.
    fn hook(&self, place: Place<'_>, all: Vec<Course>) -> Result<Vec<Course>, ListingError> {
        let mut done = Vec::new();
        for course in all {
            if course.is_refused() {
                done.push(course);
            } else {
                done.extend(self.rules.pass(place, course)?);
            }
        }
        Ok(done)
    }
}
