//! Streams between our own client and gateway: cut, reordered, altered, at the limits.

use super::*;
use crate::keyconfig::{Aead, Kem, KeyConfig, Suite, decode_list};
use crate::ohttp::{Client, Gateway};
use crate::testing::{TestRng, mutate};
use futures::executor::block_on;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

fn config(gateway: &Gateway, kem: Kem) -> KeyConfig {
    let list = decode_list(&gateway.key_configs()).unwrap();
    list.configs()
        .iter()
        .find(|config| config.kem() == kem)
        .unwrap()
        .clone()
}

/// A gateway, the pieces of a request (header, chunks, final chunk), and what opens the response.
fn request(kem: Kem) -> (Gateway, Vec<Vec<u8>>, ResponseOpener) {
    let mut rng = TestRng(1);
    let gateway = Gateway::generate(&mut rng);
    let client = Client::new(&config(&gateway, kem));
    let (header, mut sealer) = client.start_chunked(&mut rng).unwrap();
    let mut pieces = vec![header];
    for content in [&b"one"[..], b"two", b"three"] {
        pieces.push(sealer.seal(content).unwrap());
    }
    let (last, opener) = sealer.finish(b"four").unwrap();
    pieces.push(last);
    (gateway, pieces, opener)
}

/// All content of a request stream that arrives in parts of `step` bytes.
fn open(
    gateway: &Gateway,
    stream: &[u8],
    step: usize,
) -> Result<(Vec<u8>, ResponseKey), OhttpError> {
    let (mut opener, used) = gateway.start_chunked(stream)?;
    let mut content = Vec::new();
    for part in stream[used..].chunks(step) {
        opener
            .push(part)?
            .iter()
            .for_each(|chunk| content.extend_from_slice(chunk));
    }
    let (last, key) = opener.finish()?;
    content.extend_from_slice(&last);
    Ok((content, key))
}

/// All content of a response stream that arrives in parts of `step` bytes.
fn open_response(
    mut opener: ResponseOpener,
    stream: &[u8],
    step: usize,
) -> Result<Vec<u8>, OhttpError> {
    let mut content = Vec::new();
    for part in stream.chunks(step) {
        opener
            .push(part)?
            .iter()
            .for_each(|chunk| content.extend_from_slice(chunk));
    }
    content.extend_from_slice(&opener.finish()?);
    Ok(content)
}

fn response(key: ResponseKey) -> Vec<u8> {
    let (mut stream, mut sealer) = key.start(&mut TestRng(2));
    stream.extend_from_slice(&sealer.seal(b"five").unwrap());
    stream.extend_from_slice(&sealer.seal(b"six").unwrap());
    stream.extend_from_slice(&sealer.finish(b"").unwrap());
    stream
}

#[test]
fn streams_arrive_whole_however_they_are_cut_up() {
    for kem in Kem::ALL {
        for step in [1, 2, 7, 1000, usize::MAX] {
            let (gateway, pieces, opener) = request(kem);
            let (content, key) = open(&gateway, &pieces.concat(), step).unwrap();
            assert_eq!(content, b"onetwothreefour");
            assert_eq!(
                open_response(opener, &response(key), step).unwrap(),
                b"fivesix"
            );
        }
    }
}

#[test]
fn each_chunk_opens_when_it_arrives() {
    let (gateway, pieces, _) = request(Kem::X25519);
    let (mut opener, used) = gateway.start_chunked(&pieces[0]).unwrap();
    assert_eq!(used, pieces[0].len());
    for (piece, content) in pieces[1..].iter().zip([&b"one"[..], b"two", b"three"]) {
        let (last, head) = piece.split_last().unwrap();
        assert!(opener.push(head).unwrap().is_empty());
        let chunks = opener.push(&[*last]).unwrap();
        assert_eq!(chunks.len(), 1);
        assert_eq!(&chunks[0][..], content);
    }
    assert!(
        opener.push(&pieces[4]).unwrap().is_empty(),
        "the last chunk needs the end of the stream"
    );
    assert_eq!(&opener.finish().unwrap().0[..], b"four");
}

#[test]
fn every_truncation_of_a_request_is_refused() {
    let (gateway, pieces, _) = request(Kem::X25519);
    let stream = pieces.concat();
    for length in 0..stream.len() {
        assert!(
            open(&gateway, &stream[..length], usize::MAX).is_err(),
            "{length}"
        );
    }
}

#[test]
fn every_truncation_of_a_response_is_refused() {
    let (gateway, pieces, _) = request(Kem::X25519);
    let stream = response(open(&gateway, &pieces.concat(), 64).unwrap().1);
    for length in 0..stream.len() {
        let (_, _, opener) = request(Kem::X25519);
        assert!(
            open_response(opener, &stream[..length], usize::MAX).is_err(),
            "{length}"
        );
    }
}

