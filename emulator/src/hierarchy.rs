//! The keys and certificates of an emulated platform: a root (ARK), an intermediate (ASK) and the
//! platform's own key (VCEK), formed like AMD's (AMD 57230).
//!
//! Each user has their own, made at the first use and kept in their data folder, so that no key that
//! anybody else knows is ever trusted. The keys of ARK and ASK sign the three certificates and are
//! then forgotten. A verifier accepts the root only where it is named; its organization says what it
//! is.

use crate::report::{CHIP_ID, PRODUCT, SIGNATURE_BYTES, TCB};
use crate::signing::{Signature, Signed};
use getrandom::SysRng;
use p384::ecdsa::signature::Signer;
use p384::elliptic_curve::Generate;
use p384::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use rand_core::UnwrapErr;
use rsa::pss;
use rsa::signature::Keypair;
use sha2::Sha384;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{self, Builder, CertificateBuilder};
use x509_cert::certificate::{Certificate, TbsCertificate};
use x509_cert::der::asn1::{Ia5String, ObjectIdentifier, OctetString, Uint};
use x509_cert::der::{Encode, EncodePem};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{EncodePublicKey, SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use x509_cert::time::Validity;

/// Organization of every certificate here. A verifier takes no other root for an emulated one.
pub const ORGANIZATION: &str = "Cloister emulated platform";

/// File with the root's certificate, PEM.
pub const ROOT_FILE: &str = "ark.pem";
/// File with the certificates of VCEK and ASK, PEM: what goes with a report.
pub const CHAIN_FILE: &str = "chain.pem";
const KEY_FILE: &str = "vcek.key.pem";

/// As AMD's.
const RSA_BITS: usize = 4096;
const VALID: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The VCEK is for one chip and one TCB version: another number, other keys.
const FOLDER: &str = "cloister/emulated-platform-1";

/// The keys of one user's emulated platform.
#[derive(Debug)]
pub struct Hierarchy {
    folder: PathBuf,
    key: p384::ecdsa::SigningKey,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HierarchyError {
    /// The environment names no folder for a user's data.
    #[error(
        "neither XDG_DATA_HOME nor HOME names a folder for the emulated platform's keys: set one"
    )]
    NoFolder,
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The key's file holds something else.
    #[error("{0}: not a P-384 key in PKCS #8; remove the folder to have new keys made")]
    Key(PathBuf),
    /// A certificate could not be made.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] builder::Error),
    /// A key could not be made.
    #[error("cannot make an RSA key: {0}")]
    Rsa(#[from] rsa::Error),
}

impl From<x509_cert::der::Error> for HierarchyError {
    fn from(error: x509_cert::der::Error) -> Self {
        Self::Issue(error.into())
    }
}

impl From<x509_cert::spki::Error> for HierarchyError {
    fn from(error: x509_cert::spki::Error) -> Self {
        Self::Issue(error.into())
    }
}

impl Hierarchy {
    /// The user's folder for it: below `$XDG_DATA_HOME`, else below `~/.local/share` (XDG Base Directory
    /// Specification).
    ///
    /// # Errors
    /// [`HierarchyError::NoFolder`].
    pub fn user_folder() -> Result<PathBuf, HierarchyError> {
        let variable = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let data = variable("XDG_DATA_HOME")
            .or_else(|| Some(variable("HOME")?.join(".local/share")))
            .ok_or(HierarchyError::NoFolder)?;
        Ok(data.join(FOLDER))
    }

    /// Reads the keys in `folder`; makes them if it is not there, which takes seconds.
    ///
    /// # Errors
    /// [`HierarchyError`].
    pub fn open_or_create(folder: &Path) -> Result<Self, HierarchyError> {
        if !folder.exists() {
            create(folder)?;
        }
        let path = folder.join(KEY_FILE);
        let pem = fs::read_to_string(&path).map_err(at(&path))?;
        match p384::SecretKey::from_pkcs8_pem(&pem) {
            Ok(key) => Ok(Self {
                folder: folder.to_owned(),
                key: key.into(),
            }),
            Err(_) => Err(HierarchyError::Key(path)),
        }
    }

    /// The root's certificate, which a verifier has to be told to trust.
    pub fn root(&self) -> PathBuf {
        self.folder.join(ROOT_FILE)
    }

    /// The certificates that go with a report.
    pub fn chain(&self) -> PathBuf {
        self.folder.join(CHAIN_FILE)
    }

    /// Signs a report: ECDSA with SHA-384, R and S little-endian (SNP firmware ABI, chapter 10).
    pub fn sign(&self, report: &Signed) -> Signature {
        const NUMBER_BYTES: usize = 72;
        let signature: p384::ecdsa::Signature = self.key.sign(report);
        let (r, s) = signature.split_bytes();
        let mut field = [0; SIGNATURE_BYTES];
        for (number, at) in [(r, 0), (s, NUMBER_BYTES)] {
            for (byte, digit) in field[at..].iter_mut().zip(number.iter().rev()) {
                *byte = *digit;
            }
        }
        field
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> HierarchyError {
    let path = path.to_owned();
    |source| HierarchyError::Io { path, source }
}

/// Makes the keys beside `folder` and moves them there at once, so that nobody sees half of them.
fn create(folder: &Path) -> Result<(), HierarchyError> {
    let mut beside = folder.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    fs::create_dir_all(&beside).map_err(at(&beside))?;
    let made = issue().and_then(|issued| issued.write(&beside));
    let moved = made.and_then(|()| fs::rename(&beside, folder).map_err(at(folder)));
    if moved.is_err() {
        // Whoever was faster has made keys that are as good; those here are of no use to anybody.
        let _ = fs::remove_dir_all(&beside);
    }
    if folder.exists() { Ok(()) } else { moved }
}

/// Certificates and key of a new platform, in PEM.
struct Issued {
    root: String,
    chain: String,
    key: String,
}

impl Issued {
    fn write(&self, folder: &Path) -> Result<(), HierarchyError> {
        let files = [
            (ROOT_FILE, &self.root, 0o644),
            (CHAIN_FILE, &self.chain, 0o644),
            (KEY_FILE, &self.key, 0o600),
        ];
        for (name, text, mode) in files {
            let path = folder.join(name);
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).mode(mode);
            file.open(&path)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(at(&path))?;
        }
        Ok(())
    }
}

fn issue() -> Result<Issued, HierarchyError> {
    let mut random = UnwrapErr(SysRng);
    let mut authority = || pss::SigningKey::<Sha384>::random(&mut random, RSA_BITS);
    let (ark, ask) = (authority()?, authority()?);
    let vcek = p384::SecretKey::generate_from_rng(&mut random);

    let [ark_name, ask_name, vcek_name] = [
        format!("ARK-{PRODUCT}"),
        format!("SEV-{PRODUCT}"),
        "SEV-VCEK".to_owned(),
    ]
    .map(|common_name| name(&common_name));
    let profile = |issuer: &Name, subject: &Name, kind| Profile {
        issuer: issuer.clone(),
        subject: subject.clone(),
        kind,
    };
    let root = profile(&ark_name, &ark_name, Kind::Authority);
    let intermediate = profile(&ark_name, &ask_name, Kind::Authority);
    let leaf = profile(&ask_name, &vcek_name, Kind::Platform);
    let pem = |certificate: Certificate| certificate.to_pem(LineEnding::LF);
    let root = pem(certify(root, 1, &ark.verifying_key(), &ark)?)?;
    let intermediate = pem(certify(intermediate, 2, &ask.verifying_key(), &ark)?)?;
    let leaf = pem(certify(leaf, 3, &vcek.public_key(), &ask)?)?;
    let key = vcek
        .to_pkcs8_pem(LineEnding::LF)
        .expect("a key can be encoded");
    Ok(Issued {
        root,
        chain: leaf + &intermediate,
        key: key.to_string(),
    })
}

fn name(common_name: &str) -> Name {
    Name::from_str(&format!("CN={common_name},O={ORGANIZATION}")).expect("a plain name")
}

fn certify(
    profile: Profile,
    serial: u32,
    key: &impl EncodePublicKey,
    issuer: &pss::SigningKey<Sha384>,
) -> Result<Certificate, HierarchyError> {
    let serial = SerialNumber::from(serial);
    let key = SubjectPublicKeyInfo::from_key(key)?;
    let validity = Validity::from_now(VALID)?;
    let certificate = CertificateBuilder::new(profile, serial, validity, key)?;
    let mut random = UnwrapErr(SysRng);
    Ok(certificate.build_with_rng::<_, pss::Signature, _>(issuer, &mut random)?)
}

/// What a certificate is for.
enum Kind {
    /// Signs certificates.
    Authority,
    /// Signs reports of this platform.
    Platform,
}

/// Names and extensions of a certificate.
struct Profile {
    issuer: Name,
    subject: Name,
    kind: Kind,
}

impl BuilderProfile for Profile {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _key: SubjectPublicKeyInfoRef<'_>,
        _issuer_key: SubjectPublicKeyInfoRef<'_>,
        certificate: &TbsCertificate,
    ) -> builder::Result<Vec<Extension>> {
        match self.kind {
            Kind::Authority => authority_extensions(certificate),
            Kind::Platform => Ok(platform_extensions()?),
        }
    }
}

fn authority_extensions(certificate: &TbsCertificate) -> builder::Result<Vec<Extension>> {
    use x509_cert::ext::ToExtension;
    let subject = certificate.subject();
    let constraints = BasicConstraints {
        ca: true,
        path_len_constraint: None,
    };
    let usage = KeyUsage(KeyUsages::KeyCertSign.into());
    Ok(vec![
        constraints.to_extension(subject, &[])?,
        usage.to_extension(subject, &[])?,
    ])
}

/// AMD's extensions (AMD 57230, section "VCEK Certificate"), below 1.3.6.1.4.1.3704.1.
fn platform_extensions() -> x509_cert::der::Result<Vec<Extension>> {
    let extension = |arcs: &str, value: Vec<u8>| -> x509_cert::der::Result<Extension> {
        Ok(Extension {
            extn_id: ObjectIdentifier::new_unwrap(&format!("1.3.6.1.4.1.3704.1.{arcs}")),
            critical: false,
            extn_value: OctetString::new(value)?,
        })
    };
    let mut extensions = vec![
        extension("1", Uint::new(&[1])?.to_der()?)?,
        extension("2", Ia5String::new(PRODUCT)?.to_der()?)?,
    ];
    // Boot loader, TEE, SNP, four without a meaning, microcode: the order of a Milan's TCB_VERSION.
    for (index, level) in TCB.into_iter().enumerate() {
        // In the report the four stand between TEE and SNP, in the certificate behind SNP.
        let arc = match index {
            0 | 1 => index + 1,
            2..=5 => index + 2,
            6 => 3,
            _ => 8,
        };
        extensions.push(extension(
            &format!("3.{arc}"),
            Uint::new(&[level])?.to_der()?,
        )?);
    }
    // The chip's number stands there as it is, without an element of its own around it.
    extensions.push(extension("4", CHIP_ID.to_vec())?);
    Ok(extensions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Contents, LaunchParameters, SIGNED_BYTES, unsigned};
    use cloister_verifier::{CheckName, Context, Evidence, Outcome, Policy, appraise};

    fn signed_report(platform: &Hierarchy) -> Vec<u8> {
        let mut report = unsigned(&Contents {
            report_data: [1; 64],
            vmpl: 0,
            measurement: [2; 48],
            report_id: [3; 32],
            chip_id: CHIP_ID,
            cpu_signature: 0x00a0_0f11,
            launch: LaunchParameters::default(),
        });
        let (signed, signature) = report.split_at_mut(SIGNED_BYTES);
        signature.copy_from_slice(&platform.sign((&*signed).try_into().expect("its length")));
        report.to_vec()
    }

    #[test]
    fn a_verifier_accepts_what_the_platform_signs_only_under_its_own_root() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let folder = data.path().join("keys");
        let platform = Hierarchy::open_or_create(&folder).expect("made");
        let again = Hierarchy::open_or_create(&folder).expect("read");
        let report = signed_report(&again);
        let chain = fs::read(platform.chain()).expect("the chain");
        let evidence = Evidence::from_files(&report, [&chain[..]]).expect("PEM");
        let root = fs::read(platform.root()).expect("the root");
        let mut policy = Policy::emulated(&root).expect("an emulated root");
        policy.measurements.push([2; 48]);
        policy.require_binding = false;
        policy.require_log = false;
        let context = Context::default();
        let appraisal = appraise(&evidence, &policy, &context);
        assert!(
            appraisal.is_accepted() && appraisal.is_emulated(),
            "{appraisal}"
        );

        let mut amd = Policy::new();
        amd.measurements.push([2; 48]);
        let appraisal = appraise(&evidence, &amd, &context);
        assert!(!appraisal.is_accepted(), "{appraisal}");

        let mut altered = evidence;
        altered.report[0x51] ^= 1;
        let appraisal = appraise(&altered, &policy, &context);
        let signature = appraisal.outcome(CheckName::ReportSignature);
        assert!(matches!(signature, Some(Outcome::Fail(_))), "{appraisal}");
        assert_eq!(appraisal.reasons().count(), 1, "{appraisal}");
    }

    #[test]
    fn only_the_user_can_read_the_key() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().expect("a temporary folder");
        let issued = Issued {
            root: "root".into(),
            chain: "chain".into(),
            key: "key".into(),
        };
        issued.write(data.path()).expect("written");
        let mode = |name| {
            let file = fs::metadata(data.path().join(name)).expect("there");
            file.permissions().mode() & 0o077
        };
        assert_eq!(mode(KEY_FILE), 0);
        assert_ne!(mode(CHAIN_FILE), 0);
    }

    #[test]
    fn a_folder_with_something_else_is_named() {
        let data = tempfile::tempdir().expect("a temporary folder");
        fs::write(data.path().join(KEY_FILE), "no key").expect("written");
        let error = Hierarchy::open_or_create(data.path()).unwrap_err();
        assert!(error.to_string().contains(KEY_FILE), "{error}");
    }
}
