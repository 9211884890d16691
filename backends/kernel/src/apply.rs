//! The executor: carries out steps in the network namespace of the calling thread.
//!
//! Invariant: knows what kinds of steps there are, and nothing of what they say.

use crate::process::{self, Finished, ProcessError};
use crate::socket::{AskError, Exchange, Protocol, Room, Socket};
use crate::sysctl::{self, SysctlError};
use crate::transaction::{self, Line};
use crate::{Missing, features, genetlink, link};
use nfc_backend::{Answer, Apply, Fault, Process, Question, Receipt, Refusal, Step, StepReceipt};
use nfc_netlink::attr::align;
use nfc_netlink::genl::GenlMessage;
use nfc_netlink::message::{self, HEADER_LEN, Messages};
use nfc_netlink::reply::Reply;
use std::io;
use std::time::{Duration, Instant};

/// How long a process may take unless said otherwise. Loading tens of thousands of Services
/// as text takes minutes.
const PROCESS_DEADLINE: Duration = Duration::from_secs(900);

/// Carries out steps where the calling thread is. It holds nothing between two steps, so it
/// may be used in one namespace after the other.
///
/// Time is taken from handing a step over until it is known to be done: sockets are opened
/// and families resolved before, programs started within.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    process_deadline: Duration,
    room: Room,
}

impl Default for Kernel {
    fn default() -> Self {
        Self { process_deadline: PROCESS_DEADLINE, room: Room::default() }
    }
}

impl Kernel {
    /// An executor that gives processes 15 minutes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, but a process is killed after `deadline`.
    #[must_use]
    pub fn with_process_deadline(self, deadline: Duration) -> Self {
        Self { process_deadline: deadline, ..self }
    }

    /// The same, but with a send buffer of `bytes` for an nf_tables transaction: what is longer
    /// is not sent, and not begun.
    #[must_use]
    pub fn with_request_bytes(self, bytes: usize) -> Self {
        Self { room: Room { request_bytes: Some(bytes), ..self.room }, ..self }
    }

    /// The same, but with a receive buffer of `bytes` for the answers of nf_tables: of more
    /// faults than it takes some are lost, and that is told.
    #[must_use]
    pub fn with_answer_bytes(self, bytes: usize) -> Self {
        Self { room: Room { answer_bytes: Some(bytes), ..self.room }, ..self }
    }

    pub(crate) fn carry_out_all(
        &self,
        steps: &[Step],
        line: &mut Line,
    ) -> Result<Receipt, Refusal> {
        let mut receipt = Receipt::default();
        for (i, step) in steps.iter().enumerate() {
            let carried_out = self.carry_out(step, line);
            let elapsed = carried_out.map_err(|trouble| trouble.at(i, step.kind()))?;
            receipt.steps.push(StepReceipt {
                kind: step.kind(),
                elapsed,
                byte_count: step.byte_count(),
            });
        }
        Ok(receipt)
    }

    fn carry_out(&self, step: &Step, line: &mut Line) -> Result<Duration, Trouble> {
        match step {
            Step::Nftables(batch) => transaction::carry_out(batch, line, self.room),
            Step::Process(process) => self.process(process),
            Step::Genetlink { family, messages } => genetlink_step(family, messages),
            Step::Route(bytes) => route(bytes),
            Step::Sysctl { name, value } => write_sysctl(name, value),
        }
    }

    fn process(&self, process: &Process) -> Result<Duration, Trouble> {
        let finished = process::run(process, self.process_deadline)?;
        match complaint(process, &finished) {
            Some(trouble) => Err(trouble),
            None => Ok(finished.elapsed),
        }
    }

    fn answer(&self, question: &Question) -> Result<Answer, Trouble> {
        match question {
            Question::Process(process) => self.listing(process),
            Question::Genetlink { family, message } => {
                let number = number_of(family)?;
                Ok(Answer(genetlink::ask(number, message)?))
            }
            Question::Route(request) => {
                let socket = Socket::open(Protocol::Route, request.len(), 1)?;
                Ok(Answer(socket.ask(request)?))
            }
            Question::Nftables(requests) => self.nftables_listing(requests),
            Question::Sysctl { name } => read_sysctl(name),
        }
    }

    /// What a process lists. "No such file or directory" is how `nft` says that there is no
    /// such table: then there is nothing to list.
    fn listing(&self, process: &Process) -> Result<Answer, Trouble> {
        let finished = process::run(process, self.process_deadline)?;
        if finished.code != Some(0) && finished.stderr.contains("No such file or directory") {
            return Ok(Answer::default());
        }
        match complaint(process, &finished) {
            Some(trouble) => Err(trouble),
            None => Ok(Answer(finished.stdout)),
        }
    }

