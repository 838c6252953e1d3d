//! The account at the terminal, which the trail names as the one that gave a command.
//!
//! It is the account that the operating system says, not the one that the environment says: anybody
//! can set a variable. Where two people have to decide, an account is nobody: `holder`.

use domain::Actor;

/// Where the names of accounts are.
const ACCOUNTS: &str = "/etc/passwd";

/// Environment variables that may hold the account's name, for accounts of a directory.
const ACCOUNT_VARIABLES: [&str; 2] = ["USER", "LOGNAME"];

/// The account as the operating system knows it: by its name, or by its number if the machine has
/// no name for it. Behind `sudo` it is the account of the person, not that of root.
pub(crate) fn operator() -> Actor {
    let uid = rustix::process::getuid().as_raw();
    let behind_sudo = std::env::var("SUDO_UID").ok().and_then(|it| it.parse().ok());
    let uid = behind_sudo.filter(|_| uid == 0).unwrap_or(uid);
    let accounts = std::fs::read_to_string(ACCOUNTS).unwrap_or_default();
    let claimed = ACCOUNT_VARIABLES.iter().find_map(|it| std::env::var(it).ok());
    Actor::person(&account(uid, &accounts, claimed.as_deref()))
}

/// The name of an account. What only the environment says stands behind the number, as a claim.
fn account(uid: u32, accounts: &str, claimed: Option<&str>) -> String {
    let mut rows = accounts.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (number == uid).then(|| name.to_owned())
    });
    let numbered = || match claimed {
        Some(claimed) => format!("uid {uid} (says {claimed})"),
        None => format!("uid {uid}"),
    };
    rows.next().unwrap_or_else(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "root:x:0:0:root:/root:/bin/bash\nanna:x:1000:1000::/home/anna:/bin/sh\n";

    #[test]
    fn hl7_37_an_account_is_named_by_its_number_and_not_by_the_environment() {
        assert_eq!(account(1000, ROWS, Some("bert")), "anna");
        assert_eq!(account(0, ROWS, None), "root");
        assert_eq!(account(4711, ROWS, Some("bert")), "uid 4711 (says bert)");
        assert_eq!(account(4711, "", None), "uid 4711");
    }
}
