//! Facts about a process (`bsd/sys/proc_info.h`; `sysctl(KERN_PROCARGS2)` in `bsd/kern/kern_sysctl.c`).

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::kernel::Kernel;
use super::words::c_string;
use crate::snapshot::{Gap, Process};

/// `PROC_PIDTBSDINFO`: the whole structure, for processes of the same user.
pub(super) const BSD_INFO: (i32, usize) = (3, 136);
/// `PROC_PIDT_SHORTBSDINFO`: for any process.
pub(super) const SHORT_BSD_INFO: (i32, usize) = (13, 64);
/// `P_TRANSLATED` among the flags of both: the process runs under Rosetta.
const ROSETTA: u32 = 0x0200_0000;
/// Arguments that are kept, and bytes of all of them: `ARG_MAX` is 1 MiB.
const ARGUMENTS: usize = 4096;

/// What both structures say.
#[derive(Debug, Default, PartialEq, Eq)]
struct BsdInfo {
    parent: i32,
    name: String,
    flags: u32,
    uid: u32,
    effective_uid: u32,
    nice: i32,
    started: Option<SystemTime>,
}

/// Everything that is known of process `pid`. `role` is the task's, where its port tells.
pub(super) fn read(kernel: &dyn Kernel, pid: i32, role: Option<i32>, gaps: &mut Vec<Gap>) -> Process {
    if pid <= 0 {
        // 0 is the kernel's own number, and would be answered for.
        gaps.push(Gap::new("process", "nothing says which process it was"));
        return Process { role: role.and_then(role_name).map(str::to_owned), ..Process::default() };
    }
    let info = bsd_info(kernel, pid);
    if info.is_none() {
        gaps.push(Gap::new("process", format!("process {pid} says nothing of itself: it is gone, or a corpse")));
    }
    let info = info.unwrap_or_default();
    if info.flags & ROSETTA != 0 {
        let what = "the program runs under Rosetta: registers and stacks are those of its arm64 translation";
        gaps.push(Gap::new("process", what));
    }
    let path = kernel.process_path(pid).unwrap_or_default();
    let started = info.started;
    Process {
        pid,
        parent: info.parent,
        name: if info.name.is_empty() { file_name(&path) } else { info.name },
        path,
        arguments: kernel.process_arguments(pid).and_then(|bytes| arguments(&bytes)).unwrap_or_default(),
        started,
        uptime: started.and_then(|started| SystemTime::now().duration_since(started).ok()),
        uid: info.uid,
        effective_uid: info.effective_uid,
        nice: info.nice,
        role: role.and_then(role_name).map(str::to_owned),
        cpu_time: kernel.process_times(pid).map(|(user, system)| (nanoseconds(user), nanoseconds(system))),
        linux_files: Vec::new(),
    }
}

fn nanoseconds(count: u64) -> Duration {
    Duration::from_nanos(count)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn bsd_info(kernel: &dyn Kernel, pid: i32) -> Option<BsdInfo> {
    let mut whole = [0; BSD_INFO.1];
    if kernel.process_info(pid, BSD_INFO.0, &mut whole) >= whole.len() {
        return Some(decode(&whole));
    }
    let mut short = [0; SHORT_BSD_INFO.1];
    (kernel.process_info(pid, SHORT_BSD_INFO.0, &mut short) >= short.len()).then(|| decode_short(&short))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from(u32_at(bytes, offset)) | u64::from(u32_at(bytes, offset + 4)) << 32
}

/// `struct proc_bsdinfo`. Its longer name is cut less than `comm`.
fn decode(bytes: &[u8; BSD_INFO.1]) -> BsdInfo {
    let long = c_string(&bytes[64..96]);
    let since_1970 = Duration::from_secs(u64_at(bytes, 120)) + Duration::from_micros(u64_at(bytes, 128) % 1_000_000);
    BsdInfo {
        flags: u32_at(bytes, 0),
        parent: u32_at(bytes, 16) as i32,
        effective_uid: u32_at(bytes, 20),
        uid: u32_at(bytes, 28),
        name: if long.is_empty() { c_string(&bytes[48..64]) } else { long },
        nice: u32_at(bytes, 116) as i32,
        started: SystemTime::UNIX_EPOCH.checked_add(since_1970).filter(|_| !since_1970.is_zero()),
    }
}

/// `struct proc_bsdshortinfo`.
fn decode_short(bytes: &[u8; SHORT_BSD_INFO.1]) -> BsdInfo {
    BsdInfo {
        parent: u32_at(bytes, 4) as i32,
        name: c_string(&bytes[16..32]),
        flags: u32_at(bytes, 32),
        effective_uid: u32_at(bytes, 36),
        uid: u32_at(bytes, 44),
        nice: 0,
        started: None,
    }
}

/// Arguments from `KERN_PROCARGS2`: their number, the executable's path, NULs up to the next word, then each with its NUL;
/// the environment follows, and is not read: it holds secrets. The process may have written over all of it.
fn arguments(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (count, rest) = bytes.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_le_bytes(*count)).ok()?.min(ARGUMENTS);
    let path_end = rest.iter().position(|byte| *byte == 0)?;
    let rest = &rest[path_end..];
    let start = rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len());
    let words = rest[start..].split(|byte| *byte == 0);
    Some(words.take(count).map(<[u8]>::to_vec).collect())
}

