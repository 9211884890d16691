//! What of a table is in the kernel already: what to ask, and what the answer says.
//!
//! Only one table is asked for. Sets, their elements and rules are listed by table
//! (`nf_tables_dump_sets`, `nf_tables_dump_set`, `nf_tables_dump_rules` in
//! `net/netfilter/nf_tables_api.c`). Chains are not: `nf_tables_dump_chains` lists those of
//! every table. So chains are asked for by name or known by what leads to them, and the
//! table's own count of its objects tells whether one was missed.
//!
//! What is read is recognised rather than decoded: a chain is as it should be when its
//! rules are the ones that would be sent. One that is not, holds rules without statements,
//! which no lowering writes, and so it differs.
//!
//! Not looked at: handles, counters, room in sets beyond what is needed, how a set is to be
//! printed, and what packets put into maps.
//!
//! Invariant: messages of other tables are neither asked for nor read.

mod canonical;
mod elements;

use crate::encode::{self, SUBSYSTEM, TABLE, declare, family_number, kinds, rule};
use crate::program::{Base, Chain, Fields, Rule, Set, Table, Type, Value};
use crate::{Patch, Verdict, diff};
use nfc_backend::Question;
use nfc_ir::Family;
use nfc_netlink::attr::{Attrs, Writer};
use nfc_netlink::message::{self, Message, Messages, flags};
use std::collections::{BTreeMap, BTreeSet};

/// `NFT_MSG_GET*` (`uapi/linux/netfilter/nf_tables.h`). What answers one is its `NFT_MSG_NEW*`.
mod requests {
    pub(super) const TABLE: u8 = 1;
    pub(super) const CHAIN: u8 = 4;
    pub(super) const RULE: u8 = 7;
    pub(super) const SET: u8 = 10;
    pub(super) const ELEMENTS: u8 = 13;
    pub(super) const GENERATION: u8 = 16;
}

/// `NFT_MSG_NEWGEN` and `NFTA_GEN_ID`.
const NEW_GENERATION: u8 = 15;
const GENERATION_ID: u16 = 1;

/// `NFTA_TABLE_FLAGS` and `NFTA_TABLE_USE`.
const TABLE_FLAGS: u16 = 2;
const TABLE_USE: u16 = 3;

/// How the names of chains begin that belong to one rule (`nf_tables_addchain`): the kernel
/// does not let them be flushed or deleted.
const ANONYMOUS_CHAIN: &str = "__chain";

/// Length of the `nfgenmsg` in front of the attributes.
const FIXED_LEN: usize = 4;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The kernel's count of changes to its tables when the reading began; `None` when
    /// nothing could be read.
    pub generation: Option<u32>,
    /// The table.
    pub found: Found,
}

/// A table as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is none, or it could not be read.
    Nothing,
    /// It holds what no patch can mend: it has to be replaced.
    Strange,
    /// It differs from the wanted one as this table does.
    Table(Table),
}

/// Asks for a table: for itself, its sets and its rules, for the chains of these names, and
/// for the elements of sets of these names. What is not there is no failure.
#[must_use]
pub fn question<'a>(
    family: Family,
    table: &str,
    chains: impl IntoIterator<Item = &'a str>,
    sets: impl IntoIterator<Item = &'a str>,
) -> Question {
    let mut w = Writer::new();
    let mut ask = |kind: u8, flags: u16, fill: &dyn Fn(&mut Writer)| {
        let kind = u16::from(SUBSYSTEM) << 8 | u16::from(kind);
        message::write(&mut w, kind, flags, 1, |w| {
            w.raw(&[family_number(family), 0, 0, 0]);
            fill(w);
        });
    };
    let named = |w: &mut Writer| w.text(TABLE, table);
    ask(requests::GENERATION, 0, &|_| ());
    ask(requests::TABLE, 0, &named);
    ask(requests::SET, flags::DUMP, &named);
    ask(requests::RULE, flags::DUMP, &named);
    for chain in chains {
        ask(requests::CHAIN, 0, &|w| {
            named(w);
            w.text(declare::CHAIN_NAME, chain);
        });
    }
    for set in sets {
        ask(requests::ELEMENTS, flags::DUMP, &|w| {
            named(w);
            w.text(declare::SET_NAME, set);
        });
    }
    Question::Nftables(w.into_bytes())
}