    /// The answers to all requests. An object that does not exist is no failure.
    fn nftables_listing(&self, requests: &[u8]) -> Result<Answer, Trouble> {
        let socket = Socket::open(Protocol::Netfilter, requests.len(), 1)?;
        socket.limit(self.room)?;
        let mut all = Vec::new();
        let mut rest = requests;
        for request in Messages::new(requests) {
            let (first, later) = rest.split_at(align(HEADER_LEN + request.payload.len()));
            rest = later;
            match socket.ask(first) {
                Ok(answer) => all.extend(answer),
                Err(AskError::Restless) => return Ok(Answer::default()),
                Err(AskError::Refused(reply)) if reply.errno == libc::ENOENT => {}
                Err(AskError::Refused(reply)) if is_unknown(reply.errno) => {
                    return Err(features::no_nftables().into());
                }
                Err(other) => return Err(other.into()),
            }
        }
        Ok(Answer(all))
    }
}

impl Apply for Kernel {
    fn apply(&mut self, steps: &[Step]) -> Result<Receipt, Refusal> {
        self.carry_out_all(steps, &mut Line::brief())
    }

    fn ask(&mut self, questions: &[Question]) -> Result<Vec<Answer>, Refusal> {
        let answer = |(i, question)| {
            let kind = kind_of(question);
            self.answer(question).map_err(|trouble| trouble.at(i, kind))
        };
        questions.iter().enumerate().map(answer).collect()
    }
}

fn kind_of(question: &Question) -> &'static str {
    match question {
        Question::Process(process) => process.program,
        Question::Genetlink { family, .. } => family,
        Question::Route(_) => "rtnetlink",
        Question::Nftables(_) => "nftables",
        Question::Sysctl { .. } => "sysctl",
    }
}

/// What nfnetlink says about a batch for a subsystem that it does not have.
pub(crate) fn is_unknown(errno: i32) -> bool {
    errno == libc::EOPNOTSUPP || errno == libc::EPROTONOSUPPORT
}

fn genetlink_step(family: &str, messages: &[GenlMessage]) -> Result<Duration, Trouble> {
    if messages.is_empty() {
        return Ok(Duration::ZERO);
    }
    let exchange = genetlink::send(number_of(family)?, messages)?;
    verdict(&exchange, |sequence| before(sequence, messages.len())).map_err(explained)
}

fn number_of(family: &str) -> Result<u16, Trouble> {
    genetlink::resolve(family)?.ok_or_else(|| features::unresolved(family).into())
}

fn route(bytes: &[u8]) -> Result<Duration, Trouble> {
    let count = Messages::new(bytes).count();
    if count == 0 {
        return Ok(Duration::ZERO);
    }
    let mut bytes = bytes.to_vec();
    message::number(&mut bytes);
    let exchange = Socket::open(Protocol::Route, bytes.len(), count)?.exchange(&bytes)?;
    // `rtnl_newlink_create` in `net/core/rtnetlink.c` says so when no module has the type.
    if exchange.errors().any(|r| r.words == "Unknown device type") {
        return Err(features::no_link_type().into());
    }
    verdict(&exchange, |sequence| before(sequence, count)).map_err(explained)
}

/// Until loopback is up nothing is routed to the node itself, and the kernel says no more
/// than that an argument is invalid, as IPVS does of every real server
/// (`ip_vs_new_dest` in `net/netfilter/ipvs/ip_vs_ctl.c`), or that a link is down.
fn explained(trouble: Trouble) -> Trouble {
    let by_loopback = |fault: &Fault| [libc::EINVAL, libc::ENETDOWN].contains(&fault.errno);
    match &trouble {
        Trouble::Faults(faults) if faults.iter().any(by_loopback) => {
            let loopback = link::find("lo").ok().flatten();
            let is_down = loopback.is_some_and(|link| !link.up);
            if is_down { features::no_loopback().into() } else { trouble }
        }
        _ => trouble,
    }
}

/// The index of the message with this sequence number, when they are counted from 1.
fn before(sequence: u32, count: usize) -> Option<usize> {
    let index = usize::try_from(sequence).ok()?.checked_sub(1)?;
    (index < count).then_some(index)
}

fn write_sysctl(name: &str, value: &str) -> Result<Duration, Trouble> {
    let start = Instant::now();
    sysctl::write(name, value)?;
    Ok(start.elapsed())
}

fn read_sysctl(name: &str) -> Result<Answer, Trouble> {
    match sysctl::read(name) {
        Ok(value) => Ok(Answer(value.into_bytes())),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Answer::default()),
        Err(error) => Err(error.into()),
    }
}

