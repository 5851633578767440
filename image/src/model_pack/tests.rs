//! Packs of real GGUF bytes, against candle's own reading of them.

use super::{Error, build, neighbour_row};
use crate::fixture;
use crate::gguf::GgufError;
use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use cloister_engine::layout::{Matrix, row_to_f32};
use cloister_engine::pack::{Head, Pack, Role};
use cloister_engine::simd;
use cloister_engine::workers::{Alone, Threads, Workers};
use cloister_engine::{Model, Session, Step};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cloister-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing depends on it.
        drop(fs::remove_dir_all(&self.0));
    }
}

fn fixture_in(folder: &Folder) -> PathBuf {
    let path = folder.file("fixture.gguf");
    fixture::write(&path).expect("the fixture can be written");
    path
}

fn pack_of(gguf: &Path, folder: &Folder) -> Vec<u8> {
    let out = folder.file("model.pack");
    build(gguf, &out, &mut |_, _| {}).expect("the fixture can be packed");
    fs::read(out).expect("the pack was written")
}

/// The fixture with one change to its metadata or tensors.
fn changed(
    folder: &Folder,
    change: impl FnOnce(&mut Vec<(String, Value)>, &mut Vec<(String, QTensor)>),
) -> PathBuf {
    let mut file = File::open(fixture_in(folder)).expect("the fixture was written");
    let content = Content::read(&mut file).expect("candle reads what it wrote");
    let tensor = |name: &String| {
        content
            .tensor(&mut file, name, &Device::Cpu)
            .expect("the fixture has it")
    };
    let mut tensors: Vec<(String, QTensor)> = content
        .tensor_infos
        .keys()
        .map(String::clone)
        .zip(content.tensor_infos.keys().map(tensor))
        .collect();
    let mut metadata: Vec<(String, Value)> = content.metadata.into_iter().collect();
    change(&mut metadata, &mut tensors);
    let metadata: Vec<(&str, &Value)> = metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let path = folder.file("changed.gguf");
    gguf_file::write(
        &mut File::create(&path).expect("a temporary file"),
        &metadata,
        &tensors,
    )
    .expect("candle writes");
    path
}

fn error_of(gguf: &Path, folder: &Folder) -> Error {
    let out = folder.file("never.pack");
    let error = build(gguf, &out, &mut |_, _| {}).expect_err("this must not be packed");
    assert!(!out.exists(), "a failed build leaves no pack");
    error
}

#[test]
fn two_builds_give_the_same_bytes() {
    let folder = Folder::new("same-bytes");
    let gguf = fixture_in(&folder);
    assert!(fs::metadata(&gguf).expect("the fixture was written").len() < 1 << 20);
    let first =
        build(&gguf, &folder.file("1.pack"), &mut |_, _| {}).expect("the fixture can be packed");
    let second =
        build(&gguf, &folder.file("2.pack"), &mut |_, _| {}).expect("the fixture can be packed");
    assert_eq!(first, second);
    let bytes =
        ["1.pack", "2.pack"].map(|name| fs::read(folder.file(name)).expect("the pack was written"));
    assert!(bytes[0] == bytes[1]);
    assert_eq!(bytes[0].len() as u64, first.pack_bytes);
    assert_eq!(first.name, fixture::NAME);
    assert!(first.working_bytes(1024) < first.working_bytes(4096));
}

#[test]
fn progress_ends_at_the_whole() {
    let folder = Folder::new("progress");
    let gguf = fixture_in(&folder);
    let mut calls = Vec::new();
    let info = build(&gguf, &folder.file("p.pack"), &mut |done, total| {
        calls.push((done, total))
    })
    .expect("the fixture can be packed");
    assert!(calls.is_sorted());
    assert_eq!(calls.last(), Some(&(info.pack_bytes, info.pack_bytes)));
}

