//! The token that both sides know, and the proof of that: HMAC-SHA-256 (RFC 2104) over the agent's challenge. The token
//! itself never goes over the wire, and a proof is good for one conversation.

use crate::failure::{Failure, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::env;
use std::fs::File;
use std::io::Read;

/// Where both sides look for it: not on a command line, which every user of a machine can read, and which records keep.
pub const VARIABLE: &str = "TRIPTYCH_BENCH_TOKEN";
/// What is shorter can be guessed.
const TOKEN_CHARS_MIN: usize = 16;
const TOKEN_BYTES: usize = 18;
const CHALLENGE_BYTES: usize = 24;

/// A secret that is shared by an agent and those who may command it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// One that was agreed upon.
    ///
    /// # Errors
    ///
    /// It is so short that it can be guessed.
    pub fn new(token: String) -> Result<Token> {
        if token.len() < TOKEN_CHARS_MIN {
            return Err(Failure::new(format!("{VARIABLE} has fewer than {TOKEN_CHARS_MIN} characters")));
        }
        Ok(Token(token))
    }

    /// The one that the environment names.
    pub(crate) fn of_environment() -> Result<Option<Token>> {
        env::var(VARIABLE).ok().map(Token::new).transpose()
    }

    /// The same for the harness, which can't do without.
    pub(crate) fn of_harness() -> Result<Token> {
        Token::of_environment()?.ok_or_else(|| {
            Failure::new(format!("agents want a token: set {VARIABLE} to what `bench agent` has said"))
        })
    }

    /// A new one, from the kernel's random numbers (random(4)).
    pub(crate) fn generate() -> Result<Token> {
        random::<TOKEN_BYTES>().map(|bytes| Token(BASE64_STANDARD.encode(bytes)))
    }

    /// For its owner to give to the harness.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// The answer to a challenge.
    pub(crate) fn proof(&self, challenge: &str) -> String {
        BASE64_STANDARD.encode(self.mac(challenge).finalize().into_bytes())
    }

    /// Whether this is the answer. How long it takes to tell doesn't depend on where it is wrong.
    pub(crate) fn accepts(&self, challenge: &str, proof: &str) -> bool {
        let proof = BASE64_STANDARD.decode(proof).unwrap_or_default();
        self.mac(challenge).verify_slice(&proof).is_ok()
    }

    fn mac(&self, challenge: &str) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(b"triptych bench agent\n");
        mac.update(challenge.as_bytes());
        mac
    }
}

/// Something that was never said before.
pub(crate) fn challenge() -> Result<String> {
    random::<CHALLENGE_BYTES>().map(|bytes| BASE64_STANDARD.encode(bytes))
}

fn random<const COUNT: usize>() -> Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    read.map_err(Failure::context("read /dev/urandom"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_proves_the_token() {
        let (ours, theirs) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert!(ours.reveal().len() >= TOKEN_CHARS_MIN && ours.reveal() != theirs.reveal());
        let (first, second) = (challenge().unwrap(), challenge().unwrap());
        assert_ne!(first, second);
        assert!(ours.accepts(&first, &ours.proof(&first)));
        for (name, challenge, proof) in [
            ("another token's", &first, theirs.proof(&first)),
            ("one that was heard before", &second, ours.proof(&first)),
            ("none", &first, String::new()),
            ("the token itself", &first, ours.reveal().to_owned()),
        ] {
            assert!(!ours.accepts(challenge, &proof), "{name}");
        }
    }

    /// RFC 4231 has no case with this prefix; this one was computed with `openssl dgst -sha256 -hmac`.
    #[test]
    fn the_proof_is_hmac_sha_256() {
        let token = Token("0123456789abcdef".to_owned());
        assert_eq!(token.proof("challenge"), "Bd85AFK1esLR2WTFGam8t3l3l3vbqkEJcy+vpIZEMpw=");
    }
}
