//! The MIME type of a file, from its first bytes, with the names that witness and cilock write (wire-formats §4.5).
//!
//! Both use the Go library gabriel-vasile/mimetype, and other attestors choose their input by these names, so that
//! equal bytes must have equal names. Crate mimetype-detector knows more formats under other names: its answers are
//! taken for binary formats only, and only where the Go library has the name too. Text, archives and programs, on
//! which attestors depend, are told apart here as the Go library 1.4.13 does. Names with a path are not looked at.

mod json;
mod markup;
mod text;

use std::borrow::Cow;

/// How many bytes at the beginning of a file decide its type.
pub const HEAD: usize = 3072;

/// Binary formats that the Go library has and that are taken from the crate.
const KNOWN: [&str; 119] = [
    "application/cbor",
    "application/dicom",
    "application/fits",
    "application/grib",
    "application/gzip",
    "application/lzip",
    "application/marc",
    "application/msword",
    "application/ogg",
    "application/onenote",
    "application/pdf",
    "application/postscript",
    "application/tzif",
    "application/vnd.adobe.flash.movie",
    "application/vnd.apache.parquet",
    "application/vnd.apple.mpegurl",
    "application/vnd.debian.binary-package",
    "application/vnd.fdf",
    "application/vnd.framemaker",
    "application/vnd.lotus-1-2-3",
    "application/vnd.microsoft.portable-executable",
    "application/vnd.ms-cab-compressed",
    "application/vnd.ms-excel",
    "application/vnd.ms-fontobject",
    "application/vnd.ms-htmlhelp",
    "application/vnd.ms-outlook",
    "application/vnd.ms-powerpoint",
    "application/vnd.ms-publisher",
    "application/vnd.nintendo.snes.rom",
    "application/vnd.rn-realmedia-vbr",
    "application/vnd.shp",
    "application/vnd.shx",
    "application/vnd.sqlite3",
    "application/vnd.wordperfect",
    "application/wasm",
    "application/x-7z-compressed",
    "application/x-archive",
    "application/x-bittorrent",
    "application/x-bzip2",
    "application/x-chrome-extension",
    "application/x-cpio",
    "application/x-installshield",
    "application/x-java-applet",
    "application/x-mach-binary",
    "application/x-mobipocket-ebook",
    "application/x-ms-installer",
    "application/x-ms-reader",
    "application/x-ms-shortcut",
    "application/x-msaccess",
    "application/x-ole-storage",
    "application/x-os2-hlp",
    "application/x-os2-inf",
    "application/x-rar-compressed",
    "application/x-rpm",
    "application/x-shockwave-flash",
    "application/x-xar",
    "application/x-xz",
    "application/zlib",
    "application/zstd",
    "audio/aac",
    "audio/aiff",
    "audio/amr",
    "audio/ape",
    "audio/basic",
    "audio/flac",
    "audio/midi",
    "audio/mp4",
    "audio/mpeg",
    "audio/musepack",
    "audio/ogg",
    "audio/qcelp",
    "audio/wav",
    "audio/x-m4a",
    "audio/x-unknown",
    "font/collection",
    "font/otf",
    "font/woff",
    "font/woff2",
    "image/avif",
    "image/bmp",
    "image/bpg",
    "image/gif",
    "image/heic",
    "image/heic-sequence",
    "image/heif",
    "image/heif-sequence",
    "image/jp2",
    "image/jpeg",
    "image/jpm",
    "image/jpx",
    "image/jxl",
    "image/jxr",
    "image/jxs",
    "image/png",
    "image/tiff",
    "image/vnd.adobe.photoshop",
    "image/vnd.djvu",
    "image/vnd.dwg",
    "image/vnd.dxf",
    "image/vnd.mozilla.apng",
    "image/vnd.radiance",
    "image/webp",
    "image/x-gimp-gbr",
    "image/x-gimp-pat",
    "image/x-icns",
    "image/x-icon",
    "image/x-xcf",
    "image/x-xpixmap",
    "model/gltf-binary",
    "video/3gpp",
    "video/3gpp2",
    "video/mj2",
    "video/mp4",
    "video/mpeg",
    "video/quicktime",
    "video/webm",
    "video/x-flv",
    "video/x-matroska",
    "video/x-msvideo",
];

