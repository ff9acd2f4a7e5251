//! The last hardware exception of each thread of each client.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, SystemTime};

use super::pass_on::NotPassedOn;
use super::unwatch::Refusal;
use crate::snapshot::{Fault, Gap};

/// Faults that are remembered, of all processes.
const LIMIT: usize = 4096;
/// Tasks whose faults are counted.
const TASKS: usize = 1024;

/// So many first chances of one task ...
pub(super) const OFTEN: u32 = 100;
/// ... within this time are its normal course. A program that recovers from faults of its own, one every second, is none of
/// those; a JIT or a collector with guard pages has thousands.
pub(super) const OFTEN_WITHIN: Duration = Duration::from_secs(5);

/// A process's number, and what tells it from others with the same number.
pub(super) type TaskId = (i32, u32);

/// Faults by process and thread. A handler of the program may deal with a fault and go on for days: only the last of each
/// thread is kept, and the oldest go first.
#[derive(Default)]
pub(super) struct FirstChances {
    last: HashMap<(i32, u64), Fault>,
    tasks: HashMap<i32, Counted>,
}

/// How often a task meets hardware exceptions.
struct Counted {
    version: u32,
    since: SystemTime,
    count: u32,
    decided: Option<Result<(), Refusal>>,
    not_passed_on: Option<NotPassedOn>,
}

impl Counted {
    fn new(version: u32, since: SystemTime) -> Counted {
        Counted { version, since, count: 0, decided: None, not_passed_on: None }
    }
}

impl FirstChances {
    /// Remembers a fault. Whether there have been so many that the task's hardware exceptions should not be watched any more:
    /// said once each time that it is so, and not again where it could not be done.
    pub(super) fn note(&mut self, (pid, version): TaskId, thread: u64, fault: Fault) -> bool {
        let time = fault.time;
        keep_below(LIMIT, &mut self.last, &(pid, thread), |fault| fault.time);
        self.last.insert((pid, thread), fault);

        keep_below(TASKS, &mut self.tasks, &pid, |counted| counted.since);
        let counted = self.tasks.entry(pid).or_insert_with(|| Counted::new(version, time));
        if counted.version != version {
            *counted = Counted::new(version, time);
        }
        // An error is a clock that was set back.
        if time.duration_since(counted.since).map_or(true, |age| age > OFTEN_WITHIN) {
            (counted.since, counted.count) = (time, 0);
        }
        counted.count += 1;
        if counted.count < OFTEN || matches!(counted.decided, Some(Err(_))) {
            return false;
        }
        counted.count = 0;
        true
    }

    /// Remembers what came of it.
    pub(super) fn decided(&mut self, (pid, version): TaskId, result: Result<(), Refusal>) {
        if let Some(counted) = self.tasks.get_mut(&pid).filter(|counted| counted.version == version) {
            counted.decided = Some(result);
        }
    }

    /// Remembers that an earlier handler of the task was not asked.
    pub(super) fn not_passed_on(&mut self, (pid, version): TaskId, reason: NotPassedOn) {
        if let Some(counted) = self.tasks.get_mut(&pid).filter(|counted| counted.version == version) {
            counted.not_passed_on = Some(reason);
        }
    }

    /// The faults of a process that is dead, by thread, and what the report must say of faults that were not seen. They are
    /// forgotten.
    pub(super) fn take(&mut self, (pid, version): TaskId) -> (HashMap<u64, Fault>, Vec<Gap>) {
        let taken = self.of((pid, version));
        self.last.retain(|(of, _), _| *of != pid);
        taken
    }

    /// As [`FirstChances::take`] for a process that lives on: nothing is forgotten.
    pub(super) fn of(&self, (pid, version): TaskId) -> (HashMap<u64, Fault>, Vec<Gap>) {
        let of_process = self.last.iter().filter(|((of, _), _)| *of == pid);
        let faults = of_process.map(|((_, thread), fault)| (*thread, fault.clone())).collect();
        let counted = self.tasks.get(&pid).filter(|counted| counted.version == version);
        let often =
            format!("the task met {OFTEN} hardware exceptions within {OFTEN_WITHIN:?} that it dealt with itself");
        let unwatched = counted.and_then(|counted| counted.decided).map(|decided| match decided {
            Ok(()) => {
                format!("{often}: from then on they were not watched any more, and a thread's last one may be missing")
            }
            Err(refusal) => format!("{often}; each waited for the service all the same, for {refusal}"),
        });
        let not_passed_on = counted.and_then(|counted| counted.not_passed_on).map(|reason| {
            format!("the handler that was registered before was not asked of the task's hardware exceptions: {reason}")
        });
        let gaps = unwatched.into_iter().chain(not_passed_on).map(|what| Gap::new("first chances", what));
        (faults, gaps.collect())
    }
}

