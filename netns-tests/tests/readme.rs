//! The commands that pages show to be typed, without what they print: each `sh` block is read
//! from its page and run, and what each command is for is held against what it did.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]
#![allow(clippy::print_stdout, reason = "a test says what it leaves out")]

mod stage;

use nfc_kernel::Feature;
use nfc_lab::need;
use stage::desk::{self, Desk, Ended};
use stage::{root, terminal, text};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A page, and what its commands are for.
struct Page {
    path: &'static str,
    text: &'static str,
    purposes: &'static [Purpose],
}

const README: Page =
    Page { path: "README.md", text: include_str!("../../README.md"), purposes: &README_PURPOSES };
const SEMANTICS: Page = Page {
    path: "docs/semantics.md",
    text: include_str!("../../docs/semantics.md"),
    purposes: &SEMANTICS_PURPOSES,
};
const IPVS: Page = Page {
    path: "backends/ipvs/README.md",
    text: include_str!("../../backends/ipvs/README.md"),
    purposes: &IPVS_PURPOSES,
};
/// `scripts/guest-test`, which it shows, does what is shown beside it.
const GUEST: Page = Page {
    path: "netns-tests/guest/README.md",
    text: include_str!("../guest/README.md"),
    purposes: &[left_out("scripts/guest", "it boots the machine that this may be running on")],
};

/// What a command is for. A command of a page is the first of these that it begins with.
struct Purpose {
    begins: &'static str,
    ends: End,
}

/// How a command ends.
enum End {
    /// With this exit code, having said these words, on whichever of the two outputs.
    Says(i32, &'static [&'static str]),
    /// Not before Ctrl-C, having drawn these words time and again.
    Draws(&'static [&'static str]),
    /// It is not run here, for this reason.
    LeftOut(&'static str),
}

