//! The DIMSE services that the engine provides (PS3.7): one file for each, one trait, one list.
//!
//! - [`echo`]: Verification (C-ECHO);
//! - [`storage`]: Storage (C-STORE);
//! - [`storage_commitment`]: Storage Commitment Push Model (N-ACTION, N-EVENT-REPORT).
//!
//! A [`Service`] declares what it offers and answers requests. The list [`SERVICES`] is the only
//! place that names them all: `negotiation` accepts what an [`Offer`] contains, `association`
//! dispatches commands to the service that answers them, and `conformance` writes the statement.

use std::sync::Arc;

use async_trait::async_trait;
use contracts::ReportEnd;
use domain::Actor;
use uuid::Uuid;

use crate::config::Config;
use crate::intakes::Intakes;
use crate::message::{Command, CommandField, Status};
use crate::presentation_context::{Negotiated, PresentationContext};
use crate::sop_class::{self, SopClass};
use crate::transfer_syntax::TransferSyntaxChoice;

pub(crate) mod echo;
pub(crate) mod storage;
pub(crate) mod storage_commitment;

/// Every service, in the order of the conformance statement.
pub(crate) const SERVICES: &[&dyn Service] =
    &[&echo::Echo, &storage_commitment::StorageCommitment, &storage::Storage];

/// The service that offers `abstract_syntax`.
pub(crate) fn offering(abstract_syntax: &str) -> Option<&'static dyn Service> {
    SERVICES.iter().copied().find(|it| it.offer().contains(abstract_syntax))
}

/// The service that `abstract_syntax` is accepted for: the one that offers it, or, if `config` says
/// so, Storage for a class that nobody knows.
pub(crate) fn accepting(config: &Config, abstract_syntax: &str) -> Option<&'static dyn Service> {
    let is_unknown_storage =
        config.accept_unknown_storage && sop_class::may_be_storage(abstract_syntax);
    offering(abstract_syntax)
        .or_else(|| is_unknown_storage.then_some(&storage::Storage as &dyn Service))
}

/// The service of a presentation context that was accepted.
pub(crate) fn serving(abstract_syntax: &str) -> &'static dyn Service {
    offering(abstract_syntax).unwrap_or(&storage::Storage)
}

/// The service that answers `command` on a presentation context of `abstract_syntax`.
///
/// A command on the context of another service goes to a service that answers such commands all the
/// same: it knows best how to refuse it, and C-ECHO is answered on any context.
pub(crate) fn answering(
    command: CommandField,
    abstract_syntax: &str,
) -> Option<&'static dyn Service> {
    let answers = |it: &&dyn Service| it.offer().commands.contains(&command);
    offering(abstract_syntax)
        .filter(answers)
        .or_else(|| SERVICES.iter().copied().find(|it| answers(it)))
}

/// What a service offers, and how: read by the negotiation and by the conformance statement.
#[derive(Debug)]
pub(crate) struct Offer {
    /// Name of the service class (PS3.4).
    pub(crate) name: &'static str,
    /// Whether the engine also sends requests of this service, as user.
    pub(crate) is_also_user: bool,
    /// Abstract syntaxes that are accepted.
    pub(crate) sop_classes: &'static [SopClass],
    /// Which transfer syntax of those proposed is chosen.
    pub(crate) transfer_syntaxes: TransferSyntaxChoice,
    /// Whether the requestor may propose to be provider: then it sends N-EVENT-REPORT (DIN-09).
    pub(crate) can_requestor_be_scp: bool,
    /// The answer to SOP Class Extended Negotiation (PS3.7, D.3.3.5), where it is defined.
    pub(crate) extended_negotiation: Option<&'static [u8]>,
    /// Whether requests bring something to store: then none is accepted while nothing can be
    /// stored.
    pub(crate) stores: bool,
    /// Commands that are answered.
    pub(crate) commands: &'static [CommandField],
    /// How the data sets of requests are read.
    pub(crate) data_sets: DataSets,
    /// Statuses of responses, and when they are given.
    pub(crate) statuses: &'static [StatusMeaning],
    /// What else the conformance statement says of the service: a paragraph of Markdown, or
    /// nothing.
    pub(crate) remarks: &'static str,
}

impl Offer {
    fn contains(&self, abstract_syntax: &str) -> bool {
        self.sop_classes.iter().any(|it| it.uid == abstract_syntax)
    }
}

/// How a service reads the data sets of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataSets {
    /// Its commands have none. One that comes is read to its end and refused.
    None,
    /// Into memory, up to a limit, or to the budget of the association if that is lower:
    /// [`Service::answer_with_data_set`].
    InMemory {
        /// Longest data set that is accepted.
        bytes_max: usize,
    },
    /// Piece by piece, as it arrives: [`Service::stream`].
    Streamed,
}

/// A status and when it is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusMeaning {
    pub(crate) status: Status,
    pub(crate) meaning: &'static str,
}

impl StatusMeaning {
    pub(crate) const fn new(status: Status, meaning: &'static str) -> Self {
        Self { status, meaning }
    }
}

/// A DIMSE service of which the engine is provider.
#[async_trait]
pub(crate) trait Service: Send + Sync {
    /// What the service offers.
    fn offer(&self) -> &'static Offer;

    /// Answers a request that no data set follows.
    async fn answer(&self, _request: &Request<'_>) -> Response {
        Response::unrecognized_operation()
    }

    /// Answers a request with its data set, for [`DataSets::InMemory`].
    async fn answer_with_data_set(&self, _request: &Request<'_>, _data_set: &[u8]) -> Response {
        Response::unrecognized_operation()
    }

