//! The executor against a real kernel: what succeeds, and how it fails.

#![expect(clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use nfc_backend::{Apply, Fault, Process, Question, Receipt, Refusal, Step};
use nfc_kernel::{Feature, Kernel, Missing, Namespace, link, sysctl};
use nfc_lab::need;
use nfc_netlink::batch::BatchWriter;
use nfc_netlink::genl::GenlMessage;
use nfc_netlink::message::flags;
use nfc_netlink::route::{LinkEnd, RouteWriter};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Message types (`uapi/linux/netfilter/nf_tables.h`).
const NEW_TABLE: u8 = 0;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const NEW_RULE: u8 = 6;
const NEW_SET: u8 = 9;
const NEW_ELEMENTS: u8 = 12;

/// `AF_INET`.
const IPV4: u8 = 2;

fn nftables(fill: impl FnOnce(&mut BatchWriter)) -> Step {
    let mut writer = BatchWriter::new(10);
    fill(&mut writer);
    Step::Nftables(writer.finish().expect("short attributes"))
}

fn table(w: &mut BatchWriter, kind: u8) {
    w.message(kind, flags::CREATE, IPV4, |w| w.text(1, "t"));
}

/// A set of 32-bit keys.
fn set(w: &mut BatchWriter) {
    w.message(NEW_SET, flags::CREATE, IPV4, |w| {
        w.text(1, "t");
        w.text(2, "s");
        w.be32(3, 0);
        w.be32(4, 7); // printed as an IPv4 address
        w.be32(5, 4);
        w.be32(10, 1);
    });
}

/// Elements of that set. Each takes 16 bytes; the first is at byte 40 of the message: header
/// 16, `nfgenmsg` 4, table 8, set 8, list 4.
fn elements(w: &mut BatchWriter, flags: u16, keys: impl Iterator<Item = u32>) {
    w.message(NEW_ELEMENTS, flags::CREATE | flags, IPV4, |w| {
        w.text(1, "t");
        w.text(2, "s");
        w.nest(3, |w| keys.for_each(|key| w.nest(1, |w| w.nest(1, |w| w.be32(1, key)))));
    });
}

/// A rule without expressions in this chain.
fn rule(w: &mut BatchWriter, chain: &str) {
    w.message(NEW_RULE, flags::CREATE | flags::APPEND, IPV4, |w| {
        w.text(1, "t");
        w.text(2, chain);
    });
}

/// Applies `steps` in this namespace.
fn apply(namespace: &Namespace, steps: &[Step]) -> Result<Receipt, Refusal> {
    namespace.run(|| Kernel::new().apply(steps)).expect("a namespace")
}

/// The faults of a refusal and how many steps were done before it.
fn faults(result: Result<Receipt, Refusal>) -> (Vec<Fault>, usize) {
    match result {
        Err(Refusal::Refused { faults, done, .. }) => (faults, done),
        other => panic!("not refused by the kernel: {other:?}"),
    }
}

fn place(fault: &Fault) -> (usize, Option<usize>, Option<usize>, i32) {
    (fault.step, fault.message, fault.offset, fault.errno)
}

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;