/// Reads the answer to [`question`] with the wanted table at hand.
#[must_use]
pub fn read(answer: &[u8], wanted: &Table) -> Observed {
    let reader = Reader::of(answer, wanted);
    Observed { generation: reader.generation, found: reader.finish() }
}

/// The set of this name in the answer to [`question`], whatever the rest of the table is
/// like; `None` when there is none of the wanted shape.
#[must_use]
pub fn set(answer: &[u8], wanted: &Table, name: &str) -> Option<Set> {
    let mut set = Reader::of(answer, wanted).sets.remove(name)?;
    set.elements.seal();
    wanted.sets.get(name).is_some_and(|wanted| set.has_shape_of(wanted)).then_some(set)
}

impl Patch {
    /// The way to `new` from what was found under its name; with `None`, to nothing. The
    /// kernel will refuse a way that depends on what was found if there were changes since.
    #[must_use]
    pub fn onto(answer: &[u8], family: Family, name: &'static str, new: Option<&Table>) -> Self {
        let nothing = Table::new(family, name);
        let observed = read(answer, new.unwrap_or(&nothing));
        match (observed.found, new) {
            (Found::Nothing, None) if observed.generation.is_some() => Self::new(family, name),
            (Found::Nothing, Some(_)) if observed.generation.is_some() => {
                Self { generation: observed.generation, ..Self::creating(family, name, new) }
            }
            (Found::Table(old), Some(new)) => Self {
                generation: observed.generation,
                ..diff(family, name, Some(&old), Some(new))
            },
            _ => Self::replacing(family, name, new),
        }
    }
}

/// Puts together what the messages say.
struct Reader<'a> {
    wanted: &'a Table,
    generation: Option<u32>,
    /// The table's count of its chains, sets and other objects.
    objects: Option<u32>,
    anonymous_sets: u32,
    sets: BTreeMap<String, Set>,
    chains: BTreeMap<String, Chain>,
    /// The rules of each chain, in the one form in which they can be compared.
    rules: BTreeMap<String, Vec<Vec<u8>>>,
    /// Chains that something leads to.
    implied: BTreeSet<String>,
    strange: bool,
}

impl<'a> Reader<'a> {
    fn of(answer: &[u8], wanted: &'a Table) -> Self {
        let mut reader = Self::new(wanted);
        for message in Messages::new(answer) {
            reader.take(&message);
        }
        reader
    }

    fn new(wanted: &'a Table) -> Self {
        Self {
            wanted,
            generation: None,
            objects: None,
            anonymous_sets: 0,
            sets: BTreeMap::new(),
            chains: BTreeMap::new(),
            rules: BTreeMap::new(),
            implied: BTreeSet::new(),
            strange: false,
        }
    }

    fn take(&mut self, message: &Message<'_>) {
        let [subsystem, kind] = message.kind.to_be_bytes();
        if subsystem != SUBSYSTEM {
            return;
        }
        let attrs = message.attrs(FIXED_LEN);
        if kind == NEW_GENERATION {
            self.generation = attrs.find(GENERATION_ID).and_then(|a| a.be32());
            return;
        }
        let family = message.payload.first() == Some(&family_number(self.wanted.family));
        let table = attrs.clone().find(TABLE).and_then(|a| a.text());
        if !family || table != Some(self.wanted.name) {
            return;
        }
        let understood = match kind {
            kinds::NEW_TABLE => self.table(attrs),
            kinds::NEW_SET => self.set(attrs),
            kinds::NEW_CHAIN => self.chain(attrs),
            kinds::NEW_RULE => self.rule(attrs),
            kinds::NEW_ELEMENTS => self.elements(attrs),
            _ => Some(()),
        };
        self.strange |= understood.is_none();
    }

    /// A table with flags, dormant or somebody's own, is none of ours.
    fn table(&mut self, attrs: Attrs<'_>) -> Option<()> {
        self.objects = Some(attrs.clone().find(TABLE_USE)?.be32()?);
        (attrs.find(TABLE_FLAGS)?.be32()? == 0).then_some(())
    }

