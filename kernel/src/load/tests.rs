use super::*;
use crate::device::fw_cfg::fake::Host;
use cloister_engine::pack::Config;
use cloister_engine::pack::write::Plan;
use cloister_engine::workers::Alone;
use sha2::{Digest, Sha256};

const CHUNK: usize = 1 << 20;

/// A pack whose body is only a tokenizer section, and the reference to it.
fn pack(body_bytes: usize, seed: u8) -> (Vec<u8>, ModelRef) {
    let config = Config {
        dim: 64,
        hidden: 64,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 16,
        vocabulary: 16,
        context_tokens: 16,
        rope_base: 10_000.0,
        norm_epsilon: 1e-5,
    };
    let plan = Plan::new(config, "test", body_bytes, &[]).unwrap();
    let body: Vec<u8> = (0..plan.pack_bytes() as usize - plan.head_bytes())
        .map(|i| (i / 3) as u8 ^ seed)
        .collect();
    let digests: Vec<_> = body
        .chunks(CHUNK)
        .map(|c| Sha256::digest(c).into())
        .collect();
    let mut bytes = plan.head(&digests).unwrap();
    let model = ModelRef {
        name: "test".into(),
        root: Head::root_of(&bytes),
        head_bytes: bytes.len() as u32,
        pack_bytes: plan.pack_bytes(),
        working_bytes: 0,
        context_tokens: 16,
    };
    bytes.extend_from_slice(&body);
    (bytes, model)
}

/// Three workers, all of whom come.
#[derive(Debug)]
struct Three;

impl Workers for Three {
    fn count(&self) -> usize {
        3
    }

    fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for number in 1..3 {
                scope.spawn(move || task(number));
            }
            task(0);
        });
    }
}

/// With one processor and with three, which must come to the same.
fn load(host: Host, reference: &ModelRef) -> Result<Vec<u8>, LoadError> {
    let alone = load_with(&Alone, host.clone(), reference);
    assert_eq!(load_with(&Three, host, reference), alone);
    alone
}

fn load_with(
    workers: &dyn Workers,
    host: Host,
    reference: &ModelRef,
) -> Result<Vec<u8>, LoadError> {
    let mut memory = vec![0xaa; reference.pack_bytes as usize + 4096];
    let mut before = 0;
    let progress = |done, of| {
        assert!(before < done && done <= of);
        before = done;
    };
    let (device, pool) = (host.device(), SharedPool::for_tests(300));
    model(reference, device, pool, &mut memory, workers, progress)?;
    let body_bytes = reference.pack_bytes as usize - reference.head_bytes as usize;
    assert_eq!(before, body_bytes.div_ceil(CHUNK), "all were checked");
    memory.truncate(reference.pack_bytes as usize);
    Ok(memory)
}

#[test]
fn a_sound_pack_arrives() {
    let (bytes, model) = pack(2 * CHUNK + 12_345, 0);
    assert_eq!(load(Host::with(FILE, &bytes), &model), Ok(bytes));
}

#[test]
fn a_pack_of_several_batches_arrives_and_the_first_altered_chunk_is_named() {
    let chunks = 2 * Three.count() * BATCH_CHUNKS + 3;
    let (bytes, model) = pack(chunks * CHUNK - 4096, 0);
    let host = || Host::with(FILE, &bytes);
    assert!(load_with(&Three, host(), &model) == Ok(bytes.clone()));
    for index in [0, 3, 23, 24, 47, 48, chunks - 1] {
        let mut altered = bytes.clone();
        for index in [index, (index + 5).min(chunks - 1)] {
            let byte = &mut altered[model.head_bytes as usize + index * CHUNK + 77];
            *byte = byte.wrapping_add(1);
        }
        let loaded = load_with(&Three, Host::with(FILE, &altered), &model);
        assert_eq!(loaded.map(drop), Err(LoadError::Altered(index)));
    }
}

#[test]
fn a_missing_pack() {
    let (_, model) = pack(5000, 0);
    assert_eq!(load(Host::default(), &model), Err(LoadError::Missing));
    assert_eq!(
        load(Host::with("opt/cloister/mode", b"x"), &model),
        Err(LoadError::Missing)
    );
}

