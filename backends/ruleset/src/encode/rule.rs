//! Rules: each statement becomes expressions that load, compare and act on registers.
//!
//! Registers are counted here in fours of bytes from 0; the kernel's number for those that
//! begin a 16-byte register is that register's (`NFT_REG_1` is 1, `NFT_REG32_01` is 9), as
//! nft writes them.
//!
//! Invariant: one rule is encoded without regard to any other.

use super::userdata;
use crate::expr::{Expr, Generator, Match, SEED, Statement, Transport, Verdict};
use crate::{Rule, Type};
use ipnet::IpNet;
use nfc_ir::{Family, Protocol};
use nfc_netlink::attr::Writer;

/// `NFTA_RULE_*`.
pub(crate) const CHAIN: u16 = 2;
pub(crate) const EXPRESSIONS: u16 = 4;
pub(crate) const USERDATA: u16 = 7;

/// `NFTA_LIST_ELEM`, `NFTA_EXPR_*`.
pub(crate) const LIST_ELEM: u16 = 1;
pub(crate) const EXPR_NAME: u16 = 1;
pub(crate) const EXPR_DATA: u16 = 2;

/// `NFTA_DATA_*` and `NFTA_VERDICT_*`.
pub(crate) const DATA_VALUE: u16 = 1;
pub(crate) const DATA_VERDICT: u16 = 2;
pub(crate) const VERDICT_CODE: u16 = 1;
pub(crate) const VERDICT_CHAIN: u16 = 2;

/// `NF_ACCEPT`, `NF_DROP` and `NFT_RETURN`, `NFT_JUMP`, `NFT_GOTO`.
pub(crate) const ACCEPT: i32 = 1;
pub(crate) const DROP: i32 = 0;
pub(crate) const RETURN: i32 = -5;
pub(crate) const JUMP: i32 = -3;
pub(crate) const GOTO: i32 = -4;

/// The register that holds a verdict, `NFT_REG_VERDICT`.
const VERDICT_REGISTER: u32 = 0;

/// `enum nft_meta_keys`.
mod meta {
    pub(super) const PRIORITY: u32 = 2;
    pub(super) const MARK: u32 = 3;
    pub(super) const IIFNAME: u32 = 6;
    pub(super) const L4PROTO: u32 = 16;
}

/// Bytes of an interface's name, `IFNAMSIZ`.
const NAME_LEN: usize = 16;

