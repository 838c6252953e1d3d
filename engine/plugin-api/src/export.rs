//! The plugin's side of the library boundary: the four functions of a plugin's table.
//!
//! Each function reads what the engine lends, calls the [`Plugin`], catches its panics, and writes
//! exactly one response.
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

/// Builds the table of a plugin from its four functions.
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

/// Responds with the name and version of `P`.
///
/// # Safety
///
/// `response` points to space for one buffer.
pub unsafe extern "C" fn describe<P: Plugin>(response: *mut Buffer) -> Status {
    let description = Description { name: P::NAME.to_owned(), version: P::VERSION.to_owned() };
    let outcome = catch_panic(|| match serde_json::to_vec(&description) {
        Ok(body) => Outcome { status: Status::OK, body },
        Err(error) => Outcome::unavailable(error.to_string()),
    });
    // SAFETY: the caller provides space for one buffer.
    unsafe { respond(outcome, response) }
}

/// Checks the settings of a node for `P`.
///
/// # Safety
///
/// `settings` is lent for the call, `response` points to space for one buffer.
pub unsafe extern "C" fn check<P: Plugin>(settings: Bytes, response: *mut Buffer) -> Status {
    // SAFETY: the caller lends the settings for this call.
    let settings = unsafe { settings.as_slice() };
    let outcome = catch_panic(|| match serde_json::from_slice::<P::Settings>(settings) {
        Ok(_) => Outcome { status: Status::OK, body: Vec::new() },
        Err(error) => Outcome { status: Status::REJECTED, body: error.to_string().into_bytes() },
    });
    // SAFETY: the caller provides space for one buffer.
    unsafe { respond(outcome, response) }
}

/// Runs `P` on one node.
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
    let outcome = catch_panic(|| run_node::<P>(&Context::new(host), request));
    // SAFETY: the caller provides space for one buffer.
    unsafe { respond(outcome, response) }
}

/// Asks the running call to end.
///
/// # Safety
///
/// None is needed; the signature is that of the table.
pub unsafe extern "C" fn cancel() {
    CANCELLED.store(true, Ordering::Relaxed);
}

/// How a call ended, and the bytes of its response.
struct Outcome {
    status: Status,
    body: Vec<u8>,
}

impl Outcome {
    fn rejected(code: &str, reason: String) -> Self {
        let rejection = Rejection { code: code.to_owned(), reason };
        let body = serde_json::to_vec(&rejection).unwrap_or_default();
        Self { status: Status::REJECTED, body }
    }

    fn unavailable(reason: String) -> Self {
        Self { status: Status::UNAVAILABLE, body: reason.into_bytes() }
    }
}

fn run_node<P: Plugin>(context: &Context<'_>, request: &[u8]) -> Outcome {
    let request: Request = match serde_json::from_slice(request) {
        Ok(request) => request,
        Err(error) => return Outcome::rejected("input_unreadable", error.to_string()),
    };
    let settings: P::Settings = match serde_json::from_value(request.settings) {
        Ok(settings) => settings,
        Err(error) => return Outcome::rejected("settings_invalid", error.to_string()),
    };
    match P::process(context, &settings, request.input) {
        Ok(output) => match serde_json::to_vec(&output) {
            Ok(body) => Outcome { status: Status::OK, body },
            Err(error) => Outcome::unavailable(error.to_string()),
        },
        Err(NodeError::Rejected { code, reason }) => Outcome::rejected(&code, reason),
        Err(NodeError::Unavailable(reason)) => Outcome::unavailable(reason),
    }
}

fn catch_panic(call: impl FnOnce() -> Outcome) -> Outcome {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let literal = panic.downcast_ref::<&str>().map(ToString::to_string);
        let message = literal.or_else(|| panic.downcast_ref::<String>().cloned());
        Outcome { status: Status::PANICKED, body: message.unwrap_or_default().into_bytes() }
    })
}

/// # Safety
///
/// `response` points to space for one buffer.
unsafe fn respond(outcome: Outcome, response: *mut Buffer) -> Status {
    // SAFETY: the caller guarantees the space.
    unsafe { response.write(Buffer::from(outcome.body)) };
    outcome.status
}
