//! What `EXC_RESOURCE` says (`osfmk/kern/exc_resource.h`).

use super::MachException;
use super::mach::EXC_RESOURCE;

/// A decoded `EXC_RESOURCE`: which limit was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Processor time.
    Cpu {
        /// Whether the kernel kills for it.
        fatal: bool,
        /// Per cent of one processor that were allowed.
        limit: u32,
        /// Seconds over which it was measured.
        interval: u32,
        /// Per cent that were used; 0 to 127.
        used: u32,
    },
    /// Wakeups from idle.
    Wakeups {
        /// Per second that were allowed.
        limit: u32,
        /// Seconds over which they were counted.
        interval: u32,
        /// Per second that were counted.
        seen: u32,
    },
    /// Memory.
    Memory {
        /// 1: the high-water mark. 2: a diagnostic threshold.
        flavor: u8,
        /// The limit in MB.
        limit: u32,
    },
    /// Writes to disk.
    Io {
        /// Counted as they reach the device (`false`) or the file system (`true`).
        logical: bool,
        /// MB that were allowed.
        limit: u32,
        /// Seconds over which they were counted.
        interval: u32,
        /// MB that were written.
        seen: u32,
    },
    /// Threads.
    Threads {
        /// How many.
        count: u32,
    },
    /// Port names.
    Ports {
        /// How many.
        count: u32,
    },
    /// A limit that is not known here.
    Other {
        /// Its type.
        kind: u8,
        /// Its flavour.
        flavor: u8,
    },
}

impl Resource {
    /// Decodes an `EXC_RESOURCE`; `None` for other types.
    pub fn of(exception: &MachException) -> Option<Resource> {
        if exception.kind != EXC_RESOURCE {
            return None;
        }
        let (code, subcode) = (exception.code(), exception.subcode());
        let (kind, flavor) = ((code >> 61) as u8, ((code >> 58) & 7) as u8);
        Some(match kind {
            1 => Resource::Cpu {
                fatal: flavor == 2,
                limit: (code & 0x7F) as u32,
                interval: ((code >> 7) & 0x1FF_FFFF) as u32,
                used: (subcode & 0x7F) as u32,
            },
            // The header's own macros decode with masks of other widths than its drawing and its encoders have: the drawing
            // is what the kernel fills in.
            2 => Resource::Wakeups {
                limit: (code & 0xF_FFFF) as u32,
                interval: ((code >> 20) & 0xFFF) as u32,
                seen: (subcode & 0xF_FFFF) as u32,
            },
            3 => Resource::Memory { flavor, limit: (code & 0x1FFF) as u32 },
            4 => Resource::Io {
                logical: flavor == 2,
                limit: (code & 0x7FFF) as u32,
                interval: ((code >> 15) & 0x1_FFFF) as u32,
                seen: (subcode & 0x7FFF) as u32,
            },
            5 => Resource::Threads { count: (code & 0x7FFF) as u32 },
            6 => Resource::Ports { count: (code & 0xFF_FFFF) as u32 },
            kind => Resource::Other { kind, flavor },
        })
    }

    /// For people: "CPU: 98% used over 180 s, limit 50%, fatal".
    pub fn describe(&self) -> String {
        match self {
            Resource::Cpu { fatal, limit, interval, used } => {
                let fatal = if *fatal { ", fatal" } else { "" };
                format!("CPU: {used}% used over {interval} s, limit {limit}%{fatal}")
            }
            Resource::Wakeups { limit, interval, seen } => {
                format!("wakeups: {seen} a second over {interval} s, limit {limit}")
            }
            Resource::Memory { flavor: 2, limit } => format!("memory: diagnostic threshold of {limit} MB"),
            Resource::Memory { limit, .. } => format!("memory: high-water mark of {limit} MB"),
            Resource::Io { logical, limit, interval, seen } => {
                let how = if *logical { "logical" } else { "physical" };
                format!("{how} writes: {seen} MB over {interval} s, limit {limit} MB")
            }
            Resource::Threads { count } => format!("threads: {count}"),
            Resource::Ports { count } => format!("ports: {count}"),
            Resource::Other { kind, flavor } => format!("resource {kind}, flavor {flavor}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(code: u64, subcode: u64) -> Resource {
        Resource::of(&MachException::new(EXC_RESOURCE, code, subcode)).unwrap()
    }

    #[test]
    fn fields_are_where_exc_resource_h_draws_them() {
        let head = |kind: u64, flavor: u64| kind << 61 | flavor << 58;
        let cpu = resource(head(1, 2) | 180 << 7 | 50, 98);
        assert_eq!(cpu, Resource::Cpu { fatal: true, limit: 50, interval: 180, used: 98 });
        assert_eq!(cpu.describe(), "CPU: 98% used over 180 s, limit 50%, fatal");
        let wakeups = resource(head(2, 1) | 300 << 20 | 150_000, 200_000);
        assert_eq!(wakeups, Resource::Wakeups { limit: 150_000, interval: 300, seen: 200_000 });
        assert_eq!(resource(head(3, 1) | 50, 0), Resource::Memory { flavor: 1, limit: 50 });
        let io = resource(head(4, 2) | 86_400 << 15 | 24_576, 30_000);
        assert_eq!(io, Resource::Io { logical: true, limit: 24_576, interval: 86_400, seen: 30_000 });
        assert_eq!(resource(head(5, 1) | 2_048, 0), Resource::Threads { count: 2_048 });
        assert_eq!(resource(head(6, 1) | 200_000, 0), Resource::Ports { count: 200_000 });
        assert_eq!(resource(head(7, 3), 0), Resource::Other { kind: 7, flavor: 3 });
    }

    #[test]
    fn any_codes_are_described() {
        for kind in 0..8u64 {
            assert!(!resource(kind << 61 | 0x1FFF_FFFF_FFFF_FFFF, u64::MAX).describe().is_empty());
        }
    }
}
