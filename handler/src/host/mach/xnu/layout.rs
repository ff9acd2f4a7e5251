//! The offsets at which answers are decoded are those of the system's structures: checked when compiled for a Mac, as far as
//! mach2 and libc declare them. Registers: in `cpu_*`.

use std::mem::{offset_of, size_of};

use mach2::message::{mach_msg_audit_trailer_t, mach_msg_body_t, mach_msg_header_t, mach_msg_port_descriptor_t};
use mach2::task_info::task_dyld_info;
use mach2::vm_region::vm_region_submap_info_64 as Submap;

use super::super::process::{BSD_INFO, SHORT_BSD_INFO};
use super::super::region::SUBMAP_INFO_WORDS;
use super::super::task::{TASK_DYLD_INFO, THREAD_EXTENDED_INFO, THREAD_IDENTIFIER_INFO};

const _: () = {
    // Messages (protocol's codec).
    assert!(size_of::<mach_msg_header_t>() == 24);
    assert!(offset_of!(mach_msg_header_t, msgh_remote_port) == 8);
    assert!(offset_of!(mach_msg_header_t, msgh_voucher_port) == 16);
    assert!(offset_of!(mach_msg_header_t, msgh_id) == 20);
    assert!(size_of::<mach_msg_body_t>() == 4);
    assert!(size_of::<mach_msg_port_descriptor_t>() == 12);
    assert!(offset_of!(mach_msg_port_descriptor_t, disposition) == 10);
    assert!(offset_of!(mach_msg_port_descriptor_t, type_) == 11);
    assert!(size_of::<mach_msg_audit_trailer_t>() == 52);
    assert!(offset_of!(mach_msg_audit_trailer_t, msgh_sender) == 12);
    assert!(offset_of!(mach_msg_audit_trailer_t, msgh_audit) == 20);
};

const _: () = {
    // Mappings and dyld.
    assert!(size_of::<Submap>() == 4 * SUBMAP_INFO_WORDS);
    assert!(offset_of!(Submap, offset) == 12);
    assert!(offset_of!(Submap, user_tag) == 20);
    assert!(offset_of!(Submap, share_mode) == 47);
    assert!(size_of::<task_dyld_info>() == 4 * TASK_DYLD_INFO.1);
    assert!(offset_of!(task_dyld_info, all_image_info_format) == 16);
};

const _: () = {
    // Threads.
    assert!(THREAD_IDENTIFIER_INFO.0 == libc::THREAD_IDENTIFIER_INFO as u32);
    assert!(size_of::<libc::thread_identifier_info>() == 4 * THREAD_IDENTIFIER_INFO.1);
    assert!(offset_of!(libc::thread_identifier_info, thread_id) == 0);
    assert!(offset_of!(libc::thread_identifier_info, thread_handle) == 8);
    assert!(offset_of!(libc::thread_identifier_info, dispatch_qaddr) == 16);
    assert!(THREAD_EXTENDED_INFO.0 == libc::THREAD_EXTENDED_INFO as u32);
    assert!(size_of::<libc::thread_extended_info>() == 4 * THREAD_EXTENDED_INFO.1);
    assert!(offset_of!(libc::thread_extended_info, pth_curpri) == 36);
    assert!(offset_of!(libc::thread_extended_info, pth_priority) == 40);
    assert!(offset_of!(libc::thread_extended_info, pth_name) == 48);
    assert!(size_of::<libc::thread_extended_info>() - offset_of!(libc::thread_extended_info, pth_name) == 64);
};

const _: () = {
    // Processes.
    assert!(size_of::<libc::proc_bsdinfo>() == BSD_INFO.1);
    assert!(offset_of!(libc::proc_bsdinfo, pbi_ppid) == 16);
    assert!(offset_of!(libc::proc_bsdinfo, pbi_ruid) == 28);
    assert!(offset_of!(libc::proc_bsdinfo, pbi_comm) == 48);
    assert!(offset_of!(libc::proc_bsdinfo, pbi_name) == 64);
    assert!(offset_of!(libc::proc_bsdinfo, pbi_nice) == 116);
    assert!(offset_of!(libc::proc_bsdinfo, pbi_start_tvsec) == 120);
    assert!(size_of::<libc::proc_bsdshortinfo>() == SHORT_BSD_INFO.1);
    assert!(offset_of!(libc::proc_bsdshortinfo, pbsi_comm) == 16);
    assert!(offset_of!(libc::proc_bsdshortinfo, pbsi_flags) == 32);
    assert!(offset_of!(libc::proc_bsdshortinfo, pbsi_ruid) == 44);
};
