//! The model pack and its tokenizer section. Their digests are checked before they are read, so this is a second line.

use cloister_engine::layout::{Encoding, Kind};
use cloister_engine::model::Model;
use cloister_engine::pack::format::CHUNK_BYTES;
use cloister_engine::pack::write::{Plan, TensorSpec};
use cloister_engine::pack::{Config, Head, Pack, PackError, Role};
use cloister_engine::tokenizer::data::{self, Source, SourceMerge, SourceToken, TokenKind};
use cloister_engine::tokenizer::{
    ChatTemplate, PreTokenizer, Role as Speaker, Special, Tokenizer, Turn,
};
use cloister_engine::workers::Alone;
use sha2::{Digest, Sha256};

/// Tokens of the seeds: all bytes, three marks, three merges.
const VOCABULARY: usize = 256 + 3 + 3;

/// A pack: head, tables, tensors, and the model made of it.
pub fn model_pack(data: &[u8]) -> bool {
    let head = Head::parse(data, &Head::root_of(data));
    if let Ok(head) = &head {
        check_chunks(head, data);
    }
    let pack = Pack::open(data);
    if let Ok(pack) = &pack {
        check_parts(pack);
        tokenizer(pack.tokenizer_section());
    }
    if let Ok(model) = Model::open(data) {
        assert!(pack.is_ok(), "a model is a pack");
        assert!(model.working_bytes(16) > 0);
        assert!(model.tokenizer().token_count() as usize == model.config().vocabulary);
    }
    head.is_ok() || pack.is_ok()
}

/// A head's chunks follow each other up to the end of the file, and bytes that nobody packed fit none of them.
fn check_chunks(head: &Head, data: &[u8]) {
    let mut end = head.head_bytes() as u64;
    for index in 0..head.chunks() {
        let range = head.chunk_range(index);
        assert!(range.start == end && range.start < range.end);
        end = range.end;
        assert!(head.check_chunk(index, b"").is_err());
    }
    assert!(end == head.pack_bytes());
    assert!(head.chunk_range(head.chunks()).is_empty());
    assert!(head.check_chunk(head.chunks(), b"").is_err());
    let all = head.check_chunks(&Alone, 0, data, || ());
    let first = (0..=head.chunks()).find(|index| {
        let part = data.chunks(CHUNK_BYTES).nth(*index);
        part.is_some_and(|bytes| head.check_chunk(*index, bytes).is_err())
    });
    let expected = first.map_or(Ok(()), |index| Err(PackError::Chunk { index }));
    assert_eq!(all, expected, "all chunks, and one after the other");
}

/// Every tensor is found under its name and shape, and under no other shape.
fn check_parts(pack: &Pack<'_>) {
    assert!(pack.config().check().is_ok());
    assert!(!pack.name().is_empty());
    for entry in pack.entries() {
        let (role, layer) = (entry.role, entry.layer);
        let (rows, columns) = (entry.rows, entry.columns);
        let matrix = pack.matrix(role, layer, rows, columns);
        let vector = pack.vector(role, layer, columns);
        match entry.encoding {
            Encoding::F32 => {
                assert!(matrix.is_err());
                // It may hold a number that is not finite.
                assert!(vector != Ok(None));
            }
            Encoding::Tiles(_) => {
                assert!(matches!(matrix, Ok(Some(_))) && vector.is_err());
                assert!(pack.matrix(role, layer, rows + 1, columns).is_err());
            }
        }
    }
}

/// A complete model; a pack with a tokenizer and one tensor, too little for a model; and the heads of both alone.
pub fn model_pack_seeds() -> Vec<Vec<u8>> {
    [model_tensors(), vec![vector(Role::OutputNorm)]]
        .iter()
        .flat_map(|tensors| {
            let (head, body) = pack_seed(tensors);
            [[&head[..], &body].concat(), head]
        })
        .collect()
}

const DIM: usize = 32;

fn vector(role: Role) -> TensorSpec {
    TensorSpec {
        role,
        layer: 0,
        encoding: Encoding::F32,
        rows: 1,
        columns: DIM,
    }
}

/// What a model of one layer consists of.
fn model_tensors() -> Vec<TensorSpec> {
    let matrix = |role, rows| TensorSpec {
        encoding: Encoding::Tiles(Kind::Byte),
        rows,
        ..vector(role)
    };
    vec![
        matrix(Role::TokenEmbedding, VOCABULARY),
        vector(Role::OutputNorm),
        vector(Role::AttentionNorm),
        matrix(Role::Query, DIM),
        matrix(Role::Key, DIM / 2),
        matrix(Role::Value, DIM / 2),
        matrix(Role::AttentionOutput, DIM),
        vector(Role::FeedForwardNorm),
        matrix(Role::Gate, DIM),
        matrix(Role::Up, DIM),
        matrix(Role::Down, DIM),
    ]
}

/// Head and body.
fn pack_seed(tensors: &[TensorSpec]) -> (Vec<u8>, Vec<u8>) {
    let mut body = tokenizer_seeds().remove(0);
    let config = Config {
        dim: DIM,
        hidden: DIM,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: DIM / 2,
        vocabulary: VOCABULARY,
        context_tokens: 64,
        rope_base: 10_000.0,
        norm_epsilon: 1e-6,
    };
    let plan = Plan::new(config, "seed", body.len(), tensors).expect("a valid plan");
    body.resize(plan.pack_bytes() as usize - plan.head_bytes(), 0);
    let digests: Vec<[u8; 32]> = body
        .chunks(CHUNK_BYTES)
        .map(|chunk| Sha256::digest(chunk).into())
        .collect();
    let head = plan.head(&digests).expect("as many digests as chunks");
    (head, body)
}

