//! Decides on an association request: who is admitted, and with which presentation contexts
//! (PS3.8, 7.1 and Annex D; DIN-01 to DIN-13).
//!
//! Nothing here touches a socket: [`answer`] maps the bytes of a request to the PDU to answer with.
//! Presentation contexts are accepted if one of the `services` offers them.

use std::net::IpAddr;

use dicom_ul::pdu::{
    AbortRQServiceProviderReason, AbortRQSource, AssociationAC, AssociationRJ, AssociationRJResult,
    AssociationRJServiceProviderASCEReason as Acse,
    AssociationRJServiceProviderPresentationReason as Presentation,
    AssociationRJServiceUserReason as User, AssociationRJSource, AssociationRQ, Pdu,
    PresentationContextProposed, PresentationContextResult, PresentationContextResultReason,
    RequestorRoles, UserVariableItem,
};
use domain::AeTitle;
use encoding::dicom::file_meta::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};

use crate::config::Config;
use crate::presentation_context::{Negotiated, PresentationContext, Role};
use crate::services;
use crate::transfer_syntax::{IMPLICIT_LITTLE_ENDIAN, TransferSyntaxChoice};

/// The only application context of DICOM (PS3.7, A.2.1).
pub(crate) const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// Longest PDU that is sent, whatever the peer allows (DIN-07).
pub(crate) const SEND_BYTES_MAX: u32 = 128 * 1024;

/// Shortest PDU that a useful fragment fits in.
const SEND_BYTES_MIN: u32 = 1024;

/// Length of an A-ASSOCIATE-RQ before its variable items (PS3.8, Table 9-11).
const FIXED_BYTES: usize = 74;

/// The answer to an association request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The association is accepted; the PDU is the A-ASSOCIATE-AC.
    Accept(Negotiated, Box<Pdu>),
    /// The association is rejected: this peer is not admitted, or not now.
    Reject(Rejection),
    /// The association is aborted: what came was no valid request.
    Abort(AbortCause),
}

/// Why an association is rejected (PS3.8, Table 9-21; DIN-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The protocol version is not 1.
    ProtocolVersion,
    /// The application context is not that of DICOM.
    ApplicationContext,
    /// The called AE title is not ours.
    CalledAeTitle,
    /// No peer with this calling AE title is admitted from this address.
    CallingAeTitle,
    /// A limit on the number of associations is reached.
    LimitExceeded,
    /// Nothing can be stored now.
    Congestion,
}

impl Rejection {
    /// All of them, in the order they are checked.
    pub const ALL: [Self; 6] = [
        Self::ProtocolVersion,
        Self::ApplicationContext,
        Self::CalledAeTitle,
        Self::CallingAeTitle,
        Self::LimitExceeded,
        Self::Congestion,
    ];

    /// The reason in words, for the trail and the log.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ProtocolVersion => "the protocol version is not supported",
            Self::ApplicationContext => "the application context is not supported",
            Self::CalledAeTitle => "the called AE title is not ours",
            Self::CallingAeTitle => "the calling AE title is not on the list for its address",
            Self::LimitExceeded => "there are as many associations as there may be",
            Self::Congestion => "nothing can be kept just now",
        }
    }

    /// The A-ASSOCIATE-RJ.
    pub fn pdu(self) -> Pdu {
        let source = match self {
            Self::ProtocolVersion => {
                AssociationRJSource::ServiceProviderASCE(Acse::ProtocolVersionNotSupported)
            }
            Self::ApplicationContext => {
                AssociationRJSource::ServiceUser(User::ApplicationContextNameNotSupported)
            }
            Self::CalledAeTitle => {
                AssociationRJSource::ServiceUser(User::CalledAETitleNotRecognized)
            }
            Self::CallingAeTitle => {
                AssociationRJSource::ServiceUser(User::CallingAETitleNotRecognized)
            }
            Self::LimitExceeded => {
                AssociationRJSource::ServiceProviderPresentation(Presentation::LocalLimitExceeded)
            }
            Self::Congestion => {
                AssociationRJSource::ServiceProviderPresentation(Presentation::TemporaryCongestion)
            }
        };
        let result = match self {
            Self::ProtocolVersion
            | Self::ApplicationContext
            | Self::CalledAeTitle
            | Self::CallingAeTitle => AssociationRJResult::Permanent,
            Self::LimitExceeded | Self::Congestion => AssociationRJResult::Transient,
        };
        Pdu::AssociationRJ(AssociationRJ { result, source })
    }
}

/// Why a connection is aborted before there is an association (DIN-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortCause {
    /// The association request cannot be read, or names no AE titles.
    MalformedRequest,
    /// Ids of presentation contexts are even, or not distinct, or there is none.
    ContextIds,
    /// The first PDU is no association request.
    UnexpectedPdu,
    /// The first PDU is of a type that the standard does not define.
    UnknownPdu,
    /// The first PDU is longer than an association request may be.
    TooLong,
}

