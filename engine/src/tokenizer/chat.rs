//! Turns of a conversation, marked the way the model was trained.

use alloc::{string::String, vec::Vec};

use zeroize::Zeroizing;

use super::{Tokenizer, normalize::normalize};

pub(super) const CHATML_START: &str = "<|im_start|>";
pub(super) const CHATML_END: &str = "<|im_end|>";

/// How the turns of a conversation are marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChatTemplate {
    /// `<|im_start|>role\ntext<|im_end|>\n`: Qwen2 and SmolLM2. Their templates add a system turn of
    /// their own where the conversation has none; here it gets only the turns that it is given.
    ChatMl = 1,
}

impl ChatTemplate {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        (byte == Self::ChatMl as u8).then_some(Self::ChatMl)
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation. Its text is never parsed for special tokens.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'t> {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub text: &'t str,
}

impl Tokenizer<'_> {
    /// Encodes a conversation and opens the model's answer to it.
    #[must_use]
    pub fn encode_chat(&self, turns: &[Turn<'_>]) -> Zeroizing<Vec<u32>> {
        // Role, marks and line ends are fewer tokens than that.
        const MARKS: usize = 32;
        let room = turns
            .iter()
            .map(|turn| 3 * turn.text.len() + MARKS)
            .sum::<usize>()
            + MARKS;
        let mut out = Zeroizing::new(Vec::with_capacity(room));
        for turn in turns {
            self.push_turn(*turn, &mut out);
            out.push(self.turn_end);
            self.encode_words("\n", &mut out);
        }
        self.push_turn(
            Turn {
                role: Role::Assistant,
                text: "",
            },
            &mut out,
        );
        out
    }

    /// Role and text are encoded as one, because the line end between them may join a line end that
    /// the text begins with.
    fn push_turn(&self, turn: Turn<'_>, out: &mut Vec<u32>) {
        let role = turn.role.name();
        let mut text = Zeroizing::new(String::with_capacity(role.len() + 1 + turn.text.len()));
        text.push_str(role);
        text.push('\n');
        text.push_str(turn.text);
        out.push(self.turn_start);
        self.encode_words(&normalize(self.pre_tokenizer, &text), out);
    }
}
