//! The owner of one right.

use std::panic::Location;
use std::sync::Arc;

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::PortName;

use super::{Group, Ledger, PortSpace, Right};

/// Where rights come from: a name space, and the ledger that counts what was taken of it.
#[derive(Clone)]
pub struct Rights {
    space: Arc<dyn PortSpace>,
    ledger: Arc<Ledger>,
}

impl Rights {
    /// Rights in `space`, counted in `ledger`.
    pub fn new(space: Arc<dyn PortSpace>, ledger: Arc<Ledger>) -> Rights {
        Rights { space, ledger }
    }

    /// The same space with a ledger opened within this one: for one crash, or one client.
    pub fn scope(&self) -> Rights {
        Rights { space: Arc::clone(&self.space), ledger: Arc::new(Ledger::within(&self.ledger)) }
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Takes over a right that the kernel has just given to this process; `None` for the null and the dead name, which are no
    /// rights. Whoever calls must own the right: it is given back when the [`Port`] goes.
    #[track_caller]
    pub fn adopt(&self, group: Group, right: Right, name: PortName) -> Option<Port> {
        if !name.is_valid() {
            return None;
        }
        let place = Location::caller();
        self.ledger.retained(group, place);
        Some(Port { name, right, group, place, rights: self.clone(), owned: true })
    }
}

/// One right, given back when it goes out of scope.
pub struct Port {
    name: PortName,
    right: Right,
    group: Group,
    place: &'static Location<'static>,
    rights: Rights,
    owned: bool,
}

impl Port {
    /// Its name, to use while the right is held.
    pub fn name(&self) -> PortName {
        self.name
    }

    /// Which right it is.
    pub fn right(&self) -> Right {
        self.right
    }

    /// Gives the right to somebody else: the kernel, by a call that consumed it.
    pub fn give_away(mut self) -> PortName {
        self.rights.ledger.released(self.group, self.place);
        self.owned = false;
        self.name
    }

    /// The same right, counted by another ledger: it outlives what it came with.
    #[track_caller]
    pub fn recounted(mut self, rights: &Rights, group: Group) -> Port {
        self.rights.ledger.released(self.group, self.place);
        self.owned = false;
        let place = Location::caller();
        rights.ledger.retained(group, place);
        Port { name: self.name, right: self.right, group, place, rights: rights.clone(), owned: true }
    }

    /// The same right under the name that it has now: a message that could not be sent brought it back. `None` if it did not
    /// come back.
    pub fn renamed(mut self, name: PortName) -> Option<Port> {
        if !name.is_valid() {
            self.give_away();
            return None;
        }
        self.name = name;
        Some(self)
    }

    /// Another right of the same name, for `group`.
    ///
    /// Errors: the kernel's; only send rights can be had twice, and not once their port has died.
    #[track_caller]
    pub fn duplicate(&self, group: Group) -> Result<Port, KernReturn> {
        self.rights.space.retain_send(self.name)?;
        let place = Location::caller();
        self.rights.ledger.retained(group, place);
        Ok(Port { name: self.name, right: Right::Send, group, place, rights: self.rights.clone(), owned: true })
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        let result = match self.right {
            Right::Send | Right::SendOnce | Right::DeadName => self.rights.space.deallocate(self.name),
            Right::Receive => self.rights.space.destroy_receive(self.name),
            Right::PortSet => self.rights.space.destroy_set(self.name),
        };
        match result {
            Ok(()) => self.rights.ledger.released(self.group, self.place),
            Err(_) => self.rights.ledger.refused(self.group),
        }
    }
}
