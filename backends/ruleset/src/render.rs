//! A table as text: the script that loads it, whose body is what `nft list table` prints.
//!
//! The script first makes sure that the table exists, so that it can delete it, and then
//! defines it anew, all in one transaction: loading it replaces whatever was there.
//!
//! Invariant: the same table gives the same bytes; nothing is decided here.

use crate::expr::{Expr, Generator, Match, SEED, Statement, Transport, Verdict};
use crate::{Base, Chain, Fields, Hook, Row, Rule, Set, Table, Type, Value};
use ipnet::IpNet;
use nfc_ir::{Family, Protocol};
use std::fmt::{self, Display, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name that nft has for a family.
#[must_use]
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip6",
    }
}

/// The script that loads `table` in place of one of the same name.
#[must_use]
pub fn script(table: &Table) -> String {
    let mut text = removal(table.family, table.name);
    // Writing to a String cannot fail.
    let _ = write!(text, "{table}");
    text
}

/// The script that removes a table, whether or not there is one.
#[must_use]
pub fn removal(family: Family, name: &str) -> String {
    let family = family_name(family);
    format!("add table {family} {name}\ndelete table {family} {name}\n")
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", family_name(self.family), self.name)?;
        let mut gap = "";
        for (name, set) in &self.sets {
            f.write_str(gap)?;
            gap = "\n";
            write_set(f, self.family, name, set)?;
        }
        for (name, chain) in self.listed_chains() {
            f.write_str(gap)?;
            gap = "\n";
            write_chain(f, self.family, name, chain)?;
        }
        f.write_str("}\n")
    }
}

/// A set as a table's listing shows it.
pub(crate) fn set_text(family: Family, name: &str, set: &Set) -> String {
    text_of(|f| write_set(f, family, name, set))
}

/// A chain as a table's listing shows it.
pub(crate) fn chain_text(family: Family, name: &str, chain: &Chain) -> String {
    text_of(|f| write_chain(f, family, name, chain))
}

/// An element as a set's listing shows it.
pub(crate) fn element_text(family: Family, set: &Set, row: Row<'_>) -> String {
    let data = match &set.value {
        Value::Data(data) => data.types(),
        Value::None | Value::Verdict => Vec::new(),
    };
    text_of(|f| write_element(f, family, &set.key.types(), &data, set, row))
}

/// What `write` writes. Writing to a String cannot fail.
fn text_of(write: impl Fn(&mut fmt::Formatter<'_>) -> fmt::Result) -> String {
    struct Text<W>(W);
    impl<W: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> Display for Text<W> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            (self.0)(f)
        }
    }
    Text(write).to_string()
}

fn write_set(f: &mut fmt::Formatter<'_>, family: Family, name: &str, set: &Set) -> fmt::Result {
    let kind = if set.value == Value::None { "set" } else { "map" };
    writeln!(f, "\t{kind} {name} {{")?;
    write!(f, "\t\t{}", fields(family, &set.key))?;
    match &set.value {
        Value::None => {}
        Value::Verdict => f.write_str(" : verdict")?,
        Value::Data(data) => {
            let text = fields(family, data);
            let list = text.split_once(' ').map_or("", |(_, list)| list);
            write!(f, " : {list}")?;
        }
    }
    f.write_char('\n')?;
    if let Some(size) = set.size {
        writeln!(f, "\t\tsize {size}")?;
    }
    match (set.interval, set.dynamic) {
        (true, _) => f.write_str("\t\tflags interval\n")?,
        (_, true) => f.write_str("\t\tflags dynamic,timeout\n")?,
        _ => {}
    }
    write_elements(f, family, set)?;
    f.write_str("\t}\n")
}

fn fields(family: Family, fields: &Fields) -> String {
    let (word, list): (_, Vec<String>) = match fields {
        Fields::Types(types) => {
            ("type", types.iter().map(|t| type_name(family, *t).to_owned()).collect())
        }
        Fields::Typeof(exprs) => ("typeof", exprs.iter().map(|e| expr(family, e)).collect()),
    };
    format!("{word} {}", list.join(" . "))
}

