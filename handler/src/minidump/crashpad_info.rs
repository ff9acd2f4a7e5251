//! CrashpadInfo: `MinidumpCrashpadInfo`, where dashboards look for annotations.
//!
//! Simple annotations of the process bear the keys of the Breakpad and Crashpad upload forms: "prod", "ver", "channel", then
//! those of the program. Messages that libraries left (`__crash_info`) are list annotations of their modules, as Crashpad
//! has them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{Seek, Write};

use minidump_writer::minidump_format::format::{
    MINIDUMP_CRASHPAD_INFO, MINIDUMP_MODULE_CRASHPAD_INFO, MINIDUMP_MODULE_CRASHPAD_INFO_LINK,
    MINIDUMP_SIMPLE_STRING_DICTIONARY_ENTRY,
};
use minidump_writer::minidump_format::{GUID, MDLocationDescriptor, MDStreamType};

use super::file::DumpFile;
use super::{Error, Extra};
use crate::snapshot::{Annotations, Snapshot};

/// Writes the stream; `modules` are the paths of the module list.
pub(super) fn write<W: Write + Seek>(
    file: &mut DumpFile<'_, W>,
    snapshot: &Snapshot,
    extra: &Extra<'_>,
    modules: &[Cow<'_, str>],
) -> Result<(), Error> {
    let simple_annotations = dictionary(file, &annotations(&snapshot.annotations, extra))?;
    let module_list = messages(file, &snapshot.annotations, modules)?;
    let info = MINIDUMP_CRASHPAD_INFO {
        version: MINIDUMP_CRASHPAD_INFO::VERSION,
        report_id: GUID::from(*extra.report_id.as_bytes()),
        client_id: GUID::from(*extra.client_id.as_bytes()),
        simple_annotations,
        module_list,
    };
    file.stream(MDStreamType::CrashpadInfoStream, |file| {
        file.put(info)?;
        // Crashpad appended to version 1: four reserved bytes, and a mask that leaves of a pointer what is address.
        file.put(0_u32)?;
        file.put(snapshot.system.pointer_mask.unwrap_or(u64::MAX))
    })
}

/// The process's annotations: what the handler knows, what the record says of its product, what the program said. Where two
/// have one key, the first stays.
fn annotations<'a>(record: &'a Annotations, extra: &Extra<'a>) -> Vec<(&'a str, &'a str)> {
    let mut all: Vec<(&str, &str)> = extra.annotations.iter().map(|(key, value)| (&**key, &**value)).collect();
    if let Some((group, name, channel)) = &record.product {
        all.extend([("prod", &**name), ("channel", &**channel), ("group", &**group)]);
    }
    all.extend(record.version.iter().map(|version| ("ver", &**version)));
    all.extend(record.values.iter().map(|(key, value)| (&**key, &**value)));
    let mut keys = HashSet::new();
    all.retain(|(key, value)| !value.is_empty() && keys.insert(*key));
    all
}

fn dictionary<W: Write + Seek>(
    file: &mut DumpFile<'_, W>,
    annotations: &[(&str, &str)],
) -> Result<MDLocationDescriptor, Error> {
    let mut entries = Vec::with_capacity(annotations.len());
    for (key, value) in annotations {
        entries.push(MINIDUMP_SIMPLE_STRING_DICTIONARY_ENTRY { key: file.utf8(key)?, value: file.utf8(value)? });
    }
    if entries.is_empty() {
        return Ok(MDLocationDescriptor::default());
    }
    file.piece(|file| {
        file.put(entries.len() as u32)?;
        entries.into_iter().try_for_each(|entry| file.put(entry))
    })
}

/// `MinidumpModuleCrashpadInfoList`: for each module that left messages, a `MinidumpRVAList` of them.
fn messages<W: Write + Seek>(
    file: &mut DumpFile<'_, W>,
    record: &Annotations,
    modules: &[Cow<'_, str>],
) -> Result<MDLocationDescriptor, Error> {
    let mut links = Vec::new();
    let mut seen = HashSet::new();
    for (path, _) in record.messages.iter().filter(|(path, _)| seen.insert(path)) {
        let name = path.to_string_lossy();
        let Some(index) = modules.iter().position(|module| *module == name) else { continue };
        let mut strings = Vec::new();
        for (_, message) in record.messages.iter().filter(|(of, _)| of == path) {
            strings.push(file.utf8(message)?);
        }
        let list_annotations = file.piece(|file| {
            file.put(strings.len() as u32)?;
            strings.into_iter().try_for_each(|rva| file.put(rva))
        })?;
        let location = file.piece(|file| {
            file.put(MINIDUMP_MODULE_CRASHPAD_INFO {
                version: MINIDUMP_MODULE_CRASHPAD_INFO::VERSION,
                list_annotations,
                simple_annotations: MDLocationDescriptor::default(),
                annotation_objects: MDLocationDescriptor::default(),
            })
        })?;
        links.push(MINIDUMP_MODULE_CRASHPAD_INFO_LINK { minidump_module_list_index: index as u32, location });
    }
    if links.is_empty() {
        return Ok(MDLocationDescriptor::default());
    }
    file.piece(|file| {
        file.put(links.len() as u32)?;
        links.into_iter().try_for_each(|link| file.put(link))
    })
}
