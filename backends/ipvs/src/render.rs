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

use crate::diff::{Change, Command, LinkChange, Patch};
use crate::names;
use crate::program::{Program, ServerKey, VirtualServer};
use ipnet::IpNet;
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
    writeln!(f, "-A {option} {}{}", key.address, settings(server))?;
    for (real, weight) in &server.reals {
        writeln!(f, "-a {option} {} -r {real} -m -w {weight}", key.address)?;
    }
    Ok(())
}

/// Scheduler, persistence and flags.
fn settings(server: &VirtualServer) -> String {
    let mut text = format!(" -s {}", server.scheduler.name());
    if let Some(seconds) = server.persistence {
        // Writing to a String cannot fail.
        let _ = write!(text, " -p {seconds}");
    }
    let flags = server.scheduler_flags();
    if !flags.is_empty() {
        let _ = write!(text, " -b {flags}");
    }
    text
}

fn protocol_option(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "-t",
        Protocol::Udp => "-u",
        Protocol::Sctp => "--sctp-service",
    }
}

fn write_addresses(f: &mut String, program: &Program) -> fmt::Result {
    writeln!(f, "\n# {}: the routes that make the node take the packets.", program.family)?;
    writeln!(f, "ip {} -batch - <<'END'", family_option(program.family))?;
    for address in &program.addresses {
        writeln!(f, "route replace {}", local_route(address))?;
    }
    f.write_str("END\n")
}

fn family_option(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "-4",
        Family::Ipv6 => "-6",
    }
}

fn local_route(address: &IpAddr) -> String {
    format!("local {address} dev lo table local proto {}", names::ROUTE_PROTOCOL)
}

/// The script that carries out a patch, in the order of its steps.
pub(crate) fn patch_script(patch: &Patch) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_patch(&mut text, patch);
    text
}

fn write_patch(f: &mut String, patch: &Patch) -> fmt::Result {
    for (name, value) in patch.sysctls.iter().flatten() {
        writeln!(f, "sysctl -qw {name}={value}")?;
    }
    write_tables(f, &patch.grow)?;
    write_commands(f, patch, |change| change.after.is_some())?;
    write_address_changes(f, patch)?;
    write_commands(f, patch, |change| change.after.is_none())?;
    write_tables(f, &patch.shrink)
}

fn write_tables(f: &mut String, patch: &nfc_ruleset::Patch) -> fmt::Result {
    let scripts = nfc_ruleset::encode::scripts(patch);
    scripts.iter().try_for_each(|script| write!(f, "nft -f - <<'END'\n{script}END\n"))
}

fn write_commands(f: &mut String, patch: &Patch, which: fn(&Change) -> bool) -> fmt::Result {
    for (key, change) in patch.servers.iter().filter(|(_, change)| which(change)) {
        let server = format!("{} {}", protocol_option(key.protocol), key.address);
        let settings = change.after.as_ref().map_or_else(String::new, settings);
        for command in &change.commands {
            match command {
                Command::AddServer => writeln!(f, "ipvsadm -A {server}{settings}"),
                Command::SetServer => writeln!(f, "ipvsadm -E {server}{settings}"),
                Command::DeleteServer => writeln!(f, "ipvsadm -D {server}"),
                Command::AddReal(real, weight) => {
                    writeln!(f, "ipvsadm -a {server} -r {real} -m -w {weight}")
                }
                Command::SetReal(real, weight) => {
                    writeln!(f, "ipvsadm -e {server} -r {real} -m -w {weight}")
                }
                Command::DrainReal(real) => {
                    writeln!(f, "ipvsadm -e {server} -r {real} -m -w 0")
                }
                Command::DeleteReal(real) => writeln!(f, "ipvsadm -d {server} -r {real}"),
            }?;
        }
    }
    Ok(())
}

fn write_address_changes(f: &mut String, patch: &Patch) -> fmt::Result {
    for address in &patch.bound {
        writeln!(f, "ip {} route replace {}", family_option(patch.family), local_route(address))?;
    }
    match &patch.link {
        LinkChange::Keep => {}
        LinkChange::Strip { index: _, addresses } => {
            for address in addresses {
                writeln!(f, "ip address del {} dev {}", IpNet::from(*address), names::LINK)?;
            }
        }
        LinkChange::Delete => writeln!(f, "ip link del dev {}", names::LINK)?,
    }
    for address in &patch.unbound {
        writeln!(f, "ip {} route del {}", family_option(patch.family), local_route(address))?;
    }
    Ok(())
}
