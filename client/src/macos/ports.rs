//! This task's exception ports, and the rights that come and go with them.

use mach2::exception_types::{exception_behavior_t, exception_mask_t};
use mach2::kern_return::{KERN_SUCCESS, kern_return_t};
use mach2::mach_port::mach_port_deallocate;
use mach2::port::{MACH_PORT_DEAD, MACH_PORT_NULL, mach_port_t};
use mach2::task::{task_get_exception_ports, task_set_exception_ports, task_swap_exception_ports};
use mach2::thread_status::thread_state_flavor_t;
use mach2::traps::mach_task_self;

use super::facts;

/// What the interface's arrays hold (`exception_mask_array_t`, osfmk/mach/mach_types.defs). There are 14 types, so as many
/// entries at most; but the kernel stops setting ports when its caller's array is full, so it gets the whole.
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
struct Entry {
    mask: exception_mask_t,
    port: mach_port_t,
    behaviour: u32,
    flavor: thread_state_flavor_t,
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
    fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let rows = self.masks.iter().zip(&self.ports).zip(self.behaviours.iter().zip(&self.flavors));
        rows.take(self.count as usize).map(|((&mask, &port), (&behaviour, &flavor))| Entry {
            mask,
            port,
            behaviour: behaviour as u32,
            flavor,
        })
    }

    /// Sets again, of the exceptions in `mask`, what this table says.
    pub(super) fn restore(&self, mask: exception_mask_t) {
        // Where nobody was, or is any more, nobody is: that is set last, with a behaviour that no process is killed for.
        let mut left = mask;
        let mut classic = None;
        for entry in self.entries() {
            let bits = entry.mask & mask;
            if bits == 0 || !is_right(entry.port) {
                continue;
            }
            // Another reporter's classic registration, perhaps inherited: to set that again kills a hardened process.
            let may_set = super::is_protected(entry.behaviour) || *classic.get_or_insert_with(facts::may_be_classic);
            if may_set && set_as(bits, entry.port, entry.behaviour, entry.flavor) == KERN_SUCCESS {
                left &= !bits;
            }
        }
        set_as(left, MACH_PORT_NULL, super::behaviour(crate::Identity::Protected), NO_FLAVOR);
    }

    /// Gives the rights back.
    pub(super) fn release(&self) {
        for &port in self.ports.iter().take(self.count as usize) {
            drop(SendRight::from_name(port));
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
    read_table(mask, Some((port.name(), behaviour)))
}

/// Which of `mask` go to this port with this behaviour.
pub(super) fn held_by(
    mask: exception_mask_t,
    port: &SendRight,
    behaviour: u32,
) -> Result<exception_mask_t, kern_return_t> {
    let table = read_table(mask, None)?;
    let ours = |entry: &Entry| entry.port == port.name() && entry.behaviour == behaviour;
    let bits = table.entries().filter(ours).fold(0, |bits, entry| bits | entry.mask);
    table.release();
    Ok(bits & mask)
}

/// Which of `mask` go to nobody, to a dead port, or to this one.
pub(super) fn free_for(mask: exception_mask_t, port: mach_port_t) -> Result<exception_mask_t, kern_return_t> {
    let table = read_table(mask, None)?;
    let taken = |entry: &Entry| is_right(entry.port) && entry.port != port;
    let bits = table.entries().filter(taken).fold(0, |bits, entry| bits | entry.mask);
    table.release();
    Ok(mask & !bits)
}

/// The ports for `mask`, which are then set anew if there is something to set them to. The caller owns the table's rights.
#[inline(never)]
fn read_table(mask: exception_mask_t, new: Option<(mach_port_t, u32)>) -> Result<Table, kern_return_t> {
    let mut table = Table {
        masks: [0; ARRAY],
        ports: [MACH_PORT_NULL; ARRAY],
        behaviours: [0; ARRAY],
        flavors: [NO_FLAVOR; ARRAY],
        count: ARRAY as u32,
    };
    let result = match new {
        // SAFETY: numbers about this task, and arrays that hold what their count says.
        Some((port, behaviour)) => unsafe {
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
        },
        // SAFETY: as above.
        None => unsafe {
            task_get_exception_ports(
                mach_task_self(),
                mask,
                table.masks.as_mut_ptr(),
                &mut table.count,
                table.ports.as_mut_ptr(),
                table.behaviours.as_mut_ptr(),
                table.flavors.as_mut_ptr(),
            )
        },
    };
    if result == KERN_SUCCESS { Ok(table) } else { Err(result) }
}
