//! Confines the process of a plugin (SEC-24, SEC-31), before it loads any of the plugin's code.
//!
//! - Resource limits bound its memory and open files, and forbid it to write any file.
//! - Landlock limits the files it can read to the system's, its own copy, and two folders: that of
//!   its input, and that with the models of the site. The archive, the keys and other processes are out of reach, and it can trace none.
//! - Seccomp refuses system calls for the network, for other processes, and for the system itself.
//!   It is a list of what is refused: what interpreters and numeric libraries call cannot be
//!   foreseen.
//!
//! All of it is inherited by what the process starts, and none of it can be undone. A file of the
//! input may be a link to one of the archive: Landlock refuses to write to it and to truncate it,
//! seccomp to change its permissions, owner, times, attributes and flags.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, Scope, make_bitflags,
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
pub(crate) const SYSTEM_FOLDERS: [&str; 7] =
    ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt", "/sys"];

/// What is readable of `/proc`, beside the folder of the process itself: the machine, and no other
/// process.
const MACHINE_FILES: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys",
    "/proc/uptime",
    "/proc/version",
    "/proc/vmstat",
];

/// The folder of a process itself.
const OWN_PROCESS: &str = "/proc/self";

/// The engine's folder in `/etc`, which is not readable: a site file may hold the password of the
/// database.
const ENGINE_SETTINGS: &str = "isocenter";

/// Devices that hold no data.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];

/// The oldest version of Landlock that confines a plugin (Linux 5.13). It does not refuse to
/// truncate a file, as version 3 does: seccomp refuses that too.
pub(crate) const LANDLOCK_MIN: ABI = ABI::V1;

/// The version of Landlock whose kinds of access are restricted. Of those that are newer than
/// [`LANDLOCK_MIN`], a kernel restricts what it knows: truncation (version 3), devices (5), signals
/// and abstract sockets (6), named sockets (9). Other rules refuse the same.
const LANDLOCK: ABI = ABI::V9;

/// Access to programs and libraries.
const TO_RUN: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | Execute});

/// Access to the input and to models.
const TO_READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});

/// Numbers of system calls that the crate `libc` does not name yet. They are the same everywhere.
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
const OPEN_TREE_ATTR: i64 = 467;
const FILE_SETATTR: i64 = 469;

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
    SETXATTRAT,
    REMOVEXATTRAT,
    FILE_SETATTR,
    libc::SYS_truncate,
    // Its flags lie in memory, where no filter sees `O_TRUNC`.
    libc::SYS_openat2,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
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

/// Requests of `fcntl` that make the kernel signal another process (`F_SETOWN`, `F_SETSIG`,
/// `F_SETOWN_EX`) or have others wait for a file (`F_SETLEASE`).
const REFUSED_FCNTL: &[u64] = &[8, 10, 15, 1024];

/// Requests of `ioctl` that make the kernel signal another process (`FIOSETOWN`, `SIOCSPGRP`) or
/// change a file that is open for reading only (`FS_IOC_SETFLAGS` in two sizes, `FS_IOC_SETVERSION`
/// in two sizes, `FS_IOC_FSSETXATTR`, `FS_IOC_ENABLE_VERITY`).
const REFUSED_IOCTL: &[u64] =
    &[0x8901, 0x8902, 0x4008_6602, 0x4004_6602, 0x4008_7602, 0x4004_7602, 0x401c_5820, 0x4080_6685];

/// Calls of which some requests are refused, by their second argument.
const REFUSED_REQUESTS: &[(i64, &[u64])] =
    &[(libc::SYS_fcntl, REFUSED_FCNTL), (libc::SYS_ioctl, REFUSED_IOCTL)];

/// The bits of the type of a socket, without its flags.
const SOCKET_TYPE: u64 = 0xf;

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

/// The folders of the engine that a plugin's process can read.
#[derive(Clone, Copy, Debug)]
pub struct Lent<'a> {
    /// The one through which it gets the files of its input.
    pub inputs: &'a Path,
    /// The one with the models of the site, if it may read them.
    pub models: Option<&'a Path>,
}

/// Confines this process and every process it starts. It can read the programs and libraries of the
/// system, its own copy (`plugin`), and what lies in the folders `lent`.
///
/// # Errors
///
/// Fails if the system refuses, or if the kernel lacks a restriction that is needed.
pub(crate) fn confine(plugin: &Path, lent: Lent<'_>, memory_bytes_max: u64) -> io::Result<()> {
    confine_by(CompatLevel::HardRequirement, plugin, lent, memory_bytes_max)
}

/// The same, where the site accepts that files stay readable which the kernel cannot restrict.
///
/// # Errors
///
/// Fails if the system refuses.
pub(crate) fn confine_as_far_as_possible(
    plugin: &Path,
    lent: Lent<'_>,
    memory_bytes_max: u64,
) -> io::Result<()> {
    confine_by(CompatLevel::BestEffort, plugin, lent, memory_bytes_max)
}

