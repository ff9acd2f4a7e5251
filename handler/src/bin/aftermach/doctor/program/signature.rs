//! A Mach-O file's code signature, as far as it says what the program may do. Nothing is verified: that is `codesign`'s, and at
//! the start of a program the kernel's.
//!
//! Layout: xnu `osfmk/kern/cs_blobs.h`. A super blob {magic, length, count} with an index {slot, offset} for each blob; a blob
//! starts with {magic, length}. All numbers are big-endian.

use plist::Dictionary;

use super::plist::dictionary;

/// Largest signature that is read: 32 bytes a page of 4 KiB twice over make 16 MiB for a program of 1 GiB.
pub(super) const MAX_BYTES: u64 = 32 << 20;
/// Most blobs in one. Real ones have up to ten.
const MAX_BLOBS: usize = 64;
/// Longest identifier and team that are read.
const MAX_TEXT: usize = 256;

const CSMAGIC_EMBEDDED_SIGNATURE: u32 = 0xfade_0cc0;
const CSMAGIC_CODEDIRECTORY: u32 = 0xfade_0c02;
const CSMAGIC_EMBEDDED_ENTITLEMENTS: u32 = 0xfade_7171;
const CSMAGIC_EMBEDDED_DER_ENTITLEMENTS: u32 = 0xfade_7172;
const CSMAGIC_BLOBWRAPPER: u32 = 0xfade_0b01;

const CSSLOT_CODEDIRECTORY: u32 = 0;
const CSSLOT_ENTITLEMENTS: u32 = 5;
const CSSLOT_DER_ENTITLEMENTS: u32 = 7;
const CSSLOT_SIGNATURESLOT: u32 = 0x10000;

/// From this version of the code directory on it names a team.
const CS_SUPPORTSTEAMID: u32 = 0x20200;

const CS_ADHOC: u32 = 0x2;
const CS_RUNTIME: u32 = 0x10000;
const CS_LINKER_SIGNED: u32 = 0x20000;

/// What a signature says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CodeSignature {
    /// The program's identifier, mostly the bundle's.
    pub(super) identifier: Option<String>,
    /// Its team.
    pub(super) team: Option<String>,
    /// Flags of the code directory.
    pub(super) flags: u32,
    /// Whether somebody's certificate stands behind it.
    pub(super) certified: bool,
    pub(super) entitlements: Entitlements,
}

/// What a program is entitled to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entitlements {
    /// It says nothing.
    None,
    /// What it says.
    Some(Dictionary),
    /// It says so only in the binary form (DER), which is not read here.
    OnlyDer,
    /// It says something that can't be read.
    Broken(String),
}

impl CodeSignature {
    /// Signed by nobody in particular.
    pub(super) fn is_ad_hoc(&self) -> bool {
        self.flags & CS_ADHOC != 0 || !self.certified
    }

    /// Signed by the linker, as a stopgap.
    pub(super) fn is_linkers(&self) -> bool {
        self.flags & CS_LINKER_SIGNED != 0
    }

    /// The hardened runtime.
    pub(super) fn is_hardened(&self) -> bool {
        self.flags & CS_RUNTIME != 0
    }
}

/// The signature that `bytes`, the data of `LC_CODE_SIGNATURE`, are.
///
/// # Errors
/// Why they are none.
pub(super) fn parse(bytes: &[u8]) -> Result<CodeSignature, String> {
    let number = |at: usize| u32_at(bytes, at).ok_or("it ends too early");
    if number(0)? != CSMAGIC_EMBEDDED_SIGNATURE {
        return Err("it is no embedded signature".to_owned());
    }
    let length = (number(4)? as usize).min(bytes.len());
    let bytes = &bytes[..length];
    let count = number(8)? as usize;
    if count > MAX_BLOBS {
        return Err(format!("it has {count} parts"));
    }
    let mut directory = None;
    let mut entitlements = Entitlements::None;
    let mut has_der = false;
    let mut certified = false;
    for index in 0..count {
        let (Some(slot), Some(offset)) = (u32_at(bytes, 12 + 8 * index), u32_at(bytes, 16 + 8 * index)) else {
            return Err("its index ends too early".to_owned());
        };
        let blob = blob(bytes, offset as usize);
        match (slot, blob) {
            (CSSLOT_CODEDIRECTORY, Some((CSMAGIC_CODEDIRECTORY, blob))) => directory = Some(blob),
            (CSSLOT_ENTITLEMENTS, Some((CSMAGIC_EMBEDDED_ENTITLEMENTS, blob))) => {
                entitlements = match dictionary(&blob[8..]) {
                    Ok(dictionary) => Entitlements::Some(dictionary),
                    Err(why) => Entitlements::Broken(why),
                };
            }
            (CSSLOT_ENTITLEMENTS, _) => {
                entitlements = Entitlements::Broken("they lie outside of the signature".to_owned())
            }
            (CSSLOT_DER_ENTITLEMENTS, Some((CSMAGIC_EMBEDDED_DER_ENTITLEMENTS, _))) => has_der = true,
            // Ad hoc signatures may have an empty one.
            (CSSLOT_SIGNATURESLOT, Some((CSMAGIC_BLOBWRAPPER, blob))) => certified = blob.len() > 8,
            _ => {}
        }
    }
    let directory = directory.ok_or("it has no code directory")?;
    let field = |at: usize| u32_at(directory, at).ok_or("its code directory ends too early");
    if has_der && entitlements == Entitlements::None {
        entitlements = Entitlements::OnlyDer;
    }
    let team = (field(8)? >= CS_SUPPORTSTEAMID).then(|| field(48)).transpose()?.filter(|offset| *offset != 0);
    Ok(CodeSignature {
        flags: field(12)?,
        identifier: text(directory, field(20)?),
        team: team.and_then(|offset| text(directory, offset)),
        certified,
        entitlements,
    })
}

