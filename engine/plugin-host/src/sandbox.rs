//! Confines the process of a plugin (SEC-24, SEC-31), before it loads any of the plugin's code.
//!
//! - Resource limits bound its memory and open files, and forbid it to write any file.
//! - Landlock limits the files it can read to the system's, its own copy, and the images.
//! - Seccomp refuses system calls for the network, for other processes, and for the system itself.
//!   It is a list of what is refused: what interpreters and numeric libraries call cannot be
//!   foreseen.
//!
//! All of it is inherited by what the process starts, and none of it can be undone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _,
};
use rustix::process::{Resource, Rlimit, getpid, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

/// Upper bound of the open files of a process: the libraries of the system and its socket.
const OPEN_FILES_MAX: u64 = 256;

/// Folders that programs and libraries of the system read. Home folders and the engine's data are
/// not among them.
const SYSTEM_FOLDERS: [&str; 8] =
    ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt", "/proc", "/sys"];

/// The engine's folder in `/etc`, which is not readable: a site file may hold the password of the
/// database.
const ENGINE_SETTINGS: &str = "isocenter";

/// Devices that hold no data.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];

/// The version of Landlock whose kinds of access are restricted. An older kernel restricts those
/// that it knows.
const LANDLOCK: ABI = ABI::V5;

/// System calls that are refused with any arguments: the network and named sockets, other
/// processes, owners and permissions of files, the system itself, and ways around this list.
const REFUSED_CALLS: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_tkill,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_acct,
    libc::SYS_quotactl,
];

/// The same for calls that only older architectures have.
#[cfg(target_arch = "x86_64")]
const REFUSED_LEGACY_CALLS: &[i64] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_LEGACY_CALLS: &[i64] = &[];

/// Requests of `fcntl` and `ioctl` that make the kernel signal another process: `F_SETOWN`,
/// `F_SETSIG`, `F_SETOWN_EX`, `FIOSETOWN` and `SIOCSPGRP`.
const REFUSED_REQUESTS: &[(i64, &[u64])] =
    &[(libc::SYS_fcntl, &[8, 10, 15]), (libc::SYS_ioctl, &[0x8901, 0x8902])];

/// System calls that address a process: allowed only for the process itself.
const SELF_ONLY_CALLS: &[i64] =
    &[libc::SYS_kill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo];

/// A filter that refuses the second set of numbers of system calls (x32): the other rules are by
/// number, and would be bypassed by it.
const X32_FILTER: [sock_filter; 4] = [
    // Load the number of the call.
    sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 },
    // A number without the bit of x32 skips the refusal.
    sock_filter { code: 0x35, jt: 0, jf: 1, k: 0x4000_0000 },
    sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs(),
    },
    sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
];

/// Confines this process and every process it starts. It can read the programs and libraries of the
/// system, its own copy (`plugin`), and the images below `archive`.
///
/// # Errors
///
/// Fails if the system refuses. What the kernel cannot restrict (files before Linux 5.13) stays
/// open.
pub(crate) fn confine(plugin: &Path, archive: &Path, memory_bytes_max: u64) -> io::Result<()> {
    limit(Resource::As, memory_bytes_max)?;
    limit(Resource::Nofile, OPEN_FILES_MAX)?;
    // No file is written, and no core dump, which would hold patient data.
    limit(Resource::Fsize, 0)?;
    limit(Resource::Core, 0)?;
    restrict_files(plugin, archive).map_err(io::Error::other)?;
    restrict_calls()
}

pub(crate) fn limit(resource: Resource, maximum: u64) -> io::Result<()> {
    let limit = Rlimit { current: Some(maximum), maximum: Some(maximum) };
    setrlimit(resource, limit).map_err(io::Error::from)
}

/// Makes all files unreadable but those of the system, of the plugin and of the archive, and none
/// writable.
fn restrict_files(plugin: &Path, archive: &Path) -> Result<(), landlock::RulesetError> {
    let to_read = AccessFs::from_read(LANDLOCK);
    let only_files = AccessFs::ReadFile | AccessFs::WriteFile;
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(LANDLOCK))?.create()?;
    let settings = system_settings();
    let settings = settings.iter().map(PathBuf::as_path);
    let folders = SYSTEM_FOLDERS.iter().map(Path::new).chain([plugin, archive]).chain(settings);
    // A folder that is absent needs no rule.
    for (path, file) in folders.filter_map(|it| Some((it, PathFd::new(it).ok()?))) {
        let access = if path.is_dir() { to_read } else { AccessFs::from_file(LANDLOCK) & to_read };
        rules = rules.add_rule(PathBeneath::new(file, access))?;
    }
    for file in DEVICES.iter().filter_map(|it| PathFd::new(it).ok()) {
        rules = rules.add_rule(PathBeneath::new(file, only_files))?;
    }
    rules.restrict_self()?;
    Ok(())
}

/// The entries of `/etc`, without the engine's folder and without links that lead out of it.
fn system_settings() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/etc").into_iter().flatten().flatten();
    entries
        .filter(|it| it.file_name() != ENGINE_SETTINGS)
        .filter(|it| it.file_type().is_ok_and(|it| !it.is_symlink()))
        .map(|it| it.path())
        .collect()
}

