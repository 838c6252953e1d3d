#![expect(unsafe_code, reason = "this module is the plugin's side of the library boundary")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use crate::abi::v1::{Buffer, Bytes, HostTable, PluginTable, Status};
use crate::context::CANCELLED;
use crate::{Context, Description, NodeError, Plugin, Rejection, Request};

type Describe = unsafe extern "C" fn(*mut Buffer) -> Status;
type Check = unsafe extern "C" fn(Bytes, *mut Buffer) -> Status;
type Process = unsafe extern "C" fn(*const HostTable, Bytes, *mut Buffer) -> Status;
type Cancel = unsafe extern "C" fn();

/// The table of a plugin.
pub const fn table(
    describe: Describe,
    check: Check,
    process: Process,
    cancel: Cancel,
) -> PluginTable {
    #[expect(clippy::cast_possible_truncation, reason = "a table has some forty bytes")]
    let size = size_of::<PluginTable>() as u32;
    PluginTable { size, reserved: 0, describe, check, process, cancel }
}

/// Says who `P` is.
///
/// # Safety
///
/// `response` points to space for one buffer.
pub unsafe extern "C" fn describe<P: Plugin>(response: *mut Buffer) -> Status {
    let description = Description { name: P::NAME.to_owned(), version: P::VERSION.to_owned() };
    let outcome = caught(|| match serde_json::to_vec(&description) {
        Ok(bytes) => (Status::OK, bytes),
        Err(error) => (Status::UNAVAILABLE, error.to_string().into_bytes()),
    });
    // SAFETY: the caller gives room for one buffer.
    unsafe { answer(outcome, response) }
}

/// Checks the settings of a node for `P`.
///
/// # Safety
///
/// `settings` is lent for the call, `response` points to space for one buffer.
pub unsafe extern "C" fn check<P: Plugin>(settings: Bytes, response: *mut Buffer) -> Status {
    // SAFETY: the caller lends the settings for this call.
    let settings = unsafe { settings.as_slice() };
    let outcome = caught(|| match serde_json::from_slice::<P::Settings>(settings) {
        Ok(_) => (Status::OK, Vec::new()),
        Err(error) => (Status::REJECTED, error.to_string().into_bytes()),
    });
    // SAFETY: the caller gives room for one buffer.
    unsafe { answer(outcome, response) }
}

/// Lets `P` work on a node.
///
/// # Safety
///
/// See [`PluginTable::process`].
pub unsafe extern "C" fn process<P: Plugin>(
    host: *const HostTable,
    request: Bytes,
    response: *mut Buffer,
) -> Status {
    // SAFETY: the caller lends the table for this call.
    let host = unsafe { &*host };
    // SAFETY: the caller lends the request for this call.
    let request = unsafe { request.as_slice() };
    CANCELLED.store(false, Ordering::Relaxed);
    let outcome = caught(|| worked::<P>(&Context::new(host), request));
    // SAFETY: the caller gives room for one buffer.
    unsafe { answer(outcome, response) }
}

/// Asks the running call to end.
///
/// # Safety
///
/// None is needed; the signature is that of the table.
pub unsafe extern "C" fn cancel() {
    CANCELLED.store(true, Ordering::Relaxed);
}

fn worked<P: Plugin>(context: &Context<'_>, request: &[u8]) -> (Status, Vec<u8>) {
    let rejected = |code: &str, reason: String| {
        let rejection = Rejection { code: code.to_owned(), reason };
        (Status::REJECTED, serde_json::to_vec(&rejection).unwrap_or_default())
    };
    let request: Request = match serde_json::from_slice(request) {
        Ok(request) => request,
        Err(error) => return rejected("input_unreadable", error.to_string()),
    };
    let settings: P::Settings = match serde_json::from_value(request.settings) {
        Ok(settings) => settings,
        Err(error) => return rejected("settings_invalid", error.to_string()),
    };
    match P::process(context, &settings, request.input) {
        Ok(output) => match serde_json::to_vec(&output) {
            Ok(bytes) => (Status::OK, bytes),
            Err(error) => (Status::UNAVAILABLE, error.to_string().into_bytes()),
        },
        Err(NodeError::Rejected { code, reason }) => rejected(&code, reason),
        Err(NodeError::Unavailable(reason)) => (Status::UNAVAILABLE, reason.into_bytes()),
    }
}

fn caught(work: impl FnOnce() -> (Status, Vec<u8>)) -> (Status, Vec<u8>) {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().map(ToString::to_string);
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
        (Status::PANICKED, words.unwrap_or_default().into_bytes())
    })
}

/// # Safety
///
/// `response` points to space for one buffer.
unsafe fn answer((status, bytes): (Status, Vec<u8>), response: *mut Buffer) -> Status {
    // SAFETY: the caller vouches for the room.
    unsafe { response.write(Buffer::from(bytes)) };
    status
}
