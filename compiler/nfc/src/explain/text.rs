//! An explanation as text for a person.
//!
//! Invariant: words and layout; nothing is worked out here.

use super::{Account, Counted, Explanation, Hit, Meaning, Met, Told, Traced, frontend_name};
use nfc_backend::counted;
use nfc_backend::journey::{End, Hook, Visit, Way};
use nfc_ir::{Frontend, Ingress, Outcome, TrafficPolicy};
use nfc_kernel::conntrack::Connection;
use std::fmt::Write as _;

/// How many of the ways that chance picks from are drawn, unless all are asked for.
const WAYS_MAX: usize = 4;

/// The explanation, a paragraph for the Services and one for the rules.
#[must_use]
pub fn text(explanation: &Explanation<'_>, draws_all: bool) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let (backend, packet, fate) = (explanation.backend, packet(explanation), fate(explanation));
    let _ = writeln!(text, "{backend}: {packet} {fate}");
    if let Some(meaning) = &explanation.meaning {
        text.push('\n');
        write_meaning(&mut text, meaning);
        if !explanation.is_consistent() {
            text.push_str("\nThe rules do something else than the Services mean.\n");
        }
    }
    text.push('\n');
    let shown = if draws_all { usize::MAX } else { WAYS_MAX };
    let mut drawing = Drawing { text, hook: None, shown };
    drawing.ways(&explanation.ways, 0, 0);
    let mut text = drawing.text;
    if let Some(account) = &explanation.kernel {
        write_account(&mut text, account);
    }
    if !explanation.landings.is_empty() {
        text.push_str("\nConnections opened in a throwaway world:\n");
    }
    for (landing, count) in &explanation.landings {
        let _ = writeln!(text, "  {count:>3} times: {landing}");
    }
    text
}

/// What the kernel said, with a place above every run of rules of one chain.
fn write_account(text: &mut String, account: &Account) {
    let landing = &account.landing;
    let _ = writeln!(text, "\nIn the kernel's own words, one packet {landing}:");
    match &account.rules {
        Some(Met::Trace(steps)) => write_trace(text, steps),
        Some(Met::Counters(rules)) => write_counters(text, rules),
        None => (),
    }
    if let Some(entries) = &account.entries {
        write_entries(text, account, entries);
    }
    for skipped in &account.skipped {
        let _ = writeln!(text, "  skipped: {skipped}");
    }
}

fn write_trace(text: &mut String, steps: &[Traced]) {
    text.push_str("  nft monitor trace\n");
    let mut place = None;
    for Traced { table, chain, rule, verdict } in steps {
        if place.replace((table, chain)) != Some((table, chain)) {
            let _ = writeln!(text, "    {table}, {chain}");
        }
        let _ = match rule {
            Some(rule) => writeln!(text, "      {rule}  => {verdict}"),
            None => writeln!(text, "      => {verdict}"),
        };
    }
    if steps.is_empty() {
        text.push_str("    no rule\n");
    }
}

fn write_counters(text: &mut String, rules: &[Counted]) {
    text.push_str("  counters that moved\n");
    let mut place = None;
    for Counted { table, chain, rule, packets } in rules {
        if place.replace((table, chain)) != Some((table, chain)) {
            let _ = writeln!(text, "    {table}, {chain}");
        }
        let _ = writeln!(text, "      +{packets}  {rule}");
    }
    if rules.is_empty() {
        text.push_str("    none\n");
    }
}

fn write_entries(text: &mut String, account: &Account, entries: &[Connection]) {
    text.push_str("  conntrack\n");
    let protocol = account.packet.protocol;
    for Connection { client, destination, answerer, asker, .. } in entries {
        let _ = writeln!(text, "    original  {protocol} {client} > {destination}");
        let _ = writeln!(text, "    reply     {protocol} {answerer} > {asker}");
    }
    if entries.is_empty() {
        text.push_str("    no entry\n");
    }
}

fn packet(explanation: &Explanation<'_>) -> String {
    let packet = &explanation.packet;
    let from = match &packet.ingress {
        Ingress::Local => " from the node".to_owned(),
        Ingress::Interface(name) => format!(" in {name}"),
    };
    format!("{} {} > {}{from}", packet.protocol, packet.source, packet.destination)
}