/// First bytes that alone decide, also where the rest looks like text.
const SIGNATURES: [(&[u8], &str); 59] = [
    (b"/* XPM */", "image/x-xpixmap"),
    (b"\xd9\xd9\xf7", "application/cbor"),
    (b"%FDF", "application/vnd.fdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"-----BEGIN PKCS7", "application/pkcs7-signature"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\xff\x0a", "image/jxl"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"MZ", "application/vnd.microsoft.portable-executable"),
    (b"xar!", "application/x-xar"),
    (b"BZh", "application/x-bzip2"),
    (b"SIMPLE  =                    T", "application/fits"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"MThd", "audio/midi"),
    (b"MPCK", "audio/musepack"),
    (b"#!AMR", "audio/amr"),
    (b".snd", "audio/basic"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"Creative Voice File", "audio/x-unknown"),
    (b"#EXTM3U\n", "application/vnd.apple.mpegurl"),
    (b"#EXTM3U\r\n", "application/vnd.apple.mpegurl"),
    (b".RMF", "application/vnd.rn-realmedia-vbr"),
    (b"\x1f\x8b", "application/gzip"),
    (b"CWS", "application/x-shockwave-flash"),
    (b"FWS", "application/x-shockwave-flash"),
    (b"ZWS", "application/x-shockwave-flash"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"\0asm", "application/wasm"),
    (b"AC1015", "image/vnd.dwg"),
    (b"AC1018", "image/vnd.dwg"),
    (b"AC1021", "image/vnd.dwg"),
    (b"AC1024", "image/vnd.dwg"),
    (b"AC1032", "image/vnd.dwg"),
    (b"ITOLITLS", "application/x-ms-reader"),
    (b"BPG\xfb", "image/bpg"),
    (b"\xfe\xed\xfa\xce", "application/x-mach-binary"),
    (b"\xce\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\xfe\xed\xfa\xcf", "application/x-mach-binary"),
    (b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (b"icns", "image/x-icns"),
    (b"#?RADIANCE\n", "image/vnd.radiance"),
    (b"\xed\xab\xee\xdb", "application/x-rpm"),
    (b"drpm", "application/x-rpm"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"LZIP", "application/lzip"),
    (b"d8:announce", "application/x-bittorrent"),
    (b"\xc7\x71", "application/x-cpio"),
    (b"070707", "application/x-cpio"),
    (b"070701", "application/x-cpio"),
    (b"070702", "application/x-cpio"),
    (b"gimp xcf", "image/x-xcf"),
    (b"  0\nSECTION\n", "image/vnd.dxf"),
    (b"0\nSECTION\n", "image/vnd.dxf"),
];

/// The MIME type of a file that begins with `head`, its first [`HEAD`] bytes or all of them.
///
/// Never empty; what is not known is `application/octet-stream`, an empty file `text/plain`.
pub fn detect(head: &[u8]) -> Cow<'static, str> {
    let head = &head[..head.len().min(HEAD)];
    if let Some(archive) = zip(head) {
        return archive.into();
    }
    if tar(head) {
        return "application/x-tar".into();
    }
    if let Some(program) = elf(head) {
        return program.into();
    }
    if head.starts_with(b"!<arch>") {
        // The first member of a Debian package, with the version of the format in it.
        let debian = head.get(8..).is_some_and(|rest| rest.starts_with(b"debian-binary"));
        return if debian { "application/vnd.debian.binary-package" } else { "application/x-archive" }.into();
    }
    // Anywhere near the beginning: mail gateways and printers put lines before it.
    if find(&head[..head.len().min(1024)], b"%PDF-").is_some() {
        return "application/pdf".into();
    }
    if let Some((_, name)) = SIGNATURES.iter().find(|(start, _)| head.starts_with(start)) {
        return (*name).into();
    }
    if zstd(head) {
        return "application/zstd".into();
    }
    match head {
        // A Java class has its version where a fat Mach-O has a small number of architectures.
        [0xCA, 0xFE, 0xBA, 0xBE, _, _, _, 31..=0xFF, ..] => return "application/x-java-applet".into(),
        [0xCA, 0xFE, 0xBA, 0xBE, _, _, _, 0..0x14, ..] => return "application/x-mach-binary".into(),
        [0, 1, 0, 0, ..] if sfnt(head) => return "font/ttf".into(),
        [0, 0, 1 | 2, 0, ..] => return lotus(head).unwrap_or("image/x-icon").into(),
        _ => {}
    }
    if text::is_text(head) {
        return text::detect(head);
    }
    if pkcs7(head) {
        return "application/pkcs7-signature".into();
    }
    crate_answer(head).into()
}