/// `task_role_t` (`osfmk/mach/task_policy.h`).
fn role_name(role: i32) -> Option<&'static str> {
    Some(match role {
        -1 => "reniced",
        0 => "unspecified",
        1 => "foreground application",
        2 => "background application",
        3 => "control application",
        4 => "graphics server",
        5 => "throttled application",
        6 => "non-UI application",
        7 => "default application",
        8 => "background daemon",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bsd_structure_is_read_at_its_headers_offsets() {
        let mut bytes = [0; 136];
        let mut put = |offset: usize, value: u32| bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        put(0, 0x0200_0010);
        put(16, 1);
        put(20, 501);
        put(28, 502);
        put(116, -5i32 as u32);
        put(120, 1_700_000_000);
        put(128, 250_000);
        bytes[48..53].copy_from_slice(b"short");
        let info = decode(&bytes);
        assert_eq!((info.parent, info.effective_uid, info.uid, info.nice), (1, 501, 502, -5));
        assert_eq!(info.name, "short");
        assert_eq!(info.flags & ROSETTA, ROSETTA);
        let started = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        assert_eq!(info.started, Some(started));
        bytes[64..75].copy_from_slice(b"longer name");
        assert_eq!(decode(&bytes).name, "longer name");
    }

    #[test]
    fn absurd_times_are_no_times() {
        assert_eq!(decode(&[0; 136]).started, None);
        // Whatever the clock said, it is read without complaint.
        let _ = decode(&[0xFF; 136]);
    }

    #[test]
    fn the_short_structure_is_read_at_its_headers_offsets() {
        let mut bytes = [0; 64];
        bytes[4] = 7;
        bytes[16..20].copy_from_slice(b"comm");
        bytes[36] = 20;
        bytes[44] = 21;
        let info = decode_short(&bytes);
        assert_eq!((info.parent, info.name.as_str(), info.effective_uid, info.uid), (7, "comm", 20, 21));
    }

    #[test]
    fn arguments_follow_the_path_and_its_padding() {
        let mut bytes = 3i32.to_le_bytes().to_vec();
        bytes.extend(b"/bin/echo\0\0\0\0\0\0\0echo\0\0b c\0HOME=/Users/x\0");
        assert_eq!(arguments(&bytes).unwrap(), [b"echo".to_vec(), Vec::new(), b"b c".to_vec()]);
    }

    #[test]
    fn an_argument_area_that_lies_is_bounded() {
        assert_eq!(arguments(b""), None);
        assert_eq!(arguments(&[0xFF; 64]), None);
        let mut endless = i32::MAX.to_le_bytes().to_vec();
        endless.extend(b"/x\0");
        endless.extend([b'a', 0].repeat(10_000));
        assert_eq!(arguments(&endless).unwrap().len(), ARGUMENTS);
        assert_eq!(arguments(b"\x05\0\0\0/no/end"), None);
        assert_eq!(arguments(b"\x05\0\0\0/x\0\0").unwrap(), [Vec::<u8>::new()]);
    }
}
