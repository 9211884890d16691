//! A batch in smaller messages, to learn of each member of a list whether it is refused.
//!
//! The kernel stops at the first member of a list that it cannot take, and goes on to the
//! next message. Many members in one message are soonest done; where some are bad, a message
//! for each tells all of them.
//!
//! Invariant: says what the batch says, in the same order, with the same conditions.

use crate::attr::{Attrs, HEADER_LEN as ATTR_HEADER_LEN, Writer, align};
use crate::batch::{Batch, BatchWriter, GENERATION};
use crate::message::{HEADER_LEN, Message, Messages, flags};
use std::collections::BTreeMap;

/// Length of the `nfgenmsg` in front of the attributes.
const FIXED_LEN: usize = 4;

/// A batch of which some messages were split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The batch, to be sent in the place of the one it was made from.
    pub batch: Batch,
    /// Whether there was room to split every list in question.
    pub complete: bool,
    places: Vec<Place>,
}

/// Where a message of the new batch comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Index of the message in the old batch.
    message: usize,
    /// `None` when offsets in it are those in the old message.
    member: Option<Member>,
}

/// One member of a list, alone in its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    /// Byte offset of the list's members from the start of the message's header.
    list: usize,
    /// Byte offset of the member from there, in the old message.
    start: usize,
}

impl Split {
    /// The place in the batch as it was of a place in this one: the index of the message, and
    /// the byte offset from the start of its header. What is said of a message without an
    /// offset is said of its member.
    #[must_use]
    pub fn place(&self, message: usize, offset: Option<usize>) -> Option<(usize, Option<usize>)> {
        let place = self.places.get(message)?;
        let offset = match (place.member, offset) {
            (None, offset) => offset,
            (Some(member), None) => Some(member.list + member.start),
            (Some(member), Some(offset)) if offset < member.list => Some(offset),
            (Some(member), Some(offset)) => Some(offset + member.start),
        };
        Some((place.message, offset))
    }
}

impl Batch {
    /// The batch with lists split that were refused, each given by the index of its message
    /// and the byte offset in it of what was refused, if that was told. The members up to
    /// there stay together, since all is known of them. Lists are split from the first on,
    /// into `most` pieces altogether.
    ///
    /// `None` when there is nothing to learn by it.
    #[must_use]
    pub fn split(
        &self,
        refused: impl IntoIterator<Item = (usize, Option<usize>)>,
        most: usize,
    ) -> Option<Split> {
        let refused: BTreeMap<_, _> = refused.into_iter().collect();
        let mut splitter = Splitter::new(self, most);
        let messages = Messages::new(self.bytes()).skip(1).take(self.message_count());
        for (index, message) in messages.enumerate() {
            let list = self.list_of(index).and_then(|kind| List::find(&message, kind));
            let list = list.zip(refused.get(&index));
            match list.and_then(|(list, offset)| Some((list.known(*offset)?, list))) {
                Some((known, list)) => splitter.list(index, &message, &list, known),
                None => splitter.copy(index, &message),
            }
        }
        splitter.finish()
    }
}

/// The list in a message.
struct List<'a> {
    /// Its type.
    kind: u16,
    /// The attributes in front of it.
    head: &'a [u8],
    /// Its members.
    members: &'a [u8],
    /// Byte offset of its members from the start of the message's header.
    at: usize,
}

impl<'a> List<'a> {
    fn find(message: &Message<'a>, kind: u16) -> Option<Self> {
        let mut start = FIXED_LEN;
        for attr in message.attrs(FIXED_LEN) {
            if attr.kind == kind {
                let at = HEADER_LEN + start + ATTR_HEADER_LEN;
                let head = message.payload.get(FIXED_LEN..start)?;
                return Some(Self { kind, head, members: attr.payload, at });
            }
            start += align(ATTR_HEADER_LEN + attr.payload.len());
        }
        None
    }

