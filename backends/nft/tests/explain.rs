//! Our own text, read back word by word, does to packets what Services mean.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use nfc_backend::journey::outcome;
use nfc_backend::{Backend, journey};
use nfc_ir::synth::{self, Sample};
use nfc_ir::{Family, Ingress, Outcome, Packet, Protocol, ProxyMode, eval};
use nfc_nft::{Layout, Nft};
use std::net::IpAddr;

fn told(listing: &str, addresses: &[IpAddr], packet: &Packet) -> Outcome {
    let ways = Nft::default().explain(listing, addresses, packet);
    let ways = ways.unwrap_or_else(|e| panic!("{packet}: {e}\n{listing}"));
    outcome(&ways).unwrap_or_else(|| panic!("{packet}: {ways:?}"))
}

#[test]
fn our_own_text_does_what_services_mean() {
    let mut judged = 0;
    for layout in [Layout::Verdict, Layout::ConstantTime] {
        let nft = Nft { layout, ..Nft::default() };
        for seed in 0..10 {
            for family in Family::ALL {
                let Sample { ir, packets } = synth::sample(seed, family);
                let text = nft.render(&[nft.lower(&ir).program]);
                for packet in packets {
                    let told = told(&text, &ir.node().addresses, &packet);
                    let meant = eval(&ir, ProxyMode::Nftables, &packet);
                    let agrees = told.agrees_with(&meant);
                    assert!(agrees, "seed {seed}: {packet}: {told}, meant {meant}\n{text}");
                    judged += 1;
                }
            }
        }
    }
    assert!(judged > 3_000, "only {judged} packets were judged");
}

/// As `nft list ruleset` prints what kube-proxy writes, beside a table of somebody else.
const DUMP: &str = r#"table ip kube-proxy {
	comment "rules for kube-proxy"

	set cluster-ips {
		type ipv4_addr
		comment "Active ClusterIPs"
		elements = { 10.96.0.10 }
	}

	set affinity-A {
		type ipv4_addr
		size 65535
		flags dynamic,timeout
		timeout 5m
		elements = { 10.244.0.7 expires 4m12s }
	}

	map service-ips {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.0.10 . tcp . 80 : goto service-X-ns/web/tcp/http,
			     10.96.0.10 . udp . 53 : drop }
	}

	chain nat-prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		jump services
	}

	chain nat-postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00004000 == 0x00000000 return
		meta mark set meta mark ^ 0x00004000
		masquerade fully-random
	}

	chain filter-forward {
		type filter hook forward priority -110; policy accept;
		ct state new ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
	}

	chain mark-for-masquerade {
		meta mark set meta mark | 0x00004000
	}

	chain services {
		ip daddr . meta l4proto . th dport vmap @service-ips
	}

	chain service-X-ns/web/tcp/http {
		ip daddr 10.96.0.10 tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade
		ip saddr @affinity-A goto endpoint-A-ns/web/tcp/http__10.244.1.5/8080
		numgen random mod 2 vmap { 0 : goto endpoint-A-ns/web/tcp/http__10.244.1.5/8080, 1 :
			     goto endpoint-B-ns/web/tcp/http__10.244.2.8/8080 }
	}

	chain endpoint-A-ns/web/tcp/http__10.244.1.5/8080 {
		ip saddr 10.244.1.5 jump mark-for-masquerade
		update @affinity-A { ip saddr }
		meta l4proto tcp dnat to 10.244.1.5:8080
	}

	chain endpoint-B-ns/web/tcp/http__10.244.2.8/8080 {
		meta l4proto tcp dnat to 10.244.2.8:8080
	}
}
table inet guard {
	chain forward {
		type filter hook forward priority filter + 5; policy drop;
		ct state vmap { established : accept, related : accept }
		ip saddr { 10.244.0.0/16, 192.0.2.1-192.0.2.9 } counter packets 3 bytes 180 accept
		ip saddr 203.0.113.0/24 limit rate 5/second accept
		ip saddr 233.252.0.0/24 tcp dport http accept
	}
}
"#;

fn asked(source: &str, port: u16) -> Result<Vec<journey::Way>, journey::ListingError> {
    let packet = Packet {
        protocol: Protocol::Tcp,
        source: format!("{source}:40000").parse().expect("an address"),
        destination: format!("10.96.0.10:{port}").parse().expect("an address"),
        ingress: Ingress::Interface("eth0".to_owned()),
    };
    Nft::default().explain(DUMP, &[], &packet)
}

fn ends(ways: &[journey::Way]) -> Vec<(String, f64)> {
    ways.iter().map(|way| (way.end.to_string(), way.share)).collect()
}

#[test]
fn a_listing_in_the_form_of_kube_proxy_is_read() {
    let ways = asked("192.0.2.1", 80).expect("understood");
    let to = |ip: &str| (format!("{ip}:8080 masqueraded"), 0.5);
    assert_eq!(ends(&ways), [to("10.244.1.5"), to("10.244.2.8")]);
    let chains: Vec<_> = ways[1].visits.iter().map(|v| v.chain.as_str()).collect();
    let service = "service-X-ns/web/tcp/http";
    let endpoint = "endpoint-B-ns/web/tcp/http__10.244.2.8/8080";
    let wanted = ["nat-prerouting", "services", service, "mark-for-masquerade", service, endpoint];
    assert_eq!(chains[..6], wanted);
    assert_eq!(chains[6..], ["forward", "nat-postrouting", "nat-postrouting"]);
    assert_eq!(ways[1].visits[1].line, 46);
    let element = "10.96.0.10 . tcp . 80 : goto service-X-ns/web/tcp/http";
    assert_eq!(ways[1].visits[1].elements, [element]);
    let pod = asked("10.244.0.9", 80).expect("understood");
    assert_eq!(ends(&pod)[0], ("10.244.1.5:8080".to_owned(), 0.5));
    let missed = asked("10.244.0.9", 81).expect("understood");
    assert_eq!(ends(&missed), [("reject".to_owned(), 1.0)]);
}

#[test]
fn a_client_that_the_kernel_remembers_keeps_its_endpoint() {
    let ways = asked("10.244.0.7", 80).expect("understood");
    assert_eq!(ends(&ways), [("10.244.1.5:8080".to_owned(), 1.0)]);
}

#[test]
fn tables_of_others_count_where_a_packet_meets_them() {
    let ways = asked("198.51.100.1", 80).expect("understood");
    assert!(ways.iter().all(|way| way.end == journey::End::Drop));
    let error = asked("203.0.113.5", 80).expect_err("a rate limit is not known");
    assert_eq!(error.line, 71);
    assert!(error.what.contains("`limit`"), "{error}");
    let error = asked("233.252.0.1", 80).expect_err("a service by name is not known");
    assert!(error.what.contains("`http`"), "{error}");
}

#[test]
fn text_that_is_no_listing_is_refused_with_its_line() {
    for (text, line) in [
        ("*nat\n", 1),
        ("table ip6 a {\n}\n", 1),
        ("table ip a {\n\tchain b {\n", 2),
        ("add table ip a\nadd chain ip a b\ninsert rule ip a b accept\n", 3),
        ("table ip a {\n\tchain b {\n\t\ttype filter hook input priority odd;\n\t}\n}\n", 3),
        ("", 1),
    ] {
        let packet = Packet {
            protocol: Protocol::Tcp,
            source: "10.0.0.1:1".parse().expect("an address"),
            destination: "10.0.0.2:2".parse().expect("an address"),
            ingress: Ingress::Local,
        };
        let error = Nft::default().explain(text, &[], &packet).expect_err(text);
        assert_eq!(error.line, line, "{text}: {error}");
    }
}
