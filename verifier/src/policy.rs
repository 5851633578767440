//! What the one who asks accepts. Everything in here comes from the caller or is built in; nothing from evidence.

use crate::carrier::{Carried, CarrierError};
use crate::certificate::{Certificate, CertificateError, Kind};
use crate::product::Product;
use crate::release::LogPolicy;
use crate::report::Cpuid;
use crate::tcb::Tcb;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// AMD's root certificates; `roots/README.md` says where they are from.
const AMD_ROOTS: [&[u8]; 3] = [
    include_bytes!("roots/milan-ark.der"),
    include_bytes!("roots/genoa-ark.der"),
    include_bytes!("roots/turin-ark.der"),
];

/// A launch digest: SHA-384.
pub type Measurement = [u8; 48];

/// Seconds that clocks may differ by, and that a server keeps its previous key.
pub const CLOCK_SKEW_S: u64 = 300;

/// What is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Root certificates that chains may end in.
    pub roots: Roots,
    /// Products that are accepted. Milan is not among them by default: the seed of its VCEKs can be stolen in software
    /// (arXiv 2605.12990).
    pub products: Vec<Product>,
    /// The least TCB version by product; see [`TcbFloor`].
    pub tcb_floors: Vec<TcbFloor>,
    /// Reference values. With a log policy the image's release must have the measurement too; with a log policy and no
    /// values here it is the release alone that gives them. With neither nothing is accepted.
    pub measurements: Vec<Measurement>,
    /// Which releases are accepted; none where no log is known.
    pub log: Option<LogPolicy>,
    /// Whether the image must be in a log that `log` names.
    pub require_log: bool,
    /// Whether the machine must have the least TCB version that the release asks for.
    pub require_release_tcb: bool,
    /// Whether reports may be signed by a cloud provider's key (VLEK) in place of the chip's own.
    pub allow_vlek: bool,
    /// Whether the guest may have been launched with SMT allowed.
    pub allow_smt: bool,
    /// Whether the machine must have looked for memory aliases (BadRAM). Reports of version 2 cannot say so.
    pub require_alias_check: bool,
    /// Whether the guest must have been launched with ciphertext hiding.
    pub require_ciphertext_hiding: bool,
    /// Whether the report must be bound to a key config list. Without it a report is judged on its own, and says
    /// nothing about who one talks to.
    pub require_binding: bool,
    /// Whether a nonce must have been sent.
    pub require_nonce: bool,
    /// Whether a current revocation list must be at hand.
    pub require_crl: bool,
    /// Revocation lists from the caller, in DER; those in the evidence are looked at too.
    pub crls: Vec<Vec<u8>>,
    /// Seconds that the guest's clock may differ by.
    pub clock_skew_s: u64,
}

impl Policy {
    /// AMD's roots, Genoa and Turin at their floors, alias check, binding, a log; no reference value and no log yet.
    pub fn new() -> Self {
        Self {
            roots: Roots::amd(),
            products: vec![Product::Genoa, Product::Turin],
            tcb_floors: TcbFloor::DEFAULT.to_vec(),
            measurements: Vec::new(),
            log: None,
            require_log: true,
            require_release_tcb: true,
            allow_vlek: true,
            allow_smt: true,
            require_alias_check: true,
            require_ciphertext_hiding: false,
            require_binding: true,
            require_nonce: false,
            require_crl: false,
            crls: Vec::new(),
            clock_skew_s: CLOCK_SKEW_S,
        }
    }

