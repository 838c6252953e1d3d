//! What the system keeps from a plugin's process: memory, files, the network, other processes
//! (SEC-24, SEC-31).

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

/// Most files a plugin's process has open: the libraries of the system and its socket.
const OPEN_FILES_MAX: u64 = 256;

/// What programs and libraries of a system read. The engine's data and homes are not among it.
const SYSTEM_FOLDERS: [&str; 8] =
    ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt", "/proc", "/sys"];

/// The folder in `/etc` that is the engine's: a site file may name the database's password.
const OWN_SETTINGS: &str = "isocenter";

/// Devices that hold nothing of anybody.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];

/// The release of Landlock whose kinds of access are restricted; of older kernels as many as they
/// know.
const LANDLOCK: ABI = ABI::V5;

/// Calls that are refused whatever they ask for: the network and sockets with names, other
/// processes, owners and rights of files, the system itself, and ways around this list.
const REFUSED: &[i64] = &[
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

/// What older systems have for the same.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// Requests to a socket or file that have somebody else signalled: `F_SETOWN` and its like of `fcntl`,
/// `FIOSETOWN` and `SIOCSPGRP` of `ioctl`.
const REFUSED_REQUESTS: &[(i64, &[u64])] =
    &[(libc::SYS_fcntl, &[8, 10, 15]), (libc::SYS_ioctl, &[0x8901, 0x8902])];

/// Calls that reach a process: allowed only for this one.
const FOR_ITSELF: &[i64] =
    &[libc::SYS_kill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo];

/// Refuses the second set of numbers that a kernel may know every call by (x32): rules are by number.
const SECOND_NUMBERS: [sock_filter; 4] = [
    // The number of the call.
    sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 },
    // Below the bit of the second set: allowed.
    sock_filter { code: 0x35, jt: 0, jf: 1, k: 0x4000_0000 },
    sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs(),
    },
    sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
];

/// Takes from this process, and all it starts, what a plugin has no need of. It may read the
/// system's programs and libraries, itself (`plugin`), and the images below `archive`.
///
/// # Errors
///
/// Fails if the system does not let us. What a kernel cannot restrict (Landlock before 5.13) stays
/// open.
pub(crate) fn confine(plugin: &Path, archive: &Path, memory_bytes_max: u64) -> io::Result<()> {
    let set = |resource, most: u64| {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).map_err(io::Error::from)
    };
    set(Resource::As, memory_bytes_max)?;
    set(Resource::Nofile, OPEN_FILES_MAX)?;
    // It writes no file, not even its own corpse, which would hold patient data.
    set(Resource::Fsize, 0)?;
    set(Resource::Core, 0)?;
    restrict_files(plugin, archive).map_err(io::Error::other)?;
    restrict_calls()
}

/// Of files, only these are there to be read, and none to be changed.
fn restrict_files(plugin: &Path, archive: &Path) -> Result<(), landlock::RulesetError> {
    let to_read = AccessFs::from_read(LANDLOCK);
    let only_files = AccessFs::ReadFile | AccessFs::WriteFile;
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(LANDLOCK))?.create()?;
    let settings = settings();
    let settings = settings.iter().map(PathBuf::as_path);
    let folders = SYSTEM_FOLDERS.iter().map(Path::new).chain([plugin, archive]).chain(settings);
    // What is not there needs no rule.
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

/// What lies in `/etc`, without the engine's own folder and without what leads elsewhere.
fn settings() -> Vec<PathBuf> {
    let all = std::fs::read_dir("/etc").into_iter().flatten().flatten();
    let is_system_s = |it: &std::fs::DirEntry| {
        it.file_name() != OWN_SETTINGS && it.file_type().is_ok_and(|it| !it.is_symlink())
    };
    all.filter(is_system_s).map(|it| it.path()).collect()
}

fn restrict_calls() -> io::Result<()> {
    seccompiler::apply_filter(&SECOND_NUMBERS).map_err(io::Error::other)?;
    let own = u64::try_from(getpid().as_raw_nonzero().get()).unwrap_or_default();
    let program = program(own).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

fn program(own: u64) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().chain(REFUSED_HERE).map(|it| (*it, Vec::new())).collect();
    let is_not = |it| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, it);
    let is_other = is_not(own)?;
    for call in FOR_ITSELF {
        rules.insert(*call, vec![SeccompRule::new(vec![is_other.clone()])?]);
    }
    // Limits: 0 means this process.
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![is_other, is_not(0)?])?]);
    for (call, requests) in REFUSED_REQUESTS {
        let is = |it: &u64| {
            let is_it = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *it);
            SeccompRule::new(vec![is_it?])
        };
        rules.insert(*call, requests.iter().map(is).collect::<Result<_, _>>()?);
    }
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()
}
