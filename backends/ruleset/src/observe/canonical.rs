//! Rules in one form, whoever wrote them: the kernel lists the attributes of an expression
//! in an order of its own, says defaults that were left out, and marks no nests; nft turns
//! the bytes of single bytes around.
//!
//! Invariant: two rules have the same form only when they do the same.

use crate::encode::rule;
use nfc_netlink::attr::{Attr, Attrs, Writer};
use std::collections::BTreeSet;

/// `NFTA_NAT_REG_*_MAX`, each after its `_MIN`.
const NAT_MAX: [u16; 2] = [4, 6];
/// `NFTA_NAT_FLAGS`, and in it `NF_NAT_RANGE_MAP_IPS` and `NF_NAT_RANGE_PROTO_SPECIFIED`,
/// which the kernel sets by the registers in use.
const NAT_FLAGS: u16 = 7;
const NAT_IMPLIED: u32 = 3;

/// `NFTA_BYTEORDER_SREG`, `_DREG`, `_LEN` and `_SIZE`.
const BYTEORDER: [u16; 4] = [1, 2, 4, 5];

/// The rule with these attributes. Names of chains that it leads to go into `chains`.
pub(super) fn rule(attrs: Attrs<'_>, chains: &mut BTreeSet<String>) -> Vec<u8> {
    let mut w = Writer::new();
    let list = attrs.clone().find(rule::EXPRESSIONS);
    for member in list.iter().flat_map(Attr::nested) {
        let name = member.nested().find(rule::EXPR_NAME).and_then(|a| a.text());
        let data = member.nested().find(rule::EXPR_DATA);
        let name = name.unwrap_or_default();
        if name == "byteorder" && data.as_ref().is_some_and(is_idle) {
            continue;
        }
        w.nest(rule::LIST_ELEM, |w| {
            w.text(rule::EXPR_NAME, name);
            expression(w, name, data.iter().flat_map(Attr::nested), chains);
        });
    }
    if let Some(userdata) = attrs.find(rule::USERDATA) {
        w.bytes_attr(rule::USERDATA, userdata.payload);
    }
    w.into_bytes()
}

/// Whether a `byteorder` turns nothing around: it works on whole words of its size
/// (`nft_byteorder_eval` in `net/netfilter/nft_byteorder.c`), so that none fits into less, and
/// the register stays what it is. nft puts one behind a protocol in a key of ranges.
fn is_idle(byteorder: &Attr<'_>) -> bool {
    let of = |kind| byteorder.nested().find(kind).and_then(|a| a.be32());
    let [from, to, len, size] = BYTEORDER.map(of);
    from == to && from.is_some() && len.zip(size).is_some_and(|(len, size)| len < size)
}

fn expression<'a>(
    w: &mut Writer,
    name: &str,
    attrs: impl Iterator<Item = Attr<'a>>,
    chains: &mut BTreeSet<String>,
) {
    let mut attrs: Vec<_> = attrs.collect();
    attrs.sort_by_key(|attr| attr.kind);
    for attr in &attrs {
        let min = attr.kind.checked_sub(1);
        let is_max = name == "nat" && NAT_MAX.contains(&attr.kind);
        if is_max && attrs.iter().any(|a| Some(a.kind) == min && a.payload == attr.payload) {
            continue;
        }
        match (name, attr.kind) {
            ("nat", NAT_FLAGS) => {
                let chosen = attr.be32().unwrap_or(u32::MAX) & !NAT_IMPLIED;
                if chosen != 0 {
                    w.be32(NAT_FLAGS, chosen);
                }
            }
            ("immediate", 2) | ("cmp", 3) | ("bitwise", 4 | 5) => data(w, attr, chains),
            // What is left out is zero.
            _ if attr.payload.iter().all(|byte| *byte == 0) => {}
            _ => w.bytes_attr(attr.kind, attr.payload),
        }
    }
}

/// A value or a verdict.
fn data(w: &mut Writer, attr: &Attr<'_>, chains: &mut BTreeSet<String>) {
    w.nest(attr.kind, |w| {
        for inner in attr.nested() {
            if inner.kind != rule::DATA_VERDICT {
                w.bytes_attr(inner.kind, inner.payload);
                continue;
            }
            let chain = inner.nested().find(rule::VERDICT_CHAIN).and_then(|a| a.text());
            chains.extend(chain.map(str::to_owned));
            w.nest(inner.kind, |w| {
                for part in [rule::VERDICT_CODE, rule::VERDICT_CHAIN] {
                    let part = inner.nested().find(part);
                    part.into_iter().for_each(|part| w.bytes_attr(part.kind, part.payload));
                }
            });
        }
    });
}
