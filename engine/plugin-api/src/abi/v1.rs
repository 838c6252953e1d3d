//! First edition of the contract between the engine and a plugin.
//!
//! A plugin is a shared library with one exported function, named [`SYMBOL`], that returns a
//! [`PluginTable`]. Every table begins with its size, so that it can grow at its end: the reader of
//! a table must not read beyond the size that the other side wrote.
//!
//! **Invariants**
//!
//! - Nothing in this file changes after its first release, but for fields added at the end.
//! - No type of unspecified layout crosses: no `String`, no `Vec`, no trait object, and no Rust
//!   `enum`, since a value the other side invented would be undefined behaviour.
//! - Who allocates, frees: a [`Buffer`] carries the function that releases it.
//! - What is borrowed is borrowed for the length of one call.
//! - No panic crosses. Both sides catch theirs and answer [`Status::PANICKED`].
#![expect(unsafe_code, reason = "this module is the library boundary")]

use std::ffi::c_void;
use std::slice;

/// Name of the exported function, an [`Entry`].
pub const SYMBOL: &[u8] = b"isocenter_plugin_v1\0";

/// The exported function. What it returns lives as long as the library.
pub type Entry = unsafe extern "C" fn() -> *const PluginTable;

/// What a plugin offers to the engine.
#[repr(C)]
pub struct PluginTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Describes the plugin: JSON with `name` and `version`.
    pub describe: unsafe extern "C" fn(response: *mut Buffer) -> Status,
    /// Checks the settings that a workflow sets under `with:`. The response is empty if they are
    /// valid, and names the problem otherwise.
    pub check: unsafe extern "C" fn(settings: Bytes, response: *mut Buffer) -> Status,
    /// Works on one node.
    ///
    /// # Safety
    ///
    /// `host` points to a [`HostTable`] and `request` to UTF-8 JSON, both valid until the return.
    /// `response` points to space for one [`Buffer`], which the callee always fills in: with the
    /// output if the status is [`Status::OK`], with JSON of `code` and `reason` if it is
    /// [`Status::REJECTED`], with a text for people otherwise.
    pub process: unsafe extern "C" fn(
        host: *const HostTable,
        request: Bytes,
        response: *mut Buffer,
    ) -> Status,
    /// Requests a running call of `process` to end soon. Called from another thread.
    pub cancel: unsafe extern "C" fn(),
}

/// The services that the engine lends to a plugin, for the length of one call of `process`.
///
/// Where a service has a `problem`, `reference` or `response`, the engine always fills it in: if
/// the status is [`Status::REJECTED`], with JSON of `code` and `reason`, as in the response of
/// `process`; if it is [`Status::UNAVAILABLE`], with a text for people.
#[repr(C)]
pub struct HostTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Passed back, untouched, to every function below.
    pub context: *const c_void,
    /// Writes one line to the engine's log: 1 error, 2 warning, 3 information, 4 detail.
    pub log: unsafe extern "C" fn(context: *const c_void, level: u32, message: Bytes),
    /// Reports the share of the work that is done, from 0 to 1000.
    pub progress: unsafe extern "C" fn(context: *const c_void, per_mille: u32),
    /// Not zero once the run was cancelled.
    pub is_cancelled: unsafe extern "C" fn(context: *const c_void) -> u32,
    /// Lends the file of an instance, by its UID, until `process` returns.
    pub read_instance: unsafe extern "C" fn(
        context: *const c_void,
        instance: Bytes,
        file: *mut Bytes,
        problem: *mut Buffer,
    ) -> Status,
    /// Decodes the instances of a series, by its UID, and lends the volume until `process` returns.
    pub read_volume: unsafe extern "C" fn(
        context: *const c_void,
        series: Bytes,
        volume: *mut VolumeView,
        problem: *mut Buffer,
    ) -> Status,
    /// Stores bytes. `reference` becomes JSON with their SHA-256 and length.
    pub put_artifact: unsafe extern "C" fn(
        context: *const c_void,
        content: Bytes,
        reference: *mut Buffer,
    ) -> Status,
    /// Asks the shared model. `response` becomes the answer, as JSON.
    pub infer: unsafe extern "C" fn(
        context: *const c_void,
        request: Bytes,
        response: *mut Buffer,
    ) -> Status,
}

