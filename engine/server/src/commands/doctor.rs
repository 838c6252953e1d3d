//! Looks for damage, and does about it what can be done.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use archive::{DiskArchive, Survey};
use contracts::StoreError;
use domain::{Actor, ErrorChain, Subject};
use store::{Check, Sealer, restore_guards, trail_file};
use uuid::Uuid;

use crate::args::{DoctorFlags, Listing};
use crate::commands::ask::{failed, person, show};
use crate::config::Config;
use crate::open::Opened;
use crate::output::Failure;

/// Checks whose remedy is to set up the guards of the trail again.
const GUARDED: [&str; 2] =
    ["the trail refuses changes", "the engine cannot write the trail but through audit.append"];

const CHAIN: &str = "the trail is what was sealed and signed";
const MESSAGES: &str = "every message has the bytes that came";
const KEYS: &str = "nobody else may read the keys";

/// What was found.
struct Found {
    checks: Vec<Check>,
    survey: Survey,
    /// Messages whose bytes are not those that came.
    altered: Vec<Uuid>,
}

/// What is examined.
struct Patient<'a> {
    opened: &'a Opened,
    archive: DiskArchive,
    data: PathBuf,
    reads_all: bool,
}

/// Exit code 1 if something is not as it should be, in the end.
pub(crate) async fn doctor(flags: &DoctorFlags) -> Result<ExitCode, Failure> {
    let listing = &flags.listing;
    let config = Config::read(&listing.place)?;
    let data = config.data(&listing.place);
    let opened = Opened::open(&listing.place).await?;
    opened.store.ping().await.map_err(|error| failed(&error))?;
    let archive = DiskArchive::beside(&data.join("archive"));
    let patient = Patient { opened: &opened, archive, data, reads_all: flags.read_all };
    let outcome = patient.see(flags.repair).await;
    opened.close().await;
    let checks = outcome?;
    told(listing, &checks)?;
    let is_good = checks.iter().all(|it| it.is_good);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(listing: &Listing, checks: &[Check]) -> Result<(), Failure> {
    show(listing, checks, &["", "check", "found"], |it| {
        let mark = if it.is_good { "ok" } else { "!!" };
        vec![mark.to_owned(), it.name.to_owned(), it.found.clone()]
    })
}

fn of_disk(error: &io::Error) -> Failure {
    Failure::from_error("the archive cannot be examined", error)
}

impl Patient<'_> {
    /// Examines; and, if it is to repair, repairs and examines once more.
    async fn see(&self, is_to_repair: bool) -> Result<Vec<Check>, Failure> {
        let Found { checks, survey, altered } = self.examine().await?;
        if !is_to_repair || checks.iter().all(|it| it.is_good) {
            return Ok(checks);
        }
        self.repair(&checks, &survey, altered).await?;
        let after = self.examine().await?.checks;
        let was_mended = |it: Check| {
            let before = checks.iter().find(|other| other.name == it.name);
            match before.filter(|before| !before.is_good && it.is_good) {
                Some(before) => Check { found: format!("mended, was {}", before.found), ..it },
                None => it,
            }
        };
        Ok(after.into_iter().map(was_mended).collect())
    }

    async fn examine(&self) -> Result<Found, Failure> {
        let store = &self.opened.store;
        let mut checks = store.examine().await.map_err(|error| failed(&error))?;
        let filed = store.filed_instances().await.map_err(|error| failed(&error))?;
        let expected: BTreeMap<String, u64> =
            filed.into_iter().map(|it| (it.sha256, it.bytes.unsigned_abs())).collect();
        let survey =
            self.archive.survey(&expected, self.reads_all).map_err(|error| of_disk(&error))?;
        let counted = Check::counted;
        let mut altered = Vec::new();
        if self.reads_all {
            altered = store.altered_messages().await.map_err(|error| failed(&error))?;
            checks.push(counted(MESSAGES, altered.len(), "messages were changed in the database"));
        }
        checks.extend([
            counted(
                "every instance has its file",
                survey.missing.len(),
                "files are missing; doctor --repair takes their instances out of use",
            ),
            counted(
                "every file is as long as it was",
                survey.torn.len(),
                "files are torn; doctor --repair puts them aside",
            ),
            counted(
                if self.reads_all {
                    "every file has the bytes it had"
                } else {
                    "every file has the bytes it had (only read with --read-all)"
                },
                survey.altered.len(),
                "files were changed; doctor --repair puts them aside",
            ),
            counted(
                "every file belongs to an instance",
                survey.orphans.len(),
                "files nobody knows; doctor --repair puts them aside",
            ),
            counted(
                "the quarantine holds only what is coming in",
                survey.leftovers.len(),
                "leftovers of an engine that ended; doctor --repair removes them",
            ),
            counted(
                "the folders of the archive are there",
                survey.folders.len(),
                "folders are missing; doctor --repair makes them",
            ),
            counted(
                KEYS,
                exposed_keys(&self.data).len(),
                "others may read them; doctor --repair takes that right away: were they read?",
            ),
            self.chain().await,
        ]);
        Ok(Found { checks, survey, altered })
    }

    /// Whether events, seals and signatures fit each other, and what was exported of them.
    async fn chain(&self) -> Check {
        let sealer = Sealer::new(
            std::sync::Arc::clone(&self.opened.store),
            self.data.join("trail/checkpoints.jsonl"),
        );
        let export = self.data.join("trail/examined.jsonl");
        let found = self.broken_link(&sealer, &export).await;
        // It is made anew each time.
        _ = fs::remove_file(&export);
        let is_good = found.is_none();
        let found = found.unwrap_or_else(|| "yes".to_owned());
        Check { name: CHAIN, is_good, found }
    }

    async fn broken_link(&self, sealer: &Sealer, export: &Path) -> Option<String> {
        let folder = export.parent().unwrap_or(&self.data);
        let created = fs::create_dir_all(folder).and_then(|()| fs::File::create(export));
        let mut file = match created {
            Ok(file) => BufWriter::new(file),
            Err(error) => return Some(error.to_string()),
        };
        if let Err(error) = sealer.write_all(&mut file).await {
            return Some(ErrorChain(&error).to_string());
        }
        let read = file.into_inner().map_err(io::IntoInnerError::into_error);
        let read = read.and_then(|_| fs::File::open(export));
        let verified = match read {
            Ok(file) => trail_file::verify(BufReader::new(file), &self.opened.store.trail_key()),
            Err(error) => return Some(error.to_string()),
        };
        verified.err().map(|it| ErrorChain(&it).to_string())
    }

    async fn repair(
        &self,
        checks: &[Check],
        survey: &Survey,
        altered: Vec<Uuid>,
    ) -> Result<(), Failure> {
        let (store, by) = (&self.opened.store, person());
        let is_bad = |name: &str| checks.iter().any(|it| it.name == name && !it.is_good);
        store.repair(&by).await.map_err(|error| failed(&error))?;
        for (why, all) in [
            ("every instance has its file", &survey.missing),
            ("every file is as long as it was", &survey.torn),
            ("every file has the bytes it had", &survey.altered),
        ] {
            for sha256 in all {
                store.isolate(sha256, why, &by).await.map_err(|error| failed(&error))?;
                self.archive.set_aside(sha256).map_err(|error| of_disk(&error))?;
            }
        }
        self.archive.mend(survey).map_err(|error| of_disk(&error))?;
        for key in exposed_keys(&self.data) {
            let set = fs::set_permissions(&key, fs::Permissions::from_mode(0o600));
            set.map_err(|error| of_disk(&error))?;
            self.note(KEYS, "others could read a key", &by).await?;
        }
        for message in altered {
            let subject = Subject { message: Some(message), ..Subject::default() };
            let noted = store.note_damage(MESSAGES, "have it sent again", subject, &by).await;
            noted.map_err(|error| failed(&error))?;
        }
        if is_bad(CHAIN) {
            // There is no putting right what was sealed: a person has to find out what happened.
            self.note(CHAIN, "keep the database and its exports as they are", &by).await?;
        }
        // Last: whoever may only work in the database may not do this, and the rest is done by then.
        if GUARDED.iter().any(|it| is_bad(it)) {
            self.guard(&by).await?;
        }
        Ok(())
    }

    async fn guard(&self, by: &Actor) -> Result<(), Failure> {
        let Some(owner) = self.opened.owner.clone() else { return Ok(()) };
        restore_guards(owner).await.map_err(|error| failed(&error))?;
        self.note(GUARDED[0], "guards were missing, and are there again", by).await
    }

    async fn note(&self, name: &str, advice: &str, by: &Actor) -> Result<(), Failure> {
        let noted: Result<(), StoreError> =
            self.opened.store.note_damage(name, advice, Subject::default(), by).await;
        noted.map_err(|error| failed(&error))
    }
}

/// Keys that others than their owner may read.
fn exposed_keys(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("keys")).into_iter().flatten().flatten();
    let is_secret = |it: &PathBuf| it.extension().is_some_and(|it| it == "key");
    let is_exposed =
        |it: &PathBuf| fs::metadata(it).is_ok_and(|about| about.permissions().mode() & 0o077 != 0);
    entries.map(|it| it.path()).filter(|it| is_secret(it) && is_exposed(it)).collect()
}
