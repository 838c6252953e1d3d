//! Who may come in, and with what (PS3.8, 7.1 and Annex D; requirements DIN-01..13). Pure.

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
use encoding::file_meta::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};

use crate::config::Config;
use crate::sop_class;

/// The one application context there is (PS3.7, A.2.1).
pub(crate) const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// All transfer syntaxes of the standard begin so (PS3.6, Table A-1).
const TRANSFER_SYNTAX_ROOT: &str = "1.2.840.10008.1.2";

pub(crate) const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
pub(crate) const IMPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";

/// Compressed without loss (PS3.5, 10): taken first, since nothing has to be unpacked (DIN-05).
pub(crate) const LOSSLESS: &[&str] = &[
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.92",
    "1.2.840.10008.1.2.4.110",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.1.99",
];

/// Longest PDU we send, whatever the peer allows (DIN-07).
pub(crate) const SEND_BYTES_MAX: u32 = 128 * 1024;

/// Shortest PDU that a useful fragment fits in.
const SEND_BYTES_MIN: u32 = 1024;

/// Bytes of an A-ASSOCIATE-RQ before its variable items (PS3.8, Table 9-11).
const FIXED_BYTES: usize = 74;

/// What was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Who is there.
    pub calling: AeTitle,
    /// As whom we are called.
    pub called: AeTitle,
    /// What may be sent: context, abstract syntax, transfer syntax.
    pub contexts: Vec<(u8, String, String)>,
    /// Longest PDU the peer takes.
    pub send_bytes_max: u32,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Come in.
    Accept(Agreed, Pdu),
    /// Not you, or not now. The text says why, for the trail.
    Reject(Pdu, &'static str),
    /// This is not how one asks.
    Abort(Pdu, &'static str),
}

/// Where we stand when somebody asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Associations there are.
    pub associations: usize,
    /// Those of the same address.
    pub of_address: usize,
    /// Those of the same name.
    pub of_name: usize,
    /// Whether nothing can be kept just now.
    pub is_congested: bool,
}

/// As whom the peer of a request calls itself and us, as far as these are AE titles.
pub fn names(bytes: &[u8]) -> (Option<AeTitle>, Option<AeTitle>) {
    let both = bytes.get(10..FIXED_BYTES - 32).unwrap_or_default();
    (ae_title(both.get(16..)), ae_title(both.get(..16)))
}

/// Answers an A-ASSOCIATE-RQ, given as the bytes of its PDU.
pub fn answer(config: &Config, load: Load, address: IpAddr, bytes: &[u8]) -> Answer {
    let read = dicom_ul::pdu::read_pdu(bytes, dicom_ul::pdu::MAXIMUM_PDU_SIZE, false);
    let Ok(Some(Pdu::AssociationRQ(request))) = read else {
        return Answer::Abort(invalid_parameter(), "the association request is malformed");
    };
    // The library trims and decodes; what was sent counts (DIN-01).
    let (calling, called) = names(bytes);
    let refusal = admitted(config, load, address, &request, called.as_ref(), calling.as_ref());
    if let Some((pdu, why)) = refusal {
        return Answer::Reject(pdu, why);
    }
    let (Some(called), Some(calling)) = (called, calling) else {
        return Answer::Abort(invalid_parameter(), "the association request is malformed");
    };
    let mut ids: Vec<u8> = request.presentation_contexts.iter().map(|it| it.id).collect();
    ids.sort_unstable();
    let are_sound =
        ids.iter().all(|id| id % 2 == 1) && ids.windows(2).all(|it| it.first() != it.last());
    if !are_sound || ids.is_empty() {
        return Answer::Abort(
            invalid_parameter(),
            "presentation context ids are not distinct and odd",
        );
    }
    accept(config, &request, called, calling)
}

/// The table of DIN-13.
fn admitted(
    config: &Config,
    load: Load,
    address: IpAddr,
    request: &AssociationRQ,
    called: Option<&AeTitle>,
    calling: Option<&AeTitle>,
) -> Option<(Pdu, &'static str)> {
    let permanent = |source, why| Some((reject(AssociationRJResult::Permanent, source), why));
    let transient = |source, why| Some((reject(AssociationRJResult::Transient, source), why));
    if request.protocol_version & 1 == 0 {
        let source = AssociationRJSource::ServiceProviderASCE(Acse::ProtocolVersionNotSupported);
        return permanent(source, "the protocol version is not supported");
    }
    if request.application_context_name != APPLICATION_CONTEXT {
        let source = AssociationRJSource::ServiceUser(User::ApplicationContextNameNotSupported);
        return permanent(source, "the application context is not supported");
    }
    if called != Some(&config.ae_title) {
        let source = AssociationRJSource::ServiceUser(User::CalledAETitleNotRecognized);
        return permanent(source, "the called AE title is not ours");
    }
    // The same answer for a wrong name and a wrong address: who guesses learns nothing.
    let peers = config.peers.get();
    let peer = calling.and_then(|it| peers.iter().find(|peer| peer.is(it, address)));
    let Some(peer) = peer else {
        let source = AssociationRJSource::ServiceUser(User::CallingAETitleNotRecognized);
        return permanent(source, "the calling AE title is not on the list for its address");
    };
    if load.associations >= config.associations_max
        || load.of_address >= config.associations_per_peer_max
        || peer.associations_max.is_some_and(|it| load.of_name >= it)
    {
        let reason = Presentation::LocalLimitExceeded;
        let source = AssociationRJSource::ServiceProviderPresentation(reason);
        return transient(source, "there are as many associations as there may be");
    }
    // Who only asks whether we are there brings nothing to keep.
    let only_asks = request
        .presentation_contexts
        .iter()
        .all(|it| it.abstract_syntax.trim_end_matches(['\0', ' ']) == sop_class::VERIFICATION);
    if load.is_congested && !only_asks {
        let reason = Presentation::TemporaryCongestion;
        let source = AssociationRJSource::ServiceProviderPresentation(reason);
        return transient(source, "nothing can be kept just now");
    }
    None
}

