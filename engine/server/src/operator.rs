//! The person at the terminal, whom the trail names as the one who gave a command.

use domain::Actor;

/// Environment variables that may hold the account's name. Behind `sudo` it is the account of the
/// person, not that of root.
const ACCOUNT_VARIABLES: [&str; 3] = ["SUDO_USER", "USER", "LOGNAME"];

/// The operator as the operating system knows them: by account, or by number if there is no name.
pub(crate) fn operator() -> Actor {
    let account = ACCOUNT_VARIABLES.iter().find_map(|it| std::env::var(it).ok());
    let uid = rustix::process::getuid().as_raw();
    Actor::person(&account.unwrap_or_else(|| format!("uid {uid}")))
}
