//! The last hardware exception of each thread of each client.

use std::collections::HashMap;

use crate::snapshot::Fault;

/// Faults that are remembered, of all processes.
const LIMIT: usize = 4096;

/// Faults by process and thread. A handler of the program may deal with a fault and go on for days: only the last of each
/// thread is kept, and the oldest go first.
#[derive(Default)]
pub(super) struct FirstChances(HashMap<(i32, u64), Fault>);

impl FirstChances {
    /// Remembers a fault.
    pub(super) fn note(&mut self, pid: i32, thread: u64, fault: Fault) {
        if self.0.len() >= LIMIT && !self.0.contains_key(&(pid, thread)) {
            // Half at once, so that this is rare.
            let mut times: Vec<_> = self.0.values().map(|fault| fault.time).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            self.0.retain(|_, fault| fault.time > middle);
        }
        self.0.insert((pid, thread), fault);
    }

    /// Forgets a process that is dead, and returns its faults by thread.
    pub(super) fn take(&mut self, pid: i32) -> HashMap<u64, Fault> {
        let of_process = self.0.extract_if(|(of, _), _| *of == pid);
        of_process.map(|((_, thread), fault)| (thread, fault)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use aftermach_protocol::exception::{Exception, MachException};

    use super::*;

    fn fault(number: u64) -> Fault {
        let exception = Exception::Mach(MachException::new(1, 1, number));
        Fault { exception, pc: number, sp: 0, time: SystemTime::UNIX_EPOCH + Duration::from_secs(number) }
    }

    #[test]
    fn the_last_fault_of_each_thread_is_kept_until_its_process_dies() {
        let mut faults = FirstChances::default();
        faults.note(1, 10, fault(1));
        faults.note(1, 10, fault(2));
        faults.note(1, 11, fault(3));
        faults.note(2, 10, fault(4));
        let of_first = faults.take(1);
        assert_eq!((of_first.len(), of_first[&10].pc, of_first[&11].pc), (2, 2, 3));
        assert!(faults.take(1).is_empty());
        assert_eq!(faults.take(2).len(), 1);
    }

    #[test]
    fn faults_without_end_are_bounded_and_the_newest_stay() {
        let mut faults = FirstChances::default();
        for number in 0..3 * LIMIT as u64 {
            faults.note(1, number, fault(number));
            assert!(faults.0.len() <= LIMIT);
        }
        assert!(faults.take(1).contains_key(&(3 * LIMIT as u64 - 1)));
    }
}
