use super::*;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const NOW_S: u64 = 1_800_000_000;
const SERVER: &str = "http://server.example";

fn token(nonce: u32, challenge: u8) -> Token {
    let mut token = Token {
        nonce: [0; 32],
        challenge_digest: [challenge; 32],
        token_key_id: [3; 32],
        authenticator: [4; 256],
    };
    token.nonce[..4].copy_from_slice(&nonce.to_be_bytes());
    token
}

fn number(token: &Token) -> u32 {
    u32::from_be_bytes(token.nonce[..4].try_into().unwrap())
}

fn wallet(folder: &tempfile::TempDir) -> Wallet {
    Wallet::new(&folder.path().join("wallet"))
}

#[test]
fn tokens_are_taken_once_the_newest_first_and_by_challenge() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = wallet(&folder);
    assert_eq!(wallet.take(SERVER, NOW_S).unwrap(), None);
    assert!(!wallet.path().exists(), "nothing was changed");
    wallet
        .put(SERVER, NOW_S + 10, &[token(1, 1), token(2, 1)])
        .unwrap();
    wallet
        .put("http://other.example", NOW_S + 10, &[token(3, 2)])
        .unwrap();
    wallet.put(SERVER, NOW_S + 20, &[token(4, 3)]).unwrap();
    assert_eq!(wallet.count(NOW_S).unwrap(), 4);
    assert_eq!(wallet.take_for(&[2; 32], NOW_S).unwrap(), Some(token(3, 2)));
    assert_eq!(wallet.take_for(&[2; 32], NOW_S).unwrap(), None);
    for expected in [token(4, 3), token(2, 1), token(1, 1)] {
        assert_eq!(wallet.take(SERVER, NOW_S).unwrap(), Some(expected));
    }
    assert_eq!(wallet.take(SERVER, NOW_S).unwrap(), None);
}

#[test]
fn what_nobody_takes_any_more_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = wallet(&folder);
    wallet
        .put(SERVER, NOW_S + 10, &[token(1, 1), token(2, 1), token(3, 2)])
        .unwrap();
    wallet.forget(&[1; 32]).unwrap();
    assert_eq!(wallet.count(NOW_S).unwrap(), 1);
    assert_eq!(
        wallet.take(SERVER, NOW_S + 10).unwrap(),
        None,
        "its time is over"
    );
    assert_eq!(wallet.count(0).unwrap(), 0);
    let many: Vec<Token> = (0..MAX_TOKENS as u32 + 5)
        .map(|number| token(number, 1))
        .collect();
    wallet.put(SERVER, NOW_S + 10, &many).unwrap();
    assert_eq!(wallet.count(NOW_S).unwrap(), MAX_TOKENS);
    assert!(fs::metadata(wallet.path()).unwrap().len() < MAX_BYTES);
}

#[test]
fn only_the_owner_reads_it_and_a_file_that_is_none_is_left_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let wallet = wallet(&folder);
    wallet.put(SERVER, NOW_S, &[token(1, 1)]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(wallet.path()), 0o600);
    fs::set_permissions(wallet.path(), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        wallet.take(SERVER, 0),
        Err(WalletError::Permissions { .. })
    ));
    fs::set_permissions(wallet.path(), fs::Permissions::from_mode(0o600)).unwrap();
    for text in [
        "",
        "{}",
        "{\"tokens\":[{\"server\":\"s\",\"expires_s\":1,\"token\":\"AAAA\"}]}",
    ] {
        fs::write(wallet.path(), text).unwrap();
        let error = wallet.put(SERVER, NOW_S, &[token(1, 1)]).unwrap_err();
        assert!(matches!(error, WalletError::Format { .. }), "{error}");
        assert_eq!(fs::read_to_string(wallet.path()).unwrap(), text);
    }
    // What a crash left of a write.
    fs::remove_file(wallet.path()).unwrap();
    fs::write(wallet.beside(".tmp"), "{\"tok").unwrap();
    wallet.put(SERVER, NOW_S, &[token(1, 1)]).unwrap();
    assert_eq!(mode(wallet.path()), 0o600);
}

const CHILD: &str = "CLOISTER_WALLET_OF_CHILD";

/// Not a test of its own: the process that the next test kills. It names each token once it has it.
#[test]
fn child() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let wallet = Wallet::new(Path::new(&path));
    let mut out = io::stderr();
    while let Some(token) = wallet.take(SERVER, NOW_S).unwrap() {
        writeln!(out, "took {}", number(&token)).unwrap();
    }
    writeln!(out, "took all").unwrap();
}

#[test]
fn a_wallet_whose_user_is_killed_has_every_token_but_those_that_were_taken() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = wallet(&folder);
    let all: Vec<Token> = (0..60).map(|number| token(number, 1)).collect();
    wallet.put(SERVER, NOW_S + 10, &all).unwrap();
    let mut taken = BTreeSet::new();
    for kills in 0..20_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tokens::wallet::tests::child", "--nocapture"])
            .env(CHILD, wallet.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It goes on while this reads, and is killed wherever it is then.
        for line in BufReader::new(child.stderr.take().unwrap())
            .lines()
            .take(1 + kills % 3)
        {
            let line = line.unwrap();
            if let Some(Ok(number)) = line.strip_prefix("took ").map(str::parse::<u32>) {
                assert!(taken.insert(number), "token {number} was given out twice");
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let left = wallet.read().unwrap().tokens;
        for held in &left {
            let number = number(&held.token().unwrap());
            assert!(
                !taken.contains(&number),
                "{number} was taken and is still there"
            );
        }
    }
    assert!(taken.len() >= 15, "{taken:?}");
    // Some were taken by a process that died before it could say so: they are lost, not spent twice.
    assert!(taken.len() + wallet.count(NOW_S).unwrap() <= 60);
}

#[test]
fn several_users_of_one_wallet_never_get_the_same_token() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = wallet(&folder);
    let all: Vec<Token> = (0..40).map(|number| token(number, 1)).collect();
    wallet.put(SERVER, NOW_S + 10, &all).unwrap();
    let takers: Vec<_> = (0..4)
        .map(|_| {
            let wallet = wallet.clone();
            std::thread::spawn(move || {
                let next = || wallet.take(SERVER, NOW_S).unwrap();
                std::iter::from_fn(next)
                    .map(|token| number(&token))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let taken: Vec<u32> = takers
        .into_iter()
        .flat_map(|taker| taker.join().unwrap())
        .collect();
    assert_eq!(
        (taken.len(), taken.iter().collect::<BTreeSet<_>>().len()),
        (40, 40)
    );
}
