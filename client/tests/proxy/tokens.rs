//! A server that asks for tokens: the proxy has one for each request, and none twice.

use std::collections::HashSet;
use std::net::TcpListener;
use std::thread;

use cloister_client::tokens::Wallet;
use cloister_tokens::origin::Refusal;

use super::behaviour::{CHAT, ask, said};
use super::issuing::{Issuing, named};
use super::process::Proxy;
use super::raw::wait_until;
use super::server::{Server, Shown};

/// A server with a gate.
fn gated() -> Server {
    let server = Server::start();
    server.demand_tokens(named());
    server
}

/// What the proxy needs to get tokens, so many at a time.
fn words(issuing: &Issuing, batch: &str) -> Vec<String> {
    let credential = issuing.folder.path().join("credential");
    let credential = credential.to_str().unwrap();
    [
        "--issuer",
        &issuing.url,
        "--credential",
        credential,
        "--token-batch",
        batch,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn start(server: &Server, words: &[String]) -> Proxy {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Proxy::start(&server.url(), &words)
}

/// No token among those that came to the gate is there twice; how many there are, and how many requests were let in.
fn spent_once(shown: &[Shown]) -> (usize, usize) {
    let tokens: Vec<&[u8]> = shown
        .iter()
        .map(|shown| &shown.field[..])
        .filter(|field| !field.is_empty())
        .collect();
    let different: HashSet<&[u8]> = tokens.iter().copied().collect();
    assert_eq!(different.len(), tokens.len(), "a token came twice");
    let let_in = shown.iter().filter(|shown| shown.outcome.is_ok()).count();
    (tokens.len(), let_in)
}

fn outcomes(shown: &[Shown]) -> Vec<Result<(), Refusal>> {
    shown.iter().map(|shown| shown.outcome).collect()
}

#[test]
fn each_request_has_a_token_whole_and_streamed() {
    let (issuing, server) = (Issuing::start(100), gated());
    let proxy = start(&server, &words(&issuing, "6"));
    for (turn, stream) in [true, false, true, false].into_iter().enumerate() {
        let answer = proxy.post(CHAT, &ask("good day", stream));
        assert_eq!(answer.status, 200, "{turn}: {}", answer.body);
        if stream {
            assert_eq!(said(&answer.body), "You said: good day");
        }
    }
    assert_eq!(proxy.get("/v1/models").status, 200, "that makes no work");
    let shown = server.shown();
    assert_eq!(outcomes(&shown)[0], Err(Refusal::Missing));
    assert_eq!(spent_once(&shown), (4, 4));
    // Six at first, and six more in advance when fewer than three were left.
    wait_until(|| issuing.outcomes().len() == 12);
    let answer = proxy.post(CHAT, &ask("hi", false));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(outcomes(&server.shown()), [Ok(())]);
    assert_eq!(issuing.outcomes().len(), 12);
}

#[test]
fn many_at_once_and_new_keys_and_no_token_comes_twice() {
    let (issuing, server) = (Issuing::start(1000), gated());
    let proxy = start(&server, &words(&issuing, "8"));
    for round in 0..3 {
        thread::scope(|scope| {
            for number in 0..12 {
                let proxy = &proxy;
                scope.spawn(move || {
                    let answer = proxy.post(CHAT, &ask("hello", number % 2 == 0));
                    assert_eq!(answer.status, 200, "{round}: {}", answer.body);
                });
            }
        });
        // What is sealed to the old keys is sealed once more, token included.
        server.rotate();
    }
    let answer = proxy.post(CHAT, &ask("hello", false));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(server.looks() >= 2, "keys were renewed");
    let (tokens, let_in) = spent_once(&server.shown());
    assert_eq!(
        (tokens, let_in),
        (37, 37),
        "none was refused, none was lost"
    );
}

#[test]
fn a_renewed_key_costs_no_token() {
    let (issuing, server) = (Issuing::start(100), gated());
    let wallet = issuing.folder.path().join("wallet");
    let mut words = words(&issuing, "2");
    words.extend(["--tokens".to_owned(), wallet.to_str().unwrap().to_owned()]);
    let proxy = start(&server, &words);
    assert_eq!(proxy.post(CHAT, &ask("one", false)).status, 200);
    for stream in [false, true] {
        let left = || Wallet::new(&wallet).count(0).unwrap();
        // The one that is fetched in advance, too.
        wait_until(|| left() >= 1);
        server.rotate();
        server.shown();
        let before = issuing.outcomes().len();
        let (had, answer) = (left(), proxy.post(CHAT, &ask("two", stream)));
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(outcomes(&server.shown()), [Ok(())], "it came once");
        wait_until(|| left() + 1 == had + issuing.outcomes().len() - before);
    }
    assert_eq!(proxy.0.terminate().0.code(), Some(0));
}

#[test]
fn a_server_that_starts_again_gets_new_tokens() {
    let (issuing, server) = (Issuing::start(100), gated());
    let proxy = start(&server, &words(&issuing, "4"));
    assert_eq!(proxy.post(CHAT, &ask("one", false)).status, 200);
    server.shown();
    server.demand_tokens(named());
    for stream in [true, false] {
        assert_eq!(proxy.post(CHAT, &ask("two", stream)).status, 200);
    }
    let shown = server.shown();
    assert_eq!(
        outcomes(&shown),
        [Err(Refusal::OtherChallenge), Ok(()), Ok(())]
    );
    spent_once(&shown);
}

/// A token of a request that nothing was sent of is kept, for the next start too.
#[test]
fn a_server_out_of_reach_costs_no_token() {
    let (issuing, server) = (Issuing::start(3), gated());
    let path = issuing.folder.path().join("wallet");
    let path = path.to_str().unwrap();
    let mut all = words(&issuing, "3");
    all.extend(["--tokens", path].map(str::to_owned));
    let proxy = start(&server, &all);
    assert_eq!(proxy.post(CHAT, &ask("one", false)).status, 200);
    let wallet = Wallet::new(path.as_ref());
    assert_eq!(wallet.count(0).unwrap(), 2);
    assert_eq!(proxy.0.terminate().0.code(), Some(0));

    // The evidence comes, and requests go to a port where nobody listens.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let nobody = format!("http://{}", port.unwrap());
    let words = ["--relay", &nobody, "--evidence-direct", "--tokens", path];
    let proxy = Proxy::start(&server.url(), &words);
    for stream in [false, true, false] {
        let answer = proxy.post(CHAT, &ask("two", stream));
        assert_eq!(
            (answer.status, answer.error("code").as_str()),
            (502, "unreachable")
        );
    }
    assert_eq!(proxy.0.terminate().0.code(), Some(0));
    assert_eq!(wallet.count(0).unwrap(), 2, "both are there");

    let proxy = Proxy::start(&server.url(), &["--tokens", path]);
    server.shown();
    assert_eq!(proxy.post(CHAT, &ask("three", false)).status, 200);
    assert_eq!(outcomes(&server.shown()), [Ok(())]);
}

#[test]
fn without_tokens_programs_are_told_what_to_do() {
    let (issuing, server) = (Issuing::start(2), gated());
    let proxy = Proxy::start(&server.url(), &[]);
    for stream in [false, true] {
        let answer = proxy.post(CHAT, &ask("hi", stream));
        assert_eq!(
            (answer.status, answer.error("code").as_str()),
            (502, "tokens")
        );
        let words = answer.error("message");
        assert!(words.contains("--issuer and --credential"), "{words}");
        assert!(
            words.contains("issuer.example for cloister.example"),
            "{words}"
        );
    }
    assert_eq!(outcomes(&server.shown())[0], Err(Refusal::Missing));
    // Until the quota is used up.
    let proxy = start(&server, &words(&issuing, "2"));
    for _ in 0..2 {
        assert_eq!(proxy.post(CHAT, &ask("hi", false)).status, 200);
    }
    wait_until(|| issuing.outcomes().len() == 3);
    let answer = proxy.post(CHAT, &ask("hi", false));
    assert_eq!(answer.status, 502, "{}", answer.body);
    assert!(answer.error("message").contains("quota"), "{}", answer.body);
    let (status, said) = proxy.0.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(said.contains("no-more-tokens"), "{said}");
}
