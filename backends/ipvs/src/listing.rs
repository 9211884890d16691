//! Virtual servers read from text: what `ipvsadm --save -n` prints, and the script that
//! [`render`](crate::render) prints, with its companion table and bound addresses.
//!
//! IPVS takes packets for the node at LOCAL_IN (priority 99) and the node's own at LOCAL_OUT
//! (-98) (`net/netfilter/ipvs/ip_vs_core.c`, `ip_vs_ops4` and `ip_vs_ops6`).
//!
//! Invariant: keeps every line's own words and number.

use crate::names;
use nfc_backend::journey::{
    Course, Hook, ListingError, Place, Rules, Verdict, Visit, Way, journey,
};
use nfc_backend::{Process, Question};
use nfc_ir::{Family, Packet, Protocol};
use nfc_ruleset::listing::{self, Listing};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Where IPVS takes packets that come in.
const AT_INPUT: i32 = 99;

/// Where it takes the node's own.
const AT_OUTPUT: i32 = -98;

/// Asks for the virtual servers, and for the companion table.
pub(crate) fn questions(family: Family) -> Vec<Question> {
    let args = ["--save", "-n"].map(str::to_owned).into();
    let servers = Process { program: "ipvsadm", args, stdin: String::new() };
    vec![Question::Process(servers), listing::question(family, names::TABLE)]
}

/// Every way of `packet` through what `text` lists.
pub(crate) fn explain(
    text: &str,
    addresses: &[IpAddr],
    packet: &Packet,
) -> Result<Vec<Way>, ListingError> {
    journey(&read(text)?, addresses, packet)
}

#[derive(Default)]
struct Script {
    companion: Listing,
    servers: BTreeMap<(Protocol, SocketAddr), Server>,
    bound: BTreeSet<IpAddr>,
}

struct Server {
    line: usize,
    text: String,
    /// Whether all real servers get the same, whatever their weights.
    is_even: bool,
    reals: Vec<Real>,
}

struct Real {
    line: usize,
    text: String,
    address: SocketAddr,
    weight: u32,
}

fn read(text: &str) -> Result<Script, ListingError> {
    let mut script = Script::default();
    // What is not nft's becomes an empty line, so that the lines keep their numbers.
    let mut companion = String::new();
    let mut is_nft = false;
    for (line, words) in (1..).zip(text.lines()) {
        is_nft |= words.starts_with("table ");
        companion.push_str(if is_nft { words } else { "" });
        companion.push('\n');
        if !is_nft {
            script.read_line(line, words.trim())?;
        }
        is_nft &= words != "}";
    }
    if !companion.trim().is_empty() {
        script.companion = listing::read(&companion)?;
    }
    if script.servers.is_empty() && companion.trim().is_empty() {
        let what = "the listing holds no virtual server; expected the output of ipvsadm --save -n";
        return Err(ListingError { line: 1, what: what.to_owned() });
    }
    if script.bound.is_empty() {
        // A packet reaches IPVS only at an address of the node.
        script.bound = script.servers.keys().map(|(_, address)| address.ip()).collect();
    }
    Ok(script)
}

impl Script {
    fn read_line(&mut self, line: usize, text: &str) -> Result<(), ListingError> {
        let words: Vec<_> = text.split_whitespace().collect();
        let unknown = || ListingError { line, what: format!("this is not understood: {text}") };
        match words.as_slice() {
            ["-A", option, address, rest @ ..] => {
                let key = key(option, address).ok_or_else(unknown)?;
                let is_even = value(rest, "-s").is_none_or(|scheduler| scheduler == "rr");
                let text = text.to_owned();
                self.servers.insert(key, Server { line, text, is_even, reals: Vec::new() });
            }
            ["-a", option, address, rest @ ..] => {
                let server = key(option, address).and_then(|key| self.servers.get_mut(&key));
                let real = value(rest, "-r").and_then(|real| real.parse().ok());
                let weight = value(rest, "-w").map_or(Some(1), |weight| weight.parse().ok());
                let (server, address) = server.zip(real).ok_or_else(unknown)?;
                let weight = weight.ok_or_else(unknown)?;
                server.reals.push(Real { line, text: text.to_owned(), address, weight });
            }
            ["route", "replace", "local", address, ..] => {
                self.bound.insert(address.parse().map_err(|_| unknown())?);
            }
            // The rest of a script loads what stands on these lines.
            _ => {}
        }
        Ok(())
    }

    /// Sends a packet for a virtual server to each of its real servers. A virtual server
    /// without any answers "port unreachable" (`ip_vs_leave`).
    fn schedule(&self, place: Place<'_>, mut course: Course) -> Vec<Course> {
        let key = (course.packet.protocol, course.packet.destination);
        let Some(server) = self.servers.get(&key).filter(|_| !course.is_refused()) else {
            return vec![course];
        };
        let visit = |line: usize, rule: &str| Visit {
            hook: place.hook,
            table: "ipvs".to_owned(),
            chain: key.1.to_string(),
            rule: rule.to_owned(),
            elements: Vec::new(),
            line,
        };
        course.visits.push(visit(server.line, &server.text));
        let weight = |real: &Real| match (real.weight, server.is_even) {
            (0, _) => 0.0,
            (_, true) => 1.0,
            (weight, false) => f64::from(weight),
        };
        let total: f64 = server.reals.iter().map(weight).sum();
        if total == 0.0 {
            course.verdict = Some(Verdict::Reject);
            return vec![course];
        }
        let chosen = server.reals.iter().filter(|real| real.weight > 0);
        let sent = chosen.map(|real| {
            let mut part = course.part(weight(real) / total);
            part.visits.push(visit(real.line, &real.text));
            part.rewrite(real.address);
            part
        });
        sent.collect()
    }
}

impl Rules for Script {
    fn pass(&self, place: Place<'_>, course: Course) -> Result<Vec<Course>, ListingError> {
        let at = match place.hook {
            Hook::Input => AT_INPUT,
            Hook::Output => AT_OUTPUT,
            Hook::Prerouting | Hook::Forward | Hook::Postrouting => i32::MAX,
        };
        let mut done = Vec::new();
        for course in self.companion.pass_between(place, i32::MIN, at, course)? {
            let scheduled =
                if at == i32::MAX { vec![course] } else { self.schedule(place, course) };
            for course in scheduled {
                if course.is_refused() {
                    done.push(course);
                } else {
                    done.extend(self.companion.pass_between(place, at, i32::MAX, course)?);
                }
            }
        }
        Ok(done)
    }

    fn binds(&self, address: IpAddr) -> bool {
        self.bound.contains(&address)
    }
}

fn key(option: &str, address: &str) -> Option<(Protocol, SocketAddr)> {
    let protocol = match option {
        "-t" | "--tcp-service" => Protocol::Tcp,
        "-u" | "--udp-service" => Protocol::Udp,
        "--sctp-service" => Protocol::Sctp,
        _ => return None,
    };
    Some((protocol, address.parse().ok()?))
}

/// The word behind `option`.
fn value<'a>(words: &[&'a str], option: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == option)?;
    words.get(at + 1).copied()
}
