//! age's post-quantum identities, `AGE-SECRET-KEY-PQ-1…`: HPKE with the hybrid of ML-KEM-768 and X25519, X-Wing.
//!
//! The age crate reads none yet. What is here is the key encapsulation; HPKE itself is the one that age uses.

use age::{DecryptError, Identity};
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use age_core::primitives::{bech32_decode, hpke_open};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bech32::Hrp;
use hpke::generic_array::typenum::{Sum, U32, U96, U192, U1024, Unsigned as _};
use hpke::kem::SharedSecret;
use hpke::rand_core::{CryptoRng, RngCore};
use hpke::{Deserializable, HpkeError, Kem, Serializable};
use ml_kem::kem::{Decapsulate as _, DecapsulationKey, Encapsulate as _, EncapsulationKey};
use ml_kem::{Ciphertext, EncodedSizeUser as _, KemCore as _, MlKem768, MlKem768Params, SharedKey};
use sha3::digest::{ExtendableOutput as _, FixedOutput as _, Update as _, XofReader as _};
use sha3::{Sha3_256, Shake256};
use x25519_dalek::{PublicKey as Point, SharedSecret as Shared, StaticSecret};
use zeroize::{Zeroize as _, Zeroizing};

const PREFIX: &str = "age-secret-key-pq-";
const TAG: &str = "mlkem768x25519";
const INFO: &[u8] = b"age-encryption.org/mlkem768x25519";

/// The length of an authentication tag of ChaCha20-Poly1305.
const OVERHEAD: usize = 16;

/// An identity that opens what is encrypted to its `age1pq1…`.
pub(super) struct PostQuantum(Seed);

impl PostQuantum {
    /// Reads `AGE-SECRET-KEY-PQ-1…`, which is written in capitals.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.contains(|c: char| c.is_ascii_lowercase()) {
            return None;
        }
        let expected = Hrp::parse(PREFIX).ok()?;
        let seed = bech32_decode(
            text,
            |_| (),
            |prefix| if prefix == expected { Ok(()) } else { Err(()) },
            |_, bytes| {
                let mut seed = Zeroizing::new([0; 32]);
                (bytes.len() == seed.len()).then_some(()).ok_or(())?;
                seed.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
                Ok(Seed(seed))
            },
        );
        seed.ok().map(Self)
    }

    fn open(&self, enc: &Encapsulated, wrapped: &[u8]) -> Result<FileKey, DecryptError> {
        let key = hpke_open::<XWing>(enc, &self.0, INFO, wrapped).map(Zeroizing::new);
        match key {
            Ok(key) => FileKey::try_init_with_mut(|to| {
                let key = key.as_slice().try_into();
                *to = key.map_err(|_| DecryptError::InvalidHeader)?;
                Ok(())
            }),
            // A low-order point: nothing honest makes one.
            Err(HpkeError::DecapError) => Err(DecryptError::InvalidHeader),
            Err(_) => Err(DecryptError::NoMatchingKeys),
        }
    }
}

impl Identity for PostQuantum {
    /// Files do not name their recipients: a stanza of another is one that this key does not open.
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag != TAG {
            return None;
        }
        let enc = match stanza.args.as_slice() {
            [enc] if stanza.body.len() == FILE_KEY_BYTES + OVERHEAD => {
                BASE64_STANDARD_NO_PAD.decode(enc).ok()
            }
            _ => None,
        };
        let Some(Ok(enc)) = enc.map(|enc| Encapsulated::from_bytes(&enc)) else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        match self.open(&enc, &stanza.body) {
            Err(DecryptError::NoMatchingKeys) => None,
            result => Some(result),
        }
    }
}

/// X-Wing, as <https://datatracker.ietf.org/doc/draft-connolly-cfrg-xwing-kem/> says it.
struct XWing;

/// A private key: both halves are made from it at each use.
#[derive(Clone, PartialEq, Eq)]
struct Seed(Zeroizing<[u8; 32]>);

/// Both public halves.
#[derive(Clone, Debug, PartialEq)]
struct Public {
    lattice: EncapsulationKey<MlKem768Params>,
    point: Point,
}