/// What the crate says, where the Go library has the name, else where it has that of a wider format.
fn crate_answer(head: &[u8]) -> &'static str {
    let mut found = Some(mimetype_detector::detect(head));
    while let Some(kind) = found {
        if KNOWN.binary_search(&kind.mime()).is_ok() {
            return kind.mime();
        }
        found = kind.parent();
    }
    "application/octet-stream"
}

/// A ZIP archive, by its first members.
fn zip(head: &[u8]) -> Option<&'static str> {
    const DOCUMENTS: [(&str, &str); 11] = [
        ("application/epub+zip", "application/epub+zip"),
        ("application/vnd.oasis.opendocument.text-template", "application/vnd.oasis.opendocument.text-template"),
        ("application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.text"),
        (
            "application/vnd.oasis.opendocument.spreadsheet-template",
            "application/vnd.oasis.opendocument.spreadsheet-template",
        ),
        ("application/vnd.oasis.opendocument.spreadsheet", "application/vnd.oasis.opendocument.spreadsheet"),
        (
            "application/vnd.oasis.opendocument.presentation-template",
            "application/vnd.oasis.opendocument.presentation-template",
        ),
        ("application/vnd.oasis.opendocument.presentation", "application/vnd.oasis.opendocument.presentation"),
        (
            "application/vnd.oasis.opendocument.graphics-template",
            "application/vnd.oasis.opendocument.graphics-template",
        ),
        ("application/vnd.oasis.opendocument.graphics", "application/vnd.oasis.opendocument.graphics"),
        ("application/vnd.oasis.opendocument.formula", "application/vnd.oasis.opendocument.formula"),
        ("application/vnd.oasis.opendocument.chart", "application/vnd.oasis.opendocument.chart"),
    ];
    const OFFICE: [(&[u8], &str); 4] = [
        (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
        (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (b"visio/", "application/vnd.ms-visio.drawing.main+xml"),
    ];
    const OFFICE_FIRST: [&[u8]; 5] = [b"[Content_Types].xml", b"_rels/", b"docProps/", b"customXml/", b"[trash]/"];
    const ANDROID: [&[u8]; 5] = [
        b"AndroidManifest.xml",
        b"META-INF/com/android/build/gradle/app-metadata.properties",
        b"classes.dex",
        b"resources.arsc",
        b"res/drawable",
    ];
    let [b'P', b'K', 3 | 5 | 7, 4 | 6 | 8, ..] = head else { return None };
    let members = members(head);
    let office = |prefix: &[u8]| {
        members
            .iter()
            .position(|name| name.starts_with(prefix))
            .is_some_and(|at| at == 0 || OFFICE_FIRST.iter().any(|first| members[0].starts_with(first)))
    };
    if let Some((_, name)) = OFFICE[..3].iter().find(|(prefix, _)| office(prefix)) {
        return Some(name);
    }
    let declared = head.get(30..).and_then(|rest| rest.strip_prefix(b"mimetype")).unwrap_or_default();
    if let Some((_, name)) = DOCUMENTS.iter().find(|(start, _)| declared.starts_with(start.as_bytes())) {
        return Some(name);
    }
    if members.iter().any(|name| ANDROID.contains(name)) {
        return Some("application/vnd.android.package-archive");
    }
    // An executable jar has the extra field 0xCAFE behind its first name.
    let name_length = head.get(26..28).map_or(0, |length| usize::from(u16::from_le_bytes([length[0], length[1]])));
    let cafe = head.get(30 + name_length..32 + name_length) == Some(&[0xFE, 0xCA]);
    if cafe || members.first().is_some_and(|name| *name == b"META-INF/" || *name == b"META-INF/MANIFEST.MF") {
        return Some("application/java-archive");
    }
    if declared.starts_with(b"application/vnd.sun.xml.calc") {
        return Some("application/vnd.sun.xml.calc");
    }
    if members.contains(&b"doc.kml".as_slice()) {
        return Some("application/vnd.google-earth.kmz");
    }
    Some(if office(OFFICE[3].0) { OFFICE[3].1 } else { "application/zip" })
}

/// The names of the members whose local headers lie in `head`, up to the first without a name.
fn members(head: &[u8]) -> Vec<&[u8]> {
    const MOST: usize = 100;
    let mut names = Vec::new();
    let mut rest = head;
    while names.len() < MOST {
        let Some(at) = find(rest, b"PK\x03\x04") else { break };
        let Some(length) = rest.get(at + 26..at + 28) else { break };
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        match rest.get(at + 30..at + 30 + length) {
            Some(name) if !name.is_empty() => names.push(name),
            _ => break,
        }
        rest = &rest[at + 30..];
    }
    names
}

/// A tar archive, by the checksum of its first header; this holds for ustar, GNU and the old form alike.
fn tar(head: &[u8]) -> bool {
    let Some(header) = head.get(..512) else { return false };
    // Gentoo's packages are a format of their own.
    if find(&header[..100], b"/gpkg-1\0").is_some() {
        return false;
    }
    let field = header[148..156].trim_ascii_start();
    let digits: Vec<u8> = field
        .iter()
        .copied()
        .skip_while(|&byte| byte == b' ' || byte == 0)
        .take_while(|&byte| byte != 0 && byte != b' ')
        .collect();
    if digits.is_empty() || !digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return false;
    }
    let recorded = digits.iter().fold(0_i64, |sum, digit| (sum << 3) | i64::from(digit - b'0'));
    let bytes = |at: usize| if (148..156).contains(&at) { b' ' } else { header[at] };
    let unsigned: i64 = (0..512).map(|at| i64::from(bytes(at))).sum();
    let signed: i64 = (0..512).map(|at| i64::from(bytes(at).cast_signed())).sum();
    recorded == unsigned || recorded == signed
}

