//! Evidence that is accepted, and the knobs to spoil it with.

use std::sync::LazyLock;

use cloister_protocol::evidence::report_data;
use cloister_protocol::keyconfig::{Epoch, Kem, KeyConfig, encode_list};
use cloister_protocol::suite::{Aead, Suite};
use cloister_verifier::appraisal::{CheckName, Outcome};
use cloister_verifier::carrier::Carried;
use cloister_verifier::certificate::EMULATED_ORGANIZATION;
use cloister_verifier::{
    Appraisal, Claims, Context, Evidence, LogView, Policy, Reason, Release, appraise,
};
use p384::ecdsa::SigningKey;
use rsa::RsaPrivateKey;

use crate::common::issuer::{self, Extension, Template, amd, ia5};

/// 2026-06-01T00:00:00Z.
pub(crate) const NOW_S: u64 = 1_780_272_000;

/// Start of the base epoch, ten minutes before; it lasts an hour.
pub(crate) const EPOCH: Epoch = Epoch {
    number: 7,
    start_s: NOW_S - 600,
    end_s: NOW_S + 3000,
};

pub(crate) const NONCE: [u8; 32] = [0x4e; 32];
pub(crate) const MEASUREMENT: [u8; 48] = [0x3d; 48];
pub(crate) const CHIP: [u8; 64] = [0xc1; 64];

/// Levels of the base TCB, by the end of the extension's identifier, and as Genoa and Turin write them.
pub(crate) const LEVELS: [(u8, u8); 4] = [(1, 10), (2, 0), (3, 0x1b), (8, 0x56)];
pub(crate) const GENOA_TCB: [u8; 8] = [10, 0, 0, 0, 0, 0, 0x1b, 0x56];
pub(crate) const TURIN_LEVELS: [(u8, u8); 5] = [(9, 1), (1, 10), (2, 0), (3, 0x1b), (8, 0x56)];
pub(crate) const TURIN_TCB: [u8; 8] = [1, 10, 0, 0x1b, 0, 0, 0, 0x56];

pub(crate) static ARK_KEY: LazyLock<RsaPrivateKey> =
    LazyLock::new(|| issuer::rsa_key(include_bytes!("../keys/test-only-ark.pkcs1.der")));
pub(crate) static ASK_KEY: LazyLock<RsaPrivateKey> =
    LazyLock::new(|| issuer::rsa_key(include_bytes!("../keys/test-only-ask.pkcs1.der")));

/// A root and the intermediates below it.
pub(crate) struct Authorities {
    pub(crate) ark: Vec<u8>,
    pub(crate) ask: Vec<u8>,
    pub(crate) asvk: Vec<u8>,
}

impl Authorities {
    fn new(organization: &str, product: &str) -> Self {
        let name = |prefix: &str| issuer::name(organization, &format!("{prefix}{product}"));
        let ark = Template::authority(name("ARK-"), name("ARK-"), &ARK_KEY);
        let intermediate = |prefix: &str| {
            let template = Template::authority(name("ARK-"), name(prefix), &ASK_KEY);
            template.sign(&ARK_KEY)
        };
        Self {
            ark: ark.sign(&ARK_KEY),
            ask: intermediate("SEV-"),
            asvk: intermediate("SEV-VLEK-"),
        }
    }
}

pub(crate) static GENOA: LazyLock<Authorities> =
    LazyLock::new(|| Authorities::new(EMULATED_ORGANIZATION, "Genoa"));
pub(crate) static TURIN: LazyLock<Authorities> =
    LazyLock::new(|| Authorities::new(EMULATED_ORGANIZATION, "Turin"));
/// The same names as AMD's but for the organization's, and no mark.
pub(crate) static STRANGER: LazyLock<Authorities> =
    LazyLock::new(|| Authorities::new("Somebody", "Genoa"));

/// What an emulated server would show, and what is asked of it. `apply` functions change it before it is signed.
pub(crate) struct Setup {
    pub(crate) organization: &'static str,
    pub(crate) report: Vec<u8>,
    pub(crate) report_key: SigningKey,
    pub(crate) leaf: Template,
    pub(crate) leaf_key: &'static RsaPrivateKey,
    /// Intermediate and root, as they are sent behind the leaf.
    pub(crate) authorities: Vec<Vec<u8>>,
    pub(crate) crls: Vec<Vec<u8>>,
    pub(crate) claims: Option<Claims>,
    pub(crate) policy: Policy,
    pub(crate) now_s: Option<u64>,
    pub(crate) nonce: Option<[u8; 32]>,
    pub(crate) key_configs: Option<Vec<u8>>,
    /// The key that the TLS connection has shown.
    pub(crate) tls_public_key: Option<Vec<u8>>,
    pub(crate) release: Option<Release>,
    pub(crate) log_view: Option<LogView>,
}