fn type_name(family: Family, field: Type) -> &'static str {
    match (field, family) {
        (Type::Address, Family::Ipv4) => "ipv4_addr",
        (Type::Address, Family::Ipv6) => "ipv6_addr",
        (Type::Protocol, _) => "inet_proto",
        (Type::Port, _) => "inet_service",
        (Type::Mark, _) => "mark",
        (Type::Class, _) => "classid",
        (Type::AddressTail | Type::Number, _) => "integer",
    }
}

fn write_elements(f: &mut fmt::Formatter<'_>, family: Family, set: &Set) -> fmt::Result {
    if set.elements.is_empty() {
        return Ok(());
    }
    let keys = set.key.types();
    let data = match &set.value {
        Value::Data(data) => data.types(),
        Value::None | Value::Verdict => Vec::new(),
    };
    let per_line = per_line(family, &keys);
    f.write_str("\t\telements = { ")?;
    for (i, row) in set.elements.iter().enumerate() {
        match i {
            0 => {}
            i if i % per_line == 0 => f.write_str(",\n\t\t\t     ")?,
            _ => f.write_str(", ")?,
        }
        write_element(f, family, &keys, &data, set, row)?;
    }
    f.write_str(" }\n")
}

fn write_element(
    f: &mut fmt::Formatter<'_>,
    family: Family,
    keys: &[Type],
    data: &[Type],
    set: &Set,
    row: Row<'_>,
) -> fmt::Result {
    write_key(f, family, keys, row, set.interval)?;
    if !row.comment.is_empty() {
        write!(f, " comment \"{}\"", row.comment)?;
    }
    match &set.value {
        Value::None => {}
        Value::Verdict => write!(f, " : {}", Verdict::from_row(row.value))?,
        Value::Data(_) => {
            f.write_str(" : ")?;
            write_concat(f, family, data, row.value)?;
        }
    }
    Ok(())
}

/// How many elements nft lists on one line: several when keys are short.
fn per_line(family: Family, keys: &[Type]) -> usize {
    match (keys, family) {
        ([Type::Address], Family::Ipv4) => 2,
        ([Type::Port | Type::Protocol], _) => 5,
        _ => 1,
    }
}

fn write_key(
    f: &mut fmt::Formatter<'_>,
    family: Family,
    types: &[Type],
    row: Row<'_>,
    interval: bool,
) -> fmt::Result {
    if !interval {
        return write_concat(f, family, types, row.key);
    }
    let (mut first, mut last) = row.key.split_at(row.key.len() / 2);
    for (i, field) in types.iter().enumerate() {
        let dot = if i == 0 { "" } else { " . " };
        let range = (field.value(family, first), field.value(family, last));
        write!(f, "{dot}{}", RangeText(range.0, range.1))?;
        first = &first[field.padded_len(family)..];
        last = &last[field.padded_len(family)..];
    }
    Ok(())
}

fn write_concat(
    f: &mut fmt::Formatter<'_>,
    family: Family,
    types: &[Type],
    mut bytes: &[u8],
) -> fmt::Result {
    for (i, field) in types.iter().enumerate() {
        let dot = if i == 0 { "" } else { " . " };
        write!(f, "{dot}{}", field.value(family, bytes))?;
        bytes = &bytes[field.padded_len(family)..];
    }
    Ok(())
}

/// The elements' concatenation as nft writes it, for messages to people.
#[must_use]
pub fn key_text(family: Family, set: &Set, row: Row<'_>) -> String {
    text_of(|f| write_key(f, family, &set.key.types(), row, set.interval))
}

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldValue {
    /// An address.
    Address(IpAddr),
    /// Twelve bytes of an address as a number.
    AddressTail(u128),
    /// A transport protocol by number.
    Protocol(u8),
    /// A port.
    Port(u16),
    /// A mark.
    Mark(u32),
    /// A packet's priority.
    Class(u32),
    /// A number.
    Number(u32),
}

