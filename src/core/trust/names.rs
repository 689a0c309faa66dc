//! Names in certificates: their text, and the name constraints of authorities (RFC 5280 §4.2.1.10).

use der::asn1::{Any, BmpString, Ia5StringRef, ObjectIdentifier, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use der::{Encode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::{Name, RelativeDistinguishedName};

use super::certificate::Certificate;

/// Characters of a name that are shown.
pub(super) const SHOWN: usize = 200;
const EMAIL_ADDRESS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.1");

/// The text of a string type; `None` for what is no text.
pub(super) fn text(value: &Any) -> Option<String> {
    match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::PrintableString => value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::TeletexString => value.decode_as::<TeletexStringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::BmpString => value.decode_as::<BmpString>().ok().map(|text| text.to_string()),
        _ => None,
    }
}

/// A name for people: RFC 4514, nothing in it that moves a terminal's cursor, not endless.
pub(super) fn shown(name: &Name) -> String {
    let text = name.to_string();
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    if shown.is_empty() { "(no name)".to_owned() } else { shown }
}

/// A URI as Go's `url.URL.String` prints it, which is what policies are compared with: the scheme in small letters, no
/// empty fragment.
pub(super) fn as_go_prints(uri: &str) -> String {
    let uri = uri.strip_suffix('#').unwrap_or(uri);
    match uri.split_once(':') {
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) => {
            format!("{}:{rest}", scheme.to_ascii_lowercase())
        }
        _ => uri.to_owned(),
    }
}

/// Checks the names in `path` (leaf first) against the constraints of the authorities above them.
///
/// # Errors
/// What is not allowed, or what cannot be decided.
pub(super) fn check_path(path: &[Certificate]) -> Result<(), String> {
    for (place, authority) in path.iter().enumerate() {
        let Some(constraints) = authority.name_constraints() else { continue };
        let permitted = constraints.permitted_subtrees.as_deref().unwrap_or_default();
        let excluded = constraints.excluded_subtrees.as_deref().unwrap_or_default();
        for subtree in permitted.iter().chain(excluded) {
            supported(subtree)?;
        }
        for (below, certificate) in path[..place].iter().enumerate() {
            if below > 0 && certificate.is_self_issued() {
                continue;
            }
            for name in constrained_names(certificate) {
                check_name(&name, permitted, excluded)
                    .map_err(|reason| format!("{reason}, says `{}`", authority.label()))?;
            }
        }
    }
    Ok(())
}

fn supported(subtree: &GeneralSubtree) -> Result<(), String> {
    let known = !matches!(
        subtree.base,
        GeneralName::OtherName(_) | GeneralName::EdiPartyName(_) | GeneralName::RegisteredId(_)
    );
    if known && subtree.minimum == 0 && subtree.maximum.is_none() {
        Ok(())
    } else {
        Err("name constraints of a kind that is not supported".to_owned())
    }
}

/// A name that constraints speak of.
enum Named<'a> {
    Dns(&'a str),
    Email(String),
    Uri(&'a str),
    Ip(&'a [u8]),
    Directory(&'a Name),
}

fn constrained_names(certificate: &Certificate) -> Vec<Named<'_>> {
    let subject = certificate.subject_name();
    let mut names = Vec::new();
    if !subject.is_empty() {
        names.push(Named::Directory(subject));
    }
    for attribute in subject.iter().filter(|attribute| attribute.oid == EMAIL_ADDRESS) {
        names.push(Named::Email(text(&attribute.value).unwrap_or_default()));
    }
    names.extend(certificate.alternative_names().iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(Named::Dns(name.as_str())),
        GeneralName::Rfc822Name(name) => Some(Named::Email(name.as_str().to_owned())),
        GeneralName::UniformResourceIdentifier(name) => Some(Named::Uri(name.as_str())),
        GeneralName::IpAddress(name) => Some(Named::Ip(name.as_bytes())),
        GeneralName::DirectoryName(name) => Some(Named::Directory(name)),
        // No constraint of these kinds is let through.
        GeneralName::OtherName(_) | GeneralName::EdiPartyName(_) | GeneralName::RegisteredId(_) => None,
    }));
    names
}

