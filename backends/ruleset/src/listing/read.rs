//! Text into tables, chains and sets: both as `nft list ruleset` nests them, and as the
//! commands of a script say them one by one.
//!
//! Invariant: looks at the words that say where something belongs, not at what a rule says.

use super::set::Set;
use super::token::{Token, joined, tokens};
use super::{Base, Chain, Listing, Rule, Table};
use nfc_backend::journey::{Hook, ListingError};

/// Reads a listing or a script.
///
/// # Errors
///
/// [`ListingError`] for text that is neither.
pub fn read(text: &str) -> Result<Listing, ListingError> {
    let all = tokens(text);
    let mut reader = Reader { words: &all, at: 0, listing: Listing::default() };
    while reader.skip_ends() {
        reader.item()?;
    }
    if reader.listing.tables.is_empty() {
        let what = "the listing holds no table; expected the output of nft list ruleset";
        return Err(ListingError { line: 1, what: what.to_owned() });
    }
    Ok(reader.listing)
}

struct Reader<'a> {
    words: &'a [Token],
    at: usize,
    listing: Listing,
}

impl<'a> Reader<'a> {
    /// Passes over line ends; whether anything is left.
    fn skip_ends(&mut self) -> bool {
        while self.words.get(self.at).is_some_and(Token::is_end) {
            self.at += 1;
        }
        self.at < self.words.len()
    }

    fn error<T>(&self, what: &str) -> Result<T, ListingError> {
        let last = self.words.last().map_or(1, |word| word.line);
        let line = self.words.get(self.at).map_or(last, |word| word.line);
        Err(ListingError { line, what: what.to_owned() })
    }

