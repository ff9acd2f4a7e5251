//! LinuxMaps, LinuxProcStatus, LinuxAuxv, LinuxCmdLine, LinuxCpuInfo, LinuxLsbRelease (Breakpad's `minidump_format.h`) and
//! MozLinuxLimits: files of /proc as they were.
//!
//! Breakpad has a stream for the environment too. It is left out: tokens and passwords are in it.

use std::collections::HashSet;
use std::io::{Seek, Write};

use aftermach_protocol::platform::Os;
use minidump_writer::minidump_format::MDStreamType;

use super::Error;
use super::file::DumpFile;
use crate::snapshot::{LinuxFile, Snapshot};

/// Writes a stream for each file of a Linux victim. Of a file that is there twice, the first.
pub(super) fn write<W: Write + Seek>(file: &mut DumpFile<'_, W>, snapshot: &Snapshot) -> Result<(), Error> {
    if snapshot.os != Os::Linux {
        return Ok(());
    }
    let mut written = HashSet::new();
    for (kind, bytes) in &snapshot.process.linux_files {
        if written.insert(*kind) {
            file.stream(stream(*kind), |file| file.bytes(bytes))?;
        }
    }
    Ok(())
}

fn stream(kind: LinuxFile) -> MDStreamType {
    match kind {
        LinuxFile::Maps => MDStreamType::LinuxMaps,
        LinuxFile::Status => MDStreamType::LinuxProcStatus,
        LinuxFile::Auxv => MDStreamType::LinuxAuxv,
        LinuxFile::CommandLine => MDStreamType::LinuxCmdLine,
        LinuxFile::CpuInfo => MDStreamType::LinuxCpuInfo,
        LinuxFile::Release => MDStreamType::LinuxLsbRelease,
        LinuxFile::Limits => MDStreamType::MozLinuxLimits,
    }
}