fn check_name(name: &Named<'_>, permitted: &[GeneralSubtree], excluded: &[GeneralSubtree]) -> Result<(), String> {
    let mut of_this_kind = false;
    let mut allowed = false;
    for subtree in permitted {
        if let Some(within) = within(name, &subtree.base, Reading::Permitted)? {
            of_this_kind = true;
            allowed |= within;
        }
    }
    if of_this_kind && !allowed {
        return Err(format!("{} is not among the permitted names", name.shown()));
    }
    for subtree in excluded {
        if within(name, &subtree.base, Reading::Excluded)? == Some(true) {
            return Err(format!("{} is among the excluded names", name.shown()));
        }
    }
    Ok(())
}

impl Named<'_> {
    fn shown(&self) -> String {
        let text = match self {
            Self::Dns(text) | Self::Uri(text) => (*text).to_owned(),
            Self::Email(text) => text.clone(),
            Self::Ip(bytes) => hex::encode(bytes),
            Self::Directory(name) => return format!("`{}`", shown(name)),
        };
        format!("`{}`", text.escape_debug().take(SHOWN).collect::<String>())
    }
}

/// In doubt a name is outside what is permitted, and inside what is excluded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Permitted,
    Excluded,
}

/// Whether `name` lies in the subtree `base`; `None` when they are of different kinds.
fn within(name: &Named<'_>, base: &GeneralName, reading: Reading) -> Result<Option<bool>, String> {
    let undecidable = || Err(format!("{} cannot be compared with a name constraint", name.shown()));
    Ok(Some(match (name, base) {
        (Named::Dns(host), GeneralName::DnsName(base)) => {
            let (host, base) = (host.to_ascii_lowercase(), base.as_str().to_ascii_lowercase());
            if !is_host(host.strip_prefix("*.").unwrap_or(&host)) {
                return undecidable();
            }
            // `*.example.com` also stands for a host below it that is excluded.
            let parent = host.strip_prefix('*').filter(|_| reading == Reading::Excluded);
            in_domain(&host, &base) || parent.is_some_and(|parent| base.ends_with(parent))
        }
        (Named::Email(address), GeneralName::Rfc822Name(base)) => {
            let Some((local, host)) = address.rsplit_once('@') else { return undecidable() };
            let host = host.to_ascii_lowercase();
            if local.is_empty() || !is_host(&host) {
                return undecidable();
            }
            match base.as_str().rsplit_once('@') {
                Some((base_local, base_host)) => {
                    let same = match reading {
                        Reading::Permitted => base_local == local,
                        Reading::Excluded => base_local.eq_ignore_ascii_case(local),
                    };
                    same && base_host.eq_ignore_ascii_case(&host)
                }
                None => is_or_below(&host, &base.as_str().to_ascii_lowercase()),
            }
        }
        (Named::Uri(uri), GeneralName::UniformResourceIdentifier(base)) => {
            let Some(host) = host_of(uri) else { return undecidable() };
            is_or_below(&host, &base.as_str().to_ascii_lowercase())
        }
        (Named::Ip(address), GeneralName::IpAddress(base)) => {
            let base = base.as_bytes();
            if !matches!((address.len(), base.len()), (4 | 16, 8 | 32)) {
                return undecidable();
            }
            let (network, mask) = base.split_at(base.len() / 2);
            network.len() == address.len()
                && address.iter().zip(network).zip(mask).all(|((a, n), mask)| a & mask == n & mask)
        }
        (Named::Directory(name), GeneralName::DirectoryName(base)) => {
            name.len() >= base.len() && name.iter_rdn().zip(base.iter_rdn()).all(|(a, b)| folded(a) == folded(b))
        }
        _ => return Ok(None),
    }))
}

