//! Plain sockets, for what no well-behaved client does.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of an answer that are read at most.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// A guest under emulation takes its time, but not this much.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// An answer as it came over the wire.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code; 0 when the connection ended without an answer.
    pub status: u16,
    /// Header lines, in lower case.
    pub head: String,
    /// Body, as far as it came.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection to the guest behind `port` on this machine.
pub fn connect(port: u16) -> TcpStream {
    connect_within(port, READ_TIMEOUT).expect("the forwarded port accepts")
}

/// The same, unless that takes too long. QEMU lets one client wait while it accepts another; Linux drops the requests of
/// all others, and repeats them after 1, 3, 7, 15, 31 and 63 seconds.
pub fn connect_within(port: u16, limit: Duration) -> std::io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, limit)?;
    stream
        .set_read_timeout(Some(READ_TIMEOUT))
        .expect("a socket takes a timeout");
    stream
        .set_write_timeout(Some(READ_TIMEOUT))
        .expect("a socket takes a timeout");
    Ok(stream)
}

/// Sends `bytes` and reads one answer.
pub fn exchange(port: u16, bytes: &[u8]) -> Answer {
    exchange_on(connect(port), bytes)
}

/// The same on a connection that is there.
pub fn exchange_on(mut stream: TcpStream, bytes: &[u8]) -> Answer {
    send(&mut stream, bytes);
    read_answer(&mut stream)
}

/// `GET` of `path` on a connection of its own.
pub fn get(port: u16, path: &str) -> Answer {
    exchange(
        port,
        format!("GET {path} HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n").as_bytes(),
    )
}

/// `POST` of `body` on a connection of its own.
pub fn post(port: u16, path: &str, media_type: &str, body: &[u8]) -> Answer {
    exchange(port, &post_bytes(path, media_type, body))
}

/// The bytes of a well-formed `POST`.
pub fn post_bytes(path: &str, media_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: guest\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Sends bytes. A guest that has answered and closed already is not an error: the answer tells.
pub fn send(stream: &mut TcpStream, bytes: &[u8]) {
    match stream.write_all(bytes) {
        Ok(()) => {}
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            ) => {}
        Err(error) => panic!("sending: {error}"),
    }
}

/// No more will be sent; the answer can still come.
pub fn half_close(stream: &TcpStream) {
    // Fails when the other side has closed already, which the answer shows.
    let _ = stream.shutdown(Shutdown::Write);
}

/// Reads one answer, over interim ones (1xx), up to its length or the end of the connection.
pub fn read_answer(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes, false) {
            Parsed::Interim(length) => drop(bytes.drain(..length)),
            Parsed::Whole(answer) => return answer,
            Parsed::More => match read_some(stream, &mut bytes) {
                0 => return end(&bytes),
                _ => assert!(bytes.len() <= MAX_ANSWER_BYTES, "the answer does not end"),
            },
        }
    }
}

/// How long the guest keeps the connection open when nothing more is sent, and what it says until then.
pub fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, Duration) {
    let started = Instant::now();
    let mut bytes = Vec::new();
    while read_some(stream, &mut bytes) > 0 {
        assert!(bytes.len() <= MAX_ANSWER_BYTES, "the answer does not end");
    }
    (bytes, started.elapsed())
}

fn read_some(stream: &mut impl Read, bytes: &mut Vec<u8>) -> usize {
    let mut buffer = [0; 16 << 10];
    match stream.read(&mut buffer) {
        Ok(read) => {
            bytes.extend_from_slice(&buffer[..read]);
            read
        }
        Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
        Err(error) if error.kind() == ErrorKind::Interrupted => read_some(stream, bytes),
        Err(error) => panic!("reading after {} bytes: {error}", bytes.len()),
    }
}

/// A body without its chunked coding (RFC 9112, section 7.1), as much of it as has come, and whether its end has.
pub fn without_chunks(mut coded: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = coded.windows(2).position(|two| two == b"\r\n") {
        let size = str::from_utf8(&coded[..end]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a size in hexadecimal");
        let rest = &coded[end + 2..];
        body.extend_from_slice(&rest[..size.min(rest.len())]);
        if size == 0 || rest.len() < size + 2 {
            return (body, size == 0);
        }
        coded = &rest[size + 2..];
    }
    (body, false)
}

/// Reads at least so many bytes of the body of an answer in the chunked coding, fewer only if it ends before. The body
/// comes without the coding. Returns whether its end has come, too.
pub fn read_chunks(stream: &mut TcpStream, least: usize) -> (Answer, bool) {
    let mut bytes = Vec::new();
    loop {
        let is_over = read_some(stream, &mut bytes) == 0;
        let mut answer = end(&bytes);
        if answer.status == 0 {
            assert!(!is_over, "the connection ended without an answer");
            continue;
        }
        let (body, has_ended) = without_chunks(&answer.body);
        if is_over || has_ended || body.len() >= least {
            answer.body = body;
            return (answer, has_ended);
        }
        assert!(bytes.len() <= MAX_ANSWER_BYTES, "the answer does not end");
    }
}

enum Parsed {
    /// Not enough bytes yet.
    More,
    /// The first so many bytes are an interim answer.
    Interim(usize),
    Whole(Answer),
}

fn parse(bytes: &[u8], ended: bool) -> Parsed {
    let Some(head_end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Parsed::More;
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let body = &bytes[head_end + 4..];
    if (100..200).contains(&status) {
        return Parsed::Interim(head_end + 4);
    }
    let length = head.lines().find_map(|line| {
        line.strip_prefix("content-length:")?
            .trim()
            .parse::<usize>()
            .ok()
    });
    match length {
        Some(length) if body.len() >= length || ended => Parsed::Whole(Answer {
            status,
            head,
            body: body[..length.min(body.len())].to_vec(),
        }),
        None if ended => Parsed::Whole(Answer {
            status,
            head,
            body: body.to_vec(),
        }),
        _ => Parsed::More,
    }
}

/// What there is when the connection has ended.
fn end(bytes: &[u8]) -> Answer {
    match parse(bytes, true) {
        Parsed::Whole(answer) => answer,
        _ => Answer {
            status: 0,
            head: String::new(),
            body: bytes.to_vec(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_by_their_length() {
        let bytes = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nabcdef";
        let Parsed::Whole(answer) = parse(bytes, false) else {
            panic!("a whole answer")
        };
        assert_eq!((answer.status, answer.text().as_str()), (413, "abc"));
        assert!(matches!(parse(&bytes[..40], false), Parsed::More));
    }

    #[test]
    fn bodies_in_chunks_are_put_together() {
        let coded = b"3\r\nabc\r\n1a\r\n01234567890123456789012345\r\n0\r\n\r\n";
        let whole = b"abc01234567890123456789012345";
        assert_eq!(without_chunks(coded), (whole.to_vec(), true));
        assert_eq!(without_chunks(&coded[..18]), (b"abc012345".to_vec(), false));
        assert_eq!(without_chunks(b"3"), (Vec::new(), false));
    }

    #[test]
    fn interim_answers_are_passed_over() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert!(matches!(parse(bytes, false), Parsed::Interim(25)));
    }

    #[test]
    fn a_connection_that_ends_without_a_word_has_status_0() {
        assert_eq!(end(b"").status, 0);
    }
}
