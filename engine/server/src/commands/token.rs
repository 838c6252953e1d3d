//! Who may decide about results.

use std::process::ExitCode;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::Person;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use workflow::ROLES;

use crate::args::{Place, TokenCommand};
use crate::commands::ask::{failed, finish, person, show};
use crate::open::Opened;
use crate::output::{Failure, line};

/// Longest name or organization that fits into objects (PS3.5, 6.2).
const NAME_MAX: usize = 64;

pub(crate) async fn token(command: TokenCommand) -> Result<ExitCode, Failure> {
    match command {
        TokenCommand::Create { role, name, organization, days, place } => {
            create(Person { name, organization, role }, days, &place).await
        }
        TokenCommand::List(listing) => {
            let opened = Opened::open(&listing.place).await?;
            let rows = opened.store.tokens(listing.limit).await;
            opened.close().await;
            let rows = rows.map_err(|error| failed(&error))?;
            let headings = ["token", "name", "organization", "role", "until", "state"];
            show(&listing, &rows, &headings, |it| {
                vec![
                    it.id.to_string(),
                    it.name.clone(),
                    it.organization.clone(),
                    it.role.clone(),
                    it.expires_at.clone(),
                    it.state.clone(),
                ]
            })?;
            Ok(ExitCode::SUCCESS)
        }
        TokenCommand::Revoke { token, place } => {
            let opened = Opened::open(&place).await?;
            let outcome = opened.store.revoke_token(token, person()).await;
            finish(opened, outcome, "the token is good for nothing", "there is no such token").await
        }
    }
}

async fn create(whose: Person, days: u16, place: &Place) -> Result<ExitCode, Failure> {
    if !ROLES.contains(&whose.role.as_str()) {
        let text = format!("no role `{}`: one of {}", whose.role, ROLES.join(", "));
        return Err(Failure::new(text));
    }
    for text in [&whose.name, &whose.organization] {
        let is_sound = (1..=NAME_MAX).contains(&text.trim().chars().count())
            && !text.chars().any(|it| it.is_control() || it == '\\');
        if !is_sound {
            let text = format!("a name has 1 to {NAME_MAX} letters and no backslash");
            return Err(Failure::new(text));
        }
    }
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| Failure::new(format!("no random bytes can be had: {error}")))?;
    let token = format!("iso_{}", BASE64_URL_SAFE_NO_PAD.encode(secret));
    let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    let until = Timestamp::now() + SignedDuration::from_hours(24 * i64::from(days));
    let opened = Opened::open(place).await?;
    let id = opened.store.create_token(&whose, &digest, until, person()).await;
    opened.close().await;
    id.map_err(|error| failed(&error))?;
    line(token);
    Ok(ExitCode::SUCCESS)
}