impl Type {
    /// The value at the beginning of `bytes`.
    #[must_use]
    pub fn value(self, family: Family, bytes: &[u8]) -> FieldValue {
        let [b0, b1, b2, b3] = first(bytes);
        match self {
            Self::Address if family == Family::Ipv6 => {
                FieldValue::Address(Ipv6Addr::from(first::<16>(bytes)).into())
            }
            Self::Address => FieldValue::Address(Ipv4Addr::new(b0, b1, b2, b3).into()),
            Self::AddressTail => {
                let tail = first::<12>(bytes);
                FieldValue::AddressTail(tail.iter().fold(0, |all, b| all << 8 | u128::from(*b)))
            }
            Self::Protocol => FieldValue::Protocol(b0),
            Self::Port => FieldValue::Port(u16::from_be_bytes([b0, b1])),
            Self::Mark => FieldValue::Mark(u32::from_ne_bytes([b0, b1, b2, b3])),
            Self::Class => FieldValue::Class(u32::from_ne_bytes([b0, b1, b2, b3])),
            Self::Number => FieldValue::Number(u32::from_ne_bytes([b0, b1, b2, b3])),
        }
    }
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let Some(first) = bytes.first_chunk() else {
        unreachable!("a row has room for all fields of its set");
    };
    *first
}

impl Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::AddressTail(number) => write!(f, "{number:#x}"),
            Self::Protocol(number) => match Protocol::ALL.iter().find(|p| p.number() == *number) {
                Some(protocol) => write!(f, "{protocol}"),
                None => write!(f, "{number}"),
            },
            Self::Port(port) => write!(f, "{port}"),
            Self::Mark(mark) => write!(f, "{mark:#010x}"),
            Self::Class(class) => write!(f, "{:x}:{:x}", class >> 16, class & 0xffff),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// A range as nft prints it: one value, a block where it is one, or first and last.
struct RangeText(FieldValue, FieldValue);

impl Display for RangeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(first, last) = self;
        if first == last {
            return write!(f, "{first}");
        }
        if let (FieldValue::Address(low), FieldValue::Address(high)) = (first, last)
            && let Some(block) = block_of(*low, *high)
        {
            return write!(f, "{block}");
        }
        write!(f, "{first}-{last}")
    }
}

fn block_of(first: IpAddr, last: IpAddr) -> Option<IpNet> {
    let longest = if first.is_ipv4() { 32 } else { 128 };
    (0..=longest)
        .filter_map(|len| IpNet::new(first, len).ok())
        .find(|block| block.network() == first && block.broadcast() == last)
}

fn write_chain(
    f: &mut fmt::Formatter<'_>,
    family: Family,
    name: &str,
    chain: &Chain,
) -> fmt::Result {
    writeln!(f, "\tchain {name} {{")?;
    if let Some(base) = &chain.base {
        writeln!(
            f,
            "\t\ttype {} hook {} priority {}; policy accept;",
            base.kind.name(),
            base.hook.name(),
            priority(base)
        )?;
    }
    for rule in &chain.rules {
        writeln!(f, "\t\t{}", rule_text(family, rule))?;
    }
    f.write_str("\t}\n")
}

/// A priority by the name that nft has for it at its hook, where it has one.
fn priority(base: &Base) -> String {
    match (base.priority, base.hook) {
        (-100, Hook::Prerouting) => "dstnat".to_owned(),
        (100, Hook::Postrouting) => "srcnat".to_owned(),
        (0, _) => "filter".to_owned(),
        (-300, _) => "raw".to_owned(),
        (-150, _) => "mangle".to_owned(),
        (50, _) => "security".to_owned(),
        (number, _) => near_filter(number),
    }
}

/// nft lists priorities close to a named one as a distance from it.
fn near_filter(priority: i32) -> String {
    match priority {
        1..=10 => format!("filter + {priority}"),
        -10..=-1 => format!("filter - {}", -priority),
        _ => priority.to_string(),
    }
}

/// A rule as nft lists it.
#[must_use]
pub fn rule_text(family: Family, rule: &Rule) -> String {
    let mut words: Vec<String> = rule.statements.iter().map(|s| statement(family, s)).collect();
    words.extend(rule.comment.map(|c| format!("comment \"{c}\"")));
    words.join(" ")
}

