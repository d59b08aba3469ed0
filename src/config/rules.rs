//! Rules: what is done about conflicts for some users, databases or applications. Of those that fit the first that says
//! something about a matter decides it.

use super::value::Pattern;
use crate::governor;
use crate::replay::Mode;

/// One `[[rules]]` table.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The users that it is for.
    pub user: Pattern,
    /// The databases that it is for.
    pub database: Pattern,
    /// The applications that it is for.
    pub application_name: Pattern,
    /// What is done about conflicts there, if the rule says so.
    pub mode: Option<Mode>,
    /// What the governor does there, if the rule says so.
    pub governor: Option<governor::Mode>,
}

/// Who connects, as the startup packet tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The user.
    pub user: Box<[u8]>,
    /// The database; the user's name if none is named.
    pub database: Box<[u8]>,
    /// The name of the application; often empty.
    pub application_name: Box<[u8]>,
}

impl Rule {
    /// Whether the rule is for this client.
    pub fn fits(&self, client: &Client) -> bool {
        self.user.fits(&client.user)
            && self.database.fits(&client.database)
            && self.application_name.fits(&client.application_name)
    }
}