/// Makes room for `key` where `map` is full: half goes at once, the oldest first, so that this is rare.
fn keep_below<K: Eq + Hash, V>(limit: usize, map: &mut HashMap<K, V>, key: &K, time: impl Fn(&V) -> SystemTime) {
    if map.len() < limit || map.contains_key(key) {
        return;
    }
    let mut times: Vec<_> = map.values().map(&time).collect();
    times.sort_unstable();
    let middle = times[times.len() / 2];
    map.retain(|_, value| time(value) > middle);
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
        faults.note((1, 0), 10, fault(1));
        faults.note((1, 0), 10, fault(2));
        faults.note((1, 0), 11, fault(3));
        faults.note((2, 0), 10, fault(4));
        assert_eq!(faults.of((1, 0)).0.len(), 2);
        let (of_first, gaps) = faults.take((1, 0));
        assert_eq!((of_first.len(), of_first[&10].pc, of_first[&11].pc, gaps.len()), (2, 2, 3, 0));
        assert!(faults.take((1, 0)).0.is_empty());
        assert_eq!(faults.take((2, 0)).0.len(), 1);
    }

    #[test]
    fn faults_without_end_are_bounded_and_the_newest_stay() {
        let mut faults = FirstChances::default();
        for number in 0..3 * LIMIT as u64 {
            faults.note((1, 0), number, fault(number));
            faults.note((number as i32, 0), number, fault(number));
            assert!(faults.last.len() <= LIMIT && faults.tasks.len() <= TASKS);
        }
        assert!(faults.take((1, 0)).0.contains_key(&(3 * LIMIT as u64 - 1)));
    }

    /// A fault so many milliseconds after the first.
    fn after(milliseconds: u64) -> Fault {
        Fault { time: SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds), ..fault(0) }
    }

    #[test]
    fn as_many_as_the_limit_within_its_time_are_often_and_one_less_is_not() {
        let mut faults = FirstChances::default();
        let often: Vec<bool> = (0..OFTEN).map(|_| faults.note((1, 7), 10, after(0))).collect();
        assert_eq!(often.iter().position(|often| *often), Some(OFTEN as usize - 1));
        // Spread over a little more than that time they never are, and another task's do not count.
        let step = OFTEN_WITHIN.as_millis() as u64 / u64::from(OFTEN - 1) + 1;
        assert!((0..1000).all(|number| !faults.note((2, 7), 10, after(number * step))));
        assert!((0..OFTEN).all(|number| !faults.note((3, number), 10, after(0))));
    }

    #[test]
    fn what_could_be_done_is_done_again_if_need_be_and_what_could_not_is_not_tried_again() {
        let mut faults = FirstChances::default();
        let count =
            |faults: &mut FirstChances, task| (0..10 * OFTEN).filter(|_| faults.note(task, 10, after(0))).count();
        assert_eq!(count(&mut faults, (1, 7)), 10);
        faults.decided((1, 7), Ok(()));
        assert_eq!(count(&mut faults, (1, 7)), 10);
        faults.decided((1, 7), Err(Refusal::Hardened));
        assert_eq!(count(&mut faults, (1, 7)), 0);
        let said = faults.take((1, 7)).1.remove(0).what;
        assert!(said.ends_with("for it is hardened, and who changes its exception ports is killed"), "{said}");
        // The next process with that number is another.
        assert!(faults.take((1, 8)).1.is_empty());
        assert_eq!(count(&mut faults, (1, 8)), 10);
    }

    #[test]
    fn a_clock_that_is_set_back_starts_the_count_anew() {
        let mut faults = FirstChances::default();
        assert!((1..OFTEN).all(|_| !faults.note((1, 7), 10, after(10_000))));
        assert!((1..OFTEN).all(|_| !faults.note((1, 7), 10, after(0))));
        assert!(faults.note((1, 7), 10, after(0)));
    }
}
