//! An encapsulated exchange of which every secret is known: HPKE (RFC 9180) and Oblivious HTTP (RFC 9458) done step by
//! step, so that each intermediate value can be looked for in the guest. That the guest opens the request, and its
//! response opens here, shows that the values are the true ones.

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use cloister_protocol::keyconfig::{Kem, KeyConfig};
use hkdf::Hkdf;
use hpke::kem::{Kem as _, X25519HkdfSha256, XWing};
use hpke::rand_core::{Infallible, TryCryptoRng, TryRng};
use hpke::{Deserializable, Serializable};
use sha2::Sha256;
use sha3::{Digest, Sha3_256, Sha3_512};
use x25519_dalek::{PublicKey, StaticSecret};

const KDF_ID: u16 = 0x0001;
const AEAD_ID: u16 = 0x0003;
/// Content of a chunk, at most.
const CHUNK_BYTES: usize = 1 << 14;
const TAG_BYTES: usize = 16;
/// Additional data of chunks: of the last one, and of the others.
const FINAL: &[u8] = b"final";
const MORE: &[u8] = b"";
/// X-Wing's key and ciphertext: first ML-KEM's part, then X25519's.
const ML_KEM_KEY_BYTES: usize = 1184;

/// A named secret.
pub type Named = (&'static str, Vec<u8>);

/// What tells the two forms of an exchange apart.
struct Form {
    request_label: &'static [u8],
    response_label: &'static [u8],
}

/// RFC 9458, sections 4.3 and 4.4.
const WHOLE: Form = Form {
    request_label: b"message/bhttp request",
    response_label: b"message/bhttp response",
};
/// draft-ietf-ohai-chunked-ohttp-08, section 6.
const CHUNKED: Form = Form {
    request_label: b"message/bhttp chunked request",
    response_label: b"message/bhttp chunked response",
};

/// One exchange.
pub struct KnownExchange {
    /// The encapsulated request.
    pub sealed: Vec<u8>,
    encapped: Vec<u8>,
    secrets: Vec<Named>,
    response_secret: [u8; 32],
}

impl KnownExchange {
    /// Seals a message to a key.
    pub fn seal(config: &KeyConfig, message: &[u8]) -> Self {
        Self::begin(config, &WHOLE, |key, nonce| {
            encrypt(key, nonce, MORE, message)
        })
    }

    /// Seals a message to a key, in chunks.
    pub fn seal_chunked(config: &KeyConfig, message: &[u8]) -> Self {
        Self::begin(config, &CHUNKED, |key, nonce| {
            let mut sealed = Vec::new();
            let mut chunks = message.chunks(CHUNK_BYTES).enumerate().peekable();
            while let Some((index, chunk)) = chunks.next() {
                let nonce = &counted(nonce, index);
                if chunks.peek().is_some() {
                    let length = (chunk.len() + TAG_BYTES) as u32;
                    sealed.extend((length | 2 << 30).to_be_bytes());
                    sealed.extend(encrypt(key, nonce, MORE, chunk));
                } else {
                    sealed.push(0);
                    sealed.extend(encrypt(key, nonce, FINAL, chunk));
                }
            }
            sealed
        })
    }

    /// Header, encapsulated key, and what `seal` makes with the request's key and nonce.
    fn begin(
        config: &KeyConfig,
        form: &Form,
        seal: impl FnOnce(&[u8; 32], &[u8; 12]) -> Vec<u8>,
    ) -> Self {
        let (shared, encapped, mut secrets) = encapsulate(config);
        let kem_id = config.kem().id();
        let mut header = vec![config.key_id()];
        [kem_id, KDF_ID, AEAD_ID]
            .iter()
            .for_each(|id| header.extend(id.to_be_bytes()));
        let info = [form.request_label, &[0], &header].concat();

        let schedule = Labelled::new(kem_id);
        let psk_id_hash = schedule.extract(b"", b"psk_id_hash", b"");
        let info_hash = schedule.extract(b"", b"info_hash", &info);
        let context = [&[0], &psk_id_hash[..], &info_hash].concat();
        let secret = schedule.extract(&shared, b"secret", b"");
        let key = schedule.expand::<32>(&secret, b"key", &context);
        let nonce = schedule.expand::<12>(&secret, b"base_nonce", &context);
        let exporter = schedule.expand::<32>(&secret, b"exp", &context);
        let response_secret = schedule.expand::<32>(&exporter, b"sec", form.response_label);

        let body = seal(&key, &nonce);
        secrets.extend([
            ("KEM shared secret", shared.to_vec()),
            ("key schedule secret", secret.to_vec()),
            ("request key", key.to_vec()),
            ("request nonce", nonce.to_vec()),
            ("exporter secret", exporter.to_vec()),
            ("response secret", response_secret.to_vec()),
        ]);
        Self {
            sealed: [&header[..], &encapped, &body].concat(),
            encapped,
            secrets,
            response_secret,
        }
    }

    /// Opens the response and learns its key.
    pub fn open(&mut self, response: &[u8]) -> Vec<u8> {
        let (response_nonce, sealed) = response.split_at(32);
        let (key, nonce) = self.learn(response_nonce);
        decrypt(&key, &nonce, MORE, sealed)
    }

    /// Opens a response in chunks, as much of it as has come, and learns its key. Returns the contents of the chunks, and
    /// whether the last one is among them; `is_whole` says that no more will come.
    pub fn open_chunks(&mut self, response: &[u8], is_whole: bool) -> (Vec<Vec<u8>>, bool) {
        let (response_nonce, mut rest) = response.split_at(32);
        let (key, nonce) = self.learn(response_nonce);
        let mut chunks = Vec::new();
        while let Some((length, after)) = varint(rest) {
            let nonce = counted(&nonce, chunks.len());
            if length == 0 {
                if is_whole {
                    chunks.push(decrypt(&key, &nonce, FINAL, after));
                }
                return (chunks, is_whole);
            }
            let Some((sealed, behind)) = after.split_at_checked(length) else {
                break;
            };
            chunks.push(decrypt(&key, &nonce, MORE, sealed));
            rest = behind;
        }
        (chunks, false)
    }

    /// Key and nonce of the response, which are secrets from now on.
    fn learn(&mut self, response_nonce: &[u8]) -> ([u8; 32], [u8; 12]) {
        let salt = [&self.encapped[..], response_nonce].concat();
        let (prk, expand) = Hkdf::<Sha256>::extract(Some(&salt), &self.response_secret);
        let (mut key, mut nonce) = ([0; 32], [0; 12]);
        expand.expand(b"key", &mut key).expect("short");
        expand.expand(b"nonce", &mut nonce).expect("short");
        self.secrets.extend([
            ("response PRK", prk.to_vec()),
            ("response key", key.to_vec()),
            ("response nonce", nonce.to_vec()),
        ]);
        (key, nonce)
    }

    /// Every secret so far.
    pub fn secrets(&self) -> &[Named] {
        &self.secrets
    }
}

fn encrypt(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], msg: &[u8]) -> Vec<u8> {
    let cipher = ChaCha20Poly1305::new(key.into());
    let sealed = cipher.encrypt(nonce.into(), Payload { msg, aad });
    sealed.expect("a short message")
}

