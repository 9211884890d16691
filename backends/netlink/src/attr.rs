//! Netlink attributes: type-length-value records, padded to four bytes, that nest
//! (`include/uapi/linux/netlink.h`, `struct nlattr`).
//!
//! Writing is append-only: a nest is opened, filled and closed, and its length is patched
//! in when it closes. There is no separate pass that computes lengths, so there is nothing
//! for a second pass to disagree with.
//!
//! Invariant: knows no attribute's meaning.

/// Length of an attribute's header in bytes.
pub const HEADER_LEN: usize = 4;

/// The longest attribute, header included, in bytes: its length is a `u16`.
pub const LEN_MAX: usize = u16::MAX as usize;

/// Marks an attribute that holds attributes (`NLA_F_NESTED`).
pub const NESTED: u16 = 1 << 15;

/// Marks an attribute's integer as big-endian (`NLA_F_NET_BYTEORDER`).
const NET_BYTEORDER: u16 = 1 << 14;

/// `length` rounded up to the four bytes that attributes and messages are padded to.
#[must_use]
pub const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// Appends attributes to a buffer.
///
/// A nest that outgrows [`LEN_MAX`] cannot be represented. The writer remembers it
/// ([`Writer::is_too_long`]); lists that may grow that long are split by whoever writes
/// them, with [`Writer::len`] as the measure.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), too_long: false }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether some attribute outgrew what its length field can say.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// How many bytes there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// What was written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was written, by value.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends raw bytes and pads them: a protocol's fixed header, or attributes that were
    /// written elsewhere.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// An attribute with this payload.
    pub fn bytes_attr(&mut self, kind: u16, payload: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(payload);
        self.close(start);
    }

    /// An attribute without payload, whose presence says it all.
    pub fn flag(&mut self, kind: u16) {
        self.bytes_attr(kind, &[]);
    }

    /// A one-byte integer.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes_attr(kind, &[value]);
    }

    /// A 16-bit integer in host order, as rtnetlink and IPVS want most of them.
    pub fn u16(&mut self, kind: u16, value: u16) {
        self.bytes_attr(kind, &value.to_ne_bytes());
    }

    /// A 32-bit integer in host order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes_attr(kind, &value.to_ne_bytes());
    }

    /// A 16-bit integer in network order.
    pub fn be16(&mut self, kind: u16, value: u16) {
        self.bytes_attr(kind, &value.to_be_bytes());
    }

    /// A 32-bit integer in network order, as nf_tables wants all of them.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes_attr(kind, &value.to_be_bytes());
    }

    /// A 64-bit integer in network order.
    pub fn be64(&mut self, kind: u16, value: u64) {
        self.bytes_attr(kind, &value.to_be_bytes());
    }

    /// A string with the terminating NUL that the kernel expects.
    pub fn text(&mut self, kind: u16, text: &str) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    /// An attribute that holds the attributes `fill` writes, marked as nested.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.open(kind | NESTED);
        fill(self);
        self.close(start);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    pub(crate) fn patch(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// An attribute that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr<'a> {
    /// Its type, without the flags for nesting and byte order.
    pub kind: u16,
    /// Its payload, without padding.
    pub payload: &'a [u8],
}

impl<'a> Attr<'a> {
    /// The attributes inside this one.
    #[must_use]
    pub fn nested(&self) -> Attrs<'a> {
        Attrs::new(self.payload)
    }

    /// The payload as an integer in host order, if it has that size.
    #[must_use]
    pub fn u32(&self) -> Option<u32> {
        self.payload.try_into().ok().map(u32::from_ne_bytes)
    }

    /// The payload as a 16-bit integer in host order, if it has that size.
    #[must_use]
    pub fn u16(&self) -> Option<u16> {
        self.payload.try_into().ok().map(u16::from_ne_bytes)
    }

    /// The payload as a 32-bit integer in network order, if it has that size.
    #[must_use]
    pub fn be32(&self) -> Option<u32> {
        self.payload.try_into().ok().map(u32::from_be_bytes)
    }

    /// The payload as text up to the first NUL, if it is UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        let end = self.payload.iter().position(|b| *b == 0).unwrap_or(self.payload.len());
        std::str::from_utf8(&self.payload[..end]).ok()
    }
}

/// Reads attributes one after the other. A record whose length makes no sense ends the
/// walk: there is no telling where the next one starts.
#[derive(Clone, Debug)]
pub struct Attrs<'a> {
    rest: &'a [u8],
}

impl<'a> Attrs<'a> {
    /// The attributes in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The first attribute of this type.
    #[must_use]
    pub fn find(mut self, kind: u16) -> Option<Attr<'a>> {
        self.by_ref().find(|attr| attr.kind == kind)
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        let [l0, l1, k0, k1, ..] = *self.rest else {
            return None;
        };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let payload = self.rest.get(HEADER_LEN..length)?;
        let kind = u16::from_ne_bytes([k0, k1]) & !(NESTED | NET_BYTEORDER);
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Some(Attr { kind, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_attributes_are_padded_and_nested() {
        let mut writer = Writer::new();
        writer.text(1, "nat");
        writer.nest(2, |w| {
            w.be32(1, 7);
            w.u8(2, 9);
        });
        #[rustfmt::skip]
        let expected = [
            8, 0, 1, 0, b'n', b'a', b't', 0,
            20, 0, 2, 0x80,
                8, 0, 1, 0, 0, 0, 0, 7,
                5, 0, 2, 0, 9, 0, 0, 0,
        ];
        assert_eq!(writer.bytes(), expected);
        assert!(!writer.is_too_long());
    }

    #[test]
    fn read_attributes_are_those_written() {
        let mut writer = Writer::new();
        writer.text(1, "nat");
        writer.nest(2, |w| w.be32(1, 7));
        let mut attrs = Attrs::new(writer.bytes());
        assert_eq!(attrs.next().and_then(|a| a.text()), Some("nat"));
        let nest = attrs.next().expect("the nest");
        assert_eq!((nest.kind, nest.nested().find(1).and_then(|a| a.be32())), (2, Some(7)));
        assert_eq!(attrs.next(), None);
    }

    #[test]
    fn nonsense_ends_the_walk() {
        for bytes in [&[][..], &[3, 0, 1, 0], &[9, 0, 1, 0, 0], &[200, 0, 0], &[0; 8]] {
            assert_eq!(Attrs::new(bytes).next(), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_nest_beyond_64_kib_is_remembered() {
        let mut writer = Writer::new();
        writer.nest(1, |w| w.bytes_attr(1, &[0; 40_000]));
        assert!(!writer.is_too_long());
        writer.nest(1, |w| (0..2).for_each(|_| w.bytes_attr(1, &[0; 40_000])));
        assert!(writer.is_too_long());
    }
}
