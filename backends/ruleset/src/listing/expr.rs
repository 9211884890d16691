//! What an expression gives for a packet: a field of it, a number that is drawn.
//!
//! Invariant: an expression that is not known is told apart from one that has no value.

use super::token::Token;
use nfc_backend::journey::{Course, Hook, Place};
use nfc_ir::Family;
use std::net::IpAddr;

/// The words of a rule, and how far they were read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    words: &'a [Token],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(words: &'a [Token]) -> Self {
        Self { words, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.words.get(self.at)
    }

    pub(super) fn next(&mut self) -> Option<&'a Token> {
        let word = self.peek()?;
        self.at += 1;
        Some(word)
    }

    /// Goes past `word` if it is next.
    pub(super) fn takes(&mut self, word: &str) -> bool {
        let is = self.peek().is_some_and(|token| token.is(word));
        self.at += usize::from(is);
        is
    }

    /// Goes past one of `words` if it is next.
    pub(super) fn takes_any(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.takes(word))
    }

    /// The next word as a number.
    pub(super) fn number(&mut self) -> Option<u32> {
        number(&self.next()?.text)
    }

    /// The words between two braces.
    pub(super) fn block(&mut self) -> Option<&'a [Token]> {
        if !self.takes("{") {
            return None;
        }
        let start = self.at;
        while !self.next()?.is("}") {}
        Some(&self.words[start..self.at - 1])
    }
}

/// A number as nft prints it: decimal, after `0x`, or a class in two parts.
pub(super) fn number(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u32::from_str_radix(hex, 16).ok();
    }
    if let Some((major, minor)) = text.split_once(':') {
        let part = |text: &str| if text.is_empty() { Ok(0) } else { u32::from_str_radix(text, 16) };
        return Some(part(major).ok()? << 16 | part(minor).ok()?);
    }
    if text == "none" { Some(0) } else { text.parse().ok() }
}

/// One field of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// This, as a listing would write it.
    Is(String),
    /// The packet's mark.
    Mark(u32),
    /// The packet's priority.
    Priority(u32),
    /// A number below this one, by chance or by a hash of something.
    Drawn(u32),
    /// The packet has no such field, so that the rule does not match.
    Never,
}

impl Part {
    /// As the field of an element would be written.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Is(text) => text.clone(),
            Self::Mark(mark) => format!("{mark:#010x}"),
            Self::Priority(class) => format!("{:x}:{:x}", class >> 16, class & 0xffff),
            Self::Drawn(_) | Self::Never => String::new(),
        }
    }
}

/// Reads one expression or several joined by dots. `None` for words that are no expression
/// known here.
pub(super) fn key(cursor: &mut Cursor<'_>, place: Place<'_>, course: &Course) -> Option<Vec<Part>> {
    let mut parts = vec![part(cursor, place, course)?];
    while cursor.takes(".") {
        parts.push(part(cursor, place, course)?);
    }
    Some(parts)
}

fn part(cursor: &mut Cursor<'_>, place: Place<'_>, course: &Course) -> Option<Part> {
    let packet = &course.packet;
    let word = cursor.next().filter(|word| !word.is_quoted)?;
    Some(match word.text.as_str() {
        "ip" => of_family(cursor, course, Family::Ipv4)?,
        "ip6" => of_family(cursor, course, Family::Ipv6)?,
        protocol @ ("th" | "tcp" | "udp" | "sctp") => {
            let port = match cursor.next()?.text.as_str() {
                "sport" => packet.source.port(),
                "dport" => packet.destination.port(),
                _ => return None,
            };
            let has = protocol == "th" || protocol == packet.protocol.name();
            if has { Part::Is(port.to_string()) } else { Part::Never }
        }
        "meta" => masked(meta(&cursor.next()?.text, place, course)?, cursor)?,
        "numgen" => {
            let known = cursor.takes_any(&["random", "inc"]);
            modulus(cursor).filter(|_| known)?
        }
        "jhash" => {
            key(cursor, place, course)?;
            modulus(cursor)?
        }
        "symhash" => modulus(cursor)?,
        "@nh" => header(cursor, course)?,
        "fib" => fib(cursor, place, course)?,
        "ct" => connection(cursor, course)?,
        bare => masked(meta(bare, place, course)?, cursor)?,
    })
}