    /// What is asked of an emulated platform: that its chain ends in this root of its own. AMD's roots are not among the
    /// roots, and what says something about real machines only, product, TCB floor (the release's too), memory aliases, is
    /// not asked.
    /// `root` is PEM or DER.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn emulated(root: &[u8]) -> Result<Self, RootError> {
        let mut roots = Roots(Vec::new());
        roots.trust_emulated(root)?;
        Ok(Self {
            roots,
            products: Product::ALL.to_vec(),
            tcb_floors: Product::ALL
                .map(|product| TcbFloor::new(product, None, 0, 0))
                .to_vec(),
            require_alias_check: false,
            require_release_tcb: false,
            ..Self::new()
        })
    }

    /// The floor for a processor: that of its model if there is one, else that of the product. A report that does not
    /// name its processor must be above every floor of the product.
    pub fn floor(&self, product: Product, cpuid: Option<Cpuid>) -> Option<Tcb> {
        let floors = || {
            self.tcb_floors
                .iter()
                .filter(move |floor| floor.product == product)
        };
        let Some(cpuid) = cpuid else {
            return floors().map(|floor| floor.tcb).reduce(Tcb::highest);
        };
        let find = |model| floors().find(|floor| floor.model == model);
        find(Some((cpuid.model, cpuid.stepping)))
            .or_else(|| find(None))
            .map(|floor| floor.tcb)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

/// The least TCB version of a product, or of one model and stepping of it. Microcode levels are numbered by model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcbFloor {
    /// The product.
    pub product: Product,
    /// Model and stepping; none for the rest of the product.
    pub model: Option<(u8, u8)>,
    /// The least levels; zero asks for nothing.
    pub tcb: Tcb,
}

impl TcbFloor {
    /// What AMD's bulletins ask for, as far as they name levels. They grow with each bulletin; a policy can name others.
    ///
    /// | product | SNP | from | microcode | from |
    /// |---|---|---|---|---|
    /// | Milan, stepping B1 | 0x18 | AMD-SB-3019 | 0xdb | machines that are known to have the fix |
    /// | other Milan (Milan-X) | 0x18 | AMD-SB-3019 | | |
    /// | Genoa, stepping B1 | 0x1b | AMD-SB-3020 | 0x56 | AMD-SB-3027 |
    /// | Genoa-X, stepping B2 | 0x1b | AMD-SB-3020 | 0x51 | AMD-SB-3027 |
    /// | other Genoa (Bergamo, Siena) | 0x1b | AMD-SB-3020 | | |
    /// | Turin, stepping C1 | 0x04 | AMD-SB-3020 | 0x51 | AMD-SB-3027 |
    /// | other Turin | 0x04 | AMD-SB-3020 | | |
    ///
    /// AMD-SB-3019 is CVE-2024-56161 (forged microcode), AMD-SB-3020 is CVE-2025-0033 (RMP initialization), AMD-SB-3027
    /// is CVE-2025-29943 (stack pointer). The levels are those that other verifiers quote from the bulletins
    /// (microsoft/CCF issue 6812 for AMD-SB-3019, which asks 0x17 of Genoa); the bulletins themselves were not at hand.
    /// Where a model has no level of microcode, none was found: levels of one model mean nothing for another.
    ///
    /// No level shows whether a machine has the fixes of AMD-SB-3034 (CVE-2025-54510, routing of device memory): that
    /// bulletin names no TCB version any more. For these and later ones the operator's word is all there is.
    pub const DEFAULT: [Self; 7] = [
        Self::new(Product::Milan, Some((0x01, 1)), 0x18, 0xdb),
        Self::new(Product::Milan, None, 0x18, 0),
        Self::new(Product::Genoa, Some((0x11, 1)), 0x1b, 0x56),
        Self::new(Product::Genoa, Some((0x11, 2)), 0x1b, 0x51),
        Self::new(Product::Genoa, None, 0x1b, 0),
        Self::new(Product::Turin, Some((0x02, 1)), 0x04, 0x51),
        Self::new(Product::Turin, None, 0x04, 0),
    ];

    const fn new(product: Product, model: Option<(u8, u8)>, snp: u8, microcode: u8) -> Self {
        let tcb = Tcb {
            fmc: 0,
            boot_loader: 0,
            tee: 0,
            snp,
            microcode,
        };
        Self {
            product,
            model,
            tcb,
        }
    }
}

/// A root certificate that chains may end in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedRoot {
    certificate: Certificate,
    emulated: bool,
}

impl TrustedRoot {
    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Whether it vouches for an emulated platform: for nothing at all, outside of tests.
    pub fn is_emulated(&self) -> bool {
        self.emulated
    }
}