#[test]
fn every_altered_chunk_is_found() {
    let folder = Folder::new("chunks");
    let gguf = fixture_in(&folder);
    let out = folder.file("c.pack");
    let info = build(&gguf, &out, &mut |_, _| {}).expect("the fixture can be packed");
    let mut bytes = fs::read(out).expect("the pack was written");
    let head = Head::parse(&bytes[..info.head_bytes as usize], &info.root)
        .expect("the head is the root's");
    assert_eq!(head.pack_bytes(), info.pack_bytes);
    assert_eq!(head.head_bytes(), info.head_bytes as usize);
    let mut covered = head.head_bytes() as u64;
    for index in 0..head.chunks() {
        let range = head.chunk_range(index);
        assert_eq!(range.start, covered);
        covered = range.end;
        let chunk = range.start as usize..range.end as usize;
        assert_eq!(head.check_chunk(index, &bytes[chunk.clone()]), Ok(()));
        assert!(
            head.check_chunk(index, &bytes[chunk.start..chunk.end - 1])
                .is_err()
        );
        for at in [chunk.start, chunk.end - 1, (chunk.start + chunk.end) / 2] {
            bytes[at] ^= 1;
            assert!(head.check_chunk(index, &bytes[chunk.clone()]).is_err());
            bytes[at] ^= 1;
        }
    }
    assert_eq!(covered, info.pack_bytes);
    assert!(head.check_chunk(head.chunks(), &[]).is_err());
}

#[test]
fn every_altered_head_byte_is_found() {
    let folder = Folder::new("head");
    let gguf = fixture_in(&folder);
    let out = folder.file("h.pack");
    let info = build(&gguf, &out, &mut |_, _| {}).expect("the fixture can be packed");
    let mut bytes = fs::read(out).expect("the pack was written");
    for at in 0..info.head_bytes as usize {
        bytes[at] ^= 1 << (at % 8);
        assert!(Head::parse(&bytes[..info.head_bytes as usize], &info.root).is_err());
        // Without the root nothing is promised but an answer.
        let _unused = Model::open(&bytes).map(|model| model.name().len());
        bytes[at] ^= 1 << (at % 8);
    }
    assert!(Head::parse(&bytes[..info.head_bytes as usize], &info.root).is_ok());
}

#[test]
fn truncated_and_mutated_packs_do_no_harm() {
    let folder = Folder::new("mutated");
    let gguf = fixture_in(&folder);
    let bytes = pack_of(&gguf, &folder);
    for length in (0..bytes.len()).step_by(4093).chain([bytes.len() - 1]) {
        assert!(Model::open(&bytes[..length]).is_err());
    }
    let mut state = 7u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for round in 0..400 {
        let mut copy = bytes.clone();
        for _ in 0..=round % 4 {
            // Most mutations in the tables, some in tokenizer and weights.
            let end = if round % 3 == 0 { copy.len() } else { 4096 };
            let at = random() % end;
            copy[at] = random() as u8;
        }
        if let Ok(model) = Model::open(&copy) {
            let mut session = Session::new(&model, 4);
            if session.push(&model, &[1, 2]).is_ok() {
                while let Step::Working { .. } = session.step(&model) {}
            }
        }
    }
}

#[test]
fn weights_are_those_that_candle_reads() {
    let folder = Folder::new("weights");
    let gguf = fixture_in(&folder);
    let pack_bytes = pack_of(&gguf, &folder);
    let pack = Pack::open(&pack_bytes).expect("a fresh pack opens");
    let mut file = File::open(&gguf).expect("the fixture was written");
    let content = Content::read(&mut file).expect("candle reads what it wrote");
    for (name, info) in &content.tensor_infos {
        let (role, layer) = super::role_of(name).expect("the fixture has known tensors only");
        let &[rows, columns] = info.shape.dims() else {
            continue;
        };
        let matrix = pack
            .matrix(role, layer, rows, columns)
            .expect("the shape is right")
            .expect("it was packed");
        let theirs = content
            .tensor(&mut file, name, &Device::Cpu)
            .expect("the fixture has it");
        let theirs = theirs
            .dequantize(&Device::Cpu)
            .and_then(|tensor| tensor.to_vec2::<f32>());
        let reorder = matches!(role, Role::Query | Role::Key);
        let row_of = |row: usize| if reorder { neighbour_row(row, 32) } else { row };
        compare(
            name,
            info.ggml_dtype,
            &matrix,
            &theirs.expect("candle dequantizes"),
            row_of,
        );
    }
}