    /// How many bytes of the members are known when one at `offset` was refused, or one that was
    /// not told; `None` when it was none of them.
    fn known(&self, offset: Option<usize>) -> Option<usize> {
        let Some(offset) = offset else {
            return Some(0);
        };
        let offset = offset.checked_sub(self.at)?;
        self.members(0).map(|(start, member)| start + member.len()).find(|end| offset < *end)
    }

    /// Writes the list with these members only, behind the attributes in front of it.
    fn write(&self, w: &mut Writer, members: &[u8]) {
        w.raw(self.head);
        w.nest(self.kind, |w| w.raw(members));
    }

    /// Each member from the one that begins at `next` on, with its header, and where it begins.
    fn members(&self, mut next: usize) -> impl Iterator<Item = (usize, &'a [u8])> {
        let members = self.members;
        Attrs::new(members.get(next..).unwrap_or_default()).filter_map(move |member| {
            let start = next;
            next += align(ATTR_HEADER_LEN + member.payload.len());
            Some((start, members.get(start..next.min(members.len()))?))
        })
    }
}

/// Writes a batch anew.
struct Splitter {
    writer: BatchWriter,
    places: Vec<Place>,
    room: usize,
    complete: bool,
}

impl Splitter {
    fn new(batch: &Batch, most: usize) -> Self {
        let begin = Messages::new(batch.bytes()).next();
        let subsystem = begin.and_then(|m| m.payload.get(FIXED_LEN - 1).copied());
        let generation =
            begin.and_then(|m| m.attrs(FIXED_LEN).find(GENERATION)).and_then(|a| a.be32());
        let capacity = 2 * batch.bytes().len();
        let mut writer = BatchWriter::with_capacity(subsystem.unwrap_or(0), capacity);
        generation.into_iter().for_each(|generation| writer.expect_generation(generation));
        Self { writer, places: Vec::new(), room: most, complete: true }
    }

    fn copy(&mut self, index: usize, message: &Message<'_>) {
        let attrs = message.payload.get(FIXED_LEN..).unwrap_or_default();
        self.append(Place { message: index, member: None }, message, |w| w.raw(attrs));
    }

    fn list(&mut self, index: usize, message: &Message<'_>, list: &List<'_>, known: usize) {
        let Some(room) = self.room.checked_sub(list.members(known).count()) else {
            (self.room, self.complete) = (0, false);
            return self.copy(index, message);
        };
        self.room = room;
        if known > 0 {
            let place = Place { message: index, member: None };
            self.append(place, message, |w| list.write(w, &list.members[..known]));
        }
        for (start, member) in list.members(known) {
            let place = Place { message: index, member: Some(Member { list: list.at, start }) };
            self.append(place, message, |w| list.write(w, member));
        }
    }

    fn append(&mut self, place: Place, message: &Message<'_>, fill: impl FnOnce(&mut Writer)) {
        self.places.push(place);
        let [_, kind] = message.kind.to_be_bytes();
        let family = message.payload.first().copied().unwrap_or(0);
        self.writer.message(kind, message.flags & !flags::ACK, family, fill);
    }

    fn finish(self) -> Option<Split> {
        self.places.iter().any(|place| place.member.is_some()).then_some(())?;
        let batch = self.writer.finish().ok()?;
        Some(Split { batch, complete: self.complete, places: self.places })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: u16 = 3;

    /// Two lists between two other messages. Their members are 8 bytes long and begin at byte
    /// 32 of their messages: header 16, `nfgenmsg` 4, name 8, the list's own header 4.
    fn batch() -> Batch {
        let mut batch = BatchWriter::new(10);
        batch.expect_generation(7);
        batch.message(0, flags::CREATE, 2, |w| w.text(1, "t"));
        for values in [0..3, 3..5] {
            batch.message(12, flags::CREATE | flags::EXCL, 2, |w| {
                w.text(1, "t");
                w.nest(LIST, |w| values.for_each(|value| w.be32(1, value)));
            });
            batch.may_split(LIST);
        }
        batch.message(6, flags::CREATE, 2, |w| w.text(1, "r"));
        batch.finish().expect("short enough")
    }

    /// The members of the list in each message, and the flags.
    fn told(batch: &Batch) -> Vec<(u16, Vec<u32>)> {
        let messages = Messages::new(batch.bytes()).skip(1).take(batch.message_count());
        let members = |message: &Message<'_>| {
            let list = message.attrs(FIXED_LEN).find(LIST);
            list.iter().flat_map(|list| list.nested()).filter_map(|m| m.be32()).collect()
        };
        messages.map(|message| (message.flags, members(&message))).collect()
    }

