//! Clients by their credentials, with a quota a day: an [`Admission`] out of a file.
//!
//! A line of the file is `NAME HASH QUOTA`: a name for the operator, SHA-256 of the credential in hexadecimal, the most
//! tokens a day (UTC). Credentials are 32 random bytes, so that their plain hash gives nothing away. What was given out
//! today is kept in `FILE.today`, so that a restart gives nobody a second quota.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64ct::{Base64UrlUnpadded, Encoding};
use getrandom::SysRng;
use rand_core::TryRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::serve::{Admission, Denied};
use crate::keys::{self, KeyArgumentError};

/// Seconds of a day.
const DAY_S: u64 = 86_400;
/// The most clients.
const MAX_CLIENTS: usize = 10_000;
/// The longest name in bytes.
const MAX_NAME_BYTES: usize = 64;
/// The longest credential in bytes.
const MAX_CREDENTIAL_BYTES: usize = 256;

/// Clients, and what each was given today.
#[derive(Debug)]
pub struct Clients {
    by_hash: BTreeMap<[u8; 32], Client>,
    today: PathBuf,
    /// Days since 1970 that the counts are of.
    day: u64,
}

#[derive(Debug)]
struct Client {
    name: String,
    quota: u32,
    given: u32,
}

/// Why the clients are of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientsError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] KeyArgumentError),
    /// A file cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A line is none.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The name of a new client is none, or there already.
    #[error(
        "{0:?} is no name for a new client: 1 to {MAX_NAME_BYTES} letters, digits, `.`, `_`, `-`, and not there already"
    )]
    Name(String),
    /// No randomness from the operating system.
    #[error("the operating system gives no random numbers")]
    Random,
}

impl Clients {
    /// Reads the clients of a file, and what they were given today.
    ///
    /// # Errors
    /// [`ClientsError`].
    pub fn open(path: &Path, now_s: u64) -> Result<Self, ClientsError> {
        let mut by_hash = BTreeMap::new();
        let text = keys::read(path)?;
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let wrong = |reason| ClientsError::Line {
                path: path.into(),
                line: at + 1,
                reason,
            };
            let line = std::str::from_utf8(line).map_err(|_| wrong("it is not text"))?;
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (hash, client) = parse(line).ok_or_else(|| wrong("it is not NAME HASH QUOTA"))?;
            if by_hash
                .values()
                .any(|other: &Client| other.name == client.name)
                || by_hash.insert(hash, client).is_some()
            {
                return Err(wrong("the name or the credential is there twice"));
            }
            if by_hash.len() > MAX_CLIENTS {
                return Err(wrong("there are too many clients"));
            }
        }
        let mut clients = Self {
            by_hash,
            today: with_ending(path, ".today"),
            day: now_s / DAY_S,
        };
        clients.read_today()?;
        Ok(clients)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_hash.len()
    }

    /// Counts of the day that they are of; those of another day are over.
    fn read_today(&mut self) -> Result<(), ClientsError> {
        if !self.today.exists() {
            return Ok(());
        }
        let text = keys::read(&self.today)?;
        let wrong = |line| ClientsError::Line {
            path: self.today.clone(),
            line,
            reason: "it is not what this program writes; remove the file to forget what was given out today",
        };
        let text = std::str::from_utf8(&text).map_err(|_| wrong(1))?;
        let mut lines = text.lines().enumerate();
        let day = lines.next().and_then(|(_, day)| day.strip_prefix("day "));
        let day: u64 = day
            .and_then(|day| day.parse().ok())
            .ok_or_else(|| wrong(1))?;
        if day != self.day {
            return Ok(());
        }
        for (at, line) in lines {
            let count = line.split_once(' ');
            let (name, given) = count.ok_or_else(|| wrong(at + 1))?;
            let given: u32 = given.parse().map_err(|_| wrong(at + 1))?;
            // Who is no longer a client needs no count.
            if let Some(client) = self.by_hash.values_mut().find(|client| client.name == name) {
                client.given = given;
            }
        }
        Ok(())
    }

    fn write_today(&self) -> io::Result<()> {
        let mut text = format!("day {}\n", self.day);
        for client in self.by_hash.values().filter(|client| client.given > 0) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{} {}", client.name, client.given);
        }
        let temporary = with_ending(&self.today, ".tmp");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&temporary)?.write_all(text.as_bytes())?;
        // A power cut may lose the counts of today, nothing else.
        fs::rename(&temporary, &self.today)
    }
}

