//! A private PostgreSQL, run as a child, for sites that have none.
//!
//! The cluster lies in `<data>/pg`, listens on a unix socket only, and asks for a password that
//! lies in `<data>/keys`. As root, which PostgreSQL refuses, it is run as the user `postgres`, or
//! `nobody` where there is none.
//!
//! After a `kill -9` of the engine the cluster is still there: the next start takes it over. After
//! one of the cluster itself, [`Cluster::watch`] starts it again.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tracing::{debug, warn};

use crate::vault::keys::open_key;

mod binaries;

pub use binaries::{Binaries, find_binaries};

/// Longest path of a unix socket, in bytes (`sun_path` of Linux, without its final zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Name of the socket in its folder. PostgreSQL makes it from the port.
const SOCKET: &str = ".s.PGSQL.5432";

/// Longest wait for the cluster to answer. Recovery after a crash reads what was written since the
/// last checkpoint.
const START_TIME_MAX: Duration = Duration::from_mins(2);

/// Longest wait for the cluster to stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// Held while the roles are prepared.
const ROLES_LOCK: i64 = 0x1D_0004;

const ADMIN: &str = "isocenter_admin";
const APP: &str = "isocenter_app";

/// A running cluster.
pub struct Cluster {
    binaries: Binaries,
    folder: PathBuf,
    socket_folder: PathBuf,
    user: Option<(u32, u32)>,
    admin_password: String,
    app_password: String,
    child: Mutex<Option<Child>>,
    is_stopping: AtomicBool,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// PostgreSQL is not installed.
    #[error(
        "no PostgreSQL 15 or newer was found; install it, on Debian with: apt-get install postgresql"
    )]
    NotInstalled,
    /// PostgreSQL is not in the folder that was specified.
    #[error("no PostgreSQL 15 or newer is in `{}`, which --pg-bin names", folder.display())]
    NotThere {
        /// The folder.
        folder: PathBuf,
    },
    /// The data are of another major version.
    #[error(
        "the data in `{}` were written by PostgreSQL {found}, the binaries are of {expected}; \
         install PostgreSQL {found}, or move the data with pg_upgrade", folder.display()
    )]
    OtherVersion {
        /// The cluster.
        folder: PathBuf,
        /// The version that wrote it.
        found: String,
        /// The version there is.
        expected: u32,
    },
    /// The user who runs PostgreSQL cannot get to the folder.
    #[error(
        "PostgreSQL does not run as root, and the user it runs as cannot enter `{}`; \
         choose a data folder that others may pass through, or run the engine as another user",
        folder.display()
    )]
    Unreachable {
        /// The folder that is closed.
        folder: PathBuf,
    },
    /// A file or process cannot be used.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A key file cannot be used.
    #[error("cannot store the password of the database")]
    Keys(#[from] crate::vault::keys::KeysError),
    /// It does not answer.
    #[error("PostgreSQL does not answer; its log is `{}`", log.display())]
    NoAnswer {
        /// The log of PostgreSQL, which states why.
        log: PathBuf,
    },
    /// The roles cannot be made.
    #[error("cannot prepare the roles of the database")]
    Roles(#[source] sqlx::Error),
    /// The binary to initialise failed.
    #[error("initdb failed: {message}")]
    Initdb {
        /// What it printed before it ended.
        message: String,
    },
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> ClusterError {
    let what = what.into();
    move |source| ClusterError::Io { what, source }
}

impl Cluster {
    /// Starts the cluster of a data folder, or takes it over if it runs already.
    ///
    /// # Errors
    ///
    /// Each error states what to do about it, where something can be done.
    pub async fn start(data: &Path, pg_bin: Option<&Path>) -> Result<Self, ClusterError> {
        Self::start_beside(data, pg_bin, || false).await
    }

    /// The same beside an engine, which starts its cluster by itself: as long as `is_of_engine`
    /// holds, nothing is started or changed, and the cluster is waited for until it answers.
    ///
    /// # Errors
    ///
    /// The same.
    pub async fn start_beside(
        data: &Path,
        pg_bin: Option<&Path>,
        is_of_engine: impl Fn() -> bool + Send + Sync,
    ) -> Result<Self, ClusterError> {
        let binaries = find_binaries(pg_bin).ok_or_else(|| match pg_bin {
            Some(folder) => ClusterError::NotThere { folder: folder.to_owned() },
            None => ClusterError::NotInstalled,
        })?;
        let folder = data.join("pg");
        fs::create_dir_all(&folder).map_err(io("make the folder of the database"))?;
        let folder = folder.canonicalize().map_err(io("find the folder of the database"))?;
        let user = user_to_run_as();
        if user.is_some() {
            check_reachable(&folder)?;
        }
        let cluster = Self {
            socket_folder: socket_folder(&folder),
            user,
            admin_password: hex::encode(open_key(&data.join("keys/database-admin.key"))?),
            app_password: hex::encode(open_key(&data.join("keys/database-app.key"))?),
            child: Mutex::new(None),
            is_stopping: AtomicBool::new(false),
            binaries,
            folder,
        };
        if !cluster.answers_an_engine(is_of_engine).await? {
            cluster.own(&cluster.folder.clone(), 0o700)?;
            cluster.own(&cluster.socket_folder.clone(), 0o700)?;
            cluster.initialise()?;
            if cluster.connects().await {
                debug!("took over the running database");
            } else {
                cluster.spawn_and_wait().await?;
            }
        }
        cluster.make_roles().await?;
        Ok(cluster)
    }

    /// Waits for the cluster of an engine. False once no engine runs it.
    async fn answers_an_engine(
        &self,
        is_of_engine: impl Fn() -> bool + Send + Sync,
    ) -> Result<bool, ClusterError> {
        let begin = Instant::now();
        while is_of_engine() {
            if self.connects().await {
                return Ok(true);
            }
            if begin.elapsed() >= START_TIME_MAX {
                return Err(ClusterError::NoAnswer { log: self.log() });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(false)
    }

    /// How to connect as the owner of everything.
    pub fn admin(&self) -> PgConnectOptions {
        self.options(ADMIN, &self.admin_password)
    }

    /// How the engine connects.
    pub fn app(&self) -> PgConnectOptions {
        self.options(APP, &self.app_password)
    }

    fn options(&self, user: &str, password: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket_folder)
            .port(5432)
            .username(user)
            .password(password)
            .database("postgres")
            .disable_statement_logging()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Makes a folder the user's who runs PostgreSQL.
    fn own(&self, folder: &Path, mode: u32) -> Result<(), ClusterError> {
        fs::create_dir_all(folder).map_err(io("make a folder of the database"))?;
        if let Some((uid, gid)) = self.user {
            chown(folder, Some(uid), Some(gid)).map_err(io("give a folder to PostgreSQL"))?;
        }
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(folder, mode).map_err(io("close a folder of the database"))
    }

    /// Makes the cluster if there is none. A crash in the middle leaves none.
    fn initialise(&self) -> Result<(), ClusterError> {
        let data = self.data();
        match fs::read_to_string(data.join("PG_VERSION")) {
            Ok(found) => {
                let found = found.trim().to_owned();
                if found != self.binaries.major.to_string() {
                    let expected = self.binaries.major;
                    return Err(ClusterError::OtherVersion { folder: data, found, expected });
                }
                return Ok(());
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // A database that cannot be read is not one that is missing.
            Err(error) => return Err(io("read the version of the database")(error)),
        }
        let fresh = self.folder.join("data.new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(io("remove a half-made database"))?;
        }
        let password = self.folder.join("password");
        write_secret(&password, &self.admin_password)?;
        if let Some((uid, gid)) = self.user {
            chown(&password, Some(uid), Some(gid))
                .map_err(io("hand the password to PostgreSQL"))?;
        }
        let output = self
            .command("initdb")
            .arg("--pgdata")
            .arg(&fresh)
            .args(["--username", ADMIN, "--auth=scram-sha-256", "--encoding=UTF8"])
            .args(["--locale=C.UTF-8", "--data-checksums", "--pwfile"])
            .arg(&password)
            .output()
            .map_err(io("run initdb"))?;
        fs::remove_file(&password).map_err(io("remove the password file"))?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(ClusterError::Initdb { message });
        }
        self.configure(&fresh)?;
        fs::rename(&fresh, &data).map_err(io("put the new database in its place"))
    }

    fn configure(&self, data: &Path) -> Result<(), ClusterError> {
        // Statements hold what identifies patients: they must not get into the log.
        let lines = format!(
            "\n# Written by isocenter.\nlisten_addresses = ''\nport = 5432\n\
             unix_socket_directories = '{}'\nunix_socket_permissions = 0700\n\
             max_connections = 64\nlog_min_error_statement = panic\nlog_error_verbosity = terse\n",
            self.socket_folder.display()
        );
        let path = data.join("postgresql.conf");
        let mut file =
            fs::OpenOptions::new().append(true).open(path).map_err(io("configure the database"))?;
        file.write_all(lines.as_bytes()).map_err(io("configure the database"))
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.folder.join(name));
        command.current_dir(&self.folder).stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.gid(gid).uid(uid);
        }
        command
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    async fn spawn_and_wait(&self) -> Result<(), ClusterError> {
        let begin = Instant::now();
        while begin.elapsed() < START_TIME_MAX {
            self.spawn()?;
            while begin.elapsed() < START_TIME_MAX && self.is_alive() {
                if self.connects().await {
                    self.forget_a_loser();
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            // A stale backend may still hold the lock file: the kernel removes it soon.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Err(ClusterError::NoAnswer { log: self.log() })
    }

    /// Lets go of a child that found another one at work, which has become ready meanwhile.
    fn forget_a_loser(&self) {
        let running = self.pid().map(|it| it.as_raw_nonzero().get().unsigned_abs());
        let mut child = self.locked_child();
        if child.as_ref().map(Child::id) != running
            && let Some(mut loser) = child.take()
        {
            // It would end anyway once it finds the lock file.
            _ = loser.kill();
            _ = loser.wait();
        }
    }

    fn spawn(&self) -> Result<(), ClusterError> {
        let mut options = fs::OpenOptions::new();
        let log = options.create(true).append(true).mode(0o600).open(self.log());
        let log = log.map_err(io("open the log of the database"))?;
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            // The socket may have moved with the data folder.
            .args(["-k", &self.socket_folder.display().to_string()])
            .stdout(Stdio::null())
            .stderr(log)
            // A signal from the terminal is for the engine, which stops its database in order.
            .process_group(0)
            .spawn()
            .map_err(io("start PostgreSQL"))?;
        *self.locked_child() = Some(child);
        Ok(())
    }

    fn locked_child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_alive(&self) -> bool {
        match self.locked_child().as_mut() {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => self.pid().is_some_and(|pid| test_kill_process(pid).is_ok()),
        }
    }

    /// The process that its lock file names.
    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
    }

    async fn connects(&self) -> bool {
        if !self.socket_folder.join(SOCKET).exists() {
            return false;
        }
        match self.admin().connect().await {
            Ok(connection) => connection.close().await.is_ok(),
            Err(_) => false,
        }
    }

    async fn make_roles(&self) -> Result<(), ClusterError> {
        let mut connection = self.admin().connect().await.map_err(ClusterError::Roles)?;
        // Every command prepares the roles: of two at once, one would fail ("tuple concurrently
        // updated"). Both statements are one transaction, at whose end the lock is released. The
        // password has only hexadecimal digits: nothing to escape.
        let statement = format!(
            "select pg_advisory_xact_lock({ROLES_LOCK});
             do $$ begin
                if not exists (select from pg_roles where rolname = '{APP}') then
                    create role {APP};
                end if;
                alter role {APP} login password '{}';
             end $$",
            self.app_password
        );
        let statement = sqlx::AssertSqlSafe(statement);
        sqlx::raw_sql(statement).execute(&mut connection).await.map_err(ClusterError::Roles)?;
        connection.close().await.map_err(ClusterError::Roles)
    }

    /// Starts the cluster again whenever it ends without being stopped.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            if self.is_stopping.load(Ordering::Relaxed) {
                return;
            }
            if self.is_alive() {
                continue;
            }
            warn!("the database ended; starting it again");
            if let Err(error) = self.spawn_and_wait().await {
                warn!(error = %domain::ErrorChain(&error), "the database does not start");
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    }

    /// Stops the cluster and waits until it has written everything.
    pub async fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        let Some(pid) = self.pid() else { return };
        // SIGINT is the fast shutdown: open transactions are rolled back, everything is flushed.
        if kill_process(pid, Signal::INT).is_err() {
            return;
        }
        let begin = Instant::now();
        while begin.elapsed() < STOP_TIME_MAX && self.is_alive() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn write_secret(path: &Path, text: &str) -> Result<(), ClusterError> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(io("write a password file"))
}

/// The socket lies beside the data, or under the temporary folder if that path is too long.
fn socket_folder(folder: &Path) -> PathBuf {
    let near = folder.join("run");
    if near.join(SOCKET).as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return near;
    }
    let digest = hex::encode(Sha256::digest(folder.as_os_str().as_encoded_bytes()));
    let short: String = digest.chars().take(16).collect();
    PathBuf::from("/tmp").join(format!("isocenter-{short}"))
}

/// The user and group to run PostgreSQL as, if we are root, which PostgreSQL refuses.
fn user_to_run_as() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    ids_of(&users, "postgres").or_else(|| ids_of(&users, "nobody")).or(Some((65534, 65534)))
}

/// The ids of a user and their group, from the text of `/etc/passwd`.
fn ids_of(users: &str, name: &str) -> Option<(u32, u32)> {
    let line = users.lines().find(|it| it.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Fails if somebody who is not root could not get to `folder`.
fn check_reachable(folder: &Path) -> Result<(), ClusterError> {
    for ancestor in folder.ancestors().skip(1) {
        let mode = fs::metadata(ancestor).map_err(io("look at a folder"))?.mode();
        if mode & 0o001 == 0 {
            return Err(ClusterError::Unreachable { folder: ancestor.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use crate::testing;

    #[tokio::test]
    async fn several_commands_prepare_the_roles_at_once() {
        let cluster = testing::cluster().await;
        let mut commands = JoinSet::new();
        for _ in 0..16 {
            commands.spawn(cluster.make_roles());
        }
        for outcome in commands.join_all().await {
            outcome.unwrap();
        }
    }
}
