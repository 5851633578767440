//! Generation with a model that says what it is told to.

use std::cell::Cell;

use super::*;
use crate::tokenizer::{PreTokenizer, data, tests::small_source};

/// A model with the small vocabulary whose answers are a script.
pub(crate) struct Scripted<'p> {
    tokenizer: Tokenizer<'p>,
    context_tokens: usize,
    /// Given the whole sequence so far, the next token.
    next: &'p dyn Fn(&[u32]) -> u32,
    pub(crate) longest: Cell<usize>,
}

impl<'p> Scripted<'p> {
    pub(crate) fn new(
        section: &'p [u8],
        context_tokens: usize,
        next: &'p dyn Fn(&[u32]) -> u32,
    ) -> Self {
        let tokenizer = data::parse(section).unwrap();
        Self {
            tokenizer,
            context_tokens,
            next,
            longest: Cell::new(0),
        }
    }
}

pub(crate) struct Script {
    capacity: usize,
    tokens: Vec<u32>,
    queued: usize,
    logits: Vec<f32>,
}

impl LanguageModel for Scripted<'_> {
    type Session = Script;

    fn tokenizer(&self) -> &Tokenizer<'_> {
        &self.tokenizer
    }

    fn context_tokens(&self) -> usize {
        self.context_tokens
    }

    fn start(&self, capacity_tokens: usize) -> Script {
        let logits = vec![0.0; self.tokenizer.token_count() as usize];
        Script {
            capacity: capacity_tokens,
            tokens: vec![],
            queued: 0,
            logits,
        }
    }

    fn push(&self, session: &mut Script, tokens: &[u32]) -> Result<(), SessionError> {
        if session.tokens.len() + tokens.len() > session.capacity {
            return Err(SessionError::Full {
                capacity: session.capacity,
            });
        }
        session.tokens.extend(tokens);
        session.queued = 2 * tokens.len();
        self.longest
            .set(self.longest.get().max(session.tokens.len()));
        Ok(())
    }

    fn step<'s>(&self, session: &'s mut Script) -> Step<'s> {
        match session.queued {
            0 => Step::Idle,
            1 => {
                session.queued = 0;
                session.logits.fill(0.0);
                session.logits[(self.next)(&session.tokens) as usize] = 50.0;
                Step::Logits(&session.logits)
            }
            queued => {
                session.queued -= 1;
                Step::Working {
                    done: 1,
                    total: queued,
                }
            }
        }
    }
}

pub(crate) fn section() -> Vec<u8> {
    data::encode(&small_source(PreTokenizer::Qwen2)).unwrap()
}

const END: u32 = crate::tokenizer::tests::IM_END;

/// The answer to a prompt of three tokens and why it ended.
fn run(next: &dyn Fn(&[u32]) -> u32, context: usize, max_tokens: usize) -> (Vec<u32>, Finish) {
    let section = section();
    let model = Scripted::new(&section, context, next);
    let mut generation =
        Generation::new(&model, &[1, 2, 3], max_tokens, Sampling::default()).unwrap();
    let mut told = vec![];
    for _ in 0..10_000 {
        match generation.step(&model).unwrap() {
            GenerationStep::Working { done, total } => assert!(done <= total),
            GenerationStep::Token(token) => told.push(token),
            GenerationStep::Finished(finish) => {
                assert_eq!(
                    generation.step(&model),
                    Ok(GenerationStep::Finished(finish))
                );
                assert!(told.starts_with(
                    &generation.answer()[..generation.answer().len().min(told.len())]
                ));
                return (generation.answer().to_vec(), finish);
            }
        }
    }
    panic!("no end");
}

#[test]
fn an_answer_ends_at_the_end_token() {
    let next = |tokens: &[u32]| {
        if tokens.len() < 7 {
            60 + tokens.len() as u32
        } else {
            END
        }
    };
    assert_eq!(run(&next, 100, 50), (vec![63, 64, 65, 66], Finish::Stop));
}

#[test]
fn an_answer_ends_at_the_cap_and_at_the_end_of_the_context() {
    let next = |tokens: &[u32]| tokens.len() as u32;
    assert_eq!(run(&next, 100, 5), (vec![3, 4, 5, 6, 7], Finish::Cap));
    assert_eq!(run(&next, 6, 50), (vec![3, 4, 5], Finish::Cap));
    assert_eq!(run(&next, 100, 0), (vec![], Finish::Cap));
}

#[test]
fn a_prompt_that_does_not_fit_is_refused() {
    let section = section();
    let model = Scripted::new(&section, 2, &|_| 0);
    let generation = Generation::new(&model, &[1, 2, 3], 5, Sampling::default());
    assert_eq!(generation.err(), Some(SessionError::Full { capacity: 2 }));
}

#[test]
fn a_loop_ends_the_answer_and_stands_there_once() {
    let next = |tokens: &[u32]| [70, 71, 72, 73, 74][tokens.len() % 5];
    let (answer, finish) = run(&next, 1000, 500);
    assert_eq!(
        finish,
        Finish::Loop {
            period: 5,
            repeats: 3
        }
    );
    assert_eq!(answer, [73, 74, 70, 71, 72]);
}

#[test]
fn loops_are_found_and_ordinary_text_is_not() {
    assert_eq!(find_loop(&[9; 7]), None);
    assert_eq!(find_loop(&[9; 8]), Some((1, 8)));
    let sentence: Vec<u32> = (0..20).collect();
    assert_eq!(
        find_loop(&[&[99], &sentence[..], &sentence[..]].concat()),
        Some((20, 2))
    );
    assert_eq!(
        find_loop(&[&sentence[..], &[99], &sentence[..]].concat()),
        None
    );
    assert_eq!(find_loop(&[1, 2, 1, 2, 1, 2]), None);
    assert_eq!(find_loop(&[1, 2, 1, 2, 1, 2, 1, 2, 1, 2]), Some((2, 5)));
    assert_eq!(find_loop(&[]), None);
    let long: Vec<u32> = (0..MAX_PERIOD as u32 + 1).collect();
    assert_eq!(find_loop(&[&long[..], &long[..]].concat()), None);
}