impl Admission for Clients {
    fn admit(&mut self, credential: Option<&str>, now_s: u64) -> Result<String, Denied> {
        let credential = credential.ok_or(Denied::Unknown)?;
        if now_s / DAY_S != self.day {
            self.day = now_s / DAY_S;
            self.by_hash
                .values_mut()
                .for_each(|client| client.given = 0);
        }
        let hash: [u8; 32] = Sha256::digest(credential).into();
        // Whoever times this search learns of hashes, not of credentials.
        let client = self.by_hash.get_mut(&hash).ok_or(Denied::Unknown)?;
        if client.given >= client.quota {
            return Err(Denied::Quota {
                retry_after_s: DAY_S - now_s % DAY_S,
            });
        }
        client.given += 1;
        let words = format!(
            "{}, {} of {} today",
            client.name, client.given, client.quota
        );
        // What cannot be kept is not given out.
        self.write_today().map_err(Denied::State)?;
        Ok(words)
    }
}

/// Makes a credential for a new client: adds its line to the file, and writes the credential into a file of its own, of
/// mode 0600, which is for the client.
///
/// # Errors
/// [`ClientsError`].
pub fn new_credential(
    clients: &Path,
    name: &str,
    quota: u32,
    credential: &Path,
) -> Result<(), ClientsError> {
    let taken = match clients.exists() {
        true => Clients::open(clients, 0)?
            .by_hash
            .into_values()
            .any(|client| client.name == name),
        false => false,
    };
    if taken || !is_name(name) {
        return Err(ClientsError::Name(name.into()));
    }
    let mut secret = Zeroizing::new([0; 32]);
    SysRng
        .try_fill_bytes(&mut *secret)
        .map_err(|_| ClientsError::Random)?;
    let secret = Zeroizing::new(Base64UrlUnpadded::encode_string(&*secret));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ClientsError::Write { path, source }
    };
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let file = options.open(credential);
    let written = file.and_then(|mut file| file.write_all(format!("{}\n", *secret).as_bytes()));
    written.map_err(failed(credential))?;
    let hash = hex(&Sha256::digest(secret.as_bytes()));
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o600).open(clients);
    let line = format!("{name} {hash} {quota}\n");
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.map_err(failed(clients))
}

