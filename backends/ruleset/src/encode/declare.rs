//! Declarations of chains and sets, written and recognised.
//!
//! Invariant: nothing here depends on elements or rules.

use super::userdata;
use crate::{Base, Chain, ChainType, Fields, Hook, Set, Type, Value};
use nfc_ir::Family;
use nfc_netlink::attr::{Attrs, Writer};

/// `NFTA_CHAIN_NAME`.
pub(crate) const CHAIN_NAME: u16 = 3;
/// `NFTA_SET_NAME`.
pub(crate) const SET_NAME: u16 = 2;

/// `NFTA_CHAIN_*` and `NFTA_HOOK_*`.
mod chain_attrs {
    pub(crate) const HOOK: u16 = 4;
    pub(crate) const POLICY: u16 = 5;
    pub(crate) const TYPE: u16 = 7;
    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
}

/// `NFTA_SET_*` and `NFTA_SET_DESC_*`.
mod set_attrs {
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_TYPE: u16 = 4;
    pub(crate) const KEY_LEN: u16 = 5;
    pub(crate) const DATA_TYPE: u16 = 6;
    pub(crate) const DATA_LEN: u16 = 7;
    pub(crate) const DESC: u16 = 9;
    pub(crate) const ID: u16 = 10;
    pub(crate) const TIMEOUT: u16 = 11;
    pub(crate) const USERDATA: u16 = 13;
    pub(crate) const DESC_SIZE: u16 = 1;
    pub(crate) const DESC_CONCAT: u16 = 2;
    pub(crate) const LIST_ELEM: u16 = 1;
    pub(crate) const FIELD_LEN: u16 = 1;
}

/// `NFT_SET_*`.
mod set_flags {
    pub(crate) const ANONYMOUS: u32 = 0x1;
    pub(crate) const CONSTANT: u32 = 0x2;
    pub(crate) const INTERVAL: u32 = 0x4;
    pub(crate) const MAP: u32 = 0x8;
    pub(crate) const TIMEOUT: u32 = 0x10;
    pub(crate) const EVAL: u32 = 0x20;
    pub(crate) const CONCAT: u32 = 0x80;
    /// All that change what a set is.
    pub(crate) const KNOWN: u32 = ANONYMOUS | CONSTANT | INTERVAL | MAP | TIMEOUT | EVAL | CONCAT;
}

/// `NFT_DATA_VERDICT`.
const VERDICT_TYPE: u32 = 0xffff_ff00;

/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;

/// A chain without its rules.
pub(crate) fn chain(w: &mut Writer, name: &str, chain: &Chain) {
    w.text(CHAIN_NAME, name);
    let Some(base) = &chain.base else {
        return;
    };
    let kind = match base.kind {
        ChainType::Filter => "filter",
        ChainType::Nat => "nat",
    };
    w.text(chain_attrs::TYPE, kind);
    w.be32(chain_attrs::POLICY, ACCEPT);
    w.nest(chain_attrs::HOOK, |w| {
        w.be32(chain_attrs::HOOK_NUMBER, hook_number(base.hook));
        w.be32(chain_attrs::HOOK_PRIORITY, base.priority.cast_unsigned());
    });
}

/// `enum nf_inet_hooks` (`uapi/linux/netfilter.h`).
fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

/// A set without its elements. The kernel wants an id, unique within the transaction.
pub(crate) fn set(w: &mut Writer, family: Family, name: &str, set: &Set, id: u32) {
    w.text(SET_NAME, name);
    w.be32(set_attrs::FLAGS, flags(set));
    w.be32(set_attrs::KEY_TYPE, type_number(family, &set.key));
    w.be32(set_attrs::KEY_LEN, kernel_len(family, &set.key));
    match &set.value {
        Value::None => {}
        Value::Verdict => {
            w.be32(set_attrs::DATA_TYPE, VERDICT_TYPE);
            w.be32(set_attrs::DATA_LEN, 0);
        }
        Value::Data(data) => {
            w.be32(set_attrs::DATA_TYPE, type_number(family, data));
            w.be32(set_attrs::DATA_LEN, kernel_len(family, data));
        }
    }
    w.be32(set_attrs::ID, id);
    description(w, family, set);
    w.bytes_attr(set_attrs::USERDATA, &userdata::set(family, set));
}

fn flags(set: &Set) -> u32 {
    let concat = set.interval && set.key.types().len() > 1;
    [
        (set.interval, set_flags::INTERVAL),
        (set.value != Value::None, set_flags::MAP),
        (set.dynamic, set_flags::TIMEOUT | set_flags::EVAL),
        (concat, set_flags::CONCAT),
    ]
    .into_iter()
    .filter_map(|(holds, flag)| holds.then_some(flag))
    .sum()
}

