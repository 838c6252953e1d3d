//! The commands of the program, each in a file of its own.
//!
//! A command is a struct: its fields are its arguments, its doc comments are its help, and
//! [`Execute::execute`] is what it does. To add one, write `commands/<name>.rs`, and name it below:
//! once as a module, once in the list of commands.

mod audit;
mod check;
mod conformance;
mod corrections;
mod dataset;
mod decoder;
mod delivery;
mod demo;
mod destination;
mod disk;
mod doctor;
mod export;
mod hold;
mod messages;
mod model;
mod model_host;
mod patient;
mod plugin;
mod plugin_host;
mod retention;
mod run;
mod runs;
mod scratch;
mod send;
mod serve;
mod store;
mod studies;
mod support;
mod task;
mod test;
mod token;
mod trail;
mod why;
mod workflow;

use std::process::ExitCode;

use clap::Subcommand;

use crate::output::Failure;

/// What a command does.
pub(crate) trait Execute {
    /// Carries out the command. The exit code is 1 if it found nothing, or something wrong.
    ///
    /// # Errors
    ///
    /// Fails with what the operator has to know.
    async fn execute(self) -> Result<ExitCode, Failure>;
}

/// Declares the list of commands.
macro_rules! commands {
    (
        for people { $($name:ident($command:ty),)* }
        child processes { $($child:ident($process:ty),)* }
    ) => {
        /// One command with its arguments.
        #[derive(Subcommand)]
        pub(crate) enum Command {
            $($name(Box<$command>),)*
            $(#[command(hide = true)] $child($process),)*
        }

        impl Command {
            /// Runs the process of a plugin, of the model or of the decoder, if that is the
            /// command: it is no engine, and must not have a runtime. Returns any other command.
            pub(crate) fn run_as_child(self) -> Result<ExitCode, Self> {
                match self {
                    $(Self::$child(process) => Ok(process.run()),)*
                    other => Err(other),
                }
            }

            /// Carries out the command.
            pub(crate) async fn execute(self) -> Result<ExitCode, Failure> {
                match self {
                    $(Self::$name(command) => command.execute().await,)*
                    $(Self::$child(process) => Ok(process.run()),)*
                }
            }
        }
    };
}

commands! {
    for people {
        Serve(serve::Serve),
        Demo(demo::Demo),
        Check(check::Check),
        Test(test::Test),
        Workflow(workflow::Workflow),
        Destination(destination::Destination),
        Model(model::Model),
        Dataset(dataset::Dataset),
        Plugin(plugin::Plugin),
        Studies(studies::Studies),
        Messages(messages::Messages),
        Runs(runs::Runs),
        Run(run::Run),
        Why(why::Why),
        Export(export::Export),
        Delivery(delivery::Delivery),
        Task(task::Task),
        Patient(patient::Patient),
        Token(token::Token),
        Corrections(corrections::Corrections),
        Send(send::Send),
        Audit(audit::Audit),
        Trail(trail::Trail),
        Retention(retention::Retention),
        Hold(hold::Hold),
        Support(support::Support),
        Doctor(doctor::Doctor),
        Disk(disk::Disk),
        Conformance(conformance::Conformance),
        Store(store::Store),
    }
    child processes {
        ModelHost(model_host::ModelHost),
        PluginHost(plugin_host::PluginHost),
        Decoder(decoder::Decoder),
    }
}
