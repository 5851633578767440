//! Documents and the mapping of errors to them.

use super::*;

#[test]
fn an_unknown_key_is_answered_as_rfc_9458_says() {
    let problem = Problem::from(OhttpError::UnknownKey { key_id: 9 });
    assert_eq!(problem.status, 400);
    assert_eq!(
        problem.kind,
        "https://iana.org/assignments/http-problem-types#ohttp-key"
    );
    assert!(problem.is_key_problem());
    assert!(Problem::from(OhttpError::Unopenable).is_key_problem());
    assert!(!Problem::from(OhttpError::Truncated).is_key_problem());
}

/// Outside the encapsulation only these statuses appear.
#[test]
fn outer_statuses_are_those_of_the_design() {
    use OhttpError as E;
    for (error, status) in [
        (E::Truncated, 400),
        (E::UnknownKey { key_id: 1 }, 400),
        (E::UnsupportedSuite { key_id: 1 }, 400),
        (E::InvalidKey, 400),
        (E::Unopenable, 422),
        (E::ChunkTooLarge, 413),
        (E::EmptyChunk, 400),
        (E::TooManyChunks, 413),
    ] {
        let problem = Problem::from(error);
        assert_eq!(problem.status, status);
        assert_eq!(problem.detail, Some(error.to_string()));
    }
}

#[test]
fn documents_go_there_and_back() {
    let problem = Problem::from_status(503).with_detail("no model");
    let text =
        r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"no model"}"#;
    assert_eq!(String::from_utf8(problem.to_json()).unwrap(), text);
    assert_eq!(Problem::from_json(text.as_bytes()), Ok(problem));
}

/// All members are optional (RFC 9457, section 3.1), and a gateway of another make may answer.
#[test]
fn foreign_documents_are_read() {
    let text = br#"{"type":"https://iana.org/assignments/http-problem-types#ohttp-key","title":"key identifier unknown","x":[]}"#;
    let problem = Problem::from_json(text).unwrap();
    assert!(problem.is_key_problem());
    assert_eq!(
        (problem.title.as_str(), problem.status),
        ("key identifier unknown", 0)
    );
    assert_eq!(Problem::from_json(b"{}").unwrap().kind, BLANK);
    assert!(Problem::from_json(b"[").is_err());
}

#[test]
fn messages_over_a_limit_are_too_large() {
    assert_eq!(
        Problem::from(BhttpError::Over(crate::bhttp::Limit::Fields)).status,
        413
    );
    assert_eq!(Problem::from(BhttpError::Truncated).status, 400);
}

#[test]
fn every_status_of_the_service_has_a_title() {
    for status in [400, 404, 405, 408, 413, 415, 422, 429, 431, 500, 503] {
        assert_ne!(Problem::from_status(status).title, "Error", "{status}");
    }
}
