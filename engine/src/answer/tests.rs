//! Answers of a model that says what it is told to.

use std::string::ToString;

use super::*;
use crate::generate::tests::{Scripted, section};
use crate::tokenizer::tests::{IM_END, IM_START};
use crate::tokenizer::{Role, Turn};

fn bounds(output_tokens: usize, stops: &[&str]) -> Bounds {
    Bounds {
        prompt_tokens: 1000,
        output_tokens,
        sampling: Sampling {
            repeat_penalty: 1.0,
            ..Sampling::default()
        },
        stops: stops
            .iter()
            .map(|stop| Zeroizing::new((*stop).into()))
            .collect(),
    }
}

/// The pieces of an answer by a model that says `says` byte by byte, and its end.
fn run(says: &str, bounds: Bounds) -> (Vec<String>, Answered) {
    let next = |tokens: &[u32]| {
        let prompt_end = tokens.iter().rposition(|&token| token == IM_START).unwrap();
        let said = tokens.len() - prompt_end - 1 - "assistant\n".len();
        let byte = says.as_bytes().get(said);
        byte.map_or(IM_END, |&byte| u32::from(byte))
    };
    let section = section();
    let model = Scripted::new(&section, 200, &next);
    let turn = Turn {
        role: Role::User,
        text: "go",
    };
    let prompt = model.tokenizer().encode_chat(&[turn]);
    let mut batch = model.batch(200, 1);
    let mut answer = Answer::new(&model, prompt, bounds).unwrap();
    assert!(answer.needs_place());
    let mut pieces = vec![];
    loop {
        match answer.advance(&model, &mut batch).unwrap() {
            AnswerStep::NoRoom => panic!("the batch is empty"),
            AnswerStep::Working(text) if text.is_empty() => {}
            AnswerStep::Working(text) => pieces.push(text.to_string()),
            AnswerStep::Done(answered) => {
                assert_eq!(batch.len(), 0, "its place is free");
                return (pieces, answered);
            }
        }
        model.step(&mut batch);
    }
}

#[test]
fn an_answer_comes_piece_by_piece() {
    let (pieces, end) = run("Yes é", bounds(50, &[]));
    assert_eq!(pieces, ["Y", "e", "s", " ", "é"]);
    assert_eq!((end.text.as_str(), end.finish), ("", Finish::Stop));
    assert_eq!(end.output_tokens, 6);
    assert!(end.prompt_tokens > 10);
}

#[test]
fn the_most_tokens_and_strings_that_end_it() {
    let (pieces, end) = run("Yes and no", bounds(3, &[]));
    assert_eq!((pieces.concat().as_str(), end.finish), ("Yes", Finish::Cap));
    let (pieces, end) = run("Yes and no", bounds(50, &["", " and"]));
    assert_eq!(
        (pieces.concat().as_str(), end.finish),
        ("Yes", Finish::Stop)
    );
    assert_eq!(end.output_tokens, "Yes and".len());
    // What might have become one, and did not.
    let (pieces, end) = run("Yes an", bounds(50, &[" and"]));
    assert_eq!(
        (pieces.concat().as_str(), end.text.as_str()),
        ("Yes", " an")
    );
}

#[test]
fn half_a_character_at_the_end_is_replaced() {
    let (pieces, end) = run("né", bounds(2, &[]));
    assert_eq!(
        (pieces.concat().as_str(), end.text.as_str()),
        ("n", "\u{fffd}")
    );
}

#[test]
fn a_prompt_needs_room_and_an_answer_gives_it_back() {
    let next = |_: &[u32]| u32::from(b'x');
    let section = section();
    let model = Scripted::new(&section, 20, &next);
    let new = |tokens: usize, most: usize| {
        let bounds = Bounds {
            prompt_tokens: most,
            ..bounds(5, &[])
        };
        Answer::new(&model, Zeroizing::new(vec![1; tokens]), bounds)
    };
    assert_eq!(
        new(20, 100).err(),
        Some(AnswerError::TooLong {
            tokens: 20,
            most: 19
        })
    );
    assert_eq!(
        new(9, 8).err(),
        Some(AnswerError::TooLong { tokens: 9, most: 8 })
    );
    let mut batch = model.batch(20, 1);
    let (mut first, mut second) = (new(19, 100).unwrap(), new(1, 100).unwrap());
    let working = AnswerStep::Working(Zeroizing::default());
    assert_eq!(first.advance(&model, &mut batch), Ok(working));
    assert_eq!(second.advance(&model, &mut batch), Ok(AnswerStep::NoRoom));
    assert!(second.needs_place() && !first.needs_place());
    first.cancel(&model, &mut batch);
    assert_eq!(batch.len(), 0);
    assert!(matches!(
        second.advance(&model, &mut batch),
        Ok(AnswerStep::Working(_))
    ));
}
