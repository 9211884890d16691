//! Whether the matches of a rule hold for a packet, from their words.
//!
//! Invariant: what is not known is told apart from what does not hold.

use super::Rule;
use nfc_backend::journey::{Course, Hook, Place};
use nfc_ir::Protocol;
use std::net::IpAddr;

/// What the matches of a rule say about a packet.
pub(super) struct Judgement<'a> {
    /// The probability that all of them hold.
    pub(super) chance: f64,
    /// The words of the first match that is not understood.
    pub(super) unknown: Option<&'a str>,
    /// The target's words, the option before it first.
    pub(super) target: &'a [String],
}

/// Judges the matches of `rule`. One that does not hold settles the matter, whatever the
/// others are.
pub(super) fn judge<'a>(rule: &'a Rule, place: Place<'_>, course: &Course) -> Judgement<'a> {
    let is_target = |word: &String| matches!(word.as_str(), "-j" | "--jump" | "-g" | "--goto");
    let cut = rule.words.iter().position(is_target).unwrap_or(rule.words.len());
    let (matches, target) = rule.words.split_at(cut);
    let mut judged = Judgement { chance: 1.0, unknown: None, target };
    let mut words = Words { words: matches, at: 0 };
    while let Some(word) = words.next() {
        let is_not = word == "!";
        let option = if is_not { words.next().unwrap_or_default() } else { word };
        match said(option, &mut words, place, course) {
            Said::Holds(holds) if holds == is_not => judged.chance = 0.0,
            Said::Chance(share) => judged.chance *= if is_not { 1.0 - share } else { share },
            Said::Unknown => {
                judged.unknown = judged.unknown.or(Some(option));
                words.skip_values();
            }
            Said::Holds(_) | Said::Nothing => {}
        }
    }
    judged
}

/// What one option says.
enum Said {
    Holds(bool),
    Chance(f64),
    /// It is part of another option, or says nothing about packets.
    Nothing,
    Unknown,
}

/// The words of a rule's matches.
struct Words<'a> {
    words: &'a [String],
    at: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    fn value(&mut self) -> &'a str {
        self.next().unwrap_or_default()
    }

    /// Passes over what belongs to an option that is not known.
    fn skip_values(&mut self) {
        let is_value = |word: &String| !word.starts_with('-') && word != "!";
        while self.words.get(self.at).is_some_and(is_value) {
            self.at += 1;
        }
    }
}

fn said(option: &str, words: &mut Words<'_>, place: Place<'_>, course: &Course) -> Said {
    let packet = &course.packet;
    let (source, destination) = (packet.source, packet.destination);
    match option {
        "-m" | "--match" | "--comment" | "--mode" | "--packet" | "--name" | "--seconds"
        | "--hitcount" | "--mask" => {
            words.value();
            Said::Nothing
        }
        "--set" | "--reap" | "--rsource" | "--rdest" => Said::Nothing,
        // The lists of a client that was never seen before are empty.
        "--rcheck" | "--update" => Said::Holds(false),
        "-p" | "--protocol" => is_protocol(words.value(), packet.protocol),
        "-s" | "--source" | "--src" => is_address(words.value(), source.ip()),
        "-d" | "--destination" | "--dst" => is_address(words.value(), destination.ip()),
        "--dport" | "--dports" | "--destination-port" | "--destination-ports" => {
            is_port(words.value(), destination.port())
        }
        "--sport" | "--sports" | "--source-port" | "--source-ports" => {
            is_port(words.value(), source.port())
        }
        "-i" | "--in-interface" if place.hook != Hook::Postrouting => {
            Said::Holds(is_interface(place.interface, words.value()))
        }
        "--ctstate" | "--state" => is_state(words.value(), course),
        "--mark" => is_mark(words.value(), course.mark),
        "--src-type" => is_type(words.value(), place, source.ip()),
        "--dst-type" => is_type(words.value(), place, destination.ip()),
        "--probability" => words.value().parse().map_or(Said::Unknown, Said::Chance),
        "--every" => words.value().parse().map_or(Said::Unknown, |n: f64| Said::Chance(1.0 / n)),
        _ => Said::Unknown,
    }
}

fn is_protocol(text: &str, protocol: Protocol) -> Said {
    let number = protocol.number().to_string();
    Said::Holds(text == protocol.name() || text == number || text == "all")
}

/// A list of addresses and blocks.
fn is_address(text: &str, address: IpAddr) -> Said {
    let mut holds = false;
    for part in text.split(',') {
        let whole = part.parse::<IpAddr>().map(|ip| ip == address).ok();
        let block = || part.parse::<ipnet::IpNet>().map(|net| net.contains(&address)).ok();
        let Some(is) = whole.or_else(block) else { return Said::Unknown };
        holds |= is;
    }
    Said::Holds(holds)
}

/// A list of ports and ranges of them.
fn is_port(text: &str, port: u16) -> Said {
    let mut holds = false;
    for part in text.split(',') {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
            return Said::Unknown;
        };
        holds |= (first..=last).contains(&port);
    }
    Said::Holds(holds)
}

/// A trailing `+` stands for any rest. Where there is no input interface, the kernel
/// compares with an empty name (`ip_packet_match`, `net/ipv4/netfilter/ip_tables.c`).
fn is_interface(interface: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(prefix) => interface.starts_with(prefix),
        None => interface == pattern,
    }
}

/// The packet is the first of its connection, whose destination may have been rewritten.
fn is_state(text: &str, course: &Course) -> Said {
    let mut holds = false;
    for state in text.split(',') {
        holds |= match state {
            "NEW" => true,
            "DNAT" => course.is_rewritten,
            "SNAT" => course.is_masqueraded,
            "INVALID" | "RELATED" | "ESTABLISHED" | "UNTRACKED" => false,
            _ => return Said::Unknown,
        };
    }
    Said::Holds(holds)
}

/// `value/mask`, or a value that is compared as a whole.
fn is_mark(text: &str, mark: u32) -> Said {
    match value_and_mask(text) {
        Some((value, mask)) => Said::Holds(mark & mask == value),
        None => Said::Unknown,
    }
}

fn is_type(text: &str, place: Place<'_>, address: IpAddr) -> Said {
    match text {
        "LOCAL" => Said::Holds(place.owns(address)),
        _ => Said::Unknown,
    }
}

/// `value/mask`, the mask all ones where there is none.
pub(super) fn value_and_mask(text: &str) -> Option<(u32, u32)> {
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    Some((number(value)?, number(mask)?))
}

/// A number as the tools print it, in hexadecimal after `0x`.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
