//! The model pack and its tokenizer section. Their digests are checked before they are read, so this is a second line.

use cloister_engine::layout::Encoding;
use cloister_engine::model::Model;
use cloister_engine::pack::write::{Plan, TensorSpec};
use cloister_engine::pack::{Config, Head, Pack, Role};
use cloister_engine::tokenizer::data::{self, Source, SourceMerge, SourceToken, TokenKind};
use cloister_engine::tokenizer::{ChatTemplate, PreTokenizer, Special};

/// A pack: head, tables, tensors, and the model made of it.
pub fn model_pack(data: &[u8]) -> bool {
    let head = Head::parse(data, &Head::root_of(data));
    if let Ok(head) = &head {
        for index in 0..=head.chunks() {
            let range = head.chunk_range(index);
            assert!(range.start <= range.end && range.end <= head.pack_bytes());
            assert!(head.check_chunk(index, b"").is_err());
        }
    }
    let pack = Pack::open(data);
    if let Ok(pack) = &pack {
        assert!(pack.config().check().is_ok());
        assert!(!pack.name().is_empty());
        tokenizer(pack.tokenizer_section());
    }
    if let Ok(model) = Model::open(data) {
        assert!(model.working_bytes(16) > 0);
    }
    head.is_ok() || pack.is_ok()
}

/// A pack with a tokenizer and one tensor, too little for a model; and its head alone.
pub fn model_pack_seeds() -> Vec<Vec<u8>> {
    let tokenizer = tokenizer_seeds().remove(0);
    let config = Config {
        dim: 32,
        hidden: 32,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 16,
        vocabulary: 300,
        context_tokens: 64,
        rope_base: 10_000.0,
        norm_epsilon: 1e-6,
    };
    let tensor = TensorSpec {
        role: Role::OutputNorm,
        layer: 0,
        encoding: Encoding::F32,
        rows: 1,
        columns: 32,
    };
    let plan = Plan::new(config, "seed", tokenizer.len(), &[tensor]).expect("a valid plan");
    let head = plan
        .head(&vec![[0; 32]; plan.chunks()])
        .expect("as many digests as chunks");
    let mut pack = head.clone();
    pack.extend_from_slice(&tokenizer);
    pack.resize(plan.pack_bytes() as usize, 0);
    vec![pack, head]
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
    let _ = tokenizer.encode(text, Special::Parse);
    let _ = tokenizer.decode(&tokens);
    let _ = tokenizer.decode(&[0, 255, 300, u32::MAX]);
    true
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