#[test]
fn a_stream_cut_between_chunks_is_truncated_not_short() {
    let (gateway, pieces, _) = request(Kem::X25519);
    assert_eq!(
        open(&gateway, &pieces[..3].concat(), 64).unwrap_err(),
        OhttpError::Truncated
    );
}

#[test]
fn reordered_repeated_and_missing_chunks_are_refused() {
    for order in [
        &[0, 2, 1, 3, 4][..],
        &[0, 1, 1, 2, 3, 4],
        &[0, 1, 3, 4],
        &[0, 2, 3, 4],
    ] {
        let (gateway, pieces, _) = request(Kem::X25519);
        let stream: Vec<u8> = order
            .iter()
            .flat_map(|index| pieces[*index].clone())
            .collect();
        assert_eq!(
            open(&gateway, &stream, 64).unwrap_err(),
            OhttpError::Unopenable,
            "{order:?}"
        );
    }
}

#[test]
fn a_chunk_cannot_pass_for_the_final_one_nor_the_reverse() {
    let (gateway, pieces, _) = request(Kem::X25519);
    let (header, first) = (&pieces[0], &pieces[1]);
    let as_final = [&header[..], &[0], &first[1..]].concat();
    assert_eq!(
        open(&gateway, &as_final, 64).unwrap_err(),
        OhttpError::Unopenable
    );

    let last = &pieces[4];
    let mut as_more = pieces[..4].concat();
    as_more.push(last.len() as u8 - 1);
    as_more.extend_from_slice(&last[1..]);
    as_more.push(0);
    assert_eq!(
        open(&gateway, &as_more, 64).unwrap_err(),
        OhttpError::Unopenable
    );
}

#[test]
fn longer_forms_of_a_length_are_taken() {
    let (gateway, pieces, _) = request(Kem::X25519);
    let longer = [&[0x40, pieces[1][0]][..], &pieces[1][1..]].concat();
    let stream = [&pieces[0][..], &longer, &pieces[2..].concat()].concat();
    assert_eq!(open(&gateway, &stream, 5).unwrap().0, b"onetwothreefour");
}

#[test]
fn a_sealer_refuses_empty_and_large_chunks() {
    let mut rng = TestRng(3);
    let gateway = Gateway::generate(&mut rng);
    let (_, mut sealer) = Client::new(&config(&gateway, Kem::X25519))
        .start_chunked(&mut rng)
        .unwrap();
    assert_eq!(sealer.seal(b""), Err(OhttpError::EmptyChunk));
    assert_eq!(
        sealer.seal(&[0; MAX_CHUNK_BYTES + 1]),
        Err(OhttpError::ChunkTooLarge)
    );
    assert_eq!(
        sealer.seal(&[0; MAX_CHUNK_BYTES]).unwrap().len(),
        MAX_CHUNK_BYTES + TAG_BYTES + 4
    );
    assert_eq!(
        sealer.finish(&[0; MAX_CHUNK_BYTES + 1]).unwrap_err(),
        OhttpError::ChunkTooLarge
    );
}

#[test]
fn the_largest_chunk_arrives() {
    let mut rng = TestRng(4);
    let gateway = Gateway::generate(&mut rng);
    let (mut stream, mut sealer) = Client::new(&config(&gateway, Kem::XWing))
        .start_chunked(&mut rng)
        .unwrap();
    let content = vec![b'x'; MAX_CHUNK_BYTES];
    stream.extend_from_slice(&sealer.seal(&content).unwrap());
    stream.extend_from_slice(&sealer.finish(&content).unwrap().0);
    assert_eq!(
        open(&gateway, &stream, 1500).unwrap().0.len(),
        2 * MAX_CHUNK_BYTES
    );
}

#[test]
fn an_opener_holds_no_more_than_one_chunk() {
    let (gateway, pieces, _) = request(Kem::X25519);
    let (mut opener, _) = gateway.start_chunked(&pieces[0]).unwrap();
    // A length over the limit is refused as soon as it is read.
    assert_eq!(
        opener.push(&[0x80, 0, 0x40, 0x11]).unwrap_err(),
        OhttpError::ChunkTooLarge
    );
    assert_eq!(
        opener.push(&pieces[1]).unwrap_err(),
        OhttpError::ChunkTooLarge,
        "an error stays"
    );
    assert_eq!(opener.finish().unwrap_err(), OhttpError::ChunkTooLarge);

    let (mut opener, _) = gateway.start_chunked(&pieces[0]).unwrap();
    assert!(opener.push(&[0]).unwrap().is_empty());
    assert!(opener.push(&[1; MAX_SEALED_BYTES]).unwrap().is_empty());
    assert_eq!(opener.push(&[1]).unwrap_err(), OhttpError::ChunkTooLarge);
}

