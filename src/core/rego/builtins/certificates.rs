//! `crypto.x509.parse_certificates`: certificates as Go's JSON shows them. Nothing is verified.

use std::collections::BTreeMap;

use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _, Reader as _, SliceReader};
use regorus::Value;
use x509_cert::Certificate;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CertificatePolicies, CrlDistributionPoints,
    ExtendedKeyUsage, KeyUsage, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::name::Name;

use super::bytes::{as_base64, base64_of};
use super::{Fault, fault, room, string};

/// Most certificates that one call reads.
const MAX_CERTIFICATES: usize = 1000;
const FUNCTION: &str = "crypto.x509.parse_certificates";

/// Go's numbers of extended key usages.
const USAGES: &[(&str, u64)] = &[
    ("2.5.29.37.0", 0),
    ("1.3.6.1.5.5.7.3.1", 1),
    ("1.3.6.1.5.5.7.3.2", 2),
    ("1.3.6.1.5.5.7.3.3", 3),
    ("1.3.6.1.5.5.7.3.4", 4),
    ("1.3.6.1.5.5.7.3.5", 5),
    ("1.3.6.1.5.5.7.3.6", 6),
    ("1.3.6.1.5.5.7.3.7", 7),
    ("1.3.6.1.5.5.7.3.8", 8),
    ("1.3.6.1.5.5.7.3.9", 9),
    ("1.3.6.1.4.1.311.10.3.3", 10),
    ("2.16.840.1.113730.4.1", 11),
    ("1.3.6.1.4.1.311.2.1.22", 12),
    ("1.3.6.1.4.1.311.61.1.1", 13),
];

/// Go's numbers of signature algorithms; RSASSA-PSS has its own in its parameters.
const SIGNATURES: &[(&str, u64)] = &[
    ("1.2.840.113549.1.1.2", 1),
    ("1.2.840.113549.1.1.4", 2),
    ("1.2.840.113549.1.1.5", 3),
    ("1.2.840.113549.1.1.11", 4),
    ("1.2.840.113549.1.1.12", 5),
    ("1.2.840.113549.1.1.13", 6),
    ("1.2.840.10040.4.3", 7),
    ("2.16.840.1.101.3.4.3.2", 8),
    ("1.2.840.10045.4.1", 9),
    ("1.2.840.10045.4.3.2", 10),
    ("1.2.840.10045.4.3.3", 11),
    ("1.2.840.10045.4.3.4", 12),
    ("1.3.101.112", 16),
];
const RSA_PSS: &str = "1.2.840.113549.1.1.10";
/// Digests of RSASSA-PSS, in DER, and Go's number of the algorithm.
const PSS_DIGESTS: &[(&[u8], u64)] = &[
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01], 13),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02], 14),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03], 15),
];

/// Go's numbers of key algorithms.
const KEYS: &[(&str, u64)] =
    &[("1.2.840.113549.1.1.1", 1), ("1.2.840.10040.4.1", 2), ("1.2.840.10045.2.1", 3), ("1.3.101.112", 4)];

fn number_of(table: &[(&str, u64)], oid: &ObjectIdentifier) -> u64 {
    let oid = oid.to_string();
    table.iter().find(|(known, _)| *known == oid).map_or(0, |(_, number)| *number)
}

/// PEM, or DER in base64, of one certificate or several.
pub(super) fn parse(arguments: &[Value]) -> Result<Value, Fault> {
    let mut found = Vec::new();
    for der in certificates(string(FUNCTION, arguments, 0)?)? {
        if found.len() == MAX_CERTIFICATES {
            return fault(format!("{FUNCTION}: more than {MAX_CERTIFICATES} certificates"));
        }
        room(der.len() as u64 * 8)?;
        found.push(shown(&der).map_err(|error| Fault(format!("{FUNCTION}: {error}")))?);
    }
    Ok(Value::from(found))
}