    fn next(&mut self) -> Result<&'a str, ListingError> {
        let Some(word) = self.words.get(self.at).filter(|word| !word.is("\n")) else {
            return self.error("a word is missing");
        };
        self.at += 1;
        Ok(&word.text)
    }

    fn is_at(&self, word: &str) -> bool {
        self.words.get(self.at).is_some_and(|token| token.is(word))
    }

    /// The words up to the end of the statement. A statement ends neither in braces nor at
    /// a line end within them.
    fn statement(&mut self) -> &'a [Token] {
        let start = self.at;
        let mut depth = 0;
        while let Some(word) = self.words.get(self.at) {
            if depth == 0 && (word.is_end() || word.is("}")) {
                break;
            }
            depth += i32::from(word.is("{")) - i32::from(word.is("}"));
            self.at += 1;
        }
        &self.words[start..self.at]
    }

    /// The words between the brace that is next and the one that closes it.
    fn block(&mut self) -> Result<&'a [Token], ListingError> {
        if !self.is_at("{") {
            return self.error("expected {");
        }
        self.at += 1;
        let start = self.at;
        let mut depth = 1;
        while let Some(word) = self.words.get(self.at) {
            depth += i32::from(word.is("{")) - i32::from(word.is("}"));
            self.at += 1;
            if depth == 0 {
                return Ok(&self.words[start..self.at - 1]);
            }
        }
        self.error("a brace is not closed")
    }

    /// A table, or a command.
    fn item(&mut self) -> Result<(), ListingError> {
        match self.next()? {
            "table" => {
                let table = self.table()?;
                self.table_body(table)
            }
            "add" | "create" => self.addition(),
            "insert" => self.error("a rule is inserted; give the output of nft list ruleset"),
            "delete" | "destroy" => self.removal(),
            "flush" => self.flush(),
            _ => {
                self.at -= 1;
                self.error(
                    "this is neither a table nor a command of a script; expected the output of \
                     nft list ruleset, of iptables-save or of ipvsadm --save -n",
                )
            }
        }
    }

    /// The table that is named next; a family may be left out, and is `ip` then.
    fn table(&mut self) -> Result<usize, ListingError> {
        let families = ["ip", "ip6", "inet", "arp", "bridge", "netdev"];
        let first = self.next()?;
        let (family, name) =
            if families.contains(&first) { (first, self.next()?) } else { ("ip", first) };
        let is_it = |table: &Table| table.family == family && table.name == name;
        if let Some(index) = self.listing.tables.iter().position(is_it) {
            return Ok(index);
        }
        self.listing.tables.push(Table {
            family: family.to_owned(),
            name: name.to_owned(),
            chains: std::collections::BTreeMap::new(),
            sets: std::collections::BTreeMap::new(),
        });
        Ok(self.listing.tables.len() - 1)
    }

    fn table_body(&mut self, table: usize) -> Result<(), ListingError> {
        if !self.is_at("{") {
            return Ok(());
        }
        self.at += 1;
        while self.skip_ends() {
            match self.next()? {
                "}" => return Ok(()),
                "chain" => {
                    let name = self.next()?;
                    let body = self.block()?;
                    read_chain(self.chain(table, name), body)?;
                }
                "set" | "map" => {
                    let name = self.next()?;
                    let body = self.block()?;
                    let sets = &mut self.listing.tables[table].sets;
                    read_set(sets.entry(name.to_owned()).or_default(), body);
                }
                // Objects that no verdict depends on, and words about the table itself.
                _ => {
                    let _ = self.statement();
                }
            }
        }
        self.error("a table is not closed")
    }

    fn chain(&mut self, table: usize, name: &str) -> &mut Chain {
        self.listing.tables[table].chains.entry(name.to_owned()).or_default()
    }

    fn addition(&mut self) -> Result<(), ListingError> {
        let kind = self.next()?;
        let table = self.table()?;
        match kind {
            "table" => return self.table_body(table),
            "chain" => {
                let name = self.next()?;
                let body = if self.is_at("{") { self.block()? } else { &[] };
                read_chain(self.chain(table, name), body)?;
            }
            "set" | "map" => {
                let name = self.next()?;
                let body = if self.is_at("{") { self.block()? } else { &[] };
                let sets = &mut self.listing.tables[table].sets;
                read_set(sets.entry(name.to_owned()).or_default(), body);
            }
            "element" => {
                let name = self.next()?;
                let body = self.block()?;
                let sets = &mut self.listing.tables[table].sets;
                sets.entry(name.to_owned()).or_default().add_all(body);
            }
            "rule" => {
                let name = self.next()?;
                let words = self.statement();
                let chain = self.chain(table, name);
                chain.rules.extend(rule(words));
            }
            _ => {
                let _ = self.statement();
            }
        }
        Ok(())
    }

    /// Scripts begin by removing what might be there. What a script has put there itself is
    /// removed with it; elements and rules are not, for they have no names.
    fn removal(&mut self) -> Result<(), ListingError> {
        let kind = self.next()?;
        let table = self.table()?;
        match kind {
            "table" => {
                self.listing.tables[table].chains.clear();
                self.listing.tables[table].sets.clear();
            }
            "chain" => {
                let name = self.next()?;
                self.listing.tables[table].chains.remove(name);
            }
            "set" | "map" => {
                let name = self.next()?;
                self.listing.tables[table].sets.remove(name);
            }
            _ => return self.error("a change is no listing, for it deletes something"),
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ListingError> {
        let kind = self.next()?;
        if kind == "ruleset" {
            self.listing.tables.clear();
            let _ = self.statement();
            return Ok(());
        }
        let table = self.table()?;
        let name = if kind == "table" { "" } else { self.next()? };
        let table = &mut self.listing.tables[table];
        match kind {
            "table" => table.chains.values_mut().for_each(|chain| chain.rules.clear()),
            "chain" => {
                if let Some(chain) = table.chains.get_mut(name) {
                    chain.rules.clear();
                }
            }
            _ => {
                table.sets.insert(name.to_owned(), Set::default());
            }
        }
        Ok(())
    }
}

fn rule(words: &[Token]) -> Option<Rule> {
    let first = words.first()?;
    let kept = words.iter().filter(|word| !word.is("\n")).cloned().collect();
    Some(Rule { line: first.line, text: joined(words), words: kept })
}

/// Statements of a chain's body: `type ... hook ...`, `policy ...`, and rules.
fn read_chain(chain: &mut Chain, body: &[Token]) -> Result<(), ListingError> {
    let mut reader = Reader { words: body, at: 0, listing: Listing::default() };
    while reader.skip_ends() {
        let words = reader.statement();
        let Some(first) = words.first() else {
            return reader.error("a brace too many");
        };
        match first.text.as_str() {
            "type" if words.len() > 3 => chain.base = base(words)?,
            "policy" => {
                if let Some(base) = &mut chain.base {
                    let drops = words.get(1).is_some_and(|word| word.is("drop"));
                    base.drops = drops.then_some(first.line);
                }
            }
            "comment" => {}
            _ => chain.rules.extend(rule(words)),
        }
    }
    Ok(())
}

/// `type nat hook prerouting priority dstnat`. `None` for hooks that no packet passes here
/// (`ingress`).
fn base(words: &[Token]) -> Result<Option<Base>, ListingError> {
    let after = |name: &str| {
        let at = words.iter().position(|word| word.is(name))?;
        words.get(at + 1..)
    };
    let hook = after("hook").and_then(<[Token]>::first);
    let Some(hook) = hook.and_then(|word| Hook::ALL.into_iter().find(|h| word.is(h.name()))) else {
        return Ok(None);
    };
    let line = words.first().map_or(1, |word| word.line);
    let priority = after("priority").and_then(priority);
    let unknown = || ListingError { line, what: "the chain's priority is not known".to_owned() };
    let is_nat = words.get(1).is_some_and(|word| word.is("nat"));
    Ok(Some(Base { is_nat, hook, priority: priority.ok_or_else(unknown)?, drops: None }))
}

/// A number, a name, or a name and a distance from it (nft(8), "Standard priority names").
fn priority(words: &[Token]) -> Option<i32> {
    let words: Vec<_> = words.iter().map(|word| word.text.as_str()).collect();
    let named = |name: &str| match name {
        "raw" => Some(-300),
        "mangle" => Some(-150),
        "dstnat" => Some(-100),
        "filter" => Some(0),
        "security" => Some(50),
        "srcnat" => Some(100),
        number => number.parse().ok(),
    };
    match words.as_slice() {
        [only] => named(only),
        [name, "+", by] => Some(named(name)? + by.parse::<i32>().ok()?),
        [name, "-", by] => Some(named(name)? - by.parse::<i32>().ok()?),
        _ => None,
    }
}

/// Of a set's body only the elements count.
fn read_set(set: &mut Set, body: &[Token]) {
    let mut reader = Reader { words: body, at: 0, listing: Listing::default() };
    while reader.skip_ends() {
        let words = reader.statement();
        if let [name, equals, open, inner @ .., close] = words
            && name.is("elements")
            && equals.is("=")
            && open.is("{")
            && close.is("}")
        {
            set.add_all(inner);
        }
        if words.is_empty() {
            return;
        }
    }
}