    /// An anonymous set belongs to a rule, and goes with it.
    fn set(&mut self, attrs: Attrs<'_>) -> Option<()> {
        let name = attrs.clone().find(declare::SET_NAME)?.text()?;
        if declare::is_anonymous(attrs.clone()) {
            self.anonymous_sets += 1;
            return Some(());
        }
        let shape = match self.wanted.sets.get(name) {
            Some(wanted) => declare::recognise(self.wanted.family, wanted, attrs),
            None => Set::new(self.wanted.family, Fields::Types(vec![Type::Mark]), Value::None),
        };
        self.sets.insert(name.to_owned(), shape);
        Some(())
    }

    /// Base chains cannot be mended, only made anew.
    fn chain(&mut self, attrs: Attrs<'_>) -> Option<()> {
        let name = attrs.clone().find(declare::CHAIN_NAME)?.text()?;
        let wanted = self.wanted.chains.get(name).and_then(|chain| chain.base);
        let is_base = |base: &Base| declare::is_base(attrs.clone(), base);
        let as_wanted = wanted.as_ref().map_or(!declare::has_hook(attrs.clone()), is_base);
        let chain = Chain { base: wanted, rules: Vec::new() };
        self.chains.insert(name.to_owned(), chain);
        as_wanted.then_some(())
    }

    fn rule(&mut self, attrs: Attrs<'_>) -> Option<()> {
        let chain = attrs.clone().find(rule::CHAIN)?.text()?;
        let rules = self.rules.entry(chain.to_owned()).or_default();
        rules.push(canonical::rule(attrs, &mut self.implied));
        Some(())
    }

    /// Elements of sets that are not wanted go with their sets.
    fn elements(&mut self, attrs: Attrs<'_>) -> Option<()> {
        let name = attrs.clone().find(elements::SET)?.text()?;
        let wanted = self.wanted.sets.get(name);
        let (Some(wanted), Some(set)) = (wanted, self.sets.get_mut(name)) else {
            return Some(());
        };
        if set.has_shape_of(wanted) {
            elements::read(self.wanted.family, set, attrs)?;
        }
        Some(())
    }

    fn finish(mut self) -> Found {
        let Some(objects) = self.objects else {
            return Found::Nothing;
        };
        self.sets.values_mut().for_each(|set| set.elements.seal());
        self.imply_by_verdicts();
        let known = self.rules.keys().chain(&self.implied);
        for name in known {
            self.chains.entry(name.clone()).or_default();
        }
        self.strange |= self.chains.keys().any(|name| name.starts_with(ANONYMOUS_CHAIN));
        let counted = self.chains.len() + self.sets.len();
        if self.strange || u32::try_from(counted).ok() != objects.checked_sub(self.anonymous_sets) {
            return Found::Strange;
        }
        self.recognise_rules();
        let Self { wanted, sets, chains, .. } = self;
        Found::Table(Table { sets, chains, ..Table::new(wanted.family, wanted.name) })
    }

    fn imply_by_verdicts(&mut self) {
        for set in self.sets.values().filter(|set| set.value == Value::Verdict) {
            let mut last: &[u8] = &[];
            for row in set.elements.iter().filter(|row| row.value.len() > 1) {
                // Runs of elements lead to the same chain.
                if row.value == last {
                    continue;
                }
                last = row.value;
                if let Verdict::Goto(chain) | Verdict::Jump(chain) = Verdict::from_row(row.value) {
                    self.implied.insert(chain);
                }
            }
        }
    }

    fn recognise_rules(&mut self) {
        for (name, chain) in &mut self.chains {
            let found = self.rules.remove(name).unwrap_or_default();
            let wanted = self.wanted.chains.get(name).map_or(&[][..], |chain| &chain.rules);
            let ours = wanted.iter().map(|rule| canonical_of(self.wanted.family, rule));
            chain.rules = if ours.eq(found.iter().cloned()) {
                wanted.to_vec()
            } else {
                found.iter().map(|_| Rule::new([])).collect()
            };
        }
    }
}

fn canonical_of(family: Family, rule: &Rule) -> Vec<u8> {
    let mut w = Writer::new();
    encode::rule::write(&mut w, family, "", rule);
    canonical::rule(Attrs::new(w.bytes()), &mut BTreeSet::new())
}
