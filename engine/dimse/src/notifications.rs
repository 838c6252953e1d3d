//! Event reports that services owe a peer on the association of its request (DIN-32).

use std::time::{Duration, Instant};

use contracts::ReportEnd;

use crate::message::{Command, CommandField, Status};
use crate::services::{EventReport, Notification};

/// How long after a request its event report may be sent on the same association. After that the
/// service reports on an association of its own.
const REPLY_WINDOW: Duration = Duration::from_secs(5);

/// How often a service is asked whether its report is ready.
const REPLY_POLL: Duration = Duration::from_millis(100);

/// The event reports of one association: those to come, and the one in flight.
#[derive(Default)]
pub(crate) struct Notifications {
    pending: Vec<Pending>,
    in_flight: Option<InFlight>,
    last_message_id: u16,
}

/// A notification that may still be sent.
struct Pending {
    context_id: u8,
    deadline: Instant,
    notification: Box<dyn Notification>,
}

/// A report that the peer has not acknowledged yet.
struct InFlight {
    message_id: u16,
    notification: Box<dyn Notification>,
}

/// A notification whose report can be sent now.
pub(crate) struct Ready {
    context_id: u8,
    notification: Box<dyn Notification>,
    report: EventReport,
}

/// The message of a report.
pub(crate) struct ReportMessage {
    pub(crate) command: Command,
    pub(crate) data_set: Vec<u8>,
}

impl Notifications {
    /// Adds what a service will report to the peer, on the presentation context of the request.
    pub(crate) fn add(&mut self, context_id: u8, notification: Box<dyn Notification>) {
        self.pending.retain(|it| it.notification.key() != notification.key());
        let deadline = Instant::now() + REPLY_WINDOW;
        self.pending.push(Pending { context_id, deadline, notification });
    }

    /// Whether a report may be sent as soon as it is ready: one at a time is in flight.
    pub(crate) fn is_waiting(&self) -> bool {
        self.in_flight.is_none() && !self.pending.is_empty()
    }

    /// Waits for a report to be ready. Nothing, once the deadline of all has passed.
    pub(crate) async fn next_ready(&mut self) -> Option<Ready> {
        loop {
            self.pending.retain(|it| it.deadline > Instant::now());
            if self.pending.is_empty() {
                return None;
            }
            for index in 0..self.pending.len() {
                let Some(pending) = self.pending.get(index) else { break };
                if let Some(report) = pending.notification.ready().await {
                    let Pending { context_id, notification, .. } = self.pending.remove(index);
                    return Some(Ready { context_id, notification, report });
                }
            }
            tokio::time::sleep(REPLY_POLL).await;
        }
    }

    /// Notes that a report is in flight, and returns the message to send.
    pub(crate) fn begin(&mut self, ready: Ready) -> ReportMessage {
        let Ready { context_id, notification, report } = ready;
        self.last_message_id = self.last_message_id.wrapping_add(1);
        let message_id = self.last_message_id;
        self.in_flight = Some(InFlight { message_id, notification });
        let EventReport { sop_class, sop_instance, event_type, data_set } = report;
        let field = CommandField::N_EVENT_REPORT;
        let command = Command::request(context_id, field, message_id, sop_class, sop_instance);
        ReportMessage { command: command.with_type_id(event_type), data_set }
    }

    /// Ends the report that `response` answers. False if no such report is in flight.
    pub(crate) async fn acknowledge(&mut self, response: &Command) -> bool {
        let is_answered = |it: &mut InFlight| it.message_id == response.message_id;
        let Some(answered) = self.in_flight.take_if(is_answered) else { return false };
        let end = if response.status == Status::SUCCESS {
            ReportEnd::Reported
        } else {
            ReportEnd::NotReported(format!("the peer answered {:#06x}", response.status.0))
        };
        answered.notification.finish(end).await;
        true
    }

    /// Ends the report in flight: the peer can no longer acknowledge it.
    pub(crate) async fn association_ended(self) {
        if let Some(unanswered) = self.in_flight {
            let end = ReportEnd::NotReported("the association ended before".to_owned());
            unanswered.notification.finish(end).await;
        }
    }
}
