//! Keys derived from the installation's secret: one for each purpose, so that none tells anything of another.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The keyed hash for one purpose.
pub(crate) fn derived(secret: &[u8], purpose: &str) -> Hmac<Sha256> {
    keyed(&keyed(secret).chain_update(purpose).finalize().into_bytes())
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    // Longer than a block the key is hashed first, by the definition of HMAC; done here because no length is an error.
    let mut block = [0; 64];
    if secret.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(secret));
    } else {
        block[..secret.len()].copy_from_slice(secret);
    }
    Hmac::new(&block.into())
}
