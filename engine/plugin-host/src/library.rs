//! The host's side of the library boundary: loads a shared library and calls the functions of its
//! table.
//!
//! [`Plugin`] wraps the calls into the plugin. [`HostServices`] is what the plugin calls back while
//! it works; the functions at the end of the file translate those calls from C.
#![expect(unsafe_code, reason = "this module is the host's side of the library boundary")]

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use libloading::Library;
use plugin_api::abi::v1::{
    Buffer, Bytes, Entry, HostTable, PluginTable, SYMBOL, Status, VolumeView,
};
use plugin_api::{Description, HostRejection, Rejection};

/// The services that a plugin may call while it works on a node.
pub trait HostServices {
    /// Writes one line to the log. `level` is 1 error, 2 warning, 3 information, 4 detail.
    fn log(&self, level: u32, message: &str);

    /// Whether the run was cancelled.
    fn is_cancelled(&self) -> bool;

    /// The file of an instance, by SOP Instance UID. The bytes must not move until the call of
    /// `process` ends.
    ///
    /// # Errors
    ///
    /// Fails if the instance does not belong to the node's input, or cannot be read.
    fn instance(&self, uid: &str) -> Result<&[u8], Fault>;

    /// The volume of a series, by Series Instance UID. The slices must not move until the call of
    /// `process` ends.
    ///
    /// # Errors
    ///
    /// Fails if the series does not belong to the node's input, or is no regular stack of slices.
    fn volume(&self, series: &str) -> Result<LentVolume<'_>, Fault>;

    /// Stores bytes, and returns their reference as JSON (`domain::ArtifactRef`).
    ///
    /// # Errors
    ///
    /// Fails if the engine cannot be reached.
    fn put_artifact(&self, content: &[u8]) -> Result<Vec<u8>, Fault>;

    /// Asks the shared model; question and answer are JSON.
    ///
    /// # Errors
    ///
    /// Fails if the model refuses the question or cannot answer now, or if the run was cancelled.
    fn infer(&self, request: &[u8]) -> Result<Vec<u8>, Fault>;
}

/// A volume that a service lends to the plugin.
#[derive(Clone, Copy, Debug)]
pub struct LentVolume<'a> {
    /// JSON of `domain::VolumeGeometry`.
    pub geometry: &'a [u8],
    /// Values, slice by slice and row by row.
    pub values: &'a [f32],
}

/// Why a service failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is at fault: the same request would fail again.
    Rejected {
        /// The kind, by which the plugin decides.
        kind: HostRejection,
        /// The fault as a sentence.
        reason: String,
    },
    /// Something else is at fault: the same request may succeed later.
    Unavailable(String),
}

/// A loaded plugin. Its library is never unloaded.
#[derive(Clone, Copy)]
pub struct Plugin {
    table: &'static PluginTable,
}

/// Why a library cannot be used as a plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The system could not open the library.
    #[error("cannot open the library `{}`", path.display())]
    Open {
        /// Path of the library.
        path: PathBuf,
        /// The error of the dynamic linker.
        source: libloading::Error,
    },
    /// The library does not export the symbol of a plugin.
    #[error("`{}` is not a plugin for this engine", path.display())]
    NotAPlugin {
        /// Path of the library.
        path: PathBuf,
        /// The error of the dynamic linker.
        source: libloading::Error,
    },
    /// The table is shorter than that of the first release.
    #[error("`{}` was built against another contract than this engine's", path.display())]
    BadTable {
        /// Path of the library.
        path: PathBuf,
    },
    /// The plugin does not respond with a name and a version.
    #[error("the plugin does not describe itself: {reason}")]
    BadDescription {
        /// The plugin's error, or that of parsing its response.
        reason: String,
    },
}

