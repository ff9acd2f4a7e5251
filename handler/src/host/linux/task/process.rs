//! Facts about a process as a whole, from its files in /proc (proc_pid_stat(5), proc_pid_status(5)).

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::system;
use super::{LinuxTask, maps};
use crate::host::ImageList;
use crate::snapshot::{Gap, LinuxFile, Process};

/// Bytes of the auxiliary vector: 20 pairs or so are in use.
pub(super) const AUXV_LIMIT: usize = 4096;
/// Bytes of status, limits and the like, which the kernel itself writes.
pub(super) const FILE_LIMIT: usize = 64 << 10;
/// Bytes of the arguments. The kernel allows a quarter of the stack's limit, 2 MiB by default.
const ARGUMENTS_LIMIT: usize = 256 << 10;

/// Types of the auxiliary vector (`include/uapi/linux/auxvec.h`).
const AT_PHDR: u64 = 3;
const AT_PHNUM: u64 = 5;
const AT_BASE: u64 = 7;
const AT_SYSINFO_EHDR: u64 = 33;

/// The nice value of a thread, or of a process's leader.
pub(super) fn nice(tid: i32) -> Option<i32> {
    // SAFETY: plain numbers. The system call itself answers 20 - nice, 1 to 40, so that it is never negative; libc's wrapper
    // answers -1 both for a nice value and for an error.
    let answer = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, tid) };
    i32::try_from(answer).ok().filter(|answer| *answer > 0).map(|answer| 20 - answer)
}

/// Reads what is known of `task`'s process.
pub(super) fn read(task: &LinuxTask, gaps: &mut Vec<Gap>) -> Process {
    let mut process = Process { pid: task.pid, nice: nice(task.pid).unwrap_or(0), ..Process::default() };
    if let Some(stat) = note(task, "stat", FILE_LIMIT, gaps) {
        read_stat(&mut process, &stat, boot_clock());
    }
    match task.status() {
        Ok(status) => {
            read_status(&mut process, status);
            process.linux_files.push((LinuxFile::Status, status.clone()));
        }
        Err(error) => gaps.push(Gap::new("process", format!("/proc/{}/status: {error}", task.pid))),
    }
    if let Some(line) = note(task, "cmdline", ARGUMENTS_LIMIT, gaps) {
        if line.len() == ARGUMENTS_LIMIT {
            gaps.push(Gap::new("process", format!("the arguments were cut at {ARGUMENTS_LIMIT} bytes")));
        }
        process.arguments = arguments(&line);
        process.linux_files.push((LinuxFile::CommandLine, line));
    }
    match task.files.as_ref().as_ref().map(|files| files.link("exe")) {
        Ok(Ok(path)) => process.path = PathBuf::from(OsString::from_vec(maps::without_deleted(&path).to_vec())),
        Ok(Err(error)) => gaps.push(Gap::new("process", format!("/proc/{}/exe: {error}", task.pid))),
        Err(error) => gaps.push(Gap::new("process", format!("/proc/{}: {error}", task.pid))),
    }
    if let Some(limits) = note(task, "limits", FILE_LIMIT, gaps) {
        process.linux_files.push((LinuxFile::Limits, limits));
    }
    process.linux_files.push((LinuxFile::Auxv, task.auxv(gaps).to_vec()));
    process.linux_files.push((LinuxFile::Maps, task.maps(gaps).text().to_vec()));
    process.linux_files.extend(system::facts().files.iter().cloned());
    process
}

fn note(task: &LinuxTask, name: &str, limit: usize, gaps: &mut Vec<Gap>) -> Option<Vec<u8>> {
    let result: io::Result<Vec<u8>> = task.file(name, limit);
    result.map_err(|error| gaps.push(Gap::new("process", format!("/proc/{}/{name}: {error}", task.pid)))).ok()
}

