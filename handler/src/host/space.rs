//! Room on a disk.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes that this user may still write where `path` is.
///
/// # Errors
/// What statvfs(3) says.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: numbers only, for which all zeros is a value.
    let mut room: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a path that ends in NUL, and a structure to write to.
    if unsafe { libc::statvfs(path.as_ptr(), &mut room) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Blocks are counted in 32 bits on macOS.
    Ok(wide(room.f_bavail).saturating_mul(wide(room.f_frsize)))
}

fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_blocks_has_no_room_and_a_path_to_nowhere_no_answer() {
        let Ok(proc) = free_bytes(Path::new("/proc")) else {
            println!("SKIP: there is no /proc here");
            return;
        };
        assert_eq!(proc, 0);
        assert_eq!(free_bytes(Path::new("/nonexistent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
