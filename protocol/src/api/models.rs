//! `GET /v1/models`: the model in the image. The shape is that of the widespread chat interfaces, with the digest and
//! the context's length added.

use super::json::{self, JsonError};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The list of models; an image has one or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Models {
    /// Always `list`.
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// When it was made: always 0, since an image does not say. Clients of those interfaces expect it.
    #[serde(default)]
    pub created: u64,
    /// Always `cloister`, for the same reason.
    #[serde(default)]
    pub owned_by: String,
    /// The root digest of its pack, in hex: what the image manifest names.
    pub digest: String,
    /// Tokens of its context.
    pub context_tokens: u32,
}

impl Models {
    /// The list of these models: name, root digest, tokens of context.
    pub fn new<'a>(models: impl IntoIterator<Item = (&'a str, &'a [u8; 32], u32)>) -> Self {
        let data = models
            .into_iter()
            .map(|(name, digest, context_tokens)| Model {
                id: name.into(),
                object: "model".into(),
                created: 0,
                owned_by: "cloister".into(),
                digest: crate::evidence::to_hex(digest),
                context_tokens,
            });
        Self {
            object: "list".into(),
            data: data.collect(),
        }
    }

    /// The JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always have a JSON form")
    }

    /// Reads the JSON text.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn from_json(text: &[u8]) -> Result<Self, JsonError> {
        json::read(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_shape_that_existing_clients_know() {
        let models = Models::new([("tiny", &[0xab; 32], 2048)]);
        let text = String::from_utf8(models.to_json()).unwrap();
        let digest = "ab".repeat(32);
        let model = format!(
            r#"{{"id":"tiny","object":"model","created":0,"owned_by":"cloister","digest":"{digest}","context_tokens":2048}}"#
        );
        assert_eq!(text, format!(r#"{{"object":"list","data":[{model}]}}"#));
        assert_eq!(Models::from_json(text.as_bytes()), Ok(models));
    }

    #[test]
    fn an_image_without_a_model_has_an_empty_list() {
        assert_eq!(Models::new([]).to_json(), br#"{"object":"list","data":[]}"#);
    }
}
