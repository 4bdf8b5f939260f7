//! Patient ids that mean nothing outside the study.
//!
//! Design rule 7: an output never holds a patient id as it came. HMAC-SHA256 (RFC 2104) under a key
//! that stays in the study gives the same name to the same patient in every run, and nobody
//! without the key can try ids until one fits. The key is made and kept by the study, not here.

use sha2::{Digest, Sha256};

use crate::fs::to_hex;

/// Bytes of a SHA-256 block.
const BLOCK: usize = 64;
/// Hexadecimal digits of a pseudonym: 48 bits, so that 100,000 patients collide with probability 2e-5.
const DIGITS: usize = 12;

/// The pseudonym of a patient id: `P` and 12 hexadecimal digits of HMAC-SHA256 under `key`.
#[must_use]
pub fn pseudonym(key: &[u8; 32], id: &str) -> String {
    let mut name = String::from("P");
    name.push_str(&to_hex(&hmac_sha256(key, id.as_bytes()))[..DIGITS]);
    name
}

/// Whether a patient's name has the form of a pseudonym.
#[must_use]
pub fn is_pseudonym(name: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    name.len() == DIGITS + 1 && name.starts_with('P') && name.bytes().skip(1).all(digit)
}

/// HMAC-SHA256 for keys of at most one block.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    assert!(key.len() <= BLOCK, "a longer key would have to be hashed first");
    let mut inner_pad = [0x36u8; BLOCK];
    let mut outer_pad = [0x5Cu8; BLOCK];
    for (i, &byte) in key.iter().enumerate() {
        inner_pad[i] ^= byte;
        outer_pad[i] ^= byte;
    }
    let mut inner = Sha256::new();
    inner.update(inner_pad);
    inner.update(message);
    let mut outer = Sha256::new();
    outer.update(outer_pad);
    outer.update(inner.finalize());
    outer.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let mac = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(to_hex(&mac), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let mac = hmac_sha256(&[0x0b; 20], b"Hi There");
        assert_eq!(to_hex(&mac), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }

    #[test]
    fn a_pseudonym_depends_on_key_and_id_and_shows_neither() {
        let name = pseudonym(&[7; 32], "ROSSI MARIO");
        assert_eq!((name.len(), &name[..1]), (13, "P"));
        assert_eq!(name, pseudonym(&[7; 32], "ROSSI MARIO"));
        assert_ne!(name, pseudonym(&[8; 32], "ROSSI MARIO"));
        assert_ne!(name, pseudonym(&[7; 32], "ROSSI MARIA"));
    }
}
