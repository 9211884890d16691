//! Our own script, read back line by line, does to packets what Services mean.

use crate::Ipvs;
use nfc_backend::{Backend, journey};
use nfc_ir::synth::{self, Sample};
use nfc_ir::{Family, Ingress, Packet, Protocol, ProxyMode, eval};

#[test]
fn our_own_script_does_what_services_mean() {
    let mut judged = 0;
    for seed in 0..15 {
        for family in Family::ALL {
            let Sample { ir, packets } = synth::sample(seed, family);
            let text = Ipvs.render(&[Ipvs.lower(&ir).program]);
            for packet in packets {
                let ways = Ipvs.explain(&text, &ir.node().addresses, &packet);
                let ways = ways.unwrap_or_else(|e| panic!("{packet}: {e}\n{text}"));
                let told = journey::outcome(&ways).unwrap_or_else(|| panic!("{packet}: {ways:?}"));
                let meant = eval(&ir, ProxyMode::Ipvs, &packet);
                let agrees = told.agrees_with(&meant);
                assert!(agrees, "seed {seed}: {packet}: {told}, meant {meant}\n{text}");
                judged += 1;
            }
        }
    }
    assert!(judged > 2_000, "only {judged} packets were judged");
}

#[test]
fn what_the_tool_saves_is_read() {
    let dump = "-A -t 10.96.0.10:80 -s wrr -p 300\n\
                -a -t 10.96.0.10:80 -r 10.0.0.1:8080 -m -w 1\n\
                -a -t 10.96.0.10:80 -r 10.0.0.2:8080 -m -w 3\n\
                -a -t 10.96.0.10:80 -r 10.0.0.3:8080 -m -w 0\n\
                -A -u 10.96.0.10:53 -s rr\n";
    let packet = |protocol, port| Packet {
        protocol,
        source: "10.0.0.9:40000".parse().expect("an address"),
        destination: format!("10.96.0.10:{port}").parse().expect("an address"),
        ingress: Ingress::Interface("eth0".to_owned()),
    };
    let told = |packet: &Packet| {
        let ways = Ipvs.explain(dump, &[], packet).expect("understood");
        ways.iter().map(|way| format!("{} {}", way.share, way.end)).collect::<Vec<_>>()
    };
    assert_eq!(told(&packet(Protocol::Tcp, 80)), ["0.25 10.0.0.1:8080", "0.75 10.0.0.2:8080"]);
    assert_eq!(told(&packet(Protocol::Udp, 53)), ["1 reject"]);
    assert_eq!(told(&packet(Protocol::Tcp, 81)), ["1 pass"]);
    let error = Ipvs.explain("-A -t web:80 -s rr\n", &[], &packet(Protocol::Tcp, 80));
    assert_eq!(error.expect_err("a name is no address").line, 1);
}
