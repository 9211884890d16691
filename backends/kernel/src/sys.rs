//! System calls, each behind one small safe function.
//!
//! Invariant: no policy; a call that fails gives the system's error number and nothing else.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

/// `result` of a system call that answers -1 when it failed.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `result` of a system call that answers a length, or -1 when it failed.
fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The length of `T` as the system calls want it.
fn len_of<T>() -> libc::socklen_t {
    // Socket addresses and options are a few bytes long.
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

/// A socket that is closed when a program is run.
pub(crate) fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the descriptor was just made and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets an integer option of a socket.
pub(crate) fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let pointer = (&raw const value).cast();
    // SAFETY: `pointer` is valid for `size_of::<i32>()` bytes during the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, pointer, len_of::<i32>()) })?;
    Ok(())
}

/// Binds a packet socket to the interface of this number. With protocol 0 nothing is
/// received.
pub(crate) fn bind_packet(fd: BorrowedFd<'_>, interface: i32, protocol: u16) -> io::Result<()> {
    // SAFETY: `sockaddr_ll` is plain data, for which all zeroes are valid.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = 17; // AF_PACKET
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = interface;
    let pointer = (&raw const address).cast();
    // SAFETY: `pointer` is valid for the given length during the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), pointer, len_of::<libc::sockaddr_ll>()) })?;
    Ok(())
}

/// Sends `bytes` as one message and returns how many were taken.
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer is valid for `bytes.len()` bytes during the call.
    check_len(unsafe {
        libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL)
    })
}

/// Sends `bytes` through a raw socket to `address`; the port in it must be 0 for IPv6.
pub(crate) fn send_to(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    address: std::net::IpAddr,
) -> io::Result<usize> {
    // SAFETY: `sockaddr_storage` is plain data, for which all zeroes are valid.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let pointer = &raw mut storage;
    let length = match address {
        std::net::IpAddr::V4(ip) => {
            let v4 = pointer.cast::<libc::sockaddr_in>();
            // SAFETY: `sockaddr_storage` is large and aligned enough for every family.
            unsafe {
                (*v4).sin_family = 2; // AF_INET
                (*v4).sin_addr.s_addr = u32::from_ne_bytes(ip.octets());
            }
            len_of::<libc::sockaddr_in>()
        }
        std::net::IpAddr::V6(ip) => {
            let v6 = pointer.cast::<libc::sockaddr_in6>();
            // SAFETY: as above.
            unsafe {
                (*v6).sin6_family = 10; // AF_INET6
                (*v6).sin6_addr.s6_addr = ip.octets();
            }
            len_of::<libc::sockaddr_in6>()
        }
    };
    // SAFETY: both pointers are valid for the lengths given during the call.
    check_len(unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL,
            pointer.cast(),
            length,
        )
    })
}

/// Receives one message into `buffer` without waiting when `flags` says so. Returns its whole
/// length when `flags` has `MSG_TRUNC`, even when the buffer is shorter.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
    // SAFETY: the pointer is valid for `buffer.len()` writable bytes during the call.
    check_len(unsafe {
        libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags)
    })
}

/// Waits until `fd` can be read; `false` when `timeout` passed first, or a signal came.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: both pointers are valid during the call, and the signal mask may be null.
    match check(unsafe { libc::ppoll(&raw mut entry, 1, &raw const timeout, std::ptr::null()) }) {
        Ok(ready) => Ok(ready > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

/// Moves the calling thread into a new network namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: takes no pointers and touches the calling thread only.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    Ok(())
}

/// Moves the calling thread into the network namespace that `fd` refers to.
pub(crate) fn enter_network(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointers and touches the calling thread only.
    check(unsafe { libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNET) })?;
    Ok(())
}

/// The time of `clock`.
pub(crate) fn time(clock: libc::clockid_t) -> io::Result<libc::timespec> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid and writable during the call.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(time)
}

/// Binds the calling thread to one CPU.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= usize::try_from(libc::CPU_SETSIZE).unwrap_or(0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `cpu_set_t` is plain data, for which all zeroes are valid.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: `cpu` was checked to be inside the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the pointer is valid for the given length during the call; 0 is this thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })?;
    Ok(())
}

/// The CPU that the calling thread runs on.
pub(crate) fn cpu() -> io::Result<usize> {
    // SAFETY: takes no pointers.
    let cpu = check(unsafe { libc::sched_getcpu() })?;
    usize::try_from(cpu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The effective user of the process.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: takes no pointers and cannot fail.
    unsafe { libc::geteuid() }
}

/// Sends a signal to the process `pid`.
pub(crate) fn kill(pid: u32, signal: i32) -> io::Result<()> {
    // Zero and negative numbers would mean whole groups.
    let pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::kill(pid, signal) })?;
    Ok(())
}

/// Has the kernel kill what `command` starts when the thread that starts it goes
/// (`PR_SET_PDEATHSIG(2const)`).
pub(crate) fn kill_with_thread(command: &mut Command) {
    // SAFETY: takes no pointers and may be called between fork and exec.
    let ask = || check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop);
    // SAFETY: `ask` allocates nothing and takes no lock.
    unsafe { command.pre_exec(ask) };
}