fn fate(explanation: &Explanation<'_>) -> String {
    match explanation.outcome() {
        Some(Outcome::Balance(choices)) if choices.len() == 1 => {
            let to = choices.keys().map(|choice| choice.endpoint.to_string()).collect::<String>();
            format!("goes to {to}")
        }
        Some(Outcome::Balance(choices)) => format!("goes to one of {} endpoints", choices.len()),
        Some(other) => outcome_words(&other).to_owned(),
        None => "chance decides what becomes of it".to_owned(),
    }
}

fn outcome_words(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Balance(_) => "goes to an endpoint",
        Outcome::Reject => "is refused with an ICMP error",
        Outcome::Drop => "is dropped in silence",
        Outcome::Accept => "is let through to the node",
        Outcome::Pass => "passes, for no rule is about it",
    }
}

fn write_meaning(text: &mut String, meaning: &Meaning<'_>) {
    let Some(hit) = &meaning.hit else {
        let _ = writeln!(text, "Service    none");
        write_lines(text, "Because", meaning.because.iter().cloned());
        return;
    };
    let _ = writeln!(text, "Service    {}, at its {}", hit.service.name, at(hit));
    let policy = match hit.policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    };
    let which =
        if matches!(hit.frontend, Frontend::ClusterIp(_)) { "internal" } else { "external" };
    let _ = writeln!(text, "Policy     {which}TrafficPolicy {policy}");
    if hit.endpoints.is_empty() {
        let _ = writeln!(text, "Endpoints  none");
    }
    write_lines(text, "Endpoints", hit.endpoints.iter().map(|told| endpoint(told, meaning)));
    write_lines(text, "Because", meaning.because.iter().cloned());
}

fn at(hit: &Hit<'_>) -> String {
    let (name, address) = frontend_name(hit.frontend);
    let protocol = hit.service.protocol;
    match (hit.frontend, address) {
        (Frontend::NodePort(port), _) => format!("{name} {port}/{protocol}"),
        (_, Some(address)) => format!("{name} {address}, port {}/{protocol}", hit.service.port),
        (_, None) => name.to_owned(),
    }
}

fn write_lines(text: &mut String, head: &str, lines: impl Iterator<Item = String>) {
    for (i, line) in lines.enumerate() {
        let _ = writeln!(text, "{:<9}  {line}", if i == 0 { head } else { "" });
    }
}

/// A reason that counts for all endpoints stands below them, once.
fn endpoint(told: &Told<'_>, meaning: &Meaning<'_>) -> String {
    let address = told.endpoint.address.to_string();
    let Some(chosen) = &told.chosen else {
        let why = told.why.as_deref().unwrap_or("ready");
        return format!("{address:<21}      -   {why}");
    };
    let mut line = format!("{address:<21}  {:>5.1} %", chosen.share * 100.0);
    if let Some(why) = &chosen.masquerade {
        let is_for_all = meaning.because.iter().any(|sentence| sentence.ends_with(why));
        line.push_str("  masqueraded");
        let _ = if is_for_all { Ok(()) } else { write!(line, ": {why}") };
    }
    if let Some(why) = &told.why {
        let _ = write!(line, "  ({why})");
    }
    line
}

/// Ways that are drawn as a tree: what they have in common stands once.
struct Drawing {
    text: String,
    /// The hook under whose name the last rule stands.
    hook: Option<Hook>,
    /// How many branches of a fork are drawn.
    shown: usize,
}

impl Drawing {
    /// Draws `ways`, which are the same up to `depth`.
    fn ways(&mut self, ways: &[Way], depth: usize, indent: usize) {
        let Some(first) = ways.first() else { return };
        let here = first.visits.get(depth);
        if ways.iter().any(|way| way.visits.get(depth) != here) {
            self.fork(ways, depth, indent);
            return;
        }
        match here {
            Some(visit) => {
                self.visit(visit, indent);
                self.elements(visit, indent);
                self.ways(ways, depth + 1, indent);
            }
            None => self.end(first, indent),
        }
    }