fn decrypt(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], msg: &[u8]) -> Vec<u8> {
    let cipher = ChaCha20Poly1305::new(key.into());
    let opened = cipher.decrypt(nonce.into(), Payload { msg, aad });
    opened.expect("the response opens")
}

/// The nonce of a chunk.
fn counted(nonce: &[u8; 12], index: usize) -> [u8; 12] {
    let mut nonce = *nonce;
    for (byte, count) in nonce[4..].iter_mut().zip((index as u64).to_be_bytes()) {
        *byte ^= count;
    }
    nonce
}

/// A number at the front (RFC 9000, section 16), and what is behind it.
fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, _) = bytes.split_first()?;
    let (number, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    let first = usize::from(first & 0x3f);
    let value = number[1..]
        .iter()
        .fold(first, |value, byte| value << 8 | usize::from(*byte));
    Some((value, rest))
}

/// Shared secret, encapsulated key, and what the shared secret was made of.
fn encapsulate(config: &KeyConfig) -> ([u8; 32], Vec<u8>, Vec<Named>) {
    const GOOD: &str = "the guest's key is valid";
    let mut rng = Fixed::random();
    match config.kem() {
        Kem::XWing => {
            let public = <XWing as hpke::Kem>::PublicKey::from_bytes(config.public_key());
            let outcome = XWing::encap_with_rng(&public.expect(GOOD), None, &mut rng);
            let (shared, encapped) = outcome.expect(GOOD);
            let secrets = x_wing_parts(config.public_key(), &rng.bytes);
            (shared.0.into(), encapped.to_bytes().to_vec(), secrets)
        }
        Kem::X25519 => {
            let public =
                <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(config.public_key());
            let outcome = X25519HkdfSha256::encap_with_rng(&public.expect(GOOD), None, &mut rng);
            let (shared, encapped) = outcome.expect(GOOD);
            (shared.0.into(), encapped.to_bytes().to_vec(), Vec::new())
        }
    }
}

/// The two secrets that X-Wing combines: ML-KEM's (FIPS 203, algorithm 17) and X25519's.
fn x_wing_parts(public_key: &[u8], randomness: &[u8; 64]) -> Vec<Named> {
    let (ml_kem_key, x25519_key) = public_key.split_at(ML_KEM_KEY_BYTES);
    let (message, ephemeral) = randomness.split_at(32);
    let hash = Sha3_256::digest(ml_kem_key);
    let secret_and_coins = Sha3_512::new()
        .chain_update(message)
        .chain_update(hash)
        .finalize();
    let bytes = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).expect("32 bytes");
    let own = StaticSecret::from(bytes(ephemeral));
    let agreed = own.diffie_hellman(&PublicKey::from(bytes(x25519_key)));
    vec![
        ("ML-KEM message", message.to_vec()),
        ("ML-KEM shared secret", secret_and_coins[..32].to_vec()),
        ("X25519 shared secret", agreed.as_bytes().to_vec()),
    ]
}

