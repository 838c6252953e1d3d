//! A system whose disk is full and whose clock jumps, for a process that loads this before the C library
//! (`LD_PRELOAD`) and for all it starts. The system itself is left alone.
//!
//! What is wrong just now stands in the file that `FAULTY_SYSTEM` names, 16 bytes in the machine's order: by how
//! many microseconds the clock is wrong, and whether the disk is full (0 or 1). It may change at any time.
#![expect(
    unsafe_code,
    clippy::missing_safety_doc,
    clippy::cast_possible_truncation,
    reason = "standing before the C library is what this is for; its pages say what callers must do"
)]

use std::os::fd::AsRawFd as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use libc::{
    c_int, c_long, c_void, iovec, off_t, size_t, ssize_t, time_t, timespec, timeval, timezone,
};

/// What is wrong.
struct Faults {
    clock_micros: AtomicI64,
    is_disk_full: AtomicI64,
}

/// What the file says, or nothing if there is none.
fn faults() -> Option<&'static Faults> {
    static FAULTS: OnceLock<Option<&'static Faults>> = OnceLock::new();
    *FAULTS.get_or_init(|| {
        let file = std::fs::File::open(std::env::var_os("FAULTY_SYSTEM")?).ok()?;
        let (length, fd) = (size_of::<Faults>(), file.as_raw_fd());
        if file.metadata().ok()?.len() < length as u64 {
            return None;
        }
        // SAFETY: a new mapping, of a file that is long enough and is not made shorter.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, fd, 0)
        };
        // SAFETY: mapped for as long as the process lives, aligned to a page, and only read.
        (at != libc::MAP_FAILED).then(|| unsafe { &*at.cast::<Faults>() })
    })
}

fn clock_nanos() -> i64 {
    faults().map_or(0, |it| it.clock_micros.load(Ordering::Relaxed) * 1000)
}

/// Whether what is written to `fd` finds no room: if the disk is full and it is a file.
fn has_no_room(fd: c_int) -> bool {
    if faults().is_none_or(|it| it.is_disk_full.load(Ordering::Relaxed) == 0) {
        return false;
    }
    // SAFETY: all zero is a value of this type.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the place is ours.
    let known = unsafe { libc::fstat(fd, &raw mut stat) } == 0;
    known && stat.st_mode & libc::S_IFMT == libc::S_IFREG
}

fn no_room() -> ssize_t {
    // SAFETY: gives the place of the error number of this thread.
    let error = unsafe { libc::__errno_location() };
    // SAFETY: nobody else has that place.
    unsafe { error.write(libc::ENOSPC) };
    -1
}

/// write(2).
// SAFETY: stands for the function of the same name of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, from: *const c_void, count: size_t) -> ssize_t {
    if has_no_room(fd) {
        return no_room();
    }
    // SAFETY: the arguments are the caller's own.
    unsafe { libc::syscall(libc::SYS_write, fd, from, count) as ssize_t }
}

/// writev(2).
// SAFETY: stands for the function of the same name of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, from: *const iovec, count: c_int) -> ssize_t {
    if has_no_room(fd) {
        return no_room();
    }
    // SAFETY: the arguments are the caller's own.
    unsafe { libc::syscall(libc::SYS_writev, fd, from, count) as ssize_t }
}

/// pwrite(2).
// SAFETY: stands for the function of the same name of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(
    fd: c_int,
    from: *const c_void,
    count: size_t,
    at: off_t,
) -> ssize_t {
    if has_no_room(fd) {
        return no_room();
    }
    // SAFETY: the arguments are the caller's own.
    unsafe { libc::syscall(libc::SYS_pwrite64, fd, from, count, at) as ssize_t }
}

/// pwrite(2), by its other name.
// SAFETY: stands for the function of the same name of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    from: *const c_void,
    count: size_t,
    at: off_t,
) -> ssize_t {
    // SAFETY: the arguments are the caller's own.
    unsafe { pwrite(fd, from, count, at) }
}

/// pwritev(2).
// SAFETY: stands for the function of the same name of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev(
    fd: c_int,
    from: *const iovec,
    count: c_int,
    at: off_t,
) -> ssize_t {
    if has_no_room(fd) {
        return no_room();
    }
    // SAFETY: the arguments are the caller's own. The high half of the place is for systems of 32 bits.
    unsafe { libc::syscall(libc::SYS_pwritev, fd, from, count, at, 0) as ssize_t }
}

/// `clock_gettime(2)`.
// SAFETY: stands for the function of the same name of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, to: *mut timespec) -> c_int {
    // SAFETY: the arguments are the caller's own.
    let outcome = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, to) } as c_int;
    let is_of_day = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    if outcome == 0 && is_of_day {
        // SAFETY: the system has just written there.
        let time = unsafe { &mut *to };
        let nanos = time.tv_sec * 1_000_000_000 + time.tv_nsec + clock_nanos();
        time.tv_sec = nanos.div_euclid(1_000_000_000);
        time.tv_nsec = nanos.rem_euclid(1_000_000_000) as c_long;
    }
    outcome
}

/// gettimeofday(2).
// SAFETY: stands for the function of the same name of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(to: *mut timeval, _: *mut timezone) -> c_int {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is ours.
    let outcome = unsafe { clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    if outcome == 0 && !to.is_null() {
        // SAFETY: the caller gives room for it.
        unsafe { to.write(timeval { tv_sec: now.tv_sec, tv_usec: now.tv_nsec / 1000 }) };
    }
    outcome
}

/// time(2).
// SAFETY: stands for the function of the same name of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(to: *mut time_t) -> time_t {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is ours.
    unsafe { clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    if !to.is_null() {
        // SAFETY: the caller gives room for it.
        unsafe { to.write(now.tv_sec) };
    }
    now.tv_sec
}