fn confine_by(
    demand: CompatLevel,
    plugin: &Path,
    lent: Lent<'_>,
    memory_bytes_max: u64,
) -> io::Result<()> {
    limit(Resource::As, memory_bytes_max)?;
    limit(Resource::Nofile, OPEN_FILES_MAX)?;
    // No file is written, and no core dump, which would hold patient data.
    limit(Resource::Fsize, 0)?;
    limit(Resource::Core, 0)?;
    let opened = [Some(lent.inputs), lent.models].into_iter().flatten().map(PathFd::new);
    let lent: Vec<PathFd> = opened.collect::<Result<_, _>>().map_err(io::Error::other)?;
    restrict_files(demand, LANDLOCK, plugin, lent).map_err(io::Error::other)?;
    restrict_calls()
}

pub(crate) fn limit(resource: Resource, maximum: u64) -> io::Result<()> {
    let limit = Rlimit { current: Some(maximum), maximum: Some(maximum) };
    setrlimit(resource, limit).map_err(io::Error::from)
}

/// Makes all files unreadable but those of the system, of the plugin and in `lent`, and none
/// writable; and other processes untraceable. `newest` is the newest version of Landlock that is used.
fn restrict_files(
    demand: CompatLevel,
    newest: ABI,
    plugin: &Path,
    lent: Vec<PathFd>,
) -> Result<(), landlock::RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(demand)
        .handle_access(AccessFs::from_all(LANDLOCK_MIN))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    let settings = system_settings();
    let settings = settings.iter().map(PathBuf::as_path);
    let system = SYSTEM_FOLDERS.iter().chain(&MACHINE_FILES).map(Path::new);
    // A folder that is absent needs no rule.
    for path in system.chain([plugin]).chain(settings) {
        let Ok(file) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { TO_RUN } else { AccessFs::from_file(LANDLOCK) & TO_RUN };
        rules = rules.add_rule(PathBeneath::new(file, access))?;
    }
    for file in DEVICES.iter().filter_map(|it| PathFd::new(it).ok()) {
        let only_files = AccessFs::ReadFile | AccessFs::WriteFile;
        rules = rules.add_rule(PathBeneath::new(file, only_files))?;
    }
    for folder in lent {
        rules = rules.add_rule(PathBeneath::new(folder, TO_READ))?;
    }
    if let Some(own) = held_own_folder() {
        rules = rules.add_rule(PathBeneath::new(&own, TO_READ))?;
        // Open until the process ends.
        _ = own.into_raw_fd();
    }
    rules.restrict_self()?;
    Ok(())
}

/// The folder of this process in `/proc`, opened in a way that the program of a plugin inherits. A
/// rule is for the folder as it is in the memory of the kernel, which forgets it if nobody has it
/// open: the one it makes then is another one.
fn held_own_folder() -> Option<OwnedFd> {
    rustix::io::dup(PathFd::new(OWN_PROCESS).ok()?).ok()
}

