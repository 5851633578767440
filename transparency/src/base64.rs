//! Base 64 of RFC 4648, section 4, with padding; only the one canonical form of each value is taken.

use alloc::string::String;
use alloc::vec::Vec;
use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

/// The canonical text of `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// Bytes of a text of `length` bytes at most, before it is decoded.
pub(crate) fn decoded_bytes(length: usize) -> usize {
    length / 4 * 3
}

/// The bytes of a canonical text; `None` for any other text.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = Base64::decode_vec(text).ok()?;
    // The decoder's own idea of what is canonical is not relied upon: two texts for one value would be two notes. Private
    // keys are decoded here as well.
    let canonical = Zeroizing::new(Base64::encode_string(&bytes));
    (*canonical == text).then_some(bytes)
}

/// The `N` bytes of a canonical text; `None` for any other text.
pub(crate) fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    // A longer text is not worth its memory.
    if text.len() != N.div_ceil(3) * 4 {
        return None;
    }
    decode(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_canonical_form_only() {
        assert_eq!(decode("Zm9vYg=="), Some(b"foob".to_vec()));
        assert_eq!(decode(""), Some(Vec::new()));
        for other in [
            "Zm9vYh==",
            "Zm9vYg",
            "Zm9vYg=",
            "Zm9v Yg==",
            "Zm9vYg==\n",
            "Zm9v=Yg=",
            "Zm-_",
            "====",
            "=",
        ] {
            assert_eq!(decode(other), None, "{other}");
        }
    }

    #[test]
    fn an_array_has_its_length() {
        let text = encode(&[7; 32]);
        assert_eq!(decode_array::<32>(&text), Some([7; 32]));
        assert_eq!(decode_array::<31>(&text), None);
        assert_eq!(decode_array::<33>(&text), None);
        assert_eq!(decode_array::<32>(&encode(&[7; 33])), None);
    }
}
