//! Sockets that are not `WebSocket`s: silent ones, refused ones, REST.
//!
//! They have a share of the descriptors. When it is full, the one that has been silent for longest
//! (no complete request yet, or none since its last answer) is closed for the new one: whoever asks
//! gets in, however many sockets say nothing. Nobody is silent before its core has looked at it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::yield_now;

/// How long a core may take to close a socket before another one has to go.
const LEAVE_TIME_MAX: Duration = Duration::from_millis(50);

/// When nobody is silent for so long, the one that has been busy for longest has to go: a client
/// that does not take its answer may not keep the others out.
const BUSY_TIME_MAX: Duration = Duration::from_secs(1);

/// All of them. Entered by the acceptor, left on the cores.
#[derive(Debug)]
pub(super) struct Lobby {
    guests_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    guests: usize,
    /// Counts changes: a smaller key has not changed for longer.
    changes: u64,
    /// Acceptors that wait for a place. While none does, no change costs a system call.
    awaiting: usize,
    silent: BTreeMap<u64, Arc<Notify>>,
    busy: BTreeMap<u64, Arc<Notify>>,
}

impl Lobby {
    pub(super) fn new(guests_max: usize) -> Self {
        Self {
            guests_max,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a socket that was accepted; blocks until there is one. Its core makes a
    /// [`Guest`] of it.
    pub(super) fn enter(&self) {
        let since = Instant::now();
        let mut state = self.state();
        while state.guests >= self.guests_max {
            let longest = state.silent.pop_first().or_else(|| {
                let is_long = since.elapsed() >= BUSY_TIME_MAX;
                is_long.then(|| state.busy.pop_first()).flatten()
            });
            if let Some((_, leave)) = longest {
                leave.notify_one();
            }
            state.awaiting += 1;
            let waited = self.changed.wait_timeout(state, LEAVE_TIME_MAX);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.awaiting -= 1;
        }
        state.guests += 1;
    }

    /// Gives back a place that no core has made a guest of.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.guests -= 1;
        self.tell(state);
    }

    /// Lets go of `state`, which has changed, and tells an acceptor if one waits for that.
    fn tell(&self, state: MutexGuard<'_, State>) {
        let is_awaited = state.awaiting > 0;
        drop(state);
        if is_awaited {
            self.changed.notify_one();
        }
    }
}

/// One socket in the lobby, on its core.
#[derive(Debug)]
pub(super) struct Guest {
    lobby: Arc<Lobby>,
    leave: Arc<Notify>,
    key: Cell<u64>,
    has_asked: Cell<bool>,
    has_moved: Cell<bool>,
}

impl Guest {
    /// The guest behind a place that was taken with [`Lobby::enter`].
    pub(super) fn new(lobby: Arc<Lobby>) -> Self {
        let guest = Self {
            lobby,
            leave: Arc::default(),
            key: Cell::new(0),
            has_asked: Cell::new(false),
            has_moved: Cell::new(false),
        };
        guest.change(|state| &mut state.busy);
        guest
    }

    /// Goes to another thread, which makes a guest of the same place.
    pub(super) fn move_on(self) {
        self.has_moved.set(true);
    }

    /// A request has come.
    pub(super) fn ask(&self) {
        self.has_asked.set(true);
        self.change(|state| &mut state.busy);
    }

    /// It has been answered: nothing is owed to this client, and nothing has come from it.
    pub(super) fn fall_silent(&self) {
        self.change(|state| &mut state.silent);
    }

    /// Moves to the end of one of the two lists.
    fn change(&self, list: impl FnOnce(&mut State) -> &mut BTreeMap<u64, Arc<Notify>>) {
        let mut state = self.lobby.state();
        let old = self.key.get();
        state.silent.remove(&old);
        state.busy.remove(&old);
        state.changes += 1;
        let key = state.changes;
        list(&mut state).insert(key, Arc::clone(&self.leave));
        self.key.set(key);
        self.lobby.tell(state);
    }

    /// Resolves when this guest has to go.
    pub(super) async fn asked_to_leave(&self) {
        // A turn of the reactor: what had come with the socket has been read now.
        yield_now().await;
        if !self.has_asked.get() {
            self.fall_silent();
        }
        loop {
            self.leave.notified().await;
            // Perhaps its request was there and only not read yet.
            yield_now().await;
            let state = self.lobby.state();
            let key = self.key.get();
            if !state.silent.contains_key(&key) && !state.busy.contains_key(&key) {
                return;
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut state = self.lobby.state();
        state.silent.remove(&self.key.get());
        state.busy.remove(&self.key.get());
        drop(state);
        if !self.has_moved.get() {
            self.lobby.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(1);

    fn enter(lobby: &Arc<Lobby>) -> Guest {
        lobby.enter();
        Guest::new(Arc::clone(lobby))
    }

    /// Enters on another thread, as the acceptor does, and waits for it here.
    async fn enter_full(lobby: &Arc<Lobby>) -> Guest {
        let entering = Arc::clone(lobby);
        let entered = tokio::task::spawn_blocking(move || entering.enter());
        entered.await.expect("it does not panic");
        Guest::new(Arc::clone(lobby))
    }

    async fn must_leave(guest: &Guest) -> bool {
        timeout(AT_ONCE, guest.asked_to_leave()).await.is_ok()
    }

    #[tokio::test]
    async fn the_longest_silent_one_makes_room() {
        let lobby = Arc::new(Lobby::new(3));
        let [asking, first, second] = [(); 3].map(|()| enter(&lobby));
        for guest in [&asking, &first, &second] {
            assert!(!must_leave(guest).await);
        }
        asking.ask();
        let leaving = async {
            first.asked_to_leave().await;
            drop(first);
        };
        let (_third, ()) = tokio::join!(enter_full(&lobby), leaving);
        assert!(!must_leave(&asking).await && !must_leave(&second).await);
    }

    #[tokio::test]
    async fn who_asked_in_the_meantime_stays() {
        let lobby = Arc::new(Lobby::new(2));
        let [first, second] = [(); 2].map(|()| enter(&lobby));
        first.fall_silent();
        second.fall_silent();
        let entering = Arc::clone(&lobby);
        let entered = tokio::task::spawn_blocking(move || entering.enter());
        while lobby.state().silent.len() == 2 {
            yield_now().await;
        }
        first.ask();
        assert!(!must_leave(&first).await);
        second.asked_to_leave().await;
        drop(second);
        entered.await.expect("it does not panic");
    }

    #[tokio::test]
    async fn where_nobody_is_silent_the_longest_busy_one_goes() {
        let lobby = Arc::new(Lobby::new(1));
        let busy = enter(&lobby);
        busy.ask();
        let leaving = async {
            busy.asked_to_leave().await;
            drop(busy);
        };
        tokio::join!(enter_full(&lobby), leaving);
        assert_eq!(lobby.state().busy.len(), 0);
    }
}