/// The size, and for ranges of concatenations how wide the fields are.
fn description(w: &mut Writer, family: Family, set: &Set) {
    let types = set.key.types();
    let concat = set.interval && types.len() > 1;
    if set.size.is_none() && !concat {
        return;
    }
    w.nest(set_attrs::DESC, |w| {
        if let Some(size) = set.size {
            w.be32(set_attrs::DESC_SIZE, size);
        }
        if concat {
            w.nest(set_attrs::DESC_CONCAT, |w| {
                for field in &types {
                    let len = as_u32(field.len(family));
                    w.nest(set_attrs::LIST_ELEM, |w| w.be32(set_attrs::FIELD_LEN, len));
                }
            });
        }
    });
}

/// How long a value of these fields is in the kernel: as long as itself when there is one,
/// padded when there are several.
pub(crate) fn kernel_len(family: Family, fields: &Fields) -> u32 {
    as_u32(match fields.types().as_slice() {
        [single] => single.len(family),
        _ => fields.len(family),
    })
}

fn as_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// nft's number for the type of a key; those of a concatenation follow each other, six bits
/// each (nftables, `include/datatype.h`). The kernel keeps it for whoever lists the set.
fn type_number(family: Family, fields: &Fields) -> u32 {
    let number = |field: &Type| match (field, family) {
        (Type::AddressTail | Type::Number, _) => 4,
        (Type::Address, Family::Ipv4) => 7,
        (Type::Address, Family::Ipv6) => 8,
        (Type::Protocol, _) => 12,
        (Type::Port, _) => 13,
        (Type::Mark, _) => 19,
        (Type::Class, _) => 23,
    };
    fields.types().iter().fold(0, |all, field| all << 6 | number(field))
}

/// Whether the chain that is listed with these attributes is this base chain.
pub(crate) fn is_base(attrs: Attrs<'_>, base: &Base) -> bool {
    let find = |kind| attrs.clone().find(kind);
    let hook = find(chain_attrs::HOOK);
    let of_hook = |kind| hook.and_then(|h| h.nested().find(kind)).and_then(|a| a.be32());
    of_hook(chain_attrs::HOOK_NUMBER) == Some(hook_number(base.hook))
        && of_hook(chain_attrs::HOOK_PRIORITY) == Some(base.priority.cast_unsigned())
        && find(chain_attrs::POLICY).and_then(|a| a.be32()) == Some(ACCEPT)
        && find(chain_attrs::TYPE).and_then(|a| a.text()) == Some(base.kind.name())
}

/// Whether packets come in at the chain that is listed with these attributes.
pub(crate) fn has_hook(attrs: Attrs<'_>) -> bool {
    attrs.into_iter().any(|attr| attr.kind == chain_attrs::HOOK)
}

/// Whether the set that is listed with these attributes belongs to one rule.
pub(crate) fn is_anonymous(attrs: Attrs<'_>) -> bool {
    let flags = attrs.clone().find(set_attrs::FLAGS).and_then(|a| a.be32());
    flags.is_some_and(|flags| flags & set_flags::ANONYMOUS != 0)
}

/// The set that is listed with these attributes: the wanted one with the room that it has,
/// or, when it is declared otherwise, one of another shape.
pub(crate) fn recognise(family: Family, wanted: &Set, attrs: Attrs<'_>) -> Set {
    let number = |kind| attrs.clone().find(kind).and_then(|a| a.be32());
    let description = attrs.clone().find(set_attrs::DESC);
    let size = description.and_then(|d| d.nested().find(set_attrs::DESC_SIZE));
    let mut set = wanted.without_elements();
    set.size = size.and_then(|a| a.be32());
    let value = match &wanted.value {
        Value::None => None,
        Value::Verdict => Some((VERDICT_TYPE, None)),
        Value::Data(data) => Some((type_number(family, data), Some(kernel_len(family, data)))),
    };
    let data_len = value.and_then(|(_, len)| len);
    // Flags are left out when there are none.
    let found_flags = number(set_attrs::FLAGS).unwrap_or(0);
    let is_ours = found_flags & set_flags::KNOWN == flags(wanted)
        && number(set_attrs::KEY_TYPE) == Some(type_number(family, &wanted.key))
        && number(set_attrs::KEY_LEN) == Some(kernel_len(family, &wanted.key))
        && number(set_attrs::DATA_TYPE) == value.map(|(kind, _)| kind)
        && (data_len.is_none() || number(set_attrs::DATA_LEN) == data_len)
        && attrs.clone().find(set_attrs::TIMEOUT).is_none();
    if !is_ours {
        set.interval = !set.interval;
    }
    set
}
