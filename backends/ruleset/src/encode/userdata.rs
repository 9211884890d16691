//! Userdata: bytes that the kernel keeps unread, by which nft knows how to print a set, and
//! comments.
//!
//! Records of type, length and value, one byte each for the first two. Written as nft 1.0.6
//! writes them; the numbers of protocols and fields are nft's own
//! (nftables, `src/netlink_delinearize.c`, `include/proto.h`; libnftnl, `udata.h`).
//!
//! Invariant: nothing here changes what a packet meets.

use crate::{Expr, Fields, Generator, Set, Transport, Type, Value};
use nfc_ir::{Family, Protocol};

/// `NFTNL_UDATA_SET_*`.
mod set_records {
    pub(super) const KEY_BYTEORDER: u8 = 0;
    pub(super) const DATA_BYTEORDER: u8 = 1;
    pub(super) const KEY_TYPEOF: u8 = 3;
    pub(super) const DATA_TYPEOF: u8 = 4;
    pub(super) const DATA_INTERVAL: u8 = 6;
}

/// `enum byteorder` of nft.
mod byteorder {
    pub(super) const NONE: u32 = 0;
    pub(super) const HOST: u32 = 1;
    pub(super) const NETWORK: u32 = 2;
}

/// `EXPR_*` of nft.
mod expressions {
    pub(super) const PAYLOAD: u32 = 7;
    pub(super) const META: u32 = 9;
    pub(super) const CONCAT: u32 = 13;
    pub(super) const NUMGEN: u32 = 23;
}

/// `NFT_META_L4PROTO` (`uapi/linux/netfilter/nf_tables.h`).
const META_L4PROTO: u32 = 16;
/// `NFT_META_PRIORITY`.
const META_PRIORITY: u32 = 2;

/// Appends a comment on a rule or an element: record 0, the text with its terminating NUL.
pub(crate) fn comment(out: &mut Vec<u8>, text: &str) {
    record(out, 0, |out| {
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    });
}

/// The comment in the userdata of an element, wherever it stands among other records.
pub(crate) fn text_of(mut records: &[u8]) -> Option<&str> {
    while let [kind, len, rest @ ..] = records {
        let (value, after) = rest.split_at_checked(usize::from(*len))?;
        if *kind == 0 {
            return str::from_utf8(value).ok()?.strip_suffix('\0');
        }
        records = after;
    }
    None
}

/// How a set is to be listed.
pub(crate) fn set(family: Family, set: &Set) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, set_records::KEY_BYTEORDER, order(&set.key));
    match &set.value {
        Value::None => {}
        Value::Verdict => number(&mut out, set_records::DATA_BYTEORDER, byteorder::NONE),
        Value::Data(data) => number(&mut out, set_records::DATA_BYTEORDER, order(data)),
    }
    typeof_record(&mut out, set_records::KEY_TYPEOF, family, &set.key);
    if let Value::Data(data) = &set.value {
        typeof_record(&mut out, set_records::DATA_TYPEOF, family, data);
    }
    if set.value != Value::None {
        number(&mut out, set_records::DATA_INTERVAL, 0);
    }
    out
}

fn order(fields: &Fields) -> u32 {
    match fields.types().as_slice() {
        [Type::Address | Type::Port] => byteorder::NETWORK,
        [Type::Mark | Type::Class | Type::Number] => byteorder::HOST,
        _ => byteorder::NONE,
    }
}

/// What the fields are expressions of. A concatenation of plain types is said to be one,
/// without its parts; a single plain type needs no record.
fn typeof_record(out: &mut Vec<u8>, kind: u8, family: Family, fields: &Fields) {
    match fields {
        Fields::Types(types) if types.len() > 1 => record(out, kind, |out| {
            number(out, 0, expressions::CONCAT);
            record(out, 1, |_| ());
        }),
        Fields::Types(_) => {}
        Fields::Typeof(exprs) => record(out, kind, |out| match exprs.as_slice() {
            [single] => expression(out, family, single),
            many => {
                number(out, 0, expressions::CONCAT);
                record(out, 1, |out| {
                    for (i, expr) in (0..).zip(many) {
                        record(out, i, |out| expression(out, family, expr));
                    }
                });
            }
        }),
    }
}

fn expression(out: &mut Vec<u8>, family: Family, expr: &Expr) {
    let (kind, fields) = match expr {
        Expr::Saddr => (expressions::PAYLOAD, vec![ip(family), saddr_field(family)]),
        Expr::Daddr => (expressions::PAYLOAD, vec![ip(family), saddr_field(family) + 1]),
        // No protocol, no field: a place in the network header (`PROTO_BASE_NETWORK_HDR`),
        // offset and length in bits.
        Expr::SaddrTail => (expressions::PAYLOAD, vec![0, 0, 2, 96, 96]),
        Expr::Sport(transport) => (expressions::PAYLOAD, vec![protocol(*transport), 1]),
        Expr::Dport(transport) => (expressions::PAYLOAD, vec![protocol(*transport), 2]),
        Expr::L4proto => (expressions::META, vec![META_L4PROTO]),
        Expr::Priority | Expr::PriorityBits(_) => (expressions::META, vec![META_PRIORITY]),
        Expr::Number { generator, modulus } => {
            // nft 1.0.6 aborts on listing a set declared by a hash; all that counts is the
            // type, so any number is declared by a generator.
            let kind = u32::from(*generator != Generator::Next);
            (expressions::NUMGEN, vec![kind, *modulus, 0])
        }
    };
    number(out, 0, kind);
    record(out, 1, |out| {
        for (i, field) in (0..).zip(fields) {
            number(out, i, field);
        }
    });
}

/// `PROTO_DESC_IP`, `PROTO_DESC_IP6`.
fn ip(family: Family) -> u32 {
    match family {
        Family::Ipv4 => 12,
        Family::Ipv6 => 13,
    }
}

/// `IPHDR_SADDR`, `IP6HDR_SADDR`; the destination's follows.
fn saddr_field(family: Family) -> u32 {
    match family {
        Family::Ipv4 => 11,
        Family::Ipv6 => 8,
    }
}

/// `PROTO_DESC_*` of transport protocols.
fn protocol(transport: Transport) -> u32 {
    match transport {
        Transport::Of(Protocol::Udp) => 6,
        Transport::Of(Protocol::Tcp) => 8,
        Transport::Of(Protocol::Sctp) => 10,
        Transport::Any => 11,
    }
}

fn number(out: &mut Vec<u8>, kind: u8, value: u32) {
    record(out, kind, |out| out.extend_from_slice(&value.to_ne_bytes()));
}

fn record(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[kind, 0]);
    let start = out.len();
    fill(out);
    let Ok(len) = u8::try_from(out.len() - start) else {
        unreachable!("declarations and comments are far shorter than 255 bytes");
    };
    out[start - 1] = len;
}
