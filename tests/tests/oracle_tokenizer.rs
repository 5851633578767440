//! The engine's tokenizer against the `tokenizers` crate, on the vocabulary of a real GGUF file.
//!
//! The oracle is candle's tokenizer of the same file. For `smollm` candle 0.11.1 falls back to GPT-2's
//! pre-tokenizer (a space before the text, digits in groups), which is not how the model was trained:
//! there the oracle gets the pre-tokenizer of the model's own tokenizer.json instead, and the
//! normaliser, vocabulary, merges and special tokens stay candle's.
//!
//! `CLOISTER_ORACLE_MODEL=model.gguf cargo test -p cloister-tests --features slow --release --test oracle_tokenizer -- --ignored`

use std::{env, fs::File, io::BufReader};

use candle_core::quantized::{gguf_file::Content, tokenizer::TokenizerFromGguf as _};
use cloister_engine::tokenizer::{PreTokenizer, Role, Special, Tokenizer, Turn, data};
use cloister_image::tokenizer as packed;
use tokenizers::{
    Tokenizer as Oracle,
    pre_tokenizers::{byte_level::ByteLevel, digits::Digits, sequence::Sequence},
};

/// Strings of the generated part; with the picked ones well over the 2,000 that are asked for.
const GENERATED: usize = 6_000;

fn content() -> Content {
    let path =
        env::var_os("CLOISTER_ORACLE_MODEL").expect("CLOISTER_ORACLE_MODEL names a GGUF file");
    let file = File::open(&path).expect("the GGUF file opens");
    Content::read(&mut BufReader::new(file)).expect("the GGUF file's header is read")
}

fn oracle(content: &Content) -> Oracle {
    let mut oracle = Oracle::from_gguf(content).expect("candle reads the tokenizer");
    if packed::source(content)
        .expect("the model and its tokenizer are sound")
        .pre_tokenizer
        == PreTokenizer::SmolLm
    {
        let steps = vec![
            Digits::new(true).into(),
            ByteLevel::new(false, true, true).into(),
        ];
        oracle.with_pre_tokenizer(Some(Sequence::new(steps)));
    }
    oracle
}

fn with_both(test: impl FnOnce(&Tokenizer<'_>, Oracle)) {
    let content = content();
    let section = packed::section(&content).expect("the model and its tokenizer are sound");
    test(
        &data::parse(&section).expect("the model and its tokenizer are sound"),
        oracle(&content),
    );
}

fn ids(oracle: &Oracle, text: &str) -> Vec<u32> {
    oracle
        .encode_fast(text, false)
        .expect("the oracle encodes")
        .get_ids()
        .to_vec()
}

/// Compares all strings and names the first few that differ.
fn assert_same<'t>(
    tokenizer: &Tokenizer<'_>,
    oracle: &Oracle,
    special: Special,
    texts: impl Iterator<Item = &'t str>,
) -> usize {
    let (mut count, mut differ) = (0, vec![]);
    for text in texts {
        count += 1;
        let (ours, theirs) = (tokenizer.encode(text, special), ids(oracle, text));
        if *ours != theirs {
            let start: String = text.chars().take(60).collect();
            let at = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
            differ.push(format!(
                "{start:?}... from token {at}: {:?} but {:?}",
                near(&ours, at),
                near(&theirs, at)
            ));
        }
    }
    assert!(
        differ.is_empty(),
        "{} of {count} differ:\n{}",
        differ.len(),
        differ[..differ.len().min(20)].join("\n")
    );
    count
}

fn near(tokens: &[u32], at: usize) -> &[u32] {
    &tokens[at.min(tokens.len())..(at + 6).min(tokens.len())]
}

#[test]
#[ignore = "needs CLOISTER_ORACLE_MODEL"]
fn plain_text_gives_the_same_tokens() {
    with_both(|tokenizer, mut oracle| {
        oracle.set_encode_special_tokens(true);
        let corpus = corpus();
        let count = assert_same(
            tokenizer,
            &oracle,
            Special::Plain,
            corpus.iter().map(String::as_str),
        );
        println!("{count} strings, the same tokens");
        assert!(count > 2_000);
    });
}

#[test]
#[ignore = "needs CLOISTER_ORACLE_MODEL"]
fn special_tokens_are_found_in_the_same_places() {
    with_both(|tokenizer, oracle| {
        let corpus = corpus();
        // The oracle also takes unused rows of the embedding for special tokens; the model's
        // tokenizer.json does not know them.
        let texts = corpus
            .iter()
            .map(String::as_str)
            .filter(|text| !text.contains("[PAD"));
        assert!(assert_same(tokenizer, &oracle, Special::Parse, texts) > 2_000);
    });
}

