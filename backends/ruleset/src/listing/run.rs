//! One rule, carried out word by word for one packet.
//!
//! Invariant: a word that is met and not understood is an error with the rule's line.

use super::Rule;
use super::expr::{Cursor, Part, key, number};
use super::set::{Element, Set, is_comparable, is_within};
use super::token::Token;
use super::walk::{State, Step, Walk};
use nfc_backend::journey::{Course, ListingError, Verdict};
use std::net::{IpAddr, SocketAddr};

/// How deep chains may lead into chains. The kernel allows 16 (`NFT_JUMP_STACK_SIZE`).
const DEPTH_MAX: usize = 16;

/// A rule that is carried out.
pub(super) struct Run<'a, 'w> {
    pub(super) walk: &'w Walk<'a>,
    pub(super) chain: &'w str,
    pub(super) rule: &'a Rule,
    pub(super) depth: usize,
}

impl<'a> Run<'a, '_> {
    fn unknown<T>(&self, what: &str) -> Result<T, ListingError> {
        Err(ListingError { line: self.rule.line, what: format!("{what}: {}", self.rule.text) })
    }

    /// Notes that the rule does something, and the element that told it what.
    fn act(&self, state: &mut State<'a>, element: Option<&Element>) {
        if !state.has_acted {
            let visit = self.walk.visit(self.chain, &self.rule.text, self.rule.line);
            state.course.visits.push(visit);
            state.has_acted = true;
        }
        if let (Some(visit), Some(element)) = (state.course.visits.last_mut(), element) {
            visit.elements.push(element.text.clone());
        }
    }

    /// Carries out what is left of the rule.
    pub(super) fn go(&self, mut state: State<'a>) -> Result<Vec<Step>, ListingError> {
        while let Some(word) = state.cursor.peek() {
            let known = if word.is_quoted { "" } else { word.text.as_str() };
            match known {
                "accept" | "drop" | "return" | "jump" | "goto" => {
                    self.act(&mut state, None);
                    let mut rest = state.cursor;
                    return self.follow(&mut rest, state);
                }
                "reject" => {
                    self.act(&mut state, None);
                    state.course.verdict = Some(Verdict::Reject);
                    return Ok(vec![Step::End(state.course)]);
                }
                "masquerade" | "snat" => {
                    self.act(&mut state, None);
                    state.course.is_masqueraded = true;
                    return Ok(vec![Step::End(state.course)]);
                }
                "dnat" => return self.dnat(state),
                "counter" | "comment" | "log" | "notrack" => pass_over(&mut state.cursor),
                "update" | "add" | "delete" | "set" => {
                    self.act(&mut state, None);
                    let is_known = state.cursor.next().and_then(|_| state.cursor.next());
                    if is_known.is_none() || state.cursor.block().is_none() {
                        return self.unknown("this change of a set is not known");
                    }
                }
                _ => match self.test(state)? {
                    Tested::On(on) => state = on,
                    Tested::Done(steps) => return Ok(steps),
                },
            }
        }
        Ok(vec![Step::Next(state.course)])
    }

    /// A statement that begins with an expression: a match, a verdict map, a new mark or
    /// priority.
    fn test(&self, mut state: State<'a>) -> Result<Tested<'a>, ListingError> {
        let (place, start) = (self.walk.place, state.cursor);
        let Some(key) = key(&mut state.cursor, place, &state.course) else {
            let word = start.peek().map_or("", |word| word.text.as_str());
            return self.unknown(&format!("what `{word}` says here is not known"));
        };
        if state.cursor.takes("set") {
            return match key.as_slice() {
                [Part::Mark(_)] => self.set_mark(state),
                [Part::Priority(_)] => self.set_priority(state),
                _ => self.unknown("what is set here is not known"),
            };
        }
        if state.cursor.takes("vmap") {
            return self.vmap(state, &key).map(Tested::Done);
        }
        let is_not = state.cursor.takes("!=");
        let _ = state.cursor.takes("==");
        let holds = self.holds(&mut state, &key)?;
        if key.contains(&Part::Never) || holds == is_not {
            return Ok(Tested::Done(vec![Step::Next(state.course)]));
        }
        Ok(Tested::On(state))
    }

    /// Whether a key is one of what comes next: a set, or a value.
    fn holds(&self, state: &mut State<'a>, key: &[Part]) -> Result<bool, ListingError> {
        if key.iter().any(|part| matches!(part, Part::Drawn(_))) {
            return self.unknown("a match on a drawn number is not known");
        }
        let is_set = state.cursor.peek().is_some_and(|w| w.is("{") || w.text.starts_with('@'));
        if is_set {
            let fields: Vec<_> = key.iter().map(Part::text).collect();
            return Ok(self.set(state)?.get().find(&fields).is_some());
        }
        let mut holds = true;
        for (i, part) in key.iter().enumerate() {
            if i > 0 && !state.cursor.takes(".") {
                return self.unknown("a value is missing");
            }
            holds &= self.is_listed(state, part)?;
        }
        Ok(holds)
    }

    /// Whether a field is one of the values that come next, with commas between them.
    fn is_listed(&self, state: &mut State<'a>, part: &Part) -> Result<bool, ListingError> {
        let mut holds = false;
        loop {
            let Some(word) = state.cursor.next() else {
                return self.unknown("a value is missing");
            };
            holds |= match part {
                Part::Mark(own) | Part::Priority(own) => match number(&word.text) {
                    Some(number) => *own == number,
                    None => return self.unknown("this number is not known"),
                },
                Part::Is(own) if !word.is_quoted && !is_comparable(own, &word.text) => {
                    return self.unknown(&format!("what `{}` stands for is not known", word.text));
                }
                Part::Is(own) => is_within(own, &word.text),
                Part::Drawn(_) | Part::Never => false,
            };
            if !state.cursor.takes(",") {
                return Ok(holds);
            }
        }
    }

    fn set(&self, state: &mut State<'a>) -> Result<Found<'a>, ListingError> {
        if let Some(block) = state.cursor.block() {
            let mut set = Set::default();
            set.add_all(block);
            return Ok(Found::Written(set));
        }
        let name = state.cursor.next().and_then(|word| word.text.strip_prefix('@'));
        match name.and_then(|name| self.walk.table.sets.get(name)) {
            Some(set) => Ok(Found::Named(set)),
            None => self.unknown("the set is not in the listing"),
        }
    }

    /// What is found under a key: once, or for each number that its last field may be.
    fn look<'s>(&self, state: &State<'a>, key: &[Part], set: &'s Set) -> Looked<'a, 's> {
        let Some((last, first)) = key.split_last() else { return Vec::new() };
        let mut fields: Vec<_> = first.iter().map(Part::text).collect();
        let never = key.contains(&Part::Never);
        let Part::Drawn(modulus) = last else {
            fields.push(last.text());
            return vec![(state.clone(), set.find(&fields).filter(|_| !never))];
        };
        let branch = |number: u32| {
            fields.truncate(first.len());
            fields.push(number.to_string());
            let course = state.course.part(1.0 / f64::from(*modulus));
            (State { course, ..*state }, set.find(&fields).filter(|_| !never))
        };
        (0..*modulus).map(branch).collect()
    }

    /// Looks a key up in the set or map that comes next, and carries on by the value found there,
    /// each time. What finds nothing goes on with the next rule.
    fn each_found(
        &self,
        mut state: State<'a>,
        key: &[Part],
        carry_on: impl Fn(State<'a>, &[Token]) -> Result<Vec<Step>, ListingError>,
    ) -> Result<Vec<Step>, ListingError> {
        let set = self.set(&mut state)?;
        let mut steps = Vec::new();
        for (mut state, element) in self.look(&state, key, set.get()) {
            let Some(element) = element else {
                steps.push(Step::Next(state.course));
                continue;
            };
            self.act(&mut state, Some(element));
            steps.extend(carry_on(state, &element.value)?);
        }
        Ok(steps)
    }

    fn vmap(&self, state: State<'a>, key: &[Part]) -> Result<Vec<Step>, ListingError> {
        self.each_found(state, key, |state, value| self.follow(&mut Cursor::new(value), state))
    }

    fn follow(
        &self,
        verdict: &mut Cursor<'_>,
        mut state: State<'a>,
    ) -> Result<Vec<Step>, ListingError> {
        let word = verdict.next().map_or("", |word| word.text.as_str());
        match word {
            "accept" => {
                if !self.walk.is_nat {
                    state.course.verdict = Some(Verdict::Accept);
                }
                return Ok(vec![Step::End(state.course)]);
            }
            "drop" => {
                state.course.verdict = Some(Verdict::Drop);
                return Ok(vec![Step::End(state.course)]);
            }
            "return" => return Ok(vec![Step::Return(state.course)]),
            "jump" | "goto" => {}
            _ => return self.unknown("this verdict is not known"),
        }
        let name = verdict.next().map_or("", |name| name.text.as_str());
        let Some(chain) = self.walk.table.chains.get(name) else {
            return self.unknown(&format!("the listing has no chain {name}"));
        };
        if self.depth == DEPTH_MAX {
            return self.unknown("chains lead into each other too deep");
        }
        let steps = self.walk.chain(name, chain, state.course, self.depth + 1)?;
        let back = |step| match step {
            Step::Return(course) if word == "jump" => Step::Next(course),
            other => other,
        };
        Ok(steps.into_iter().map(back).collect())
    }

    fn dnat(&self, mut state: State<'a>) -> Result<Vec<Step>, ListingError> {
        let _ = state.cursor.next();
        while state.cursor.peek().is_some_and(|word| !word.is("to")) {
            let _ = state.cursor.next();
        }
        let _ = state.cursor.next();
        let here = state.cursor.peek().map(std::slice::from_ref);
        if let Some(to) = here.and_then(|words| destination(words, &state.course)) {
            self.act(&mut state, None);
            state.course.rewrite(to);
            return Ok(vec![Step::End(state.course)]);
        }
        let Some(key) = key(&mut state.cursor, self.walk.place, &state.course) else {
            return self.unknown("this destination is not known");
        };
        if !state.cursor.takes("map") {
            return self.unknown("this destination is not known");
        }
        self.each_found(state, &key, |mut state, value| {
            let Some(to) = destination(value, &state.course) else {
                return self.unknown("this destination is not known");
            };
            state.course.rewrite(to);
            Ok(vec![Step::End(state.course)])
        })
    }

    /// `mark set mark | 0x4000`, in the words of every version of nft.
    fn set_mark(&self, mut state: State<'a>) -> Result<Tested<'a>, ListingError> {
        self.act(&mut state, None);
        let (cursor, mark) = (&mut state.cursor, state.course.mark);
        let is_own = cursor.takes("meta") | cursor.takes("mark");
        let _ = is_own && cursor.takes("mark");
        let operator = if is_own { cursor.next().map_or("", |w| w.text.as_str()) } else { "" };
        let Some(number) = cursor.number() else {
            return self.unknown("this mark is not known");
        };
        state.course.mark = match operator {
            "" => number,
            "or" | "|" => mark | number,
            "and" | "&" => mark & number,
            "xor" | "^" => mark ^ number,
            _ => return self.unknown("this mark is not known"),
        };
        Ok(Tested::On(state))
    }

    fn set_priority(&self, mut state: State<'a>) -> Result<Tested<'a>, ListingError> {
        if let Some(number) = state.cursor.peek().and_then(|word| number(&word.text)) {
            self.act(&mut state, None);
            let _ = state.cursor.next();
            state.course.priority = number;
            return Ok(Tested::On(state));
        }
        let key = key(&mut state.cursor, self.walk.place, &state.course);
        let Some(key) = key.filter(|_| state.cursor.takes("map")) else {
            return self.unknown("this priority is not known");
        };
        let steps = self.each_found(state, &key, |mut state, value| {
            let Some(number) = value.first().and_then(|word| number(&word.text)) else {
                return self.unknown("this priority is not known");
            };
            state.course.priority = number;
            self.go(state)
        });
        steps.map(Tested::Done)
    }
}

/// States of a packet, each with the element that was found for it, if any.
type Looked<'a, 's> = Vec<(State<'a>, Option<&'s Element>)>;

/// What a statement leaves of a rule.
enum Tested<'a> {
    /// The rule goes on.
    On(State<'a>),
    /// It is over.
    Done(Vec<Step>),
}

/// A set that a rule names, or has written into it.
enum Found<'a> {
    Named(&'a Set),
    Written(Set),
}

impl Found<'_> {
    fn get(&self) -> &Set {
        match self {
            Self::Named(set) => set,
            Self::Written(set) => set,
        }
    }
}

/// Statements that change nothing about where a packet goes, with their options.
fn pass_over(cursor: &mut Cursor<'_>) {
    const OPTIONS: [&str; 8] =
        ["packets", "bytes", "prefix", "level", "flags", "group", "snaplen", "queue-threshold"];
    let is_comment = cursor.takes("comment");
    if is_comment || !cursor.takes("counter") {
        let _ = cursor.next();
    }
    while !is_comment && cursor.takes_any(&OPTIONS) {
        let _ = cursor.next();
    }
}

/// `10.0.0.1:80`, `[fd00::1]:80`, `10.0.0.1 . 80`, or an address that keeps the port.
fn destination(words: &[Token], course: &Course) -> Option<SocketAddr> {
    let port = course.packet.destination.port();
    match words {
        [ip, dot, port] if dot.is(".") => {
            Some(SocketAddr::new(ip.text.parse().ok()?, port.text.parse().ok()?))
        }
        [only] => {
            let whole = only.text.parse::<SocketAddr>().ok();
            let address = || only.text.parse::<IpAddr>().ok();
            whole.or_else(|| Some(SocketAddr::new(address()?, port)))
        }
        _ => None,
    }
}
