//! The HTTP client of all destinations, and what their answers mean for another attempt (OUT-73).

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use contracts::SendError;
use domain::ErrorChain;
use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Longest wait for an answer, from the start of the request.
const ANSWER_MAX: Duration = Duration::from_mins(2);

/// Longest body of an answer that is read, in bytes: some ten thousand entries of a transaction.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Why a destination cannot be opened with its configuration.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address does not begin with `https://` or `http://`.
    #[error("`{0}` begins with neither https:// nor http://")]
    Url(String),
    /// The file with a key cannot be read.
    #[error("cannot read `{file}`")]
    KeyFile {
        /// The file.
        file: PathBuf,
        /// The failure of the system.
        source: io::Error,
    },
    /// The client cannot be made: the system has no certificates to verify servers with.
    #[error("no HTTP client can be made")]
    Client(#[from] reqwest::Error),
}

/// Checks that the address is one of HTTP.
pub(crate) fn check_url(url: &str) -> Result<(), OpenError> {
    let is_http = url.starts_with("https://") || url.starts_with("http://");
    if is_http { Ok(()) } else { Err(OpenError::Url(url.to_owned())) }
}

/// Reads a key from a file that holds nothing else; space around it is ignored.
pub(crate) fn read_key(file: &Path) -> Result<String, OpenError> {
    let text = fs::read_to_string(file)
        .map_err(|source| OpenError::KeyFile { file: file.to_owned(), source })?;
    Ok(text.trim().to_owned())
}

/// A client with bounded waits that does not follow redirects (SEC-31).
pub(crate) fn client() -> Result<Client, OpenError> {
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_MAX)
        .timeout(ANSWER_MAX)
        .build()?;
    Ok(client)
}

/// Sends a request.
pub(crate) async fn answer(request: RequestBuilder) -> Result<Response, SendError> {
    request.send().await.map_err(failed_on_the_way)
}

/// A failure on the way is retryable. Its text names no address, because an address may hold a key.
fn failed_on_the_way(error: reqwest::Error) -> SendError {
    SendError::Retryable(ErrorChain(&error.without_url()).to_string())
}

/// Reads the body of an answer, up to `BODY_BYTES_MAX`.
pub(crate) async fn body(mut answer: Response) -> Result<Vec<u8>, SendError> {
    let mut body = Vec::new();
    loop {
        let chunk = answer.chunk().await.map_err(failed_on_the_way)?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            let text = format!("the server answered with more than {BODY_BYTES_MAX} bytes");
            return Err(SendError::Refused(text));
        }
        body.extend_from_slice(&chunk);
    }
}

/// Whether another attempt could succeed after an answer with this status.
pub(crate) fn is_retryable(status: StatusCode) -> bool {
    let is_passing =
        status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::TOO_MANY_REQUESTS;
    is_passing || status.is_server_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_http() {
        assert!(check_url("https://ehr.hospital.example/fhir").is_ok());
        assert!(check_url("http://127.0.0.1:8080").is_ok());
        assert!(check_url("ftp://ehr.hospital.example").is_err());
        assert!(check_url("ehr.hospital.example").is_err());
    }

    #[test]
    fn a_key_file_that_is_missing_is_named() {
        let failure = read_key(Path::new("/nowhere/fhir.key")).unwrap_err();
        assert_eq!(failure.to_string(), "cannot read `/nowhere/fhir.key`");
    }
}
