//! Facts about the machine. They are the same for every death, so they are read once, and no victim is held for them.

use std::ffi::CStr;
use std::fs;
use std::io::Read;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::registers;
use crate::snapshot::{LinuxFile, System};

/// Bytes of cpuinfo and of os-release: cpuinfo has 1.5 KiB a processor.
const FILE_LIMIT: u64 = 4 << 20;

/// What is known of the machine.
#[derive(Debug)]
pub(super) struct Facts {
    /// For the snapshot.
    pub(super) system: System,
    /// The files that minidumps carry.
    pub(super) files: Vec<(LinuxFile, Vec<u8>)>,
    /// The unit of times in /proc.
    pub(super) ticks_per_second: f64,
}

/// The facts, read at the first call.
pub(super) fn facts() -> &'static Facts {
    static FACTS: OnceLock<Facts> = OnceLock::new();
    FACTS.get_or_init(read)
}

/// Reads once what is the same for every death. To be called when the service starts, so that the first victim isn't held
/// for it.
pub fn warm_up() {
    facts();
}

fn read() -> Facts {
    let cpu_info = file("/proc/cpuinfo");
    let release =
        ["/etc/os-release", "/usr/lib/os-release"].iter().map(|path| file(path)).find(|text| !text.is_empty());
    let release = release.unwrap_or_default();
    let (version, build) = kernel();
    let system = System {
        version,
        build,
        name: pretty_name(&String::from_utf8_lossy(&release)).unwrap_or_else(|| "Linux".to_owned()),
        cpu_model: cpu_model(&String::from_utf8_lossy(&cpu_info)).unwrap_or_default(),
        cpuid: registers::cpuid(),
        cpu_count: configuration(libc::_SC_NPROCESSORS_ONLN).and_then(|count| count.try_into().ok()).unwrap_or(0),
        machine: None,
        page_size: configuration(libc::_SC_PAGESIZE).unwrap_or(4096),
        pointer_mask: registers::POINTER_MASK,
    };
    Facts {
        system,
        files: vec![(LinuxFile::CpuInfo, cpu_info), (LinuxFile::Release, release)],
        ticks_per_second: configuration(libc::_SC_CLK_TCK).unwrap_or(100) as f64,
    }
}

fn file(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A machine without the file has nothing to say here; what was read before an error is still true.
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(FILE_LIMIT).read_to_end(&mut bytes);
    }
    bytes
}

fn configuration(name: i32) -> Option<u64> {
    // SAFETY: plain numbers.
    u64::try_from(unsafe { libc::sysconf(name) }).ok().filter(|value| *value > 0)
}

/// Release and version of the kernel (uname(2)).
fn kernel() -> (String, String) {
    let mut name = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: `name` has room for what is written.
    if unsafe { libc::uname(name.as_mut_ptr()) } != 0 {
        return Default::default();
    }
    // SAFETY: zeroed, then filled in.
    let name = unsafe { name.assume_init() };
    // SAFETY: the kernel ends both in NUL, within the arrays.
    let text = |field: &[libc::c_char]| unsafe { CStr::from_ptr(field.as_ptr()) }.to_string_lossy().into_owned();
    (text(&name.release), text(&name.version))
}

/// `PRETTY_NAME` of os-release(5): a shell assignment, quoted or not.
fn pretty_name(release: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?.trim();
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    (!value.is_empty()).then(|| value.to_owned())
}

/// `model name` of x86 cpuinfo; ARM says it only as `CPU part`, or `Hardware` on boards.
fn cpu_model(cpu_info: &str) -> Option<String> {
    let value = |key: &str| {
        let mut lines = cpu_info.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    };
    value("model name").or_else(|| value("Hardware"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_read_with_and_without_quotes() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\n";
        assert_eq!(pretty_name(debian).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name("ID=alpine\nPRETTY_NAME=Alpine\n").as_deref(), Some("Alpine"));
        assert_eq!(pretty_name("PRETTY_NAME=\"\"\n"), None);
        assert_eq!(pretty_name("PRETTY_NAME=\""), Some("\"".to_owned()));
    }

    #[test]
    fn the_kernel_is_what_uname_prints() {
        let output = std::process::Command::new("uname").arg("-r").output().unwrap();
        assert_eq!(facts().system.version, String::from_utf8(output.stdout).unwrap().trim());
        assert!(facts().system.cpu_count >= 1);
    }
}