/// An ELF file, by its type in either byte order.
fn elf(head: &[u8]) -> Option<&'static str> {
    let rest = head.strip_prefix(b"\x7fELF")?;
    Some(match rest.get(12..14) {
        Some([1, 0] | [0, 1]) => "application/x-object",
        Some([2, 0] | [0, 2]) => "application/x-executable",
        Some([3, 0] | [0, 3]) => "application/x-sharedlib",
        Some([4, 0] | [0, 4]) => "application/x-coredump",
        _ => "application/x-elf",
    })
}

/// A signature as DER: a sequence that begins with the object identifier of PKCS #7.
fn pkcs7(head: &[u8]) -> bool {
    const SIGNED: &[u8] = &[0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07];
    let [0x30, length @ 0x80..=0x84, ..] = head else { return false };
    head.len() >= 20 && head.get(usize::from(length - 0x80) + 2..).is_some_and(|rest| rest.starts_with(SIGNED))
}

/// A TrueType font, by the name of its first table.
fn sfnt(head: &[u8]) -> bool {
    const MOST: u16 = 49;
    const TABLES: [&[u8; 4]; 40] = [
        b"acnt", b"ankr", b"avar", b"bdat", b"bhed", b"bloc", b"bsln", b"cmap", b"cvar", b"cvt ", b"EBSC", b"fdsc",
        b"feat", b"fmtx", b"fond", b"fpgm", b"fvar", b"gasp", b"gcid", b"glyf", b"gvar", b"hdmx", b"head", b"hhea",
        b"hmtx", b"hvgl", b"hvpm", b"just", b"kern", b"kerx", b"lcar", b"loca", b"ltag", b"maxp", b"meta", b"mort",
        b"morx", b"name", b"opbd", b"OS/2",
    ];
    let (Some([high, low]), Some(table)) = (head.get(4..6), head.get(12..16)) else { return false };
    u16::from_be_bytes([*high, *low]) < MOST && TABLES.iter().any(|name| table == *name)
}

/// A frame of Zstandard, of this or an earlier version, or one to be skipped.
fn zstd(head: &[u8]) -> bool {
    let Some(&[a, b, c, d]) = head.first_chunk::<4>() else { return false };
    matches!(u32::from_le_bytes([a, b, c, d]), 0xFD2F_B522..=0xFD2F_B528 | 0x184D_2A50..=0x184D_2A5F)
}

