//! The examples of RFC 9292, section 5, and what is refused.

use super::*;
use crate::testing::{hex, mutate};

/// Section 5.1, known length.
const REQUEST_KNOWN: &str = "
    00034745 54056874 74707300 0a2f6865 6c6c6f2e 74787440 6c0a7573 65722d61 67656e74 34637572 6c2f372e 31362e33
    206c6962 6375726c 2f372e31 362e3320 4f70656e 53534c2f 302e392e 376c207a 6c69622f 312e322e 3304686f 73740f77
    77772e65 78616d70 6c652e63 6f6d0f61 63636570 742d6c61 6e677561 67650665 6e2c206d 690000";

/// Section 5.1, indeterminate length, with ten bytes of padding.
const REQUEST_INDETERMINATE: &str = "
    02034745 54056874 74707300 0a2f6865 6c6c6f2e 7478740a 75736572 2d616765 6e743463 75726c2f 372e3136 2e33206c
    69626375 726c2f37 2e31362e 33204f70 656e5353 4c2f302e 392e376c 207a6c69 622f312e 322e3304 686f7374 0f777777
    2e657861 6d706c65 2e636f6d 0f616363 6570742d 6c616e67 75616765 06656e2c 206d6900 00000000 00000000 00000000";

/// Section 5.2, with informational responses.
const RESPONSE_INDETERMINATE: &str = "
    03406607 72756e6e 696e670a 22736c65 65702031 35220040 67046c69 6e6b233c 2f737479 6c652e63 73733e3b 2072656c
    3d707265 6c6f6164 3b206173 3d737479 6c65046c 696e6b24 3c2f7363 72697074 2e6a733e 3b207265 6c3d7072 656c6f61
    643b2061 733d7363 72697074 0040c804 64617465 1d4d6f6e 2c203237 204a756c 20323030 39203132 3a32383a 35332047
    4d540673 65727665 72064170 61636865 0d6c6173 742d6d6f 64696669 65641d57 65642c20 3232204a 756c2032 30303920
    31393a31 353a3536 20474d54 04657461 67142233 34616133 38372d64 2d313536 38656230 30220d61 63636570 742d7261
    6e676573 05627974 65730e63 6f6e7465 6e742d6c 656e6774 68023531 04766172 790f4163 63657074 2d456e63 6f64696e
    670c636f 6e74656e 742d7479 70650a74 6578742f 706c6169 6e003348 656c6c6f 20576f72 6c642120 4d792063 6f6e7465
    6e742069 6e636c75 64657320 61207472 61696c69 6e672043 524c462e 0d0a0000";

/// Section 5.2, known length, with a trailer.
const RESPONSE_KNOWN: &str = "
    0140c800 1d546869 7320636f 6e74656e 7420636f 6e746169 6e732043 524c462e 0d0a0d07 74726169 6c657204 74657874";

fn request(bytes: &[u8]) -> Result<Request, BhttpError> {
    Request::decode(bytes, &Limits::DEFAULT)
}

fn response(bytes: &[u8]) -> Result<Response, BhttpError> {
    Response::decode(bytes, &Limits::DEFAULT)
}

fn example_request() -> Request {
    let agent = "curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3";
    let request = Request::new("GET", "/hello.txt")
        .with_header("User-Agent", agent)
        .unwrap();
    request
        .with_header("Host", "www.example.com")
        .unwrap()
        .with_header("Accept-Language", "en, mi")
        .unwrap()
}

#[test]
fn known_length_request_of_the_specification() {
    let encoded = hex(REQUEST_KNOWN);
    assert_eq!(request(&encoded), Ok(example_request()));
    assert_eq!(example_request().encode().unwrap()[..], encoded);
}

#[test]
fn indeterminate_length_request_of_the_specification() {
    assert_eq!(request(&hex(REQUEST_INDETERMINATE)), Ok(example_request()));
}

#[test]
fn a_message_may_lose_its_empty_end_and_nothing_else() {
    for (encoded, removable) in [(hex(REQUEST_KNOWN), 2), (hex(REQUEST_INDETERMINATE), 12)] {
        for length in 0..encoded.len() {
            let decoded = request(&encoded[..length]);
            if length + removable >= encoded.len() {
                assert_eq!(decoded, Ok(example_request()));
            } else if length == 23 {
                // Before the header section: a request without fields, as in RFC 9458, appendix A.
                assert_eq!(decoded, Ok(Request::new("GET", "/hello.txt")));
            } else {
                assert_eq!(decoded, Err(BhttpError::Truncated), "{length}");
            }
        }
    }
}

#[test]
fn indeterminate_length_response_of_the_specification() {
    let decoded = response(&hex(RESPONSE_INDETERMINATE)).unwrap();
    assert_eq!(decoded.status, 200);
    assert_eq!(
        &decoded.content[..],
        b"Hello World! My content includes a trailing CRLF.\r\n"
    );
    assert_eq!(decoded.field("Content-Type"), Some(&b"text/plain"[..]));
    assert_eq!(decoded.header.len(), 8);
    let [processing, hints] = &decoded.informational[..] else {
        panic!("two informational responses")
    };
    assert_eq!(
        (processing.status, processing.header[0].value()),
        (102, &b"\"sleep 15\""[..])
    );
    assert_eq!(
        (hints.status, hints.header.len(), hints.header[1].name()),
        (103, 2, "link")
    );
    // Through our own known-length form and back.
    assert_eq!(response(&decoded.encode().unwrap()), Ok(decoded));
}