/// Refuses the system calls that no process of the engine's children may use.
pub(crate) fn restrict_calls() -> io::Result<()> {
    seccompiler::apply_filter(&X32_FILTER).map_err(io::Error::other)?;
    let own_pid = u64::try_from(getpid().as_raw_nonzero().get()).unwrap_or_default();
    let filter = call_filter(own_pid).map_err(io::Error::other)?;
    seccompiler::apply_filter(&filter).map_err(io::Error::other)
}

/// The filter of system calls for the process of this number.
fn call_filter(own_pid: u64) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED_CALLS.iter().chain(REFUSED_LEGACY_CALLS).map(|it| (*it, Vec::new())).collect();
    let is_other = first_argument_differs(own_pid)?;
    for call in SELF_ONLY_CALLS {
        rules.insert(*call, vec![SeccompRule::new(vec![is_other.clone()])?]);
    }
    // For limits, 0 means the process itself.
    let is_neither = SeccompRule::new(vec![is_other, first_argument_differs(0)?])?;
    rules.insert(libc::SYS_prlimit64, vec![is_neither]);
    for (call, requests) in REFUSED_REQUESTS {
        let refused: Result<Vec<SeccompRule>, _> =
            requests.iter().map(|it| second_argument_is(*it)).collect();
        rules.insert(*call, refused?);
    }
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()
}

fn first_argument_differs(value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
}

fn second_argument_is(value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let is_value = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?;
    SeccompRule::new(vec![is_value])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::UdpSocket;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use rustix::process::{Pid, test_kill_process};

    use super::*;
    use crate::package::tests::Scratch;

    /// Runs `check` in a thread with the filter of system calls. Filters apply to a thread, and end
    /// with it.
    fn with_restricted_calls(check: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(|| {
            restrict_calls().unwrap();
            check();
        });
        thread.join().unwrap();
    }

    fn is_refused<T>(outcome: io::Result<T>) -> bool {
        outcome.err().and_then(|it| it.raw_os_error()) == Some(libc::EPERM)
    }

    #[test]
    fn sec_31_there_is_no_network_and_no_named_socket() {
        with_restricted_calls(|| {
            assert!(is_refused(UdpSocket::bind("127.0.0.1:0")));
            assert!(is_refused(UnixDatagram::unbound()));
            assert!(UnixStream::pair().is_ok(), "a pair of sockets reaches nobody else");
        });
    }

    #[test]
    fn sec_31_no_other_process_can_be_signalled() {
        with_restricted_calls(|| {
            assert!(test_kill_process(getpid()).is_ok());
            let parent = Pid::from_raw(i32::try_from(std::os::unix::process::parent_id()).unwrap());
            let outcome = test_kill_process(parent.unwrap());
            assert_eq!(outcome, Err(rustix::io::Errno::PERM));
        });
    }

    #[test]
    fn sec_31_permissions_and_times_of_files_cannot_be_changed() {
        let scratch = Scratch::new();
        let path = scratch.plugin().join("plugin.json");
        with_restricted_calls(move || {
            let permissions = std::fs::metadata(&path).unwrap().permissions();
            assert!(is_refused(std::fs::set_permissions(&path, permissions)));
            let file = std::fs::File::open(&path).unwrap();
            assert!(is_refused(file.set_modified(std::time::SystemTime::UNIX_EPOCH)));
        });
    }

    #[test]
    fn no_system_call_has_two_rules() {
        let refused = REFUSED_CALLS.iter().chain(REFUSED_LEGACY_CALLS).chain(SELF_ONLY_CALLS);
        let all: Vec<i64> =
            refused.copied().chain(REFUSED_REQUESTS.iter().map(|it| it.0)).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(call_filter(1).is_ok());
    }

    #[test]
    fn the_engines_settings_are_not_among_those_of_the_system() {
        let settings = system_settings();
        assert!(settings.iter().all(|it| it.parent() == Some(Path::new("/etc"))));
        assert!(settings.iter().all(|it| !it.ends_with(ENGINE_SETTINGS)));
    }

    /// Needs a kernel with Landlock (5.13 or later), as the integration tests do.
    #[test]
    fn sec_31_only_the_archive_and_the_plugin_are_readable_and_nothing_is_writable() {
        let scratch = Scratch::new();
        let archive = scratch.0.join("archive");
        std::fs::create_dir_all(&archive).unwrap();
        std::fs::write(archive.join("image"), "x").unwrap();
        std::fs::write(scratch.0.join("secret"), "x").unwrap();
        let folder = scratch.0.clone();
        let plugin = scratch.plugin();
        let thread = std::thread::spawn(move || {
            restrict_files(&plugin, &archive).unwrap();
            assert_eq!(std::fs::read(archive.join("image")).unwrap(), b"x");
            assert!(std::fs::read(plugin.join("plugin.json")).is_ok());
            for outcome in [
                std::fs::read(folder.join("secret")).map(|_| ()),
                std::fs::write(archive.join("image"), "y"),
                std::fs::write(plugin.join("new"), "y"),
                std::fs::remove_file(archive.join("image")),
            ] {
                let kind = outcome.unwrap_err().kind();
                assert_eq!(kind, io::ErrorKind::PermissionDenied);
            }
        });
        thread.join().unwrap();
    }
}
