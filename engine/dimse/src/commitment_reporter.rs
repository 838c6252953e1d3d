//! Reports results of storage commitment on associations of our own (PS3.4, J.3.3; DIN-32).
//!
//! This happens when a result was not known while the association of its request lasted.

use std::collections::BTreeMap;

use async_trait::async_trait;
use contracts::{CommitmentReport, CommitmentReporter, Live, SendError};
use domain::AeTitle;

use crate::client_association::{Remote, ScuError, check, uncompressed};
use crate::commitment_data::write_result;
use crate::config::Timers;
use crate::message::{Command, CommandField};
use crate::presentation_context::Role;
use crate::sop_class::{COMMITMENT, COMMITMENT_INSTANCE};

/// Opens associations to peers and reports results of storage commitment to them.
pub struct Reporter {
    /// Host and port where each peer listens.
    addresses: Live<BTreeMap<AeTitle, String>>,
}

impl Reporter {
    /// A reporter that knows where these peers listen: host and port by AE title.
    pub fn new(addresses: BTreeMap<AeTitle, String>) -> Self {
        Self { addresses: Live::new(addresses) }
    }

    /// Replaces the addresses, for reports from now on.
    pub fn replace(&self, addresses: BTreeMap<AeTitle, String>) {
        self.addresses.set(addresses);
    }

    fn remote(&self, report: &CommitmentReport) -> Result<Remote, SendError> {
        let called: AeTitle = report.peer.parse().map_err(|_| {
            SendError::Retryable(format!("`{}` is no AE title that could be called", report.peer))
        })?;
        let calling = report.called_ae.parse();
        let calling =
            calling.map_err(|_| SendError::Retryable("we have no AE title".to_owned()))?;
        let addresses = self.addresses.get();
        let Some(address) = addresses.get(&called) else {
            return Err(SendError::Retryable(format!(
                "nobody knows where {called} listens: give its entry under `dicom.peers` an \
                 `address` (host:port)"
            )));
        };
        Ok(Remote { address: address.clone(), called, calling, timers: Timers::default() })
    }
}

#[async_trait]
impl CommitmentReporter for Reporter {
    async fn report(&self, report: &CommitmentReport) -> Result<(), SendError> {
        Ok(send_report(&self.remote(report)?, report).await?)
    }
}

async fn send_report(remote: &Remote, report: &CommitmentReport) -> Result<(), ScuError> {
    let proposed = uncompressed(COMMITMENT, Role::Scp).collect();
    let mut association = remote.associate(&proposed).await?;
    let context = association.context(COMMITMENT, None)?.clone();
    let result = write_result(&report.result, &context.transfer_syntax);
    let field = CommandField::N_EVENT_REPORT;
    let request = Command::request(context.id, field, 0, COMMITMENT, COMMITMENT_INSTANCE);
    let request = request.with_type_id(result.event_type);
    let response = association.request(request, &result.data_set).await?;
    association.release().await;
    check(&response)
}