/// The entries of `/etc`, without the engine's folder and without links that lead out of it.
pub(crate) fn system_settings() -> Vec<PathBuf> {
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
    rules.insert(libc::SYS_socketpair, vec![other_family()?, datagrams()?]);
    rules.insert(libc::SYS_openat, vec![truncates(2)?]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, vec![truncates(1)?]);
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

/// A pair of sockets that are not local.
fn other_family() -> Result<SeccompRule, seccompiler::BackendError> {
    let local = u64::from(libc::AF_UNIX.unsigned_abs());
    SeccompRule::new(vec![first_argument_differs(local)?])
}

/// A pair of sockets that send datagrams, which may be addressed to any named socket.
fn datagrams() -> Result<SeccompRule, seccompiler::BackendError> {
    let masked = SeccompCmpOp::MaskedEq(SOCKET_TYPE);
    let kind = u64::from(libc::SOCK_DGRAM.unsigned_abs());
    SeccompRule::new(vec![SeccompCondition::new(1, SeccompCmpArgLen::Dword, masked, kind)?])
}

/// An opening of a file that truncates it, whatever else it is opened for. `argument` is the place of
/// its flags.
fn truncates(argument: u8) -> Result<SeccompRule, seccompiler::BackendError> {
    let flag = u64::from(libc::O_TRUNC.unsigned_abs());
    let masked = SeccompCmpOp::MaskedEq(flag);
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, masked, flag)?])
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::net::UdpSocket;
    use std::os::unix::fs::OpenOptionsExt as _;
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
            assert!(is_refused(UnixDatagram::pair()), "a datagram can have any address");
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
            let flags = rustix::fs::ioctl_setflags(&file, rustix::fs::IFlags::NOATIME);
            assert_eq!(flags, Err(rustix::io::Errno::PERM));
            let none = rustix::fs::XattrFlags::empty();
            let attribute = rustix::fs::fsetxattr(&file, "user.x", b"y", none);
            assert_eq!(attribute, Err(rustix::io::Errno::PERM));
        });
    }

    #[test]
    fn sec_31_no_opening_truncates_a_file_whatever_landlock_restricts() {
        let scratch = Scratch::new();
        let path = scratch.plugin().join("plugin.json");
        with_restricted_calls(move || {
            let length = std::fs::metadata(&path).unwrap().len();
            let mut options = std::fs::OpenOptions::new();
            assert!(is_refused(options.read(true).custom_flags(libc::O_TRUNC).open(&path)));
            let all = rustix::fs::ResolveFlags::empty();
            let mode = rustix::fs::Mode::empty();
            let flags = rustix::fs::OFlags::TRUNC;
            let opened = rustix::fs::openat2(rustix::fs::CWD, &path, flags, mode, all);
            assert_eq!(opened.unwrap_err(), rustix::io::Errno::PERM);
            assert_eq!(std::fs::read(&path).unwrap().len() as u64, length);
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

    /// Runs `check` in a thread for which the kernel has no Landlock.
    pub(crate) fn without_landlock(check: impl FnOnce() + Send + 'static) {
        let rules = [(libc::SYS_landlock_create_ruleset, Vec::new())].into();
        let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, absent, arch).unwrap();
        let filter: BpfProgram = filter.try_into().unwrap();
        let thread = std::thread::spawn(move || {
            seccompiler::apply_filter(&filter).unwrap();
            check();
        });
        thread.join().unwrap();
    }

    #[test]
    fn sec_31_rules_that_the_kernel_does_not_know_do_not_vanish() {
        let scratch = Scratch::new();
        let folder = scratch.0.clone();
        let plugin = scratch.plugin();
        without_landlock(move || {
            let open = |folder: &Path| PathFd::new(folder).unwrap();
            let restrict =
                |demand| restrict_files(demand, LANDLOCK, &plugin, vec![open(&folder)]).is_ok();
            assert!(!restrict(CompatLevel::HardRequirement));
            assert!(restrict(CompatLevel::BestEffort), "the site accepts it");
        });
    }

    /// What a confined thread tries with a file of its input, a link to one of the archive.
    fn changes_of(file: &Path) -> Vec<io::Result<()>> {
        let beside = file.with_file_name("new");
        let open = |options: &mut std::fs::OpenOptions| options.open(file).map(drop);
        vec![
            std::fs::write(file, "y"),
            open(std::fs::OpenOptions::new().append(true)),
            open(std::fs::OpenOptions::new().read(true).custom_flags(libc::O_TRUNC)),
            std::fs::write(&beside, "y"),
            std::fs::hard_link(file, &beside),
            std::fs::rename(file, &beside),
            std::fs::remove_file(file),
        ]
    }

    /// Needs a kernel with Landlock (5.13 or later), as the integration tests do.
    #[test]
    fn sec_31_only_its_input_and_the_plugin_are_readable_and_nothing_is_writable() {
        check_files(LANDLOCK);
    }

    /// What seccomp refuses makes up for what the oldest Landlock does not.
    #[test]
    fn sec_31_the_oldest_landlock_confines_as_the_newest_does() {
        check_files(LANDLOCK_MIN);
    }

    fn check_files(newest: ABI) {
        let scratch = Scratch::new();
        let archive = scratch.0.join("archive");
        let own = scratch.0.join("lent/own");
        let other = scratch.0.join("lent/other");
        for folder in [&archive, &own, &other] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("image"), "x").unwrap();
        }
        std::fs::hard_link(archive.join("image"), own.join("link")).unwrap();
        let parent = std::os::unix::process::parent_id();
        let foreign_files = [
            archive.join("image"),
            other.join("image"),
            format!("/proc/{parent}/cmdline").into(),
            format!("/proc/{parent}/environ").into(),
        ];
        let foreign_folders =
            [archive.clone(), other, scratch.0.join("lent"), "/proc".into(), "/".into()];
        let plugin = scratch.plugin();
        let models = scratch.0.join("models");
        std::fs::create_dir_all(&models).unwrap();
        std::fs::write(models.join("model"), "m").unwrap();
        let lent = [&own, &models].map(|it| PathFd::new(it).unwrap()).into();
        let thread = std::thread::spawn(move || {
            restrict_files(CompatLevel::HardRequirement, newest, &plugin, lent).unwrap();
            restrict_calls().unwrap();
            assert_eq!(std::fs::read(own.join("link")).unwrap(), b"x");
            assert_eq!(std::fs::read(models.join("model")).unwrap(), b"m");
            assert_eq!(std::fs::read_dir(&own).unwrap().count(), 2);
            assert!(std::fs::read(plugin.join("plugin.json")).is_ok());
            assert!(std::fs::read("/proc/self/maps").is_ok());
            assert!(std::fs::read("/proc/meminfo").is_ok());
            let mut outcomes = changes_of(&own.join("link"));
            outcomes.extend(changes_of(&models.join("model")));
            outcomes.push(std::fs::write(plugin.join("new"), "y"));
            outcomes.extend(foreign_files.iter().map(|it| std::fs::read(it).map(drop)));
            outcomes.extend(foreign_folders.iter().map(|it| std::fs::read_dir(it).map(drop)));
            for (number, outcome) in outcomes.into_iter().enumerate() {
                let kind = outcome.map_err(|it| it.kind());
                assert_eq!(kind, Err(io::ErrorKind::PermissionDenied), "attempt {number}");
            }
        });
        thread.join().unwrap();
        assert_eq!(std::fs::read(archive.join("image")).unwrap(), b"x");
    }
}
