//! `isocenter token`: who may decide about results.

use std::process::ExitCode;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use domain::Person;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use workflow::ROLES;

use super::Execute;
use crate::installation::{InstallationArgs, ListArgs};
use crate::operator::operator;
use crate::output::{Failure, decision, line, list};

/// The longest name or organization that fits into DICOM objects (PS3.5, 6.2).
const NAME_LENGTH_MAX: usize = 64;

/// Creates, lists and revokes the tokens with which people decide about results.
#[derive(Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Creates a token and shows it, this once.
    Create {
        /// The role of the person: radiologist, laboratory, physician.
        #[arg(long)]
        role: String,
        /// The person's name, as it is printed under reports, or as
        /// `family^given^middle^prefix^suffix`.
        #[arg(long)]
        name: String,
        /// The organization the person signs for.
        #[arg(long)]
        organization: String,
        /// The number of days until the token expires.
        #[arg(long, default_value_t = 90)]
        days: u16,
        #[command(flatten)]
        installation: InstallationArgs,
    },
    /// Lists tokens, the newest first.
    List(ListArgs),
    /// Revokes a token: it admits nobody any more.
    Revoke {
        /// The token, by its key in the list.
        token: Uuid,
        #[command(flatten)]
        installation: InstallationArgs,
    },
}

const HEADINGS: [&str; 7] =
    ["token", "name", "organization", "role", "issued by", "until", "state"];

impl Execute for Token {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            TokenCommand::Create { role, name, organization, days, installation } => {
                create(&Person { name, organization, role }, days, &installation).await
            }
            TokenCommand::List(ListArgs { installation, json, limit }) => {
                let tokens = installation.query(async |store| store.tokens(limit).await).await?;
                list(json, &tokens, &HEADINGS, |it| {
                    vec![
                        it.id.to_string(),
                        it.name.clone(),
                        it.organization.clone(),
                        it.role.clone(),
                        it.issued_by.clone(),
                        it.expires_at.clone(),
                        it.state.clone(),
                    ]
                })
            }
            TokenCommand::Revoke { token, installation } => {
                let is_revoked = installation
                    .query(async |store| store.revoke_token(token, operator()).await)
                    .await?;
                Ok(decision(is_revoked, "the token is revoked", "there is no such token"))
            }
        }
    }
}

async fn create(
    person: &Person,
    days: u16,
    installation: &InstallationArgs,
) -> Result<ExitCode, Failure> {
    check_person(person)?;
    let token = generate()?;
    let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    let until = Timestamp::now() + SignedDuration::from_hours(24 * i64::from(days));
    installation
        .query(async |store| store.create_token(person, &digest, until, operator()).await)
        .await?;
    line(token);
    Ok(ExitCode::SUCCESS)
}

/// Checks that a person can sign: with a role that exists, and names that fit into objects.
fn check_person(person: &Person) -> Result<(), Failure> {
    if !ROLES.contains(&person.role.as_str()) {
        let text = format!("no role `{}`: one of {}", person.role, ROLES.join(", "));
        return Err(Failure::new(text));
    }
    if is_name(&person.name) && is_name(&person.organization) {
        return Ok(());
    }
    Err(Failure::new(format!("a name has 1 to {NAME_LENGTH_MAX} letters and no backslash")))
}

fn is_name(text: &str) -> bool {
    (1..=NAME_LENGTH_MAX).contains(&text.trim().chars().count())
        && !text.chars().any(|it| it.is_control() || it == '\\')
}

/// A token with 256 random bits.
fn generate() -> Result<String, Failure> {
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| Failure::new(format!("no random bytes can be had: {error}")))?;
    Ok(format!("iso_{}", BASE64_URL_SAFE_NO_PAD.encode(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(role: &str, name: &str) -> Person {
        let organization = "City Hospital".to_owned();
        Person { name: name.to_owned(), organization, role: role.to_owned() }
    }

    #[test]
    fn a_person_signs_with_a_role_that_exists() {
        assert!(check_person(&person("radiologist", "Doe^Jane")).is_ok());
        let refused = check_person(&person("surgeon", "Doe^Jane")).unwrap_err();
        assert!(refused.text().contains("radiologist"), "{}", refused.text());
    }

    #[test]
    fn a_name_fits_into_dicom_objects() {
        for name in ["王^小东", &"x".repeat(64)] {
            assert!(check_person(&person("physician", name)).is_ok(), "{name}");
        }
        for name in ["", "  ", &"x".repeat(65), "Doe\\Jane", "Doe\nJane"] {
            assert!(check_person(&person("physician", name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn two_tokens_are_never_the_same() {
        let token = generate().unwrap();
        assert!(token.starts_with("iso_") && token.len() == 47, "{token}");
        assert_ne!(token, generate().unwrap());
    }
}