/// A volume in Hounsfield units, lent.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct VolumeView {
    /// Position of the voxels in the patient: JSON of `domain::VolumeGeometry`.
    pub geometry: Bytes,
    /// Slice by slice, row by row. A voxel of padding, which stands for no tissue, is NaN.
    pub values: *const f32,
    /// Number of values.
    pub count: usize,
}

impl VolumeView {
    /// A view of no values, for the host to fill in.
    pub const fn empty() -> Self {
        Self { geometry: Bytes::lend(&[]), values: std::ptr::null(), count: 0 }
    }

    /// Reads the values that were lent.
    ///
    /// # Safety
    ///
    /// The lender must have filled in `values` and `count`, and its memory must outlive `'a`.
    pub unsafe fn values<'a>(&self) -> &'a [f32] {
        if self.values.is_null() {
            return &[];
        }
        // SAFETY: the lender took both from one slice, and the caller vouches for its lifetime.
        unsafe { slice::from_raw_parts(self.values, self.count) }
    }
}

/// How a call ended.
///
/// An integer rather than an `enum`: see the invariants of the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Status(pub u32);

impl Status {
    /// The call succeeded.
    pub const OK: Self = Self(0);
    /// The input is at fault: the same call would fail again.
    pub const REJECTED: Self = Self(1);
    /// Something around the call is at fault: the same call may succeed later.
    pub const UNAVAILABLE: Self = Self(2);
    /// The callee has a bug.
    pub const PANICKED: Self = Self(3);
}

/// Bytes lent for the length of one call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Bytes {
    data: *const u8,
    length: usize,
}

impl Bytes {
    /// Lends `bytes` to the other side, without copying them.
    pub const fn lend(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr(), length: bytes.len() }
    }

    /// Reads the bytes that were lent.
    ///
    /// # Safety
    ///
    /// The lender's bytes must outlive `'a`.
    pub unsafe fn as_slice<'a>(self) -> &'a [u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: `lend` took these two from one slice, and the caller vouches for its lifetime.
        unsafe { slice::from_raw_parts(self.data, self.length) }
    }
}

/// Bytes given to the other side, which gives them back through `release`.
#[repr(C)]
pub struct Buffer {
    data: *mut u8,
    length: usize,
    capacity: usize,
    release: unsafe extern "C" fn(data: *mut u8, length: usize, capacity: usize),
}

impl Buffer {
    /// Reads the bytes, whichever side allocated them.
    pub fn as_slice(&self) -> &[u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: the three fields are those of a `Vec`, or of whatever lives until `release`.
        unsafe { slice::from_raw_parts(self.data, self.length) }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        Self {
            data: bytes.as_mut_ptr(),
            length: bytes.len(),
            capacity: bytes.capacity(),
            release: release_vec,
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: `release` came with these three fields, and `drop` runs once.
        unsafe { (self.release)(self.data, self.length, self.capacity) }
    }
}

unsafe extern "C" fn release_vec(data: *mut u8, length: usize, capacity: usize) {
    // SAFETY: the parts were taken from a `Vec` of this very library in `From<Vec<u8>>`.
    drop(unsafe { Vec::from_raw_parts(data, length, capacity) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_survives_the_round_trip() {
        assert_eq!(Buffer::from(b"findings".to_vec()).as_slice(), b"findings");
        assert_eq!(Buffer::default().as_slice(), b"");
    }

    /// A change of what is there already is a change of the contract: it needs a new edition.
    #[test]
    fn the_layout_is_frozen() {
        assert_eq!(size_of::<PluginTable>(), 5 * size_of::<usize>());
        assert_eq!(size_of::<HostTable>(), 9 * size_of::<usize>());
        assert_eq!(size_of::<Buffer>(), 4 * size_of::<usize>());
        assert_eq!(size_of::<Bytes>(), 2 * size_of::<usize>());
        assert_eq!(size_of::<VolumeView>(), 4 * size_of::<usize>());
    }
}
