//! Elements as the kernel lists them.
//!
//! Invariant: only elements of a set whose declaration was recognised come here.

use crate::elements::VERDICT_LEN;
use crate::encode::{declare, elements as sent, rule, userdata};
use crate::{Elements, Set, Value, Verdict};
use nfc_ir::Family;
use nfc_netlink::attr::{Attr, Attrs};

/// `NFTA_SET_ELEM_LIST_SET`.
pub(super) const SET: u16 = sent::LIST_SET;

/// A verdict that none of ours is equal to.
const STRANGE: [u8; VERDICT_LEN] = {
    let mut row = [0; VERDICT_LEN];
    row[0] = b'?';
    row
};

/// Adds the elements of one message. `None` when one is not understood: patching such a set
/// would be guesswork.
pub(super) fn read(family: Family, set: &mut Set, attrs: Attrs<'_>) -> Option<()> {
    let list = attrs.find(sent::LIST_ELEMENTS)?;
    let mut place = Place::new(family, set)?;
    for element in list.nested() {
        place.read(&mut set.elements, element)?;
    }
    Some(())
}

/// Where the parts of an element go in a row.
struct Place {
    interval: bool,
    /// Bytes of a key in the kernel, and in a row, where it fills whole registers.
    key_len: usize,
    key_room: usize,
    value: ValuePlace,
    row: Vec<u8>,
}

#[derive(Clone, Copy)]
enum ValuePlace {
    None,
    Verdict,
    Data { len: usize },
}

impl Place {
    fn new(family: Family, set: &Set) -> Option<Self> {
        let len = |fields| usize::try_from(declare::kernel_len(family, fields)).ok();
        let halves = if set.interval { 2 } else { 1 };
        let key_room = set.elements.key_len() / halves;
        let value = match &set.value {
            Value::None => ValuePlace::None,
            Value::Verdict => ValuePlace::Verdict,
            Value::Data(fields) => ValuePlace::Data { len: len(fields)? },
        };
        let row = vec![0; set.elements.key_len() + set.elements.value_len()];
        Some(Self { interval: set.interval, key_len: len(&set.key)?, key_room, value, row })
    }

    fn read(&mut self, elements: &mut Elements, element: Attr<'_>) -> Option<()> {
        let (mut key, mut end, mut value, mut comment) = (None, None, None, "");
        for attr in element.nested() {
            match attr.kind {
                sent::KEY => key = bytes(&attr),
                sent::KEY_END => end = bytes(&attr),
                sent::DATA => value = Some(attr),
                sent::USERDATA => comment = userdata::text_of(attr.payload).unwrap_or_default(),
                _ => {}
            }
        }
        let key = key.filter(|key| key.len() == self.key_len)?;
        self.row[..self.key_len].copy_from_slice(key);
        if self.interval {
            let end = end.unwrap_or(key);
            self.row[self.key_room..][..self.key_len].copy_from_slice(end.get(..self.key_len)?);
        }
        let (key, room) = self.row.split_at_mut(elements.key_len());
        match self.value {
            ValuePlace::None => {}
            ValuePlace::Verdict => room.copy_from_slice(&verdict(&value?)),
            ValuePlace::Data { len } => {
                room[..len].copy_from_slice(bytes(&value?)?.get(..len)?);
            }
        }
        elements.push(key, room, &[comment]);
        Some(())
    }
}

/// The value inside a key or data.
fn bytes<'a>(attr: &Attr<'a>) -> Option<&'a [u8]> {
    attr.nested().find(rule::DATA_VALUE).map(|value| value.payload)
}

fn verdict(data: &Attr<'_>) -> [u8; VERDICT_LEN] {
    let Some(verdict) = data.nested().find(rule::DATA_VERDICT) else {
        return STRANGE;
    };
    let code = verdict.nested().find(rule::VERDICT_CODE).and_then(|a| a.be32());
    let chain = verdict.nested().find(rule::VERDICT_CHAIN).and_then(|a| a.text());
    let fits = |chain: &&str| chain.len() < VERDICT_LEN;
    let read = match (code.map(u32::cast_signed), chain.filter(fits)) {
        (Some(rule::ACCEPT), _) => Verdict::Accept,
        (Some(rule::DROP), _) => Verdict::Drop,
        (Some(rule::RETURN), _) => Verdict::Return,
        (Some(rule::JUMP), Some(chain)) => Verdict::Jump(chain.to_owned()),
        (Some(rule::GOTO), Some(chain)) => Verdict::Goto(chain.to_owned()),
        _ => return STRANGE,
    };
    read.to_row()
}
