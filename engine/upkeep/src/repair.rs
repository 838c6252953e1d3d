//! Examines an installation for damage, and repairs what can be repaired without loss (ACC-04).
//!
//! An [`ExaminedInstallation`] is a database, an archive and a folder of keys that have to fit each
//! other. [`ExaminedInstallation::examine`] only reads. [`ExaminedInstallation::repair`] puts right
//! what loses nothing, takes damaged images out of use, and opens a task for a person where only a
//! person can decide: what was sealed and signed, for example, is never "repaired".

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use archive::{DiskArchive, Survey};
use contracts::StoreError;
use domain::{Actor, ErrorChain, Subject, TrailFault};
use sqlx::postgres::PgConnectOptions;
use store::{Check, PgStore, Sealer, TrailFiles, fault_text, restore_guards, trail_file};
use uuid::Uuid;

// Names of our own checks. They are stored in the trail and shown by `isocenter doctor`.
const TRAIL_INTACT: &str = "the trail is what was sealed and signed";
const TRAIL_COMPLETE: &str = "the trail is as long as was signed and counted outside of it";
const MESSAGES_INTACT: &str = "every message has the bytes that came";
const KEYS_PRIVATE: &str = "nobody else may read the keys";
const FILES_PRESENT: &str = "every instance has its file";
const FILES_WHOLE: &str = "every file is as long as it was";
const FILES_INTACT: &str = "every file has the bytes it had";
const FILES_INTACT_IF_READ: &str = "every file has the bytes it had (only read with --read-all)";
const FILES_KNOWN: &str = "every file belongs to an instance";
const QUARANTINE_CURRENT: &str = "the quarantine holds only what is coming in";
const FOLDERS_PRESENT: &str = "the folders of the archive are there";

/// Why an installation cannot be examined or repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The database fails.
    #[error("the database does not answer")]
    Store(#[from] StoreError),
    /// The disk fails.
    #[error("the archive cannot be examined")]
    Disk(#[from] io::Error),
}

/// How thoroughly an installation is examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Rows, events, file names and lengths.
    Quick,
    /// Also the bytes of every image and every message, which takes as long as reading them all.
    Full,
}

/// A database, an archive and a folder of keys that have to fit each other.
pub struct ExaminedInstallation<'a> {
    /// The database.
    pub store: &'a Arc<PgStore>,
    /// How to connect as the owner of the database.
    pub owner: &'a PgConnectOptions,
    /// The data folder, with `archive`, `keys` and `trail`.
    pub data: &'a Path,
}

/// What an examination found.
struct Findings {
    /// Every check, with what it found.
    checks: Vec<Check>,
    /// What is wrong with the files of the archive.
    survey: Survey,
    /// Messages whose bytes are not those that were received.
    altered_messages: Vec<Uuid>,
    /// Key files that others than their owner may read.
    exposed_keys: Vec<PathBuf>,
    /// Why events, seals and signatures do not fit each other, if they do not.
    trail_fault: Option<String>,
    /// How the trail does not fit the files beside it, if so.
    count_fault: Option<TrailFault>,
}

impl Findings {
    fn is_good(&self) -> bool {
        self.checks.iter().all(|it| it.is_good)
    }

    /// The first check that fails because a guard of the trail is missing.
    fn missing_guard(&self) -> Option<&'static str> {
        self.checks.iter().find(|it| it.is_guard && !it.is_good).map(|it| it.name)
    }
}