pub(crate) fn key_configs(seed: u8, epoch: Option<Epoch>) -> Vec<u8> {
    let suite = Suite {
        aead: Aead::ChaCha20Poly1305,
    };
    let config = KeyConfig::new(1, Kem::X25519, vec![seed; 32], vec![suite])
        .expect("a public key may be any 32 bytes");
    encode_list([&config], epoch)
}

fn hwid(bytes: &[u8]) -> Extension {
    amd("4", bytes.to_vec())
}

impl Setup {
    /// Genoa, stepping B1, report version 3, VCEK.
    pub(crate) fn genoa() -> Self {
        let claims = Claims {
            epoch: EPOCH.number,
            key_configs: key_configs(9, Some(EPOCH)),
            tls_public_key: Vec::new(),
            nonce: Some(NONCE),
        };
        let report_key = issuer::p384_key(5);
        let mut policy = Policy {
            measurements: vec![MEASUREMENT],
            require_log: false,
            ..Policy::new()
        };
        for authorities in [&GENOA, &TURIN] {
            let added = policy.roots.trust_emulated(&authorities.ark);
            added.expect("a marked root");
        }
        let name = |common_name| issuer::name(EMULATED_ORGANIZATION, common_name);
        let leaf = Template::leaf(
            name("SEV-Genoa"),
            name("SEV-VCEK"),
            &issuer::point(&report_key),
            "Genoa",
            &LEVELS,
            hwid(&CHIP),
        );
        Self {
            organization: EMULATED_ORGANIZATION,
            report: base_report(&claims),
            report_key,
            leaf,
            leaf_key: &ASK_KEY,
            authorities: vec![GENOA.ask.clone(), GENOA.ark.clone()],
            crls: Vec::new(),
            claims: Some(claims),
            policy,
            now_s: Some(NOW_S),
            nonce: Some(NONCE),
            key_configs: None,
            tls_public_key: None,
            release: None,
            log_view: None,
        }
    }

    /// Genoa with a VLEK.
    pub(crate) fn vlek() -> Self {
        let mut setup = Self::genoa();
        let name = |common_name| issuer::name(EMULATED_ORGANIZATION, common_name);
        setup.leaf.issuer = name("SEV-VLEK-Genoa");
        setup.leaf.subject = name("SEV-VLEK");
        setup.leaf.remove("4");
        let provider = amd("5", ia5("CN=cloud.example"));
        setup.leaf.extensions.push(provider);
        setup.authorities[0] = GENOA.asvk.clone();
        setup.set(0x48, &[4]);
        setup.set(0x1a0, &[0; 64]);
        setup
    }

    /// Turin, stepping C1, report version 5, VCEK.
    pub(crate) fn turin() -> Self {
        let mut setup = Self::genoa();
        let name = |common_name| issuer::name(EMULATED_ORGANIZATION, common_name);
        setup.leaf = Template::leaf(
            name("SEV-Turin"),
            name("SEV-VCEK"),
            &issuer::point(&setup.report_key),
            "Turin",
            &TURIN_LEVELS,
            hwid(&CHIP[..8]),
        );
        setup.authorities = vec![TURIN.ask.clone(), TURIN.ark.clone()];
        setup.set(0, &[5]);
        setup.set(0x188, &[0x1a, 0x02, 1]);
        setup.set(0x1a8, &[0; 56]);
        setup.set_tcbs(TURIN_TCB);
        setup.set(0x1f8, &[0x0b]);
        setup
    }