#[test]
fn a_truncated_pack() {
    let (bytes, model) = pack(2 * CHUNK, 0);
    for length in [
        0,
        1,
        model.head_bytes as usize - 1,
        model.head_bytes as usize,
        bytes.len() - 1,
    ] {
        let error = load(Host::with(FILE, &bytes[..length]), &model).unwrap_err();
        assert_eq!(error, LoadError::Truncated(length as u64, model.pack_bytes));
        assert_eq!(error.reason(), Reason::ModelTruncated);
    }
}

#[test]
fn a_pack_that_is_shorter_than_the_host_says() {
    let (bytes, model) = pack(2 * CHUNK, 0);
    let mut host = Host::with(FILE, &bytes[..bytes.len() - 5]);
    host.files[0].1 = bytes.len() as u32;
    assert_eq!(load(host, &model), Err(LoadError::Altered(1)));
}

#[test]
fn a_longer_pack() {
    let (mut bytes, model) = pack(5000, 0);
    bytes.push(0);
    let error = load(Host::with(FILE, &bytes), &model).unwrap_err();
    assert_eq!(
        error,
        LoadError::TooLong(model.pack_bytes + 1, model.pack_bytes)
    );
}

#[test]
fn one_altered_byte_anywhere() {
    let (bytes, model) = pack(2 * CHUNK + 5000, 0);
    let head = model.head_bytes as usize;
    let places = [
        (0, LoadError::OtherImage),
        (head - 1, LoadError::OtherImage),
        (head, LoadError::Altered(0)),
        (head + CHUNK - 1, LoadError::Altered(0)),
        (head + CHUNK, LoadError::Altered(1)),
        (bytes.len() - 1, LoadError::Altered(2)),
    ];
    for (at, error) in places {
        let host = Host {
            flipped: Some(at),
            ..Host::with(FILE, &bytes)
        };
        assert_eq!(load(host, &model), Err(error), "byte {at}");
    }
}

#[test]
fn a_pack_for_another_image() {
    let (_, model) = pack(5000, 0);
    let (other, _) = pack(5000, 1);
    let error = load(Host::with(FILE, &other), &model).unwrap_err();
    assert_eq!(error, LoadError::OtherImage);
    assert_eq!(error.reason(), Reason::ModelOtherImage);
}

#[test]
fn a_manifest_that_contradicts_the_pack() {
    let (bytes, model) = pack(5000, 0);
    let wrong = ModelRef {
        pack_bytes: model.pack_bytes - 4096,
        ..model
    };
    assert_eq!(load(Host::with(FILE, &bytes), &wrong), Err(LoadError::Head));
}

#[test]
fn a_device_that_fails() {
    let (bytes, model) = pack(5000, 0);
    let host = Host {
        dma_outcome: 1,
        ..Host::with(FILE, &bytes)
    };
    let error = load(host, &model).unwrap_err();
    assert_eq!(error, LoadError::Device(FwCfgError::Device));
    assert_eq!(error.reason(), Reason::FirmwareConfig);
}

#[test]
fn what_goes_with_the_evidence_is_passed_on_as_it_is() {
    let load = |host: Host| enclosures(host.device(), SharedPool::for_tests(300));
    assert_eq!(load(Host::default()), Ok(Enclosures::default()));
    let most = vec![0x2d; MAX_ENCLOSURE_BYTES];
    let more = [&most[..], b"-"].concat();
    for name in [CERTIFICATES_FILE, RELEASE_NOTE_FILE, RELEASE_PROOF_FILE] {
        let mut expected = Enclosures::default();
        *match name {
            CERTIFICATES_FILE => &mut expected.certificates,
            RELEASE_NOTE_FILE => &mut expected.release_note,
            _ => &mut expected.release_proof,
        } = most.clone();
        assert_eq!(load(Host::with(name, &most)), Ok(expected));
        assert_eq!(
            load(Host::with(name, &more)),
            Err(FwCfgError::TooLong(more.len() as u32))
        );
    }
}
