//! The commands beside `serve`.

mod ask;
pub(crate) mod audit;
mod check;
mod demo;
mod destination;
mod doctor;
mod export;
mod hold;
mod model;
mod model_serve;
mod patient;
mod plugin;
mod retention;
mod send;
mod support;
mod token;
mod why;
mod workflow;

use std::process::ExitCode;

use crate::args::{Arguments, AuditCommand, Command, Standard, StoreCommand};
use crate::output::{Failure, line};
use crate::run;

/// Does what the command line says.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let done = |()| ExitCode::SUCCESS;
    match arguments.command {
        Command::Serve { place, flags } => run::serve(&place, &flags).await.map(done),
        Command::Demo { once, with, workflows, plugins, pg_bin } => {
            demo::demo(once, with, workflows, plugins, pg_bin).await.map(done)
        }
        Command::Check { place, flags } => check::check(&place, &flags).await.map(done),
        Command::Test { place, flags } => check::test(&place, &flags).await,
        Command::Export(flags) => export::export(&flags).await,
        Command::Model { command } => model::model(command).await.map(done),
        Command::Plugin { command } => plugin::plugin(command).await.map(done),
        Command::Workflow { command } => workflow::workflow(command).await,
        Command::Destination { command } => destination::destination(command).await,
        Command::Studies(listing) => ask::studies(&listing).await.map(done),
        Command::Messages(listing) => ask::messages(&listing).await.map(done),
        Command::Runs(listing) => ask::runs(&listing).await.map(done),
        Command::Run { command } => ask::run(command).await,
        Command::Why { what, listing } => why::why(&what, &listing).await,
        Command::Delivery { command } => ask::delivery(command).await,
        Command::Task { command } => ask::task(command).await,
        Command::Patient { command } => patient::patient(command).await.map(done),
        Command::Corrections(listing) => ask::corrections(&listing).await.map(done),
        Command::Token { command } => token::token(command).await,
        Command::Send { command } => send::send(command).await.map(done),
        Command::Audit { command: AuditCommand::Verify { file, key } } => {
            audit::verify(&file, &key).map(done)
        }
        Command::Audit { command } => audit::audit(command).await.map(done),
        Command::Retention { dry_run, listing } => retention::retention(dry_run, &listing).await,
        Command::Support { to, place } => support::support(&to, &place).await,
        Command::Hold { command } => hold::hold(command).await,
        Command::Doctor(flags) => doctor::doctor(&flags).await,
        Command::Store { command: StoreCommand::Prepare { as_owner } } => {
            prepare(&as_owner).await.map(done)
        }
        Command::Conformance { of } => {
            let text = match of {
                Standard::Dicom => dimse::conformance::statement(),
                Standard::Hl7 => hl7::conformance::profile(),
            };
            line(text.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        // `main` has taken this one: it needs no runtime.
        Command::PluginHost { .. } | Command::ModelHost { .. } => Ok(ExitCode::FAILURE),
    }
}

async fn prepare(url: &str) -> Result<(), Failure> {
    let options = url
        .parse()
        .map_err(|error: sqlx::Error| Failure::from_error("the database URL", &error))?;
    store::prepare(options)
        .await
        .map_err(|error| Failure::from_error("cannot prepare the database", &error))?;
    line("the database is up to date");
    Ok(())
}