/// The DER of each certificate.
fn certificates(text: &str) -> Result<Vec<Vec<u8>>, Fault> {
    let nothing = || Fault(format!("{FUNCTION}: failed to find any PEM data or base64 of DER"));
    let decoded;
    let pem = if text.contains("-----BEGIN") {
        text
    } else {
        let bytes = base64_of(text).ok_or_else(nothing)?;
        match String::from_utf8(bytes) {
            Ok(pem) if pem.contains("-----BEGIN") => {
                decoded = pem;
                &decoded
            }
            other => return one_after_another(&other.map_or_else(|error| error.into_bytes(), String::into_bytes)),
        }
    };
    let mut found = Vec::new();
    let mut rest = pem;
    while let Some((_, after)) = rest.split_once("-----BEGIN CERTIFICATE-----") {
        let (body, behind) = after.split_once("-----END CERTIFICATE-----").ok_or_else(nothing)?;
        let body: String = body.split_ascii_whitespace().collect();
        found.push(base64_of(&body).ok_or_else(nothing)?);
        rest = behind;
    }
    if found.is_empty() { Err(nothing()) } else { Ok(found) }
}

/// Certificates in DER behind each other.
fn one_after_another(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let malformed = |error: der::Error| Fault(format!("{FUNCTION}: malformed certificate: {error}"));
    let mut reader = SliceReader::new(bytes).map_err(malformed)?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        found.push(reader.tlv_bytes().map_err(malformed)?.to_vec());
    }
    Ok(found)
}

type Members = BTreeMap<Value, Value>;

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::from(members.into_iter().map(|(name, value)| (Value::from(name), value)).collect::<Members>())
}

/// A Go slice: null when it is empty.
fn list(items: Vec<Value>) -> Value {
    if items.is_empty() { Value::Null } else { Value::from(items) }
}

fn shown(der: &[u8]) -> Result<Value, der::Error> {
    let certificate = Certificate::from_der(der)?;
    let body = certificate.tbs_certificate();
    let time = |time: &x509_cert::time::Time| {
        let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        Value::from(jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default())
    };
    let key = body.subject_public_key_info();
    let signature = certificate.signature_algorithm();
    let mut signature_number = number_of(SIGNATURES, &signature.oid);
    if signature.oid.to_string() == RSA_PSS {
        let parameters = signature.parameters.as_ref().map(|any| any.value().to_vec()).unwrap_or_default();
        let digest = PSS_DIGESTS.iter().find(|(oid, _)| parameters.windows(oid.len()).any(|window| window == *oid));
        signature_number = digest.map_or(0, |(_, number)| *number);
    }
    let mut members: Members = BTreeMap::new();
    let mut set = |name: &str, value: Value| drop(members.insert(Value::from(name), value));
    set("Raw", as_base64(der));
    set("RawTBSCertificate", as_base64(&body.to_der()?));
    set("RawSubjectPublicKeyInfo", as_base64(&key.to_der()?));
    set("RawSubject", as_base64(&body.subject().to_der()?));
    set("RawIssuer", as_base64(&body.issuer().to_der()?));
    set("Signature", as_base64(certificate.signature().raw_bytes()));
    set("SignatureAlgorithm", Value::from(signature_number));
    set("PublicKeyAlgorithm", Value::from(number_of(KEYS, &key.algorithm.oid)));
    set("Version", Value::from(u64::from(body.version() as u8) + 1));
    set("SerialNumber", decimal(body.serial_number().as_bytes()));
    set("Issuer", name(body.issuer())?);
    set("Subject", name(body.subject())?);
    set("NotBefore", time(&body.validity().not_before));
    set("NotAfter", time(&body.validity().not_after));
    extensions(&certificate, &mut set)?;
    Ok(Value::from(members))
}

/// A large number, most significant byte first.
fn decimal(bytes: &[u8]) -> Value {
    let mut digits = vec![0_u32];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            let value = *digit * 256 + carry;
            *digit = value % 10;
            carry = value / 10;
        }
        while carry > 0 {
            digits.push(carry % 10);
            carry /= 10;
        }
    }
    let text: String = digits.iter().rev().filter_map(|digit| char::from_digit(*digit, 10)).collect();
    Value::from_numeric_string(&text).unwrap_or(Value::Null)
}