/// A mark or priority, of which a mask may leave only some bits.
fn masked(part: Part, cursor: &mut Cursor<'_>) -> Option<Part> {
    if !cursor.takes_any(&["&", "and"]) {
        return Some(part);
    }
    let mask = cursor.number()?;
    match part {
        Part::Mark(mark) => Some(Part::Mark(mark & mask)),
        Part::Priority(priority) => Some(Part::Priority(priority & mask)),
        Part::Is(_) | Part::Drawn(_) | Part::Never => None,
    }
}

fn of_family(cursor: &mut Cursor<'_>, course: &Course, family: Family) -> Option<Part> {
    let (source, destination) = (course.packet.source.ip(), course.packet.destination.ip());
    let text = match cursor.next()?.text.as_str() {
        "saddr" => source.to_string(),
        "daddr" => destination.to_string(),
        "protocol" | "nexthdr" => course.packet.protocol.to_string(),
        _ => return None,
    };
    Some(if Family::of(destination) == family { Part::Is(text) } else { Part::Never })
}

/// `@nh,96,96`: so many bits of the network header from a bit on. Only the addresses are
/// known here.
fn header(cursor: &mut Cursor<'_>, course: &Course) -> Option<Part> {
    let mut number = || {
        let comma = cursor.takes(",");
        cursor.number().filter(|bits| comma && bits % 8 == 0).map(|bits| bits as usize / 8)
    };
    let (start, length) = (number()?, number()?);
    let (source, destination) = (course.packet.source.ip(), course.packet.destination.ip());
    let addresses = [source, destination].into_iter().flat_map(|ip| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    });
    // Where the source address stands: RFC 791, section 3.1, and RFC 8200, section 3.
    let before = if source.is_ipv4() { 12 } else { 8 };
    let bytes: Vec<_> = addresses.skip(start.checked_sub(before)?).take(length).collect();
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (bytes.len() == length).then(|| Part::Is(format!("0x{digits}")))
}

fn meta(name: &str, place: Place<'_>, course: &Course) -> Option<Part> {
    let is_v4 = course.packet.destination.is_ipv4();
    Some(match name {
        "l4proto" => Part::Is(course.packet.protocol.to_string()),
        "mark" => Part::Mark(course.mark),
        "priority" => Part::Priority(course.priority),
        "nfproto" => Part::Is(if is_v4 { "ipv4" } else { "ipv6" }.to_owned()),
        "protocol" => Part::Is(if is_v4 { "ip" } else { "ip6" }.to_owned()),
        // A packet without an incoming interface has the empty name
        // (`net/netfilter/nft_meta.c`, `nft_meta_store_ifname`).
        "iifname" | "iif" if place.hook != Hook::Postrouting => {
            Part::Is(place.interface.to_owned())
        }
        _ => return None,
    })
}

/// `mod 3`, with a seed or an offset of nothing behind it.
fn modulus(cursor: &mut Cursor<'_>) -> Option<Part> {
    let known = cursor.takes("mod");
    let modulus = cursor.number().filter(|n| known && *n > 0)?;
    if cursor.takes("seed") {
        cursor.number()?;
    }
    if cursor.takes("offset") {
        cursor.number().filter(|offset| *offset == 0)?;
    }
    Some(Part::Drawn(modulus))
}

fn fib(cursor: &mut Cursor<'_>, place: Place<'_>, course: &Course) -> Option<Part> {
    let address: IpAddr = match cursor.next()?.text.as_str() {
        "saddr" => course.packet.source.ip(),
        "daddr" => course.packet.destination.ip(),
        _ => return None,
    };
    let local = if place.owns(address) { "local" } else { "unicast" };
    cursor.takes("type").then(|| Part::Is(local.to_owned()))
}

/// The packet is the first of its connection, in its original direction.
fn connection(cursor: &mut Cursor<'_>, course: &Course) -> Option<Part> {
    let status = match (course.is_rewritten, course.is_masqueraded) {
        (true, _) => "dnat",
        (false, true) => "snat",
        (false, false) => "none",
    };
    let text = match cursor.next()?.text.as_str() {
        "state" => "new",
        "status" => status,
        "direction" => "original",
        _ => return None,
    };
    Some(Part::Is(text.to_owned()))
}
