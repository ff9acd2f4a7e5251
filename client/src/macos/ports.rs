//! This task's exception ports, and the rights that come and go with them.

use mach2::exception_types::{exception_behavior_t, exception_mask_t};
use mach2::kern_return::{KERN_SUCCESS, kern_return_t};
use mach2::mach_port::mach_port_deallocate;
use mach2::port::{MACH_PORT_DEAD, MACH_PORT_NULL, mach_port_t};
use mach2::task::{task_get_exception_ports, task_set_exception_ports, task_swap_exception_ports};
use mach2::thread_status::thread_state_flavor_t;
use mach2::traps::mach_task_self;

use super::facts;
use crate::error::Error;

unsafe extern "C" {
    /// `osfmk/mach/mach_port.defs`; mach2 doesn't have it.
    fn mach_port_type(space: mach_port_t, name: mach_port_t, kinds: *mut u32) -> kern_return_t;
}

/// `MACH_PORT_TYPE_RECEIVE` (osfmk/mach/port.h): this process receives on the port.
pub(super) const RECEIVE: u32 = 1 << (1 + 16);
/// `MACH_PORT_TYPE_DEAD_NAME`: the port is dead.
const DEAD_NAME: u32 = 1 << (4 + 16);

/// What a name stands for; 0 if for nothing.
pub(super) fn kinds(name: mach_port_t) -> u32 {
    let mut kinds = 0;
    // SAFETY: plain numbers, and one to write to, which stays as it is where there is no such name.
    unsafe { mach_port_type(mach_task_self(), name, &mut kinds) };
    kinds
}

/// Whether a right's port has died.
pub(super) fn is_dead(name: mach_port_t) -> bool {
    kinds(name) & DEAD_NAME != 0
}

/// Entries that there may be. Each exception type that is asked for may have one of its own, of which there are five; and one
/// more, since the kernel stops setting ports when its caller's array is full.
const ARRAY: usize = 6;

/// No thread state in the messages.
const NO_FLAVOR: thread_state_flavor_t = 0;

/// One send right, given back when dropped.
pub(super) struct SendRight(mach_port_t);

impl SendRight {
    /// Takes over a right that the caller owns.
    pub(super) fn from_name(name: mach_port_t) -> SendRight {
        SendRight(name)
    }

    pub(super) fn name(&self) -> mach_port_t {
        self.0
    }

    /// Gives the right to the caller.
    pub(super) fn into_name(self) -> mach_port_t {
        let name = self.0;
        core::mem::forget(self);
        name
    }
}

impl Drop for SendRight {
    fn drop(&mut self) {
        if is_right(self.0) {
            // SAFETY: plain numbers. The right is owned, and dead names are given back the same way.
            unsafe { mach_port_deallocate(mach_task_self(), self.0) };
        }
    }
}

pub(super) const fn is_right(name: mach_port_t) -> bool {
    name != MACH_PORT_NULL && name != MACH_PORT_DEAD
}

/// Who gets some of the exceptions, and how.
pub(super) struct Entry {
    pub(super) mask: exception_mask_t,
    pub(super) port: mach_port_t,
    pub(super) behaviour: u32,
    pub(super) flavor: thread_state_flavor_t,
}

/// Exception ports as the kernel lists them: types with the same port, behaviour and flavour share an entry. Each port that is
/// one stands for a send right, to be given back by [`Table::release`].
#[derive(Clone, Copy)]
pub(super) struct Table {
    masks: [exception_mask_t; ARRAY],
    ports: [mach_port_t; ARRAY],
    behaviours: [exception_behavior_t; ARRAY],
    flavors: [thread_state_flavor_t; ARRAY],
    count: u32,
}

impl Table {
    /// Without entries.
    pub(super) const fn new() -> Table {
        Table {
            masks: [0; ARRAY],
            ports: [MACH_PORT_NULL; ARRAY],
            behaviours: [0; ARRAY],
            flavors: [NO_FLAVOR; ARRAY],
            count: 0,
        }
    }

    /// One entry.
    // Not inlined: that unrolls every loop over the entries.
    #[inline(never)]
    fn entry(&self, index: usize) -> Option<Entry> {
        if index >= ARRAY.min(self.count as usize) {
            return None;
        }
        Some(Entry {
            mask: self.masks[index],
            port: self.ports[index],
            behaviour: self.behaviours[index] as u32,
            flavor: self.flavors[index],
        })
    }

    fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..).map_while(|index| self.entry(index))
    }

    /// The entries of somebody else than `service`.
    pub(super) fn elsewhere(&self, service: mach_port_t) -> impl Iterator<Item = Entry> + '_ {
        self.entries().filter(move |entry| is_right(entry.port) && entry.port != service)
    }

    /// Sets again, of the exceptions in `mask`, what this table says.
    pub(super) fn restore(&self, mask: exception_mask_t) {
        // Where nobody was, or is any more, nobody is: that is set last, with a behaviour that no process is killed for.
        let mut left = mask;
        let mut classic = None;
        for entry in self.elsewhere(MACH_PORT_NULL) {
            let bits = entry.mask & mask;
            // Another reporter's classic registration, perhaps inherited: to set that again kills a hardened process.
            let may_set = super::is_protected(entry.behaviour) || *classic.get_or_insert_with(facts::may_be_classic);
            if may_set && set_as(bits, entry.port, entry.behaviour, entry.flavor) == KERN_SUCCESS {
                left &= !bits;
            }
        }
        set_as(left, MACH_PORT_NULL, super::behaviour(crate::Identity::Protected), NO_FLAVOR);
    }

    /// Gives the rights back.
    #[inline(never)]
    pub(super) fn release(&self) {
        for entry in self.entries() {
            drop(SendRight::from_name(entry.port));
        }
    }
}

/// Sets the ports for `mask`. The kernel copies the send right: the caller's own stays its own.
pub(super) fn set(mask: exception_mask_t, port: mach_port_t, behaviour: u32) -> Result<(), kern_return_t> {
    match set_as(mask, port, behaviour, NO_FLAVOR) {
        KERN_SUCCESS => Ok(()),
        result => Err(result),
    }
}

fn set_as(mask: exception_mask_t, port: mach_port_t, behaviour: u32, flavor: thread_state_flavor_t) -> kern_return_t {
    if mask == 0 {
        return KERN_SUCCESS;
    }
    // SAFETY: plain numbers about this task.
    unsafe { task_set_exception_ports(mach_task_self(), mask, port, behaviour as exception_behavior_t, flavor) }
}

/// Whose some exceptions are.
pub(super) struct Held {
    /// They go to the port, with the behaviour; or to a dead one with it, which has no name any more.
    pub(super) ours: exception_mask_t,
    /// They go to somebody else who is alive.
    pub(super) taken: exception_mask_t,
}

/// Whose the exceptions in `mask` are, if `port` and `behaviour` are ours.
#[inline(never)]
pub(super) fn held(mask: exception_mask_t, port: mach_port_t, behaviour: u32) -> Result<Held, Error> {
    let mut table = Table::new();
    current(mask, &mut table)?;
    let mut held = Held { ours: 0, taken: 0 };
    for entry in table.entries() {
        let bits = entry.mask & mask;
        if is_right(entry.port) && entry.port != port {
            held.taken |= bits;
        } else if entry.port != MACH_PORT_NULL && entry.behaviour == behaviour {
            held.ours |= bits;
        }
    }
    table.release();
    Ok(held)
}

/// Who gets the exceptions in `mask`. The caller owns the table's rights.
pub(super) fn current(mask: exception_mask_t, table: &mut Table) -> Result<(), Error> {
    table.count = ARRAY as u32;
    // SAFETY: numbers about this task, and arrays that hold what their count says.
    let result = unsafe {
        task_get_exception_ports(
            mach_task_self(),
            mask,
            table.masks.as_mut_ptr(),
            &mut table.count,
            table.ports.as_mut_ptr(),
            table.behaviours.as_mut_ptr(),
            table.flavors.as_mut_ptr(),
        )
    };
    if result == KERN_SUCCESS { Ok(()) } else { Err(super::set_error(result)) }
}

/// Sets the ports for `mask`, and has those from before in `table`. The caller owns the table's rights.
pub(super) fn swap(mask: exception_mask_t, port: mach_port_t, behaviour: u32, table: &mut Table) -> kern_return_t {
    table.count = ARRAY as u32;
    // SAFETY: as above.
    unsafe {
        task_swap_exception_ports(
            mach_task_self(),
            mask,
            port,
            behaviour as exception_behavior_t,
            NO_FLAVOR,
            table.masks.as_mut_ptr(),
            &mut table.count,
            table.ports.as_mut_ptr(),
            table.behaviours.as_mut_ptr(),
            table.flavors.as_mut_ptr(),
        )
    }
}
