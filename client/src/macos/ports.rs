//! This task's exception ports, and the rights that come and go with them.

use mach2::exception_types::{exception_behavior_t, exception_mask_t};
use mach2::kern_return::{KERN_SUCCESS, kern_return_t};
use mach2::mach_port::mach_port_deallocate;
use mach2::port::{MACH_PORT_DEAD, MACH_PORT_NULL, mach_port_t};
use mach2::task::{task_get_exception_ports, task_set_exception_ports, task_swap_exception_ports};
use mach2::thread_status::thread_state_flavor_t;
use mach2::traps::mach_task_self;

use super::NOBODY;

/// `EXC_TYPES_COUNT` (osfmk/mach/exception_types.h): no task has more entries than exception types.
const TYPES: usize = 14;
/// What the interface's arrays hold (`exception_mask_array_t`, osfmk/mach/mach_types.defs). The kernel stops setting ports
/// when its caller's array is full, so it gets the whole.
const ARRAY: usize = 32;

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

const fn is_right(name: mach_port_t) -> bool {
    name != MACH_PORT_NULL && name != MACH_PORT_DEAD
}

/// Who gets some of the exceptions, and how.
#[derive(Clone, Copy)]
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
    entries: [Entry; TYPES],
}

impl Table {
    /// Sets again, of the exceptions in `mask`, what this table says.
    pub(super) fn restore(&self, mask: exception_mask_t) {
        let mut left = mask;
        for entry in &self.entries {
            let bits = entry.mask & mask;
            // A dead port would be stored as dead; nobody is the same to the kernel, and no surprise to a later reader.
            let port = if entry.port == MACH_PORT_DEAD { MACH_PORT_NULL } else { entry.port };
            if bits != 0 && set_as(bits, port, entry.behaviour, entry.flavor) == KERN_SUCCESS {
                left &= !bits;
            }
        }
        // What can't be restored is still not ours: whatever happens, the service is not told of it any more.
        if left != 0 {
            set_as(left, MACH_PORT_NULL, super::behaviour(crate::Identity::Protected), NO_FLAVOR);
        }
    }

    /// Gives the rights back.
    pub(super) fn release(&self) {
        for entry in &self.entries {
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

/// Sets the ports for `mask` and returns those from before.
pub(super) fn swap(mask: exception_mask_t, port: &SendRight, behaviour: u32) -> Result<Table, kern_return_t> {
    Arrays::filled(|arrays| {
        // SAFETY: the arrays hold what their count says.
        unsafe {
            task_swap_exception_ports(
                mach_task_self(),
                mask,
                port.name(),
                behaviour as exception_behavior_t,
                NO_FLAVOR,
                arrays.masks.as_mut_ptr(),
                &mut arrays.count,
                arrays.ports.as_mut_ptr(),
                arrays.behaviours.as_mut_ptr(),
                arrays.flavors.as_mut_ptr(),
            )
        }
    })
}

/// Which of `mask` go to this port with this behaviour.
pub(super) fn held_by(
    mask: exception_mask_t,
    port: &SendRight,
    behaviour: u32,
) -> Result<exception_mask_t, kern_return_t> {
    fold(mask, |entry| entry.port == port.name() && entry.behaviour == behaviour)
}

/// Which of `mask` go to nobody, to a dead port, or to this one.
pub(super) fn free_for(mask: exception_mask_t, port: mach_port_t) -> Result<exception_mask_t, kern_return_t> {
    fold(mask, |entry| !is_right(entry.port) || entry.port == port)
}

fn fold(mask: exception_mask_t, of_interest: impl Fn(&Entry) -> bool) -> Result<exception_mask_t, kern_return_t> {
    let table = Arrays::filled(|arrays| {
        // SAFETY: the arrays hold what their count says.
        unsafe {
            task_get_exception_ports(
                mach_task_self(),
                mask,
                arrays.masks.as_mut_ptr(),
                &mut arrays.count,
                arrays.ports.as_mut_ptr(),
                arrays.behaviours.as_mut_ptr(),
                arrays.flavors.as_mut_ptr(),
            )
        }
    })?;
    let bits = table.entries.iter().filter(|entry| of_interest(entry)).fold(0, |bits, entry| bits | entry.mask);
    table.release();
    Ok(bits & mask)
}

/// Room for what the kernel returns.
struct Arrays {
    masks: [exception_mask_t; ARRAY],
    ports: [mach_port_t; ARRAY],
    behaviours: [exception_behavior_t; ARRAY],
    flavors: [thread_state_flavor_t; ARRAY],
    count: u32,
}

impl Arrays {
    /// The table that `call` fills in.
    fn filled(call: impl FnOnce(&mut Arrays) -> kern_return_t) -> Result<Table, kern_return_t> {
        let mut arrays = Arrays {
            masks: [0; ARRAY],
            ports: [MACH_PORT_NULL; ARRAY],
            behaviours: [0; ARRAY],
            flavors: [0; ARRAY],
            count: ARRAY as u32,
        };
        match call(&mut arrays) {
            KERN_SUCCESS => {}
            result => return Err(result),
        }
        let mut table = Table { entries: [NOBODY; TYPES] };
        let policies = arrays.behaviours.iter().zip(&arrays.flavors);
        let rows = arrays.masks.iter().zip(&arrays.ports).zip(policies).take(arrays.count as usize);
        for (entry, ((&mask, &port), (&behaviour, &flavor))) in table.entries.iter_mut().zip(rows) {
            *entry = Entry { mask, port, behaviour: behaviour as u32, flavor };
        }
        Ok(table)
    }
}
