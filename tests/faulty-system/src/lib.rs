//! A full disk and a wrong clock for one process and its children.
//!
//! The process loads this library before the C library (`LD_PRELOAD`). Other processes of the
//! machine are not affected.
//!
//! The file that `FAULTY_SYSTEM` names has the current faults in 16 bytes in native byte order: the
//! deviation of the clock in microseconds, and whether the disk is full (0 or 1). The file may
//! change at any time.
#![expect(
    unsafe_code,
    clippy::missing_safety_doc,
    clippy::cast_possible_truncation,
    reason = "the functions replace those of the C library, whose manual has their safety rules"
)]

use std::os::fd::AsRawFd as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use libc::{
    c_int, c_long, c_void, iovec, off_t, size_t, ssize_t, time_t, timespec, timeval, timezone,
};

/// The content of the file.
struct Faults {
    clock_micros: AtomicI64,
    is_disk_full: AtomicI64,
}

/// The mapped file, or `None` if there is no file of sufficient length.
fn faults() -> Option<&'static Faults> {
    static FAULTS: OnceLock<Option<&'static Faults>> = OnceLock::new();
    *FAULTS.get_or_init(|| {
        let file = std::fs::File::open(std::env::var_os("FAULTY_SYSTEM")?).ok()?;
        let length = size_of::<Faults>();
        let fd = file.as_raw_fd();
        if file.metadata().ok()?.len() < length as u64 {
            return None;
        }
        // SAFETY: a new mapping of a file that is long enough and is never truncated.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, fd, 0)
        };
        // SAFETY: the mapping lives as long as the process, is aligned to a page, and is only read.
        (address != libc::MAP_FAILED).then(|| unsafe { &*address.cast::<Faults>() })
    })
}

/// Deviation of the clock in nanoseconds.
fn clock_nanos() -> i64 {
    faults().map_or(0, |it| it.clock_micros.load(Ordering::Relaxed) * 1000)
}

/// Whether a write to `fd` must fail: if the disk is full and `fd` is a regular file.
fn has_no_space(fd: c_int) -> bool {
    if faults().is_none_or(|it| it.is_disk_full.load(Ordering::Relaxed) == 0) {
        return false;
    }
    // SAFETY: all zeros is a valid value of this type.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is a local variable.
    let is_known = unsafe { libc::fstat(fd, &raw mut stat) } == 0;
    is_known && stat.st_mode & libc::S_IFMT == libc::S_IFREG
}

/// Sets `errno` to ENOSPC and returns the result of a failed write.
fn no_space() -> ssize_t {
    // SAFETY: the function returns the address of the error number of this thread.
    let error = unsafe { libc::__errno_location() };
    // SAFETY: only this thread uses the address.
    unsafe { error.write(libc::ENOSPC) };
    -1
}

/// Replaces write(2).
// SAFETY: replaces the function of the same name in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, from: *const c_void, count: size_t) -> ssize_t {
    if has_no_space(fd) {
        return no_space();
    }
    // SAFETY: the arguments are those of the caller.
    unsafe { libc::syscall(libc::SYS_write, fd, from, count) as ssize_t }
}

/// Replaces writev(2).
// SAFETY: replaces the function of the same name in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, from: *const iovec, count: c_int) -> ssize_t {
    if has_no_space(fd) {
        return no_space();
    }
    // SAFETY: the arguments are those of the caller.
    unsafe { libc::syscall(libc::SYS_writev, fd, from, count) as ssize_t }
}

/// Replaces pwrite(2).
// SAFETY: replaces the function of the same name in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(
    fd: c_int,
    from: *const c_void,
    count: size_t,
    at: off_t,
) -> ssize_t {
    if has_no_space(fd) {
        return no_space();
    }
    // SAFETY: the arguments are those of the caller.
    unsafe { libc::syscall(libc::SYS_pwrite64, fd, from, count, at) as ssize_t }
}

/// Replaces `pwrite64`, the name of pwrite(2) for large files.
// SAFETY: replaces the function of the same name in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    from: *const c_void,
    count: size_t,
    at: off_t,
) -> ssize_t {
    // SAFETY: the arguments are those of the caller.
    unsafe { pwrite(fd, from, count, at) }
}

/// Replaces pwritev(2).
// SAFETY: replaces the function of the same name in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev(
    fd: c_int,
    from: *const iovec,
    count: c_int,
    at: off_t,
) -> ssize_t {
    if has_no_space(fd) {
        return no_space();
    }
    // SAFETY: the arguments are those of the caller. Only 32-bit systems use the last argument, the
    // high half of the offset.
    unsafe { libc::syscall(libc::SYS_pwritev, fd, from, count, at, 0) as ssize_t }
}

/// Replaces `clock_gettime(2)`.
// SAFETY: replaces the function of the same name in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, to: *mut timespec) -> c_int {
    // SAFETY: the arguments are those of the caller.
    let outcome = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, to) } as c_int;
    let is_of_day = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    if outcome == 0 && is_of_day {
        // SAFETY: the system call has just written the time to this address.
        let time = unsafe { &mut *to };
        let nanos = time.tv_sec * 1_000_000_000 + time.tv_nsec + clock_nanos();
        time.tv_sec = nanos.div_euclid(1_000_000_000);
        time.tv_nsec = nanos.rem_euclid(1_000_000_000) as c_long;
    }
    outcome
}

/// Replaces gettimeofday(2).
// SAFETY: replaces the function of the same name in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(to: *mut timeval, _: *mut timezone) -> c_int {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a local variable.
    let outcome = unsafe { clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    if outcome == 0 && !to.is_null() {
        // SAFETY: the caller provides space for the time.
        unsafe { to.write(timeval { tv_sec: now.tv_sec, tv_usec: now.tv_nsec / 1000 }) };
    }
    outcome
}

/// Replaces time(2).
// SAFETY: replaces the function of the same name in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(to: *mut time_t) -> time_t {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a local variable.
    unsafe { clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    if !to.is_null() {
        // SAFETY: the caller provides space for the time.
        unsafe { to.write(now.tv_sec) };
    }
    now.tv_sec
}
