//! Turns: a bounded number of places, and who waits for one gets it in turn with everybody else, however
//! many of one sender wait (SEC-38).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Places, and who waits for them.
pub(crate) struct Turns(Arc<Mutex<State>>);

struct State {
    free: usize,
    /// Who waits, by sender, in the order in which they came.
    waiting: HashMap<String, VecDeque<oneshot::Sender<Place>>>,
    /// Senders of whom somebody waits. Whose turn it was goes to the end.
    next: VecDeque<String>,
}

/// A place, given back when dropped.
pub(crate) struct Place(Arc<Mutex<State>>);

impl Turns {
    /// So many places.
    pub(crate) fn new(places: usize) -> Self {
        let state = State { free: places, waiting: HashMap::new(), next: VecDeque::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Waits for a place.
    pub(crate) async fn take(&self, sender: &str) -> Place {
        let called = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free > 0 {
                state.free -= 1;
                return Place(Arc::clone(&self.0));
            }
            let (call, called) = oneshot::channel();
            let queue = state.waiting.entry(sender.to_owned()).or_default();
            queue.push_back(call);
            if queue.len() == 1 {
                state.next.push_back(sender.to_owned());
            }
            called
        };
        // Its other end goes only with a place sent through it.
        called.await.unwrap_or_else(|_| Place(Arc::clone(&self.0)))
    }
}

impl State {
    /// Who is next.
    fn call(&mut self) -> Option<oneshot::Sender<Place>> {
        let sender = self.next.pop_front()?;
        let queue = self.waiting.get_mut(&sender)?;
        let call = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&sender);
        } else {
            self.next.push_back(sender);
        }
        call
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(call) = state.call() else {
            state.free += 1;
            return;
        };
        drop(state);
        // If it has gone away meanwhile, the place comes back as it is dropped, and goes to the next.
        _ = call.send(Self(Arc::clone(&self.0)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn sec_38_a_sender_of_few_waits_for_its_turn_and_not_for_all_of_another() {
        let turns = Arc::new(Turns::new(1));
        let first = turns.take("busy").await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut all = tokio::task::JoinSet::new();
        for sender in ["busy", "busy", "busy", "other", "busy", "third"] {
            let (turns, order) = (Arc::clone(&turns), Arc::clone(&order));
            all.spawn(async move {
                let _place = turns.take(sender).await;
                order.lock().unwrap().push(sender);
                tokio::task::yield_now().await;
            });
            tokio::task::yield_now().await;
        }
        drop(first);
        all.join_all().await;
        assert_eq!(*order.lock().unwrap(), ["busy", "other", "third", "busy", "busy", "busy"]);
    }

    #[tokio::test]
    async fn sec_38_who_gives_up_waiting_takes_no_place_with_it() {
        let turns = Turns::new(1);
        let first = turns.take("a").await;
        let gone = tokio::time::timeout(Duration::from_millis(10), turns.take("b")).await;
        assert!(gone.is_err());
        drop(first);
        let again = tokio::time::timeout(Duration::from_secs(5), turns.take("c")).await;
        assert!(again.is_ok());
    }
}
