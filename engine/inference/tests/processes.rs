//! The engine's side of host processes that hang, cannot load the model, or are exchanged. The
//! processes are scripts that send the first event of a host process and then nothing more.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::{ChatMessage, InferRequest, Priority, Role, Sampling};
use inference::{Compute, LaunchConfig, ModelCard, ModelClient, ModelEndpoint, SiteModel};

/// A temporary folder that is removed with its content when the value is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("processes-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// A program that sends `first` on its socket and then nothing more. It records in a log
    /// whether the process before it is still running.
    fn program(&self, first: &str) -> PathBuf {
        let path = self.0.join("program");
        let folder = self.0.display();
        let length = format!("\\{:03o}\\000\\000\\000", first.len());
        let script = format!(
            "#!/bin/sh\n\
             if kill -0 \"$(cat {folder}/last)\" 2>/dev/null; then echo both; else echo alone; fi \
             >> {folder}/log\n\
             echo $$ > {folder}/last\n\
             printf '{length}{first}' >&0\n\
             exec sleep 1000\n"
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        path
    }

    fn log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.0.join("log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The system empties its temporary folder, so files that cannot be removed may stay.
        _ = std::fs::remove_dir_all(&self.0);
    }
}

const READY: &str = r#"{"type":"ready"}"#;

fn config(program: PathBuf, name: &str) -> LaunchConfig {
    let card = ModelCard { name: name.to_owned(), cpu_memory_bytes: 4, ..ModelCard::default() };
    // No weights: what loads them is a script.
    let checkpoint = program.with_file_name("checkpoint");
    std::fs::create_dir_all(&checkpoint).unwrap();
    LaunchConfig { program, checkpoint, card, compute: Compute::Cpu }
}

fn request(deadline_ms: Option<u64>) -> InferRequest {
    InferRequest {
        priority: Priority::Routine,
        deadline_ms,
        messages: vec![ChatMessage { role: Role::User, text: "?".to_owned(), pictures: 0 }],
        pictures: Vec::new(),
        mask_pictures: Vec::new(),
        pixels: None,
        sampling: Sampling::default(),
    }
}

#[tokio::test]
async fn a_process_that_hangs_is_ended_and_its_request_fails_in_the_end() {
    let scratch = Scratch::new("hangs");
    let config = config(scratch.program(READY), "it");
    let model = ModelClient::start_with(config, Duration::from_millis(300));
    let fault = model.infer(request(None)).await.unwrap_err();
    assert!(fault.is_retryable() && fault.reason.contains("ended 3 times"), "{fault}");
    assert_eq!(scratch.log(), ["alone"; 3], "each process ended before the next one started");
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_reported_to_the_caller_that_loads_it() {
    let scratch = Scratch::new("refuses");
    let refusing = scratch.program(r#"{"type":"load_failed","reason":"no tokenizer"}"#);
    let model = ModelClient::start(config(refusing, "it"));
    assert!(model.load().await.unwrap_err().reason.contains("no tokenizer"));
    // The next attempt may succeed.
    scratch.program(READY);
    model.load().await.unwrap();
    model.load().await.unwrap();
    assert_eq!(scratch.log().len(), 2, "a loaded model is not loaded again");
    let nowhere = ModelClient::start(config(scratch.0.join("nowhere"), "it"));
    assert!(nowhere.load().await.is_err());
}

#[tokio::test]
async fn without_memory_for_two_the_previous_process_ends_before_the_next_one_starts() {
    let scratch = Scratch::new("room");
    let program = scratch.program(READY);
    let shared = |name: &str| ModelClient::start(config(program.clone(), name));
    let local = |it: &Arc<ModelClient>| ModelEndpoint::Local(Arc::clone(it));
    let first = shared("first");
    first.load().await.unwrap();
    let site = SiteModel::new(ModelEndpoint::Local(first));

    let second = shared("second");
    site.exchange(local(&second), Some(1 << 40)).await.unwrap();
    assert_eq!(scratch.log(), ["alone", "both"]);
    drop(second);
    // A request waits during the exchange until its deadline.
    let waiting = Arc::clone(&site);
    let waiting = tokio::spawn(async move { waiting.infer(request(Some(400))).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let third = shared("third");
    site.exchange(local(&third), Some(0)).await.unwrap();
    assert_eq!(scratch.log(), ["alone", "both", "alone"]);
    assert!(waiting.await.unwrap().unwrap_err().reason.contains("in time"));
}

#[tokio::test]
async fn if_the_next_model_cannot_be_loaded_the_previous_one_stays_in_use() {
    let scratch = Scratch::new("goes-on");
    let first = ModelClient::start(config(scratch.program(READY), "first"));
    first.load().await.unwrap();
    let site = SiteModel::new(ModelEndpoint::Local(first));
    for available in [Some(1 << 40), Some(0)] {
        let broken = ModelClient::start(config(scratch.0.join("nowhere"), "broken"));
        assert!(site.exchange(ModelEndpoint::Local(broken), available).await.is_err());
    }
    // The previous model still receives requests, and its script never responds.
    let fault = site.infer(request(Some(500))).await.unwrap_err();
    assert!(fault.reason.contains("in time"), "{fault}");
    assert_eq!(scratch.log().len(), 2, "the first was loaded again by the request");
}