/// Why a certificate cannot be a root of an emulated platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RootError {
    /// The file is neither PEM nor DER.
    File(CarrierError),
    /// The certificate cannot be read.
    Certificate(CertificateError),
    /// It is not one ARK, or not signed by itself.
    NotARoot,
    /// Its organization is not [`EMULATED_ORGANIZATION`](crate::certificate::EMULATED_ORGANIZATION), so that its
    /// evidence could be taken for a real machine's.
    NotEmulated,
}

impl fmt::Display for RootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, "the root certificate cannot be read: {error}"),
            Self::Certificate(error) => write!(f, "the root certificate cannot be read: {error}"),
            Self::NotARoot => write!(f, "the file does not hold one self-signed ARK"),
            Self::NotEmulated => write!(
                f,
                "the root certificate is not marked as an emulated platform's"
            ),
        }
    }
}

impl core::error::Error for RootError {}

/// The roots that chains may end in: AMD's, and those of emulated platforms that were added by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots(Vec<TrustedRoot>);

impl Roots {
    /// AMD's roots for every [`Product`].
    pub fn amd() -> Self {
        let roots = AMD_ROOTS.map(|der| TrustedRoot {
            certificate: Certificate::parse(der).expect("a test parses the built-in roots"),
            emulated: false,
        });
        Self(roots.into())
    }

    /// Accepts chains that end in this root of an emulated platform, PEM or DER. Every appraisal that does says so.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn trust_emulated(&mut self, root: &[u8]) -> Result<(), RootError> {
        let mut carried = Carried::default();
        carried.add_file(root).map_err(RootError::File)?;
        let [der] = &carried.certificates[..] else {
            return Err(RootError::NotARoot);
        };
        let certificate = Certificate::parse(der).map_err(RootError::Certificate)?;
        let is_root = certificate.kind() == Kind::Ark
            && certificate.names_as_issuer(&certificate)
            && certificate.is_signed_by(&certificate);
        if !is_root {
            return Err(RootError::NotARoot);
        }
        if !certificate.is_emulated() {
            return Err(RootError::NotEmulated);
        }
        self.0.push(TrustedRoot {
            certificate,
            emulated: true,
        });
        Ok(())
    }

    /// Every root.
    pub fn all(&self) -> &[TrustedRoot] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_roots_are_one_for_each_product_and_signed_by_themselves() {
        let roots = Roots::amd();
        let products: Vec<_> = roots
            .all()
            .iter()
            .map(|root| root.certificate().product())
            .collect();
        assert_eq!(products, Product::ALL.map(Some));
        for root in roots.all() {
            let certificate = root.certificate();
            assert_eq!(certificate.kind(), Kind::Ark);
            assert!(certificate.names_as_issuer(certificate));
            assert!(certificate.is_signed_by(certificate));
            assert!(!root.is_emulated() && !certificate.is_emulated());
        }
    }

    #[test]
    fn a_real_root_is_no_emulated_one() {
        let mut roots = Roots::amd();
        assert_eq!(
            roots.trust_emulated(AMD_ROOTS[1]),
            Err(RootError::NotEmulated)
        );
        assert_eq!(roots.trust_emulated(b""), Err(RootError::NotARoot));
        assert_eq!(
            roots.trust_emulated(b"no certificate"),
            Err(RootError::File(CarrierError::Table))
        );
        assert_eq!(roots, Roots::amd());
    }

    #[test]
    fn a_model_has_its_own_floor() {
        let policy = Policy::new();
        let cpuid = |model, stepping| {
            Some(Cpuid {
                family: 0x19,
                model,
                stepping,
            })
        };
        let microcode = |cpuid| policy.floor(Product::Genoa, cpuid).unwrap().microcode;
        assert_eq!(microcode(cpuid(0x11, 1)), 0x56);
        assert_eq!(microcode(cpuid(0x11, 2)), 0x51);
        assert_eq!(microcode(cpuid(0xa0, 2)), 0);
        // Version 2 does not name the processor.
        assert_eq!(microcode(None), 0x56);
        let milan = |cpuid| policy.floor(Product::Milan, cpuid).unwrap().microcode;
        assert_eq!(milan(cpuid(0x01, 1)), 0xdb);
        // Microcode of Milan-X is numbered from a lower level.
        assert_eq!(milan(cpuid(0x01, 2)), 0);
        assert_eq!(milan(None), 0xdb);
    }
}
