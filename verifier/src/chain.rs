//! Finding, among certificates in any order, those that lead from a report to a root.

use crate::certificate::{Certificate, Kind};
use crate::policy::TrustedRoot;
use crate::report::{Report, SigningKey};

/// The certificates that belong to a report. Nothing is verified yet: where several could belong, one that fits is
/// taken before one that does not, so that what is said of it later is of use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain<'a> {
    pub(crate) leaf: &'a Certificate,
    pub(crate) intermediate: Option<&'a Certificate>,
    pub(crate) root: Option<Root<'a>>,
}

/// The end of a chain.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Root<'a> {
    /// One that the policy names.
    Trusted(&'a TrustedRoot),
    /// One that only the evidence names.
    Carried(&'a Certificate),
}

impl<'a> Root<'a> {
    pub(crate) fn certificate(self) -> &'a Certificate {
        match self {
            Self::Trusted(root) => root.certificate(),
            Self::Carried(certificate) => certificate,
        }
    }
}

impl<'a> Chain<'a> {
    /// The chain for a report, or for whatever is there when the report cannot be read; `None` without a certificate
    /// of the kind that the report names.
    pub(crate) fn find(
        certificates: &'a [Certificate],
        roots: &'a [TrustedRoot],
        report: Option<&Report>,
    ) -> Option<Self> {
        let leaf = find_leaf(certificates, report)?;
        let intermediate = find_intermediate(certificates, leaf);
        let root = intermediate.and_then(|issued| find_root(certificates, roots, issued));
        Some(Self {
            leaf,
            intermediate,
            root,
        })
    }
}

/// The kind of certificate that belongs to a signing key.
pub(crate) fn leaf_kind(key: SigningKey) -> Option<Kind> {
    match key {
        SigningKey::Vcek => Some(Kind::Vcek),
        SigningKey::Vlek => Some(Kind::Vlek),
        SigningKey::None => None,
    }
}

/// The kind of certificate that signs a VCEK or VLEK.
pub(crate) fn intermediate_kind(leaf: Kind) -> Kind {
    match leaf {
        Kind::Vlek => Kind::Asvk,
        _ => Kind::Ask,
    }
}

fn find_leaf<'a>(
    certificates: &'a [Certificate],
    report: Option<&Report>,
) -> Option<&'a Certificate> {
    let Some(report) = report else {
        return certificates
            .iter()
            .find(|certificate| !certificate.kind().is_authority());
    };
    let kind = leaf_kind(report.key_info.signing_key)?;
    best(of_kind(certificates, kind), |certificate| {
        let signed = certificate
            .report_key()
            .is_some_and(|key| report.is_signed_by(key));
        u8::from(signed)
    })
}

fn find_intermediate<'a>(
    certificates: &'a [Certificate],
    leaf: &Certificate,
) -> Option<&'a Certificate> {
    best(
        of_kind(certificates, intermediate_kind(leaf.kind())),
        |issuer| fit(leaf, issuer),
    )
}

/// A root that the policy names goes before one that the evidence brought along, if it fits as well.
fn find_root<'a>(
    certificates: &'a [Certificate],
    roots: &'a [TrustedRoot],
    issued: &Certificate,
) -> Option<Root<'a>> {
    let trusted = roots.iter().map(Root::Trusted);
    let carried = of_kind(certificates, Kind::Ark).map(Root::Carried);
    let named = trusted
        .chain(carried)
        .filter(|root| issued.names_as_issuer(root.certificate()));
    best(named, |root| fit(issued, root.certificate()))
}

fn of_kind(certificates: &[Certificate], kind: Kind) -> impl Iterator<Item = &Certificate> {
    certificates
        .iter()
        .filter(move |certificate| certificate.kind() == kind)
}

/// How well an issuer fits: not at all, by name, by name and signature.
fn fit(issued: &Certificate, issuer: &Certificate) -> u8 {
    match (issued.names_as_issuer(issuer), issued.is_signed_by(issuer)) {
        (true, true) => 2,
        (true, false) => 1,
        (false, _) => 0,
    }
}

/// The first of the candidates with the highest score.
fn best<T>(candidates: impl Iterator<Item = T>, score: impl Fn(&T) -> u8) -> Option<T> {
    let mut best = None;
    for candidate in candidates {
        let score = score(&candidate);
        if best.as_ref().is_none_or(|(highest, _)| score > *highest) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}
