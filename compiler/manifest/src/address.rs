//! Addresses and blocks as people write them: leading zeros are decimal, blanks around
//! them do not count.
//!
//! Kubernetes reads addresses with a parser that takes `010.0.0.1` for `10.0.0.1`
//! (`k8s.io/utils/net`, `ParseIPSloppy`), because old objects contain such addresses and
//! must keep their meaning. The C library would read them as octal.
//!
//! Invariant: text in, value out; knows no objects and no files.

use ipnet::IpNet;
use nfc_ir::Family;
use std::net::{IpAddr, Ipv4Addr};

/// Why a text is not an address, block or keyword.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an IP address.
    #[error("`{text}` is not an IP address; expected one like 10.0.0.1 or fd00::1")]
    Address {
        /// What was written.
        text: String,
    },
    /// Not a block.
    #[error("`{text}` is not a block of addresses; expected one like 10.0.0.0/8 or fd00::/64")]
    Block {
        /// What was written.
        text: String,
    },
    /// A block's prefix is longer than its addresses.
    #[error("the prefix of `{text}` is too long; {family} has at most /{longest}")]
    Prefix {
        /// What was written.
        text: String,
        /// Family of the address.
        family: Family,
        /// The longest prefix the family has, in bits.
        longest: u8,
    },
}

/// Reads an IP address. Leading zeros are decimal, blanks around it are ignored.
///
/// # Errors
///
/// [`AddressError::Address`].
pub fn parse_address(text: &str) -> Result<IpAddr, AddressError> {
    let trimmed = text.trim();
    let parsed = if trimmed.contains(':') {
        parse_ipv6(trimmed)
    } else {
        parse_ipv4(trimmed).map(IpAddr::V4)
    };
    parsed.ok_or_else(|| AddressError::Address { text: text.to_owned() })
}

/// Reads a block of addresses. Bits behind the prefix are cleared, as kube-proxy does.
///
/// # Errors
///
/// [`AddressError::Block`] or [`AddressError::Prefix`].
pub fn parse_block(text: &str) -> Result<IpNet, AddressError> {
    let malformed = || AddressError::Block { text: text.to_owned() };
    let (address, prefix) = text.trim().split_once('/').ok_or_else(malformed)?;
    let address = parse_address(address).map_err(|_| malformed())?;
    if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed());
    }
    let too_long = || {
        let family = Family::of(address);
        AddressError::Prefix { text: text.to_owned(), family, longest: longest_prefix(family) }
    };
    let bits: u8 = prefix.parse().map_err(|_| too_long())?;
    let block = IpNet::new(address, bits).map_err(|_| too_long())?;
    Ok(block.trunc())
}

/// The length in bits of the family's addresses.
pub(crate) fn longest_prefix(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 32,
        Family::Ipv6 => 128,
    }
}

fn parse_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        *octet = digits.then(|| part.parse().ok()).flatten()?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// An IPv4 address mapped into IPv6 is that IPv4 address, as it is for Go's `net.IP`.
fn parse_ipv6(text: &str) -> Option<IpAddr> {
    let address: std::net::Ipv6Addr = text.parse().ok()?;
    Some(IpAddr::V6(address).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_are_decimal() {
        assert_eq!(parse_address("10.180.00.001").unwrap().to_string(), "10.180.0.1");
        assert_eq!(parse_address("010.010.0.8").unwrap().to_string(), "10.10.0.8");
        assert_eq!(parse_block("010.0.0.0/08").unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn blanks_around_are_ignored() {
        assert_eq!(parse_block(" 10.0.0.0/8 ").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(parse_address("\tfd00::1 ").unwrap().to_string(), "fd00::1");
    }

    #[test]
    fn bits_behind_the_prefix_are_cleared() {
        assert_eq!(parse_block("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.256",
            "10.0.0.1.",
            "1.2.3.4.5",
            "a.b.c.d",
            "+1.0.0.0",
            "fd00::g",
            "10.0.0.1/8",
            "None",
        ] {
            assert!(parse_address(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_block_is_refused_and_a_long_prefix_is_named() {
        for text in ["10.0.0.0", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "/8", ""] {
            assert!(matches!(parse_block(text), Err(AddressError::Block { .. })), "{text:?}");
        }
        for text in ["10.0.0.0/33", "fd00::/129", "10.0.0.0/300"] {
            assert!(matches!(parse_block(text), Err(AddressError::Prefix { .. })), "{text:?}");
        }
    }
}
