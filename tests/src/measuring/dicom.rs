//! Instances as fast as somebody takes them.

use std::time::{Duration, Instant};

use dimse::Remote;
use simulators::phantom::Phantom;

/// What is sent: so many instances of so many pixels each, with so many associations at once.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What it is called in tables.
    pub name: &'static str,
    /// How many instances.
    pub instances: usize,
    /// Rows and columns of each; two bytes a pixel.
    pub size: u16,
    /// How many associations share them.
    pub associations: usize,
}

impl Load {
    /// The files for each association, of a study of its own that nobody has seen yet.
    pub fn shares(&self) -> Vec<Vec<Vec<u8>>> {
        let each = self.instances / self.associations;
        let share = |_| {
            let (size, seed) = (self.size, uuid::Uuid::now_v7().to_string());
            let phantom = Phantom { seed, size, slices: 1, ..crate::study("") };
            let file = phantom.files().remove(0);
            let uid = phantom.instance_uid(0);
            (0..each).map(|it| renumbered(&file, &uid, it)).collect()
        };
        (0..self.associations).map(share).collect()
    }
}

/// The same file as another instance of the same series, whose UID is as long.
pub fn renumbered(file: &[u8], uid: &str, number: usize) -> Vec<u8> {
    let kept = uid.len() - 6;
    let fresh = format!("{}{:06}", uid.get(..kept).unwrap(), number);
    replaced(file, uid.as_bytes(), fresh.as_bytes())
}

fn replaced(file: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    // UIDs stand before the pixels.
    let head = bytes.len().min(4096);
    let places: Vec<usize> =
        (0..head.saturating_sub(old.len())).filter(|at| bytes[*at..].starts_with(old)).collect();
    assert!(!places.is_empty(), "the file does not name its UID");
    for at in places {
        bytes[at..at + old.len()].copy_from_slice(new);
    }
    bytes
}

/// Sends each share with an association of its own, and gives the time until the last was released.
pub async fn store_all(remote: &Remote, shares: Vec<Vec<Vec<u8>>>) -> Duration {
    let begin = Instant::now();
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
    begin.elapsed()
}
