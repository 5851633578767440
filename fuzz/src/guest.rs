//! What the guest takes from its host and its network before it trusts anything: ROM table, manifest, kernel ELF,
//! memory map, HTTP.

use cloister_boot::address::{PhysAddr, PhysRange};
use cloister_boot::elf::Program;
use cloister_boot::manifest::{Manifest, ModelRef, Serving, TokenIssuer};
use cloister_boot::rom::Table;
use cloister_kernel::http::{Admission, Connection, Head, Limits, Response, Status, Wish};
use cloister_kernel::memory::map::MemoryMap;

/// The table at the end of the ROM: what is accepted encodes to the same bytes, and its parts lie inside the ROM.
pub fn rom(data: &[u8]) -> bool {
    let Ok(table) = Table::parse(data) else {
        return false;
    };
    assert!(table.kernel.end <= table.rom_bytes && table.manifest.end <= table.rom_bytes);
    let encoded = table.encode().expect("a parsed table is valid");
    assert_eq!(data[..encoded.len()], encoded);
    true
}

/// A table of a small ROM.
pub fn rom_seeds() -> Vec<Vec<u8>> {
    let table = Table {
        rom_bytes: 1 << 20,
        kernel: 0..0x8_0000,
        manifest: 0x8_0000..0x8_0100,
    };
    vec![table.encode().expect("valid").to_vec()]
}

/// The image manifest: what is accepted encodes to what decodes to the same.
pub fn manifest(data: &[u8]) -> bool {
    let Ok(manifest) = Manifest::decode(data) else {
        return false;
    };
    let encoded = manifest.encode().expect("a decoded manifest is valid");
    assert_eq!(Manifest::decode(&encoded), Ok(manifest));
    true
}

/// Manifests with and without a model, a log policy and a token issuer.
pub fn manifest_seeds() -> Vec<Vec<u8>> {
    let without = Manifest::default();
    let model = ModelRef {
        name: "tiny".into(),
        root: [7; 32],
        head_bytes: 8192,
        pack_bytes: 100 << 20,
        working_bytes: 64 << 20,
        context_tokens: 2048,
    };
    let with = Manifest {
        model: Some(model),
        ..Manifest::default()
    };
    let published = Manifest {
        log_policy: Some("# no log\nquorum none\n".into()),
        serving: Serving {
            tls: true,
            epoch_s: 20,
        },
        ..with.clone()
    };
    let admitting = Manifest {
        token_issuer: Some(TokenIssuer {
            name: "issuer.example".into(),
            token_key: vec![7; 342],
            origin_info: "cloister.example".into(),
        }),
        ..Manifest::default()
    };
    [without, with, published, admitting]
        .map(|manifest| manifest.encode().expect("valid"))
        .to_vec()
}

/// Where the kernel may be loaded, in this target.
fn window() -> PhysRange {
    PhysRange::from_len(PhysAddr::new(0x10_0000), 0x80_0000).expect("no wrap-around")
}

/// The kernel's ELF: what is accepted lies inside the window, and its entry point too.
pub fn elf(data: &[u8]) -> bool {
    let Ok(program) = Program::parse(data, window()) else {
        return false;
    };
    assert!(window().start() <= program.entry() && program.entry() < window().end());
    for segment in program.segments() {
        let memory = segment.memory;
        assert!(window().start() <= memory.start() && memory.end() <= window().end());
        assert!(data.get(segment.file.clone()).is_some());
    }
    true
}

/// An ELF with one segment of code.
pub fn elf_seeds() -> Vec<Vec<u8>> {
    let mut file = Vec::new();
    file.extend_from_slice(b"\x7fELF\x02\x01\x01");
    file.resize(16, 0);
    file.extend_from_slice(&[2, 0, 0x3e, 0, 1, 0, 0, 0]);
    for word in [0x10_0000_u64, 64, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    assert_eq!(file.len(), 64);
    file.extend_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0x1000_u64, 0x10_0000, 0x10_0000, 0x1000, 0x1000, 0x1000] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.resize(0x2000, 0xf4);
    vec![file]
}