/// `RTN_LOCAL` (`uapi/linux/rtnetlink.h`).
const LOCAL: u32 = 2;
/// `IPS_DST_NAT` (`uapi/linux/netfilter/nf_conntrack_common.h`).
const DST_NAT: u32 = 0x20;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const STATE_NEW: u32 = 8;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY` (`uapi/linux/netfilter/nf_nat.h`).
const RANDOM_FULLY: u32 = 0x10;

/// A rule, to be appended to a chain.
pub(crate) fn write(w: &mut Writer, family: Family, chain: &str, rule: &Rule) {
    w.text(CHAIN, chain);
    w.nest(EXPRESSIONS, |w| {
        let mut rule_writer = RuleWriter { w, family, tested: None };
        for statement in &rule.statements {
            rule_writer.statement(statement);
        }
    });
    if let Some(comment) = rule.comment {
        let mut bytes = Vec::new();
        userdata::comment(&mut bytes, comment);
        w.bytes_attr(USERDATA, &bytes);
    }
}

/// A verdict inside an element or an immediate.
pub(super) fn verdict(w: &mut Writer, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (ACCEPT, None),
        Verdict::Drop => (DROP, None),
        Verdict::Return => (RETURN, None),
        Verdict::Jump(chain) => (JUMP, Some(chain)),
        Verdict::Goto(chain) => (GOTO, Some(chain)),
    };
    w.nest(DATA_VERDICT, |w| {
        w.be32(VERDICT_CODE, i32::cast_unsigned(code));
        chain.into_iter().for_each(|chain| w.text(VERDICT_CHAIN, chain));
    });
}

/// The kernel's number of the register that begins `index` times four bytes in.
fn register(index: usize) -> u32 {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    if index.is_multiple_of(4) { 1 + index / 4 } else { 8 + index }
}

/// How `cmp` compares, `enum nft_cmp_ops`.
#[derive(Clone, Copy)]
enum Relation {
    Equal,
    NotEqual,
}

impl Relation {
    fn not(not: bool) -> Self {
        if not { Self::NotEqual } else { Self::Equal }
    }
}

struct RuleWriter<'a> {
    w: &'a mut Writer,
    family: Family,
    /// The protocol that an earlier statement has made sure of.
    tested: Option<Protocol>,
}

impl RuleWriter<'_> {
    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Match(test) => self.condition(test),
            Statement::Vmap { key, map } => {
                self.load_key(key);
                self.lookup(map, Some(VERDICT_REGISTER), false);
            }
            Statement::Dnat { key, map } => self.dnat(key, map),
            Statement::SetPriority { key, map } => self.set_priority(key, map),
            Statement::ClearPriority => self.clear_priority(),
            Statement::Remember { key, map, timeout } => self.dynset(key, map, Some(*timeout)),
            Statement::Forget { key, map } => self.dynset(key, map, None),
            Statement::SetMark(bits) => self.change_mark(!bits, *bits),
            Statement::ClearMark(bits) => self.change_mark(!bits, 0),
            Statement::Masquerade => self.expression("masq", |w| w.be32(1, RANDOM_FULLY)),
            Statement::Reject => self.reject(),
            Statement::Verdict(verdict) => self.expression("immediate", |w| {
                w.be32(1, VERDICT_REGISTER);
                w.nest(2, |w| self::verdict(w, verdict));
            }),
        }
    }

    fn condition(&mut self, test: &Match) {
        match test {
            Match::Saddr { not, block } => self.in_block(&Expr::Saddr, *not, block),
            Match::Daddr { not, block } => self.in_block(&Expr::Daddr, *not, block),
            Match::Iifname { not, name, prefix } => {
                self.meta(meta::IIFNAME, 0);
                let mut padded = [0; NAME_LEN];
                let len = name.len().min(NAME_LEN - 1);
                padded[..len].copy_from_slice(&name.as_bytes()[..len]);
                let compared = if *prefix { len } else { NAME_LEN };
                self.compare(Relation::not(*not), &padded[..compared]);
            }
            Match::Mark(mask) => {
                self.meta(meta::MARK, 0);
                self.bitwise(&mask.to_ne_bytes(), &[0; 4], true);
                self.compare(Relation::NotEqual, &[0; 4]);
            }
            Match::PriorityBits { mask, value } => {
                self.load(&Expr::PriorityBits(*mask), 0);
                self.compare(Relation::Equal, &value.to_ne_bytes());
            }
            Match::SaddrLocal => self.fib_local(1),
            Match::DaddrLocal => self.fib_local(2),
            Match::CtStatusDnat => self.conntrack(2, DST_NAT),
            Match::CtStateNew => self.conntrack(0, STATE_NEW),
            Match::L4proto(protocol) => self.test_protocol(*protocol),
            Match::In { not, key, set } => {
                self.load_key(key);
                self.lookup(set, None, *not);
            }
        }
    }

    /// One expression: its name and what `fill` writes.
    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Writer)) {
        self.w.nest(LIST_ELEM, |w| {
            w.text(EXPR_NAME, name);
            w.nest(EXPR_DATA, fill);
        });
    }

    /// The first register and port register of the value stand as the map lays them out.
    fn dnat(&mut self, key: &[Expr], map: &str) {
        self.test_protocol_of(key);
        self.load_key(key);
        self.lookup(map, Some(register(0)), false);
        let family = u32::from(super::family_number(self.family));
        let port = register(Type::Address.padded_len(self.family) / 4);
        self.expression("nat", |w| {
            w.be32(1, 1);
            w.be32(2, family);
            w.be32(3, register(0));
            w.be32(5, port);
        });
    }

    /// A port of a named protocol is read only once the packet is known to be of it.
    fn test_protocol_of(&mut self, key: &[Expr]) {
        let protocol = key.iter().find_map(|field| match field {
            Expr::Sport(Transport::Of(protocol)) | Expr::Dport(Transport::Of(protocol)) => {
                Some(*protocol)
            }
            _ => None,
        });
        if let Some(protocol) = protocol.filter(|_| self.tested != protocol) {
            self.test_protocol(protocol);
        }
    }

    fn set_priority(&mut self, key: &[Expr], map: &str) {
        self.test_protocol_of(key);
        self.load_key(key);
        self.lookup(map, Some(register(0)), false);
        self.store_priority();
    }

    fn clear_priority(&mut self) {
        self.expression("immediate", |w| {
            w.be32(1, register(0));
            w.nest(2, |w| w.bytes_attr(DATA_VALUE, &[0; 4]));
        });
        self.store_priority();
    }

    fn store_priority(&mut self) {
        self.expression("meta", |w| {
            w.be32(2, meta::PRIORITY);
            w.be32(3, register(0));
        });
    }

    /// Updates for `timeout` seconds, or deletes (`enum nft_dynset_ops`).
    fn dynset(&mut self, key: &[Expr], map: &str, timeout: Option<u32>) {
        /// Where nft 1.0.6 loads the value, however long the key is.
        const VALUE: usize = 4;
        let operation = if timeout.is_some() { 1 } else { 2 };
        self.test_protocol_of(key);
        self.load_key(key);
        self.meta(meta::PRIORITY, VALUE);
        self.expression("dynset", |w| {
            w.be32(4, register(0));
            w.be32(5, register(VALUE));
            w.be32(3, operation);
            if let Some(seconds) = timeout {
                w.be64(6, u64::from(seconds) * 1000);
            }
            w.text(1, map);
        });
    }

    /// Loads the fields one after the other from the first register on.
    fn load_key(&mut self, key: &[Expr]) {
        self.load_from(key, 0);
    }

    /// Returns how many bytes were loaded.
    fn load_from(&mut self, key: &[Expr], start: usize) -> usize {
        let mut at = start;
        for field in key {
            self.load(field, at);
            at += field.field_type().padded_len(self.family) / 4;
        }
        (at - start) * 4
    }

    fn load(&mut self, field: &Expr, at: usize) {
        let (saddr, len) = match self.family {
            Family::Ipv4 => (12, 4),
            Family::Ipv6 => (8, 16),
        };
        match field {
            Expr::Saddr => self.payload(1, saddr, len, at),
            Expr::SaddrTail => self.payload(1, saddr + 4, len - 4, at),
            Expr::Daddr => self.payload(1, saddr + len, len, at),
            Expr::Sport(_) => self.payload(2, 0, 2, at),
            Expr::Dport(_) => self.payload(2, 2, 2, at),
            Expr::L4proto => self.meta(meta::L4PROTO, at),
            Expr::Priority => self.meta(meta::PRIORITY, at),
            // It is the first field, and so in the first register.
            Expr::PriorityBits(mask) => {
                self.meta(meta::PRIORITY, 0);
                self.bitwise(&mask.to_ne_bytes(), &[0; 4], true);
            }
            Expr::Number { generator, modulus } => self.number(generator, *modulus, at),
        }
    }

    /// `base` is 1 for the network header and 2 for the transport header.
    fn payload(&mut self, base: u32, offset: u32, len: u32, at: usize) {
        self.expression("payload", |w| {
            w.be32(1, register(at));
            w.be32(2, base);
            w.be32(3, offset);
            w.be32(4, len);
        });
    }

    fn meta(&mut self, key: u32, at: usize) {
        self.expression("meta", |w| {
            w.be32(2, key);
            w.be32(1, register(at));
        });
    }

    fn number(&mut self, generator: &Generator, modulus: u32, at: usize) {
        let kind = match generator {
            Generator::Next => 0,
            Generator::Random => 1,
            Generator::Hash(of) => return self.hash(of, modulus, at),
        };
        self.expression("numgen", |w| {
            w.be32(1, register(at));
            w.be32(2, modulus);
            w.be32(3, kind);
            w.be32(4, 0);
        });
    }

    /// What is hashed is loaded behind the key, where nft puts it too.
    fn hash(&mut self, of: &[Expr], modulus: u32, at: usize) {
        let source = at + 5;
        let len = self.load_from(of, source);
        self.expression("hash", |w| {
            w.be32(1, register(source));
            w.be32(2, register(at));
            w.be32(3, u32::try_from(len).unwrap_or(u32::MAX));
            w.be32(4, modulus);
            w.be32(5, SEED);
            w.be32(6, 0);
            w.be32(7, 0);
        });
    }

    /// Looks up what the first register holds; `to` is where the value goes.
    fn lookup(&mut self, set: &str, to: Option<u32>, not: bool) {
        self.expression("lookup", |w| {
            w.be32(2, register(0));
            to.into_iter().for_each(|to| w.be32(3, to));
            w.text(1, set);
            if not {
                w.be32(5, 1);
            }
        });
    }

    /// A block that ends with a byte is compared by as many bytes; others need a mask.
    fn in_block(&mut self, field: &Expr, not: bool, block: &IpNet) {
        let (address, mask) = match block.trunc() {
            IpNet::V4(net) => (net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
            IpNet::V6(net) => (net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
        };
        let len = usize::from(block.prefix_len());
        let relation = Relation::not(not);
        if len > 0 && len.is_multiple_of(8) {
            let offset = match (field, self.family) {
                (Expr::Saddr, Family::Ipv4) => 12,
                (Expr::Saddr, Family::Ipv6) => 8,
                (_, Family::Ipv4) => 16,
                (_, Family::Ipv6) => 24,
            };
            self.payload(1, offset, u32::from(block.prefix_len() / 8), 0);
            return self.compare(relation, &address[..len / 8]);
        }
        self.load(field, 0);
        self.bitwise(&mask, &vec![0; mask.len()], false);
        self.compare(relation, &address);
    }

    fn change_mark(&mut self, mask: u32, xor: u32) {
        self.meta(meta::MARK, 0);
        self.bitwise(&mask.to_ne_bytes(), &xor.to_ne_bytes(), true);
        self.expression("meta", |w| {
            w.be32(2, meta::MARK);
            w.be32(3, register(0));
        });
    }

    /// `(register & mask) ^ xor`. nft names the operation except where it tests a prefix.
    fn bitwise(&mut self, mask: &[u8], xor: &[u8], named: bool) {
        self.expression("bitwise", |w| {
            w.be32(1, register(0));
            w.be32(2, register(0));
            if named {
                w.be32(6, 0);
            }
            w.be32(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
            w.nest(4, |w| w.bytes_attr(DATA_VALUE, mask));
            w.nest(5, |w| w.bytes_attr(DATA_VALUE, xor));
        });
    }

    fn compare(&mut self, relation: Relation, with: &[u8]) {
        self.expression("cmp", |w| {
            w.be32(1, register(0));
            w.be32(2, relation as u32);
            w.nest(3, |w| w.bytes_attr(DATA_VALUE, with));
        });
    }

    fn test_protocol(&mut self, protocol: Protocol) {
        self.tested = Some(protocol);
        self.meta(meta::L4PROTO, 0);
        self.compare(Relation::Equal, &[protocol.number()]);
    }

    /// `flags` is 1 for the source address and 2 for the destination (`NFTA_FIB_F_*`); the
    /// result is the type of the address (`NFT_FIB_RESULT_ADDRTYPE`).
    fn fib_local(&mut self, flags: u32) {
        self.expression("fib", |w| {
            w.be32(3, flags);
            w.be32(2, 3);
            w.be32(1, register(0));
        });
        self.compare(Relation::Equal, &LOCAL.to_ne_bytes());
    }

    /// Tests a bit of what conntrack knows under `key` (`enum nft_ct_keys`).
    fn conntrack(&mut self, key: u32, bit: u32) {
        self.expression("ct", |w| {
            w.be32(2, key);
            w.be32(1, register(0));
        });
        self.bitwise(&bit.to_ne_bytes(), &[0; 4], false);
        self.compare(Relation::NotEqual, &[0; 4]);
    }

    /// `NFT_REJECT_ICMP_UNREACH`, port unreachable.
    fn reject(&mut self) {
        let code = match self.family {
            Family::Ipv4 => 3,
            Family::Ipv6 => 4,
        };
        self.expression("reject", |w| {
            w.be32(1, 0);
            w.u8(2, code);
        });
    }
}