/// Whether all went well, by the answers to one `send`. The last message asks for an
/// acknowledgement, so that silence is not taken for consent.
pub(crate) fn verdict(
    exchange: &Exchange,
    index_of: impl Fn(u32) -> Option<usize>,
) -> Result<Duration, Trouble> {
    let mut faults: Vec<_> = exchange.errors().map(|reply| fault(reply, &index_of)).collect();
    if faults.iter().any(|f| f.errno == libc::EPERM && f.offset.is_none()) {
        return Err(features::no_privilege().into());
    }
    if !faults.is_empty() {
        faults.splice(..0, exchange.overrun.then(lost_faults));
        return Err(Trouble::Faults(faults));
    }
    if exchange.overrun || exchange.replies.is_empty() {
        let source_text = "the kernel's answer was lost".to_owned();
        return Err(Trouble::Io { what: "netlink".to_owned(), source_text });
    }
    Ok(exchange.elapsed)
}

/// Stands for faults that the receive buffer had no room for.
fn lost_faults() -> Fault {
    let words = "there were more faults than the receive buffer could take".to_owned();
    Fault { step: 0, message: None, offset: None, errno: libc::ENOBUFS, words }
}

fn fault(reply: &Reply, index_of: impl Fn(u32) -> Option<usize>) -> Fault {
    Fault {
        step: 0,
        message: index_of(reply.sequence),
        offset: reply.offset,
        errno: reply.errno,
        words: reply.words.clone(),
    }
}

/// What a process complains about, if it failed.
fn complaint(process: &Process, finished: &Finished) -> Option<Trouble> {
    if finished.code == Some(0) {
        return None;
    }
    let words = finished.stderr.trim().to_owned();
    if let Some(missing) = features::missing_in(process.program, &words) {
        return Some(missing.into());
    }
    let fault = Fault {
        step: 0,
        message: process::failed_line(&words),
        offset: None,
        errno: 0,
        words: if words.is_empty() { ending(finished) } else { words },
    };
    Some(Trouble::Faults(vec![fault]))
}

fn ending(finished: &Finished) -> String {
    match finished.code {
        Some(code) => format!("ended with code {code} and said nothing"),
        None => "was ended by a signal".to_owned(),
    }
}

/// A refusal that does not yet know which step it is about.
pub(crate) enum Trouble {
    Missing(Missing),
    Faults(Vec<Fault>),
    Io { what: String, source_text: String },
}

impl Trouble {
    fn at(self, step: usize, kind: &'static str) -> Refusal {
        match self {
            Self::Missing(Missing { what, why }) => Refusal::Missing { what, why },
            Self::Faults(mut faults) => {
                faults.iter_mut().for_each(|f| f.step = step);
                Refusal::Refused { kind, faults, done: step }
            }
            Self::Io { what, source_text } => Refusal::Io { what, source_text },
        }
    }
}

impl From<Missing> for Trouble {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied {
            return Self::Missing(features::no_privilege());
        }
        if error.raw_os_error() == Some(libc::EMSGSIZE) {
            return Self::Missing(features::no_room());
        }
        Self::Io { what: "netlink".to_owned(), source_text: error.to_string() }
    }
}

impl From<AskError> for Trouble {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Io(error) => error.into(),
            AskError::Restless => Self::Io {
                what: "netlink".to_owned(),
                source_text: "the objects change faster than they can be read".to_owned(),
            },
            AskError::Refused(reply) if reply.errno == libc::EPERM => {
                features::no_privilege().into()
            }
            AskError::Refused(reply) => Self::Faults(vec![fault(&reply, |_| None)]),
        }
    }
}

impl From<ProcessError> for Trouble {
    fn from(error: ProcessError) -> Self {
        match error {
            ProcessError::NotInstalled { program, hint } => {
                let why = format!("it is not installed; {hint}");
                Self::Missing(Missing { what: program, why })
            }
            ProcessError::Late { ref program, .. } | ProcessError::Io { ref program, .. } => {
                Self::Io { what: program.clone(), source_text: error.to_string() }
            }
        }
    }
}

impl From<SysctlError> for Trouble {
    fn from(error: SysctlError) -> Self {
        let text = error.to_string();
        match error.errno() {
            None => Self::Io { what: "sysctl".to_owned(), source_text: text },
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
                Self::Missing(features::no_sysctl_access(&text))
            }
            Some(libc::ENOENT) => Self::Missing(features::no_sysctl(&text)),
            Some(errno) => Self::Faults(vec![Fault {
                step: 0,
                message: None,
                offset: None,
                errno,
                words: text,
            }]),
        }
    }
}
