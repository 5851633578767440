//! Sequences in a batch, with the generated model: what comes out for one is the same bit for bit as when it is alone,
//! whatever the others do.

use cloister_engine::generate::LanguageModel;
use cloister_engine::session::{MAX_SEQUENCES, STEP_PRODUCTS, SessionError};
use cloister_engine::summary::{
    Limits, Message, Style, Summaries, Summary, SummaryRequest, SummaryStep,
};
use cloister_engine::workers::{Alone, Threads, Workers};
use cloister_engine::{Batch, BatchLimits, BatchStep, Model, SequenceId, Session, Step};
use std::fs;
use std::sync::OnceLock;

/// Tokens of every answer.
const WRITTEN: usize = 6;

fn pack() -> &'static [u8] {
    static PACK: OnceLock<Vec<u8>> = OnceLock::new();
    PACK.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("cloister-batch-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let (gguf, out) = (folder.join("fixture.gguf"), folder.join("model.pack"));
        cloister_image::fixture::write(&gguf).expect("the fixture can be written");
        cloister_image::model_pack::build(&gguf, &out, &mut |_, _| {}).expect("it can be packed");
        let pack = fs::read(&out).expect("the pack was written");
        fs::remove_dir_all(&folder).expect("the folder can be removed");
        pack
    })
}