    /// Begins to receive a data set, for [`DataSets::Streamed`].
    fn stream<'a>(&self, _request: Request<'a>) -> Box<dyn DataSetReceiver + 'a> {
        Box::new(Discard(Response::unrecognized_operation()))
    }

    /// Called once when an association with a presentation context of this service has ended.
    async fn association_ended(&self, _association: &AssociationContext) {}
}

/// The association that a request comes on.
pub(crate) struct AssociationContext {
    /// Distinguishes this association from all others.
    pub(crate) id: Uuid,
    /// What was negotiated.
    pub(crate) negotiated: Negotiated,
    /// Network address of the peer.
    pub(crate) address: String,
    /// The most that the association holds of a data set in memory.
    pub(crate) data_set_bytes_max: usize,
    pub(crate) intakes: Intakes,
}

impl AssociationContext {
    /// The peer, as the trail names it.
    pub(crate) fn actor(&self) -> Actor {
        Actor::peer(self.negotiated.calling.as_str(), &self.address)
    }

    /// The presentation context with this id.
    pub(crate) fn context(&self, id: u8) -> Option<&PresentationContext> {
        self.negotiated.contexts.iter().find(|it| it.id == id)
    }
}

/// A request, with everything that is known of it before its data set.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) command: Arc<Command>,
    pub(crate) context: &'a PresentationContext,
    pub(crate) association: &'a AssociationContext,
}

/// The response to a request.
pub(crate) struct Response {
    pub(crate) status: Status,
    /// Error Comment: at most 64 characters, nothing about a patient.
    pub(crate) comment: String,
    /// What the service will report later, on the same association if that lasts long enough.
    pub(crate) notification: Option<Box<dyn Notification>>,
}

impl Response {
    pub(crate) fn new(status: Status, comment: impl Into<String>) -> Self {
        Self { status, comment: comment.into(), notification: None }
    }

    pub(crate) fn success() -> Self {
        Self::new(Status::SUCCESS, "")
    }

    pub(crate) fn unrecognized_operation() -> Self {
        Self::new(Status::UNRECOGNIZED_OPERATION, "")
    }
}

/// Reads the data set of one request as it arrives.
#[async_trait]
pub(crate) trait DataSetReceiver: Send {
    /// Reads the next piece. Failures are reported by [`Self::finish`]: the peer sends to the end.
    async fn write(&mut self, bytes: &[u8]);

    /// Ends the data set and answers the request.
    async fn finish(self: Box<Self>) -> Response;
}

/// Begins to receive the data set of a request, in the way its service reads data sets.
pub(crate) fn receive<'a>(
    service: Option<&'static dyn Service>,
    request: Request<'a>,
) -> Box<dyn DataSetReceiver + 'a> {
    let Some(service) = service else {
        return Box::new(Discard(Response::unrecognized_operation()));
    };
    match service.offer().data_sets {
        DataSets::None => Box::new(Discard(Response::unrecognized_operation())),
        DataSets::InMemory { bytes_max } => Box::new(InMemory {
            service,
            bytes_max: bytes_max.min(request.association.data_set_bytes_max),
            request,
            bytes: Vec::new(),
            is_too_long: false,
        }),
        DataSets::Streamed => service.stream(request),
    }
}

/// Reads a data set to its end and answers what was settled before.
pub(crate) struct Discard(pub(crate) Response);

#[async_trait]
impl DataSetReceiver for Discard {
    async fn write(&mut self, _bytes: &[u8]) {}

    async fn finish(self: Box<Self>) -> Response {
        self.0
    }
}

/// Holds a data set in memory until it is complete.
struct InMemory<'a> {
    service: &'static dyn Service,
    request: Request<'a>,
    bytes_max: usize,
    bytes: Vec<u8>,
    /// The data set exceeds its limit: it is read to its end and dropped.
    is_too_long: bool,
}

#[async_trait]
impl DataSetReceiver for InMemory<'_> {
    async fn write(&mut self, bytes: &[u8]) {
        self.is_too_long |= self.bytes.len() + bytes.len() > self.bytes_max;
        if self.is_too_long {
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    async fn finish(self: Box<Self>) -> Response {
        if self.is_too_long {
            let comment = format!("the data set is longer than {} bytes", self.bytes_max);
            return Response::new(Status::PROCESSING_FAILURE, comment);
        }
        self.service.answer_with_data_set(&self.request, &self.bytes).await
    }
}

/// Something a service reports to the peer after its response, by N-EVENT-REPORT.
///
/// It is sent on the association of the request if it is ready in time and the association lasts.
/// Otherwise the service reports it in its own way.
#[async_trait]
pub(crate) trait Notification: Send + Sync {
    /// Identifies what is reported. Of two with the same key only the newer one is sent.
    fn key(&self) -> &str;

    /// The event report, once there is one. Called repeatedly.
    async fn ready(&self) -> Option<EventReport>;

    /// Ends the report that [`Self::ready`] has returned.
    async fn finish(&self, end: ReportEnd);
}

/// An N-EVENT-REPORT to send (PS3.7, 10.1.1).
pub(crate) struct EventReport {
    pub(crate) sop_class: &'static str,
    pub(crate) sop_instance: &'static str,
    /// Event Type ID (0000,1002).
    pub(crate) event_type: u16,
    /// The data set in the transfer syntax of the presentation context of the request.
    pub(crate) data_set: Vec<u8>,
}
