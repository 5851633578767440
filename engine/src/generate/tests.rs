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

/// Sequences that each take two steps a token, all in the same steps.
pub(crate) struct Scripts {
    most: usize,
    opened: usize,
    scripts: Vec<(SequenceId, Script)>,
}

struct Script {
    capacity: usize,
    tokens: Vec<u32>,
    queued: usize,
    logits: Vec<f32>,
}

impl Scripts {
    pub(crate) fn len(&self) -> usize {
        self.scripts.len()
    }

    fn get(&mut self, sequence: SequenceId) -> &mut Script {
        let mut scripts = self.scripts.iter_mut();
        let found = scripts.find(|(id, _)| *id == sequence);
        &mut found.expect("a sequence that has not ended").1
    }
}

impl LanguageModel for Scripted<'_> {
    type Batch = Scripts;

    fn tokenizer(&self) -> &Tokenizer<'_> {
        &self.tokenizer
    }

    fn context_tokens(&self) -> usize {
        self.context_tokens
    }

    /// So many `bytes` are so many sequences.
    fn batch(&self, _: usize, bytes: u64) -> Scripts {
        Scripts {
            most: bytes as usize,
            opened: 0,
            scripts: vec![],
        }
    }

    fn open(&self, batch: &mut Scripts, capacity: usize) -> Result<SequenceId, SessionError> {
        if batch.len() == batch.most {
            return Err(SessionError::NoRoom);
        }
        batch.opened += 1;
        let script = Script {
            capacity,
            tokens: vec![],
            queued: 0,
            logits: vec![0.0; self.tokenizer.token_count() as usize],
        };
        let id = SequenceId::of_test(batch.opened);
        batch.scripts.push((id, script));
        Ok(id)
    }

    fn push(
        &self,
        batch: &mut Scripts,
        sequence: SequenceId,
        tokens: &[u32],
    ) -> Result<(), SessionError> {
        let script = batch.get(sequence);
        if script.tokens.len() + tokens.len() > script.capacity {
            return Err(SessionError::Full {
                capacity: script.capacity,
            });
        }
        script.tokens.extend(tokens);
        script.queued = 2 * tokens.len();
        self.longest
            .set(self.longest.get().max(script.tokens.len()));
        Ok(())
    }

    fn step(&self, batch: &mut Scripts) -> BatchStep {
        let mut step = BatchStep::Idle;
        for (_, script) in &mut batch.scripts {
            script.queued = script.queued.saturating_sub(1);
            if script.queued == 0 && !script.tokens.is_empty() {
                script.logits.fill(0.0);
                script.logits[(self.next)(&script.tokens) as usize] = 50.0;
                step = BatchStep::Logits;
            } else if step == BatchStep::Idle {
                step = BatchStep::Working;
            }
        }
        step
    }

    fn logits<'b>(&self, batch: &'b Scripts, sequence: SequenceId) -> Option<&'b [f32]> {
        let mut scripts = batch.scripts.iter();
        let (_, script) = scripts.find(|(id, _)| *id == sequence)?;
        (script.queued == 0).then_some(&script.logits)
    }

    fn close(&self, batch: &mut Scripts, sequence: SequenceId) {
        batch.scripts.retain(|(id, _)| *id != sequence);
    }
}

pub(crate) fn section() -> Vec<u8> {
    data::encode(&small_source(PreTokenizer::Qwen2)).unwrap()
}

const END: u32 = crate::tokenizer::tests::IM_END;

/// The answer to a prompt and why it ended.
fn run_prompt(
    prompt: &[u32],
    next: &dyn Fn(&[u32]) -> u32,
    context: usize,
    max_tokens: usize,
) -> (Vec<u32>, Finish) {
    let section = section();
    let model = Scripted::new(&section, context, next);
    let mut batch = model.batch(context, 1);
    let mut generation =
        Generation::new(&model, &mut batch, prompt, max_tokens, Sampling::default()).unwrap();
    let mut told = vec![];
    for _ in 0..10_000 {
        match generation.advance(&model, &mut batch).unwrap() {
            GenerationStep::Working => {
                model.step(&mut batch);
            }
            GenerationStep::Token(token) => told.push(token),
            GenerationStep::Finished(finish) => {
                assert_eq!(
                    generation.advance(&model, &mut batch),
                    Ok(GenerationStep::Finished(finish))
                );
                assert_eq!(batch.len(), 0, "its place is free");
                assert!(told.starts_with(
                    &generation.answer()[..generation.answer().len().min(told.len())]
                ));
                return (generation.answer().to_vec(), finish);
            }
        }
    }
    panic!("no end");
}

fn run(next: &dyn Fn(&[u32]) -> u32, context: usize, max_tokens: usize) -> (Vec<u32>, Finish) {
    run_prompt(&[1, 2, 3], next, context, max_tokens)
}

#[test]
fn an_empty_prompt_has_an_empty_answer() {
    let next = |_: &[u32]| panic!("the model is not asked");
    assert_eq!(run_prompt(&[], &next, 100, 50), (vec![], Finish::Stop));
}

#[test]
fn a_cancelled_answer_leaves_its_place_and_a_full_batch_has_none() {
    let section = section();
    let model = Scripted::new(&section, 100, &|_| 60);
    let mut batch = model.batch(100, 1);
    let mut begin = || Generation::new(&model, &mut batch, &[1], 5, Sampling::default());
    let first = begin().unwrap();
    assert_eq!(begin().err(), Some(SessionError::NoRoom));
    first.cancel(&model, &mut batch);
    let second = Generation::new(&model, &mut batch, &[1], 5, Sampling::default());
    assert!(second.is_ok() && batch.len() == 1);
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
    let mut batch = model.batch(2, 1);
    let generation = Generation::new(&model, &mut batch, &[1, 2, 3], 5, Sampling::default());
    assert_eq!(generation.err(), Some(SessionError::Full { capacity: 2 }));
    assert_eq!(batch.len(), 0);
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