fn accept(config: &Config, request: &AssociationRQ, called: AeTitle, calling: AeTitle) -> Answer {
    let (results, contexts): (Vec<_>, Vec<_>) =
        request.presentation_contexts.iter().map(context).unzip();
    let peer_max = request.user_variables.iter().find_map(|it| match it {
        UserVariableItem::MaxLength(length) => Some(*length),
        _ => None,
    });
    let pdu = Pdu::AssociationAC(AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title.clone(),
        called_ae_title: request.called_ae_title.clone(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: results,
        user_variables: user_variables(config.pdu_bytes_max, request),
    });
    let contexts = contexts.into_iter().flatten().collect();
    let send_bytes_max = send_bytes_max(peer_max);
    Answer::Accept(Agreed { calling, called, contexts, send_bytes_max }, pdu)
}

/// Longest PDU to send to a peer that said `peer_max`. Zero is without limit.
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
            UserVariableItem::SopClassExtendedNegotiationSubItem(uid, _)
                if sop_class::is_storage(uid) =>
            {
                // Level 2, no digital signatures, no coercion (PS3.4, B.3.1; DIN-10).
                let answer = vec![2, 0, 0, 0, 0, 0];
                let item = UserVariableItem::SopClassExtendedNegotiationSubItem;
                items.push(item(uid.clone(), answer));
            }
            UserVariableItem::ScuScpRoleSelectionSubItem(uid, proposed) => {
                // Whoever asks for commitment is user; whoever answers a request of ours is
                // provider. Nothing else has us change sides (DIN-09).
                let is_commitment = uid.trim_end_matches('\0') == sop_class::COMMITMENT;
                let roles =
                    RequestorRoles { scu: proposed.scu, scp: proposed.scp && is_commitment };
                items.push(UserVariableItem::ScuScpRoleSelectionSubItem(uid.clone(), roles));
            }
            _ => {}
        }
    }
    items
}

type Context = (u8, String, String);

fn context(proposed: &PresentationContextProposed) -> (PresentationContextResult, Option<Context>) {
    let abstract_syntax = proposed.abstract_syntax.trim_end_matches('\0');
    let is_storage = sop_class::is_storage(abstract_syntax);
    let is_plain = matches!(abstract_syntax, sop_class::VERIFICATION | sop_class::COMMITMENT);
    let chosen = if is_plain {
        choose_plain(&proposed.transfer_syntaxes)
    } else {
        choose(&proposed.transfer_syntaxes)
    };
    let (reason, agreed) = match chosen {
        _ if !is_storage && !is_plain => {
            (PresentationContextResultReason::AbstractSyntaxNotSupported, None)
        }
        None => (PresentationContextResultReason::TransferSyntaxesNotSupported, None),
        Some(chosen) => {
            let context = (proposed.id, abstract_syntax.to_owned(), chosen.to_owned());
            (PresentationContextResultReason::Acceptance, Some(context))
        }
    };
    let transfer_syntax = chosen.unwrap_or(IMPLICIT_LITTLE_ENDIAN).to_owned();
    (PresentationContextResult { id: proposed.id, reason, transfer_syntax }, agreed)
}

/// The one transfer syntax to take (DIN-05).
fn choose(proposed: &[String]) -> Option<&str> {
    let proposed = || proposed.iter().map(|it| it.trim_end_matches('\0'));
    let is_known = |it: &&str| {
        it.strip_prefix(TRANSFER_SYNTAX_ROOT).is_some_and(|it| it.is_empty() || it.starts_with('.'))
    };
    proposed()
        .find(|it| LOSSLESS.contains(it))
        .or_else(|| proposed().find(|it| *it == EXPLICIT_LITTLE_ENDIAN))
        .or_else(|| proposed().find(|it| *it == IMPLICIT_LITTLE_ENDIAN))
        .or_else(|| proposed().find(is_known))
}

/// The one to take where nothing is stored: what is sent there is read at once.
fn choose_plain(proposed: &[String]) -> Option<&str> {
    let proposed = || proposed.iter().map(|it| it.trim_end_matches('\0'));
    [EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN]
        .into_iter()
        .find_map(|wanted| proposed().find(|it| *it == wanted))
}

/// An AE title of sixteen bytes as sent; nothing if it is blank or holds what it may not.
fn ae_title(bytes: Option<&[u8]>) -> Option<AeTitle> {
    std::str::from_utf8(bytes?).ok()?.parse().ok()
}

fn reject(result: AssociationRJResult, source: AssociationRJSource) -> Pdu {
    Pdu::AssociationRJ(AssociationRJ { result, source })
}

/// A-ABORT for a parameter that cannot be (DIN-14).
pub(crate) const fn invalid_parameter() -> Pdu {
    abort(AbortRQServiceProviderReason::InvalidPduParameter)
}

/// A-ABORT of the service provider.
pub(crate) const fn abort(reason: AbortRQServiceProviderReason) -> Pdu {
    Pdu::AbortRQ { source: AbortRQSource::ServiceProvider(reason) }
}

#[cfg(test)]
mod tests;