#[test]
#[ignore = "needs CLOISTER_ORACLE_MODEL"]
fn every_character_gives_the_same_tokens() {
    with_both(|tokenizer, mut oracle| {
        oracle.set_encode_special_tokens(true);
        let all: Vec<char> = ('\0'..=char::MAX).collect();
        let texts: Vec<String> = all
            .chunks(32)
            .map(|chunk| {
                chunk
                    .iter()
                    .flat_map(|&c| [c, 'a', c, ' ', c, '1', c, c, '.', '\n'])
                    .collect()
            })
            .collect();
        let texts = texts
            .iter()
            .map(String::as_str)
            .filter(|text| !newer_than_the_tables(text));
        assert!(assert_same(tokenizer, &oracle, Special::Plain, texts) > 34_000);
    });
}

/// Digits that Rust's own tables already know and the regular expressions' do not: for `smollm`, the
/// oracle splits by the former. None of them is in the vocabulary as more than its bytes.
fn newer_than_the_tables(text: &str) -> bool {
    let newer = regex_syntax_numbers();
    text.chars()
        .any(|c| c.is_numeric() && !newer.iter().any(|&(low, high)| (low..=high).contains(&c)))
}

fn regex_syntax_numbers() -> Vec<(char, char)> {
    use regex_syntax::hir::{Class, HirKind};
    match regex_syntax::parse(r"\p{N}")
        .expect("the model and its tokenizer are sound")
        .into_kind()
    {
        HirKind::Class(Class::Unicode(class)) => {
            class.iter().map(|r| (r.start(), r.end())).collect()
        }
        other => panic!("not a class: {other:?}"),
    }
}

#[test]
#[ignore = "needs CLOISTER_ORACLE_MODEL"]
fn hostile_long_words_give_the_same_tokens() {
    with_both(|tokenizer, mut oracle| {
        oracle.set_encode_special_tokens(true);
        let long = 64 * 1024;
        let texts = [
            "a".repeat(long),
            "ab".repeat(long / 2),
            "é".repeat(long / 2),
            "e\u{301}".repeat(long / 3),
            "a\u{316}\u{301}".repeat(long / 5),
            "\u{301}".repeat(long / 2),
            "ಠ".repeat(long / 3),
            " ".repeat(long),
            "\n".repeat(long),
            " \r\n".repeat(long / 3),
            "\t x".repeat(long / 3),
            "=".repeat(long),
            "'s".repeat(long / 2),
            "0".repeat(long),
            "\u{0}".repeat(long),
            "👩\u{200D}👩\u{200D}👧\u{200D}👦".repeat(long / 25),
            Random(5).letters(long),
        ];
        assert_same(
            tokenizer,
            &oracle,
            Special::Plain,
            texts.iter().map(String::as_str),
        );
    });
}

#[test]
#[ignore = "needs CLOISTER_ORACLE_MODEL"]
fn a_conversation_is_encoded_as_its_template_prints_it() {
    with_both(|tokenizer, oracle| {
        for text in corpus()
            .iter()
            .filter(|text| !text.contains("<") && !text.contains("[PAD"))
        {
            let turns = [
                Turn {
                    role: Role::System,
                    text: "You write summaries.",
                },
                Turn {
                    role: Role::User,
                    text,
                },
                Turn {
                    role: Role::Assistant,
                    text: "Fine.",
                },
                Turn {
                    role: Role::User,
                    text: "\n\nAgain!",
                },
            ];
            let mut printed = String::new();
            for (role, text) in [
                ("system", turns[0].text),
                ("user", text),
                ("assistant", "Fine."),
                ("user", "\n\nAgain!"),
            ] {
                printed += &format!("<|im_start|>{role}\n{text}<|im_end|>\n");
            }
            printed += "<|im_start|>assistant\n";
            assert_eq!(
                *tokenizer.encode_chat(&turns),
                ids(&oracle, &printed),
                "{text:?}"
            );
        }
    });
}

#[test]
#[ignore = "needs CLOISTER_ORACLE_MODEL"]
fn decoding_gives_the_text_back() {
    with_both(|tokenizer, mut oracle| {
        oracle.set_encode_special_tokens(true);
        for text in corpus() {
            let tokens = tokenizer.encode(&text, Special::Plain);
            let decoded = oracle
                .decode(&tokens, false)
                .expect("the model and its tokenizer are sound");
            assert_eq!(*tokenizer.decode(&tokens), decoded, "{text:?}");
        }
    });
}

