//! A shared library that is a plugin, and calls into it.
#![expect(unsafe_code, reason = "this module is the host's side of the library boundary")]

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use libloading::Library;
use plugin_api::Description;
use plugin_api::abi::v1::{
    Buffer, Bytes, Entry, HostTable, PluginTable, SYMBOL, Status, VolumeView,
};

/// What the host does for a plugin while it works.
pub trait HostServices {
    /// Writes one line to the log.
    fn log(&self, level: u32, message: &str);

    /// Whether the run was cancelled.
    fn is_cancelled(&self) -> bool;

    /// The file of an instance. It must stay where it is until the call ends.
    ///
    /// # Errors
    ///
    /// Says what is at fault.
    fn instance(&self, uid: &str) -> Result<&[u8], Fault>;

    /// The geometry, as JSON, and values of a series. They must stay where they are until the call
    /// ends.
    ///
    /// # Errors
    ///
    /// Says what is at fault.
    fn volume(&self, series: &str) -> Result<(&[u8], &[f32]), Fault>;

    /// Keeps bytes; gives JSON that names them.
    ///
    /// # Errors
    ///
    /// Says what is at fault.
    fn put_artifact(&self, content: &[u8]) -> Result<Vec<u8>, Fault>;

    /// Asks the shared model; question and answer are JSON.
    ///
    /// # Errors
    ///
    /// Says what is at fault.
    fn infer(&self, request: &[u8]) -> Result<Vec<u8>, Fault>;
}

/// Why a service was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for cannot be had.
    Rejected(String),
    /// It may be had later.
    Unavailable(String),
}

/// A plugin, loaded for good.
#[derive(Clone, Copy)]
pub struct Plugin {
    table: &'static PluginTable,
}

/// Why a library is not one of our plugins.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The system could not open the library.
    #[error("cannot open the library `{}`", path.display())]
    Open {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system says.
        source: libloading::Error,
    },
    /// The library does not export what a plugin does.
    #[error("`{}` is not a plugin for this engine", path.display())]
    NotAPlugin {
        /// The library.
        path: PathBuf,
        /// What the system says.
        source: libloading::Error,
    },
    /// The table is shorter than that of the first release.
    #[error("`{}` was built against something else than this contract", path.display())]
    BadTable {
        /// The library.
        path: PathBuf,
    },
    /// It does not say who it is.
    #[error("the plugin does not describe itself: {reason}")]
    BadDescription {
        /// What is wrong.
        reason: String,
    },
}

