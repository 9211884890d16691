//! What the kernel answers: error number and extended acknowledgement
//! (`include/uapi/linux/netlink.h`, `struct nlmsgerr`, `enum nlmsgerr_attrs`).
//!
//! Invariant: knows nothing of any protocol; the words are the kernel's own.

use crate::attr::{Attrs, align};
use crate::message::{HEADER_LEN, Message, flags, kinds};

/// `NLMSGERR_ATTR_MSG`, `_OFFS` and `_MISS_TYPE`.
const WORDS: u16 = 1;
const OFFSET: u16 = 2;
const MISSING_TYPE: u16 = 5;

/// Length of the error number in front of the quoted request.
const ERRNO_LEN: usize = 4;

/// One answer: an error, or with error number 0 an acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The sequence number of the message that is answered.
    pub sequence: u32,
    /// The error number as in `errno.h`, positive; 0 when all went well.
    pub errno: i32,
    /// Byte offset of the attribute complained about, from the start of the request's
    /// header.
    pub offset: Option<usize>,
    /// What the kernel says in words; empty when it says nothing.
    pub words: String,
}

impl Reply {
    /// Reads the answer in `message`; `None` when it is neither an error, an
    /// acknowledgement nor the end of a dump, or too short to be one.
    ///
    /// The end of a dump may carry an error as well (`netlink_dump_done` in
    /// `net/netlink/af_netlink.c`).
    #[must_use]
    pub fn read(message: &Message<'_>) -> Option<Self> {
        let errno = first_word(message.payload);
        let (errno, fixed) = match message.kind {
            kinds::ERROR => (errno?, quoted_len(message)?),
            kinds::DONE => (errno.unwrap_or(0), ERRNO_LEN),
            _ => return None,
        };
        let attrs = if message.flags & flags::ACK_TLVS == 0 {
            Attrs::new(&[])
        } else {
            message.attrs(fixed)
        };
        Some(Self {
            sequence: message.sequence,
            errno: errno.saturating_neg(),
            offset: attrs.clone().find(OFFSET).and_then(|a| host_usize(a.payload)),
            words: words(attrs),
        })
    }

    /// Whether the request was carried out.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.errno == 0
    }
}

/// Bytes in front of the attributes: the error number, and as much of the request as the
/// kernel quotes.
fn quoted_len(message: &Message<'_>) -> Option<usize> {
    let quoted = message.payload.get(ERRNO_LEN..ERRNO_LEN + HEADER_LEN)?;
    let capped = message.flags & flags::CAPPED != 0;
    let request_len = if capped { HEADER_LEN } else { host_usize(&quoted[..4])?.max(HEADER_LEN) };
    Some(ERRNO_LEN + align(request_len))
}

fn words(attrs: Attrs<'_>) -> String {
    if let Some(text) = attrs.clone().find(WORDS).and_then(|a| a.text()) {
        return text.to_owned();
    }
    match attrs.clone().find(MISSING_TYPE).and_then(|a| host_usize(a.payload)) {
        Some(kind) => format!("attribute {kind} is missing"),
        None => String::new(),
    }
}

fn first_word(bytes: &[u8]) -> Option<i32> {
    let word = bytes.get(..ERRNO_LEN)?;
    word.try_into().ok().map(i32::from_ne_bytes)
}

fn host_usize(bytes: &[u8]) -> Option<usize> {
    let word = bytes.try_into().ok().map(u32::from_ne_bytes)?;
    usize::try_from(word).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Messages;

    /// The only message in `bytes`, read as an answer.
    fn reply(bytes: &[u8]) -> Option<Reply> {
        let mut messages = Messages::new(bytes);
        let message = messages.next().expect("a whole message");
        assert_eq!(messages.next(), None, "one message only");
        Reply::read(&message)
    }

    /// The answer to message 3 of a batch when `NETLINK_CAP_ACK` and `NETLINK_EXT_ACK` are
    /// on.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_capped_error_gives_number_offset_and_sequence() {
        #[rustfmt::skip]
        let bytes = [
            44, 0, 0, 0,  2, 0,  0, 3,  3, 0, 0, 0,  9, 9, 0, 0,   // ERROR, CAPPED | ACK_TLVS
            254, 255, 255, 255,                                     // -ENOENT
            88, 0, 0, 0,  6, 10,  1, 12,  3, 0, 0, 0,  0, 0, 0, 0,  // the request's header
            8, 0, 2, 0,  72, 0, 0, 0,                               // offset 72
        ];
        let expected = Reply { sequence: 3, errno: 2, offset: Some(72), words: String::new() };
        assert_eq!(reply(&bytes), Some(expected));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn an_uncapped_error_is_read_behind_the_quoted_request() {
        #[rustfmt::skip]
        let bytes = [
            60, 0, 0, 0,  2, 0,  0, 2,  7, 0, 0, 0,  9, 9, 0, 0,   // ERROR, ACK_TLVS
            234, 255, 255, 255,                                     // -EINVAL
            22, 0, 0, 0,  16, 0,  5, 0,  7, 0, 0, 0,  0, 0, 0, 0,   // a request of 22 bytes
            6, 0, 3, 0,  b'x', 0,  0, 0,                            // its payload, padded
            13, 0, 1, 0,  b'b', b'a', b'd', b' ', b'n', b'a', b'm', b'e', 0, 0, 0, 0,
        ];
        let bytes = {
            let mut b = bytes;
            b[0] = u8::try_from(b.len()).expect("short");
            b
        };
        let read = reply(&bytes).expect("an error");
        assert_eq!((read.errno, read.offset, read.words.as_str()), (22, None, "bad name"));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_missing_attribute_is_put_into_words() {
        #[rustfmt::skip]
        let bytes = [
            44, 0, 0, 0,  2, 0,  0, 3,  1, 0, 0, 0,  0, 0, 0, 0,
            234, 255, 255, 255,
            20, 0, 0, 0,  0, 10,  5, 0,  1, 0, 0, 0,  0, 0, 0, 0,
            8, 0, 5, 0,  4, 0, 0, 0,                                // MISS_TYPE 4
        ];
        assert_eq!(reply(&bytes).expect("an error").words, "attribute 4 is missing");
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn acknowledgements_and_ends_of_dumps_are_answers() {
        #[rustfmt::skip]
        let ack = [
            36, 0, 0, 0,  2, 0,  0, 1,  5, 0, 0, 0,  0, 0, 0, 0,
            0, 0, 0, 0,
            20, 0, 0, 0,  0, 10,  5, 0,  5, 0, 0, 0,  0, 0, 0, 0,
        ];
        assert!(reply(&ack).expect("an acknowledgement").is_ok());
        #[rustfmt::skip]
        let done = [20, 0, 0, 0,  3, 0,  2, 0,  1, 0, 0, 0,  0, 0, 0, 0,  161, 255, 255, 255];
        assert_eq!(reply(&done).expect("the end of a dump").errno, 95);
    }

    #[test]
    fn what_is_too_short_or_no_answer_is_none() {
        let message = |kind, payload| Message { kind, flags: 0, sequence: 1, payload };
        assert_eq!(Reply::read(&message(kinds::ERROR, &[0; 19])), None);
        assert_eq!(Reply::read(&message(kinds::NOOP, &[0; 40])), None);
        assert_eq!(Reply::read(&message(0x0a00, &[0; 40])), None);
    }
}