const fn says(begins: &'static str, code: i32, words: &'static [&'static str]) -> Purpose {
    Purpose { begins, ends: End::Says(code, words) }
}

const fn draws(begins: &'static str, words: &'static [&'static str]) -> Purpose {
    Purpose { begins, ends: End::Draws(words) }
}

const fn left_out(begins: &'static str, why: &'static str) -> Purpose {
    Purpose { begins, ends: End::LeftOut(why) }
}

/// They are typed where kube-proxy's rules are, and nfc's beside them.
const README_PURPOSES: [Purpose; 18] = [
    left_out("scripts/demo", "it measures for a minute, and draws"),
    left_out("scripts/test", "this test is a part of it"),
    left_out("cargo build --release -p nfc && sudo install", "nfc is built, and first in PATH"),
    says("kubectl get", 0, &["-A KUBE-SERVICES", "--to-destination 10.244.2.8:8080"]),
    says("sudo ip netns add lab", 0, &[]),
    says("sudo nfc apply", 0, &["nft IPv4: 2 service ports", "nft IPv6: 2 service ports"]),
    says("sudo ip netns exec lab nft list ruleset", 0, &["table ip nfc", "table ip6 nfc"]),
    says("sudo nfc delete", 0, &["nft IPv4: deleted", "nft IPv6: deleted"]),
    says("sudo ip netns delete lab", 0, &[]),
    says("nfc explain", 0, &["goes to one of 3 endpoints", "vmap @services", "default/web:http"]),
    says("sudo iptables-save | nfc explain", 0, &["-A KUBE-SERVICES", "=> to 10.244.2.8:8080"]),
    says(
        "nfc diff",
        4,
        &["+ endpoint 10.244.3.2:8080: 33.3 %", "add element ip nfc sticky-endpoints"],
    ),
    says("nfc check", 1, &["error[NFC-201]", "why: the Service has endpoints, but none under"]),
    says("sudo nfc doctor", 1, &["error: no-endpoints", "try: kubectl get endpointslices -n shop"]),
    draws("sudo nfc inspect --watch", &["map services", "2 service ports"]),
    says("unshare -Urn nfc lab", 0, &["answers for default/web:http, asked by 192.0.2.2"]),
    left_out("sudo cargo bench", "it measures for minutes; the bench's own tests run it in short"),
    left_out("cargo run --release -p nfc-bench", "the bench's own tests draw records and compare"),
];

const SEMANTICS_PURPOSES: [Purpose; 2] = [
    says("sudo iptables-legacy-save > now", 0, &[]),
    says("nfc compile --backend iptables", 0, &[]),
];

const IPVS_PURPOSES: [Purpose; 1] = [says("nfc compile --backend ipvs", 0, &[])];

/// The commands in the `sh` blocks of a page, one for each line; those that go on in the next
/// line count as one.
fn commands(page: &str) -> Vec<String> {
    let joined = page.replace("\\\n", " ");
    let mut blocks = joined.split("\n```sh\n");
    blocks.next();
    let within = |block: &str| {
        let (block, _) = block.split_once("\n```").expect("a block ends");
        block.lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = blocks.flat_map(within);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

impl Page {
    /// Each command with its purpose, in the order of the page. A command without one is not
    /// suffered, nor is a purpose that is no command's any more.
    fn purposed(&self) -> Vec<(String, &'static Purpose)> {
        let Self { path, text, purposes } = self;
        let purpose = |command: String| {
            let purpose = purposes.iter().find(|purpose| command.starts_with(purpose.begins));
            let purpose = purpose.unwrap_or_else(|| panic!("{path}: how does this end? {command}"));
            (command, purpose)
        };
        let purposed: Vec<_> = commands(text).into_iter().map(purpose).collect();
        for Purpose { begins, .. } in *purposes {
            let is_somebodys = purposed.iter().any(|(_, purpose)| purpose.begins == *begins);
            assert!(is_somebodys, "{path}: no command begins with: {begins}");
        }
        purposed
    }

    /// Runs the commands at `desk`, and holds each against its purpose.
    fn type_at(&self, desk: &Desk) {
        for (command, purpose) in self.purposed() {
            let (ended, code, words) = match purpose.ends {
                End::LeftOut(why) => {
                    println!("left out: {command}: {why}");
                    continue;
                }
                End::Says(code, words) => (desk.run(&command), code, words),
                End::Draws(words) => {
                    // Who watches draws again, until Ctrl-C: 128 and SIGINT.
                    let is_drawn =
                        |screen: &str| words.iter().all(|w| screen.matches(w).count() > 1);
                    (desk.interrupt(&command, is_drawn), 130, words)
                }
            };
            let said = [ended.stdout, ended.stderr].concat();
            assert_eq!(ended.code, Some(code), "{command}\n{said}");
            for word in words {
                assert!(said.contains(word), "{command}: {word} is not in\n{said}");
            }
            let living = desk.left_running();
            assert!(living.is_empty(), "{living:?} are left of {command}");
        }
    }
}

/// The pages below `folder` that show commands to be typed, as paths from the root.
fn pages(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), text(entry.file_name().as_encoded_bytes()));
        // What was built and measured is no page of ours.
        if path.is_dir() && !name.starts_with('.') && !["target", "results"].contains(&&*name) {
            pages(&path, found);
        } else if name.ends_with(".md")
            && !commands(&fs::read_to_string(&path).expect("a page")).is_empty()
        {
            let path = path.strip_prefix(root()).expect("it is in the root");
            found.insert(path.display().to_string());
        }
    }
}

fn set_up(desk: &Desk, line: &str) {
    let Ended { code, stderr, .. } = desk.run(line);
    assert_eq!(code, Some(0), "{line}\n{stderr}");
}

/// Also where nothing can be run.
#[test]
fn every_command_has_a_purpose_and_every_purpose_a_command() {
    let known = [README, SEMANTICS, IPVS, GUEST];
    for page in &known {
        assert!(!page.purposed().is_empty(), "{}", page.path);
    }
    let mut there = BTreeSet::new();
    pages(&root(), &mut there);
    assert!(there.contains(SEMANTICS.path), "the pages are found");
    for path in there {
        assert!(
            known.iter().any(|page| page.path == path),
            "{path} shows commands, and none is run"
        );
    }
}

#[test]
fn the_readmes_commands_do_what_they_are_for() {
    let test = "the README's commands";
    if !need(test, &desk::FEATURES) || !terminal::need(test) {
        return;
    }
    let desk = Desk::new("readme");
    set_up(&desk, "nfc apply --backend iptables svc.yaml && nfc apply --backend nft svc.yaml");
    README.type_at(&desk);
    let left = desk.run("ip netns list");
    assert_eq!((left.code, left.stdout.as_str()), (Some(0), ""), "the network it made is gone");
}

/// The dump and the rules made on it load; the second time nothing is there twice.
#[test]
fn rules_load_onto_those_that_are_there() {
    if !need("the commands of docs/semantics.md", &[Feature::Namespaces, Feature::IptablesV4]) {
        return;
    }
    let desk = Desk::new("semantics");
    let mut dumps = Vec::new();
    for _ in 0..2 {
        SEMANTICS.type_at(&desk);
        let saved = desk.run("iptables-legacy-save | grep '^-A'");
        assert_eq!(saved.code, Some(0), "rules are loaded");
        dumps.push(saved.stdout);
    }
    assert!(dumps[0].contains("-A PREROUTING"), "{}", dumps[0]);
    assert_eq!(dumps[0], dumps[1]);
}

#[test]
fn virtual_servers_load_from_text() {
    let features = [Feature::Namespaces, Feature::Ipvs, Feature::IpvsadmTool];
    if !need("the command of backends/ipvs/README.md", &features) {
        return;
    }
    let desk = Desk::new("ipvs-text");
    IPVS.type_at(&desk);
    let servers = desk.run("ipvsadm -Sn").stdout;
    assert!(servers.contains("-a -t 10.96.45.123:80 -r 10.244.2.8:8080"), "{servers}");
}
