//! The program `isocenter`: `serve` runs the engine, and the other commands query or help it.
//!
//! * `commands`: one file for each command, with its arguments, its help and what it does.
//! * [`installation`]: the data folder and the site file a command works on, read once.
//! * [`config`]: the site file as the sum of what each part declares.
//! * [`database`]: how a command gets to the database, whether the engine runs or not.
//! * [`plugins`]: where the plugins of a site lie, and whom it trusts.
//! * [`site`]: everything the files of a site say, checked before anything listens.
//! * [`run`]: the engine from its start to its end, with [`listeners`].
//! * [`activation`], [`reload`]: which workflows are active, and what may change while it runs.
//! * [`http`]: health, metrics and the interface for people who review.
//! * [`output`]: everything that is shown on the terminal.

mod activation;
mod active_model;
mod commands;
mod config;
mod database;
mod database_users;
mod engine_lock;
mod holder;
mod http;
mod installation;
mod listeners;
mod operator;
mod output;
mod plugins;
mod public_key;
mod reload;
mod run;
mod site;
mod site_args;
mod telemetry;
mod workflows;

use std::process::ExitCode;

use clap::Parser;

use crate::commands::Command;
use crate::output::Failure;

/// Messages and headers are many small texts, allocated on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A workflow engine for hospital images and documents.
#[derive(Parser)]
#[command(name = "isocenter", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let command = match Arguments::parse().command.run_as_child() {
        Ok(code) => return code,
        Err(command) => command,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(command.execute());
            // Blocking reads of a disk may be in flight; nothing depends on their result.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::from_error("cannot start", &error)),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace()).map(|it| it.command)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_and_every_argument_has_help() {
        fn check(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
            if command.get_about().is_none() {
                missing.push(path.to_owned());
            }
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                if argument.get_help().is_none() && !["help", "version"].contains(&id) {
                    missing.push(format!("{path} {id}"));
                }
            }
            for sub in command.get_subcommands() {
                check(sub, &format!("{path} {}", sub.get_name()), missing);
            }
        }
        let mut missing = Vec::new();
        check(&Arguments::command(), "isocenter", &mut missing);
        assert_eq!(missing, Vec::<String>::new());
    }

    #[test]
    fn the_help_of_a_command_is_its_own() {
        let command = Arguments::command();
        let about =
            |name: &str| command.find_subcommand(name).unwrap().get_about().unwrap().to_string();
        assert!(about("check").starts_with("Checks the site file"), "{}", about("check"));
        assert!(about("studies").starts_with("Lists the newest studies"), "{}", about("studies"));
    }

    #[test]
    fn the_installation_may_be_named_after_any_command() {
        for line in [
            "isocenter studies --config site.yaml --data /srv --json --limit 3",
            "isocenter run show 018f0000-0000-7000-8000-000000000001 --data /srv --json",
            "isocenter hold release intake --config site.yaml",
            "isocenter serve --data /srv --trust-loopback --dicom 127.0.0.1:0",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn arguments_that_contradict_each_other_are_refused() {
        for line in [
            "isocenter delivery resend --to pacs",
            "isocenter hold release everything",
            "isocenter run cancel no-uuid",
            "isocenter plugin sign",
            "isocenter send dicom 127.0.0.1:104",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_child_processes_are_not_shown_to_people() {
        let command = Arguments::command();
        let hidden = command.get_subcommands().filter(|it| it.is_hide_set());
        let hidden: Vec<&str> = hidden.map(clap::Command::get_name).collect();
        assert_eq!(hidden, ["model-host", "plugin-host", "decoder"]);
    }
}