/// Time since the machine started, sleep included: what `starttime` counts in.
fn boot_clock() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` has room for what is written.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// Takes name, parent, processor times and start time from `stat`; `now` is time since the machine started.
fn read_stat(process: &mut Process, stat: &[u8], now: Duration) {
    // The name stands in brackets and may hold brackets and blanks itself: the last one ends it.
    let text = String::from_utf8_lossy(stat);
    let (Some(open), Some(close)) = (text.find('('), text.rfind(')')) else { return };
    process.name = text.get(open + 1..close).unwrap_or_default().to_owned();
    let fields: Vec<&str> = text[close + 1..].split_ascii_whitespace().collect();
    // Field 3 of proc_pid_stat(5) is the first after the name.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    process.parent = field(4).and_then(|parent| parent.try_into().ok()).unwrap_or(0);
    let ticks = |count: u64| Duration::from_secs_f64(count as f64 / system::facts().ticks_per_second);
    process.cpu_time = field(14).map(ticks).zip(field(15).map(ticks));
    process.uptime = field(22).map(|started| now.saturating_sub(ticks(started)));
    process.started = process.uptime.and_then(|uptime| SystemTime::now().checked_sub(uptime));
}

fn status_line<'s>(status: &'s [u8], name: &str) -> Cow<'s, str> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name.as_bytes()));
    String::from_utf8_lossy(line.unwrap_or_default())
}

/// The number that the process has in its own pid namespace, the innermost.
pub(super) fn own_pid(status: &[u8]) -> Option<i32> {
    status_line(status, "NSpid:").split_ascii_whitespace().next_back()?.parse().ok()
}

/// Takes the users from `status`: real, effective, saved and file system user.
fn read_status(process: &mut Process, status: &[u8]) {
    let text = status_line(status, "Uid:");
    let mut users = text.split_ascii_whitespace().filter_map(|user| user.parse().ok());
    process.uid = users.next().unwrap_or(0);
    process.effective_uid = users.next().unwrap_or(process.uid);
}

/// The arguments: each ends in NUL. A program may have written over them, so the last need not.
fn arguments(line: &[u8]) -> Vec<Vec<u8>> {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    if line.is_empty() { Vec::new() } else { line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect() }
}

/// Where the loader's list is, from the auxiliary vector: pairs of words, up to a type of 0.
pub(super) fn image_list(auxv: &[u8]) -> Option<ImageList> {
    let word = |bytes: &[u8]| bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let value = |wanted: u64| {
        let mut pairs = auxv.chunks_exact(16).map(|pair| (word(pair), word(&pair[8..])));
        pairs.find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    };
    Some(ImageList::LinkMap {
        program_headers: value(AT_PHDR)?,
        count: value(AT_PHNUM)?,
        vdso: value(AT_SYSINFO_EHDR),
        interpreter: value(AT_BASE).filter(|base| *base != 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields_of_stat() {
        let stat = b"4711 (a) b (c) S 42 4711 4711 0 -1 4194304 92 0 0 0 250 75 0 0 20 0 1 0 3000 2000000 200 18446";
        let mut process = Process::default();
        read_stat(&mut process, stat, Duration::from_secs(100));
        assert_eq!((process.name.as_str(), process.parent), ("a) b (c", 42));
        // 100 ticks a second, as on every Linux of today (`getconf CLK_TCK`).
        assert_eq!(process.cpu_time, Some((Duration::from_millis(2500), Duration::from_millis(750))));
        assert_eq!(process.uptime, Some(Duration::from_secs(70)));
    }

    #[test]
    fn a_stat_that_is_cut_leaves_what_it_says() {
        let mut process = Process::default();
        for cut in [&b""[..], b"4711 (", b"4711 )(", b"4711 (name", b"4711 (name) S 42"] {
            read_stat(&mut process, cut, Duration::ZERO);
        }
        assert_eq!((process.name.as_str(), process.parent, process.uptime), ("name", 42, None));
    }

    #[test]
    fn users_are_the_real_and_the_effective_one() {
        let mut process = Process::default();
        read_status(&mut process, b"Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t5\t5\t5\t5\n");
        assert_eq!((process.uid, process.effective_uid), (1000, 0));
    }

    #[test]
    fn the_own_number_of_a_process_is_that_of_the_innermost_namespace() {
        assert_eq!(own_pid(b"Name:\tx\nNSpid:\t4711\nNSpgid:\t1\n"), Some(4711));
        assert_eq!(own_pid(b"Name:\tx\nNSpid:\t4711\t12\t1\n"), Some(1));
        assert_eq!(own_pid(b"Name:\tx\n"), None);
    }

    #[test]
    fn arguments_may_be_empty_absent_or_without_an_end() {
        assert_eq!(arguments(b"a\0\0b\0"), [&b"a"[..], b"", b"b"]);
        assert_eq!(arguments(b"nginx: worker"), [b"nginx: worker"]);
        assert!(arguments(b"").is_empty());
    }

    #[test]
    fn the_auxiliary_vector_names_the_program_headers() {
        let pairs = [(AT_SYSINFO_EHDR, 0x7000), (AT_PHDR, 0x40), (4, 56), (AT_PHNUM, 13), (AT_BASE, 0), (0, 0)];
        let bytes: Vec<u8> =
            pairs.iter().flat_map(|(kind, value)| [*kind, *value]).flat_map(u64::to_le_bytes).collect();
        let list = ImageList::LinkMap { program_headers: 0x40, count: 13, vdso: Some(0x7000), interpreter: None };
        assert_eq!(image_list(&bytes), Some(list));
        assert_eq!(image_list(&bytes[..bytes.len() / 2]), None);
        assert_eq!(image_list(&[]), None);
    }

    #[test]
    fn our_own_nice_value_is_what_libc_says() {
        // SAFETY: plain numbers.
        let expected = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        assert_eq!(nice(std::process::id() as i32), Some(expected));
        assert_eq!(nice(i32::MAX), None);
    }
}