impl Eq for Public {}

/// What goes to the recipient.
#[derive(Clone)]
struct Encapsulated {
    lattice: Ciphertext<MlKem768>,
    point: Point,
}

impl Seed {
    fn expand(&self) -> (DecapsulationKey<MlKem768Params>, StaticSecret) {
        let mut stream = Shake256::default().chain(&self.0[..]).finalize_xof();
        let [d, z, x] = [0; 3].map(|_: u8| {
            let mut part = Zeroizing::new([0; 32]);
            stream.read(&mut *part);
            part
        });
        let (lattice, _) = MlKem768::generate_deterministic(&(*d).into(), &(*z).into());
        (lattice, StaticSecret::from(*x))
    }
}

/// Moves a shared secret to where it is wiped.
fn kept(mut key: SharedKey<MlKem768>) -> Zeroizing<[u8; 32]> {
    let kept = Zeroizing::new(key.into());
    key.as_mut_slice().zeroize();
    kept
}

/// Joins both shared secrets. The ciphertext of ML-KEM is left out: its shared secret is bound to it.
fn combine(lattice: &[u8; 32], shared: &Shared, sent: Point, to: Point) -> SharedSecret<XWing> {
    let hash = Sha3_256::default()
        .chain(lattice)
        .chain(shared)
        .chain(sent)
        .chain(to)
        .chain(br"\.//^\");
    SharedSecret(hash.finalize_fixed())
}

impl Kem for XWing {
    type PublicKey = Public;
    type PrivateKey = Seed;
    type EncappedKey = Encapsulated;
    type NSecret = U32;
    const KEM_ID: u16 = 0x647a;

    fn sk_to_pk(seed: &Seed) -> Public {
        let (lattice, secret) = seed.expand();
        Public {
            lattice: lattice.encapsulation_key().clone(),
            point: Point::from(&secret),
        }
    }

    fn derive_keypair(ikm: &[u8]) -> (Seed, Public) {
        let mut seed = Seed(Zeroizing::new([0; 32]));
        // draft-ietf-hpke-pq: SHAKE256.LabeledDerive(ikm, "DeriveKeyPair", "", 32).
        let text = Shake256::default().chain(ikm).chain(b"HPKE-v1KEM");
        let text = text.chain(Self::KEM_ID.to_be_bytes()).chain([0, 13]);
        text.chain(b"DeriveKeyPair")
            .chain([0, 32])
            .finalize_xof_into(&mut *seed.0);
        let public = Self::sk_to_pk(&seed);
        (seed, public)
    }

    fn decap(
        seed: &Seed,
        sender: Option<&Public>,
        sent: &Encapsulated,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        let (lattice, secret) = seed.expand();
        let shared = secret.diffie_hellman(&sent.point);
        if sender.is_some() || !shared.was_contributory() {
            return Err(HpkeError::DecapError);
        }
        let key = lattice.decapsulate(&sent.lattice);
        let key = kept(key.map_err(|()| HpkeError::DecapError)?);
        Ok(combine(&key, &shared, sent.point, Point::from(&secret)))
    }

    fn encap<R: CryptoRng + RngCore>(
        to: &Public,
        sender: Option<(&Seed, &Public)>,
        random: &mut R,
    ) -> Result<(SharedSecret<Self>, Encapsulated), HpkeError> {
        let secret = StaticSecret::random_from_rng(&mut *random);
        let shared = secret.diffie_hellman(&to.point);
        if sender.is_some() || !shared.was_contributory() {
            return Err(HpkeError::EncapError);
        }
        let encapsulated = to.lattice.encapsulate(random);
        let (lattice, key) = encapsulated.map_err(|()| HpkeError::EncapError)?;
        let point = Point::from(&secret);
        let shared = combine(&kept(key), &shared, point, to.point);
        Ok((shared, Encapsulated { lattice, point }))
    }
}

impl Serializable for Seed {
    type OutputSize = U32;

    fn write_exact(&self, to: &mut [u8]) {
        to.copy_from_slice(&*self.0);
    }
}

impl Deserializable for Seed {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        let mut seed = Zeroizing::new([0; 32]);
        if bytes.len() != seed.len() {
            return Err(HpkeError::IncorrectInputLength(seed.len(), bytes.len()));
        }
        seed.copy_from_slice(bytes);
        Ok(Self(seed))
    }
}

