//! What can be known before anything runs.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::args::{Place, ServeFlags};
use crate::config::own_folder;
use crate::output::{Failure, json, line, table};
use crate::site::{Site, untrusted};

/// A folder for what only has to be there while something is checked.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("isocenter-check-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder)
            .map_err(|error| Failure::from_error("cannot make a folder", &error))?;
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the temporary folder, which the system empties.
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Reads the site without touching its data, which a running engine may be using. In a trial, the
/// destinations that its workflows and `more` name are taken to be there.
pub(crate) async fn read(
    place: &Place,
    flags: &ServeFlags,
    more: &[&str],
) -> Result<(Site, Scratch), Failure> {
    let scratch = Scratch::new()?;
    let place = Place { data: Some(scratch.0.clone()), ..place.clone() };
    // Destinations a trial would put into its folder are as good as any here.
    let mut flags = ServeFlags { allow_unsigned: true, ..flags.clone() };
    if place.config.is_none() && flags.folder.is_none() {
        flags.folder = Some(scratch.0.join("folder"));
    }
    Ok((Site::read(&place, &flags, more).await?, scratch))
}

pub(crate) async fn check(place: &Place, flags: &ServeFlags) -> Result<(), Failure> {
    let (site, _scratch) = read(place, flags, &[]).await?;
    let alone = Scratch::new()?;
    let untrusted = untrusted(&site.config, flags, place, alone.path()).await?;
    if !untrusted.is_empty() {
        let text = untrusted.join("\n  ");
        return Err(Failure::new(format!("plugins that would not be loaded:\n  {text}")));
    }
    for plugin in site.host.plugins() {
        line(format_args!("plugin {} {}", plugin.pin.name, plugin.pin.version));
    }
    for active in &site.workflows {
        line(format_args!("workflow {}: {}", active.reference.name, active.workflow.description));
    }
    line("everything can be used");
    Ok(())
}

/// Exit code 1 if a test fails.
pub(crate) async fn test(place: &Place, flags: &ServeFlags) -> Result<ExitCode, Failure> {
    let (site, _scratch) = read(place, flags, &[]).await?;
    let (mut passed, mut failed) = (0, 0);
    for active in &site.workflows {
        let trial = workflow::trial(&active.workflow);
        let name = &active.reference.name;
        for outcome in &trial.outcomes {
            if outcome.differences.is_empty() {
                passed += 1;
                line(format_args!("ok   {name} test {}", outcome.number));
            } else {
                failed += 1;
                line(format_args!("FAIL {name} test {}", outcome.number));
                outcome.differences.iter().for_each(|it| line(format_args!("     {it}")));
            }
        }
        show_coverage(name, &trial);
    }
    line(format_args!("{passed} passed, {failed} failed"));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says which branches the tests of a workflow never took.
pub(crate) fn show_coverage(name: &str, trial: &workflow::Trial) {
    let tried = trial.branches - trial.untried.len();
    line(format_args!("     {name}: {tried} of {} branches tried", trial.branches));
    trial.untried.iter().for_each(|it| line(format_args!("     never: {it}")));
}

pub(crate) async fn plugins(folder: Option<PathBuf>, as_json: bool) -> Result<(), Failure> {
    let place = Place::default();
    let flags = ServeFlags { plugins: folder.or_else(own_folder), ..ServeFlags::default() };
    let (site, _scratch) = read(&place, &flags, &[]).await?;
    if as_json {
        let pins: Vec<_> = site.host.plugins().into_iter().map(|it| it.pin).collect();
        return json(&pins);
    }
    let rows: Vec<Vec<String>> = site
        .host
        .plugins()
        .into_iter()
        .map(|it| {
            let pin = &it.pin;
            vec![
                pin.name.clone(),
                pin.version.clone(),
                pin.digest.clone(),
                it.source.display().to_string(),
            ]
        })
        .collect();
    table(&["plugin", "version", "sha256", "library"], &rows);
    Ok(())
}