/// The memory map: what is accepted has frames that lie in RAM, apart from what is occupied.
pub fn e820(data: &[u8]) -> bool {
    let occupied =
        PhysRange::from_len(PhysAddr::new(0x20_0000), 0x10_0000).expect("no wrap-around");
    let Ok(map) = MemoryMap::parse(data, &[occupied]) else {
        return false;
    };
    let ranges = map.frames.ranges();
    assert!(map.frames.bytes() <= map.ram_bytes);
    assert!(ranges.iter().all(|range| !range.overlaps(occupied)));
    assert!(ranges.is_sorted_by(|a, b| a.end() <= b.start()));
    true
}

/// The tables of machines with RAM below, and on both sides of, 4 GiB.
pub fn e820_seeds() -> Vec<Vec<u8>> {
    let table = |entries: &[(u64, u64, u32)]| {
        let entry = |(base, length, kind): &(u64, u64, u32)| {
            [
                &base.to_le_bytes()[..],
                &length.to_le_bytes(),
                &kind.to_le_bytes(),
            ]
            .concat()
        };
        entries.iter().flat_map(entry).collect()
    };
    vec![
        table(&[(0, 512 << 20, 1)]),
        table(&[
            (0, 0x8000_0000, 1),
            (0xfeff_c000, 0x4000, 2),
            (1 << 32, 2 << 30, 1),
        ]),
    ]
}

/// The most bytes of a body in [`http`].
const BODY_BYTES: usize = 4096;

struct Admit;

impl Admission for Admit {
    fn admit(&self, head: &Head) -> Result<usize, Response> {
        match head.path.as_str() {
            "/refused" => Err(Response::problem(Status::NotFound, "not here")),
            _ => Ok(BODY_BYTES),
        }
    }
}

/// A TCP connection: the first byte says in what parts the stream arrives and how fast. Each request that becomes
/// complete is answered; at the end the client shuts its write side and time passes until the connection is over.
pub fn http(data: &[u8]) -> bool {
    let Some((pace, stream)) = data.split_first() else {
        return false;
    };
    let (step, pause_ms) = (usize::from(pace >> 3) * 8 + 1, u64::from(pace & 7) * 500);
    let mut connection = Connection::new(Limits::default(), 0);
    let (mut now_ms, mut rest, mut answers) = (0, stream, 0);
    while !rest.is_empty() {
        let part = &rest[..rest.len().min(step)];
        let taken = connection.receive(part, &Admit, now_ms);
        assert!(taken <= part.len());
        rest = &rest[taken..];
        now_ms += pause_ms;
        let moved = answer(&mut connection, now_ms);
        answers += usize::from(connection.take_answered().is_some());
        if matches!(connection.wish(), Wish::Cut) || (taken == 0 && !moved) {
            break;
        }
    }
    connection.peer_finished(!rest.is_empty(), now_ms);
    // Longer than all time limits together.
    for _ in 0..300 {
        now_ms += 1000;
        connection.tick(now_ms);
        answer(&mut connection, now_ms);
    }
    assert!(
        !matches!(connection.wish(), Wish::Open),
        "a silent connection ends"
    );
    answers > 0
}

/// Answers a complete request, and lets the network take all output. Whether anything happened.
fn answer(connection: &mut Connection, now_ms: u64) -> bool {
    let request = connection.take_request();
    if let Some(request) = &request {
        assert!(request.body.len() <= BODY_BYTES);
        connection.respond(&Response::ok("text/plain", b"hello".to_vec()), now_ms);
    }
    let output = connection.output().len();
    connection.sent(output, now_ms);
    connection.delivered(now_ms);
    request.is_some() || output > 0
}

/// Requests with both kinds of body, pipelined ones, and some that are refused.
pub fn http_seeds() -> Vec<Vec<u8>> {
    let streams: [&[u8]; 5] = [
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: message/ohttp-req\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        b"POST /refused HTTP/1.0\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ];
    streams
        .map(|stream| [&[0xf8][..], stream].concat())
        .to_vec()
}