    /// Draws ways that part at `depth`. What all of them meet at their ends stands below.
    fn fork(&mut self, ways: &[Way], depth: usize, indent: usize) {
        let tail = common_tail(ways, depth + 1);
        let cut = |way: &Way| {
            let mut way = way.clone();
            way.visits.truncate(way.visits.len() - tail.len());
            way
        };
        let own: Vec<_> = ways.iter().map(cut).collect();
        self.branches(&own, depth, indent);
        if !tail.is_empty() {
            self.line(indent, "and then, whichever it was");
            self.hook = None;
            for visit in tail {
                self.visit(visit, indent + 2);
                self.elements(visit, indent + 2);
            }
        }
    }

    fn branches(&mut self, ways: &[Way], depth: usize, indent: usize) {
        // Where one rule draws from a map, it stands once, and its elements in the branches.
        let rule = shared_rule(ways, depth);
        if let Some(visit) = &rule {
            self.visit(visit, indent);
        }
        let branches: Vec<_> =
            ways.chunk_by(|a, b| a.visits.get(depth) == b.visits.get(depth)).collect();
        let hook = self.hook;
        for branch in branches.iter().take(self.shown) {
            self.hook = hook;
            let share: f64 = branch.iter().map(|way| way.share).sum();
            self.line(indent, &format!("{:.1} %", share * 100.0));
            let own = branch.first().and_then(|way| way.visits.get(depth));
            match own.filter(|_| rule.is_some()) {
                Some(visit) => {
                    self.elements(visit, indent + 2);
                    self.ways(branch, depth + 1, indent + 2);
                }
                None => self.ways(branch, depth, indent + 2),
            }
        }
        let hidden: Vec<_> = branches.iter().skip(self.shown).collect();
        if !hidden.is_empty() {
            let share: f64 = hidden.iter().flat_map(|branch| branch.iter()).map(|w| w.share).sum();
            let count = counted(hidden.len(), "more way");
            let words = format!("{:.1} % in {count}; --all draws them", share * 100.0);
            self.line(indent, &words);
        }
    }

    fn visit(&mut self, visit: &Visit, indent: usize) {
        if self.hook != Some(visit.hook) {
            self.hook = Some(visit.hook);
            self.line(indent, &visit.hook.name().to_uppercase());
        }
        let place = match visit.line {
            0 => "taken to be there, as kube-proxy makes it".to_owned(),
            line => format!("line {line}"),
        };
        self.line(indent + 2, &format!("{}, {} ({place})", visit.table, visit.chain));
        self.line(indent + 4, &visit.rule);
    }

    fn elements(&mut self, visit: &Visit, indent: usize) {
        for element in &visit.elements {
            self.line(indent + 6, &format!("= {element}"));
        }
    }

    fn end(&mut self, way: &Way, indent: usize) {
        let end = match way.end {
            End::Endpoint(choice) if choice.masquerade => {
                format!("to {}, from the node's address", choice.endpoint)
            }
            End::Endpoint(choice) => format!("to {}", choice.endpoint),
            End::Reject => outcome_words(&Outcome::Reject).to_owned(),
            End::Drop => outcome_words(&Outcome::Drop).to_owned(),
            End::Accept => outcome_words(&Outcome::Accept).to_owned(),
            End::Pass => outcome_words(&Outcome::Pass).to_owned(),
        };
        self.line(indent, &format!("=> {end}"));
    }

    fn line(&mut self, indent: usize, words: &str) {
        let _ = writeln!(self.text, "{:indent$}{words}", "");
    }
}

/// What all ways meet at their ends, from `depth` on.
fn common_tail(ways: &[Way], depth: usize) -> &[Visit] {
    let Some((first, others)) = ways.split_first() else { return &[] };
    let mut length = first.visits.len().saturating_sub(depth);
    for way in others {
        let both = first.visits.iter().rev().zip(way.visits.iter().rev());
        let room = way.visits.len().saturating_sub(depth);
        length = both.take_while(|(a, b)| a == b).count().min(length).min(room);
    }
    &first.visits[first.visits.len() - length..]
}

/// The rule that all ways meet at `depth`, without the elements, in which they differ.
fn shared_rule(ways: &[Way], depth: usize) -> Option<Visit> {
    let bare = |way: &Way| {
        let visit = way.visits.get(depth)?;
        Some(Visit { elements: Vec::new(), ..visit.clone() })
    };
    let first = bare(ways.first()?)?;
    ways.iter().all(|way| bare(way).as_ref() == Some(&first)).then_some(first)
}