#[test]
fn known_length_response_of_the_specification() {
    let encoded = hex(RESPONSE_KNOWN);
    let mut expected = Response::new(200);
    expected
        .content
        .extend_from_slice(b"This content contains CRLF.\r\n");
    expected
        .trailer
        .push(Field::new("trailer", "text").unwrap());
    assert_eq!(response(&encoded), Ok(expected.clone()));
    assert_eq!(expected.encode().unwrap()[..], encoded);
}

#[test]
fn the_messages_of_rfc_9458() {
    let decoded = request(&hex("00034745540568747470730b6578616d706c652e636f6d012f")).unwrap();
    assert_eq!(
        (decoded.authority.as_str(), decoded.path.as_str()),
        ("example.com", "/")
    );
    assert_eq!(response(&hex("0140c8")), Ok(Response::new(200)));
}

#[test]
fn padded_messages_fill_their_bucket_and_decode_the_same() {
    let message = Request::new("POST", "/v1/summarize")
        .with_content("application/json", vec![b' '; 1000])
        .unwrap();
    let padded = message.encode_padded().unwrap();
    assert_eq!(padded.len(), 2048);
    assert_eq!(request(&padded), Ok(message));
    let message = Response::new(200)
        .with_content("text/plain", vec![0; 300])
        .unwrap();
    assert_eq!(response(&message.encode_padded().unwrap()), Ok(message));
}

#[test]
fn a_message_above_the_largest_bucket_cannot_be_padded() {
    let message = Request::new("POST", "/")
        .with_content("text/plain", vec![b'x'; 300 << 10])
        .unwrap();
    assert!(matches!(
        message.encode_padded(),
        Err(EncodeError::Padding(_))
    ));
}

#[test]
fn padding_is_zero_to_the_last_byte() {
    let mut padded = example_request().encode_padded().unwrap();
    let end = example_request().encode().unwrap().len();
    for at in end..padded.len() {
        padded[at] = 1;
        assert_eq!(request(&padded), Err(BhttpError::Padding));
        padded[at] = 0;
    }
}

#[test]
fn a_request_is_no_response() {
    assert_eq!(
        response(&hex(REQUEST_KNOWN)),
        Err(BhttpError::Framing { found: 0 })
    );
    assert_eq!(
        request(&hex(RESPONSE_KNOWN)),
        Err(BhttpError::Framing { found: 1 })
    );
    assert_eq!(request(&[4]), Err(BhttpError::Framing { found: 4 }));
    // A longer form of the same number.
    assert_eq!(
        request(&[&[0x40, 0][..], &hex(REQUEST_KNOWN)[1..]].concat()),
        Ok(example_request())
    );
}

#[test]
fn status_codes_are_those_of_http() {
    for (encoded, found) in [
        ("01 4063", 99),
        ("01 4258", 600),
        ("01 00", 0),
        ("01 ffffffffffffffff", (1 << 62) - 1),
    ] {
        assert_eq!(response(&hex(encoded)), Err(BhttpError::Status { found }));
    }
    assert_eq!(response(&hex("01 4257")).unwrap().status, 599);
    assert_eq!(
        Response::new(100).encode(),
        Err(BhttpError::Status { found: 100 })
    );
    assert_eq!(
        Response::new(600).encode(),
        Err(BhttpError::Status { found: 600 })
    );
    let mut informational = Response::new(200);
    informational.informational.push(Informational {
        status: 200,
        header: Vec::new(),
    });
    assert_eq!(
        informational.encode(),
        Err(BhttpError::Status { found: 200 })
    );
}

#[test]
fn informational_responses_need_a_final_one() {
    assert_eq!(response(&hex("01 4064 00")), Err(BhttpError::Truncated));
    assert_eq!(response(&hex("01 4064")), Err(BhttpError::Truncated));
}

#[test]
fn control_data_is_checked_on_both_sides() {
    let with = |change: fn(&mut Request)| {
        let mut request = Request::new("GET", "/");
        change(&mut request);
        request.encode().map(drop)
    };
    assert_eq!(
        with(|request| request.method = "GE T".into()),
        Err(BhttpError::Method)
    );
    assert_eq!(
        with(|request| request.method.clear()),
        Err(BhttpError::Method)
    );
    assert_eq!(
        with(|request| request.scheme = "1http".into()),
        Err(BhttpError::Scheme)
    );
    assert_eq!(
        with(|request| request.authority = "user@host".into()),
        Err(BhttpError::Authority)
    );
    assert_eq!(
        with(|request| request.authority = "host/".into()),
        Err(BhttpError::Authority)
    );
    assert_eq!(
        with(|request| request.path = "hello".into()),
        Err(BhttpError::Path)
    );
    assert_eq!(
        with(|request| request.path = "/a b".into()),
        Err(BhttpError::Path)
    );
    assert_eq!(
        with(|request| request.path = "/a#b".into()),
        Err(BhttpError::Path)
    );
    assert_eq!(with(|request| request.path = "*".into()), Ok(()));
    assert_eq!(
        request(&hex("00 03474554 056874747073 00 022fff")),
        Err(BhttpError::Path)
    );
    assert_eq!(
        request(&hex("00 03470a54 056874747073 00 012f")),
        Err(BhttpError::Method)
    );
}