/// The blob at an offset, with its magic and all of its bytes, at least eight.
fn blob(bytes: &[u8], offset: usize) -> Option<(u32, &[u8])> {
    let magic = u32_at(bytes, offset)?;
    let length = u32_at(bytes, offset.checked_add(4)?)? as usize;
    let blob = bytes.get(offset..offset.checked_add(length)?)?;
    (length >= 8).then_some((magic, blob))
}

/// A text in the code directory, up to its NUL.
fn text(directory: &[u8], offset: u32) -> Option<String> {
    let bytes = directory.get(offset as usize..)?;
    let bytes = &bytes[..bytes.len().min(MAX_TEXT)];
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned()).filter(|text| !text.is_empty())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A code directory after cs_blobs.h: version 0x20500, an identifier and a team.
    fn directory(flags: u32, identifier: &str, team: Option<&str>) -> Vec<u8> {
        let mut bytes = vec![0; 0x60];
        let ident_offset = bytes.len() as u32;
        bytes.extend(identifier.bytes().chain([0]));
        let team_offset = team.map_or(0, |_| bytes.len() as u32);
        bytes.extend(team.map(|team| team.bytes().chain([0]).collect::<Vec<u8>>()).unwrap_or_default());
        let length = bytes.len() as u32;
        for (at, value) in
            [(0, 0xfade_0c02), (4, length), (8, 0x20500), (12, flags), (20, ident_offset), (48, team_offset)]
        {
            bytes[at..at + 4].copy_from_slice(&u32::to_be_bytes(value));
        }
        bytes
    }

    fn wrapped(magic: u32, content: &[u8]) -> Vec<u8> {
        [&magic.to_be_bytes()[..], &(8 + content.len() as u32).to_be_bytes(), content].concat()
    }

    fn super_blob(blobs: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0; 12 + 8 * blobs.len()];
        for (index, (slot, blob)) in blobs.iter().enumerate() {
            let offset = bytes.len() as u32;
            bytes[12 + 8 * index..16 + 8 * index].copy_from_slice(&slot.to_be_bytes());
            bytes[16 + 8 * index..20 + 8 * index].copy_from_slice(&offset.to_be_bytes());
            bytes.extend(blob);
        }
        let length = bytes.len() as u32;
        for (at, value) in [(0, 0xfade_0cc0), (4, length), (8, blobs.len() as u32)] {
            bytes[at..at + 4].copy_from_slice(&u32::to_be_bytes(value));
        }
        bytes
    }

    /// A signature for tests: its flags, its team and its entitlements' XML.
    pub(in super::super) fn signature(flags: u32, team: Option<&str>, entitlements: Option<&str>) -> Vec<u8> {
        let mut blobs = vec![(0, directory(flags, "com.example.app", team))];
        if let Some(xml) = entitlements {
            blobs.push((5, wrapped(0xfade_7171, xml.as_bytes())));
        }
        // A certificate, as far as anybody looks.
        blobs.push((0x10000, wrapped(0xfade_0b01, if team.is_some() { b"CMS" } else { b"" })));
        super_blob(&blobs)
    }

    const XML: &str = "<plist><dict><key>com.apple.security.app-sandbox</key><true/></dict></plist>";

    #[test]
    fn a_signature_tells_whose_it_is_its_flags_and_its_entitlements() {
        let read = parse(&signature(0x10000, Some("TEAM123456"), Some(XML))).unwrap();
        assert_eq!(read.identifier.as_deref(), Some("com.example.app"));
        assert_eq!((read.team.as_deref(), read.is_hardened(), read.is_ad_hoc()), (Some("TEAM123456"), true, false));
        let Entitlements::Some(entitlements) = read.entitlements else { panic!("none") };
        assert_eq!(entitlements["com.apple.security.app-sandbox"].as_boolean(), Some(true));
        let linkers = parse(&signature(0x20002, None, None)).unwrap();
        assert_eq!((linkers.is_ad_hoc(), linkers.is_linkers(), linkers.is_hardened()), (true, true, false));
        assert_eq!((linkers.team, linkers.entitlements), (None, Entitlements::None));
    }

    #[test]
    fn entitlements_that_cannot_be_read_are_told_from_none() {
        let broken = parse(&signature(0, None, Some("<plist><array/></plist>"))).unwrap();
        assert_eq!(broken.entitlements, Entitlements::Broken("it is no dictionary".to_owned()));
        let der = super_blob(&[(0, directory(0, "x", None)), (7, wrapped(0xfade_7172, b"\x70\x00"))]);
        assert_eq!(parse(&der).unwrap().entitlements, Entitlements::OnlyDer);
        let mut outside = super_blob(&[(0, directory(0, "x", None)), (5, Vec::new())]);
        outside[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(parse(&outside).unwrap().entitlements, Entitlements::Broken(_)));
    }

    #[test]
    fn bytes_that_are_no_signature_are_refused_with_the_reason() {
        assert!(parse(b"").is_err());
        assert!(parse(&[0; 64]).unwrap_err().contains("no embedded signature"));
        assert!(parse(&super_blob(&[(5, wrapped(0xfade_7171, b"x"))])).unwrap_err().contains("no code directory"));
        let mut many = super_blob(&[]);
        many[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(parse(&many).unwrap_err().contains("parts"));
    }

    #[test]
    fn cut_and_changed_signatures_never_end_the_tool() {
        let whole = signature(0x10000, Some("TEAM123456"), Some(XML));
        for length in 0..whole.len() {
            let _ = parse(&whole[..length]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = parse(&changed);
            }
        }
    }
}
