//! What is said to plugins, workflows and destinations.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::{Listing, Place, ServeFlags};

#[derive(Subcommand)]
pub(crate) enum PluginCommand {
    /// Shows the plugins of a folder.
    List {
        /// The folder. Default: that of this program.
        #[arg(long)]
        plugins: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes the skeleton of a plugin that works.
    New {
        /// Its name: small letters, digits, dashes.
        name: String,
        /// In which language.
        #[arg(long, value_enum, default_value_t = PluginLanguage::Rust)]
        language: PluginLanguage,
        /// Where to make its folder.
        #[arg(long, default_value = ".")]
        into: PathBuf,
    },
    /// Loads a plugin as the engine would, and says whether it can be used.
    Check {
        /// The library, or the folder that ends in `.plugin`.
        plugin: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Signs plugins with the key of this site: from then on the engine loads them.
    Sign {
        /// Libraries, or folders that end in `.plugin`.
        #[arg(required = true)]
        plugins: Vec<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
}

/// What a plugin is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PluginLanguage {
    /// A shared library, with the crate `plugin-api`.
    Rust,
    /// A shared library, with `plugin.h`.
    C,
    /// A program of its own that speaks over a socket.
    Python,
}

#[derive(Subcommand)]
pub(crate) enum WorkflowCommand {
    /// Shows the versions at work, and what was before.
    List(Listing),
    /// Runs the tests of a file, and puts its workflow to work. A running engine takes it up at once.
    Activate {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        flags: ServeFlags,
    },
    /// Turns a workflow off. Its runs go on.
    Deactivate {
        /// Its name.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Puts the version before the current one to work again.
    Rollback {
        /// Its name.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Says of DICOM files or HL7 messages which workflows would take them, and why not.
    Match {
        /// Files or folders.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        flags: ServeFlags,
    },
    /// Writes the JSON Schema of workflow files, for editors.
    Schema,
}

#[derive(Subcommand)]
pub(crate) enum DestinationCommand {
    /// Shows all, with what waits for them.
    List(Listing),
    /// Sends nothing more to one until it is resumed. What is for it waits.
    Pause {
        /// Its name.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Goes on sending to one, at once.
    Resume {
        /// Its name.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Tries whether one answers: C-ECHO, a test message (processing id T), or a file.
    Test {
        /// Its name.
        name: String,
        #[command(flatten)]
        place: Place,
    },
}