impl Serializable for Public {
    type OutputSize = Sum<U1024, U192>;

    fn write_exact(&self, to: &mut [u8]) {
        let (lattice, point) = to.split_at_mut(to.len() - POINT);
        lattice.copy_from_slice(&self.lattice.as_bytes());
        point.copy_from_slice(self.point.as_bytes());
    }
}

impl Deserializable for Public {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        let (lattice, point) = split::<Self>(bytes)?;
        let lattice = lattice.try_into().map_err(|_| HpkeError::ValidationError)?;
        Ok(Self {
            lattice: EncapsulationKey::from_bytes(lattice),
            point,
        })
    }
}

impl Serializable for Encapsulated {
    type OutputSize = Sum<U1024, U96>;

    fn write_exact(&self, to: &mut [u8]) {
        let (lattice, point) = to.split_at_mut(to.len() - POINT);
        lattice.copy_from_slice(&self.lattice);
        point.copy_from_slice(self.point.as_bytes());
    }
}

impl Deserializable for Encapsulated {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        let (lattice, point) = split::<Self>(bytes)?;
        let lattice = lattice.try_into().map_err(|_| HpkeError::ValidationError)?;
        Ok(Self { lattice, point })
    }
}

/// The length of a point of X25519, which comes last.
const POINT: usize = 32;

/// Splits a public key or what is sent to one, each of one length only.
fn split<T: Serializable>(bytes: &[u8]) -> Result<(&[u8], Point), HpkeError> {
    match bytes.split_last_chunk::<POINT>() {
        Some((lattice, point)) if bytes.len() == T::OutputSize::USIZE => {
            Ok((lattice, Point::from(*point)))
        }
        _ => Err(HpkeError::IncorrectInputLength(
            T::OutputSize::USIZE,
            bytes.len(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret as _;
    use age_core::primitives::hpke_seal;
    use rand::rngs::OsRng;

    use super::*;

    fn stanza(to: &Public, key: &[u8]) -> Stanza {
        let (enc, body) = hpke_seal::<XWing, _>(to, INFO, key, &mut OsRng);
        Stanza {
            tag: TAG.into(),
            args: vec![BASE64_STANDARD_NO_PAD.encode(enc.to_bytes())],
            body,
        }
    }

    #[test]
    fn what_is_sealed_to_a_key_opens_with_it_and_with_no_other() {
        let [(mine, public), (other, _)] = [0; 2].map(|_| XWing::gen_keypair(&mut OsRng));
        let public = Public::from_bytes(&public.to_bytes()).unwrap();
        let sealed = stanza(&public, &[7; 16]);
        let seed = Seed::from_bytes(&mine.to_bytes()).unwrap();
        let key = PostQuantum(seed).unwrap_stanza(&sealed).unwrap().unwrap();
        assert_eq!(key.expose_secret(), &[7; 16]);
        assert!(PostQuantum(other).unwrap_stanza(&sealed).is_none());
    }

    #[test]
    fn a_stanza_that_is_none_is_an_error_and_not_one_of_another() {
        let (mine, public) = XWing::gen_keypair(&mut OsRng);
        let mine = PostQuantum(mine);
        let refused = |stanza: &Stanza| {
            let unwrapped = mine.unwrap_stanza(stanza);
            assert!(matches!(unwrapped, Some(Err(DecryptError::InvalidHeader))));
        };
        refused(&stanza(&public, &[7; 17]));
        let mut sealed = stanza(&public, &[7; 16]);
        sealed.args[0].pop();
        refused(&sealed);
        sealed.args.push("x".into());
        refused(&sealed);
        sealed.args.clear();
        refused(&sealed);
    }
}
