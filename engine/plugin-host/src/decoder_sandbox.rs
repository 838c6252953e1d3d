//! Confines the decoder's process (SEC-24), more than that of a plugin: it opens nothing, starts
//! nothing, and has a limit of its processor time.

use std::collections::BTreeMap;
use std::io;

use landlock::{ABI, Access as _, AccessFs, Ruleset, RulesetAttr as _};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::sandbox::{limit, restrict_calls};

/// System calls that open a file or start a program. What the process needs is open and loaded.
const REFUSED_CALLS: &[i64] =
    &[libc::SYS_openat, libc::SYS_openat2, libc::SYS_execve, libc::SYS_execveat];

/// The same for calls that only older architectures have.
#[cfg(target_arch = "x86_64")]
const REFUSED_LEGACY_CALLS: &[i64] =
    &[libc::SYS_open, libc::SYS_creat, libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_LEGACY_CALLS: &[i64] = &[];

/// The files that it has open: its standard streams.
const STREAMS: u64 = 3;

/// The flag of `clone` that makes a thread, and not a process.
const CLONE_THREAD: u64 = 0x0001_0000;

/// Confines this process: besides its memory it has its three standard streams.
///
/// # Errors
///
/// Fails if the system refuses.
pub(crate) fn confine(memory_bytes_max: u64, processor_seconds_max: u64) -> io::Result<()> {
    limit(Resource::As, memory_bytes_max)?;
    // The first signal says what happened, and the second one cannot be caught.
    let seconds = Rlimit {
        current: Some(processor_seconds_max),
        maximum: Some(processor_seconds_max.saturating_add(1)),
    };
    setrlimit(Resource::Cpu, seconds)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Core, 0)?;
    // What a kernel without Landlock does not restrict, the filters of system calls refuse.
    let rules = Ruleset::default().handle_access(AccessFs::from_all(ABI::V5));
    let rules = rules.and_then(Ruleset::create).map_err(io::Error::other)?;
    rules.restrict_self().map_err(io::Error::other)?;
    limit(Resource::Nofile, STREAMS)?;
    restrict_calls()?;
    let refused = filter(call_rules().map_err(io::Error::other)?, libc::EPERM);
    seccompiler::apply_filter(&refused.map_err(io::Error::other)?).map_err(io::Error::other)?;
    // Its arguments are in memory, where no filter sees them: it is not there, and `clone` is used.
    let absent = filter(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS);
    seccompiler::apply_filter(&absent.map_err(io::Error::other)?).map_err(io::Error::other)
}

fn call_rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let calls = REFUSED_CALLS.iter().chain(REFUSED_LEGACY_CALLS);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = calls.map(|it| (*it, Vec::new())).collect();
    let makes_process =
        SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(CLONE_THREAD), 0)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![makes_process])?]);
    Ok(rules)
}

/// A filter that answers the calls of these rules with an error, and allows all others.
fn filter(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    error: i32,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let refused = SeccompAction::Errno(error.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Filters of system calls apply to a thread, and end with it. Limits do not, and are tested by
    /// the decoder itself.
    #[test]
    fn sec_24_the_decoder_opens_nothing_and_starts_nothing_but_threads() {
        let thread = std::thread::spawn(|| {
            restrict_calls().unwrap();
            let refused = filter(call_rules().unwrap(), libc::EPERM).unwrap();
            seccompiler::apply_filter(&refused).unwrap();
            let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
            seccompiler::apply_filter(&filter(absent, libc::ENOSYS).unwrap()).unwrap();
            let code = |it: io::Error| it.raw_os_error();
            assert_eq!(
                std::fs::File::open("/dev/null").map_err(code).err(),
                Some(Some(libc::EPERM))
            );
            assert_eq!(std::fs::read_dir("/").map_err(code).err(), Some(Some(libc::EPERM)));
            assert!(Command::new("/bin/true").status().is_err());
            assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
        });
        thread.join().unwrap();
    }
}
