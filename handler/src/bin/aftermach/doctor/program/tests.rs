//! Programs and bundles, made by hand after Apple's headers.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use aftermach_protocol::product::Product;

use super::super::finding::{Finding, Verdict};
use super::signature::tests::signature;
use super::{Reach, macho};

const X86_64: (u32, u32) = (0x0100_0007, 3);
const ARM64: (u32, u32) = (0x0100_000c, 0);

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("aftermach-doctor-program-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Without a launchd of this machine's.
fn check(path: &Path, product: Option<&Product>) -> Vec<Finding> {
    super::check(path, product, None)
}

fn name16(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

/// `segment_command_64` with one `section_64`, whose bytes lie at `offset`.
fn segment(segment: &str, section: &str, offset: u32, size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let words = |bytes: &mut Vec<u8>, words: &[u32]| bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    words(&mut bytes, &[0x19, 72 + 80]);
    bytes.extend(name16(segment));
    bytes.extend([0; 32]);
    words(&mut bytes, &[3, 3, 1, 0]);
    bytes.extend(name16(section));
    bytes.extend(name16(segment));
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(size.to_le_bytes());
    words(&mut bytes, &[offset, 3, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// A program: with the client's record or without, some constant text, and a signature if there is one.
fn program(cpu: (u32, u32), client: bool, signature: Option<&[u8]>) -> Vec<u8> {
    const DATA: u32 = 0x1000;
    const TEXT: &[u8] = b"\0TEAM123456.com.example\0";
    let mut commands = vec![segment("__TEXT", "__cstring", DATA + 0x100, TEXT.len() as u64)];
    if client {
        commands.push(segment("__DATA", "__aftermach", DATA, 128));
    }
    if let Some(signature) = signature {
        let words = [0x1d, 16, DATA + 0x200, signature.len() as u32];
        commands.push(words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect());
    }
    let size: usize = commands.iter().map(Vec::len).sum();
    let header = [0xfeed_facf, cpu.0, cpu.1, 2, commands.len() as u32, size as u32, 0, 0];
    let mut bytes: Vec<u8> = header.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    bytes.extend(commands.concat());
    bytes.resize(DATA as usize, 0);
    bytes.extend(b"AFTMREC\0\x01\0\0\0\x80\0\0\0");
    bytes.resize(DATA as usize + 0x100, 0);
    bytes.extend(TEXT);
    bytes.resize(DATA as usize + 0x200, 0);
    bytes.extend(signature.unwrap_or_default());
    bytes
}

/// A universal file of programs for CPUs.
fn universal(slices: &[((u32, u32), Vec<u8>)]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        [0xcafe_babe, slices.len() as u32].iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
    let mut offset = 0x4000_u32;
    for ((kind, subtype), slice) in slices {
        let words = [*kind, *subtype, offset, slice.len() as u32, 14];
        bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        offset += (slice.len() as u32).next_multiple_of(0x4000);
    }
    for (_, slice) in slices {
        bytes.resize(bytes.len().next_multiple_of(0x4000), 0);
        bytes.extend(slice);
    }
    bytes
}

fn plist(content: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><plist version=\"1.0\"><dict>{content}</dict></plist>")
}

fn group(name: &str) -> String {
    format!("<key>com.apple.security.application-groups</key><array><string>{name}</string></array>")
}

const SANDBOX: &str = "<key>com.apple.security.app-sandbox</key><true/>";

/// A signed arm64 program with the client and these entitlements.
fn entitled(entitlements: &str) -> Vec<u8> {
    program(ARM64, true, Some(&signature(0x10000, Some("TEAM123456"), Some(&plist(entitlements)))))
}

fn product(group: &str) -> Product {
    Product::new(group, "Tunnel", "").unwrap()
}

/// What is found of a plain program.
fn found(bytes: &[u8], group: Option<&str>) -> Vec<Finding> {
    let folder = Folder::new();
    let path = folder.write("victim", bytes);
    check(&path, group.map(product).as_ref())
}

#[track_caller]
fn expect<'f>(findings: &'f [Finding], check: &str, verdict: Verdict, words: &str) -> &'f Finding {
    let finding = findings.iter().find(|finding| finding.check == check);
    let finding = finding.unwrap_or_else(|| panic!("{check} is not in {findings:#?}"));
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    assert!(finding.found.contains(words), "{finding:?}");
    assert!(matches!(verdict, Verdict::Ok) || !finding.advice.is_empty(), "{finding:?}");
    finding
}

#[test]
fn a_program_in_a_sandbox_finds_what_lies_below_its_app_group() {
    let bytes = entitled(&format!("{SANDBOX}{}", group("TEAM123456.com.example")));
    let findings = found(&bytes, Some("TEAM123456.com.example"));
    assert!(findings.iter().all(|finding| finding.verdict == Verdict::Ok), "{findings:#?}");
    expect(&findings, "program-client", Verdict::Ok, "record version 1");
    expect(&findings, "program-signature", Verdict::Ok, "by team TEAM123456");
    expect(&findings, "program-hardened-runtime", Verdict::Ok, "on");
    let service =
        "TEAM123456.com.example.Tunnel.crashd.v1 lies in its app group TEAM123456.com.example; the group's name";
    expect(&findings, "program-service", Verdict::Ok, service);
    // Below it is as good; beside it, or with no more than its letters at the start, is not.
    let below = found(&bytes, Some("TEAM123456.com.example.sub"));
    expect(&below, "program-service", Verdict::Ok, "lies in its app group");
    for beside in ["TEAM123456.com.examples", "TEAM123456.com", "com.example"] {
        expect(&found(&bytes, Some(beside)), "program-service", Verdict::Failed, "the sandbox hides it");
    }
    expect(&found(&bytes, None), "program-service", Verdict::Unknown, "said when it runs");
}

#[test]
fn a_sandbox_without_groups_and_names_by_exception_are_told() {
    let alone = entitled(SANDBOX);
    expect(&found(&alone, None), "program-service", Verdict::Failed, "without an app group");
    expect(&found(&alone, Some("com.example")), "program-service", Verdict::Failed, "hides it");
    let key = "com.apple.security.temporary-exception.mach-lookup.global-name";
    let excepted =
        entitled(&format!("{SANDBOX}<key>{key}</key><array><string>com.example.Tunnel.crashd.v1</string></array>"));
    expect(&found(&excepted, Some("com.example")), "program-service", Verdict::Ok, "by exception");
    let inherited = entitled(&format!("{SANDBOX}<key>com.apple.security.inherit</key><true/>"));
    expect(&found(&inherited, Some("com.example")), "program-sandbox", Verdict::Unknown, "whoever starts it");
    expect(&found(&entitled(""), Some("com.example")), "program-service", Verdict::Ok, "may look that up");
}

#[test]
fn an_app_group_of_another_team_is_warned_of() {
    let bytes = entitled(&format!("{SANDBOX}{}", group("OTHER98765.com.example")));
    expect(
        &found(&bytes, Some("OTHER98765.com.example")),
        "program-service",
        Verdict::Warning,
        "not of the signing team",
    );
    let profiled = entitled(&format!("{SANDBOX}{}", group("group.com.example")));
    expect(&found(&profiled, Some("group.com.example")), "program-service", Verdict::Ok, "");
}

#[test]
fn what_entitlements_mean_for_registering_is_told() {
    let key = |name: &str| format!("<key>{name}</key><true/>");
    let one = found(&entitled(&key("com.apple.security.only-one-exception-port")), None);
    expect(&one, "program-exception-ports", Verdict::Failed, "only-one-exception-port");
    let text = "<key>com.apple.security.hardened-process.platform-restrictions-string</key><string>2</string>";
    for restricted in [text.to_owned(), key("com.apple.security.hardened-process")] {
        let findings = found(&entitled(&restricted), None);
        let finding = expect(&findings, "program-exception-ports", Verdict::Ok, "Enhanced Security");
        assert!(finding.lines[0].contains("kills"), "{finding:?}");
    }
    let debugged = found(&entitled(&key("com.apple.security.get-task-allow")), None);
    expect(&debugged, "program-debugging", Verdict::Warning, "under a debugger");
    expect(
        &found(&entitled(&key("com.apple.security.cs.debugger")), None),
        "program-debugging",
        Verdict::Ok,
        "debug others",
    );
    let jit = found(&entitled(&key("com.apple.security.cs.allow-jit")), None);
    assert!(expect(&jit, "program-jit", Verdict::Ok, "allow-jit").lines[0].contains("crash_only"));
}

#[test]
fn a_program_without_client_or_signature_fails_where_that_matters() {
    let bare = found(&program(ARM64, false, None), None);
    expect(&bare, "program-client", Verdict::Failed, "not linked");
    expect(&bare, "program-signature", Verdict::Failed, "does not run it");
    let intel = found(&program(X86_64, true, None), None);
    expect(&intel, "program-signature", Verdict::Warning, "not signed");
    let linkers = found(&program(ARM64, true, Some(&signature(0x20002, None, None))), None);
    expect(&linkers, "program-signature", Verdict::Ok, "by the linker");
    expect(&linkers, "program-hardened-runtime", Verdict::Ok, "off");
    let broken = found(&program(ARM64, true, Some(&[0; 64])), None);
    expect(&broken, "program-signature", Verdict::Failed, "can't be read");
}

#[test]
fn slices_that_agree_are_told_once_and_others_by_their_cpu() {
    let signed = signature(0x10000, Some("TEAM123456"), None);
    let same =
        universal(&[(X86_64, program(X86_64, true, Some(&signed))), (ARM64, program(ARM64, true, Some(&signed)))]);
    let findings = found(&same, None);
    expect(&findings, "program-file", Verdict::Ok, "x86_64, arm64");
    assert_eq!(findings.iter().filter(|finding| finding.check == "program-client").count(), 1);
    let other =
        universal(&[(X86_64, program(X86_64, true, Some(&signed))), (ARM64, program(ARM64, false, Some(&signed)))]);
    let findings = found(&other, None);
    let clients = findings.iter().filter(|finding| finding.check == "program-client");
    let clients: Vec<_> = clients.map(|finding| (finding.subject.as_str(), finding.verdict)).collect();
    assert_eq!(clients, [("x86_64", Verdict::Ok), ("arm64", Verdict::Failed)]);
}

/// A packet tunnel as a system extension.
fn tunnel(folder: &Folder, service: &str, entitlements: &str) -> PathBuf {
    let info = plist(&format!(
        "<key>CFBundleExecutable</key><string>tunnel</string><key>CFBundleIdentifier</key><string>com.example.tunnel</string>\
         <key>NetworkExtension</key><dict>{service}<key>NEProviderClasses</key><dict>\
         <key>com.apple.networkextension.packet-tunnel</key><string>x.Provider</string></dict></dict>"
    ));
    folder.write("com.example.tunnel.systemextension/Contents/Info.plist", info.as_bytes());
    folder.write("com.example.tunnel.systemextension/Contents/MacOS/tunnel", &entitled(entitlements));
    folder.0.join("com.example.tunnel.systemextension")
}

#[test]
fn a_packet_tunnel_is_told_that_it_needs_a_daemon_and_what_its_names_must_be() {
    let folder = Folder::new();
    let network = "<key>com.apple.developer.networking.networkextension</key>\
                   <array><string>packet-tunnel-provider-systemextension</string></array>";
    let entitlements = format!("{SANDBOX}{}{network}", group("TEAM123456.com.example"));
    let name = "<key>NEMachServiceName</key><string>TEAM123456.com.example.tunnel</string>";
    let path = tunnel(&folder, name, &entitlements);
    let findings = check(&path, Some(&product("TEAM123456.com.example")));
    let kind = expect(&findings, "program-kind", Verdict::Warning, "com.apple.networkextension.packet-tunnel");
    assert!(kind.advice.contains("as a daemon"), "{kind:?}");
    expect(&findings, "program-file", Verdict::Ok, "com.example.tunnel, ");
    expect(&findings, "program-extension", Verdict::Ok, "lies in its app group");
    expect(&findings, "program-network-extension", Verdict::Ok, "packet-tunnel-provider-systemextension");

    let path = tunnel(&folder, "<key>NEMachServiceName</key><string>com.example.tunnel</string>", SANDBOX);
    let findings = check(&path, None);
    expect(&findings, "program-extension", Verdict::Failed, "in none of its app groups");
    expect(&findings, "program-network-extension", Verdict::Failed, "is missing");
    let path = tunnel(&folder, "", &entitlements);
    expect(&check(&path, None), "program-extension", Verdict::Failed, "NEMachServiceName is missing");
}

#[test]
fn on_a_mac_the_job_must_be_where_the_program_looks() {
    let folder = Folder::new();
    let name = "<key>NEMachServiceName</key><string>TEAM123456.com.example.tunnel</string>";
    let extension = tunnel(&folder, name, &group("TEAM123456.com.example"));
    let app = folder.write("App.app/Contents/MacOS/App", &entitled(""));
    let app = app.ancestors().nth(3).unwrap();
    let plain = folder.write("tool", &entitled(""));
    let reach = |agent, daemon| Some(Reach { agent, daemon });
    for (path, reach, verdict) in [
        (extension.as_path(), reach(true, false), Verdict::Failed),
        (&extension, reach(false, false), Verdict::Failed),
        (&extension, reach(false, true), Verdict::Ok),
        (app, reach(true, false), Verdict::Ok),
        (app, reach(false, true), Verdict::Ok),
        (app, reach(false, false), Verdict::Failed),
        (&plain, reach(true, false), Verdict::Ok),
    ] {
        let findings = super::check(path, Some(&product("TEAM123456.com.example")), reach);
        expect(&findings, "program-reach", verdict, "on this machine");
    }
    let served = super::check(&extension, None, reach(false, true));
    expect(&served, "program-kind", Verdict::Ok, "finds the daemon");
}

#[test]
fn an_app_is_told_of_the_programs_in_it_and_of_a_library_that_has_the_client() {
    let folder = Folder::new();
    let without = program(ARM64, false, Some(&signature(0, Some("TEAM123456"), None)));
    // Written by another writer, in the form that builds have.
    let mut info = plist::Dictionary::new();
    info.insert("CFBundleExecutable".to_owned(), "App".into());
    let mut bytes = Vec::new();
    plist::Value::Dictionary(info).to_writer_binary(&mut bytes).unwrap();
    folder.write("Some App.app/Contents/Info.plist", &bytes);
    folder.write("Some App.app/Contents/MacOS/App", &without);
    folder.write("Some App.app/Contents/XPCServices/Worker.xpc/Contents/MacOS/Worker", &without);
    let app = folder.0.join("Some App.app");
    let findings = check(&app, None);
    expect(&findings, "program-kind", Verdict::Ok, "an app");
    expect(&findings, "program-client", Verdict::Failed, "not linked");
    let contains = expect(&findings, "program-contains", Verdict::Ok, "1 program");
    assert!(contains.lines[0].ends_with("/Contents/XPCServices/Worker.xpc'"), "{contains:?}");
    let worker = check(&app.join("Contents/XPCServices/Worker.xpc"), None);
    expect(&worker, "program-kind", Verdict::Ok, "an XPC service");
    expect(&worker, "program-info", Verdict::Failed, "no such file");

    folder.write("Some App.app/Contents/Frameworks/Core.framework/Core", &program(ARM64, true, None));
    expect(&check(&app, None), "program-client", Verdict::Ok, "Core.framework/Core");
}

/// Linked by LLD, which signs what it links for Apple silicon as the system's own linker does, under the file's name.
#[test]
fn what_another_linker_signed_is_read_as_it_signed_it() {
    let main = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/bin/arm64/O2/main");
    let findings = check(&main, None);
    expect(&findings, "program-signature", Verdict::Ok, "signed as main by the linker");
    expect(&findings, "program-client", Verdict::Failed, "not linked");
    expect(&findings, "program-entitlements", Verdict::Ok, "none");
}

#[test]
fn what_is_no_program_is_told_as_such() {
    let folder = Folder::new();
    for (name, bytes, words) in [
        ("empty", &b""[..], "neither Mach-O nor ELF"),
        ("script", b"#!/bin/sh\n", "a script"),
        ("old", b"\xce\xfa\xed\xfe", "32 bits"),
        // Version 61 of Java's class files.
        ("class", b"\xca\xfe\xba\xbe\0\0\0\x3d\0\0\0\0", "no universal program"),
        ("cut", b"\xca\xfe\xba\xbe\0\0\0\x02\0\0\0\0", "no universal program"),
    ] {
        let path = folder.write(name, bytes);
        expect(&check(&path, None), "program-file", Verdict::Failed, words);
    }
    let cut = folder.write("cut-macho", b"\xcf\xfa\xed\xfe\x0c\0\0\x01");
    expect(&check(&cut, None), "program-slice", Verdict::Failed, "lies outside");
    let mut damaged = program(ARM64, true, None);
    // The size of the second load command, after a segment with one section.
    damaged[32 + 152 + 4..32 + 152 + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    let damaged = folder.write("damaged", &damaged);
    expect(&check(&damaged, None), "program-slice", Verdict::Failed, "a load command is damaged");
    let old = universal(&[((7, 3), b"\xce\xfa\xed\xfe".to_vec()), (ARM64, entitled(""))]);
    let old = check(&folder.write("with-i386", &old), None);
    expect(&old, "program-slice", Verdict::Unknown, "no Mac that Aftermach runs on");
    expect(&check(&folder.0.join("gone"), None), "program-file", Verdict::Failed, "No such file");
    fs::create_dir(folder.0.join("x.app")).unwrap();
    expect(&check(&folder.0.join("x.app"), None), "program-file", Verdict::Failed, "no program x");
    let leading = plist("<key>CFBundleExecutable</key><string>../../../victim</string>");
    folder.write("y.app/Contents/Info.plist", leading.as_bytes());
    folder.write("victim", &program(ARM64, true, None));
    expect(&check(&folder.0.join("y.app"), None), "program-file", Verdict::Failed, "no program y");
}

#[test]
fn a_linux_program_is_looked_into_for_the_client_alone() {
    // This very test: it does not link the client.
    let this = std::env::current_exe().unwrap();
    let findings = check(&this, None);
    expect(&findings, "program-client", Verdict::Failed, "not linked");
}

#[test]
fn cut_and_changed_programs_never_end_the_tool() {
    let folder = Folder::new();
    let signed = signature(0x10000, Some("TEAM123456"), Some(&plist(SANDBOX)));
    let whole = universal(&[(ARM64, program(ARM64, true, Some(&signed)))]);
    // Headers, load commands, and the signature: nothing else is looked into.
    let interesting = (0..64).chain(0x4000..0x4000 + 600).chain(0x5200..whole.len());
    let path = folder.write("changed", &whole);
    let file = fs::File::options().write(true).open(&path).unwrap();
    for at in interesting {
        for value in [0, 0xff, whole[at]] {
            file.write_all_at(&[value], at as u64).unwrap();
            let _ = check(&path, None);
        }
    }
    for length in (0..whole.len()).step_by(61) {
        fs::write(&path, &whole[..length]).unwrap();
        let _ = macho::read(&path, Some("TEAM"));
    }
}
