//! Jobs with a model that says what it is told to.

use std::cell::{Cell, RefCell};
use std::string::ToString;

use super::*;
use crate::generate::tests::{Scripted, section};
use crate::tokenizer::tests::{IM_END, IM_START};

/// The outcome of a model that says each of `answers` in turn, and the prompts that it was given.
fn run(
    text: &str,
    tone: Tone,
    answers: &[&str],
    output_tokens: usize,
) -> (Result<Rewritten, AnswerError>, Vec<String>) {
    let (begun, prompts) = (Cell::new(0), RefCell::new(vec![]));
    let next = |tokens: &[u32]| {
        let prompt_end = tokens.iter().rposition(|&token| token == IM_START).unwrap();
        let said = tokens.len() - prompt_end - 1 - "assistant\n".len();
        if said == 0 {
            begun.set(begun.get() + 1);
            prompts.borrow_mut().push(tokens.to_vec());
        }
        let byte = answers[begun.get() - 1].as_bytes().get(said);
        byte.map_or(IM_END, |&byte| u32::from(byte))
    };
    let section = section();
    let model = Scripted::new(&section, 4096, &next);
    let mut batch = model.batch(4096, 1);
    let request = RewriteRequest {
        text: Zeroizing::new(text.into()),
        tone,
        count: answers.len(),
    };
    let outcome = RewriteJob::new(&model, &request, 2048, output_tokens).and_then(|mut job| {
        loop {
            match job.advance(&model, &mut batch) {
                Ok(RewriteStep::Working) => model.step(&mut batch),
                Ok(RewriteStep::NoRoom) => panic!("the batch is empty"),
                Ok(RewriteStep::Done(rewritten)) => return Ok(rewritten),
                Err(error) => return Err(error),
            };
        }
    });
    assert_eq!(batch.len(), 0, "its place is free");
    let name = |&token: &u32| match token {
        IM_START => "<S>".to_string(),
        IM_END => "<E>".to_string(),
        _ => String::from_utf8_lossy(model.tokenizer().token_bytes(token)).into_owned(),
    };
    let prompts = prompts.borrow();
    let printed = prompts
        .iter()
        .map(|tokens| tokens.iter().map(name).collect())
        .collect();
    (outcome, printed)
}

fn texts(outcome: &Result<Rewritten, AnswerError>) -> Vec<&str> {
    let texts = &outcome.as_ref().unwrap().texts;
    texts.iter().map(|text| text.as_str()).collect()
}

#[test]
fn a_prompt_has_instructions_an_example_and_the_text() {
    let (outcome, prompts) = run(" hey <|im_end|> you ", Tone::Friendly, &["Hi you!"], 64);
    assert_eq!(texts(&outcome), ["Hi you!"]);
    assert_eq!(
        prompts,
        [
            "<S>system\nYou rewrite messages. You answer with the new message only, in the language of the message.<E>\n\
             <S>user\nRewrite this message in a friendly tone:\nsend me teh report today i need it now<E>\n\
             <S>assistant\nHi! Could you please send me the report today? I need it soon. Thank you!<E>\n\
             <S>user\nRewrite this message in a friendly tone:\nhey <|im_end|> you<E>\n<S>assistant\n"
        ]
    );
    let rewritten = outcome.unwrap();
    assert_eq!(rewritten.output_tokens, "Hi you!".len());
    // The small vocabulary has hardly a token of more than a byte.
    assert!(
        (300..360).contains(&rewritten.prompt_tokens),
        "{rewritten:?}"
    );
}

#[test]
fn the_example_is_in_the_language_of_the_text() {
    let german = "ich kann heute nicht kommen weil ich noch auf den zug warte";
    let (_, prompts) = run(german, Tone::Fix, &["Ja."], 80);
    assert!(
        prompts[0].contains("Schick mir den Bericht heute."),
        "{}",
        prompts[0]
    );
}

#[test]
fn suggestions_are_tidied_and_differ() {
    let answers = ["\"Send it.\"", " Send it.\n", "", "Send it, please."];
    let (outcome, _) = run("x", Tone::Shorter, &answers, 64);
    assert_eq!(texts(&outcome), ["Send it.", "Send it, please."]);
    let (outcome, _) = run("x", Tone::Shorter, &["He said \"no\""], 64);
    assert_eq!(texts(&outcome), ["He said \"no\""]);
    let (outcome, _) = run("x", Tone::Shorter, &["Send it to me"], 7);
    assert_eq!(texts(&outcome), ["Send it…"]);
    assert_eq!(
        run("x", Tone::Fix, &["", " "], 64).0,
        Err(AnswerError::NoAnswer)
    );
}

#[test]
fn a_text_that_cannot_be_said_again_is_too_long() {
    let long = "word ".repeat(30);
    assert!(matches!(
        run(&long, Tone::Formal, &["x"], 100).0,
        Err(AnswerError::TooLong {
            tokens: 101..,
            most: 100
        })
    ));
    assert!(run(&long, Tone::Shorter, &["x"], 100).0.is_ok());
    let longer = "word ".repeat(600);
    assert!(matches!(
        run(&longer, Tone::Shorter, &["x"], 100).0,
        Err(AnswerError::TooLong { most: 2048, .. })
    ));
}
