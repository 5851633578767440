//! Summarizes example inputs with a model on the host, and counts the facts that the summaries mention.
//!
//! `cargo run --release -p cloister-image --example summarize -- MODEL.gguf|model.pack tests/summaries/*.json`
//!
//! Each input has `messages`, `style`, and `must_mention`: for every fact the spellings of which one has
//! to occur in the summary, in any case. That a fact is mentioned does not make the sentence true: read them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use cloister_engine::{
    Model,
    generate::LanguageModel as _,
    summary::{Limits, Message, Style, Summaries, Summary, SummaryRequest, SummaryStep},
    workers::{MAX_WORKERS, Threads},
};
use serde::Deserialize;

type Failure = Box<dyn std::error::Error>;

#[derive(Deserialize)]
struct Input {
    messages: Vec<InputMessage>,
    style: InputStyle,
    #[serde(default)]
    must_mention: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct InputMessage {
    #[serde(default)]
    from: String,
    text: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum InputStyle {
    Bullets,
    Paragraph,
    Headline,
}

fn main() -> Result<(), Failure> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let model = arguments
        .next()
        .ok_or("usage: summarize MODEL.gguf|model.pack INPUT.json...")?;
    let pack = fs::read(pack_of(&model)?)?;
    let threads = Threads::new(thread::available_parallelism()?.get().min(MAX_WORKERS));
    let model = Model::open(&pack)?.with_workers(&threads);
    let summaries = Summaries::new(&model, Limits::default());
    let (mut mentioned, mut facts) = (0, 0);
    for path in arguments {
        let input: Input = serde_json::from_slice(&fs::read(&path)?)?;
        let begin = Instant::now();
        let summary = summarize(&summaries, &model, &input)?;
        let seconds = begin.elapsed().as_secs_f32();
        let missing = missing(&input, &summary.text);
        facts += input.must_mention.len();
        mentioned += input.must_mention.len() - missing.len();
        println!(
            "== {}: {} + {} tokens, {} part(s), {seconds:.1} s, {}; not mentioned: {missing:?}\n{}\n",
            path.display(),
            summary.prompt_tokens,
            summary.output_tokens,
            summary.parts,
            summary.finish,
            *summary.text,
        );
    }
    println!("{mentioned} of {facts} facts mentioned");
    Ok(())
}

/// The pack itself, or the pack of a GGUF file, made beside the temporary files.
fn pack_of(model: &Path) -> Result<PathBuf, Failure> {
    if model
        .extension()
        .is_none_or(|extension| extension != "gguf")
    {
        return Ok(model.to_owned());
    }
    let name = model.file_stem().ok_or("the model has no name")?;
    let out = env::temp_dir().join(name).with_extension("pack");
    cloister_image::model_pack::build(model, &out, &mut |_, _| ())?;
    Ok(out)
}

fn summarize(summaries: &Summaries, model: &Model<'_>, input: &Input) -> Result<Summary, Failure> {
    let request = SummaryRequest {
        messages: input
            .messages
            .iter()
            .map(|m| Message::new(m.from.as_str(), m.text.as_str()))
            .collect(),
        style: match input.style {
            InputStyle::Bullets => Style::Bullets,
            InputStyle::Paragraph => Style::Paragraph,
            InputStyle::Headline => Style::Headline,
        },
        max_tokens: None,
    };
    let mut batch = model.batch(model.context_tokens(), u64::MAX);
    let mut job = summaries.begin(model, request)?;
    loop {
        if let SummaryStep::Done(summary) = job.advance(model, &mut batch)? {
            return Ok(summary);
        }
        model.step(&mut batch);
    }
}

fn missing<'i>(input: &'i Input, summary: &str) -> Vec<&'i str> {
    let summary = summary.to_lowercase();
    let absent = |spellings: &&Vec<String>| {
        !spellings
            .iter()
            .any(|s| summary.contains(&s.to_lowercase()))
    };
    let first = |spellings: &'i Vec<String>| spellings.first().map_or("", String::as_str);
    input
        .must_mention
        .iter()
        .filter(absent)
        .map(first)
        .collect()
}
