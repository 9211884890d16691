//! A table with one of every shape of set and rule that this room can say.

use nfc_ir::{Family, Protocol};
use nfc_ruleset::expr::{Expr, Generator, Match, Statement, Transport, Verdict};
use nfc_ruleset::{Base, Fields, Hook, Key, Rule, Set, Table, Type, Value};
use std::net::IpAddr;

/// The table, for one family.
pub(crate) fn table(family: Family) -> Table {
    let mut table = Table::new(family, "shapes");
    sets(&mut table);
    maps(&mut table);
    table.add_chain("prerouting", Some(Base::nat(Hook::Prerouting)), lookups(family));
    table.add_chain("output", Some(Base::nat(Hook::Output)), verdicts());
    table.add_chain("postrouting", Some(Base::nat(Hook::Postrouting)), marks());
    table.add_chain("input", Some(Base::filter(Hook::Input, -5)), tests(family));
    table.add_chain("class", None, dnats());
    sticky(&mut table);
    table
}

fn ip(family: Family, last: u8) -> IpAddr {
    match family {
        Family::Ipv4 => [172, 30, 0, last].into(),
        Family::Ipv6 => [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)].into(),
    }
}

fn types(types: &[Type]) -> Fields {
    Fields::Types(types.to_vec())
}

fn sets(table: &mut Table) {
    let family = table.family;
    let mut addresses = Set::new(family, types(&[Type::Address]), Value::None);
    for last in [2, 1, 3] {
        addresses.add(&Key::new().addr(ip(family, last)));
    }
    table.add_set("addresses", addresses);
    let mut ports = Set::new(family, types(&[Type::Port]), Value::None);
    ports.add(&Key::new().port(53_u16));
    table.add_set("ports", ports);
    let mut pairs = Set::new(family, types(&[Type::Address, Type::Address]), Value::None);
    pairs.add(&Key::new().addr(ip(family, 1)).addr(ip(family, 1)));
    table.add_set("pairs", pairs);
    let key = [Type::Address, Type::Protocol, Type::Port, Type::Address];
    let mut ranges = Set::new(family, types(&key), Value::None).with_interval();
    let place = Key::new().addr(ip(family, 1)).proto(Protocol::Tcp).port(80_u16);
    let range = |first, last| place.addr(ip(family, first)).then(&place.addr(ip(family, last)));
    ranges.add(&range(8, 15));
    ranges.add(&range(17, 17));
    ranges.add(&range(33, 34));
    table.add_set("ranges", ranges);
}

fn maps(table: &mut Table) {
    let family = table.family;
    let key = [Type::Address, Type::Protocol, Type::Port];
    let mut services = Set::new(family, types(&key), Value::Verdict);
    let place = |last| Key::new().addr(ip(family, last)).proto(Protocol::Tcp).port(80_u16);
    let class = Verdict::Goto("class".to_owned());
    services.map(&place(1), &class.to_row(), "ns/web:http");
    services.map(&place(2), &Verdict::Drop.to_row(), "");
    services.map(&place(3), &class.to_row(), "");
    table.add_set("services", services);
    let key = [Type::Protocol, Type::Port];
    table.add_set("nodeports", Set::new(family, types(&key), Value::Verdict));
    for protocol in Protocol::ALL {
        let dport = Expr::Dport(Transport::Of(protocol));
        let key = vec![Expr::Daddr, dport.clone(), slot(Generator::Random, 65_536)];
        let value = Value::Data(Fields::Typeof(vec![Expr::Daddr, dport.clone()]));
        let mut endpoints = Set::new(family, Fields::Typeof(key), value.clone());
        let place = Key::new().addr(ip(family, 1)).port(80_u16);
        let endpoint = Key::new().addr(ip(family, 9)).port(8080_u16);
        endpoints.map(&place.number(0), endpoint.bytes(), "");
        endpoints.map(&place.number(1), endpoint.bytes(), "");
        table.add_set(format!("endpoints-{protocol}"), endpoints);
        let key = vec![dport, slot(Generator::Random, 65_536)];
        let nodeports = Set::new(family, Fields::Typeof(key), value);
        table.add_set(format!("nodeport-endpoints-{protocol}"), nodeports);
    }
}

fn slot(generator: Generator, modulus: u32) -> Expr {
    Expr::Number { generator, modulus }
}

fn frontend() -> Vec<Expr> {
    vec![Expr::Daddr, Expr::L4proto, Expr::Dport(Transport::Any)]
}

fn vmap(key: Vec<Expr>, map: &str) -> Statement {
    Statement::Vmap { key, map: map.to_owned() }
}

fn is_in(not: bool, key: Vec<Expr>, set: &str) -> Statement {
    Match::In { not, key, set: set.to_owned() }.into()
}

fn lookups(family: Family) -> Vec<Rule> {
    let loopback = match family {
        Family::Ipv4 => "127.0.0.0/8",
        Family::Ipv6 => "::1/128",
    };
    let block = loopback.parse().expect("a block");
    let mut with_source = frontend();
    with_source.push(Expr::Saddr);
    let at_node = || vec![Expr::L4proto, Expr::Dport(Transport::Any)];
    vec![
        Rule::new([vmap(frontend(), "services")]),
        Rule::new([is_in(false, vec![Expr::Daddr], "addresses"), vmap(at_node(), "nodeports")]),
        Rule::new([
            Match::DaddrLocal.into(),
            Match::Daddr { not: true, block }.into(),
            vmap(at_node(), "nodeports"),
        ]),
        Rule::new([is_in(false, vec![Expr::Daddr], "addresses"), Statement::Reject])
            .with_comment("ports of nobody"),
        Rule::new([is_in(true, with_source, "ranges"), Verdict::Drop.into()]),
    ]
}

