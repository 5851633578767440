//! What the parent and its children say to each other: a line of words there, a line of JSON back.
//!
//! `xtask/src/peers/llama_driver.cpp` speaks the same.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a child is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// One sequence: reads a prompt at once, then writes; answered by [`Single`].
    Single {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens written.
        steps: usize,
    },
    /// Several sequences side by side; answered by [`Batch`].
    Batch {
        /// Sequences.
        count: usize,
        /// Tokens of each prompt.
        prompt: usize,
        /// Tokens that each one writes.
        steps: usize,
    },
    /// Resident memory; answered by [`Memory`].
    Memory,
    /// How fast memory can be read; answered by [`Bandwidth`].
    Bandwidth,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single { prompt, steps } => write!(f, "single {prompt} {steps}"),
            Self::Batch {
                count,
                prompt,
                steps,
            } => write!(f, "batch {count} {prompt} {steps}"),
            Self::Memory => f.write_str("memory"),
            Self::Bandwidth => f.write_str("bandwidth"),
        }
    }
}

impl FromStr for Request {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let wrong = || format!("not a command: `{line}`");
        let mut words = line.split_whitespace();
        let command = words.next().ok_or_else(wrong)?;
        let numbers: Result<Vec<usize>, _> = words.map(str::parse).collect();
        match (command, numbers.map_err(|_| wrong())?.as_slice()) {
            ("single", &[prompt, steps]) if prompt > 0 && steps > 0 => {
                Ok(Self::Single { prompt, steps })
            }
            ("batch", &[count, prompt, steps]) if count > 0 && prompt > 0 && steps > 0 => {
                Ok(Self::Batch {
                    count,
                    prompt,
                    steps,
                })
            }
            ("memory", []) => Ok(Self::Memory),
            ("bandwidth", []) => Ok(Self::Bandwidth),
            _ => Err(wrong()),
        }
    }
}

/// A child's first line: it has loaded its model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Always true; tells the line from others.
    pub(crate) ready: bool,
    /// How long loading took.
    #[serde(default)]
    pub(crate) load_s: f64,
    /// Token ids.
    #[serde(default)]
    pub(crate) vocabulary: usize,
    /// What of the CPU it uses, in its own words.
    #[serde(default)]
    pub(crate) features: String,
    /// Bytes of the matrices that one token's pass reads, where the child knows.
    #[serde(default)]
    pub(crate) weight_bytes_per_token: Option<u64>,
}

/// Times of one sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Single {
    /// Reading the prompt.
    pub(crate) prefill_s: f64,
    /// From the prompt, with a fresh sequence, to the first token.
    pub(crate) first_token_s: f64,
    /// Writing after that.
    pub(crate) decode_s: f64,
    /// The first tokens that were written.
    pub(crate) tokens: Vec<u32>,
}

/// Time of several sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// Writing; `None` from an engine that does not advance so many together.
    pub(crate) decode_s: Option<f64>,
}

/// Resident memory of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// The most so far.
    pub(crate) peak_bytes: u64,
    /// Now.
    pub(crate) resident_bytes: u64,
}

/// Speed of memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bandwidth {
    /// The best that reading a large buffer with all threads reached.
    pub(crate) bytes_per_s: f64,
}

/// In place of a reply; the child ends then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// What went wrong.
    pub(crate) error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        let requests = [
            Request::Single {
                prompt: 512,
                steps: 64,
            },
            Request::Batch {
                count: 16,
                prompt: 64,
                steps: 32,
            },
            Request::Memory,
            Request::Bandwidth,
        ];
        for request in requests {
            assert_eq!(request.to_string().parse(), Ok(request));
        }
    }

    #[test]
    fn other_lines_are_refused() {
        for line in [
            "",
            "single",
            "single 512",
            "single 0 64",
            "batch 4 x 3",
            "memory 1",
            "stop",
        ] {
            let refused = line.parse::<Request>();
            assert!(refused.is_err_and(|error| error.contains(line)), "{line}");
        }
    }

    #[test]
    fn the_drivers_replies_are_understood() {
        let ready: Ready = serde_json::from_str(
            r#"{"ready": true, "load_s": 0.103, "vocabulary": 49152, "features": "CPU : AVX2 = 1 | "}"#,
        )
        .expect("a ready line");
        assert_eq!(
            (ready.vocabulary, ready.weight_bytes_per_token),
            (49152, None)
        );
        let single: Single = serde_json::from_str(
            r#"{"prefill_s": 1.5, "first_token_s": 1.6, "decode_s": 0.25, "tokens": [7, 8]}"#,
        )
        .expect("times");
        assert_eq!((single.decode_s, single.tokens), (0.25, vec![7, 8]));
        assert!(serde_json::from_str::<Ready>(r#"{"error": "no"}"#).is_err());
    }
}
