//! ModuleList: `MINIDUMP_MODULE_LIST` of `MINIDUMP_MODULE`, each with a CodeView record that identifies its file.
//!
//! Mach-O: `CV_INFO_PDB70` with the UUID in the order of a GUID's fields and age 0; its file name is the whole path, since a
//! base name alone leads no reader to a local file (rust-minidump issue 827). ELF: Breakpad's `CV_INFO_ELF` with the build id.

use std::borrow::Cow;
use std::io::{Seek, Write};

use minidump_writer::minidump_format::format::{CvSignature, VS_FFI_SIGNATURE, VS_FFI_STRUCVERSION};
use minidump_writer::minidump_format::{GUID, MDLocationDescriptor, MDRawModule, MDStreamType, MDVSFixedFileInfo};

use super::Error;
use super::file::DumpFile;
use super::system_info::version_numbers;
use crate::snapshot::{Gap, Image, ImageId, ImageKind, Snapshot};

/// Bytes of a build id: "at most 64" in the snapshot, and what a reader must expect.
const MAX_BUILD_ID: usize = 64;

/// Writes the list, and returns for each of its modules the image's path, in its order.
pub(super) fn write<'a, W: Write + Seek>(
    file: &mut DumpFile<'_, W>,
    snapshot: &'a Snapshot,
    notes: &mut Vec<Gap>,
) -> Result<Vec<Cow<'a, str>>, Error> {
    let mut modules = Vec::with_capacity(snapshot.images.len());
    let mut paths = Vec::with_capacity(snapshot.images.len());
    for image in &snapshot.images {
        let path = image.path.to_string_lossy();
        let size_of_image = size(image);
        if size_of_image == 0 {
            notes.push(Gap::new("images", format!("{path} has no extent, so that the minidump leaves it out")));
            continue;
        }
        let module_name_rva = file.string(&path)?;
        let cv_record = code_view(file, &image.id, &path)?;
        modules.push(MDRawModule {
            base_of_image: image.base,
            size_of_image,
            module_name_rva,
            version_info: version(image),
            cv_record,
            ..MDRawModule::default()
        });
        paths.push(path);
    }
    file.stream(MDStreamType::ModuleListStream, |file| {
        file.put(modules.len() as u32)?;
        modules.into_iter().try_for_each(|module| file.put(module))
    })?;
    Ok(paths)
}

/// The size as the format has it: 32 bits, and not past the end of the address space, or readers drop the module.
fn size(image: &Image) -> u32 {
    u32::try_from(image.size.min(u64::MAX - image.base)).unwrap_or(u32::MAX)
}

fn code_view<W: Write + Seek>(
    file: &mut DumpFile<'_, W>,
    id: &ImageId,
    path: &str,
) -> Result<MDLocationDescriptor, Error> {
    match id {
        ImageId::Uuid(uuid) => file.piece(|file| {
            file.put(CvSignature::Pdb70 as u32)?;
            file.put(GUID::from(*uuid))?;
            file.put(0_u32)?;
            file.bytes(path.split('\0').next().unwrap_or_default().as_bytes())?;
            file.bytes(&[0])
        }),
        ImageId::BuildId(id) if !id.is_empty() => file.piece(|file| {
            file.put(CvSignature::Elf as u32)?;
            file.bytes(&id[..id.len().min(MAX_BUILD_ID)])
        }),
        ImageId::BuildId(_) | ImageId::None => Ok(MDLocationDescriptor::default()),
    }
}

/// `VS_FIXEDFILEINFO`, with the version in the four 16-bit fields that Mach-O readers look at; empty if there is none.
fn version(image: &Image) -> MDVSFixedFileInfo {
    let Some(version) = &image.version else { return MDVSFixedFileInfo::default() };
    let [major, minor, patch] = version_numbers(version).map(|number| number.min(0xffff));
    let (hi, lo) = (major << 16 | minor, patch << 16);
    MDVSFixedFileInfo {
        signature: VS_FFI_SIGNATURE,
        struct_version: VS_FFI_STRUCVERSION,
        file_version_hi: hi,
        file_version_lo: lo,
        product_version_hi: hi,
        product_version_lo: lo,
        // VFT_APP and VFT_DLL (verrsrc.h).
        file_type: if image.kind == ImageKind::Executable { 1 } else { 2 },
        ..MDVSFixedFileInfo::default()
    }
}
