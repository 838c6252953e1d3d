//! Receivers of C-STORE that are compared: the engine, storescp, Orthanc and pynetdicom.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::num::NonZeroI32;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dimse::{Remote, Timers};
use rustix::process::Pid;

use crate::processes::family;
use crate::{Hospital, Scratch, SiteOptions, python, remote};

/// Longest wait until a receiver responds to its first C-ECHO.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// Maximum PDU length that every receiver is configured with.
const PDU_BYTES: u32 = 131_072;

/// A workflow that no study of a bench triggers, so that the engine only stores, as the others do.
const IDLE: &str = "
workflow: idle
on: { study: { when: '\"XA\" in study.modalities', complete: { quiet: 20s } } }
nodes: { look: { review: radiologist } }
";

/// A pynetdicom server that writes each data set as received.
const PYNETDICOM: &str = "
import sys, itertools
from pynetdicom import AE, AllStoragePresentationContexts, evt
number = itertools.count()
def keep(event):
    with open(f'{sys.argv[2]}/{next(number)}', 'wb') as file:
        file.write(event.encoded_dataset())
    return 0
ae = AE(ae_title='ISOCENTER')
ae.maximum_pdu_size = int(sys.argv[3])
ae.maximum_associations = 64
ae.supported_contexts = AllStoragePresentationContexts
ae.add_supported_context('1.2.840.10008.1.1')
ae.start_server(('127.0.0.1', int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, keep)])
";

/// A running server for C-STORE.
pub struct Receiver {
    /// Name in tables.
    pub name: &'static str,
    /// The server as a sender sees it.
    pub remote: Remote,
    /// The folder in which the server stores what it receives.
    folder: PathBuf,
    process: u32,
    server: Server,
}

/// A hospital whose engine stores what it receives and starts no run.
pub(super) async fn idle_hospital() -> Hospital {
    Hospital::with(SiteOptions { workflows: &[("idle", IDLE)], ..SiteOptions::default() }).await
}

/// The process behind a receiver, which ends when it is dropped.
enum Server {
    Engine(Box<Hospital>),
    Child { child: Child, _scratch: Scratch },
}

impl Receiver {
    /// The engine with its private database.
    pub async fn isocenter() -> Self {
        let hospital = idle_hospital().await;
        let folder = hospital.scratch.path("data/archive/instances");
        assert!(folder.exists(), "the archive is elsewhere");
        Self {
            name: "isocenter",
            remote: hospital.modality(),
            folder,
            process: hospital.engine.id(),
            server: Server::Engine(Box::new(hospital)),
        }
    }

    /// `storescp` of dcmtk with a process for each association, which writes bytes as received.
    pub async fn storescp() -> Option<Self> {
        let pdu = PDU_BYTES.to_string();
        Self::child("storescp", |port, folder, _| {
            let mut command = Command::new("storescp");
            command.args(["-q", "+B", "--fork", "--max-pdu", &pdu, "-aet", "ISOCENTER", "-od"]);
            command.arg(folder).arg(port.to_string());
            command
        })
        .await
    }

    /// Orthanc with a thread for each association.
    pub async fn orthanc() -> Option<Self> {
        Self::child("Orthanc", |port, folder, scratch| {
            let config = serde_json::json!({
                "Name": "bench", "DicomAet": "ISOCENTER", "DicomPort": port, "HttpServerEnabled": false,
                "StorageDirectory": folder, "IndexDirectory": scratch.path("index"),
                "DicomThreadsCount": 16, "MaximumPduLength": PDU_BYTES, "DicomCheckCalledAet": false,
                "DicomAlwaysAllowStore": true, "DicomAlwaysAllowEcho": true,
            });
            let mut command = Command::new("Orthanc");
            command.arg(scratch.write("orthanc.json", &config.to_string()));
            command
        })
        .await
    }

    /// pynetdicom, which writes bytes as received.
    pub async fn pynetdicom() -> Option<Self> {
        let python = python();
        Self::child("pynetdicom", |port, folder, scratch| {
            let mut command = Command::new(python);
            command.arg(scratch.write("server.py", PYNETDICOM)).arg(port.to_string());
            command.arg(folder).arg(PDU_BYTES.to_string());
            command
        })
        .await
    }

    /// Starts a server as a child process and waits until it responds to C-ECHO. Returns `None` if
    /// its program is not installed.
    async fn child(
        name: &'static str,
        command: impl FnOnce(u16, &Path, &Scratch) -> Command,
    ) -> Option<Self> {
        let scratch = Scratch::default();
        let folder = scratch.path("received");
        fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = command(port, &folder, &scratch);
        // Without this variable, servers built on dcmtk wait 40 ms for the TCP acknowledgement of
        // each response.
        command.env("TCP_NODELAY", "1");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let remote =
            Remote { timers: Timers::default(), ..remote(&format!("127.0.0.1:{port}"), "CT1") };
        let start = std::time::Instant::now();
        while remote.echo().await.is_err() {
            assert!(start.elapsed() < START_TIME_MAX, "{name} does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let process = child.id();
        let server = Server::Child { child, _scratch: scratch };
        Some(Self { name, remote, folder, process, server })
    }

    /// The hospital, where this is the engine.
    pub fn hospital(&self) -> Option<&Hospital> {
        match &self.server {
            Server::Engine(hospital) => Some(hospital),
            Server::Child { .. } => None,
        }
    }

    /// Number of stored files that are not empty.
    pub fn kept(&self) -> usize {
        let has_bytes = |it: &PathBuf| fs::metadata(it).is_ok_and(|it| it.len() > 0);
        crate::files(&self.folder).iter().filter(|it| has_bytes(it)).count()
    }

    /// Truncates all stored files to length zero and flushes the disk, so that every receiver has
    /// the same free space on disk and in the page cache. The files are not removed: creating files
    /// would then be slower, as the file system reuses entries that were just freed.
    pub fn tidy(&self) {
        for file in crate::files(&self.folder) {
            fs::File::create(file).unwrap();
        }
        rustix::fs::sync();
    }

    /// Processor time in seconds of the server and its children, ended children included.
    pub fn cpu(&self) -> f64 {
        self.processes().into_iter().map(cpu_seconds).sum()
    }

    /// Current memory of the server and its children in MB. Shared pages count once.
    pub fn memory_mb(&self) -> f64 {
        self.processes().into_iter().map(proportional_mb).sum()
    }

    fn processes(&self) -> BTreeSet<i32> {
        let data = self.hospital().map(|it| it.scratch.path("data"));
        let postmaster = data.and_then(|it| crate::database_pid(&it));
        let postmaster = postmaster.map(Pid::as_raw_nonzero).map(NonZeroI32::get);
        postmaster.into_iter().chain([self.process.cast_signed()]).flat_map(family).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Server::Child { child, .. } = &mut self.server {
            // The child may have ended already.
            _ = child.kill();
            _ = child.wait();
        }
    }
}

/// Processor time in seconds of a process and its ended children.
fn cpu_seconds(process: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let (_, after) = stat.rsplit_once(')').unwrap_or_default();
    let fields = after.split_whitespace().skip(11).take(4);
    let ticks: f64 = fields.filter_map(|it| it.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// Memory of a process in MB, with each shared page divided by its users (`Pss` of proc(5)).
fn proportional_mb(process: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|it| it.strip_prefix("Pss:")).unwrap_or_default();
    let kb: f64 = line.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(0.0);
    kb / 1024.0
}