/// A tokenizer section: what is accepted can encode and decode, and text never becomes a special token.
pub fn tokenizer(data: &[u8]) -> bool {
    let Ok(tokenizer) = data::parse(data) else {
        return false;
    };
    let text = "hello <|im_end|> wörld baaaa\r\n 42 日本";
    let tokens = tokenizer.encode(text, Special::Plain);
    let is_normal = |token: &u32| tokenizer.kind(*token) == Some(TokenKind::Normal);
    assert!(tokens.iter().all(is_normal));
    // Bytes that the vocabulary lacks are left out, and nothing else: the text is in form C already.
    let mut left = text.bytes();
    for byte in tokens.iter().flat_map(|token| tokenizer.text_bytes(*token)) {
        assert!(left.any(|found| found == *byte), "in the text's order");
    }
    for token in tokenizer.encode(text, Special::Parse).iter() {
        assert!(*token < tokenizer.token_count());
    }
    let _ = tokenizer.decode(&tokens);
    let _ = tokenizer.decode(&[0, 255, 300, u32::MAX]);
    true
}

/// Text from outside, with a vocabulary that has every byte: the tokens give the text back, as far as the model's own
/// normalization allows, and no text passes for a mark of the conversation.
pub fn tokenize(data: &[u8]) -> bool {
    let text = match core::str::from_utf8(data) {
        Ok(text) if !text.is_empty() => text,
        _ => return false,
    };
    let sections = tokenizer_seeds();
    let [normalizing, plain] =
        [0, 1].map(|index| data::parse(&sections[index]).expect("a seed is valid"));
    let there_and_back = |tokenizer: &Tokenizer<'_>, text: &str| {
        let tokens = tokenizer.encode(text, Special::Plain);
        let decoded = tokenizer.decode(&tokens);
        assert!(tokens.len() <= decoded.len());
        decoded
    };
    assert_eq!(*there_and_back(&plain, text), text);
    let normalized = there_and_back(&normalizing, text);
    assert!(normalized.len() <= 3 * text.len());
    assert!(!text.is_ascii() || *normalized == text);
    assert_eq!(there_and_back(&normalizing, &normalized), normalized);
    for tokenizer in [normalizing, plain] {
        let plain = tokenizer.encode(text, Special::Plain);
        if !text.contains("<|") {
            assert_eq!(tokenizer.encode(text, Special::Parse), plain);
        }
        assert_eq!(marks(&tokenizer, text), marks(&tokenizer, "x"));
    }
    true
}

/// Tokens other than text in a conversation of one turn.
fn marks(tokenizer: &Tokenizer<'_>, text: &str) -> usize {
    let role = Speaker::User;
    let tokens = tokenizer.encode_chat(&[Turn { role, text }]);
    let is_mark = |token: &&u32| tokenizer.kind(**token) != Some(TokenKind::Normal);
    tokens.iter().filter(is_mark).count()
}

/// Texts in several scripts, with marks, with long words, and not in any normal form.
pub fn tokenize_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "hello, 42 worlds!\r\n\r\n  it's (well) done\t",
        "<|im_start|>user\n<|im_end|><|endoftext|>",
        "e\u{301}\u{323} \u{1100}\u{1161}\u{11a8} \u{212b} \u{344} \u{fb1d}",
        "日本語のテキスト、한국어 и русский नमस्ते مرحبا 👩‍👩‍👧",
        "hehehehehellllllllllllllllllllllhe",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// A vocabulary of single bytes, three marks and three merges.
pub fn tokenizer_seeds() -> Vec<Vec<u8>> {
    let token = |bytes: &[u8], kind| SourceToken {
        bytes: bytes.to_vec(),
        kind,
    };
    let mut tokens: Vec<_> = (0..=u8::MAX)
        .map(|byte| token(&[byte], TokenKind::Normal))
        .collect();
    tokens.extend(
        ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
            .map(|name| token(name.as_bytes(), TokenKind::Control)),
    );
    let mut merges = Vec::new();
    for (left, right) in [
        (b'h'.into(), b'e'.into()),
        (b'l'.into(), b'l'.into()),
        (259_u32, 260_u32),
    ] {
        let result = tokens.len() as u32;
        let bytes = [
            &tokens[left as usize].bytes[..],
            &tokens[right as usize].bytes,
        ]
        .concat();
        tokens.push(token(&bytes, TokenKind::Normal));
        merges.push(SourceMerge {
            left,
            right,
            result,
        });
    }
    let chat_template = ChatTemplate::ChatMl;
    [PreTokenizer::Qwen2, PreTokenizer::SmolLm]
        .map(|pre_tokenizer| {
            let (tokens, merges) = (tokens.clone(), merges.clone());
            let source = Source {
                pre_tokenizer,
                chat_template,
                tokens,
                merges,
                stops: vec![257],
            };
            data::encode(&source).expect("a valid vocabulary")
        })
        .to_vec()
}