impl Plugin {
    /// Loads the library at `path`.
    ///
    /// # Errors
    ///
    /// Fails if it is not a plugin this engine can read.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        // SAFETY: running the constructors of a library is the risk of loading plugins at all. It
        // is taken in a child process that has nothing to lose.
        let library = unsafe { Library::new(path) }
            .map_err(|source| LoadError::Open { path: path.to_owned(), source })?;
        // SAFETY: the symbol's name stands for its type, by the contract of `abi::v1`.
        let entry: Entry = *unsafe { library.get::<Entry>(SYMBOL) }
            .map_err(|source| LoadError::NotAPlugin { path: path.to_owned(), source })?;
        std::mem::forget(library);
        // SAFETY: the contract lets it be called any time.
        let table = unsafe { entry() };
        // SAFETY: what it gives lives as long as the library, which is never unloaded.
        let table = unsafe { table.as_ref() };
        let whole = |it: &&PluginTable| it.size as usize >= size_of::<PluginTable>();
        let table = table.filter(whole).ok_or(LoadError::BadTable { path: path.to_owned() })?;
        Ok(Self { table })
    }

    /// Asks the plugin who it is.
    ///
    /// # Errors
    ///
    /// Fails if it does not say.
    pub fn describe(&self) -> Result<Description, LoadError> {
        let mut response = MaybeUninit::<Buffer>::uninit();
        // SAFETY: `response` outlives the call.
        let status = unsafe { (self.table.describe)(response.as_mut_ptr()) };
        // SAFETY: the contract has the plugin fill it in, whatever the status.
        let response = unsafe { response.assume_init() };
        let bad = |reason: String| LoadError::BadDescription { reason };
        if status != Status::OK {
            return Err(bad(String::from_utf8_lossy(response.as_slice()).into_owned()));
        }
        serde_json::from_slice(response.as_slice()).map_err(|error| bad(error.to_string()))
    }

    /// Asks whether settings are good. Gives what is wrong with them.
    pub fn check(&self, settings: &[u8]) -> Option<String> {
        let mut response = MaybeUninit::<Buffer>::uninit();
        // SAFETY: `settings` and `response` outlive the call.
        let status = unsafe { (self.table.check)(Bytes::lend(settings), response.as_mut_ptr()) };
        // SAFETY: the contract has the plugin fill it in, whatever the status.
        let response = unsafe { response.assume_init() };
        let text = || String::from_utf8_lossy(response.as_slice()).into_owned();
        (status != Status::OK).then(text)
    }

    /// Calls the plugin once and waits for its answer: a status and what goes with it.
    pub fn process(&self, services: &dyn HostServices, request: &[u8]) -> (Status, Vec<u8>) {
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
        let room = response.as_mut_ptr();
        // SAFETY: `host`, `request` and `response` outlive the call.
        let status = unsafe { (self.table.process)(&raw const host, Bytes::lend(request), room) };
        // SAFETY: the contract has the plugin fill it in, whatever the status.
        let response = unsafe { response.assume_init() };
        (status, response.as_slice().to_vec())
    }

    /// Asks a running call to end.
    pub fn cancel(&self) {
        // SAFETY: the contract lets it be called from any thread at any time.
        unsafe { (self.table.cancel)() }
    }
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
/// `problem` must be room for one buffer.
unsafe fn answer(outcome: Result<Vec<u8>, Fault>, problem: *mut Buffer) -> Status {
    let (status, bytes) = match outcome {
        Ok(bytes) => (Status::OK, bytes),
        Err(Fault::Rejected(reason)) => (Status::REJECTED, reason.into_bytes()),
        Err(Fault::Unavailable(reason)) => (Status::UNAVAILABLE, reason.into_bytes()),
    };
    // SAFETY: the caller vouches for the room.
    unsafe { problem.write(Buffer::from(bytes)) };
    status
}

/// No panic of ours may cross into the plugin.
fn caught<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Fault::Unavailable("the engine has a bug".to_owned())))
}

unsafe extern "C" fn log(context: *const c_void, level: u32, message: Bytes) {
    // SAFETY: `context` is the one `process` put in the table it lent to the plugin.
    let services = unsafe { services(context) };
    // SAFETY: the plugin lends `message` for this call.
    let message = String::from_utf8_lossy(unsafe { message.as_slice() });
    // A log line is not worth a crash, nor is there anyone to tell of it.
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
    let outcome = caught(|| services.instance(&uid)).map(|content| {
        // SAFETY: the plugin gives room for one `Bytes`.
        unsafe { file.write(Bytes::lend(content)) };
        Vec::new()
    });
    // SAFETY: the plugin gives room for one buffer.
    unsafe { answer(outcome, problem) }
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
    let outcome = caught(|| services.volume(&uid)).map(|(geometry, values)| {
        let (count, data) = (values.len(), values.as_ptr());
        let view = VolumeView { geometry: Bytes::lend(geometry), values: data, count };
        // SAFETY: the plugin gives room for one `VolumeView`.
        unsafe { volume.write(view) };
        Vec::new()
    });
    // SAFETY: the plugin gives room for one buffer.
    unsafe { answer(outcome, problem) }
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
    let outcome = caught(|| services.put_artifact(content));
    // SAFETY: the plugin gives room for one buffer.
    unsafe { answer(outcome, reference) }
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
    let outcome = caught(|| services.infer(request));
    // SAFETY: the plugin gives room for one buffer.
    unsafe { answer(outcome, response) }
}