/// A host name without empty labels; nothing is looked up, so letters are not limited further.
fn is_host(host: &str) -> bool {
    !host.is_empty() && !host.split('.').any(str::is_empty) && !host.contains(['*', '@', '/', ':', '%', ' '])
}

/// A DNS name constraint: the domain and everything below it; with a dot in front, only what is below.
fn in_domain(host: &str, base: &str) -> bool {
    if base.is_empty() {
        return true;
    }
    match base.strip_prefix('.') {
        Some(_) => host.ends_with(base) && host.len() > base.len(),
        None => host == base || host.strip_suffix(base).is_some_and(|rest| rest.ends_with('.')),
    }
}

/// A host in an e-mail or URI constraint: exactly that one; with a dot in front, what is below.
fn is_or_below(host: &str, base: &str) -> bool {
    if base.starts_with('.') { host.ends_with(base) && host.len() > base.len() } else { host == base }
}

/// The host of `scheme://user@host:port/…`, in small letters; `None` when there is none, or an address.
fn host_of(uri: &str) -> Option<String> {
    let rest = uri.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => host,
    };
    let is_address = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
    (is_host(host) && !is_address).then(|| host.to_ascii_lowercase())
}

/// A part of a name for comparing: letters folded, white space joined, whatever string type (RFC 5280 §7.1).
fn folded(rdn: &RelativeDistinguishedName) -> Vec<(ObjectIdentifier, Vec<u8>)> {
    let mut parts: Vec<_> = rdn
        .iter()
        .map(|attribute| {
            let value = match text(&attribute.value) {
                Some(text) => text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase().into_bytes(),
                None => attribute.value.to_der().unwrap_or_default(),
            };
            (attribute.oid, value)
        })
        .collect();
    parts.sort();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_compared_as_go_prints_them() {
        let same = "https://ci.example/shop/web/.ci.yml@refs/heads/main";
        assert_eq!(as_go_prints(same), same);
        assert_eq!(as_go_prints("HTTPS://Ci.example/A#"), "https://Ci.example/A");
        assert_eq!(as_go_prints("urn:Example:A"), "urn:Example:A");
        assert_eq!(as_go_prints("SPIFFE://x/y"), "spiffe://x/y");
        assert_eq!(as_go_prints("No scheme/A:b"), "No scheme/A:b");
    }

    #[test]
    fn domains_and_hosts() {
        assert!(in_domain("a.example.com", "example.com") && in_domain("example.com", "example.com"));
        assert!(!in_domain("badexample.com", "example.com") && !in_domain("example.com", ".example.com"));
        assert!(in_domain("a.example.com", ".example.com") && in_domain("x", ""));
        assert!(!in_domain("much.longer.example.net", ".example.com") && !in_domain(".example.com", ".example.com"));
        assert!(is_or_below("mail.example.com", ".example.com") && !is_or_below("mail.example.com", "example.com"));
        assert!(!is_or_below(".example.com", ".example.com"));
        assert_eq!(host_of("https://u:p@Ci.Example:80/x?y#z").as_deref(), Some("ci.example"));
        for without in
            ["urn:a:b", "https://127.0.0.1/", "https://[::1]/", "https:///x", "https://a..b/", "https://a:b/", "x"]
        {
            assert_eq!(host_of(without), None, "{without}");
        }
    }
    #[test]
    fn texts_of_every_string_type_are_compared() {
        let text_of = |tag: Tag, bytes: &[u8]| text(&Any::new(tag, bytes).expect("a value"));
        for tag in [Tag::Utf8String, Tag::PrintableString, Tag::Ia5String, Tag::TeletexString] {
            assert_eq!(text_of(tag, b"Example").as_deref(), Some("Example"), "{tag}");
        }
        assert_eq!(text_of(Tag::BmpString, b"\0E\0x").as_deref(), Some("Ex"));
        assert_eq!(text_of(Tag::OctetString, b"Example"), None);
    }
}