/// Spreadsheets of Lotus 1-2-3 look like icons; the crate knows more of them.
fn lotus(head: &[u8]) -> Option<&'static str> {
    Some(crate_answer(head)).filter(|name| *name == "application/vnd.lotus-1-2-3")
}

/// Where `needle` first stands in `hay`.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    /// A sample and what gabriel-vasile/mimetype 1.4.13 says of it.
    #[derive(serde::Deserialize)]
    struct Sample {
        name: String,
        head: String,
        go: String,
    }

    #[test]
    fn names_are_those_of_the_go_library() {
        let samples: Vec<Sample> =
            serde_json::from_str(include_str!("../../fixtures/mime/go.json")).expect("the recorded table");
        assert!(samples.len() > 200);
        let mut differences = Vec::new();
        for Sample { name, head, go } in samples {
            let head = base64::engine::general_purpose::STANDARD.decode(head).expect("base64");
            let ours = detect(&head);
            if ours != go {
                differences.push(format!("{name}: {ours}, the Go library says {go}"));
            }
        }
        assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    }

    #[test]
    fn documents_that_witness_adds_have_their_own_names() {
        for (head, want) in [
            (r#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#, "application/vnd.cyclonedx+json"),
            (r#"{"specVersion":"1.6", "bomFormat": "CycloneDX"}"#, "application/vnd.cyclonedx+json"),
            (r#"{"specVersion":"1.6", "bomFormat":  "CycloneDX"}"#, "application/json"),
            (r#"{"bomFormat":"CycloneDX""#, "text/plain; charset=utf-8"),
            (r#"{"spdxVersion":"SPDX-2.3"}"#, "application/spdx+json"),
            (r#"{"spdxVersion": "SPDX-2.2"}"#, "application/spdx+json"),
            (r#"{"spdxVersion": "2.2"}"#, "application/json"),
            (r#"{"@context":"https://openvex.dev/ns/v0.2.0"}"#, "application/vex+json"),
            (r#"{ "@context":"https://openvex.dev/ns/v0.2.0"}"#, "application/json"),
            (
                r#"<?xml version="1.0" encoding="UTF-8"?><bom xmlns="http://cyclonedx.org/schema/bom/1.6"/>"#,
                "application/vnd.cyclonedx+xml",
            ),
            (
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<bom xmlns=\"http://cyclonedx.org/schema/bom/1.6\"/>",
                "text/xml; charset=UTF-8",
            ),
            ("sha256:0a\n", "text/sha256+text"),
        ] {
            assert_eq!(detect(head.as_bytes()), want, "{head}");
        }
        // The marker counts in the first 500 bytes only, and a long document may break off.
        let late = format!("{{\"x\":\"{}\",\"bomFormat\":\"CycloneDX\"}}", "y".repeat(500));
        assert_eq!(detect(late.as_bytes()), "application/json");
        let long = format!("{{\"bomFormat\":\"CycloneDX\",\"components\":[{}", "{\"name\":\"a\"},".repeat(400));
        assert_eq!(detect(long.as_bytes()), "application/vnd.cyclonedx+json");
    }

    #[test]
    fn only_the_first_bytes_count() {
        let mut long = vec![b'a'; HEAD];
        long.extend_from_slice(b"\0\0");
        assert_eq!(detect(&long), "text/plain; charset=utf-8");
    }

    #[test]
    fn names_taken_from_the_crate_are_sorted() {
        assert!(KNOWN.is_sorted());
    }

    #[test]
    fn nothing_panics_on_cut_or_damaged_input() {
        let samples: Vec<Sample> =
            serde_json::from_str(include_str!("../../fixtures/mime/go.json")).expect("the recorded table");
        for Sample { head, .. } in samples {
            let mut head = base64::engine::general_purpose::STANDARD.decode(head).expect("base64");
            head.truncate(300);
            for length in 0..=head.len() {
                assert!(!detect(&head[..length]).is_empty());
            }
            for at in 0..head.len().min(40) {
                head[at] ^= 0xFF;
                assert!(!detect(&head).is_empty());
            }
        }
    }
}