fn parse(line: &str) -> Option<([u8; 32], Client)> {
    let mut words = line.split_ascii_whitespace();
    let (name, digest, quota) = (words.next()?, words.next()?, words.next()?);
    let digits = digest.as_bytes().chunks_exact(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let hash: Vec<u8> = digits.collect::<Option<_>>()?;
    let is_whole =
        words.next().is_none() && digest.len() == 64 && line.len() < 256 && is_name(name);
    let client = Client {
        name: name.into(),
        quota: quota.parse().ok()?,
        given: 0,
    };
    is_whole.then_some((hash.try_into().ok()?, client))
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(plain)
}

/// The credential in an `Authorization` field, `Bearer CREDENTIAL` (RFC 6750).
pub(super) fn bearer(field: &str) -> Option<&str> {
    let (scheme, credential) = field.split_once(' ')?;
    let credential = credential.trim_matches(' ');
    let is_sound = (1..=MAX_CREDENTIAL_BYTES).contains(&credential.len());
    (scheme.eq_ignore_ascii_case("bearer") && is_sound).then_some(credential)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 20_000;
    const NOW_S: u64 = DAY * DAY_S + 1000;

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            Self { folder }
        }

        fn clients(&self) -> PathBuf {
            self.folder.path().join("clients")
        }

        fn add(&self, name: &str, quota: u32) -> String {
            let path = self.folder.path().join(name);
            new_credential(&self.clients(), name, quota, &path).expect("added");
            fs::read_to_string(path).expect("written").trim().to_owned()
        }
    }

    #[test]
    fn a_client_gets_its_quota_a_day_and_a_restart_gives_no_second_one() {
        let files = Files::new();
        let (ana, ben) = (files.add("ana", 3), files.add("ben", 1));
        let open = |now_s| Clients::open(&files.clients(), now_s).expect("clients");
        let mut clients = open(NOW_S);
        assert_eq!(clients.count(), 2);
        assert_eq!(
            clients.admit(Some(&ana), NOW_S).expect("in"),
            "ana, 1 of 3 today"
        );
        assert_eq!(
            clients.admit(Some(&ana), NOW_S).expect("in"),
            "ana, 2 of 3 today"
        );
        let mut clients = open(NOW_S + 5);
        assert_eq!(
            clients.admit(Some(&ana), NOW_S + 5).expect("in"),
            "ana, 3 of 3 today"
        );
        assert!(matches!(
            clients.admit(Some(&ana), NOW_S + 5),
            Err(Denied::Quota {
                retry_after_s: 85_395
            })
        ));
        assert!(clients.admit(Some(&ben), NOW_S).is_ok());
        assert!(
            clients.admit(Some(&ben), NOW_S + DAY_S).is_ok(),
            "the next day"
        );
        assert!(
            open(NOW_S + 2 * DAY_S)
                .admit(Some(&ben), NOW_S + 2 * DAY_S)
                .is_ok()
        );
        for unknown in [None, Some(""), Some("x"), Some(&ana[1..])] {
            assert!(matches!(
                clients.admit(unknown, NOW_S),
                Err(Denied::Unknown)
            ));
        }
    }

    #[test]
    fn credentials_are_kept_as_hashes_and_in_files_of_their_owner() {
        use std::os::unix::fs::MetadataExt;
        let files = Files::new();
        let secret = files.add("ana", 3);
        assert_eq!(secret.len(), 43);
        let text = fs::read_to_string(files.clients()).expect("clients");
        assert!(!text.contains(&secret), "{text}");
        for path in [files.clients(), files.folder.path().join("ana")] {
            assert_eq!(fs::metadata(path).expect("there").mode() & 0o777, 0o600);
        }
        let again = new_credential(&files.clients(), "ana", 1, &files.folder.path().join("x"));
        assert!(matches!(again, Err(ClientsError::Name(_))));
        for name in ["", "a b", "a\nb", &"n".repeat(65)] {
            let outcome = new_credential(&files.clients(), name, 1, &files.folder.path().join("x"));
            assert!(matches!(outcome, Err(ClientsError::Name(_))), "{name:?}");
        }
    }

    #[test]
    fn wrong_lines_are_named() {
        let files = Files::new();
        let hash = "ab".repeat(32);
        for (text, line) in [
            ("ana\n".to_owned(), 1),
            (format!("# a comment\n\nana {hash} many\n"), 3),
            (format!("ana {} 5\n", &hash[2..]), 1),
            (format!("ana {hash} 5 6\n"), 1),
            (format!("ana {hash} 5\nben {hash} 5\n"), 2),
            (format!("ana {hash} 5\nana {} 5\n", "cd".repeat(32)), 2),
        ] {
            fs::write(files.clients(), &text).expect("written");
            let error = Clients::open(&files.clients(), NOW_S)
                .map(drop)
                .unwrap_err();
            assert!(
                matches!(error, ClientsError::Line { line: found, .. } if found == line),
                "{text:?}: {error}"
            );
        }
        fs::write(files.clients(), format!("ana {hash} 5\n")).expect("written");
        fs::write(with_ending(&files.clients(), ".today"), "what\n").expect("written");
        let error = Clients::open(&files.clients(), NOW_S)
            .map(drop)
            .unwrap_err();
        assert!(error.to_string().contains("remove the file"), "{error}");
    }

    #[test]
    fn a_credential_is_a_bearer_token() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        for field in [
            "",
            "abc",
            "Basic abc",
            "Bearer ",
            &format!("Bearer {}", "a".repeat(257)),
        ] {
            assert_eq!(bearer(field), None, "{field:?}");
        }
    }
}