#[test]
fn a_sealed_chunk_without_content_is_refused_unless_it_is_the_last() {
    let mut rng = TestRng(5);
    let gateway = Gateway::generate(&mut rng);
    let (mut stream, sealer) = Client::new(&config(&gateway, Kem::X25519))
        .start_chunked(&mut rng)
        .unwrap();
    let RequestSealer { mut context, .. } = sealer;
    put_prefixed(&mut stream, &context.seal(MORE, b"").unwrap());
    assert_eq!(
        open(&gateway, &stream, 64).unwrap_err(),
        OhttpError::EmptyChunk
    );
}

#[test]
fn whole_and_chunked_messages_do_not_pass_for_each_other() {
    let mut rng = TestRng(6);
    let gateway = Gateway::generate(&mut rng);
    let client = Client::new(&config(&gateway, Kem::X25519));
    let (header, sealer) = client.start_chunked(&mut rng).unwrap();
    let (last, _) = sealer.finish(b"only").unwrap();
    let as_whole = [&header[..], &last[1..]].concat();
    assert_eq!(
        gateway.decapsulate(&as_whole).unwrap_err(),
        OhttpError::Unopenable
    );

    let (whole, _) = client.encapsulate(&mut rng, b"only").unwrap();
    let as_chunked = [&whole[..header.len()], &[0], &whole[header.len()..]].concat();
    assert_eq!(
        open(&gateway, &as_chunked, 64).unwrap_err(),
        OhttpError::Unopenable
    );
}

#[test]
fn random_alterations_never_panic_and_never_pass() {
    let (gateway, pieces, _) = request(Kem::X25519);
    let stream = pieces.concat();
    mutate(&stream, 400, |altered| {
        if let Ok((content, _)) = open(&gateway, altered, 33) {
            // Only the lengths are outside the authentication, so that another form of one may pass.
            assert_eq!(content, b"onetwothreefour");
        }
    });
}

/// Their client takes chunked responses with AES-128-GCM only, which no gateway offers outside tests.
#[test]
fn a_client_of_another_make_opens_our_response() {
    let suites = [Suite {
        aead: Aead::Aes128Gcm,
    }];
    let gateway = Gateway::with_key(1, Kem::X25519, &[5; 32], &suites);
    let encoded = gateway.key_configs()[2..].to_vec();
    let peer = ohttp::ClientRequest::from_encoded_config(&encoded).unwrap();
    let mut stream = Vec::new();
    let mut peer = peer.encapsulate_stream(&mut stream).unwrap();
    block_on(peer.write_all(b"a request")).unwrap();
    block_on(peer.close()).unwrap();
    // The stream belongs to the peer while it lives, so that its response is made ready before the request is read.
    let responses = Shared::default();
    let mut opened = peer.response(responses.clone()).unwrap();
    drop(peer);

    let (content, key) = open(&gateway, &stream, 64).unwrap();
    assert_eq!(content, b"a request");
    responses.0.borrow_mut().extend(response(key));
    let mut received = Vec::new();
    block_on(opened.read_to_end(&mut received)).unwrap();
    assert_eq!(received, b"fivesix");
}

/// A stream that is read from while the test still writes to it.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<VecDeque<u8>>>);

impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(io::Read::read(&mut *self.0.borrow_mut(), out))
    }
}

#[test]
fn a_whole_request_in_chunks_goes_there_and_back() {
    for kem in Kem::ALL {
        let mut rng = TestRng(9);
        let gateway = Gateway::generate(&mut rng);
        let client = Client::new(&config(&gateway, kem));
        for length in [0, 1, MAX_CHUNK_BYTES, 3 * MAX_CHUNK_BYTES + 7, 256 << 10] {
            let message = vec![7; length];
            let (sealed, mut opener) = client.encapsulate_chunked(&mut rng, &message).unwrap();
            let most = length + crate::ohttp::MAX_CHUNKED_REQUEST_OVERHEAD_BYTES;
            assert!(sealed.len() <= most, "{length}");
            let (opened, key) = gateway.decapsulate_chunked(&sealed).unwrap();
            assert_eq!(opened[..], message);
            let (nonce, mut sealer) = key.start(&mut rng);
            let first = sealer.seal(b"one").unwrap();
            assert_eq!(
                opener.push(&[nonce, first].concat()).unwrap()[0][..],
                *b"one"
            );
            assert!(
                opener
                    .push(&sealer.finish(b"two").unwrap())
                    .unwrap()
                    .is_empty()
            );
            assert_eq!(opener.finish().unwrap()[..], *b"two");
        }
    }
}

#[test]
fn a_request_in_chunks_that_is_cut_or_altered_is_not_opened() {
    let mut rng = TestRng(10);
    let gateway = Gateway::generate(&mut rng);
    let client = Client::new(&config(&gateway, Kem::X25519));
    let (sealed, _) = client.encapsulate_chunked(&mut rng, &[1; 20_000]).unwrap();
    for length in (0..sealed.len()).step_by(97) {
        assert!(gateway.decapsulate_chunked(&sealed[..length]).is_err());
    }
    mutate(&sealed, 200, |bytes| {
        assert!(bytes == sealed || gateway.decapsulate_chunked(bytes).is_err());
    });
}
