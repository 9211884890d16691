//! Names of chains as kube-proxy's nftables mode spells them.
//!
//! A name is a prefix, eight characters of a hash, and the text that was hashed:
//! `service-ULMVA6XW-ns1/svc1/tcp/p80`. The hash keeps names apart when they are cut, which
//! happens at 240 characters (`hashAndTruncate` of `pkg/proxy/nftables/proxier.go`), and
//! makes neighbours look different.
//!
//! Invariant: spells names, and knows nothing of what is in a chain.

use data_encoding::BASE32;
use nfc_ir::Service;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;

/// The longest name, its prefix left out.
const BASE_BYTES_MAX: usize = 240;

/// The chain that spreads over a Service's endpoints.
pub(super) fn service(service: &Service) -> String {
    format!("service-{}", hashed(port_text(service)))
}

/// The chain that traffic to a Service from outside comes by.
pub(super) fn external(service: &Service) -> String {
    format!("external-{}", hashed(port_text(service)))
}

/// The chain of one endpoint of a Service.
pub(super) fn endpoint(service: &Service, address: SocketAddr) -> String {
    // A colon cannot stand in the name of a chain.
    let ip = address.ip().to_string().replace(':', ".");
    let text = format!("{}__{ip}/{}", port_text(service), address.port());
    format!("endpoint-{}", hashed(text))
}

/// Whether the Service's own names can stand in the name of a chain. Kubernetes allows no
/// others.
pub(super) fn can_spell(service: &Service) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let name = &service.name;
    [&name.namespace, &name.name, &name.port].into_iter().all(|part| part.bytes().all(is_allowed))
}

fn port_text(service: &Service) -> String {
    let name = &service.name;
    format!("{}/{}/{}/{}", name.namespace, name.name, service.protocol, name.port)
}

fn hashed(text: String) -> String {
    let mut base = BASE32.encode(&Sha256::digest(&text)[..5]);
    base.push('-');
    base.push_str(&text);
    if base.len() > BASE_BYTES_MAX {
        base.truncate(BASE_BYTES_MAX - 3);
        base.push_str("...");
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;
    use nfc_ir::{Family, Protocol, ServiceName, synth};

    fn named(namespace: &str, name: &str, protocol: Protocol, port: &str) -> Service {
        let [namespace, name, port] = [namespace, name, port].map(str::to_owned);
        let service = synth::service(Family::Ipv4, protocol, 0, 0);
        Service { name: ServiceName { namespace, name, port }, ..service }
    }

    /// From rulesets that kube-proxy wrote: in its own tests, and in a listing of 1.36.2 that
    /// was published.
    #[test]
    fn services_are_named_as_kube_proxy_names_them() {
        let known = [
            ("ns1", "svc1", Protocol::Tcp, "p80", "ULMVA6XW-ns1/svc1/tcp/p80"),
            ("default", "nginx", Protocol::Tcp, "", "ECO34HEO-default/nginx/tcp/"),
            ("testing", "service", Protocol::Tcp, "http", "P4ZYZVCF-testing/service/tcp/http"),
            (
                "default",
                "kubernetes",
                Protocol::Tcp,
                "https",
                "2QRHZV4L-default/kubernetes/tcp/https",
            ),
            (
                "kproxy-lab",
                "backend-api",
                Protocol::Tcp,
                "http",
                "YVSKLJHA-kproxy-lab/backend-api/tcp/http",
            ),
            ("ns2", "svc2", Protocol::Udp, "dns-udp", "2EWJRC25-ns2/svc2/udp/dns-udp"),
            ("ns2", "svc2", Protocol::Sctp, "dns-sctp", "SHWU3DEK-ns2/svc2/sctp/dns-sctp"),
        ];
        for (namespace, name, protocol, port, base) in known {
            let asked = named(namespace, name, protocol, port);
            assert_eq!(service(&asked), format!("service-{base}"));
            assert_eq!(external(&asked), format!("external-{base}"));
        }
    }

    #[test]
    fn endpoints_are_named_as_kube_proxy_names_them() {
        let svc1 = named("ns1", "svc1", Protocol::Tcp, "p80");
        let nginx = named("default", "nginx", Protocol::Tcp, "");
        let sctp = named("ns2", "svc2", Protocol::Sctp, "dns-sctp");
        let known = [
            (&svc1, "10.180.0.1:80", "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80"),
            (&nginx, "10.64.2.11:80", "endpoint-MM6MEPTV-default/nginx/tcp/__10.64.2.11/80"),
            (&sctp, "10.180.2.1:53", "endpoint-NIAX2ASB-ns2/svc2/sctp/dns-sctp__10.180.2.1/53"),
        ];
        for (service, address, name) in known {
            assert_eq!(endpoint(service, address.parse().expect("an address")), name);
        }
    }

    #[test]
    fn ipv6_addresses_are_spelled_without_colons() {
        let svc1 = named("ns1", "svc1", Protocol::Tcp, "p80");
        let address = "[fd00:10:180::1]:80".parse().expect("an address");
        let name = "endpoint-ZVRFLKHO-ns1/svc1/tcp/p80__fd00.10.180..1/80";
        assert_eq!(endpoint(&svc1, address), name);
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let long = |last: char| {
            let name = format!("{}{last}", "n".repeat(250));
            service(&named("ns", &name, Protocol::Tcp, "p"))
        };
        let (one, other) = (long('a'), long('b'));
        assert_eq!(one.len(), "service-".len() + 240);
        assert!(one.ends_with("nnn..."));
        assert_ne!(one, other);
    }

    #[test]
    fn strange_names_are_told_apart() {
        assert!(can_spell(&named("ns1", "svc-1", Protocol::Tcp, "")));
        for name in ["a b", "a;flush", "a\nb", "ä", "a/b"] {
            assert!(!can_spell(&named("ns1", name, Protocol::Tcp, "")), "{name}");
        }
    }
}