/// The hard strings: picked ones, each special token's name, and generated mixtures.
fn corpus() -> Vec<String> {
    let mut all: Vec<String> = PICKED.iter().map(|&text| text.to_owned()).collect();
    for contraction in [
        "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Re", "'rE", "'Ve", "'lL",
        "'M", "'D", "'ſ", "’s",
    ] {
        for (before, after) in [
            ("it", ""),
            ("IT", "x"),
            ("", " y"),
            ("1", "2"),
            (" ", "'s"),
            ("é", "é"),
            ("\n", "\n"),
        ] {
            all.push(format!("{before}{contraction}{after}"));
        }
    }
    for name in [
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<tool_call>",
        "<|fim_prefix|>",
        "<repo_name>",
        "<jupyter_code>",
        "[PAD151933]",
    ] {
        for (before, after) in [
            ("", ""),
            (" ", " "),
            ("a", "b"),
            ("<", ">"),
            ("\n", "\n"),
            ("<|im_", "end|>"),
        ] {
            all.push(format!("{before}{name}{after}{name}"));
        }
    }
    for length in 1..=40 {
        for unit in [
            " ", "\n", "\r\n", "\t", "\u{A0}", "\u{3000}", " \n", "\u{85}", "\u{200B}",
        ] {
            all.push(unit.repeat(length));
            all.push(format!("x{}y", unit.repeat(length)));
            all.push(format!("{}7{}", unit.repeat(length), unit.repeat(length)));
        }
    }
    let mut random = Random(2);
    all.extend((0..GENERATED).map(|_| random.mixture()));
    all
}

const PICKED: &[&str] = &[
    "",
    "Hello, world!",
    "Hello'Ve world 123\n\n  foo",
    "The quick brown fox jumps over the lazy dog.",
    "I'm you're he'll we've she'd it's don't I'M YOU'RE HE'LL WE'VE SHE'D IT'S DON'T",
    "Größe, Straße, Äpfel, Öl, Übung; café naïve façade œuvre",
    "Привет, как дела? Съешь ещё этих мягких французских булок.",
    "Καλημέρα κόσμε, τι κάνεις; ΆΈΉΊΌΎΏ",
    "שלום עולם! מה שלומך? שָׁלוֹם",
    "مرحبا بالعالم، كيف حالك؟ السَّلامُ عَلَيْكُمْ ١٢٣٤٥",
    "नमस्ते दुनिया, आप कैसे हैं? क्षत्रिय १२३",
    "வணக்கம் உலகம் ௧௨௩",
    "สวัสดีชาวโลก ๑๒๓",
    "សួស្តី\u{200B}ពិភពលោក",
    "你好，世界！今天天气怎么样？１２３",
    "こんにちは世界。カタカナ ﾊﾝｶｸ ガギグ か\u{3099}",
    "안녕하세요 세계 각 한글 \u{1100}\u{1161}\u{11A8}",
    "გამარჯობა მსოფლიო",
    "Բարեւ աշխարհ",
    "ሰላም ልዑል",
    "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚 𝒳 𐍈 𒀀 𓀀",
    "e\u{301} é E\u{30A} \u{212B} \u{2126} q\u{307}\u{323} ẛ\u{323} \u{1E9B}\u{323} \u{FB01} \u{FB2C}",
    "\u{301}\u{302} starts with marks",
    "Z\u{351}\u{36B}\u{343}\u{36A}\u{302}A\u{33B}\u{30D}L\u{326}\u{30E}G\u{321}\u{32F}O\u{321}",
    "👩‍👩‍👧‍👦 👨🏽‍💻 🏳️‍🌈 🇩🇪🇫🇷 ☝🏿 ❤️ 1️⃣ #️⃣ 🤷🏻‍♀️",
    "😀😃😄😁😆😅🤣😂🙂🙃😉😊😇",
    "\u{0}\u{1}\u{2}\u{7}\u{8}\u{B}\u{C}\u{E}\u{1B}[31mred\u{1B}[0m\u{7F}",
    "tab\tand\t\ttabs\r\nCRLF\r\n\r\nCR\ronly\n\rLFCR",
    "   leading, trailing   ",
    "a \n b \r\n c\n\n\n   d",
    "\u{FEFF}BOM \u{200B}zero\u{200C}width\u{200D}joiners\u{2060} \u{AD}soft",
    "\u{202E}right to left override\u{202C} \u{2066}isolate\u{2069}",
    "nbsp\u{A0}\u{A0}x em\u{2003}space line\u{2028}sep para\u{2029}sep next\u{85}line",
    "1234567890 3.14159 1,000,000 0x1F 1e-10 ½ ¾ Ⅷ ² ³ ① ٣ 五 ௰",
    "2026-11-22T18:42:23Z +49 (0)170 1234567 €1.234,56 $5 50%",
    "fn main() {\n    println!(\"{:?}\", vec![1, 2, 3]);\n}\n",
    "def f(x):\n\treturn x**2  # comment\n\n\nclass A:\n    pass\n",
    "SELECT * FROM t WHERE a='it''s' AND b>=1;--",
    "<html><body class=\"x\">&amp;&#39;</body></html>",
    "{\"a\":[1,2,{\"b\":null}],\"c\":\"\\u00e9\"}",
    "https://example.org/path?q=1&r=%20#frag user@example.org C:\\dir\\file.txt",
    "!!!???...---___***###@@@~~~```\"\"\"'''",
    "=> -> <= >= != == === && || ++ -- :: ... ?. ?? |> <|> <$>",
    "   !   ?  .\n.\n!\r\n;\n\n;;\n",
    " \u{301} \u{20DD} a\u{20DD}",
    "_snake_case camelCase PascalCase SCREAMING kebab-case x_1 1_x",
    "ﷺ ﷽ ꙮ 𒐫 ௵",
    "\u{E000}\u{F8FF}\u{FFFD}\u{FFFE}\u{FFFF}\u{10FFFF}\u{D7FF}\u{E0001}",
    "Ã© Ã¼ â€™ mojibake Ã\u{83}Â©",
    "ſtraße ſ's 'ſ K \u{212A} ı İ ŉ ǅ ﬀ ﬃ",
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt.",
    "Pneumonoultramicroscopicsilicovolcanoconiosis Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
];