fn statement(family: Family, statement: &Statement) -> String {
    let ip = family_name(family);
    match statement {
        Statement::Match(test) => condition(family, test),
        Statement::Vmap { key, map } => format!("{} vmap @{map}", concat(family, key)),
        Statement::Dnat { key, map } => {
            format!("dnat {ip} to {} map @{map}", concat(family, key))
        }
        Statement::SetPriority { key, map } => {
            format!("meta priority set {} map @{map}", concat(family, key))
        }
        Statement::ClearPriority => "meta priority set none".to_owned(),
        Statement::Remember { key, map, timeout } => {
            let (key, timeout) = (concat(family, key), Span(*timeout));
            format!("update @{map} {{ {key} timeout {timeout} : meta priority }}")
        }
        Statement::Forget { key, map } => {
            format!("delete @{map} {{ {} : meta priority }}", concat(family, key))
        }
        Statement::SetMark(bits) => format!("meta mark set meta mark | {bits:#010x}"),
        Statement::ClearMark(bits) => format!("meta mark set meta mark & {:#010x}", !bits),
        Statement::Masquerade => "masquerade fully-random".to_owned(),
        Statement::Reject => "reject".to_owned(),
        Statement::Verdict(verdict) => verdict.to_string(),
    }
}

fn condition(family: Family, test: &Match) -> String {
    let ip = family_name(family);
    match test {
        Match::Saddr { not, block } => format!("{ip} saddr {}{}", is_not(*not), block_text(block)),
        Match::Daddr { not, block } => format!("{ip} daddr {}{}", is_not(*not), block_text(block)),
        Match::Iifname { not, name, prefix } => {
            let star = if *prefix { "*" } else { "" };
            format!("iifname {}\"{name}{star}\"", is_not(*not))
        }
        Match::Mark(mask) => format!("meta mark & {mask:#010x} != 0x00000000"),
        Match::PriorityBits { mask, value } => {
            let bits = expr(family, &Expr::PriorityBits(*mask));
            format!("{bits} == {}", FieldValue::Class(*value))
        }
        Match::SaddrLocal => "fib saddr type local".to_owned(),
        Match::DaddrLocal => "fib daddr type local".to_owned(),
        Match::CtStatusDnat => "ct status dnat".to_owned(),
        Match::CtStateNew => "ct state new".to_owned(),
        Match::L4proto(protocol) => format!("meta l4proto {protocol}"),
        Match::In { not, key, set } => {
            format!("{} {}@{set}", concat(family, key), is_not(*not))
        }
    }
}

fn is_not(not: bool) -> &'static str {
    if not { "!= " } else { "" }
}

/// A block, or the address when it holds only one.
fn block_text(block: &IpNet) -> String {
    if block.prefix_len() == block.max_prefix_len() {
        block.addr().to_string()
    } else {
        block.trunc().to_string()
    }
}

fn concat(family: Family, key: &[Expr]) -> String {
    let fields: Vec<String> = key.iter().map(|e| expr(family, e)).collect();
    fields.join(" . ")
}

fn expr(family: Family, value: &Expr) -> String {
    let ip = family_name(family);
    match value {
        Expr::Saddr => format!("{ip} saddr"),
        Expr::SaddrTail => "@nh,96,96".to_owned(),
        Expr::Daddr => format!("{ip} daddr"),
        Expr::L4proto => "meta l4proto".to_owned(),
        Expr::Priority => "meta priority".to_owned(),
        Expr::PriorityBits(mask) => format!("meta priority & {}", FieldValue::Class(*mask)),
        Expr::Sport(transport) => format!("{} sport", transport.name()),
        Expr::Dport(transport) => format!("{} dport", transport.name()),
        Expr::Number { generator, modulus } => match generator {
            Generator::Random => format!("numgen random mod {modulus}"),
            Generator::Next => format!("numgen inc mod {modulus}"),
            Generator::Hash(of) => {
                format!("jhash {} mod {modulus} seed {SEED:#x}", concat(family, of))
            }
        },
    }
}

impl Transport {
    /// The word before `sport` or `dport`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "th",
            Self::Of(protocol) => protocol.name(),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

/// A number of seconds as nft prints it: `3h`, `1d2h`.
struct Span(u32);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
            let whole = rest / seconds;
            rest %= seconds;
            if whole > 0 {
                write!(f, "{whole}{unit}")?;
            }
        }
        Ok(())
    }
}
