//! What a test needs, and what happens when it is not there: the test is skipped, aloud.
//!
//! `NFC_REQUIRE` names features that must be there, separated by commas, or `all`: then a
//! test fails instead. `NFC_SKIP_LOG` names a file to which each skip is appended, so that a
//! script can list them at the end: a green run with skips must look different.
//!
//! Invariant: never silent.

use nfc_kernel::{Feature, Missing};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::Mutex;

/// Whether all `features` are there, so that the test called `test` can go on. If not, the
/// reason is printed and the caller returns.
///
/// ```
/// use nfc_kernel::Feature;
/// if !nfc_lab::need("a packet is sent on", &[Feature::Namespaces, Feature::Nftables]) {
///     return;
/// }
/// ```
///
/// # Panics
///
/// When a missing feature is named in `NFC_REQUIRE`.
#[must_use = "a test that goes on without what it needs fails for the wrong reason"]
pub fn need(test: &str, features: &[Feature]) -> bool {
    let missing = features.iter().find_map(|f| probed(*f).err().map(|m| (*f, m)));
    let Some((feature, missing)) = missing else {
        return true;
    };
    if is_required(feature, &std::env::var("NFC_REQUIRE").unwrap_or_default()) {
        refuse(test, feature, &missing);
    }
    skip(test, &missing);
    false
}

/// What probing a feature gave, remembered: a probe makes a namespace, and tests ask often.
fn probed(feature: Feature) -> Result<(), Missing> {
    static KNOWN: Mutex<BTreeMap<Feature, Result<(), Missing>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    known.entry(feature).or_insert_with(|| feature.probe()).clone()
}

/// A name that is no feature would make the demand go unheard.
#[expect(clippy::panic, reason = "tests fail by panicking")]
fn is_required(feature: Feature, required: &str) -> bool {
    let names = || required.split(',').map(str::trim).filter(|name| !name.is_empty());
    let is_known = |name: &str| name == "all" || Feature::ALL.iter().any(|f| f.name() == name);
    if let Some(unknown) = names().find(|name| !is_known(name)) {
        panic!("NFC_REQUIRE names `{unknown}`, which is no feature: see nfc_kernel::Feature");
    }
    names().any(|name| name == "all" || name == feature.name())
}

#[expect(clippy::panic, reason = "tests fail by panicking")]
fn refuse(test: &str, feature: Feature, missing: &Missing) -> ! {
    panic!("{test}: NFC_REQUIRE demands {feature}, but {missing}");
}

/// Says that a test is skipped, for something that is no feature of a kernel: on the standard
/// error itself, which the test harness does not hold back, and in the log.
pub fn skip(test: &str, missing: &Missing) {
    let line = format!("SKIP {test}: {missing}\n");
    let said = io::stderr().write_all(line.as_bytes()).and_then(|()| log(&line));
    if let Err(error) = said {
        unreachable!("a skip must be heard, but it could not be written: {error}");
    }
}

fn log(line: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NFC_SKIP_LOG") else {
        return Ok(());
    };
    // One write a line, so that tests that run at the same time do not mix theirs.
    OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_required_by_name_or_all_at_once() {
        assert!(is_required(Feature::Ipvs, "nftables, ipvs"));
        assert!(is_required(Feature::Ipvs, "all"));
        assert!(!is_required(Feature::Ipvs, "nftables"));
        assert!(!is_required(Feature::Ipvs, ""));
    }

    #[test]
    #[should_panic(expected = "`iptabels`")]
    fn a_feature_that_is_none_is_no_demand() {
        is_required(Feature::Ipvs, "nftables,iptabels");
    }
}