fn model(workers: &'static dyn Workers) -> Model<'static> {
    let model = Model::open(pack()).expect("a fresh pack opens");
    model.with_workers(workers)
}

fn limits(sequences: usize, step_products: usize) -> BatchLimits {
    BatchLimits {
        sequences,
        sequence_bytes: u64::MAX,
        step_products,
    }
}

/// Prompts of 1 to 49 tokens.
fn prompt(number: usize) -> Vec<u32> {
    let length = 1 + (number * 23) % 49;
    let token = |at: usize| ((at * 37 + number * 101 + 5) % 290) as u32;
    (0..length).map(token).collect()
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.expect("a vocabulary is not empty").0 as u32
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// The logits behind a prompt and each written token, of the sequence by itself.
fn alone(model: &Model<'_>, prompt: &[u32]) -> Vec<Vec<u32>> {
    let mut session = Session::new(model, prompt.len() + WRITTEN);
    let mut all = Vec::new();
    let mut queued = prompt.to_vec();
    while all.len() < WRITTEN {
        session.push(model, &queued).expect("the session has room");
        loop {
            match session.step(model) {
                Step::Logits(logits) => {
                    queued = vec![likeliest(logits)];
                    break all.push(bits(logits));
                }
                Step::Working { done, total } => assert!(done < total),
                Step::Idle => panic!("tokens are queued"),
            }
        }
    }
    all
}

fn expected() -> &'static [Vec<Vec<u32>>] {
    static EXPECTED: OnceLock<Vec<Vec<Vec<u32>>>> = OnceLock::new();
    EXPECTED.get_or_init(|| {
        let model = model(&Alone);
        (0..24)
            .map(|number| alone(&model, &prompt(number)))
            .collect()
    })
}

/// An answer in a batch, compared with what is expected as it goes on.
struct Answer {
    number: usize,
    id: SequenceId,
    written: usize,
}

impl Answer {
    fn begin(model: &Model<'_>, batch: &mut Batch, number: usize) -> Self {
        let prompt = prompt(number);
        let id = batch.open(model, prompt.len() + WRITTEN);
        let id = id.expect("the batch has room");
        batch.push(model, id, &prompt).expect("the prompt fits");
        Self {
            number,
            id,
            written: 0,
        }
    }

    /// Whether the answer is complete, and its sequence closed.
    fn advance(&mut self, model: &Model<'_>, batch: &mut Batch) -> bool {
        let Some(logits) = batch.logits(self.id) else {
            return false;
        };
        let expected = &expected()[self.number][self.written];
        assert!(
            bits(logits) == *expected,
            "answer {}, token {}",
            self.number,
            self.written
        );
        let token = likeliest(logits);
        self.written += 1;
        if self.written == WRITTEN {
            batch.close(self.id);
            assert!(batch.logits(self.id).is_none());
            return true;
        }
        batch.push(model, self.id, &[token]).expect("it has room");
        assert!(batch.logits(self.id).is_none(), "a token is queued");
        false
    }
}

/// Steps until all answers are complete.
fn finish(model: &Model<'_>, batch: &mut Batch, answers: &mut Vec<Answer>) {
    for _ in 0..10_000_000 {
        if answers.is_empty() {
            return assert_eq!(batch.step(model), BatchStep::Idle);
        }
        assert_ne!(batch.step(model), BatchStep::Idle);
        answers.retain_mut(|answer| !answer.advance(model, batch));
    }
    panic!("no end");
}

/// Answers to 24 prompts in a batch of 16. A new one comes in every few steps while there is room.
fn come_and_go(model: &Model<'_>, step_products: usize, every: usize) {
    let mut batch = Batch::new(model, limits(MAX_SEQUENCES, step_products));
    let mut answers = Vec::new();
    let mut waiting = 0..24;
    for step in 0.. {
        if step % every == 0 && batch.len() < MAX_SEQUENCES {
            let Some(number) = waiting.next() else { break };
            answers.push(Answer::begin(model, &mut batch, number));
        }
        batch.step(model);
        answers.retain_mut(|answer| !answer.advance(model, &mut batch));
    }
    finish(model, &mut batch, &mut answers);
    assert_eq!((batch.len(), batch.reserved_bytes()), (0, 0));
}

#[test]
fn answers_are_the_same_alone_and_in_a_batch_of_16_with_any_number_of_workers() {
    static TEAMS: OnceLock<[Threads; 3]> = OnceLock::new();
    for threads in TEAMS.get_or_init(|| [1, 2, 3].map(Threads::new)) {
        let model = model(threads);
        for every in [1, 3] {
            come_and_go(&model, STEP_PRODUCTS, every);
        }
        come_and_go(&model, 100_000, 40);
    }
}

#[test]
fn answers_are_the_same_however_small_the_steps() {
    let model = model(&Alone);
    for step_products in [1, 3_000_000] {
        come_and_go(&model, step_products, 50);
    }
}

#[test]
fn a_sequence_can_end_at_every_step_and_another_can_take_its_place() {
    let model = model(&Alone);
    let mut last = 0;
    for end in 0.. {
        let mut batch = Batch::new(&model, limits(3, 400_000));
        let mut answers: Vec<_> = [7, 2]
            .map(|number| Answer::begin(&model, &mut batch, number))
            .into();
        let leaving = Answer::begin(&model, &mut batch, 11);
        let before = batch.reserved_bytes();
        for _ in 0..end {
            last = end;
            batch.step(&model);
            answers.retain_mut(|answer| !answer.advance(&model, &mut batch));
        }
        batch.close(leaving.id);
        batch.close(leaving.id);
        assert!(batch.reserved_bytes() < before);
        assert!(batch.tokens(leaving.id).is_none() && batch.logits(leaving.id).is_none());
        assert_eq!(
            batch.push(&model, leaving.id, &[1]),
            Err(SessionError::Ended)
        );
        answers.push(Answer::begin(&model, &mut batch, 5));
        let is_last = answers.len() == 1;
        finish(&model, &mut batch, &mut answers);
        assert_eq!(batch.reserved_bytes(), 0);
        if is_last {
            break;
        }
    }
    assert!(last > 20, "only {last} steps");
}

#[test]
fn nothing_is_left_when_the_last_one_has_gone() {
    let model = model(&Alone);
    // What the batch holds, but for its counters.
    let shown = |batch: &Batch| {
        let text = format!("{batch:?}");
        let from = text.find("pass: ").expect("the batch has a pass");
        text[from..].to_owned()
    };
    let mut batch = Batch::new(&model, limits(4, 400_000));
    let fresh = shown(&batch);
    for steps in 1..60 {
        let ids = [3, 4].map(|number| Answer::begin(&model, &mut batch, number).id);
        for _ in 0..steps {
            batch.step(&model);
        }
        assert!(shown(&batch).len() > fresh.len());
        ids.into_iter().for_each(|id| batch.close(id));
        let left = shown(&batch);
        // Where the pass stood does not matter.
        assert!(left.len() < fresh.len() + 20, "{steps}: {left}");
        assert_eq!(batch.step(&model), BatchStep::Idle);
    }
}

#[test]
fn memory_is_set_aside_for_the_whole_sequence_before_it_begins() {
    let model = model(&Alone);
    let bytes = model.sequence_bytes(64);
    let limits = BatchLimits {
        sequences: MAX_SEQUENCES,
        sequence_bytes: 2 * bytes,
        step_products: STEP_PRODUCTS,
    };
    let mut batch = Batch::new(&model, limits);
    let first = batch.open(&model, 64).expect("there is room for two");
    let second = batch.open(&model, 50).expect("there is room for two");
    assert_eq!(batch.open(&model, 64), Err(SessionError::NoRoom));
    let too_large = SessionError::TooLarge {
        needed_bytes: model.sequence_bytes(192),
        most_bytes: 2 * bytes,
    };
    assert_eq!(batch.open(&model, 192), Err(too_large));
    batch.close(first);
    let third = batch.open(&model, 64).expect("there is room again");
    assert_ne!(third, first);
    assert_eq!(batch.push(&model, first, &[1]), Err(SessionError::Ended));
    assert_eq!(
        batch.push(&model, second, &[1; 51]),
        Err(SessionError::Full { capacity: 50 })
    );
    [second, third].into_iter().for_each(|id| batch.close(id));
    assert!(batch.is_empty());
    let mut batch = Batch::new(&model, self::limits(MAX_SEQUENCES, STEP_PRODUCTS));
    for _ in 0..MAX_SEQUENCES {
        batch.open(&model, 1).expect("there are 16 places");
    }
    assert_eq!(batch.open(&model, 1), Err(SessionError::NoRoom));
}

fn request(number: usize) -> SummaryRequest {
    let text = format!(
        "Message {number}: {}",
        "lunch at one? ".repeat(number * 7 % 20)
    );
    SummaryRequest {
        messages: vec![Message::new("Ana", text)],
        style: Style::Bullets,
        max_tokens: Some(4 + number % 9),
    }
}

/// Summaries of 20 requests, of which so many are at work at one time; where there is no room, they wait.
fn summaries(model: &Model<'_>, at_once: usize, bytes: u64) -> Vec<Summary> {
    let all = Summaries::new(model, Limits::default());
    let mut batch = model.batch(model.context_tokens(), bytes);
    let mut jobs = Vec::new();
    let mut done: Vec<Option<Summary>> = vec![None; 20];
    let mut waiting = (0..20).peekable();
    while !jobs.is_empty() || waiting.peek().is_some() {
        if jobs.len() < at_once
            && let Some(number) = waiting.next()
        {
            let job = all.begin(model, request(number)).expect("there is text");
            jobs.push((number, job));
        }
        model.step(&mut batch);
        jobs.retain_mut(|(number, job)| {
            let step = job.advance(model, &mut batch).expect("the model answers");
            if let SummaryStep::Done(summary) = step {
                done[*number] = Some(summary);
            }
            done[*number].is_none()
        });
    }
    assert_eq!((batch.len(), batch.reserved_bytes()), (0, 0));
    done.into_iter().flatten().collect()
}

#[test]
fn summaries_are_the_same_one_by_one_and_together_and_with_little_memory() {
    let model = model(&Alone);
    let expected = summaries(&model, 1, u64::MAX);
    assert_eq!(expected.len(), 20);
    assert_eq!(summaries(&model, MAX_SEQUENCES, u64::MAX), expected);
    let context = model.context_tokens();
    let for_one = model.batch_bytes(MAX_SEQUENCES, context) + model.sequence_bytes(context);
    assert_eq!(summaries(&model, MAX_SEQUENCES, for_one), expected);
}
