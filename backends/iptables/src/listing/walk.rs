//! The walk of a packet through the tables of one hook.
//!
//! A table ends at its first verdict. The nat table is asked once for the destination and
//! once for the source of a connection. Order of the tables at a hook: their priorities in
//! `include/uapi/linux/netfilter_ipv4.h`.
//!
//! Invariant: a rule that is met and not understood is an error with its line.

use super::chance::{judge, number, value_and_mask};
use super::{Chain, Chains, Listing, Rule};
use nfc_backend::journey::{Course, Hook, ListingError, Place, Rules, Verdict, Visit};

/// As deep as chains may lead into each other before it is taken for a circle.
const DEPTH_MAX: usize = 64;

/// On so many ways a packet is followed. Chance picks from the endpoints of one Service; where
/// it picks again and again, ways would double with every rule.
const WAYS_MAX: usize = 100_000;

/// The tables at each hook, in the order in which they are asked.
fn tables(hook: Hook) -> &'static [&'static str] {
    match hook {
        Hook::Prerouting => &["raw", "mangle", "nat"],
        Hook::Input => &["mangle", "filter", "security", "nat"],
        Hook::Forward => &["mangle", "filter", "security"],
        Hook::Output => &["raw", "mangle", "nat", "filter", "security"],
        Hook::Postrouting => &["mangle", "nat"],
    }
}

impl Rules for Listing {
    fn pass(&self, place: Place<'_>, course: Course) -> Result<Vec<Course>, ListingError> {
        let mut current = vec![course];
        for table in tables(place.hook).iter().filter(|t| !(place.is_back && **t == "nat")) {
            let Some(chains) = self.0.get(*table) else { continue };
            let name = place.hook.name().to_uppercase();
            let Some(chain) = chains.get(&name) else { continue };
            let walk = Walk { table, chains, place };
            let mut next = Vec::new();
            for course in current {
                if course.is_refused() {
                    next.push(course);
                } else {
                    next.extend(walk.built_in(&name, chain, course)?);
                }
            }
            current = next;
        }
        Ok(current)
    }
}

struct Walk<'a> {
    table: &'a str,
    chains: &'a Chains,
    place: Place<'a>,
}

