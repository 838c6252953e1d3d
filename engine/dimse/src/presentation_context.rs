//! Presentation contexts (PS3.8, 7.1.1.13): what kind of object may be sent on an association, how
//! it is encoded, and in which role.

use domain::AeTitle;

/// What an accepted association was negotiated to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// AE title of the peer.
    pub calling: AeTitle,
    /// AE title under which the peer calls us.
    pub called: AeTitle,
    /// The presentation contexts that were accepted.
    pub contexts: Vec<PresentationContext>,
    /// Longest PDU that the peer accepts, in bytes after its header.
    pub send_bytes_max: u32,
}

/// A presentation context that both sides have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentationContext {
    /// Its id: odd, and distinct within the association.
    pub id: u8,
    /// UID of the SOP class.
    pub abstract_syntax: String,
    /// UID of the one transfer syntax that data sets come in.
    pub transfer_syntax: String,
    /// The role of this side.
    pub role: Role,
}

/// The role of one side in a presentation context (PS3.7, D.3.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Service class user: sends the requests. The default of the side that opens the association.
    Scu,
    /// Service class provider: answers the requests.
    Scp,
    /// Both, where role selection has allowed it.
    Both,
}

/// A presentation context that this side proposes, with one transfer syntax: its acceptance is then
/// the acceptance of that syntax.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProposedContext {
    pub(crate) abstract_syntax: String,
    pub(crate) transfer_syntax: String,
    /// The role that this side proposes to take.
    pub(crate) role: Role,
}