    #[test]
    fn what_was_refused_comes_member_by_member() {
        let (create, excl) = (flags::REQUEST | flags::CREATE, flags::EXCL);
        let expected = |first: &[&[u32]]| -> Vec<_> {
            let lists = first.iter().copied().chain([&[3, 4][..]]);
            let lists = lists.map(|list| (create | excl, list.to_vec()));
            let last = (create | flags::ACK, vec![]);
            std::iter::once((create, vec![])).chain(lists).chain([last]).collect()
        };
        let split = |offset| batch().split([(1, offset)], 100).expect("a list");
        assert_eq!(told(&split(None).batch), expected(&[&[0], &[1], &[2]]));
        // Up to the one that was refused all is known.
        assert_eq!(told(&split(Some(32)).batch), expected(&[&[0], &[1], &[2]]));
        assert_eq!(told(&split(Some(40)).batch), expected(&[&[0, 1], &[2]]));
        assert_eq!(told(&split(Some(47)).batch), expected(&[&[0, 1], &[2]]));
        assert!(split(None).complete);
    }

    #[test]
    fn the_edges_of_a_batch_are_as_they_were() {
        let split = batch().split([(1, None)], 100).expect("a list");
        let begin = Messages::new(split.batch.bytes()).next().expect("a begin");
        assert_eq!(begin.attrs(FIXED_LEN).find(GENERATION).and_then(|a| a.be32()), Some(7));
        let sequences: Vec<_> = Messages::new(split.batch.bytes()).map(|m| m.sequence).collect();
        assert_eq!(sequences, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn places_are_told_as_in_the_batch_as_it_was() {
        let split = batch().split([(1, None), (2, None)], 100).expect("two lists");
        let place = |message, offset| split.place(message, offset);
        assert_eq!(place(0, Some(20)), Some((0, Some(20))));
        assert_eq!(place(2, Some(32)), Some((1, Some(40))), "the second of the first list");
        assert_eq!(place(2, Some(36)), Some((1, Some(44))), "and inside of it");
        assert_eq!(place(2, None), Some((1, Some(40))));
        assert_eq!(place(2, Some(20)), Some((1, Some(20))), "the name in front of the list");
        assert_eq!(place(5, Some(32)), Some((2, Some(40))));
        assert_eq!(place(6, None), Some((3, None)));
        assert_eq!(place(7, None), None);
        let split = batch().split([(1, Some(40))], 100).expect("a list");
        assert_eq!(split.place(1, Some(40)), Some((1, Some(40))), "the second of the two");
        assert_eq!(split.place(2, Some(32)), Some((1, Some(48))), "the third, alone");
    }

    #[test]
    fn what_cannot_be_split_is_left_alone() {
        let batch = batch();
        // No list, no such message, a name in front of a list, and the last of a list.
        for refused in [(0, Some(20)), (3, None), (9, None), (1, Some(20)), (1, Some(48))] {
            assert_eq!(batch.split([refused], 100), None);
        }
        let some = batch.split([(1, None), (2, None)], 4).expect("room for the first");
        assert_eq!(told(&some.batch).len(), 6);
        assert!(!some.complete);
    }
}
