//! Gives answers to storage commitment on associations of our own (PS3.4, J.3.3; DIN-32).

use std::collections::BTreeMap;

use async_trait::async_trait;
use contracts::{CommitmentReport, CommitmentReporter, Live, SendError};
use domain::AeTitle;

use crate::commitment_data::write_result;
use crate::config::Timers;
use crate::conversation::{Remote, ScuError, check, plainly};
use crate::message::{Command, EVENT_REPORT};
use crate::sop_class::{COMMITMENT, COMMITMENT_INSTANCE};

/// Calls peers back.
pub struct Reporter {
    /// Host and port of each peer that can be called back.
    addresses: Live<BTreeMap<AeTitle, String>>,
}

impl Reporter {
    /// Knows where these peers listen.
    pub fn new(addresses: BTreeMap<AeTitle, String>) -> Self {
        Self { addresses: Live::new(addresses) }
    }

    /// Knows where these peers listen, from now on.
    pub fn replace(&self, addresses: BTreeMap<AeTitle, String>) {
        self.addresses.set(addresses);
    }

    fn remote(&self, report: &CommitmentReport) -> Result<Remote, SendError> {
        let refused = |text: String| SendError::Retryable(text);
        let called: AeTitle = report.peer.parse().map_err(|_| {
            refused(format!("`{}` is no AE title that could be called", report.peer))
        })?;
        let calling = report.called_ae.parse();
        let calling = calling.map_err(|_| refused("we have no AE title".to_owned()))?;
        let addresses = self.addresses.get();
        let Some(address) = addresses.get(&called) else {
            return Err(refused(format!(
                "nobody knows where {called} listens: give its entry under `dicom.peers` an \
                 `address` (host:port)"
            )));
        };
        let (address, timers) = (address.clone(), Timers::default());
        Ok(Remote { address, called, calling, timers })
    }
}

#[async_trait]
impl CommitmentReporter for Reporter {
    async fn report(&self, report: &CommitmentReport) -> Result<(), SendError> {
        Ok(give(&self.remote(report)?, report).await?)
    }
}

async fn give(remote: &Remote, report: &CommitmentReport) -> Result<(), ScuError> {
    let wanted = plainly(COMMITMENT).collect();
    let mut conversation = remote.associate(&wanted, &[COMMITMENT]).await?;
    let (context, syntax) = conversation.context(COMMITMENT, None)?;
    let (kind, data_set) = write_result(&report.result, &syntax);
    let request = Command::request(context, EVENT_REPORT, 0, COMMITMENT, COMMITMENT_INSTANCE);
    let response = conversation.ask(request.of_kind(kind), &data_set).await?;
    conversation.release().await;
    check(&response)
}
