//! Kills of the engine right before and right after each commit in the processing of a study.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::gate::{Gate, Side};
use super::kind::Kind;
use super::round::{Count, Flaw, Verdict};
use super::ward::Ward;
use crate::{Hospital, program};

/// A hospital whose database connections go through a gate.
///
/// The database is one of a second hospital, so that a kill of the engine does not end the server.
pub struct Gated {
    ward: Ward,
    gate: Gate,
    _server: Hospital,
}

impl Gated {
    /// Prepares a database in the server of one hospital, and opens another hospital on it.
    pub async fn open() -> Self {
        let server = Hospital::open().await;
        let data = server.scratch.path("data");
        let folder = data.join("pg/run");
        let admin = database_password(&data, "admin");
        let mut psql = Command::new("psql");
        psql.arg("-h").arg(&folder).args(["-U", "isocenter_admin", "-d", "postgres"]);
        psql.args(["-qc", "create database other"]).env("PGPASSWORD", &admin);
        assert!(psql.status().unwrap().success());
        let url =
            format!("postgres://isocenter_admin:{admin}@localhost/other?host={}", folder.display());
        let mut prepare = Command::new(program());
        assert!(prepare.args(["store", "prepare", "--as-owner", &url]).status().unwrap().success());
        let gate = Gate::open(&socket(&folder)).await;
        let app = database_password(&data, "app");
        let line = format!(
            "database: \"postgres://isocenter_app:{app}@127.0.0.1:{}/other\"\n",
            gate.port()
        );
        Self { ward: Ward::with(&line).await, gate, _server: server }
    }

    /// Number of commits in the processing of one study.
    pub async fn commits(&mut self) -> usize {
        self.gate.arm(None, self.ward.engine());
        let verdict = self.ward.pass("reference", async |_| {}, Kind::PacsSlow).await;
        assert!(verdict.flaws.is_empty(), "{verdict}");
        self.gate.commits()
    }

    /// Processes a study and kills the engine before or after one commit. The engine is not killed
    /// if there are fewer commits.
    pub async fn killed_beside(&mut self, commit: usize, side: Side) -> Verdict {
        let name = format!("{side:?}-{commit}");
        let mut is_killed = false;
        self.gate.arm(Some((commit, side)), self.ward.engine());
        let gate = &self.gate;
        let inject = async |ward: &mut Ward| {
            // The number of commits varies, so that this one may not happen.
            let wait = std::time::Duration::from_secs(10);
            is_killed = tokio::time::timeout(wait, gate.reached()).await.is_ok();
            if is_killed {
                ward.kill_engine();
            }
        };
        let mut verdict = self.ward.pass(&name, inject, Kind::EngineKilled).await;
        verdict.note(if is_killed { "killed" } else { "there was no such commit" });
        verdict
    }

    /// Kills the engine before and after every `step`-th commit and reports each result as a line.
    pub async fn all(&mut self, step: usize, report: impl Fn(&str)) -> Count {
        let commits = self.commits().await;
        report(&format!("{commits} commits"));
        let mut count = Count::default();
        for commit in (1..=commits).step_by(step.max(1)) {
            for side in [Side::Before, Side::After] {
                let verdict = self.killed_beside(commit, side).await;
                report(&verdict.to_string());
                count.add(&verdict);
            }
        }
        let end = self.ward.end();
        end.flaws.iter().for_each(|it: &Flaw| report(&format!("in the end: {it:?}")));
        count.add_end(&end);
        count
    }
}

/// The password of a database user, from the keys in a data folder.
fn database_password(data: &Path, user: &str) -> String {
    let key = data.join(format!("keys/database-{user}.key"));
    std::fs::read_to_string(key).unwrap().trim().to_owned()
}

/// The socket that a database server has in this folder.
fn socket(folder: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    entries.find(|it| is_socket(it)).unwrap()
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|it| it.file_type().is_socket())
}