impl ExaminedInstallation<'_> {
    /// Examines everything, and changes nothing.
    ///
    /// # Errors
    ///
    /// Fails if the database or the disk does.
    pub async fn examine(&self, depth: Depth) -> Result<Vec<Check>, RepairError> {
        Ok(self.findings(depth).await?.checks)
    }

    /// Examines, repairs what was found on behalf of `by`, and examines again. What was repaired is
    /// good afterwards, and says what it was before.
    ///
    /// # Errors
    ///
    /// Fails if the database or the disk does. What was repaired until then stays repaired.
    pub async fn repair(&self, depth: Depth, by: &Actor) -> Result<Vec<Check>, RepairError> {
        let before = self.findings(depth).await?;
        if before.is_good() {
            return Ok(before.checks);
        }
        self.repair_findings(&before, by).await?;
        let after = self.findings(depth).await?.checks;
        Ok(after.into_iter().map(|it| compared(it, &before.checks)).collect())
    }

    fn archive(&self) -> DiskArchive {
        DiskArchive::beside(&self.data.join("archive"))
    }

    async fn findings(&self, depth: Depth) -> Result<Findings, RepairError> {
        let mut checks = self.store.examine().await?;
        let filed = self.store.filed_instances().await?;
        let expected: BTreeMap<String, u64> =
            filed.into_iter().map(|it| (it.sha256, it.bytes.unsigned_abs())).collect();
        let survey = self.archive().survey(&expected, depth == Depth::Full)?;
        let altered_messages = match depth {
            Depth::Quick => Vec::new(),
            Depth::Full => self.store.altered_messages().await?,
        };
        let exposed_keys = exposed_keys(&self.data.join("keys"));
        let count_fault = self.sealer().fault().await?;
        let trail_fault = self.trail_fault().await;
        if depth == Depth::Full {
            let advice = "messages were changed in the database";
            checks.push(Check::counted(MESSAGES_INTACT, altered_messages.len(), advice));
        }
        checks.extend(archive_checks(&survey, depth));
        let advice = "others may read them; doctor --repair removes that right: were they read?";
        checks.push(Check::counted(KEYS_PRIVATE, exposed_keys.len(), advice));
        let found = trail_fault.clone().unwrap_or_else(|| "yes".to_owned());
        checks.push(Check {
            name: TRAIL_INTACT,
            is_good: trail_fault.is_none(),
            found,
            is_guard: false,
        });
        checks.push(count_check(count_fault));
        Ok(Findings { checks, survey, altered_messages, exposed_keys, trail_fault, count_fault })
    }

    fn sealer(&self) -> Sealer {
        Sealer::new(Arc::clone(self.store), TrailFiles::of(self.data))
    }

    /// Exports the trail to a scratch file and verifies it, as an auditor would. Returns what does
    /// not fit.
    async fn trail_fault(&self) -> Option<String> {
        let scratch = self.data.join("trail/examined.jsonl");
        let outcome = verify_through(&scratch, &self.sealer(), self.store).await;
        // It is written anew each time.
        _ = fs::remove_file(&scratch);
        outcome.err()
    }

    async fn repair_findings(&self, found: &Findings, by: &Actor) -> Result<(), RepairError> {
        let archive = self.archive();
        self.store.repair(by).await?;
        for (check, damaged) in [
            (FILES_PRESENT, &found.survey.missing),
            (FILES_WHOLE, &found.survey.torn),
            (FILES_INTACT, &found.survey.altered),
        ] {
            for sha256 in damaged {
                self.store.isolate(sha256, check, by).await?;
                archive.set_aside(sha256)?;
            }
        }
        archive.mend(&found.survey)?;
        for key in &found.exposed_keys {
            fs::set_permissions(key, fs::Permissions::from_mode(0o600))?;
            self.note(KEYS_PRIVATE, "others could read a key", by).await?;
        }
        for message in &found.altered_messages {
            let subject = Subject { message: Some(*message), ..Subject::default() };
            self.store.note_damage(MESSAGES_INTACT, "have it sent again", subject, by).await?;
        }
        if found.trail_fault.is_some() {
            // What was sealed cannot be repaired: a person has to find out what happened.
            self.note(TRAIL_INTACT, "keep the database and its exports as they are", by).await?;
        }
        if found.count_fault.is_some() {
            let advice = "find out why; a person accepts it with `isocenter trail accept-loss`";
            self.note(TRAIL_COMPLETE, advice, by).await?;
        }
        // Last, because a user who is not the owner of the database fails here, with all else done.
        if let Some(check) = found.missing_guard() {
            restore_guards(self.owner.clone()).await?;
            self.note(check, "guards were missing, and were installed again", by).await?;
        }
        Ok(())
    }

    /// Records damage that concerns the installation as a whole.
    async fn note(&self, check: &str, advice: &str, by: &Actor) -> Result<(), StoreError> {
        self.store.note_damage(check, advice, Subject::default(), by).await
    }
}

/// The check after a repair, with what it found before if the repair made it good.
fn compared(after: Check, before: &[Check]) -> Check {
    let earlier = before.iter().find(|it| it.name == after.name && !it.is_good);
    match earlier.filter(|_| after.is_good) {
        Some(earlier) => Check { found: format!("mended, was {}", earlier.found), ..after },
        None => after,
    }
}

/// The check of what was counted outside of the database.
fn count_check(fault: Option<TrailFault>) -> Check {
    let advice = "nothing is sealed until a person accepts it: `isocenter trail accept-loss`";
    let found = fault.map(|it| format!("{}; {advice}", fault_text(it)));
    Check {
        name: TRAIL_COMPLETE,
        is_good: fault.is_none(),
        found: found.unwrap_or_else(|| "yes".to_owned()),
        is_guard: false,
    }
}

