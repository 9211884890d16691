//! A large table that is new comes in pieces: all of it, and the hooks last.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod shapes;

use nfc_backend::Step;
use nfc_ir::Family;
use nfc_netlink::message::{Message, Messages};
use nfc_ruleset::{Fate, Patch, diff, encode};

/// `NFNL_MSG_BATCH_BEGIN`, `NFT_MSG_NEWCHAIN`, `NFT_MSG_NEWSET` and `NFTA_CHAIN_HOOK`.
const BEGIN: u16 = 0x10;
const NEW_CHAIN: u16 = 0x0a03;
const NEW_SET: u16 = 0x0a09;
const HOOK: u16 = 4;

fn patch(family: Family, seam: usize) -> Patch {
    let table = shapes::table(family);
    Patch { seam, ..diff(family, "shapes", None, Some(&table)) }
}

/// The messages of each transaction.
fn transactions<'a>(steps: &'a [Step]) -> Vec<Vec<Message<'a>>> {
    let messages = |step: &'a Step| match step {
        Step::Nftables(batch) => Messages::new(batch.bytes()).collect(),
        other => panic!("a transaction: {other:?}"),
    };
    steps.iter().map(messages).collect()
}

/// What the messages say, whatever their order. Declarations of sets have a number that
/// counts from the beginning of a transaction.
fn said(transactions: &[Vec<Message<'_>>]) -> Vec<(u16, Vec<u8>)> {
    let ours = transactions.iter().flatten().filter(|message| message.kind >> 8 == 10);
    let words = |m: &Message<'_>| if m.kind == NEW_SET { Vec::new() } else { m.payload.to_vec() };
    let mut said: Vec<_> = ours.map(|m| (m.kind, words(m))).collect();
    said.sort();
    said
}

#[test]
fn pieces_are_the_whole_and_the_last_one_hooks_it_in() {
    for family in Family::ALL {
        let whole = encode::encode(&patch(family, usize::MAX));
        let pieces = encode::encode(&patch(family, 3));
        let (whole, pieces) = (transactions(&whole), transactions(&pieces));
        assert_eq!(whole.len(), 1);
        assert!(pieces.len() > 3, "{}", pieces.len());
        assert!(said(&pieces) == said(&whole), "nothing more, nothing less");
        let hooks = |m: &&Message<'_>| m.kind == NEW_CHAIN && m.attrs(4).find(HOOK).is_some();
        let hooked = pieces.iter().map(|piece| piece.iter().filter(hooks).count());
        let hooked: Vec<_> = hooked.collect();
        let (last, before) = hooked.split_last().expect("pieces");
        assert!(*last > 2 && before.iter().all(|count| *count == 0), "{hooked:?}");
    }
}

#[test]
fn each_piece_builds_on_the_one_before() {
    let patch = Patch { generation: Some(u32::MAX - 1), ..patch(Family::Ipv4, 3) };
    let steps = encode::encode(&patch);
    let generation = |messages: &Vec<Message<'_>>| {
        let begin = messages.iter().find(|m| m.kind == BEGIN).expect("a beginning");
        begin.attrs(4).find(1).and_then(|a| a.be32()).expect("a generation")
    };
    let built_on: Vec<_> = transactions(&steps).iter().map(generation).collect();
    assert_eq!(built_on[..4], [u32::MAX - 1, u32::MAX, 1, 2], "there is no generation 0");
}

#[test]
fn a_table_that_may_be_there_is_changed_at_once() {
    let table = shapes::table(Family::Ipv4);
    for fate in [Fate::Replace, Fate::Keep] {
        let patch = Patch { fate, ..patch(Family::Ipv4, 1) };
        assert_eq!(encode::encode(&patch).len(), 1, "{fate:?}");
    }
    let replacing = Patch::replacing(Family::Ipv4, "shapes", Some(&table));
    assert_eq!(encode::encode(&Patch { seam: 1, ..replacing }).len(), 1);
}
