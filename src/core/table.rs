//! The connections of one core, by place.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::broker::ConnectionId;
use crate::connection::Connection;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: RefCell<Vec<Option<Rc<Connection>>>>,
    free: RefCell<Vec<u32>>,
    made: Cell<u32>,
}

impl Table {
    /// Puts the connection that `make` makes into a free place of core `core`.
    pub(super) fn insert(
        &self,
        core: usize,
        make: impl FnOnce(ConnectionId) -> Rc<Connection>,
    ) -> Rc<Connection> {
        let mut places = self.places.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            places.push(None);
            u32::try_from(places.len() - 1).expect("fewer connections than file descriptors")
        });
        let times = self.made.get().wrapping_add(1);
        self.made.set(times);
        let connection = make(ConnectionId::new(core, slot, times));
        places[slot as usize] = Some(Rc::clone(&connection));
        connection
    }

    /// Frees a place.
    pub(super) fn remove(&self, slot: u32) {
        if let Some(place) = self.places.borrow_mut().get_mut(slot as usize)
            && place.take().is_some()
        {
            self.free.borrow_mut().push(slot);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.borrow().len() == self.free.borrow().len()
    }

    /// Places, taken or free.
    pub(super) fn places(&self) -> usize {
        self.places.borrow().len()
    }

    /// The connection at a place.
    pub(super) fn at(&self, slot: u32) -> Option<Rc<Connection>> {
        self.places.borrow().get(slot as usize)?.clone()
    }

    /// Gives the connection with `id` to `use_it`, if it is still there.
    pub(super) fn with<R>(
        &self,
        id: ConnectionId,
        use_it: impl FnOnce(&Rc<Connection>) -> R,
    ) -> Option<R> {
        let places = self.places.borrow();
        let connection = places.get(id.slot())?.as_ref()?;
        (connection.id() == id).then(|| use_it(connection))
    }

    /// Every connection.
    pub(super) fn all(&self) -> Vec<Rc<Connection>> {
        self.places.borrow().iter().flatten().cloned().collect()
    }
}