/// Scales have 15 bits relative to the largest one of their row, and those within a factor of 16 of it are exact;
/// floats have 14 bits relative to the largest of 32.
fn compare(
    name: &str,
    dtype: GgmlDType,
    matrix: &Matrix<'_>,
    theirs: &[Vec<f32>],
    row_of: impl Fn(usize) -> usize,
) {
    let bound = match dtype {
        GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => 1.0 / 8191.0,
        // A minimum is a sum of two rounded numbers.
        _ => 1.0 / 16_384.0,
    };
    let mut ours = vec![0.0; matrix.columns()];
    for row in 0..matrix.rows() {
        row_to_f32(matrix, row, &mut ours);
        let theirs = &theirs[row_of(row)];
        let largest = theirs
            .iter()
            .fold(0.0f32, |largest, x| largest.max(x.abs()));
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!(
                (ours - theirs).abs() <= bound * largest,
                "{name} {dtype:?} row {row}: {ours} and {theirs}"
            );
        }
    }
}

#[test]
fn blocks_and_single_tokens_give_the_same_logits_on_every_kernel() {
    let folder = Folder::new("logits");
    let gguf = fixture_in(&folder);
    let pack = pack_of(&gguf, &folder);
    let model = Model::open(&pack).expect("a fresh pack opens");
    let tokens: Vec<u32> = (0..70).map(|i| (i * 37 + 5) % 290).collect();
    let logits = |kernels, at_once: usize| -> Vec<u32> {
        let session = Session::with_kernels(&model, 100, kernels);
        last_logits(&model, session, &tokens, at_once)
    };
    let expected = logits(simd::portable(), 70);
    assert!(
        expected
            .iter()
            .all(|bits| f32::from_bits(*bits).is_finite())
    );
    for at_once in [1, 7, 16, 70] {
        assert!(
            logits(simd::select(), at_once) == expected,
            "{at_once} tokens at once"
        );
    }
}

#[test]
fn any_number_of_workers_gives_the_same_logits() {
    let folder = Folder::new("workers");
    let gguf = fixture_in(&folder);
    let pack = pack_of(&gguf, &folder);
    let tokens: Vec<u32> = (0..70).map(|i| (i * 41 + 3) % 290).collect();
    let logits = |workers: &dyn Workers, at_once: usize| {
        let model = Model::open(&pack).expect("a fresh pack opens");
        let model = model.with_workers(workers);
        last_logits(&model, Session::new(&model, 100), &tokens, at_once)
    };
    for at_once in [1, 16] {
        let expected = logits(&Alone, at_once);
        for count in 1..=3 {
            assert!(
                logits(&Threads::new(count), at_once) == expected,
                "{count} workers, {at_once} tokens at once"
            );
        }
    }
}

/// Bits of the logits behind the last token, when so many tokens are pushed at once.
fn last_logits(
    model: &Model<'_>,
    mut session: Session,
    tokens: &[u32],
    at_once: usize,
) -> Vec<u32> {
    let mut last = Vec::new();
    for tokens in tokens.chunks(at_once) {
        session.push(model, tokens).expect("the session has room");
        loop {
            match session.step(model) {
                Step::Logits(logits) => {
                    break last = logits.iter().map(|x| x.to_bits()).collect();
                }
                Step::Working { done, total } => assert!(done < total),
                Step::Idle => panic!("tokens are queued"),
            }
        }
        assert_eq!(session.step(model), Step::Idle);
    }
    last
}

