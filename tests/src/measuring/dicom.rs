//! Senders of instances at the full speed of a receiver.

use std::time::{Duration, Instant};

use dimse::Remote;
use simulators::phantom::Phantom;

/// A load on a receiver: instances of one size, sent on parallel associations.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Name of the size in tables.
    pub name: &'static str,
    /// Number of instances.
    pub instances: usize,
    /// Rows and columns of each instance, at two bytes per pixel.
    pub size: u16,
    /// Number of associations, which send equal shares of the instances.
    pub associations: usize,
}

impl Load {
    /// The files of each association, all of a study that no receiver has seen.
    pub fn shares(&self) -> Vec<Vec<Vec<u8>>> {
        (0..self.associations).map(|_| self.share()).collect()
    }

    fn share(&self) -> Vec<Vec<u8>> {
        let seed = uuid::Uuid::now_v7().to_string();
        let phantom = Phantom { seed, size: self.size, slices: 1, ..crate::study("") };
        let file = phantom.files().remove(0);
        let uid = phantom.instance_uid(0);
        let count = self.instances / self.associations;
        (0..count).map(|number| renumbered(&file, &uid, number)).collect()
    }
}

/// The same file as another instance of the series, with a UID of the same length.
pub fn renumbered(file: &[u8], uid: &str, number: usize) -> Vec<u8> {
    let prefix = uid.get(..uid.len() - 6).unwrap();
    let new_uid = format!("{prefix}{number:06}");
    replaced(file, uid.as_bytes(), new_uid.as_bytes())
}

fn replaced(file: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    // UIDs precede the pixels.
    let head = bytes.len().min(4096);
    let positions: Vec<usize> =
        (0..head.saturating_sub(old.len())).filter(|at| bytes[*at..].starts_with(old)).collect();
    assert!(!positions.is_empty(), "the file does not name its UID");
    for position in positions {
        bytes[position..position + old.len()].copy_from_slice(new);
    }
    bytes
}

/// Sends each share on an association of its own. Returns the time until the last release.
pub async fn store_all(remote: &Remote, shares: Vec<Vec<Vec<u8>>>) -> Duration {
    let start = Instant::now();
    let sending = shares.into_iter().map(|share| {
        let remote = remote.clone();
        tokio::spawn(async move {
            let share: Vec<&[u8]> = share.iter().map(Vec::as_slice).collect();
            remote.store(&share).await.unwrap();
        })
    });
    for sender in sending.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    start.elapsed()
}
