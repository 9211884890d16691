//! Programs as a shell script, which is read by people and run by `sh` as root.
//!
//! Three tools are needed to load a program, and each gets its own lines in its own
//! language: `sysctl -w`, `nft -f`, `ipvsadm --restore` (the lines of `ipvsadm --save -n`)
//! and `ip -batch`. The order is that of the steps: see [encode](crate::encode).
//!
//! `ipvsadm --restore` stops at comments, which is why the remarks are filtered out in
//! front of it; `ipvsadm-restore` does the same, but throws away all virtual servers first,
//! whoever they belong to.
//!
//! Invariant: the same programs give the same bytes; nothing is decided here.

use crate::names;
use crate::program::{Program, ServerKey, VirtualServer, host};
use nfc_ir::{Family, Protocol};
use std::fmt::{self, Write as _};
use std::net::IpAddr;

/// The script that loads `programs`.
pub(crate) fn script(programs: &[Program]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_script(&mut text, programs);
    text
}

fn write_script(f: &mut String, programs: &[Program]) -> fmt::Result {
    f.write_str("#!/bin/sh\n# IPVS virtual servers, by nfc. Run as root.\nset -e\n")?;
    let mut sysctls: Vec<_> = programs.iter().flat_map(|p| &p.sysctls).collect();
    sysctls.sort();
    sysctls.dedup();
    if !sysctls.is_empty() {
        // The sysctls exist once the module is there.
        f.write_str("\nmodprobe ip_vs\n")?;
    }
    for (name, value) in sysctls {
        writeln!(f, "sysctl -qw {name}={value}")?;
    }
    for program in programs {
        write_companion(f, program)?;
    }
    for program in programs.iter().filter(|p| !p.servers.is_empty()) {
        write_servers(f, program)?;
    }
    if programs.iter().any(|p| !p.addresses.is_empty()) {
        write_link(f)?;
    }
    for program in programs.iter().filter(|p| !p.addresses.is_empty()) {
        write_addresses(f, program)?;
    }
    Ok(())
}

fn write_companion(f: &mut String, program: &Program) -> fmt::Result {
    let Some(table) = &program.companion else {
        return Ok(());
    };
    writeln!(f, "\n# {}: what IPVS cannot say.\nnft -f - <<'END'", program.family)?;
    f.write_str(&nfc_ruleset::render::script(table))?;
    f.write_str("END\n")
}

fn write_servers(f: &mut String, program: &Program) -> fmt::Result {
    writeln!(f, "\n# {}: virtual servers and their real servers.", program.family)?;
    f.write_str("grep -v '^#' <<'END' | ipvsadm --restore\n")?;
    for (key, server) in &program.servers {
        writeln!(f, "# {}", server.service)?;
        write_server(f, key, server)?;
    }
    f.write_str("END\n")
}

fn write_server(f: &mut String, key: &ServerKey, server: &VirtualServer) -> fmt::Result {
    let option = protocol_option(key.protocol);
    write!(f, "-A {option} {} -s {}", key.address, server.scheduler.name())?;
    if let Some(seconds) = server.persistence {
        write!(f, " -p {seconds}")?;
    }
    if server.hashes_port() {
        write!(f, " -b mh-port")?;
    }
    f.write_char('\n')?;
    for (real, weight) in &server.reals {
        writeln!(f, "-a {option} {} -r {real} -m -w {weight}", key.address)?;
    }
    Ok(())
}

fn protocol_option(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "-t",
        Protocol::Udp => "-u",
        Protocol::Sctp => "--sctp-service",
    }
}

fn write_link(f: &mut String) -> fmt::Result {
    let (link, index) = (names::LINK, names::LINK_INDEX);
    writeln!(f, "\n# The link whose addresses make the node take the packets.")?;
    writeln!(f, "ip link show dev {link} >/dev/null 2>&1 ||")?;
    writeln!(f, "\tip link add name {link} index {index} type dummy")
}

fn write_addresses(f: &mut String, program: &Program) -> fmt::Result {
    let family = match program.family {
        Family::Ipv4 => "-4",
        Family::Ipv6 => "-6",
    };
    writeln!(f, "ip {family} -batch - <<'END'")?;
    for address in &program.addresses {
        let nodad = if matches!(address, IpAddr::V6(_)) { " nodad" } else { "" };
        writeln!(f, "address replace {} dev {}{nodad}", host(*address), names::LINK)?;
    }
    f.write_str("END\n")
}