fn oid(oid: &ObjectIdentifier) -> Value {
    Value::from(oid.arcs().map(|arc| Value::from(u64::from(arc))).collect::<Vec<_>>())
}

/// Go's pkix.Name.
fn name(name: &Name) -> Result<Value, der::Error> {
    const LISTS: &[(&str, &str)] = &[
        ("2.5.4.6", "Country"),
        ("2.5.4.10", "Organization"),
        ("2.5.4.11", "OrganizationalUnit"),
        ("2.5.4.7", "Locality"),
        ("2.5.4.8", "Province"),
        ("2.5.4.9", "StreetAddress"),
        ("2.5.4.17", "PostalCode"),
    ];
    const SINGLE: &[(&str, &str)] = &[("2.5.4.5", "SerialNumber"), ("2.5.4.3", "CommonName")];
    let mut lists: BTreeMap<&str, Vec<Value>> = LISTS.iter().map(|(_, name)| (*name, Vec::new())).collect();
    let mut single: BTreeMap<&str, Value> = SINGLE.iter().map(|(_, name)| (*name, Value::from(""))).collect();
    let mut names = Vec::new();
    for attribute in name.iter() {
        let text = text_of(&attribute.value);
        let id = attribute.oid.to_string();
        if let Some((_, name)) = LISTS.iter().find(|(known, _)| *known == id) {
            lists.entry(name).or_default().push(text.clone());
        }
        if let Some((_, name)) = SINGLE.iter().find(|(known, _)| *known == id) {
            single.insert(name, text.clone());
        }
        names.push(object([("Type", oid(&attribute.oid)), ("Value", text)]));
    }
    let mut members: Members = lists.into_iter().map(|(name, values)| (Value::from(name), list(values))).collect();
    members.extend(single.into_iter().map(|(name, value)| (Value::from(name), value)));
    members.insert(Value::from("Names"), list(names));
    members.insert(Value::from("ExtraNames"), Value::Null);
    Ok(Value::from(members))
}

/// The text of an attribute. BMPString and the like, which nobody uses, are shown as far as they are text.
fn text_of(value: &der::Any) -> Value {
    Value::from(String::from_utf8_lossy(value.value()).into_owned())
}