fn verdicts() -> Vec<Rule> {
    let class = || "class".to_owned();
    [
        Verdict::Goto(class()),
        Verdict::Jump(class()),
        Verdict::Accept,
        Verdict::Return,
        Verdict::Drop,
    ]
    .map(|verdict| Rule::new([verdict.into()]))
    .to_vec()
}

fn marks() -> Vec<Rule> {
    let pairs = is_in(false, vec![Expr::Saddr, Expr::Daddr], "pairs");
    vec![
        Rule::new([
            Match::Mark(0x4000).into(),
            Statement::ClearMark(0x4000),
            Statement::Masquerade,
        ]),
        Rule::new([Match::CtStatusDnat.into(), pairs, Statement::Masquerade]),
    ]
}

fn tests(family: Family) -> Vec<Rule> {
    let blocks = match family {
        Family::Ipv4 => ["10.0.0.0/8", "10.96.0.0/12", "0.0.0.0/0", "192.0.2.1/32"],
        Family::Ipv6 => ["fd00::/16", "fd00::/108", "::/0", "fd00::1/128"],
    };
    let mut rules: Vec<Rule> = blocks
        .iter()
        .zip([true, false, false, true])
        .map(|(block, not)| {
            let block = block.parse().expect("a block");
            Rule::new([Match::Saddr { not, block }.into(), Statement::SetMark(1)])
        })
        .collect();
    for (name, not, prefix) in [("cni0", true, false), ("veth", false, true)] {
        let name = name.to_owned();
        rules.push(Rule::new([Match::Iifname { not, name, prefix }.into(), Verdict::Drop.into()]));
    }
    for test in [Match::SaddrLocal, Match::CtStateNew, Match::L4proto(Protocol::Udp)] {
        rules.push(Rule::new([test.into(), Verdict::Drop.into()]));
    }
    rules
}

fn dnats() -> Vec<Rule> {
    let sport = Expr::Sport(Transport::Of(Protocol::Udp));
    let generators = [
        (Protocol::Tcp, Generator::Random),
        (Protocol::Sctp, Generator::Next),
        (Protocol::Tcp, Generator::Hash(vec![Expr::Saddr])),
        (Protocol::Udp, Generator::Hash(vec![Expr::Saddr, sport])),
    ];
    let mut rules = Vec::new();
    for (protocol, generator) in generators {
        let dport = Expr::Dport(Transport::Of(protocol));
        let key = vec![Expr::Daddr, dport.clone(), slot(generator.clone(), 3)];
        let map = format!("endpoints-{protocol}");
        rules.push(Rule::new([Statement::Dnat { key, map }]));
        let key = vec![dport, slot(generator, 2)];
        let map = format!("nodeport-endpoints-{protocol}");
        rules.push(Rule::new([Statement::SetMark(0x4000), Statement::Dnat { key, map }]));
    }
    rules
}

/// What session affinity needs: numbers of endpoints, kept for clients.
fn sticky(table: &mut Table) {
    let family = table.family;
    let dport = || Expr::Dport(Transport::Of(Protocol::Tcp));
    let class = || Value::Data(Fields::Typeof(vec![Expr::Priority]));
    let source = match family {
        Family::Ipv4 => Expr::Saddr,
        Family::Ipv6 => Expr::SaddrTail,
    };
    let declared = Fields::Typeof(vec![Expr::Priority, source.clone()]);
    table.add_set("affinity", Set::new(family, declared, class()).filled_by_packets());
    let place = Key::new().addr(ip(family, 1)).port(80_u16);
    let id = Key::new().number(0x4012_8abc);
    let key = |slot| vec![Expr::Daddr, dport(), slot];
    let numbered = Fields::Typeof(key(slot(Generator::Random, 65_536)));
    let mut ids = Set::new(family, numbered, class());
    ids.map(&place.number(0), id.bytes(), "");
    table.add_set("ids-tcp", ids);
    let value = Value::Data(types(&[Type::Address, Type::Port]));
    let mut endpoints = Set::new(family, types(&[Type::Class]), value);
    let endpoint = Key::new().addr(ip(family, 9)).port(8080_u16);
    endpoints.map(&id, endpoint.bytes(), "");
    table.add_set("sticky", endpoints);
    let client = vec![Expr::PriorityBits(0xffff_8000), source];
    table.add_chain("sticky", None, sticky_rules(client, key));
}

fn sticky_rules(client: Vec<Expr>, frontend: impl Fn(Expr) -> Vec<Expr>) -> Vec<Rule> {
    let map = || "affinity".to_owned();
    let number = |generator, modulus| Statement::SetPriority {
        key: frontend(slot(generator, modulus)),
        map: "ids-tcp".to_owned(),
    };
    let is_tcp = || Match::L4proto(Protocol::Tcp).into();
    let remember = |timeout| Statement::Remember { key: client.clone(), map: map(), timeout };
    let dnat = || Statement::Dnat { key: vec![Expr::Priority], map: "sticky".to_owned() };
    let ours = Match::PriorityBits { mask: 0xc000_0000, value: 0x4000_0000 };
    vec![
        Rule::new([number(Generator::Next, 1)]),
        Rule::new([
            is_tcp(),
            Statement::SetPriority { key: client.clone(), map: map() },
            remember(10_800),
            dnat(),
        ]),
        Rule::new([Statement::Forget { key: client.clone(), map: map() }]),
        Rule::new([number(Generator::Random, 3)]),
        Rule::new([remember(90)]),
        Rule::new([is_tcp(), dnat()]),
        Rule::new([ours.into(), Statement::ClearPriority]),
    ]
}