    /// Writes into the report.
    pub(crate) fn set(&mut self, offset: usize, bytes: &[u8]) {
        self.report[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Writes all four TCB versions.
    pub(crate) fn set_tcbs(&mut self, tcb: [u8; 8]) {
        for offset in [0x38, 0x180, 0x1e0, 0x1f0] {
            self.set(offset, &tcb);
        }
    }

    /// The claims.
    pub(crate) fn claims(&mut self) -> &mut Claims {
        self.claims.as_mut().expect("the setup has claims")
    }

    /// Writes the hash of the claims into the report.
    pub(crate) fn bind(&mut self) {
        let data = self.claims.as_ref().map(data_of).expect("claims");
        self.set(0x50, &data);
    }

    /// Sets the mark's place in every name of the leaf.
    pub(crate) fn by(&mut self, organization: &'static str, authorities: &Authorities) {
        self.leaf.issuer = issuer::name(organization, "SEV-Genoa");
        self.leaf.subject = issuer::name(organization, "SEV-VCEK");
        self.authorities = vec![authorities.ask.clone(), authorities.ark.clone()];
    }

    /// Signs everything.
    pub(crate) fn evidence(&self) -> Evidence {
        let mut report = self.report.clone();
        issuer::sign_report(&mut report, &self.report_key);
        let mut certificates = vec![self.leaf.sign(self.leaf_key)];
        certificates.extend(self.authorities.iter().cloned());
        Evidence {
            report,
            carried: Carried {
                certificates,
                crls: self.crls.clone(),
            },
            claims: self.claims.clone(),
            release: self.release.clone(),
        }
    }

    pub(crate) fn appraise(&self, evidence: &Evidence) -> Appraisal {
        let context = Context {
            now_s: self.now_s,
            nonce: self.nonce.as_ref(),
            key_configs: self.key_configs.as_deref(),
            tls_public_key: self.tls_public_key.as_deref(),
            log_view: self.log_view.as_ref(),
        };
        appraise(evidence, &self.policy, &context)
    }
}

fn data_of(claims: &Claims) -> [u8; 64] {
    report_data(
        claims.epoch,
        &claims.key_configs,
        &claims.tls_public_key,
        claims.nonce.as_ref(),
    )
}

fn base_report(claims: &Claims) -> Vec<u8> {
    let mut report = vec![0; 1184];
    let mut set = |offset: usize, bytes: &[u8]| {
        report[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    set(0x00, &[3]);
    set(0x08, &0x3_0000_u64.to_le_bytes());
    set(0x34, &[1]);
    set(0x40, &[0x25]);
    set(0x50, &data_of(claims));
    set(0x90, &MEASUREMENT);
    set(0x160, &[0xff; 32]);
    set(0x188, &[0x19, 0x11, 1]);
    set(0x1a0, &CHIP);
    for offset in [0x38, 0x180, 0x1e0, 0x1f0] {
        set(offset, &GENOA_TCB);
    }
    report
}

/// A way to spoil evidence, and all that a full appraisal must say of it.
pub(crate) struct Mutation {
    pub(crate) name: &'static str,
    pub(crate) setup: fn() -> Setup,
    /// Before it is signed.
    pub(crate) before: fn(&mut Setup),
    /// After it is signed.
    pub(crate) after: fn(&mut Evidence),
    pub(crate) expected: Vec<Reason>,
}

/// A mutation that is made before signing, so that all signatures hold.
pub(crate) fn signed(name: &'static str, before: fn(&mut Setup), expected: &[Reason]) -> Mutation {
    Mutation {
        name,
        setup: Setup::genoa,
        before,
        after: |_| {},
        expected: expected.to_vec(),
    }
}

/// A mutation of signed evidence.
pub(crate) fn tampered(
    name: &'static str,
    after: fn(&mut Evidence),
    expected: &[Reason],
) -> Mutation {
    Mutation {
        after,
        ..signed(name, |_| {}, expected)
    }
}

impl Mutation {
    pub(crate) fn of(self, setup: fn() -> Setup) -> Self {
        Self { setup, ..self }
    }

    /// Checks that the evidence is refused for exactly the expected reasons, in the order of the checks.
    pub(crate) fn check(&self) {
        let mut setup = (self.setup)();
        (self.before)(&mut setup);
        let mut evidence = setup.evidence();
        (self.after)(&mut evidence);
        let appraisal = setup.appraise(&evidence);
        let reasons: Vec<_> = appraisal.reasons().cloned().collect();
        assert_eq!(reasons, self.expected, "{}\n{appraisal}", self.name);
        assert!(!appraisal.is_accepted(), "{}", self.name);
        assert!(!self.expected.is_empty(), "{}", self.name);
    }
}

/// Whether a check was left out though it is required.
pub(crate) fn is_left_out(appraisal: &Appraisal, name: CheckName) -> bool {
    matches!(
        appraisal.outcome(name),
        Some(Outcome::NotChecked { required: true, .. })
    )
}
