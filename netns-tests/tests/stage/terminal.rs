//! A terminal for commands that draw on one, and signals as a user's shell leaves them.

use nfc_kernel::Missing;
use std::path::Path;
use std::sync::Arc;

/// Signals that end a command, as `signal(7)` numbers them: SIGINT, SIGHUP, SIGTERM.
const ENDING: [i32; 3] = [2, 1, 15];

/// What Ctrl-C is to a terminal.
pub const CTRL_C: &[u8] = b"\x03";

/// Makes sure that commands are started as a shell starts them. Whoever was started in the
/// background of a script ignores some signals, and so does whom it starts; but not if it
/// listens to them itself (`signal(7)`, `execve(2)`).
pub fn listen_to_what_was_ignored() {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a number");
    for number in ENDING.iter().filter(|number| ignored >> (*number - 1) & 1 == 1) {
        signal_hook::flag::register(*number, Arc::default()).expect("a handler");
    }
}

/// Whether a command can be given a terminal; if not, the test called `test` is skipped aloud.
pub fn need(test: &str) -> bool {
    let there = |path: &str| Path::new(path).exists();
    let is_there = there("/dev/pts/ptmx") && there("/usr/bin/script");
    if !is_there {
        let why = "it takes /dev/pts and the tool script(1)".to_owned();
        nfc_lab::need::skip(test, &Missing { what: "a terminal".to_owned(), why });
    }
    is_there
}

/// The words that run `line` on a terminal whose keys are standard input, and end as it ends.
pub fn on_terminal(line: &str) -> [&str; 4] {
    ["script", "-qec", line, "/dev/null"]
}
