//! Every limit on what is taken from a victim. A limit that bites is a [`super::Gap`] in the report.

use std::time::Duration;

/// How much is copied at most. [`Limits::default`] is what the service uses; tests use smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Threads.
    pub threads: usize,
    /// Bytes of the crashed thread's stack.
    pub crashed_stack: u64,
    /// Bytes of any other thread's stack.
    pub stack: u64,
    /// Bytes of all stacks together; the crashed thread comes first.
    pub stacks: u64,
    /// Bytes between a stack pointer that has left its stack and the stack above it.
    pub guard: u64,
    /// Images.
    pub images: usize,
    /// Bytes of a path.
    pub path: usize,
    /// Program headers or load commands of one image.
    pub load_commands: usize,
    /// Mappings.
    pub regions: usize,
    /// Bytes before and after each pc.
    pub around_pc: u64,
    /// Bytes before and after each address that a register of the crashed thread holds.
    pub around_register: u64,
    /// Bytes of unwind sections copied from one image whose file is gone.
    pub unwind_section: u64,
    /// Bytes of unwind sections copied in all.
    pub unwind_sections: u64,
    /// Bytes of one annotation's value.
    pub annotation: usize,
    /// Annotations.
    pub annotations: usize,
    /// Bytes of one /proc file.
    pub system_file: usize,
    /// Gaps told of one part; the rest is counted.
    pub gaps: usize,
    /// How long a task is read: what is not copied by then stays behind.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            threads: 16_384,
            // The whole of an overflowed stack: who started the recursion stands at its far end. A main thread's has 8 MiB by
            // default, and so have those of pthreads.
            crashed_stack: (8 << 20) + (64 << 10),
            stack: 1 << 20,
            stacks: 64 << 20,
            // Linux keeps 256 pages free below a main thread's stack (`stack_guard_gap`); other guards are smaller.
            guard: 1 << 20,
            images: 4096,
            path: 4096,
            load_commands: 4096,
            // vm.max_map_count is 65530 by default.
            regions: 70_000,
            around_pc: 128,
            around_register: 256,
            unwind_section: 8 << 20,
            unwind_sections: 32 << 20,
            annotation: 20_480,
            annotations: 512,
            system_file: 4 << 20,
            gaps: 16,
            time: Duration::from_secs(3),
        }
    }
}

impl Limits {
    /// What is copied when many snapshots wait already: enough for every stack's innermost frames.
    pub fn frugal() -> Limits {
        Limits {
            crashed_stack: 256 << 10,
            stack: 64 << 10,
            stacks: 2 << 20,
            unwind_sections: 4 << 20,
            ..Limits::default()
        }
    }
}