impl AbortCause {
    /// The reason in words, for the trail and the log.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::MalformedRequest => "the association request is malformed",
            Self::ContextIds => "presentation context ids are not distinct and odd",
            Self::UnexpectedPdu => "the first PDU was no association request",
            Self::UnknownPdu => "the first PDU was of an unknown type",
            Self::TooLong => "the first PDU was too long",
        }
    }

    /// The A-ABORT.
    pub const fn pdu(self) -> Pdu {
        abort(match self {
            Self::MalformedRequest | Self::ContextIds | Self::TooLong => {
                AbortRQServiceProviderReason::InvalidPduParameter
            }
            Self::UnexpectedPdu => AbortRQServiceProviderReason::UnexpectedPdu,
            Self::UnknownPdu => AbortRQServiceProviderReason::UnrecognizedPdu,
        })
    }
}

/// The associations that are open when another one is requested.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// All open associations.
    pub associations: usize,
    /// Those with peers of the same network address.
    pub of_address: usize,
    /// Those with peers of the same AE title.
    pub of_ae_title: usize,
    /// Whether nothing can be stored now.
    pub is_congested: bool,
}

/// The AE titles of an association request, as far as they are valid.
#[derive(Clone, Debug, Default)]
pub struct AeTitles {
    /// How the peer calls itself.
    pub calling: Option<AeTitle>,
    /// How the peer calls us.
    pub called: Option<AeTitle>,
}

impl AeTitles {
    /// Reads the AE titles of an A-ASSOCIATE-RQ, given as the bytes of its PDU.
    ///
    /// Read from the bytes since the library trims and decodes; what was sent counts (DIN-01).
    pub fn of_request(bytes: &[u8]) -> Self {
        let both = bytes.get(10..FIXED_BYTES - 32).unwrap_or_default();
        Self { calling: ae_title(both.get(16..)), called: ae_title(both.get(..16)) }
    }
}

/// Answers an A-ASSOCIATE-RQ, given as the bytes of its PDU.
pub fn answer(config: &Config, load: Load, address: IpAddr, bytes: &[u8]) -> Answer {
    let read = dicom_ul::pdu::read_pdu(bytes, dicom_ul::pdu::MAXIMUM_PDU_SIZE, false);
    let Ok(Some(Pdu::AssociationRQ(request))) = read else {
        return Answer::Abort(AbortCause::MalformedRequest);
    };
    let titles = AeTitles::of_request(bytes);
    if let Some(rejection) = rejection(config, load, address, &request, &titles) {
        return Answer::Reject(rejection);
    }
    let (Some(called), Some(calling)) = (titles.called, titles.calling) else {
        return Answer::Abort(AbortCause::MalformedRequest);
    };
    if !has_valid_context_ids(&request) {
        return Answer::Abort(AbortCause::ContextIds);
    }
    accept(config, &request, called, calling)
}

/// Whether there is a presentation context, and the ids of all are odd and distinct.
fn has_valid_context_ids(request: &AssociationRQ) -> bool {
    let mut ids: Vec<u8> = request.presentation_contexts.iter().map(|it| it.id).collect();
    ids.sort_unstable();
    let are_odd = ids.iter().all(|id| id % 2 == 1);
    let are_distinct = ids.windows(2).all(|pair| pair.first() != pair.last());
    !ids.is_empty() && are_odd && are_distinct
}

/// The first reason to reject the request, if there is one (the table of DIN-13).
fn rejection(
    config: &Config,
    load: Load,
    address: IpAddr,
    request: &AssociationRQ,
    titles: &AeTitles,
) -> Option<Rejection> {
    if request.protocol_version & 1 == 0 {
        return Some(Rejection::ProtocolVersion);
    }
    if request.application_context_name != APPLICATION_CONTEXT {
        return Some(Rejection::ApplicationContext);
    }
    if titles.called.as_ref() != Some(&config.ae_title) {
        return Some(Rejection::CalledAeTitle);
    }
    // The same answer for a wrong AE title and a wrong address: one who guesses learns nothing.
    let peers = config.peers.get();
    let peer = titles
        .calling
        .as_ref()
        .and_then(|calling| peers.iter().find(|peer| peer.matches(calling, address)));
    let Some(peer) = peer else { return Some(Rejection::CallingAeTitle) };
    if load.associations >= config.associations_max
        || load.of_address >= config.associations_per_peer_max
        || peer.associations_max.is_some_and(|limit| load.of_ae_title >= limit)
    {
        return Some(Rejection::LimitExceeded);
    }
    (load.is_congested && requests_storage(config, request)).then_some(Rejection::Congestion)
}

/// Whether a presentation context is requested that brings something to store, or is unknown.
fn requests_storage(config: &Config, request: &AssociationRQ) -> bool {
    request.presentation_contexts.iter().any(|proposed| {
        let abstract_syntax = proposed.abstract_syntax.trim_end_matches(['\0', ' ']);
        services::accepting(config, abstract_syntax).is_none_or(|service| service.offer().stores)
    })
}

