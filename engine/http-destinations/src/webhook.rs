//! A webhook: an HTTP endpoint of another system that accepts FHIR bundles with a signature.
//!
//! Every request has two headers. `X-Isocenter-Signature: sha256=<hex>` is the HMAC-SHA-256 (RFC 2104) of
//! the body under a secret that both sides have; the receiver verifies it before it reads the body.
//! `Idempotency-Key` is the id of the bundle, the same on every attempt: a receiver that has seen it
//! ignores the request and answers with success.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use contracts::{Destination, Output, SendError, Sent};
use domain::{OutputFormat, OutputKind};
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::client::{self, OpenError};

/// The header with the signature of the body.
const SIGNATURE: &str = "x-isocenter-signature";

/// The header with the id of the bundle.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Largest body that is sent, in bytes.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Block size of SHA-256, in bytes (FIPS 180-4).
const BLOCK_BYTES: usize = 64;

/// Configuration of a webhook as a destination: the value of `webhook` below `destinations.NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The address that bundles are posted to.
    pub url: String,
    /// A file with the secret of the signature.
    pub secret_file: PathBuf,
}

impl WebhookConfig {
    /// Checks what can be checked without reading a file.
    ///
    /// # Errors
    ///
    /// Fails if `url` is no address of HTTP.
    pub fn check(&self) -> Result<(), OpenError> {
        client::check_url(&self.url)
    }

    /// The destination that this configuration describes.
    ///
    /// # Errors
    ///
    /// Fails if the secret cannot be read or is empty, or the system has no certificates to verify
    /// servers with.
    pub fn open(&self) -> Result<WebhookDestination, OpenError> {
        let secret = client::read_key(&self.secret_file)?;
        if secret.is_empty() {
            let source = io::Error::new(io::ErrorKind::InvalidData, "the secret is empty");
            return Err(OpenError::KeyFile { file: self.secret_file.clone(), source });
        }
        Ok(WebhookDestination { url: self.url.clone(), secret, client: client::client()? })
    }
}

/// An HTTP endpoint that accepts signed FHIR bundles.
pub struct WebhookDestination {
    url: String,
    secret: String,
    client: Client,
}

impl WebhookDestination {
    async fn post(&self, output: &Output) -> Result<(), SendError> {
        if output.bytes.len() > BODY_BYTES_MAX {
            let text = format!("the bundle has more than {BODY_BYTES_MAX} bytes");
            return Err(SendError::Refused(text));
        }
        let signature = hex::encode(hmac_sha256(self.secret.as_bytes(), &output.bytes));
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/fhir+json; charset=utf-8")
            .header(SIGNATURE, format!("sha256={signature}"))
            .header(IDEMPOTENCY_KEY, &output.id)
            .body(output.bytes.clone());
        let status = client::answer(request).await?.status();
        if status.is_success() {
            return Ok(());
        }
        let text = format!("the webhook answered {status}");
        if client::is_retryable(status) || status == StatusCode::TOO_EARLY {
            Err(SendError::Retryable(text))
        } else {
            Err(SendError::Refused(text))
        }
    }
}

#[async_trait]
impl Destination for WebhookDestination {
    fn takes(&self, kind: OutputKind) -> bool {
        match kind.format() {
            OutputFormat::Fhir => true,
            OutputFormat::Dicom | OutputFormat::Hl7 | OutputFormat::Json => false,
        }
    }

    async fn send(&self, _: &str, _: &str, outputs: &[Output]) -> Result<Sent, SendError> {
        for output in outputs {
            self.post(output).await?;
        }
        Ok(Sent::Acknowledged)
    }
}

/// HMAC-SHA-256 of a message (RFC 2104).
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block.iter_mut().zip(Sha256::digest(key)).for_each(|(to, from)| *to = from);
    } else {
        block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message);
    let outer = Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c));
    outer.chain_update(inner.finalize()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_hmac(key: &[u8], message: &[u8], expected: &str) {
        assert_eq!(hex::encode(hmac_sha256(key, message)), expected);
    }

    /// Test cases 2, 3 and 6 of RFC 4231.
    #[test]
    fn the_signature_is_that_of_rfc_4231() {
        check_hmac(
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        );
        check_hmac(
            &[0xaa; 20],
            &[0xdd; 50],
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        );
        check_hmac(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        );
    }

    #[test]
    fn an_empty_secret_is_refused() {
        let config = WebhookConfig {
            url: "http://127.0.0.1:1".to_owned(),
            secret_file: PathBuf::from("/dev/null"),
        };
        assert!(matches!(config.open(), Err(OpenError::KeyFile { .. })));
    }
}