#[test]
fn every_bad_message_of_a_batch_is_named_and_nothing_is_done() {
    let test = "every bad message of a batch is named and nothing is done";
    if !need(test, &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let namespace = Namespace::new().expect("a namespace");
    let bad = nftables(|w| {
        table(w, NEW_TABLE);
        rule(w, "missing");
        w.message(NEW_CHAIN, flags::CREATE, IPV4, |w| {
            w.text(1, "t");
            w.text(3, "c");
        });
        rule(w, "c");
        rule(w, "absent");
    });
    let first = nftables(|w| w.message(NEW_TABLE, flags::CREATE, IPV4, |w| w.text(1, "other")));
    let (faults, done) = faults(apply(&namespace, &[first, bad]));
    // The chain's name is behind header 16, `nfgenmsg` 4 and the table's name 8.
    let expected = [(1, Some(1), Some(28), ENOENT), (1, Some(4), Some(28), ENOENT)];
    assert_eq!((faults.iter().map(place).collect::<Vec<_>>(), done), (expected.to_vec(), 1));

    let delete = nftables(|w| table(w, DELETE_TABLE));
    let (faults, _) = self::faults(apply(&namespace, &[delete]));
    assert_eq!(faults[0].errno, ENOENT, "the table was not made");
}

#[test]
fn the_offset_names_the_element() {
    if !need("the offset names the element", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let namespace = Namespace::new().expect("a namespace");
    let made = nftables(|w| {
        table(w, NEW_TABLE);
        set(w);
        elements(w, 0, [7].into_iter());
    });
    let again = nftables(|w| elements(w, flags::EXCL, 5..9));
    let (faults, done) = faults(apply(&namespace, &[made, again]));
    let expected = (1, Some(0), Some(40 + 2 * 16), EEXIST);
    assert_eq!((place(&faults[0]), faults.len(), done), (expected, 1, 1));
}

#[test]
fn five_megabytes_go_through_at_once() {
    if !need("five megabytes go through at once", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    const PER_MESSAGE: u32 = 4000;
    let namespace = Namespace::new().expect("a namespace");
    let step = nftables(|w| {
        table(w, NEW_TABLE);
        set(w);
        for i in 0..85 {
            elements(w, 0, i * PER_MESSAGE..(i + 1) * PER_MESSAGE);
        }
    });
    assert!(step.byte_count() > 5 << 20, "{} bytes", step.byte_count());
    let receipt = apply(&namespace, std::slice::from_ref(&step)).expect("room in the buffers");
    assert_eq!(receipt.byte_count(), step.byte_count());
    assert!(receipt.elapsed() > Duration::ZERO);

    // It is there, to the last element.
    let last = 85 * PER_MESSAGE - 1;
    let again = nftables(|w| elements(w, flags::EXCL, std::iter::once(last)));
    assert_eq!(faults(apply(&namespace, &[again])).0[0].errno, EEXIST);
}

#[test]
fn of_thousands_of_faults_none_is_lost_in_silence() {
    let test = "of thousands of faults none is lost in silence";
    if !need(test, &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let namespace = Namespace::new().expect("a namespace");
    let step = nftables(|w| {
        table(w, NEW_TABLE);
        (0..20_000).for_each(|_| rule(w, "missing"));
    });
    let (faults, _) = faults(apply(&namespace, &[step]));
    let reported = faults.iter().filter_map(|f| f.message).count();
    assert!(faults.iter().filter_map(|f| f.message).eq(1..=reported), "in order, none left out");
    // Only root of the machine gets a buffer that takes them all.
    let is_lost = faults.first().is_some_and(|f| f.message.is_none());
    assert!(reported == 20_000 || is_lost, "{reported} faults, and no word about the others");
}

#[test]
fn an_empty_step_takes_no_time() {
    if !need("an empty step takes no time", &[Feature::Namespaces]) {
        return;
    }
    let namespace = Namespace::new().expect("a namespace");
    let steps = [
        nftables(|_| ()),
        Step::Route(Vec::new()),
        Step::Genetlink { family: "nlctrl", messages: Vec::new() },
    ];
    let receipt = apply(&namespace, &steps).expect("nothing to do");
    assert_eq!((receipt.steps.len(), receipt.elapsed()), (3, Duration::ZERO));
}

fn end(index: u32, name: &str) -> LinkEnd {
    LinkEnd { index: Some(index), name: name.to_owned(), mac: None }
}

#[test]
fn a_dummy_link_can_be_made_twice() {
    if !need("a dummy link can be made twice", &[Feature::Namespaces, Feature::DummyLink]) {
        return;
    }
    let namespace = Namespace::new().expect("a namespace");
    let make = || link::change(|w| w.dummy(&end(40, "nfc0")));
    namespace.run(|| make().and_then(|()| make())).expect("a namespace").expect("no complaint");
    let found = namespace.run(|| link::find("nfc0")).expect("a namespace").expect("an answer");
    assert_eq!(found.map(|l| l.index), Some(40));
}

#[test]
fn links_and_addresses_are_made_and_listed() {
    if !need("links and addresses are made and listed", &[Feature::Namespaces]) {
        return;
    }
    let namespace = Namespace::new().expect("a namespace");
    let count = 3000;
    let (link, addresses) = namespace
        .run(|| {
            link::change(|w| {
                w.veth(&end(40, "nfc0"), &end(41, "nfc1"), None);
                w.up_by_name("nfc0");
                let ips = (0..count).map(|i| Ipv4Addr::from(0xac10_0000 + i));
                ips.for_each(|ip| w.address(40, ip.into(), 32));
            })
            .expect("a veth pair");
            (link::find("nfc0").expect("an answer"), link::addresses().expect("addresses"))
        })
        .expect("a namespace");
    assert_eq!(link.map(|l| l.index), Some(40));
    let there = addresses.iter().filter(|a| a.link == 40 && a.ip.is_ipv4()).count();
    assert_eq!(there, count as usize, "a listing of many datagrams is whole");
}

#[test]
fn a_bad_route_request_is_named_and_the_others_take_effect() {
    let test = "a bad route request is named and the others take effect";
    if !need(test, &[Feature::Namespaces]) {
        return;
    }
    let namespace = Namespace::new().expect("a namespace");
    let mut writer = RouteWriter::new();
    writer.veth(&end(40, "a"), &end(41, "b"), None);
    writer.delete_link("nobody");
    writer.veth(&end(42, "c"), &end(43, "d"), None);
    let (faults, _) = faults(apply(&namespace, &[Step::Route(writer.into_bytes())]));
    const ENODEV: i32 = 19;
    assert_eq!(
        faults.iter().map(|f| (f.message, f.errno)).collect::<Vec<_>>(),
        [(Some(1), ENODEV)]
    );
    let links = namespace.run(link::list).expect("a namespace").expect("links");
    let names: Vec<_> = links.iter().map(|l| l.name.as_str()).collect();
    assert!(["a", "b", "c", "d"].iter().all(|name| names.contains(name)), "{names:?}");
}

#[test]
fn sysctls_are_those_of_the_namespace() {
    if !need("sysctls are those of the namespace", &[Feature::Namespaces]) {
        return;
    }
    const NAME: &str = "net.ipv4.ip_default_ttl";
    let outside = sysctl::read(NAME).expect("a sysctl");
    let namespace = Namespace::new().expect("a namespace");
    let write = |name: &str| Step::Sysctl { name: name.to_owned(), value: "77".to_owned() };
    apply(&namespace, &[write(NAME)]).expect("a sysctl");
    let inside = namespace.run(|| sysctl::read(NAME)).expect("a namespace").expect("a sysctl");
    assert_eq!((inside.as_str(), sysctl::read(NAME).expect("a sysctl")), ("77", outside));

    let missing = apply(&namespace, &[write("net.ipv4.no_such_thing")]);
    assert!(matches!(missing, Err(Refusal::Missing { .. })), "{missing:?}");
    let foreign = apply(&namespace, &[write("kernel.panic")]);
    assert!(matches!(foreign, Err(Refusal::Io { .. })), "{foreign:?}");
}

fn process(program: &'static str, args: &[&str], stdin: &str) -> Process {
    let args = args.iter().map(|a| (*a).to_owned()).collect();
    Process { program, args, stdin: stdin.to_owned() }
}

#[test]
fn a_program_that_is_not_installed_is_missing() {
    let mut kernel = Kernel::new();
    let refusal = kernel.apply(&[Step::Process(process("ipvsadm-of-nobody", &[], ""))]);
    let Err(Refusal::Missing { what, why }) = refusal else {
        panic!("not missing: {refusal:?}");
    };
    assert_eq!(what, "ipvsadm-of-nobody");
    assert!(why.contains("apt-get install ipvsadm"), "{why}");
}

#[test]
fn the_line_that_iptables_refuses_is_named() {
    let test = "the line that iptables refuses is named";
    if !need(test, &[Feature::Namespaces, Feature::IptablesV4]) {
        return;
    }
    let namespace = Namespace::new().expect("a namespace");
    let text = "*nat\n:GOOD - [0:0]\n-A GOOD -j RETURN\n-A ABSENT -j RETURN\nCOMMIT\n";
    let restore = process("iptables-legacy-restore", &["--noflush", "-w", "60"], text);
    let (faults, done) = faults(apply(&namespace, &[Step::Process(restore.clone())]));
    // iptables-legacy-restore notices a chain that is not there only when it commits.
    assert!(matches!(faults[0].message, Some(3 | 4)), "{faults:?}");
    assert_eq!((faults.len(), done), (1, 0));

    let good = Process { stdin: text.replace("ABSENT", "GOOD"), ..restore.clone() };
    apply(&namespace, &[Step::Process(good)]).expect("rules that iptables takes");
    let save = Question::Process(process("iptables-legacy-save", &["-t", "nat"], ""));
    let answer = namespace.run(|| Kernel::new().ask(&[save])).expect("a namespace");
    let listing = String::from_utf8(answer.expect("a listing")[0].0.clone()).expect("text");
    assert_eq!(listing.matches("-A GOOD -j RETURN").count(), 2);
}

#[test]
fn a_table_that_nft_does_not_find_is_an_empty_answer() {
    let test = "a table that nft does not find is an empty answer";
    if !need(test, &[Feature::Namespaces, Feature::NftTool, Feature::Nftables]) {
        return;
    }
    let namespace = Namespace::new().expect("a namespace");
    let list = Question::Process(process("nft", &["list", "table", "ip", "nobody"], ""));
    let answers = namespace.run(|| Kernel::new().ask(&[list])).expect("a namespace");
    assert_eq!(answers.expect("an answer")[0].0, b"");
}

/// A question of the controller family about itself, which every kernel can answer.
#[test]
fn generic_netlink_families_are_found_by_name() {
    let mut attrs = nfc_netlink::attr::Writer::new();
    attrs.text(2, "nlctrl");
    let ask = |family, attrs: &nfc_netlink::attr::Writer| Question::Genetlink {
        family,
        message: GenlMessage { command: 3, version: 1, flags: 0, attrs: attrs.bytes().to_vec() },
    };
    let answers = Kernel::new().ask(&[ask("nlctrl", &attrs)]).expect("an answer");
    let mut messages = nfc_netlink::message::Messages::new(&answers[0].0);
    let message = messages.next().expect("a message, header and all");
    assert_eq!(nfc_netlink::genl::family_number(&message), Some(nfc_netlink::genl::CONTROLLER));
    assert_eq!(messages.next(), None);

    let missing = Kernel::new().ask(&[ask("no-such-family", &attrs)]);
    assert!(matches!(missing, Err(Refusal::Missing { .. })), "{missing:?}");
}

#[test]
fn a_sysctl_is_answered_and_one_that_is_not_there_is_an_empty_answer() {
    if !need("a sysctl is answered", &[Feature::Namespaces]) {
        return;
    }
    let namespace = Namespace::new().expect("a namespace");
    let set = Step::Sysctl { name: "net.ipv4.ip_forward".to_owned(), value: "1".to_owned() };
    apply(&namespace, &[set]).expect("a sysctl that is there");
    let names = ["net.ipv4.ip_forward", "net.ipv4.no_such_thing"];
    let asked = names.map(|name| Question::Sysctl { name: name.to_owned() });
    let answers = namespace.run(|| Kernel::new().ask(&asked)).expect("a namespace");
    let answers = answers.expect("answers");
    assert_eq!((answers[0].0.as_slice(), answers[1].0.as_slice()), (&b"1"[..], &b""[..]));
}

#[test]
fn whatever_is_missing_says_what_to_do() {
    for feature in Feature::ALL {
        if let Err(Missing { what, why }) = feature.probe() {
            println!("{feature}: {what} is missing: {why}");
            assert!(!what.is_empty() && why.split(' ').count() > 4, "{feature}: {what}: {why}");
        }
    }
}
