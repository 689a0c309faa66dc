//! The certificate authorities that are trusted for TLS: those of the machine, or those that are named instead.
//!
//! None is built in: a binary grows old, and a company's own authority stands in the machine's list anyway.

use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use ureq::tls::Certificate;

use super::Settings;

/// Where distributions keep all authorities in one file, in the order in which they are tried.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/certs/ca-bundle.crt",
];
/// Most files of a folder that are read.
const MAX_FILES: usize = 4096;
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Reads the authorities.
pub(super) fn load(settings: &Settings) -> Result<Vec<Certificate<'static>>, String> {
    let mut found = Vec::new();
    if let Some(file) = &settings.authorities {
        read(file, &mut found).map_err(|reason| format!("SSL_CERT_FILE={}: {reason}", file.display()))?;
    }
    if let Some(folder) = &settings.authorities_folder {
        for file in files(folder).map_err(|error| format!("SSL_CERT_DIR={}: {error}", folder.display()))? {
            // Such folders hold other files too.
            let _ = read(&file, &mut found);
        }
    }
    if settings.authorities.is_none() && settings.authorities_folder.is_none() {
        let _ = BUNDLES.iter().find(|bundle| read(Path::new(bundle), &mut found).is_ok() && !found.is_empty());
    }
    if found.is_empty() {
        return Err("there are no certificate authorities to check it with; name a file with SSL_CERT_FILE".into());
    }
    Ok(found)
}

fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?.take(MAX_FILES).flatten().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}

fn read(file: &Path, found: &mut Vec<Certificate<'static>>) -> Result<(), String> {
    let length = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    if length > MAX_FILE {
        return Err(format!("{length} bytes, more than {MAX_FILE}"));
    }
    let text = std::fs::read(file).map_err(|error| error.to_string())?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| format!("is no list of certificates in PEM: {error}"))?;
        found.push(Certificate::from_der(&certificate).to_owned());
    }
    Ok(())
}