/// `LabeledExtract` and `LabeledExpand` (RFC 9180, section 4) of one suite.
struct Labelled {
    suite: Vec<u8>,
}

impl Labelled {
    fn new(kem_id: u16) -> Self {
        let ids = [kem_id, KDF_ID, AEAD_ID].map(u16::to_be_bytes).concat();
        Self {
            suite: [b"HPKE", &ids[..]].concat(),
        }
    }

    fn extract(&self, salt: &[u8], label: &[u8], input: &[u8]) -> [u8; 32] {
        let input = [b"HPKE-v1", &self.suite[..], label, input].concat();
        Hkdf::<Sha256>::extract(Some(salt), &input).0.into()
    }

    fn expand<const N: usize>(&self, secret: &[u8], label: &[u8], info: &[u8]) -> [u8; N] {
        let length = (N as u16).to_be_bytes();
        let info = [&length[..], b"HPKE-v1", &self.suite, label, info].concat();
        let hkdf = Hkdf::<Sha256>::from_prk(secret).expect("a whole secret");
        let mut out = [0; N];
        hkdf.expand(&info, &mut out).expect("short");
        out
    }
}

/// Random numbers that were drawn before, so that they are known. They can be used once.
struct Fixed {
    bytes: [u8; 64],
    used: usize,
}

impl Fixed {
    fn random() -> Self {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes).expect("random numbers");
        Self { bytes, used: 0 }
    }
}

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)
            .map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)
            .map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.copy_from_slice(&self.bytes[self.used..][..out.len()]);
        self.used += out.len();
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_protocol::keyconfig::decode_list;
    use cloister_protocol::ohttp::Gateway;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    #[test]
    fn a_gateway_understands_it_with_either_key() {
        let mut rng = UnwrapErr(SysRng);
        let gateway = Gateway::generate(&mut rng);
        for config in decode_list(&gateway.key_configs()).expect("keys").configs() {
            let mut exchange = KnownExchange::seal(config, b"a question");
            let (request, sealer) = gateway.decapsulate(&exchange.sealed).expect("it opens");
            assert_eq!(&request[..], b"a question");
            assert_eq!(
                exchange.open(&sealer.seal(&mut rng, b"an answer")),
                b"an answer"
            );
            let parts = if config.kem() == Kem::XWing { 3 } else { 0 };
            assert_eq!(exchange.secrets().len(), 9 + parts);
        }
    }

    #[test]
    fn a_gateway_understands_it_in_chunks() {
        let mut rng = UnwrapErr(SysRng);
        let gateway = Gateway::generate(&mut rng);
        let keys = decode_list(&gateway.key_configs()).expect("keys");
        for bytes in [5, CHUNK_BYTES, 2 * CHUNK_BYTES + 9] {
            let message = vec![7; bytes];
            let mut exchange = KnownExchange::seal_chunked(keys.preferred(), &message);
            let opened = gateway.decapsulate_chunked(&exchange.sealed);
            let (request, key) = opened.expect("it opens");
            assert!(request[..] == message);
            let (mut response, mut sealer) = key.start(&mut rng);
            response.extend(sealer.seal(&[1; 256]).expect("a small chunk"));
            response.extend(sealer.seal(&[2; 256]).expect("a small chunk"));
            let (chunks, has_ended) = exchange.open_chunks(&response[..response.len() - 1], false);
            assert!(chunks == [[1; 256]] && !has_ended);
            response.extend(sealer.finish(&[3; 256]).expect("a small chunk"));
            let (chunks, has_ended) = exchange.open_chunks(&response, true);
            assert!(chunks == [[1; 256], [2; 256], [3; 256]] && has_ended);
        }
    }

    /// X-Wing's combiner (draft-connolly-cfrg-xwing-kem, section 5.3), so that its parts are the true ones.
    #[test]
    fn the_parts_of_x_wing_combine_to_its_secret() {
        let mut rng = UnwrapErr(SysRng);
        let gateway = Gateway::generate(&mut rng);
        let keys = decode_list(&gateway.key_configs()).expect("keys");
        let config = keys.preferred();
        assert_eq!(config.kem(), Kem::XWing);
        let (shared, encapped, parts) = encapsulate(config);
        let part = |name| {
            &parts
                .iter()
                .find(|(part, _)| *part == name)
                .expect("there")
                .1
        };
        let combined = Sha3_256::new()
            .chain_update(part("ML-KEM shared secret"))
            .chain_update(part("X25519 shared secret"))
            .chain_update(&encapped[1088..])
            .chain_update(&config.public_key()[ML_KEM_KEY_BYTES..])
            .chain_update(b"\\.//^\\")
            .finalize();
        assert_eq!(combined[..], shared);
    }
}
