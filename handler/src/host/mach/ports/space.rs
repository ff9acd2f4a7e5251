//! What a task's port name space is asked for.

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::PortName;

/// Which right a name stands for, and so how it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// May send. One name may hold many; each is given back by itself. When the port dies it becomes a dead name with as many
    /// references, which are given back in the same way.
    Send,
    /// May send one message, e.g. a reply. Sending uses it up.
    SendOnce,
    /// May receive.
    Receive,
    /// May receive from every port that was put into the set.
    PortSet,
    /// A reference to a name whose port is dead.
    DeadName,
}

/// This process's own name space. The real one is the kernel's; tests have one that refuses what the kernel refuses.
pub trait PortSpace: Send + Sync {
    /// `mach_port_deallocate`: gives back one send right, send-once right or dead-name reference of `name`.
    ///
    /// Errors: `KERN_INVALID_NAME` if there is no such name, `KERN_INVALID_RIGHT` if it stands for none of these.
    fn deallocate(&self, name: PortName) -> Result<(), KernReturn>;

    /// `mach_port_mod_refs(…, MACH_PORT_RIGHT_RECEIVE, -1)`: destroys the port. Senders get dead names.
    ///
    /// Errors: `KERN_INVALID_NAME`, and `KERN_INVALID_RIGHT` if the name stands for no receive right.
    fn destroy_receive(&self, name: PortName) -> Result<(), KernReturn>;

    /// `mach_port_mod_refs(…, MACH_PORT_RIGHT_PORT_SET, -1)`: destroys the set. Its ports live on.
    ///
    /// Errors: `KERN_INVALID_NAME`, and `KERN_INVALID_RIGHT` if the name stands for no set.
    fn destroy_set(&self, name: PortName) -> Result<(), KernReturn>;

    /// `mach_port_mod_refs(…, MACH_PORT_RIGHT_SEND, +1)`: one send right more.
    ///
    /// Errors: `KERN_INVALID_NAME`; `KERN_INVALID_RIGHT` if the name stands for no send right, also when its port has died;
    /// `KERN_UREFS_OVERFLOW`.
    fn retain_send(&self, name: PortName) -> Result<(), KernReturn>;
}