#[test]
fn fields_are_checked_on_both_sides() {
    for name in ["", "a b", "a:b", ":path", "é", "a\0"] {
        assert_eq!(
            Field::new(name, "x"),
            Err(BhttpError::FieldName),
            "{name:?}"
        );
    }
    for value in ["a\rb", "a\nb", "a\0b", " a", "a\t"] {
        assert_eq!(
            Field::new("name", value),
            Err(BhttpError::FieldValue),
            "{value:?}"
        );
    }
    assert_eq!(Field::new("Name", "ä, b\tc").unwrap().name(), "name");
    assert_eq!(
        response(&hex("01 40c8 04 023a61 00")),
        Err(BhttpError::FieldName)
    );
    assert_eq!(
        response(&hex("01 40c8 05 0161 02200a")),
        Err(BhttpError::FieldValue)
    );
    assert_eq!(
        response(&hex("01 40c8 02 00 00")),
        Err(BhttpError::FieldName),
        "a name has at least one byte"
    );
}

#[test]
fn indeterminate_content_is_joined() {
    let decoded = response(&hex("03 40c8 00 026162 0163 00 00")).unwrap();
    assert_eq!(&decoded.content[..], b"abc");
    assert_eq!(
        response(&hex("03 40c8 00 026162 0163")),
        Err(BhttpError::Truncated)
    );
}

#[test]
fn limits_hold() {
    let limits = Limits {
        message_bytes: 64,
        control_bytes: 10,
        fields: 2,
        field_bytes: 6,
        informational: 1,
        content_chunks: 2,
    };
    let request = |text: &str| Request::decode(&hex(text), &limits).map(drop);
    let response = |text: &str| Response::decode(&hex(text), &limits).map(drop);
    assert_eq!(
        request(&"00".repeat(65)),
        Err(BhttpError::Over(Limit::MessageBytes))
    );
    assert_eq!(request("00 03474554 056874747073 00 022f2f"), Ok(()));
    assert_eq!(
        request("00 03474554 056874747073 00 032f2f2f"),
        Err(BhttpError::Over(Limit::ControlBytes))
    );
    assert_eq!(response("01 40c8 06 016100 016200"), Ok(()));
    assert_eq!(
        response("01 40c8 09 016100 016200 016300"),
        Err(BhttpError::Over(Limit::Fields))
    );
    assert_eq!(
        response("01 40c8 06 016100 016200 00 03 016300"),
        Err(BhttpError::Over(Limit::Fields))
    );
    assert_eq!(
        response("01 40c8 09 0161 0661616161 6161"),
        Err(BhttpError::Over(Limit::FieldBytes))
    );
    assert_eq!(response("01 4064 00 40c8"), Ok(()));
    assert_eq!(
        response("01 4064 00 4064 00 40c8"),
        Err(BhttpError::Over(Limit::Informational))
    );
    assert_eq!(response("03 40c8 00 0161 0161 00"), Ok(()));
    assert_eq!(
        response("03 40c8 00 0161 0161 0161 00"),
        Err(BhttpError::Over(Limit::ContentChunks))
    );
}

#[test]
fn lengths_beyond_the_end_are_truncation() {
    assert_eq!(request(&[0, 1]), Err(BhttpError::Truncated));
    assert_eq!(
        request(&[&[0][..], &[0xff; 8]].concat()),
        Err(BhttpError::Truncated)
    );
    assert_eq!(
        response(&hex("01 40c8 00 bfffffff")),
        Err(BhttpError::Truncated)
    );
}

#[test]
fn debug_output_has_no_content() {
    let request = Request::new("POST", "/p")
        .with_content("text/plain", b"secret".to_vec())
        .unwrap();
    assert_eq!(format!("{request:?}"), "POST /p, 6 bytes");
    assert_eq!(format!("{:?}", request.header[0]), "content-type: 10 bytes");
}

#[test]
fn random_alterations_never_panic_and_what_passes_encodes_again() {
    for example in [
        REQUEST_KNOWN,
        REQUEST_INDETERMINATE,
        RESPONSE_KNOWN,
        RESPONSE_INDETERMINATE,
    ] {
        mutate(&hex(example), 3000, |altered| {
            if let Ok(decoded) = request(altered) {
                assert_eq!(request(&decoded.encode().unwrap()), Ok(decoded));
            }
            if let Ok(decoded) = response(altered) {
                assert_eq!(response(&decoded.encode().unwrap()), Ok(decoded));
            }
        });
    }
}