fn accept(config: &Config, request: &AssociationRQ, called: AeTitle, calling: AeTitle) -> Answer {
    let user_variables = user_variables(config.pdu_bytes_max, request);
    let mut results = Vec::new();
    let mut contexts = Vec::new();
    for proposed in &request.presentation_contexts {
        let decision = decide_context(config, proposed, &user_variables);
        results.push(decision.result);
        contexts.extend(decision.accepted);
    }
    let peer_max = request.user_variables.iter().find_map(|item| match item {
        UserVariableItem::MaxLength(length) => Some(*length),
        _ => None,
    });
    let pdu = Pdu::AssociationAC(AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title.clone(),
        called_ae_title: request.called_ae_title.clone(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: results,
        user_variables,
    });
    let send_bytes_max = send_bytes_max(peer_max);
    Answer::Accept(Negotiated { calling, called, contexts, send_bytes_max }, Box::new(pdu))
}

/// Longest PDU to send to a peer that accepts `peer_max` bytes. Zero is without limit.
pub(crate) fn send_bytes_max(peer_max: Option<u32>) -> u32 {
    match peer_max.unwrap_or_default() {
        0 => SEND_BYTES_MAX,
        length => length.clamp(SEND_BYTES_MIN, SEND_BYTES_MAX),
    }
}

fn user_variables(pdu_bytes_max: u32, request: &AssociationRQ) -> Vec<UserVariableItem> {
    let mut items = vec![
        UserVariableItem::MaxLength(pdu_bytes_max),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
        UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()),
    ];
    for item in &request.user_variables {
        match item {
            UserVariableItem::SopClassExtendedNegotiationSubItem(uid, _) => {
                let answer = services::offering(uid)
                    .and_then(|service| service.offer().extended_negotiation);
                items.extend(answer.map(|bytes| {
                    let item = UserVariableItem::SopClassExtendedNegotiationSubItem;
                    item(uid.clone(), bytes.to_vec())
                }));
            }
            UserVariableItem::ScuScpRoleSelectionSubItem(uid, proposed) => {
                let service = services::offering(uid.trim_end_matches('\0'));
                let may_be_scp = service.is_some_and(|it| it.offer().can_requestor_be_scp);
                let roles = RequestorRoles { scu: proposed.scu, scp: proposed.scp && may_be_scp };
                items.push(UserVariableItem::ScuScpRoleSelectionSubItem(uid.clone(), roles));
            }
            _ => {}
        }
    }
    items
}

/// The decision on one proposed presentation context.
struct ContextDecision {
    /// What the peer is answered.
    result: PresentationContextResult,
    /// The presentation context, if it is accepted.
    accepted: Option<PresentationContext>,
}

fn decide_context(
    config: &Config,
    proposed: &PresentationContextProposed,
    user_variables: &[UserVariableItem],
) -> ContextDecision {
    let abstract_syntax = proposed.abstract_syntax.trim_end_matches('\0');
    let service = services::accepting(config, abstract_syntax);
    let choice =
        service.map_or(TransferSyntaxChoice::LosslessFirst, |it| it.offer().transfer_syntaxes);
    let chosen = choice.choose(&proposed.transfer_syntaxes);
    let reason = match (service, chosen) {
        (None, _) => PresentationContextResultReason::AbstractSyntaxNotSupported,
        (Some(_), None) => PresentationContextResultReason::TransferSyntaxesNotSupported,
        (Some(_), Some(_)) => PresentationContextResultReason::Acceptance,
    };
    let accepted =
        chosen.filter(|_| service.is_some()).map(|transfer_syntax| PresentationContext {
            id: proposed.id,
            abstract_syntax: abstract_syntax.to_owned(),
            transfer_syntax: transfer_syntax.to_owned(),
            role: own_role(abstract_syntax, user_variables),
        });
    let transfer_syntax = chosen.unwrap_or(IMPLICIT_LITTLE_ENDIAN).to_owned();
    let result = PresentationContextResult { id: proposed.id, reason, transfer_syntax };
    ContextDecision { result, accepted }
}

/// Our role for a SOP class: provider, unless role selection has made the requestor one.
fn own_role(abstract_syntax: &str, user_variables: &[UserVariableItem]) -> Role {
    let roles = user_variables.iter().find_map(|item| match item {
        UserVariableItem::ScuScpRoleSelectionSubItem(uid, roles)
            if uid.trim_end_matches('\0') == abstract_syntax =>
        {
            Some(roles)
        }
        _ => None,
    });
    match roles {
        Some(RequestorRoles { scu: true, scp: true }) => Role::Both,
        Some(RequestorRoles { scu: false, scp: true }) => Role::Scu,
        _ => Role::Scp,
    }
}

/// An AE title of sixteen bytes as sent; nothing if it is blank or contains invalid characters.
fn ae_title(bytes: Option<&[u8]>) -> Option<AeTitle> {
    std::str::from_utf8(bytes?).ok()?.parse().ok()
}

/// A-ABORT of the service provider.
pub(crate) const fn abort(reason: AbortRQServiceProviderReason) -> Pdu {
    Pdu::AbortRQ { source: AbortRQSource::ServiceProvider(reason) }
}

#[cfg(test)]
mod tests;
