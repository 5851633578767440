//! The word of two verifiers on the same bytes: this project's, and the `sev` crate's.
//!
//! Only signatures are compared, since they are all that the crate verifies: who signed the report, and the chain above.
//! Nothing here says that the crate is wrong where the two differ; the tests name each difference that is known.

use cloister_verifier::report::SIGNED_BYTES;
use cloister_verifier::{Certificate, Report};
use sev::certs::snp::{Chain, Verifiable};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;

/// A report with its certificates: root, intermediate, VCEK or VLEK, in DER.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The report.
    pub report: Vec<u8>,
    /// ARK, ASK or ASVK, VCEK or VLEK.
    pub chain: [Vec<u8>; 3],
}

/// Whether all signatures hold, by this project's verifier.
pub fn ours(signed: &Signed) -> bool {
    let [ark, ask, leaf] = signed
        .chain
        .each_ref()
        .map(|der| Certificate::parse(der).ok());
    let (Some(ark), Some(ask), Some(leaf)) = (ark, ask, leaf) else {
        return false;
    };
    let Ok(report) = Report::parse(&signed.report) else {
        return false;
    };
    let key_signed = leaf
        .report_key()
        .is_some_and(|key| report.is_signed_by(key));
    key_signed && leaf.is_signed_by(&ask) && ask.is_signed_by(&ark) && ark.is_signed_by(&ark)
}

/// Whether all signatures hold, by the `sev` crate.
pub fn theirs(signed: &Signed) -> bool {
    let [ark, ask, leaf] = &signed.chain;
    let chain = Chain::from_der(ark, ask, leaf);
    match (chain, AttestationReport::from_bytes(&signed.report)) {
        (Ok(chain), Ok(report)) => (&chain, &report).verify().is_ok(),
        _ => false,
    }
}

/// The signed part of a report as the `sev` crate sees it: read and written again. Bytes that it has no field for are
/// zero then, whatever they were.
pub fn as_they_see_it(report: &[u8]) -> Option<Vec<u8>> {
    let report = AttestationReport::from_bytes(report).ok()?;
    let bytes = report.to_bytes().ok()?;
    bytes.get(..SIGNED_BYTES).map(Into::into)
}
