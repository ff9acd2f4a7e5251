//! A name space that refuses what the kernel's refuses (`osfmk/ipc/ipc_right.c`), for tests on any system.

use std::collections::BTreeMap;
use std::sync::Mutex;

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::PortName;

use super::PortSpace;

const KERN_INVALID_NAME: KernReturn = KernReturn(15);
const KERN_INVALID_RIGHT: KernReturn = KernReturn(17);
const KERN_UREFS_OVERFLOW: KernReturn = KernReturn(19);

/// `MACH_PORT_UREFS_MAX`: from here on the count is pegged, and nothing that is given back is counted any more.
const PEGGED: u32 = 0xFFFF;

/// What one name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Entry {
    pub(crate) send: u32,
    pub(crate) send_once: bool,
    pub(crate) receive: bool,
    pub(crate) set: bool,
    pub(crate) dead: u32,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<u32, Entry>,
    /// Names of objects: rights to the same one share a name.
    objects: BTreeMap<u64, u32>,
    next: u32,
}

/// The space. The kernel's side of it is what tests call.
#[derive(Debug, Default)]
pub(crate) struct StandIn(Mutex<State>);

impl State {
    fn new_name(&mut self) -> u32 {
        self.next += 4;
        // Names look like the kernel's: index and generation.
        self.next << 8 | 3
    }

    fn entry(&mut self, name: PortName) -> Result<&mut Entry, KernReturn> {
        self.names.get_mut(&name.0).ok_or(KERN_INVALID_NAME)
    }

    fn forget_if_empty(&mut self, name: PortName) {
        if self.names.get(&name.0) == Some(&Entry::default()) {
            self.names.remove(&name.0);
            self.objects.retain(|_, of| *of != name.0);
        }
    }
}

impl StandIn {
    /// A send right to `object` arrives: one more on its name, or a new name.
    pub(crate) fn give_send(&self, object: u64) -> PortName {
        let mut state = self.0.lock().unwrap();
        let name = match state.objects.get(&object) {
            Some(name) => *name,
            None => {
                let name = state.new_name();
                state.objects.insert(object, name);
                name
            }
        };
        let entry = state.names.entry(name).or_default();
        entry.send = (entry.send + 1).min(PEGGED);
        PortName(name)
    }

    /// A send-once right arrives: always a new name.
    pub(crate) fn give_send_once(&self) -> PortName {
        let mut state = self.0.lock().unwrap();
        let name = state.new_name();
        state.names.insert(name, Entry { send_once: true, ..Entry::default() });
        PortName(name)
    }

    /// A receive right arrives.
    pub(crate) fn give_receive(&self) -> PortName {
        let mut state = self.0.lock().unwrap();
        let name = state.new_name();
        state.names.insert(name, Entry { receive: true, ..Entry::default() });
        PortName(name)
    }

    /// A send right is made of a receive right, under its name.
    pub(crate) fn make_send(&self, name: PortName) -> Result<(), KernReturn> {
        let mut state = self.0.lock().unwrap();
        let entry = state.entry(name)?;
        if !entry.receive {
            return Err(KERN_INVALID_RIGHT);
        }
        entry.send += 1;
        Ok(())
    }

    /// A port set is made.
    pub(crate) fn give_set(&self) -> PortName {
        let mut state = self.0.lock().unwrap();
        let name = state.new_name();
        state.names.insert(name, Entry { set: true, ..Entry::default() });
        PortName(name)
    }

    /// The kernel takes a send-once right that a message moved.
    pub(crate) fn take_send_once(&self, name: PortName) -> Result<(), KernReturn> {
        let mut state = self.0.lock().unwrap();
        let entry = state.entry(name)?;
        if !entry.send_once {
            return Err(KERN_INVALID_RIGHT);
        }
        entry.send_once = false;
        state.forget_if_empty(name);
        Ok(())
    }

    /// An object dies: its name becomes a dead name with the same count.
    pub(crate) fn kill(&self, object: u64) {
        let mut state = self.0.lock().unwrap();
        let Some(name) = state.objects.remove(&object) else { return };
        if let Some(entry) = state.names.get_mut(&name) {
            *entry = Entry { dead: entry.send, ..Entry::default() };
        }
    }

    /// Adds a dead-name reference, as a dead-name notification does.
    pub(crate) fn give_dead(&self, name: PortName) {
        let mut state = self.0.lock().unwrap();
        state.names.entry(name.0).or_default().dead += 1;
    }

    /// The object behind a send right.
    pub(crate) fn object(&self, name: PortName) -> Option<u64> {
        let state = self.0.lock().unwrap();
        state.objects.iter().find(|(_, of)| **of == name.0).map(|(object, _)| *object)
    }

    /// Every name and what it stands for.
    pub(crate) fn census(&self) -> BTreeMap<u32, Entry> {
        self.0.lock().unwrap().names.clone()
    }
}

impl PortSpace for StandIn {
    fn deallocate(&self, name: PortName) -> Result<(), KernReturn> {
        let mut state = self.0.lock().unwrap();
        let entry = state.entry(name)?;
        match entry {
            Entry { dead: 1.., .. } => entry.dead -= 1,
            Entry { send_once: true, .. } => entry.send_once = false,
            Entry { send: PEGGED, .. } => {}
            Entry { send: 1.., .. } => entry.send -= 1,
            _ => return Err(KERN_INVALID_RIGHT),
        }
        state.forget_if_empty(name);
        Ok(())
    }

    fn destroy_receive(&self, name: PortName) -> Result<(), KernReturn> {
        let mut state = self.0.lock().unwrap();
        let entry = state.entry(name)?;
        if !entry.receive {
            return Err(KERN_INVALID_RIGHT);
        }
        // Send rights on the same name stay, as references to a dead name.
        *entry = Entry { dead: entry.send, ..Entry::default() };
        state.forget_if_empty(name);
        Ok(())
    }

    fn destroy_set(&self, name: PortName) -> Result<(), KernReturn> {
        let mut state = self.0.lock().unwrap();
        let entry = state.entry(name)?;
        if !entry.set {
            return Err(KERN_INVALID_RIGHT);
        }
        entry.set = false;
        state.forget_if_empty(name);
        Ok(())
    }

    fn retain_send(&self, name: PortName) -> Result<(), KernReturn> {
        let mut state = self.0.lock().unwrap();
        match state.entry(name)? {
            Entry { send: PEGGED, .. } => Err(KERN_UREFS_OVERFLOW),
            Entry { send: send @ 1.., .. } => {
                *send += 1;
                Ok(())
            }
            _ => Err(KERN_INVALID_RIGHT),
        }
    }
}
