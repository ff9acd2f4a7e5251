//! rust-minidump as the judge of a dump: what it reads must be what the report says.

use std::path::Path;

use aftermach_protocol::report::Report;
use minidump::Minidump;
use minidump_processor::ProcessState;

/// Asserts that the dump beside a report tells the same threads, registers, images and exception.
pub(crate) fn assert_dump_agrees(folder: &Path, report: &Report) {
    let dump = Minidump::read_path(folder.join("minidump.dmp")).unwrap();
    let provider = minidump_unwind::Symbolizer::new(minidump_unwind::simple_symbol_supplier(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let state = runtime.block_on(minidump_processor::process_minidump(&dump, &provider)).unwrap();
    threads_agree(&state, report);
    exception_agrees(&state, report);
    images_agree(&state, report);
    assert_eq!(state.process_id, Some(report.process.pid as u32));
}

fn threads_agree(state: &ProcessState, report: &Report) {
    assert_eq!(state.threads.len(), report.threads.len());
    for (theirs, ours) in state.threads.iter().zip(&report.threads) {
        assert_eq!(u64::from(theirs.thread_id), ours.id);
        assert_eq!(theirs.thread_name.as_deref(), Some(ours.name.as_str()));
        let context = &theirs.frames[0].context;
        for (name, value) in &ours.registers.0 {
            // A minidump's context calls the flags "eflags", and has 32 bits for them.
            if name != "rflags" {
                assert_eq!(context.get_register(name), Some(value.0), "{name} of thread {}", ours.id);
            }
        }
    }
    assert_eq!(state.requesting_thread, report.exception.thread);
}

fn exception_agrees(state: &ProcessState, report: &Report) {
    let theirs = state.exception_info.as_ref().unwrap();
    let signal = report.exception.signal.as_ref().unwrap();
    let reason = theirs.reason.to_string();
    assert!(reason.starts_with(&signal.name), "{reason}, not {}", signal.name);
    let named = report.exception.code.as_ref().and_then(|code| code.name.as_deref());
    // It has names for the codes of hardware faults.
    if let Some(name) = named.filter(|name| name.starts_with(&signal.name[3..])) {
        assert!(reason.ends_with(name), "{reason}, not {name}");
    }
    if let Some(address) = report.exception.address {
        assert_eq!(theirs.address.0, address.0);
    }
}

fn images_agree(state: &ProcessState, report: &Report) {
    let mut theirs: Vec<_> = state.modules.iter().map(|module| (module.raw.base_of_image, &*module.name)).collect();
    let mut ours: Vec<_> = report.images.iter().map(|image| (image.base.0, image.path.as_str())).collect();
    theirs.sort_unstable();
    ours.sort_unstable();
    assert_eq!(theirs, ours);
}