fn extensions(certificate: &Certificate, set: &mut dyn FnMut(&str, Value)) -> Result<(), der::Error> {
    let body = certificate.tbs_certificate();
    let mut shown = Vec::new();
    for extension in body.extensions().into_iter().flatten() {
        shown.push(object([
            ("Id", oid(&extension.extn_id)),
            ("Critical", Value::Bool(extension.critical)),
            ("Value", as_base64(extension.extn_value.as_bytes())),
        ]));
    }
    set("Extensions", list(shown));
    set("ExtraExtensions", Value::Null);

    let usage = body.get_extension::<KeyUsage>()?.map_or(0, |(_, usage)| usage.0.bits());
    set("KeyUsage", Value::from(u64::from(usage)));
    let usages = body.get_extension::<ExtendedKeyUsage>()?.map(|(_, usages)| usages.0).unwrap_or_default();
    let known = |oid: &ObjectIdentifier| USAGES.iter().find(|(known, _)| *known == oid.to_string());
    set("ExtKeyUsage", list(usages.iter().filter_map(known).map(|(_, number)| Value::from(*number)).collect()));
    set("UnknownExtKeyUsage", list(usages.iter().filter(|usage| known(usage).is_none()).map(oid).collect()));

    let constraints = body.get_extension::<BasicConstraints>()?.map(|(_, constraints)| constraints);
    let length = constraints.as_ref().map_or(0, |constraints| constraints.path_len_constraint.map_or(-1, i64::from));
    set("BasicConstraintsValid", Value::Bool(constraints.is_some()));
    set("IsCA", Value::Bool(constraints.as_ref().is_some_and(|constraints| constraints.ca)));
    set("MaxPathLen", Value::from(length));
    set("MaxPathLenZero", Value::Bool(constraints.is_some() && length == 0));

    let key = body.get_extension::<SubjectKeyIdentifier>()?.map(|(_, key)| key.0.as_bytes().to_vec());
    set("SubjectKeyId", key.map_or(Value::Null, |key| as_base64(&key)));
    let key = body.get_extension::<AuthorityKeyIdentifier>()?.and_then(|(_, key)| key.key_identifier);
    set("AuthorityKeyId", key.map_or(Value::Null, |key| as_base64(key.as_bytes())));

    let names = body.get_extension::<SubjectAltName>()?.map(|(_, names)| names.0).unwrap_or_default();
    alternative_names(&names, set);

    let access = body.get_extension::<AuthorityInfoAccessSyntax>()?.map(|(_, access)| access.0).unwrap_or_default();
    for (name, method) in [("OCSPServer", "1.3.6.1.5.5.7.48.1"), ("IssuingCertificateURL", "1.3.6.1.5.5.7.48.2")] {
        let of_method = access.iter().filter(|access| access.access_method.to_string() == method);
        set(name, list(of_method.filter_map(|access| uri(&access.access_location)).map(Value::from).collect()));
    }
    let points = body.get_extension::<CrlDistributionPoints>()?.map(|(_, points)| points.0).unwrap_or_default();
    let full = points.into_iter().filter_map(|point| match point.distribution_point {
        Some(DistributionPointName::FullName(names)) => Some(names),
        _ => None,
    });
    let places: Vec<Value> = full.flatten().filter_map(|name| uri(&name).map(Value::from)).collect();
    set("CRLDistributionPoints", list(places));
    let policies = body.get_extension::<CertificatePolicies>()?.map(|(_, policies)| policies.0).unwrap_or_default();
    set("PolicyIdentifiers", list(policies.iter().map(|policy| oid(&policy.policy_identifier)).collect()));
    Ok(())
}

fn uri(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
        _ => None,
    }
}

fn alternative_names(names: &[GeneralName], set: &mut dyn FnMut(&str, Value)) {
    let (mut dns, mut mail, mut addresses, mut uris) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for name in names {
        match name {
            GeneralName::DnsName(name) => dns.push(Value::from(name.to_string())),
            GeneralName::Rfc822Name(name) => mail.push(Value::from(name.to_string())),
            GeneralName::UniformResourceIdentifier(uri) => uris.push(uri.to_string()),
            GeneralName::IpAddress(bytes) => {
                let bytes = bytes.as_bytes();
                let four = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
                let sixteen = || <[u8; 16]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
                addresses.extend(four.or_else(|_| sixteen()).map(Value::from));
            }
            _ => {}
        }
    }
    set("DNSNames", list(dns));
    set("EmailAddresses", list(mail));
    set("IPAddresses", list(addresses));
    set("URIs", list(uris.iter().map(|uri| url(uri)).collect()));
    set("URIStrings", list(uris.into_iter().map(Value::from).collect()));
}

/// Go's url.URL.
fn url(uri: &str) -> Value {
    let (rest, fragment) = uri.split_once('#').unwrap_or((uri, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once(':').unwrap_or(("", rest));
    let (opaque, host, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let slash = rest.find('/').unwrap_or(rest.len());
            ("", rest.get(..slash).unwrap_or_default(), rest.get(slash..).unwrap_or_default())
        }
        None if rest.starts_with('/') || scheme.is_empty() => ("", "", rest),
        None => (rest, "", ""),
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    object([
        ("Scheme", Value::from(scheme.to_lowercase())),
        ("Opaque", Value::from(opaque)),
        ("Host", Value::from(host)),
        ("Path", Value::from(path)),
        ("RawQuery", Value::from(query)),
        ("Fragment", Value::from(fragment)),
    ])
}
