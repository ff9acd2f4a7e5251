//! SystemInfo: `MINIDUMP_SYSTEM_INFO`.

use std::io::{Seek, Write};

use aftermach_protocol::platform::{Cpu, Os};
use minidump_writer::minidump_format::format::CPU_INFORMATION;
use minidump_writer::minidump_format::{MDCPUArchitecture, MDRawSystemInfo, MDStreamType, PlatformId};

use super::Error;
use super::file::DumpFile;
use crate::snapshot::{CpuId, Snapshot, System};

/// Writes the stream.
pub(super) fn write<W: Write + Seek>(file: &mut DumpFile<'_, W>, snapshot: &Snapshot) -> Result<(), Error> {
    let system = &snapshot.system;
    let (architecture, platform) = (architecture(snapshot.cpu), platform(snapshot.os));
    let csd_version_rva = file.string(&build(snapshot))?;
    let [major_version, minor_version, build_number] = version_numbers(&system.version);
    let (level, revision) = system.cpuid.map_or((0, 0), |id| family_and_model(id.version));
    file.stream(MDStreamType::SystemInfoStream, |file| {
        file.put(MDRawSystemInfo {
            processor_architecture: architecture as u16,
            processor_level: level,
            processor_revision: revision,
            number_of_processors: u8::try_from(system.cpu_count).unwrap_or(u8::MAX),
            product_type: 0,
            major_version,
            minor_version,
            build_number,
            platform_id: platform as u32,
            csd_version_rva,
            suite_mask: 0,
            reserved2: 0,
            cpu: CPU_INFORMATION { data: cpu_information(system.cpuid) },
        })
    })
}

fn architecture(cpu: Cpu) -> MDCPUArchitecture {
    match cpu {
        Cpu::X86_64 => MDCPUArchitecture::PROCESSOR_ARCHITECTURE_AMD64,
        Cpu::Arm64 => MDCPUArchitecture::PROCESSOR_ARCHITECTURE_ARM64,
    }
}

fn platform(os: Os) -> PlatformId {
    match os {
        Os::Linux => PlatformId::Linux,
        Os::MacOs => PlatformId::MacOs,
    }
}

/// What readers show as the build: on macOS the build itself, on Linux what `uname -srvm` prints, since the numbers of the
/// version leave out what distributions append to it.
fn build(snapshot: &Snapshot) -> String {
    let System { version, build, .. } = &snapshot.system;
    match snapshot.os {
        Os::MacOs => build.clone(),
        Os::Linux => format!("Linux {version} {build} {}", machine(snapshot.cpu)),
    }
}

/// The machine's name as `uname -m` has it.
fn machine(cpu: Cpu) -> &'static str {
    match cpu {
        Cpu::X86_64 => "x86_64",
        Cpu::Arm64 => "aarch64",
    }
}

/// The first three numbers of a version: "6.1.0-13-amd64" is 6, 1, 0.
pub(super) fn version_numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split('.').map(|part| {
        let digits = part.find(|character: char| !character.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse().unwrap_or(0)
    });
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// Family, and model and stepping as SystemInfo has them (0xMMSS), from leaf 1 eax of CPUID (Intel SDM 2A, CPUID).
fn family_and_model(version: u32) -> (u16, u16) {
    let (stepping, model, family) = (version & 0xf, version >> 4 & 0xf, version >> 8 & 0xf);
    let (extended_model, extended_family) = (version >> 16 & 0xf, version >> 20 & 0xff);
    let full_family = if family == 0xf { family + extended_family } else { family };
    let full_model = if matches!(family, 0x6 | 0xf) { extended_model << 4 | model } else { model };
    (full_family as u16, (full_model << 8 | stepping) as u16)
}

/// The x86 part of the `CPU_INFORMATION` union: vendor, leaf 1 eax and edx. On arm64 there is nothing to say.
fn cpu_information(cpuid: Option<CpuId>) -> [u8; 24] {
    let mut data = [0; 24];
    if let Some(cpuid) = cpuid {
        data[..12].copy_from_slice(&cpuid.vendor);
        data[12..16].copy_from_slice(&cpuid.version.to_le_bytes());
        data[16..20].copy_from_slice(&cpuid.features.to_le_bytes());
    }
    data
}
