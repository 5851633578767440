use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Request;

use super::*;

fn reason(url: &str) -> String {
    url.parse::<Origin>().unwrap_err().to_string()
}

#[test]
fn addresses_are_checked() {
    for (url, word) in [
        ("10.0.0.7:8080", "scheme"),
        ("ftp://h", "scheme"),
        ("http://h/?q=1", "query"),
        ("http://ana@h", "user"),
        ("http://", "empty"),
        ("", "empty"),
    ] {
        let text = reason(url);
        assert!(
            text.contains(word) && text.contains("http://HOST"),
            "{text}"
        );
    }
}

#[test]
fn a_path_is_kept_unless_it_is_none() {
    for (url, path, shown) in [
        ("http://h", None, "http://h"),
        ("http://h:81/", None, "http://h:81"),
        ("https://h:8443/", None, "https://h:8443"),
        ("https://h/gateway", Some("/gateway"), "https://h/gateway"),
        (
            "http://[::1]:8080/gateway",
            Some("/gateway"),
            "http://[::1]:8080/gateway",
        ),
    ] {
        let origin: Origin = url.parse().unwrap();
        assert_eq!(origin.path(), path);
        assert_eq!(origin.to_string(), shown);
    }
    let six: Origin = "http://[::1]:8080".parse().unwrap();
    assert_eq!(six.authority(), "[::1]:8080");
}

#[test]
fn a_close_that_the_connection_has_not_heard_of_costs_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (close, may_close) = mpsc::channel();
    let (say_closed, closed) = mpsc::channel();
    let server = thread::spawn(move || {
        // One request each, though the answers promise more.
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nworld";
            stream.write_all(answer).unwrap();
            may_close.recv().unwrap();
            drop(stream);
            say_closed.send(()).unwrap();
        }
    });
    let long = Duration::from_secs(10);
    let limits = PoolLimits {
        requests: 1,
        queue_timeout: long,
        connect_timeout: long,
        answer_timeout: long,
        idle_timeout: long,
    };
    let pool = Pool::new(url.parse().unwrap(), limits);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for _ in 0..2 {
            let content = Empty::new().map_err(|never: Infallible| match never {});
            let request = Request::get("/").body(content.boxed_unsync()).unwrap();
            let (answer, lease) = pool.send(request, None, &()).await.unwrap();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, "world");
            lease.give_back();
            // The connection's task waits for more, and cannot run while its only thread waits here.
            tokio::time::sleep(Duration::from_millis(20)).await;
            close.send(()).unwrap();
            closed.recv().unwrap();
        }
    });
    server.join().unwrap();
}
