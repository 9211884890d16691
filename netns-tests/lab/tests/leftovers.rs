//! A world that is dropped leaves nothing behind. Alone in its process, because it counts what
//! the process holds open.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use nfc_kernel::{Feature, link};
use nfc_lab::{Delivery, Settings, World, need};
use std::time::{Duration, Instant};

#[test]
fn nothing_is_left_behind() {
    if !need("nothing is left behind", &[Feature::Namespaces]) {
        return;
    }
    let before = (links_here(), namespaces_held());
    let settings = Settings { delivery: Delivery::Answered, ..Settings::default() };
    let world = World::with(settings).expect("a world");
    assert_eq!(namespaces_held(), before.1 + 3);
    let client = world.client().duplicate().expect("a handle");
    drop(world);
    assert_eq!((links_here(), namespaces_held()), (before.0, before.1 + 1));
    wait_until("the wire is gone with the node's namespace", || {
        client.run(links_here).expect("a namespace") == ["lo"]
    });
}

/// Deleting a namespace and the links in it is work for the kernel's own threads
/// (`cleanup_net` in `net/core/net_namespace.c`), so it may take a while.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within ten seconds");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn links_here() -> Vec<String> {
    let mut names: Vec<_> = link::list().expect("links").into_iter().map(|l| l.name).collect();
    names.sort();
    names
}

/// How many descriptors of network namespaces this process holds.
fn namespaces_held() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("/proc");
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("net:[")).count()
}