impl Plugin {
    /// Loads the library at `path`.
    ///
    /// # Errors
    ///
    /// Fails if the library is not a plugin of this contract.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        // SAFETY: running the constructors of a library is the risk of loading plugins at all. It
        // is taken in a child process that holds no data of others.
        let library = unsafe { Library::new(path) }
            .map_err(|source| LoadError::Open { path: path.to_owned(), source })?;
        // SAFETY: the symbol's name stands for its type, by the contract of `abi::v1`.
        let entry: Entry = *unsafe { library.get::<Entry>(SYMBOL) }
            .map_err(|source| LoadError::NotAPlugin { path: path.to_owned(), source })?;
        std::mem::forget(library);
        // SAFETY: the contract lets it be called any time.
        let table = unsafe { entry() };
        // SAFETY: the table lives as long as the library, which is never unloaded.
        let table = unsafe { table.as_ref() };
        match table {
            Some(table) if table.size as usize >= size_of::<PluginTable>() => Ok(Self { table }),
            _ => Err(LoadError::BadTable { path: path.to_owned() }),
        }
    }

    /// Asks the plugin for its name and version.
    ///
    /// # Errors
    ///
    /// [`LoadError::BadDescription`] if the response is anything else.
    pub fn describe(&self) -> Result<Description, LoadError> {
        let mut response = MaybeUninit::<Buffer>::uninit();
        // SAFETY: `response` outlives the call.
        let status = unsafe { (self.table.describe)(response.as_mut_ptr()) };
        // SAFETY: by the contract the plugin always fills it in.
        let response = unsafe { response.assume_init() };
        if status != Status::OK {
            let reason = String::from_utf8_lossy(response.as_slice()).into_owned();
            return Err(LoadError::BadDescription { reason });
        }
        serde_json::from_slice(response.as_slice())
            .map_err(|error| LoadError::BadDescription { reason: error.to_string() })
    }

    /// Checks settings. Returns the problem with them, or nothing if they are valid.
    pub fn check(&self, settings: &[u8]) -> Option<String> {
        let mut response = MaybeUninit::<Buffer>::uninit();
        // SAFETY: `settings` and `response` outlive the call.
        let status = unsafe { (self.table.check)(Bytes::lend(settings), response.as_mut_ptr()) };
        // SAFETY: by the contract the plugin always fills it in.
        let response = unsafe { response.assume_init() };
        (status != Status::OK).then(|| String::from_utf8_lossy(response.as_slice()).into_owned())
    }

    /// Calls `process` once, and waits for its response.
    pub fn process(&self, services: &dyn HostServices, request: &[u8]) -> Response {
        let host = HostTable {
            size: u32::try_from(size_of::<HostTable>()).unwrap_or(u32::MAX),
            reserved: 0,
            context: (&raw const services).cast(),
            log,
            progress,
            is_cancelled,
            read_instance,
            read_volume,
            put_artifact,
            infer,
        };
        let mut response = MaybeUninit::<Buffer>::uninit();
        // SAFETY: `host`, `request` and `response` outlive the call.
        let status = unsafe {
            (self.table.process)(&raw const host, Bytes::lend(request), response.as_mut_ptr())
        };
        // SAFETY: by the contract the plugin always fills it in.
        let response = unsafe { response.assume_init() };
        Response { status, body: response.as_slice().to_vec() }
    }

    /// Requests a running call of `process` to end soon.
    pub fn cancel(&self) {
        // SAFETY: the contract lets it be called from any thread at any time.
        unsafe { (self.table.cancel)() }
    }
}

/// The response of a plugin to `process`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// How the call ended.
    pub status: Status,
    /// The output as JSON, a `plugin_api::Rejection` as JSON, or a text for people, by status.
    pub body: Vec<u8>,
}

/// # Safety
///
/// `context` must be the one of the table that [`Plugin::process`] is lending.
unsafe fn services<'a>(context: *const c_void) -> &'a dyn HostServices {
    // SAFETY: `process` made it from a `&dyn HostServices` that it holds until the plugin returns.
    unsafe { *context.cast::<&dyn HostServices>() }
}

/// # Safety
///
/// `response` must point to space for one buffer.
unsafe fn respond(outcome: Result<Vec<u8>, Fault>, response: *mut Buffer) -> Status {
    let (status, bytes) = encoded(outcome);
    // SAFETY: the caller guarantees the space.
    unsafe { response.write(Buffer::from(bytes)) };
    status
}

