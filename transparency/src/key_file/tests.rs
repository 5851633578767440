//! Files that OpenSSL reads, and every way in which a file is refused. OpenSSL's command has to be installed.

use super::*;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const NAME: &str = "log.example/releases";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Runs `openssl` and gives its standard output.
fn openssl(arguments: &[&str], path: &Path) -> String {
    let run = Command::new("openssl").args(arguments).arg(path).output();
    let run = run.expect("these tests need the command openssl (Debian: apt-get install openssl)");
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "openssl {arguments:?}: {errors}");
    String::from_utf8(run.stdout).expect("text")
}

fn hexadecimal(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

/// The public key that OpenSSL finds in a private key's file, in hexadecimal.
fn public_of_openssl(path: &Path, passphrase: &str) -> String {
    let password = format!("pass:{passphrase}");
    let arguments = ["pkey", "-noout", "-text_pub", "-passin", &password, "-in"];
    let text = openssl(&arguments, path);
    let lines = text.lines().filter(|line| line.starts_with(' '));
    lines
        .flat_map(|line| line.chars().filter(char::is_ascii_hexdigit))
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").mode() & 0o7777
}

#[test]
fn openssl_reads_what_is_generated() {
    let root = folder();
    let (plain, encrypted) = (root.path().join("a/b/plain"), root.path().join("encrypted"));
    for (path, passphrase, key_type, label) in [
        (&plain, None, KeyType::Ed25519, "PRIVATE KEY"),
        (
            &encrypted,
            Some("correct horse"),
            KeyType::CosignatureV1,
            "ENCRYPTED PRIVATE KEY",
        ),
    ] {
        let verifier = generate(path, NAME, key_type, passphrase).expect("a new file");
        assert_eq!((verifier.name(), verifier.key_type()), (NAME, key_type));
        let public = public_of_openssl(path, passphrase.unwrap_or_default());
        assert_eq!(public, hexadecimal(verifier.public()));
        let text = fs::read_to_string(path).expect("text");
        assert!(
            text.starts_with(&format!("-----BEGIN {label}-----\n")),
            "{text}"
        );
        assert_eq!(mode(path), 0o600);
        assert_eq!(
            fs::read_to_string(verifier_path(path)).expect("text"),
            format!("{verifier}\n")
        );
        let loaded = load(path, passphrase).expect("what was written");
        assert_eq!(loaded.verifier(), &verifier);
        assert_eq!(load_verifier(path).expect("beside it"), verifier);
        let direct = load_verifier(&verifier_path(path));
        assert_eq!(direct.expect("by its own name"), verifier);
    }
    assert_eq!(mode(&root.path().join("a")), 0o700);
    assert_eq!(mode(&root.path().join("a/b")), 0o700);
    let structure = openssl(&["asn1parse", "-i", "-in"], &encrypted);
    for word in ["PBES2", "scrypt", "aes-256-cbc"] {
        assert!(structure.contains(word), "{structure}");
    }
}

#[test]
fn keys_of_openssl_are_read() {
    let root = folder();
    let path = root.path().join("key");
    let generated = ["genpkey", "-algorithm", "ed25519", "-out"];
    openssl(&generated, &path);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
    assert!(matches!(
        load(&path, None),
        Err(KeyFileError::VerifierMissing { path }) if path.ends_with("key.vkey")
    ));
    let public: [u8; 32] = base16ct::lower::decode_vec(public_of_openssl(&path, ""))
        .expect("hexadecimal")
        .try_into()
        .expect("32 bytes");
    let verifier = VerifierKey::new(NAME, KeyType::Ed25519, &public).expect("a key");
    fs::write(verifier_path(&path), verifier.to_string()).expect("writable");
    let key = load(&path, None).expect("OpenSSL's");
    assert_eq!(key.verifier(), &verifier);
    // The same, encrypted by OpenSSL with PBKDF2.
    let encrypted = root.path().join("encrypted");
    let input = path.to_str().expect("text").to_owned();
    let convert = ["pkey", "-in", &input, "-aes256", "-passout", "pass:secret"];
    openssl(&[&convert[..], &["-out"]].concat(), &encrypted);
    fs::copy(verifier_path(&path), verifier_path(&encrypted)).expect("writable");
    fs::set_permissions(&encrypted, Permissions::from_mode(0o600)).expect("ours");
    let key = load(&encrypted, Some("secret")).expect("OpenSSL's");
    assert_eq!(key.verifier(), &verifier);
}

#[test]
fn a_key_is_never_overwritten() {
    let root = folder();
    let path = root.path().join("key");
    let again = || generate(&path, NAME, KeyType::Ed25519, None);
    again().expect("a new file");
    let (key, verifier) = (fs::read(&path), fs::read(verifier_path(&path)));
    let (key, verifier) = (key.expect("a file"), verifier.expect("a file"));
    assert!(matches!(again(), Err(KeyFileError::Exists { path: found }) if found == path));
    assert_eq!(fs::read(&path).expect("a file"), key);
    fs::remove_file(&path).expect("ours");
    assert!(
        matches!(again(), Err(KeyFileError::Exists { path: found }) if found == verifier_path(&path))
    );
    assert!(!path.exists(), "a key that nobody knows of is not left");
    let kept = fs::read(verifier_path(&path)).expect("a file");
    assert_eq!(kept, verifier);
    let unnamed = generate(
        &root.path().join("new/key"),
        "a name",
        KeyType::Ed25519,
        None,
    );
    assert!(matches!(
        unnamed,
        Err(KeyFileError::Verifier {
            error: KeyError::Name,
            ..
        })
    ));
    assert!(!root.path().join("new").exists());
    let empty = generate(&root.path().join("new"), NAME, KeyType::Ed25519, Some(""));
    assert!(matches!(empty, Err(KeyFileError::EmptyPassphrase)));
}

#[test]
fn files_are_refused_with_the_reason() {
    let root = folder();
    let path = root.path().join("key");
    assert!(matches!(
        load(&path, None),
        Err(KeyFileError::Missing { .. })
    ));
    generate(&path, NAME, KeyType::Ed25519, Some("secret")).expect("a new file");
    assert!(matches!(
        load(&path, None),
        Err(KeyFileError::PassphraseNeeded { .. })
    ));
    for wrong in ["", "Secret", "secret "] {
        let loaded = load(&path, Some(wrong));
        assert!(matches!(loaded, Err(KeyFileError::WrongPassphrase { .. })));
    }
    for mode in [0o640, 0o604, 0o620, 0o601] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
        let error = load(&path, Some("secret")).expect_err("others can read it");
        assert!(matches!(error, KeyFileError::Permissions { .. }));
        let text = error.to_string();
        assert!(
            text.contains(&format!("{mode:04o}")) && text.contains("chmod 600"),
            "{text}"
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
    let other = root.path().join("other");
    generate(&other, NAME, KeyType::Ed25519, None).expect("a new file");
    fs::copy(verifier_path(&other), verifier_path(&path)).expect("writable");
    assert!(matches!(
        load(&path, Some("secret")),
        Err(KeyFileError::Mismatch { .. })
    ));
    fs::write(verifier_path(&path), "no key\n").expect("writable");
    assert!(matches!(
        load(&path, Some("secret")),
        Err(KeyFileError::Verifier { .. })
    ));
}

#[test]
fn other_contents_are_refused() {
    let root = folder();
    let path = root.path().join("key");
    generate(&path, NAME, KeyType::Ed25519, None).expect("a new file");
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("writable");
        load(&path, Some("secret")).expect_err("no key")
    };
    let format = |bytes: &[u8], word: &str| {
        let error = refused(bytes);
        assert!(matches!(error, KeyFileError::Format { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    format(b"", "PEM");
    format(b"PRIVATE+KEY+x", "PEM");
    let other = root.path().join("other.pem");
    openssl(&["genpkey", "-algorithm", "x25519", "-out"], &other);
    format(&fs::read(&other).expect("a file"), "1.3.101.110");
    let public = openssl(&["pkey", "-pubout", "-in"], &other);
    format(public.as_bytes(), "PUBLIC KEY");
    assert!(matches!(
        refused(&[0xff; 10]),
        KeyFileError::NotAKeyFile { .. }
    ));
    assert!(matches!(
        refused(&vec![b'x'; MAX_FILE_BYTES + 1]),
        KeyFileError::NotAKeyFile { .. }
    ));
}

#[test]
fn a_file_cannot_ask_for_minutes_of_work() {
    use pkcs8::pkcs5::pbes2::{self, Pbkdf2Params, ScryptParams};
    let path = Path::new("key");
    let scheme = |kdf: Kdf| {
        let encryption = pbes2::EncryptionScheme::Aes256Cbc { iv: [0; 16] };
        EncryptionScheme::Pbes2(pbes2::Parameters { kdf, encryption })
    };
    let generated = pbes2::Parameters::generate_recommended(&mut getrandom::SysRng);
    let usual = EncryptionScheme::Pbes2(generated.expect("random numbers"));
    assert!(check_work(path, &usual).is_ok());
    let Some(Kdf::Scrypt(usual)) = usual.pbes2().map(|parameters| parameters.kdf.clone()) else {
        panic!("scrypt");
    };
    for (cost_parameter, block_size, parallelization) in [
        (1 << 22, 8, 1),
        (1 << 14, 1 << 15, 1),
        (1 << 14, 8, 1 << 12),
    ] {
        let costly = ScryptParams {
            cost_parameter,
            block_size,
            parallelization,
            ..usual
        };
        assert!(check_work(path, &scheme(Kdf::Scrypt(costly))).is_err());
    }
    let rounds = |count| Pbkdf2Params::hmac_sha256(count, b"12345678").expect("parameters");
    assert!(check_work(path, &scheme(Kdf::Pbkdf2(rounds(600_000)))).is_ok());
    assert!(check_work(path, &scheme(Kdf::Pbkdf2(rounds(100_000_000)))).is_err());
}

#[test]
fn keys_of_other_kinds_are_kept_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    // Any algorithm, any content: an id-RSASSA-PSS key of three bytes.
    let der = [
        &[0x30, 0x17, 0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09][..],
        &[
            0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x05, 0x00,
        ],
        &[0x04, 0x03, 1, 2, 3],
    ]
    .concat();
    for (name, passphrase) in [("plain", None), ("sealed", Some("open sesame"))] {
        let path = folder.path().join(name);
        create_pkcs8(&path, &der, passphrase).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(*load_pkcs8(&path, passphrase).unwrap(), der);
        let again = create_pkcs8(&path, &der, passphrase);
        assert!(matches!(again, Err(KeyFileError::Exists { .. })));
        assert!(load(&path, passphrase).is_err(), "it is no Ed25519 key");
    }
    let sealed = folder.path().join("sealed");
    assert!(matches!(
        load_pkcs8(&sealed, None),
        Err(KeyFileError::PassphraseNeeded { .. })
    ));
    assert!(matches!(
        load_pkcs8(&sealed, Some("x")),
        Err(KeyFileError::WrongPassphrase { .. })
    ));
    let path = folder.path().join("none");
    assert!(matches!(
        create_pkcs8(&path, b"junk", None),
        Err(KeyFileError::Format { .. })
    ));
    assert!(!path.exists());
}
