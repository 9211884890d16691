//! The pages of the guide whose commands need root. `nfc`'s own tests run the others.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_kernel::Feature;
use nfc_lab::need;

const IPTABLES: [Feature; 4] =
    [Feature::Namespaces, Feature::Nftables, Feature::NftTool, Feature::IptablesV4];
const IPVS: [Feature; 4] =
    [Feature::Namespaces, Feature::Nftables, Feature::Ipvs, Feature::IpvsadmTool];

#[test]
fn what_the_guide_shows_on_a_node_happens() {
    if need("docs/guide/6-on-a-node.md", &IPTABLES) {
        stage::run_page("docs/guide/6-on-a-node.md");
    }
}

#[test]
fn what_the_guide_breaks_is_found() {
    if need("docs/guide/7-debugging.md", &stage::NFT) {
        stage::run_page("docs/guide/7-debugging.md");
    }
}

#[test]
fn what_the_guide_says_of_ipvs_is_so() {
    if need("docs/guide/9-ipvs.md", &IPVS) {
        stage::run_page("docs/guide/9-ipvs.md");
    }
}
