//! The engine killed beside every commit of a study's way: right before it and right after it.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::gate::{Gate, Side};
use super::kind::Kind;
use super::round::{Count, Flaw, Verdict};
use super::ward::Ward;
use crate::{Hospital, program};

/// An engine whose database is behind a gate: that of another hospital.
pub struct Gated {
    ward: Ward,
    gate: Gate,
    _server: Hospital,
}

impl Gated {
    /// Opens it.
    pub async fn open() -> Self {
        let server = Hospital::open().await;
        let data = server.scratch.path("data");
        let folder = data.join("pg/run");
        let key = |user: &str| {
            let key = data.join(format!("keys/database-{user}.key"));
            std::fs::read_to_string(key).unwrap().trim().to_owned()
        };
        let admin = key("admin");
        let mut psql = Command::new("psql");
        psql.arg("-h").arg(&folder).args(["-U", "isocenter_admin", "-d", "postgres"]);
        psql.args(["-qc", "create database other"]).env("PGPASSWORD", &admin);
        assert!(psql.status().unwrap().success());
        let url =
            format!("postgres://isocenter_admin:{admin}@localhost/other?host={}", folder.display());
        let mut prepare = Command::new(program());
        assert!(prepare.args(["store", "prepare", "--as-owner", &url]).status().unwrap().success());
        let gate = Gate::open(&socket(&folder)).await;
        let app = key("app");
        let line = format!(
            "database: \"postgres://isocenter_app:{app}@127.0.0.1:{}/other\"\n",
            gate.port()
        );
        Self { ward: Ward::with(&line).await, gate, _server: server }
    }

    /// How many commits the way of a study takes.
    pub async fn commits(&mut self) -> usize {
        self.gate.arm(None, self.ward.engine());
        let verdict = self.ward.pass("reference", async |_| {}, Kind::PacsSlow).await;
        assert!(verdict.flaws.is_empty(), "{verdict}");
        self.gate.commits()
    }

    /// The way of a study with the engine killed beside one commit; not killed, if there was none of this number.
    pub async fn killed_beside(&mut self, commit: usize, side: Side) -> Verdict {
        let name = format!("{side:?}-{commit}");
        let mut is_killed = false;
        self.gate.arm(Some((commit, side)), self.ward.engine());
        let gate = &self.gate;
        let strike = async |ward: &mut Ward| {
            // A way may take fewer commits than the one before: then nobody is killed.
            let wait = std::time::Duration::from_secs(10);
            is_killed = tokio::time::timeout(wait, gate.reached()).await.is_ok();
            if is_killed {
                ward.kill_engine();
            }
        };
        let mut verdict = self.ward.pass(&name, strike, Kind::EngineKilled).await;
        verdict.note(if is_killed { "killed" } else { "there was no such commit" });
        verdict
    }

    /// Every `step`-th commit, on both sides. `told` hears of each.
    pub async fn all(&mut self, step: usize, told: impl Fn(&str)) -> Count {
        let commits = self.commits().await;
        told(&format!("{commits} commits"));
        let mut count = Count::default();
        for commit in (1..=commits).step_by(step.max(1)) {
            for side in [Side::Before, Side::After] {
                let verdict = self.killed_beside(commit, side).await;
                told(&verdict.to_string());
                count.add(&verdict);
            }
        }
        let end = self.ward.end();
        end.flaws.iter().for_each(|it: &Flaw| told(&format!("in the end: {it:?}")));
        count.add_end(&end);
        count
    }
}

/// The socket of a server in its folder.
fn socket(folder: &Path) -> PathBuf {
    let mut all = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let is_socket = |it: &PathBuf| std::fs::metadata(it).is_ok_and(|it| it.file_type().is_socket());
    all.find(is_socket).unwrap()
}
