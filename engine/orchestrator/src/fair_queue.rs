//! A fair queue: a bounded number of permits, handed out in turn by sender.
//!
//! The intake makes a bounded number of instances and messages durable at once. Whoever comes then
//! waits. A sender with a thousand waiting instances gets one permit per round, as does a sender
//! with a single one, so that no sender can starve another (SEC-38). [`tokio::sync::Semaphore`]
//! serves in order of arrival and knows no senders.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// A bounded number of [`Permit`]s, and the callers that wait for one.
pub(crate) struct FairQueue(Arc<Mutex<State>>);

struct State {
    /// Permits that nobody holds. Zero whenever somebody waits.
    free: usize,
    /// Waiting callers by sender, in order of arrival. No queue in it is empty.
    waiting: HashMap<String, VecDeque<oneshot::Sender<Permit>>>,
    /// The senders in `waiting`, in the order in which they are served.
    rotation: VecDeque<String>,
}

/// The right to go on. It goes to the next waiting caller when it is dropped.
pub(crate) struct Permit(Arc<Mutex<State>>);

impl FairQueue {
    /// A queue with this number of permits.
    pub(crate) fn new(permits: usize) -> Self {
        let state = State { free: permits, waiting: HashMap::new(), rotation: VecDeque::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Waits for a permit. Dropping the future leaves the queue.
    pub(crate) async fn acquire(&self, sender: &str) -> Permit {
        let granted = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free > 0 {
                state.free -= 1;
                return Permit(Arc::clone(&self.0));
            }
            state.enqueue(sender)
        };
        // The queue drops its end of the channel only after it sent a permit through it.
        granted.await.unwrap_or_else(|_| Permit(Arc::clone(&self.0)))
    }
}

impl State {
    fn enqueue(&mut self, sender: &str) -> oneshot::Receiver<Permit> {
        let (grant, granted) = oneshot::channel();
        let queue = self.waiting.entry(sender.to_owned()).or_default();
        queue.push_back(grant);
        if queue.len() == 1 {
            self.rotation.push_back(sender.to_owned());
        }
        granted
    }

    /// Removes the caller that is served next. Its sender goes to the end of the rotation.
    fn dequeue(&mut self) -> Option<oneshot::Sender<Permit>> {
        let sender = self.rotation.pop_front()?;
        let queue = self.waiting.get_mut(&sender)?;
        let grant = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&sender);
        } else {
            self.rotation.push_back(sender);
        }
        grant
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(grant) = state.dequeue() else {
            state.free += 1;
            return;
        };
        drop(state);
        // If the caller has left meanwhile, the permit is dropped here and goes to the one after.
        _ = grant.send(Self(Arc::clone(&self.0)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn sec_38_a_sender_of_few_waits_for_its_turn_and_not_for_all_of_another() {
        let queue = Arc::new(FairQueue::new(1));
        let first = queue.acquire("busy").await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut callers = tokio::task::JoinSet::new();
        for sender in ["busy", "busy", "busy", "other", "busy", "third"] {
            let queue = Arc::clone(&queue);
            let order = Arc::clone(&order);
            callers.spawn(async move {
                let _permit = queue.acquire(sender).await;
                order.lock().unwrap().push(sender);
                tokio::task::yield_now().await;
            });
            tokio::task::yield_now().await;
        }
        drop(first);
        callers.join_all().await;
        assert_eq!(*order.lock().unwrap(), ["busy", "other", "third", "busy", "busy", "busy"]);
    }

    #[tokio::test]
    async fn sec_38_a_caller_that_leaves_the_queue_takes_no_permit_with_it() {
        let queue = FairQueue::new(1);
        let first = queue.acquire("a").await;
        let left = tokio::time::timeout(Duration::from_millis(10), queue.acquire("b")).await;
        assert!(left.is_err());
        drop(first);
        let next = tokio::time::timeout(Duration::from_secs(5), queue.acquire("c")).await;
        assert!(next.is_ok());
    }

    #[tokio::test]
    async fn permits_come_back_when_nobody_waits() {
        let queue = FairQueue::new(2);
        let permits = (queue.acquire("a").await, queue.acquire("a").await);
        assert_eq!(queue.0.lock().unwrap().free, 0);
        drop(permits);
        let state = queue.0.lock().unwrap();
        assert_eq!(state.free, 2);
        assert!(state.waiting.is_empty() && state.rotation.is_empty());
    }
}
