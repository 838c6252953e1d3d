//! The model's process from the engine's side: processes that hang, refuse, and make room. They are
//! scripts that say what such a process says first, and never answer.
#![expect(clippy::unwrap_used, reason = "a panic says no")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domain::{InferRequest, Priority, Role, Sampling, Utterance};
use inference::{Compute, ModelCard, Served, SharedModel, SiteModel, Start};

/// A folder that is removed with everything in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("processes-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// A program that says `first` on its socket and then does nothing more. It writes into the log
    /// whether the one before it is still there.
    fn program(&self, first: &str) -> PathBuf {
        let (path, folder) = (self.0.join("program"), self.0.display());
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
        // What cannot be removed is in the temporary folder, which the system empties.
        _ = std::fs::remove_dir_all(&self.0);
    }
}

const READY: &str = r#"{"say":"ready"}"#;

fn start(engine: PathBuf, name: &str) -> Start {
    let card = ModelCard { name: name.to_owned(), bytes_on_cpu: 4, ..ModelCard::default() };
    let checkpoint = Path::new("nowhere").to_owned();
    Start { engine, checkpoint, card, compute: Compute::Cpu }
}

fn question(deadline_ms: Option<u64>) -> InferRequest {
    InferRequest {
        priority: Priority::Routine,
        deadline_ms,
        messages: vec![Utterance { role: Role::User, text: "?".to_owned(), pictures: 0 }],
        pictures: Vec::new(),
        mask_pictures: Vec::new(),
        pixels: None,
        sampling: Sampling::default(),
    }
}

#[tokio::test]
async fn a_process_that_hangs_is_ended_and_the_question_fails_in_the_end() {
    let scratch = Scratch::new("hangs");
    let start = start(scratch.program(READY), "it");
    let model = SharedModel::start_with(start, Duration::from_millis(300));
    let fault = model.infer(question(None)).await.unwrap_err();
    assert!(fault.is_retryable && fault.reason.contains("ended 3 times"), "{fault}");
    assert_eq!(scratch.log(), ["alone"; 3], "each was gone before the next began");
}

#[tokio::test]
async fn what_cannot_be_loaded_is_told_to_whoever_loads_it_first() {
    let scratch = Scratch::new("refuses");
    let refusing = scratch.program(r#"{"say":"unusable","reason":"no tokenizer"}"#);
    let model = SharedModel::start(start(refusing, "it"));
    assert!(model.load().await.unwrap_err().reason.contains("no tokenizer"));
    // The next try may find it mended.
    scratch.program(READY);
    model.load().await.unwrap();
    model.load().await.unwrap();
    assert_eq!(scratch.log().len(), 2, "what is loaded is not loaded again");
    let nowhere = SharedModel::start(start(scratch.0.join("nowhere"), "it"));
    assert!(nowhere.load().await.is_err());
}

#[tokio::test]
async fn without_memory_for_two_the_old_one_is_gone_before_the_new_one_begins() {
    let scratch = Scratch::new("room");
    let program = scratch.program(READY);
    let shared = |name: &str| SharedModel::start(start(program.clone(), name));
    let here = |it: &Arc<SharedModel>| Served::Here(Arc::clone(it));
    let first = shared("first");
    first.load().await.unwrap();
    let site = SiteModel::new(Served::Here(first));

    let second = shared("second");
    site.exchange(here(&second), Some(1 << 40)).await.unwrap();
    assert_eq!(scratch.log(), ["alone", "both"]);
    drop(second);
    // Somebody asks the old one, and gives up while it makes room.
    let asked = Arc::clone(&site);
    let asked = tokio::spawn(async move { asked.infer(question(Some(400))).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let third = shared("third");
    site.exchange(here(&third), Some(0)).await.unwrap();
    assert_eq!(scratch.log(), ["alone", "both", "alone"]);
    assert!(asked.await.unwrap().unwrap_err().reason.contains("in time"));
}

#[tokio::test]
async fn if_the_new_one_is_of_no_use_the_old_one_goes_on() {
    let scratch = Scratch::new("goes-on");
    let first = SharedModel::start(start(scratch.program(READY), "first"));
    first.load().await.unwrap();
    let site = SiteModel::new(Served::Here(first));
    for available in [Some(1 << 40), Some(0)] {
        let broken = SharedModel::start(start(scratch.0.join("nowhere"), "broken"));
        assert!(site.exchange(Served::Here(broken), available).await.is_err());
    }
    // It is asked, and as before it says nothing; the other one could not be asked at all.
    let fault = site.infer(question(Some(500))).await.unwrap_err();
    assert!(fault.reason.contains("in time"), "{fault}");
    assert_eq!(scratch.log().len(), 2, "the first was loaded again, by whoever asked");
}