#[test]
fn a_session_refuses_what_it_cannot_take() {
    use cloister_engine::session::SessionError;
    let folder = Folder::new("session");
    let gguf = fixture_in(&folder);
    let pack = pack_of(&gguf, &folder);
    let model = Model::open(&pack).expect("a fresh pack opens");
    let mut session = Session::new(&model, 5);
    assert_eq!(session.step(&model), Step::Idle);
    assert_eq!(
        session.push(&model, &[0; 6]),
        Err(SessionError::Full { capacity: 5 })
    );
    assert_eq!(
        session.push(&model, &[0, 9999]),
        Err(SessionError::UnknownToken { token: 9999 })
    );
    assert_eq!(session.push(&model, &[0; 5]), Ok(()));
    assert_eq!(
        session.push(&model, &[0]),
        Err(SessionError::Full { capacity: 5 })
    );
    assert_eq!(
        Session::new(&model, usize::MAX).capacity(),
        model.config().context_tokens
    );
}

#[test]
fn unusable_files_are_named() {
    let folder = Folder::new("unusable");
    let text = |text: &str| Value::String(text.to_owned());
    let set = |key: &'static str, value: Value| {
        changed(&folder, |metadata, _| {
            metadata.retain(|(known, _)| known != key);
            metadata.push((key.to_owned(), value));
        })
    };
    let message = |gguf: &Path| error_of(gguf, &folder).to_string();

    assert!(
        message(&set("general.architecture", text("gemma3"))).contains("`gemma3` is not supported")
    );
    assert!(
        message(&set("llama.rope.scaling.type", text("yarn"))).contains("llama.rope.scaling.type")
    );
    assert!(message(&set("llama.expert_count", Value::U32(8))).contains("llama.expert_count"));
    assert!(message(&set("llama.block_count", Value::U32(3))).contains("blk.2.attn_norm.weight"));
    assert!(message(&set("llama.feed_forward_length", Value::U32(64))).contains("has shape"));
    assert!(message(&set("tokenizer.ggml.model", text("llama"))).contains("tokenizer.ggml.model"));
    assert!(message(&set("llama.attention.head_count", Value::U32(0))).contains("head_count"));
    assert!(message(&folder.file("absent.gguf")).contains("absent.gguf"));

    fs::write(folder.file("text.gguf"), b"This is no model.").expect("a temporary file");
    assert!(matches!(
        error_of(&folder.file("text.gguf"), &folder),
        Error::Gguf(GgufError::Format { .. })
    ));
}

#[test]
fn unusable_tensors_are_named() {
    let folder = Folder::new("tensors");
    let replace = |name: &'static str, tensor: Tensor, dtype: GgmlDType| {
        changed(&folder, |_, tensors| {
            tensors.retain(|(known, _)| known != name);
            tensors.push((
                name.to_owned(),
                QTensor::quantize(&tensor, dtype).expect("candle quantizes"),
            ));
        })
    };
    let zeros = |rows: usize, columns: usize| {
        Tensor::zeros((rows, columns), candle_core::DType::F32, &Device::Cpu)
            .expect("a tensor of zeros")
    };
    let message = |gguf: &Path| error_of(gguf, &folder).to_string();
    let wrong_type = replace("blk.0.ffn_down.weight", zeros(128, 256), GgmlDType::Q5K);
    assert!(
        message(&wrong_type)
            .contains("`blk.0.ffn_down.weight` is stored as Q5K; supported: F32, F16")
    );
    let unknown = replace("rope_freqs.weight", zeros(1, 32), GgmlDType::F32);
    assert!(message(&unknown).contains("rope_freqs.weight"));
    let infinite = (zeros(128, 128) + f64::INFINITY).expect("a tensor of infinities");
    assert!(
        message(&replace(
            "blk.1.attn_output.weight",
            infinite,
            GgmlDType::F32
        ))
        .contains("attn_output")
    );

    let whole = fs::read(fixture_in(&folder)).expect("the fixture was written");
    let cut = folder.file("cut.gguf");
    fs::write(&cut, &whole[..whole.len() - 1000]).expect("a temporary file");
    assert!(message(&cut).contains("outside the file"));
}
