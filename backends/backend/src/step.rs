//! What must happen in the kernel, as plain data.
//!
//! Invariant: a step says everything that its executor needs; it holds no handle, no
//! socket and no closure.

use nfc_netlink::batch::Batch;
use nfc_netlink::genl::GenlMessage;

/// One thing to do. Each takes effect as a whole or not at all, except where it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An nf_tables transaction.
    Nftables(Batch),
    /// A process that reads its orders from standard input.
    Process(Process),
    /// Messages of a generic netlink family, one after the other; those before a failing
    /// one have taken effect.
    Genetlink {
        /// Name of the family, resolved by the executor.
        family: &'static str,
        /// For each message its command and version, and its attributes.
        messages: Vec<GenlMessage>,
    },
    /// Finished rtnetlink messages, sent together; those before a failing one have taken
    /// effect.
    Route(Vec<u8>),
    /// A sysctl of the network namespace.
    Sysctl {
        /// Its name with dots, as `sysctl -w` takes it.
        name: String,
        /// The value to write.
        value: String,
    },
}

/// A process to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The program's name, looked up in the executor's `PATH`.
    pub program: &'static str,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it reads.
    pub stdin: String,
}

/// What has to be read from the kernel before a program can replace whatever is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The standard output of a process. The answer is empty when the program says there
    /// is nothing to list.
    Process(Process),
    /// A dump of a generic netlink family; the answer holds its messages as received.
    Genetlink {
        /// Name of the family.
        family: &'static str,
        /// The request.
        message: GenlMessage,
    },
    /// An rtnetlink dump: the finished request.
    Route(Vec<u8>),
    /// Finished requests to nf_tables, each answered on its own. The answer holds all
    /// messages as received, and nothing for objects that do not exist. It is empty when
    /// the objects change faster than they can be read.
    Nftables(Vec<u8>),
    /// The value of a sysctl of the network namespace, as text; the answer is empty when
    /// there is no such sysctl.
    Sysctl {
        /// Its name with dots.
        name: String,
    },
}

/// The answer to a [`Question`]: text or messages, as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Answer(pub Vec<u8>);

impl Step {
    /// How many bytes go to the kernel, or to the process.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        match self {
            Self::Nftables(batch) => batch.bytes().len(),
            Self::Process(process) => process.stdin.len(),
            Self::Genetlink { messages, .. } => messages.iter().map(GenlMessage::byte_count).sum(),
            Self::Route(bytes) => bytes.len(),
            Self::Sysctl { value, .. } => value.len(),
        }
    }

    /// What the step is, in one word for messages to people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nftables(_) => "nftables",
            Self::Process(process) => process.program,
            Self::Genetlink { family, .. } => family,
            Self::Route(_) => "rtnetlink",
            Self::Sysctl { .. } => "sysctl",
        }
    }
}
