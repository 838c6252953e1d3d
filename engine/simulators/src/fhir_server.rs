//! A simulated FHIR server.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The largest bundle, in bytes.
const BUNDLE_MAX: usize = 64 << 20;

type Received = Arc<Mutex<Vec<Vec<u8>>>>;

/// A FHIR server that accepts and stores every transaction.
pub struct FhirServer {
    received: Received,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl FhirServer {
    /// Opens a server.
    ///
    /// # Errors
    ///
    /// Fails if the port is not available.
    pub async fn open(listen: SocketAddr) -> std::io::Result<Self> {
        let received = Received::default();
        let routes = Router::new()
            .route("/fhir", post(store))
            .layer(DefaultBodyLimit::max(BUNDLE_MAX))
            .with_state(Arc::clone(&received));
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            // It ends when the server is dropped.
            _ = axum::serve(listener, routes).await;
        });
        Ok(Self { received, address, task })
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}/fhir", self.address)
    }

    /// The bundles that it received so far, in order of arrival.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for FhirServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn store(State(received): State<Received>, body: Bytes) -> (StatusCode, String) {
    received.lock().unwrap_or_else(PoisonError::into_inner).push(body.to_vec());
    let bundle = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let count = bundle.get("entry").and_then(Value::as_array).map_or(0, Vec::len);
    let entry = json!({ "response": { "status": "200 OK" } });
    let response = json!({
        "resourceType": "Bundle",
        "type": "transaction-response",
        "entry": vec![entry; count],
    });
    (StatusCode::OK, response.to_string())
}