/// The checks of the archive, by what a survey of its files found.
fn archive_checks(survey: &Survey, depth: Depth) -> [Check; 6] {
    let intact = match depth {
        Depth::Quick => FILES_INTACT_IF_READ,
        Depth::Full => FILES_INTACT,
    };
    [
        Check::counted(
            FILES_PRESENT,
            survey.missing.len(),
            "files are missing; doctor --repair takes their instances out of use",
        ),
        Check::counted(
            FILES_WHOLE,
            survey.torn.len(),
            "files are torn; doctor --repair puts them aside",
        ),
        Check::counted(
            intact,
            survey.altered.len(),
            "files were changed; doctor --repair puts them aside",
        ),
        Check::counted(
            FILES_KNOWN,
            survey.orphans.len(),
            "files belong to no instance; doctor --repair puts them aside",
        ),
        Check::counted(
            QUARANTINE_CURRENT,
            survey.leftovers.len(),
            "leftovers of an engine that ended; doctor --repair removes them",
        ),
        Check::counted(
            FOLDERS_PRESENT,
            survey.folders.len(),
            "folders are missing; doctor --repair makes them",
        ),
    ]
}

/// Writes the whole trail to `scratch`, and verifies the file. Fails with what does not fit.
async fn verify_through(scratch: &Path, sealer: &Sealer, store: &PgStore) -> Result<(), String> {
    let mut file = create(scratch).map_err(|error| error.to_string())?;
    sealer.write_all(&mut file).await.map_err(|error| ErrorChain(&error).to_string())?;
    file.into_inner().map_err(|error| error.into_error().to_string())?;
    let file = fs::File::open(scratch).map_err(|error| error.to_string())?;
    let verified = trail_file::verify(BufReader::new(file), &store.trail_key(), None);
    verified.map(|_| ()).map_err(|error| ErrorChain(&error).to_string())
}

fn create(path: &Path) -> io::Result<BufWriter<fs::File>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(BufWriter::new(fs::File::create(path)?))
}

/// Key files in `folder` that others than their owner may read.
fn exposed_keys(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|it| it.path()).filter(|it| is_key(it) && is_exposed(it)).collect()
}

fn is_key(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "key")
}

fn is_exposed(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o077 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aud_03_a_trail_that_is_shorter_than_its_count_is_a_finding() {
        let shorter = count_check(Some(TrailFault::BatchesMissing));
        assert!(!shorter.is_good && shorter.found.contains("missing from the trail"));
        assert!(!count_check(Some(TrailFault::CheckpointsMissing)).is_good);
        assert!(count_check(None).is_good);
    }

    fn check(name: &'static str, is_good: bool, found: &str) -> Check {
        Check { name, is_good, found: found.to_owned(), is_guard: false }
    }

    #[test]
    fn a_repaired_check_says_what_it_was() {
        let before = [check(FILES_WHOLE, false, "2: files are torn")];
        let after = compared(check(FILES_WHOLE, true, "yes"), &before);
        assert_eq!(after.found, "mended, was 2: files are torn");
    }

    #[test]
    fn a_check_that_was_good_or_still_is_bad_is_shown_as_it_is() {
        let before = [check(FILES_WHOLE, true, "yes"), check(TRAIL_INTACT, false, "broken")];
        assert_eq!(compared(check(FILES_WHOLE, true, "yes"), &before).found, "yes");
        assert_eq!(compared(check(TRAIL_INTACT, false, "broken"), &before).found, "broken");
    }

    #[test]
    fn every_finding_of_a_survey_is_counted_under_its_own_check() {
        let survey = Survey {
            missing: vec!["a".to_owned()],
            torn: vec!["b".to_owned(), "c".to_owned()],
            folders: vec![PathBuf::from("aa")],
            ..Survey::default()
        };
        let checks = archive_checks(&survey, Depth::Full);
        let bad: Vec<_> = checks.iter().filter(|it| !it.is_good).map(|it| it.name).collect();
        assert_eq!(bad, [FILES_PRESENT, FILES_WHOLE, FOLDERS_PRESENT]);
    }

    #[test]
    fn a_quick_examination_says_that_it_did_not_read_the_files() {
        let quick = archive_checks(&Survey::default(), Depth::Quick);
        assert!(quick.iter().any(|it| it.name == FILES_INTACT_IF_READ));
        assert!(!quick.iter().any(|it| it.name == FILES_INTACT));
    }

    #[test]
    fn only_keys_that_others_may_read_are_exposed() -> io::Result<()> {
        let folder = std::env::temp_dir().join(format!("isocenter-keys-{}", Uuid::now_v7()));
        fs::create_dir_all(&folder)?;
        for (name, mode) in
            [("open.key", 0o644), ("group.key", 0o640), ("closed.key", 0o600), ("open.pub", 0o644)]
        {
            fs::write(folder.join(name), "")?;
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode))?;
        }
        let mut exposed = exposed_keys(&folder);
        exposed.sort();
        fs::remove_dir_all(&folder)?;
        assert_eq!(exposed, [folder.join("group.key"), folder.join("open.key")]);
        Ok(())
    }

    #[test]
    fn a_site_without_keys_exposes_none() {
        assert_eq!(exposed_keys(Path::new("/nowhere")), Vec::<PathBuf>::new());
    }
}
