//! The Ir as text: one fact a line, stable to the byte, made for people and for diffs.
//!
//! Invariant: printing only; nothing reads this form back.

use crate::{Endpoint, Frontend, Ir, Service, TrafficPolicy};
use std::fmt::{self, Display, Write as _};

impl Display for Ir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.services().len();
        let plural = if count == 1 { "" } else { "s" };
        writeln!(f, "{count} service port{plural}, {}", self.family())?;
        self.services().iter().try_for_each(|service| write_service(f, service))
    }
}

fn write_service(f: &mut fmt::Formatter<'_>, service: &Service) -> fmt::Result {
    writeln!(f, "service {} {}", service.name, service.protocol)?;
    for frontend in service.frontends() {
        match frontend {
            Frontend::ClusterIp(ip) => writeln!(f, "  cluster-ip {ip} port {}", service.port)?,
            Frontend::ExternalIp(ip) => writeln!(f, "  external-ip {ip} port {}", service.port)?,
            Frontend::LoadBalancerIp(ip) => {
                writeln!(f, "  load-balancer-ip {ip} port {}", service.port)?;
            }
            Frontend::NodePort(port) => writeln!(f, "  node-port {port}")?,
        }
    }
    for range in &service.source_ranges {
        writeln!(f, "  source-range {range}")?;
    }
    if service.internal_policy == TrafficPolicy::Local {
        writeln!(f, "  internal-policy local")?;
    }
    if service.external_policy == TrafficPolicy::Local {
        writeln!(f, "  external-policy local")?;
    }
    if let Some(affinity) = service.affinity {
        writeln!(f, "  affinity {}s", affinity.timeout_seconds)?;
    }
    if let Some(port) = service.health_check_port {
        writeln!(f, "  health-check-port {port}")?;
    }
    service.endpoints.iter().try_for_each(|endpoint| write_endpoint(f, endpoint))
}

fn write_endpoint(f: &mut fmt::Formatter<'_>, endpoint: &Endpoint) -> fmt::Result {
    let mut line = format!("  endpoint {} weight {}", endpoint.address, endpoint.weight);
    let conditions = [
        (endpoint.local, " local"),
        (!endpoint.ready, " not-ready"),
        (!endpoint.serving, " not-serving"),
        (endpoint.terminating, " terminating"),
    ];
    for (holds, word) in conditions {
        line.push_str(if holds { word } else { "" });
    }
    for zone in &endpoint.hints.zones {
        write!(line, " zone {zone}")?;
    }
    for node in &endpoint.hints.nodes {
        write!(line, " node {node}")?;
    }
    writeln!(f, "{line}")
}