/// The outcome of a service as a status and the bytes of its response.
fn encoded(outcome: Result<Vec<u8>, Fault>) -> (Status, Vec<u8>) {
    match outcome {
        Ok(bytes) => (Status::OK, bytes),
        Err(Fault::Rejected { kind, reason }) => {
            let rejection = Rejection { code: kind.name().to_owned(), reason };
            (Status::REJECTED, serde_json::to_vec(&rejection).unwrap_or_default())
        }
        Err(Fault::Unavailable(reason)) => (Status::UNAVAILABLE, reason.into_bytes()),
    }
}

/// Catches panics of the host: they must not cross into the plugin.
fn catch_panic<T>(service: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(service))
        .unwrap_or_else(|_| Err(Fault::Unavailable("the engine has a bug".to_owned())))
}

unsafe extern "C" fn log(context: *const c_void, level: u32, message: Bytes) {
    // SAFETY: `context` is the one `process` put in the table it lent to the plugin.
    let services = unsafe { services(context) };
    // SAFETY: the plugin lends `message` for this call.
    let message = String::from_utf8_lossy(unsafe { message.as_slice() });
    // A log line is not worth a crash, and there is nobody to report it to.
    _ = catch_unwind(AssertUnwindSafe(|| services.log(level, &message)));
}

unsafe extern "C" fn progress(_: *const c_void, _: u32) {}

unsafe extern "C" fn is_cancelled(context: *const c_void) -> u32 {
    // SAFETY: `context` is the one `process` put in the table it lent to the plugin.
    let services = unsafe { services(context) };
    u32::from(catch_unwind(AssertUnwindSafe(|| services.is_cancelled())).unwrap_or(true))
}

unsafe extern "C" fn read_instance(
    context: *const c_void,
    instance: Bytes,
    file: *mut Bytes,
    problem: *mut Buffer,
) -> Status {
    // SAFETY: `context` is the one `process` put in the table it lent to the plugin.
    let services = unsafe { services(context) };
    // SAFETY: the plugin lends `instance` for this call.
    let uid = String::from_utf8_lossy(unsafe { instance.as_slice() });
    let outcome = catch_panic(|| services.instance(&uid)).map(|content| {
        // SAFETY: the plugin provides space for one `Bytes`.
        unsafe { file.write(Bytes::lend(content)) };
        Vec::new()
    });
    // SAFETY: the plugin provides space for one buffer.
    unsafe { respond(outcome, problem) }
}

unsafe extern "C" fn read_volume(
    context: *const c_void,
    series: Bytes,
    volume: *mut VolumeView,
    problem: *mut Buffer,
) -> Status {
    // SAFETY: `context` is the one `process` put in the table it lent to the plugin.
    let services = unsafe { services(context) };
    // SAFETY: the plugin lends `series` for this call.
    let uid = String::from_utf8_lossy(unsafe { series.as_slice() });
    let outcome = catch_panic(|| services.volume(&uid)).map(|lent| {
        let view = VolumeView {
            geometry: Bytes::lend(lent.geometry),
            values: lent.values.as_ptr(),
            count: lent.values.len(),
        };
        // SAFETY: the plugin provides space for one `VolumeView`.
        unsafe { volume.write(view) };
        Vec::new()
    });
    // SAFETY: the plugin provides space for one buffer.
    unsafe { respond(outcome, problem) }
}

unsafe extern "C" fn put_artifact(
    context: *const c_void,
    content: Bytes,
    reference: *mut Buffer,
) -> Status {
    // SAFETY: `context` is the one `process` put in the table it lent to the plugin.
    let services = unsafe { services(context) };
    // SAFETY: the plugin lends `content` for this call.
    let content = unsafe { content.as_slice() };
    let outcome = catch_panic(|| services.put_artifact(content));
    // SAFETY: the plugin provides space for one buffer.
    unsafe { respond(outcome, reference) }
}

unsafe extern "C" fn infer(
    context: *const c_void,
    request: Bytes,
    response: *mut Buffer,
) -> Status {
    // SAFETY: `context` is the one `process` put in the table it lent to the plugin.
    let services = unsafe { services(context) };
    // SAFETY: the plugin lends `request` for this call.
    let request = unsafe { request.as_slice() };
    let outcome = catch_panic(|| services.infer(request));
    // SAFETY: the plugin provides space for one buffer.
    unsafe { respond(outcome, response) }
}
