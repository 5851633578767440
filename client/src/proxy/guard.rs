//! Who may ask: programs on this machine, and no page of a browser that was led here.
//!
//! A page from elsewhere can have a browser send requests to this address, and a name that resolves to it (DNS rebinding)
//! makes their answers readable. So a request must name this machine in `host`, must not come from a page of another
//! origin, and must be JSON, which a page cannot send elsewhere unasked.

use std::net::IpAddr;

use cloister_protocol::api::media;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::{Method, Request};

use super::failure::Failure;

/// What is asked of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    /// Names of this machine beside those of the loopback interface.
    pub(super) hosts: Vec<String>,
    /// The key that requests must have, if any.
    pub(super) api_key: Option<String>,
}

impl Guard {
    /// Judges a request by its head.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Failure> {
        let headers = request.headers();
        if !one(headers, HOST).is_some_and(|host| self.is_here(host)) {
            return Err(Failure::request(
                403,
                "host",
                "the request is for another host than this machine; name it with --host to take it",
            ));
        }
        if headers.contains_key(ORIGIN)
            && !one(headers, ORIGIN).is_some_and(|it| self.is_origin(it))
        {
            return Err(Failure::request(
                403,
                "origin",
                "the request is from a page of another origin",
            ));
        }
        self.check_key(headers)?;
        let is_json = one(headers, CONTENT_TYPE)
            .is_some_and(|found| media::is(found.as_bytes(), media::JSON));
        if request.method() == Method::POST && !is_json {
            return Err(Failure::request(
                415,
                "content_type",
                "the content must be application/json",
            ));
        }
        Ok(())
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let Some(key) = &self.api_key else {
            return Ok(());
        };
        let given = one(headers, AUTHORIZATION)
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key.trim());
        match given {
            Some(given) if is_same(given.as_bytes(), key.as_bytes()) => Ok(()),
            _ => Err(Failure::request(
                401,
                "invalid_api_key",
                "the API key is missing or not that of this proxy (--api-key)",
            )),
        }
    }

    fn is_origin(&self, origin: &str) -> bool {
        let rest = origin
            .strip_prefix("http://")
            .or(origin.strip_prefix("https://"));
        rest.is_some_and(|host| self.is_here(host))
    }

    /// Whether `HOST[:PORT]` is this machine.
    fn is_here(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.trim_end_matches('.');
        let address = name.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
        is_loopback
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| {
                known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(address)
            })
    }
}

/// The value of a field that is there once.
fn one(headers: &HeaderMap, name: hyper::header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none());
    value.map(HeaderValue::to_str)?.ok()
}

/// In a time that depends on the lengths only.
fn is_same(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |all, (a, b)| all | (a ^ b));
    left.len() == right.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, fields: &[(&'static str, &str)]) -> Result<(), String> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        for (name, value) in fields {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let outcome = guard.check(&request);
        outcome.map_err(|failure| {
            failure.document()["error"]["code"]
                .as_str()
                .unwrap()
                .to_owned()
        })
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn this_machine_goes_by_these_names() {
        let guard = Guard {
            hosts: vec!["box.local".to_owned(), "192.168.1.5".to_owned()],
            ..Guard::default()
        };
        for host in [
            "localhost",
            "LocalHost:8000",
            "localhost.:8000",
            "127.0.0.1:8000",
            "127.0.0.9",
            "[::1]:8000",
            "[::1]",
            "box.local:8000",
            "192.168.1.5:8000",
        ] {
            assert_eq!(check(&guard, &[("host", host), JSON]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "0.0.0.0:8000",
            "192.168.1.6",
            "[::2]:8000",
            "",
        ] {
            assert_eq!(
                check(&guard, &[("host", host), JSON]),
                Err("host".to_owned()),
                "{host}"
            );
        }
        assert_eq!(check(&guard, &[JSON]), Err("host".to_owned()));
        let twice = [("host", "localhost"), ("host", "evil.example"), JSON];
        assert_eq!(check(&guard, &twice), Err("host".to_owned()));
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let guard = Guard::default();
        let with = |origin| check(&guard, &[("host", "localhost"), ("origin", origin), JSON]);
        assert_eq!(with("http://localhost:3000"), Ok(()));
        assert_eq!(with("http://127.0.0.1:8000"), Ok(()));
        for origin in [
            "https://evil.example",
            "null",
            "file://",
            "http://localhost@evil.example",
        ] {
            assert_eq!(with(origin), Err("origin".to_owned()), "{origin}");
        }
    }

    #[test]
    fn a_form_of_a_page_is_refused() {
        let guard = Guard::default();
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
        ] {
            let outcome = check(&guard, &[("host", "localhost"), ("content-type", kind)]);
            assert_eq!(outcome, Err("content_type".to_owned()));
        }
    }

    #[test]
    fn the_key_must_be_the_key() {
        let guard = Guard {
            api_key: Some("secret".to_owned()),
            ..Guard::default()
        };
        let with = |value| {
            check(
                &guard,
                &[("host", "localhost"), ("authorization", value), JSON],
            )
        };
        assert_eq!(with("Bearer secret"), Ok(()));
        for value in [
            "Bearer secre",
            "Bearer secret1",
            "Bearer ",
            "Basic secret",
            "secret",
        ] {
            assert_eq!(with(value), Err("invalid_api_key".to_owned()), "{value}");
        }
        let none = check(&guard, &[("host", "localhost"), JSON]);
        assert_eq!(none, Err("invalid_api_key".to_owned()));
    }
}