/// What a rule makes of a packet that it matches.
enum Effect<'a> {
    Continue,
    Return,
    /// The table is done with the packet.
    End,
    Jump(&'a str),
    Goto(&'a str),
}

impl Walk<'_> {
    fn built_in(
        &self,
        name: &str,
        chain: &Chain,
        course: Course,
    ) -> Result<Vec<Course>, ListingError> {
        let mut ended = Vec::new();
        let rest = self.chain(name, chain, vec![course], &mut ended, 0)?;
        for mut course in rest {
            if let Some(line) = chain.drops {
                let text = format!("policy DROP of {name}");
                course.visits.push(self.visit(name, &text, line));
                course.verdict = Some(Verdict::Drop);
            }
            ended.push(course);
        }
        Ok(ended)
    }

    /// Takes `courses` through a chain. Those that a verdict stops go to `ended`, those that
    /// come out at the end are returned.
    fn chain(
        &self,
        name: &str,
        chain: &Chain,
        courses: Vec<Course>,
        ended: &mut Vec<Course>,
        depth: usize,
    ) -> Result<Vec<Course>, ListingError> {
        let mut here = courses;
        let mut out = Vec::new();
        for rule in &chain.rules {
            let mut next = Vec::new();
            for course in here {
                let judged = judge(rule, self.place, &course);
                let chance = judged.chance;
                if chance > 0.0
                    && let Some(option) = judged.unknown
                {
                    return Err(unknown(rule, &format!("what {option} matches is not known")));
                }
                if chance < 1.0 {
                    next.push(if chance > 0.0 {
                        course.part(1.0 - chance)
                    } else {
                        course.clone()
                    });
                }
                if chance <= 0.0 || judged.target.is_empty() {
                    next.extend((chance > 0.0).then_some(course));
                    continue;
                }
                let mut taken = if chance < 1.0 { course.part(chance) } else { course };
                taken.visits.push(self.visit(name, &rule.text, rule.line));
                match self.effect(rule, judged.target, &mut taken)? {
                    Effect::Continue => next.push(taken),
                    Effect::Return => out.push(taken),
                    Effect::End => ended.push(taken),
                    Effect::Jump(to) => next.extend(self.lead(rule, to, taken, ended, depth)?),
                    Effect::Goto(to) => out.extend(self.lead(rule, to, taken, ended, depth)?),
                }
            }
            if next.len() + out.len() + ended.len() > WAYS_MAX {
                return Err(unknown(rule, "chance leads on more ways than can be followed"));
            }
            here = next;
        }
        out.extend(here);
        Ok(out)
    }

    fn lead(
        &self,
        rule: &Rule,
        to: &str,
        course: Course,
        ended: &mut Vec<Course>,
        depth: usize,
    ) -> Result<Vec<Course>, ListingError> {
        if depth == DEPTH_MAX {
            return Err(unknown(rule, "chains lead in a circle"));
        }
        let chain = &self.chains[to];
        self.chain(to, chain, vec![course], ended, depth + 1)
    }

    fn visit(&self, chain: &str, rule: &str, line: usize) -> Visit {
        Visit {
            hook: self.place.hook,
            table: self.table.to_owned(),
            chain: chain.to_owned(),
            rule: rule.to_owned(),
            elements: Vec::new(),
            line,
        }
    }

    fn effect<'a>(
        &self,
        rule: &Rule,
        target: &'a [String],
        course: &mut Course,
    ) -> Result<Effect<'a>, ListingError> {
        let [option, name, rest @ ..] = target else {
            return Err(unknown(rule, "a target is missing"));
        };
        if self.chains.contains_key(name.as_str()) {
            let goes = option == "-g" || option == "--goto";
            return Ok(if goes { Effect::Goto(name) } else { Effect::Jump(name) });
        }
        let value = rest.get(1).map_or("", String::as_str);
        match name.as_str() {
            "RETURN" => return Ok(Effect::Return),
            "ACCEPT" if self.table == "filter" => course.verdict = Some(Verdict::Accept),
            "ACCEPT" => {}
            "DROP" => course.verdict = Some(Verdict::Drop),
            "REJECT" => course.verdict = Some(Verdict::Reject),
            "MARK" => {
                set_mark(rule, rest.first().map_or("", String::as_str), value, course)?;
                return Ok(Effect::Continue);
            }
            // These write something down and let the packet go on.
            "LOG" | "NFLOG" | "TRACE" | "CLASSIFY" | "TCPMSS" | "CONNMARK" | "CHECKSUM" => {
                return Ok(Effect::Continue);
            }
            "DNAT" => match destination(rest, course) {
                Some(to) => course.rewrite(to),
                None => return Err(unknown(rule, "this destination is not known")),
            },
            "MASQUERADE" | "SNAT" => course.is_masqueraded = true,
            _ => return Err(unknown(rule, &format!("what {name} does is not known"))),
        }
        Ok(Effect::End)
    }
}

fn unknown(rule: &Rule, what: &str) -> ListingError {
    ListingError { line: rule.line, what: format!("{what}: {}", rule.text) }
}

/// xt_MARK(8): `--set-xmark` clears the mask's bits and flips those of the value.
fn set_mark(
    rule: &Rule,
    option: &str,
    value: &str,
    course: &mut Course,
) -> Result<(), ListingError> {
    let error = || unknown(rule, "this mark is not known");
    let plain = || number(value).ok_or_else(error);
    match option {
        "--or-mark" => course.mark |= plain()?,
        "--and-mark" => course.mark &= plain()?,
        "--xor-mark" => course.mark ^= plain()?,
        "--set-mark" => {
            let (value, mask) = value_and_mask(value).ok_or_else(error)?;
            course.mark = course.mark & !mask | value;
        }
        "--set-xmark" => {
            let (value, mask) = value_and_mask(value).ok_or_else(error)?;
            course.mark = course.mark & !mask ^ value;
        }
        _ => return Err(error()),
    }
    Ok(())
}

/// The new destination, which may be an address without a port.
fn destination(words: &[String], course: &Course) -> Option<std::net::SocketAddr> {
    let at = words.iter().position(|w| w == "--to-destination")?;
    let text = words.get(at + 1)?;
    let whole = text.parse().ok();
    let port = course.packet.destination.port();
    whole.or_else(|| text.parse().ok().map(|ip| std::net::SocketAddr::new(ip, port)))
}
