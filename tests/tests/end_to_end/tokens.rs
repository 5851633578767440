//! An image that names a token issuer, in an emulated machine: who has a token is served, once for each.

use cloister_client::ClientError;
use cloister_client::issuer::{self, Admission, Denied, Issuer};
use cloister_client::tokens::{IssuerClient, Purse, Wallet};
use cloister_client::witness::Stop;
use cloister_protocol::api::problem::{Problem, TOKEN_INVALID, TOKEN_SPENT};
use cloister_protocol::api::summarize::{Message, Request, Style};
use cloister_protocol::api::{media, paths};
use cloister_protocol::bhttp;
use cloister_tests::guests::{ANSWER_TIMEOUT, boot, client, image_with_tokens, metric, options};
use cloister_tests::sealed::ask;
use cloister_tokens::field::{read_offers, write_token};
use cloister_tokens::issuer::IssuerKey;
use cloister_tokens::{Token, origin};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use std::net::TcpListener;

/// Lets everybody in.
struct Everybody;

impl Admission for Everybody {
    fn admit(&mut self, _: Option<&str>, _: u64) -> Result<String, Denied> {
        Ok("somebody".to_owned())
    }
}

fn request() -> Request {
    Request {
        messages: vec![Message::new("Ana", "The launch moves to Thursday.")],
        style: Style::Headline,
        max_tokens: Some(4),
    }
}

fn message(token: Option<&Token>, json: &[u8]) -> Vec<u8> {
    let message =
        bhttp::Request::new("POST", paths::SUMMARIZE).with_content(media::JSON, json.to_vec());
    let message = message.and_then(|message| match token {
        Some(token) => message.with_header("authorization", write_token(token)),
        None => Ok(message),
    });
    message
        .expect("fields")
        .encode_padded()
        .expect("it fits")
        .to_vec()
}

#[test]
fn an_image_that_names_an_issuer_serves_a_token_once() {
    let key = IssuerKey::generate(&mut UnwrapErr(SysRng)).expect("a key");
    let named = origin::Issuer {
        name: "issuer.example".to_owned(),
        token_key: key.public().clone(),
        origin_info: "cloister.example".to_owned(),
    };
    let image = image_with_tokens(named);
    assert!(image.facts().token_issuer.is_some());
    let guest = boot(&options(&image));

    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let stop = Stop::new();
    let until = stop.clone();
    let serving = std::thread::spawn(move || {
        let issuer = Issuer {
            keys: vec![key],
            admission: Everybody,
        };
        issuer::serve(listener, issuer, &until, |_| {})
    });
    let issuer = || IssuerClient::new(&url, "anything", ANSWER_TIMEOUT).expect("an address");

    // Without a token nothing is done, and who has no issuer is told.
    let error = client(&guest.url())
        .summarize(&request())
        .expect_err("no token");
    assert!(matches!(error, ClientError::Tokens(_)), "{error}");
    assert_eq!(metric(guest.port(), "cloister_jobs_queued_total"), 0);
    client(&guest.url())
        .models()
        .expect("what makes no work needs none");

    // A client with an issuer and a wallet.
    let folder = tempfile::tempdir().expect("a folder");
    let wallet = Wallet::new(&folder.path().join("wallet"));
    let paying =
        client(&guest.url()).with_tokens(Purse::new(Some(wallet.clone()), Some(issuer()), 3));
    paying.summarize(&request()).expect("a summary");
    paying.summarize(&request()).expect("another");
    assert_eq!(wallet.count(0).expect("read"), 1);
    assert_eq!(metric(guest.port(), "cloister_jobs_queued_total"), 2);

    // A stream without a token at hand gets one, too.
    let streaming = client(&guest.url()).with_tokens(Purse::new(None, Some(issuer()), 1));
    let mut stream = streaming.summarize_streamed(&request()).expect("a stream");
    for piece in &mut stream {
        piece.expect("a piece");
    }
    stream.finish().expect("its end");
    assert_eq!(metric(guest.port(), "cloister_jobs_queued_total"), 3);

    // By hand: altered, then a bad request, then good, then once more.
    let json = request().to_json();
    let refusal = ask(guest.port(), &message(None, &json));
    assert_eq!(refusal.status, 401);
    let offers = read_offers(refusal.field("www-authenticate").expect("a challenge"));
    let token = issuer()
        .fetch(&offers.expect("a challenge")[0], 1)
        .expect("a token")
        .remove(0);
    let mut altered = token.clone();
    altered.authenticator[100] ^= 1;
    let kind =
        |answer: &bhttp::Response| Problem::from_json(&answer.content).expect("a problem").kind;
    let answer = ask(guest.port(), &message(Some(&altered), &json));
    assert_eq!(
        (answer.status, kind(&answer).as_str()),
        (401, TOKEN_INVALID)
    );
    assert_eq!(ask(guest.port(), &message(Some(&token), b"{}")).status, 422);
    assert_eq!(ask(guest.port(), &message(Some(&token), &json)).status, 200);
    let answer = ask(guest.port(), &message(Some(&token), &json));
    assert_eq!((answer.status, kind(&answer).as_str()), (401, TOKEN_SPENT));
    assert_eq!(metric(guest.port(), "cloister_jobs_queued_total"), 4);

    stop.stop();
    serving.join().expect("no panic").expect("it served");
}