/// splitmix64: small, repeatable, and good enough to mix strings with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn letters(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from(b'a' + self.below(26) as u8))
            .collect()
    }

    /// A few pieces of different kinds, with nothing between them.
    fn mixture(&mut self) -> String {
        (0..=self.below(9)).map(|_| self.piece()).collect()
    }

    fn piece(&mut self) -> String {
        let length = 1 + self.below(8);
        match self.below(10) {
            0 => [" ", "  ", "\n", "\r\n", "\t", "\u{A0}", " \n ", "\u{2028}"][self.below(8)]
                .repeat(length),
            1 => self.next().to_string(),
            2 => ["'s", "'LL", "'d ", "’t", "'", "''", "'re", "'Ve"][self.below(8)].to_owned(),
            3 => [
                "(", ")", "...", "!?", "-", "_", "/*", "*/", "\"", "$", "€", "°", "∑", "—", "„",
                "«",
            ][self.below(16)]
            .repeat(length),
            4 => [
                "😀",
                "👩\u{200D}🚀",
                "🏽",
                "🇨🇭",
                "❤\u{FE0F}",
                "\u{200D}",
                "\u{FE0F}",
                "☕",
            ][self.below(8)]
            .repeat(length),
            5 => PICKED[self.below(PICKED.len())]
                .chars()
                .skip(self.below(12))
                .take(length * 3)
                .collect(),
            6 => self.letters(length),
            _ => {
                let (low, high) = RANGES[self.below(RANGES.len())];
                (0..length)
                    .filter_map(|_| char::from_u32(low + self.below((high - low) as usize) as u32))
                    .collect()
            }
        }
    }
}

/// Blocks of characters from which the generated strings draw.
const RANGES: &[(u32, u32)] = &[
    (0x00, 0x20),
    (0x20, 0x7F),
    (0x7F, 0x100),
    (0x100, 0x250),
    (0x250, 0x300),
    (0x300, 0x370),
    (0x370, 0x400),
    (0x400, 0x530),
    (0x530, 0x590),
    (0x590, 0x600),
    (0x600, 0x700),
    (0x700, 0x900),
    (0x900, 0xA00),
    (0xA00, 0xC00),
    (0xC00, 0xE00),
    (0xE00, 0xF00),
    (0xF00, 0x1000),
    (0x1000, 0x1100),
    (0x1100, 0x1200),
    (0x1200, 0x1400),
    (0x1400, 0x1700),
    (0x1700, 0x1900),
    (0x1900, 0x1C00),
    (0x1C00, 0x1E00),
    (0x1E00, 0x2000),
    (0x2000, 0x2070),
    (0x2070, 0x2150),
    (0x2150, 0x2200),
    (0x2200, 0x2600),
    (0x2600, 0x2C00),
    (0x2C00, 0x2E80),
    (0x2E80, 0x3100),
    (0x3100, 0x3400),
    (0x4E00, 0x9FFF),
    (0xA000, 0xA800),
    (0xA800, 0xAC00),
    (0xAC00, 0xD7A4),
    (0xD7B0, 0xD800),
    (0xE000, 0xF900),
    (0xF900, 0xFB00),
    (0xFB00, 0xFE00),
    (0xFE00, 0x1_0000),
    (0x1_0000, 0x1_1000),
    (0x1_1000, 0x1_2000),
    (0x1_D000, 0x1_D800),
    (0x1_F000, 0x1_FB00),
    (0x2_F800, 0x2_FA20),
    (0xE_0000, 0xE_0200),
];
