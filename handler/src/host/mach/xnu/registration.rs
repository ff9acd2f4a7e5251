//! Exception ports of a task: this one's, for children to inherit, and a child's, to see what it got.

use std::ffi::c_int;

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::PortName;
use mach2::exception_types::{
    EXC_MASK_ARITHMETIC, EXC_MASK_BAD_ACCESS, EXC_MASK_BAD_INSTRUCTION, EXC_MASK_BREAKPOINT, EXC_MASK_CRASH,
    EXCEPTION_DEFAULT, MACH_EXCEPTION_CODES, exception_behavior_t, exception_mask_t,
};
use mach2::port::{MACH_PORT_NULL, mach_port_t};
use mach2::task::{task_get_exception_ports, task_set_exception_ports, task_swap_exception_ports};
use mach2::thread_status::thread_state_flavor_t;

use super::super::kernel::RawAction;
use super::super::ports::{Group, Port, Right, Rights};
use super::{check, own_space};

/// Deaths, and the hardware exceptions that lead to them. Not `EXC_GUARD`, whose handling would end the task without a
/// report (`bsd/kern/kern_guarded.c`), nor `EXC_RESOURCE`, which is no fault.
pub(super) const MASK: exception_mask_t =
    EXC_MASK_CRASH | EXC_MASK_BAD_ACCESS | EXC_MASK_BAD_INSTRUCTION | EXC_MASK_ARITHMETIC | EXC_MASK_BREAKPOINT;

/// Which messages are asked for: with 64-bit codes always, since the kernel panics when it sends a protected one without.
pub(super) const fn behavior(has_tokens: bool) -> exception_behavior_t {
    const EXCEPTION_IDENTITY_PROTECTED: u32 = 4;
    let form = if has_tokens { EXCEPTION_IDENTITY_PROTECTED } else { EXCEPTION_DEFAULT };
    (form | MACH_EXCEPTION_CODES) as exception_behavior_t
}

/// No thread state is asked for.
pub(super) const NO_FLAVOR: thread_state_flavor_t = 0;

/// `EXC_TYPES_COUNT`: with fewer entries the kernel would stop setting ports at the end of the array.
const ENTRIES: usize = 14;

/// Sets of exception ports, as the kernel merges them.
struct Entries {
    count: u32,
    masks: [exception_mask_t; ENTRIES],
    ports: [mach_port_t; ENTRIES],
    behaviors: [exception_behavior_t; ENTRIES],
    flavors: [thread_state_flavor_t; ENTRIES],
}

impl Entries {
    fn new() -> Entries {
        Entries {
            count: ENTRIES as u32,
            masks: [0; ENTRIES],
            ports: [MACH_PORT_NULL; ENTRIES],
            behaviors: [0; ENTRIES],
            flavors: [0; ENTRIES],
        }
    }

    /// Those of `task`, of which a control port is needed, for the exceptions in `mask`. Whoever calls owns the rights.
    fn of(task: PortName, mask: exception_mask_t) -> Result<Entries, KernReturn> {
        let mut entries = Entries::new();
        // SAFETY: arrays of as many entries as the count says.
        check(unsafe {
            task_get_exception_ports(
                task.0,
                mask,
                entries.masks.as_mut_ptr(),
                &mut entries.count,
                entries.ports.as_mut_ptr(),
                entries.behaviors.as_mut_ptr(),
                entries.flavors.as_mut_ptr(),
            )
        })?;
        Ok(entries)
    }

    fn adopt(&self, rights: &Rights) -> Vec<Entry> {
        let entry = |index: usize| Entry {
            mask: self.masks[index],
            port: rights.adopt(Group::ClientSessions, Right::Send, PortName(self.ports[index])),
            behavior: self.behaviors[index],
            flavor: self.flavors[index],
        };
        (0..(self.count as usize).min(ENTRIES)).map(entry).collect()
    }
}

/// Some exceptions of a task, and where they go.
struct Entry {
    mask: exception_mask_t,
    port: Option<Port>,
    behavior: exception_behavior_t,
    flavor: thread_state_flavor_t,
}

/// While it lives, this task's exceptions go to a port, and so do those of the children that it starts. Then to where they
/// went before.
pub(super) struct Inherited(Vec<Entry>);

impl Inherited {
    /// Registers `port` for this task.
    pub(super) fn set(
        rights: &Rights,
        port: PortName,
        behavior: exception_behavior_t,
    ) -> Result<Inherited, KernReturn> {
        let mut before = Entries::new();
        // SAFETY: arrays of as many entries as the count says. The port's right is copied, ours stays ours.
        check(unsafe {
            task_swap_exception_ports(
                own_space(),
                MASK,
                port.0,
                behavior,
                NO_FLAVOR,
                before.masks.as_mut_ptr(),
                &mut before.count,
                before.ports.as_mut_ptr(),
                before.behaviors.as_mut_ptr(),
                before.flavors.as_mut_ptr(),
            )
        })?;
        Ok(Inherited(before.adopt(rights)))
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        for entry in &self.0 {
            let port = entry.port.as_ref().map_or(MACH_PORT_NULL, |port| port.name().0);
            // Behaviour 0 stands where nothing was registered, and is none that could be set.
            let behavior = if entry.behavior == 0 { behavior(false) } else { entry.behavior };
            // SAFETY: plain numbers; the right is copied.
            let _refused =
                check(unsafe { task_set_exception_ports(own_space(), entry.mask, port, behavior, entry.flavor) });
        }
    }
}

/// Where the exceptions in `mask` of `task`, of which a control port is needed, go. Whoever calls owns the rights.
pub(super) fn actions(task: PortName, mask: u32) -> Result<Vec<RawAction>, KernReturn> {
    let entries = Entries::of(task, mask)?;
    let action = |index: usize| RawAction {
        mask: entries.masks[index],
        port: PortName(entries.ports[index]),
        behaviour: entries.behaviors[index] as u32,
        flavor: entries.flavors[index],
    };
    Ok((0..(entries.count as usize).min(ENTRIES)).map(action).collect())
}

/// Sets exception ports of `task`, of which a control port is needed.
pub(super) fn set_action(task: PortName, action: &RawAction) -> Result<(), KernReturn> {
    let behavior = action.behaviour as exception_behavior_t;
    // SAFETY: plain numbers; the right is copied.
    check(unsafe { task_set_exception_ports(task.0, action.mask, action.port.0, behavior, action.flavor) })
}

/// Whether deaths of `task`, of which a control port is needed, go to `port`.
pub(super) fn goes_to(rights: &Rights, task: PortName, port: PortName) -> Result<bool, KernReturn> {
    let entries = Entries::of(task, EXC_MASK_CRASH)?.adopt(rights);
    Ok(entries.iter().any(|entry| entry.port.as_ref().is_some_and(|found| found.name() == port)))
}

/// Registers `port` for another task, of which a control port is needed.
pub(super) fn set_for(task: PortName, port: PortName, behavior: exception_behavior_t) -> Result<(), KernReturn> {
    // SAFETY: plain numbers; the right is copied.
    check(unsafe { task_set_exception_ports(task.0, MASK, port.0, behavior, NO_FLAVOR) })
}

/// The control port of process `pid`, if the system's policy lets us have it (a debugger's right).
pub(super) fn control_port(rights: &Rights, pid: c_int) -> Option<Port> {
    let mut task = MACH_PORT_NULL;
    // SAFETY: plain numbers, and a name to write to.
    check(unsafe { mach2::traps::task_for_pid(own_space(), pid, &mut task) }).ok()?;
    rights.adopt(Group::ClientSessions, Right::Send, PortName(task))
}
