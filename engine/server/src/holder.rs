//! The person who decides something that takes a name: by a token that was issued to them, not by
//! the account they work under.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;
use contracts::StoreError;
use domain::TokenHolder;
use sha2::{Digest as _, Sha256};
use store::PgStore;

use crate::output::Failure;

/// Upper bound of a token with what surrounds it in a file.
const TOKEN_BYTES_MAX: u64 = 1024;

/// The token of the person who decides.
#[derive(Args, Clone, Debug)]
pub(crate) struct HolderArgs {
    /// The file with the token of the person who decides; `-` reads it from standard input. On a
    /// command line everybody on the machine could read the token itself.
    #[arg(long, value_name = "FILE")]
    token: PathBuf,
}

impl HolderArgs {
    /// Reads the token.
    pub(crate) fn read(&self) -> Result<ReadToken, Failure> {
        let mut text = String::new();
        let read = if self.token.as_os_str() == "-" {
            std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text)
        } else {
            std::fs::File::open(&self.token)
                .and_then(|it| it.take(TOKEN_BYTES_MAX).read_to_string(&mut text))
        };
        let what = format!("cannot read the token in `{}`", self.token.display());
        read.map_err(|error| Failure::from_error(&what, &error))?;
        Ok(ReadToken { digest: Sha256::digest(text.trim().as_bytes()).into() })
    }
}

/// A token that was read: only its digest is kept.
pub(crate) struct ReadToken {
    digest: [u8; 32],
}

impl ReadToken {
    /// The person it was issued to; nobody if it is not valid.
    pub(crate) async fn holder(&self, store: &PgStore) -> Result<Option<TokenHolder>, StoreError> {
        store.token_holder(&self.digest).await
    }
}

/// The failure for a token that admits nobody.
pub(crate) fn nobody() -> Failure {
    Failure::new("the token is unknown, expired or revoked")
        .with_hint("`isocenter token create` makes one for a person")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_without_the_line_end_of_its_file() {
        let path = std::env::temp_dir().join(format!("isocenter-token-{}", uuid::Uuid::now_v7()));
        std::fs::write(&path, "iso_abc\n").unwrap();
        let read = HolderArgs { token: path.clone() }.read().unwrap();
        std::fs::remove_file(path).unwrap();
        let expected: [u8; 32] = Sha256::digest(b"iso_abc").into();
        assert_eq!(read.digest, expected);
    }

    #[test]
    fn a_token_file_that_is_not_there_is_named() {
        let missing = HolderArgs { token: "/nowhere/token".into() }.read();
        assert!(missing.err().unwrap().text().contains("/nowhere/token"));
    }
}
