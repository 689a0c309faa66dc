//! Which questions go through a proxy.

use std::net::IpAddr;

use ureq::Proxy;
use ureq::http::Uri;

use super::{Settings, is_local};

/// The proxy for a question, if one is set and the host is none of the exceptions. This machine is asked directly.
pub(super) fn to(uri: &Uri, settings: &Settings) -> Result<Option<Proxy>, String> {
    let host = uri.host().unwrap_or_default();
    let Some(proxy) = &settings.proxy else { return Ok(None) };
    if is_local(host) || settings.no_proxy.as_deref().is_some_and(|list| is_exception(host, uri.port_u16(), list)) {
        return Ok(None);
    }
    // The text may hold a password: it is not shown.
    let proxy = if proxy.contains("://") { proxy.clone() } else { format!("http://{proxy}") };
    Proxy::new(&proxy)
        .map(Some)
        .map_err(|_| "the proxy of HTTPS_PROXY is no address such as `http://proxy:3128`".to_owned())
}

/// What is said of a proxy through which nothing came, where the question goes through one: host and port alone.
pub(super) fn told(uri: &Uri, settings: &Settings) -> String {
    match to(uri, settings) {
        Ok(Some(proxy)) => format!(", through the proxy {}:{} of HTTPS_PROXY", proxy.host(), proxy.port()),
        _ => String::new(),
    }
}

/// The address that a host of a URL is, `None` for a name.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Whether `NO_PROXY` names the host: a name (and all below it), an address, a network, with or without a port, or `*`.
fn is_exception(host: &str, port: Option<u16>, list: &str) -> bool {
    let host = host.to_ascii_lowercase();
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        if let Some(network) = network(&entry) {
            return address(&host).is_some_and(|address| contains(network, address));
        }
        let (name, wanted) = match entry.rsplit_once(':') {
            Some((name, digits)) if !name.ends_with(':') && !digits.is_empty() => match digits.parse::<u16>() {
                Ok(wanted) => (name, Some(wanted)),
                Err(_) => (entry.as_str(), None),
            },
            _ => (entry.as_str(), None),
        };
        if wanted.is_some_and(|wanted| wanted != port.unwrap_or(443)) {
            return false;
        }
        let name = name.trim_start_matches('*').trim_start_matches('.');
        !name.is_empty() && (host == name || host.strip_suffix(name).is_some_and(|before| before.ends_with('.')))
    })
}

/// `10.0.0.0/8`, `fd00::/8`, or an address alone.
fn network(entry: &str) -> Option<(IpAddr, u32)> {
    match entry.split_once('/') {
        Some((base, bits)) => Some((base.parse().ok()?, bits.parse().ok()?)),
        None => address(entry).map(|base| (base, 128)),
    }
}

fn contains((base, bits): (IpAddr, u32), address: IpAddr) -> bool {
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            let shift = 32 - bits.min(32);
            u32::from(base).checked_shr(shift).unwrap_or(0) == u32::from(address).checked_shr(shift).unwrap_or(0)
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => {
            let shift = 128 - bits.min(128);
            u128::from(base).checked_shr(shift).unwrap_or(0) == u128::from(address).checked_shr(shift).unwrap_or(0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_names_addresses_and_networks() {
        let list = "example.com, .corp, 10.0.0.0/8,192.0.2.1,fd00::/8 git.test:8443";
        for (host, port) in [
            ("example.com", None),
            ("a.Example.com", None),
            ("x.corp", None),
            ("10.1.2.3", None),
            ("192.0.2.1", None),
            ("[fd00::1]", None),
            ("git.test", Some(8443)),
        ] {
            assert!(is_exception(host, port, list), "{host}");
        }
        for (host, port) in [
            ("badexample.com", None),
            ("example.com.evil.test", None),
            ("11.0.0.1", None),
            ("192.0.2.2", None),
            ("[fe80::1]", None),
            ("git.test", None),
        ] {
            assert!(!is_exception(host, port, list), "{host}");
        }
        assert!(is_exception("anything.test", None, "*"));
        assert!(!is_exception("anything.test", None, " , .,"));
    }

    #[test]
    fn a_proxy_is_named_without_its_password() {
        let settings = Settings { proxy: Some("http://ann:hunter22@proxy.example:3128".into()), ..Settings::default() };
        let uri = |text: &str| text.parse::<Uri>().expect("a URL");
        assert_eq!(
            told(&uri("https://a.example/"), &settings),
            ", through the proxy proxy.example:3128 of HTTPS_PROXY"
        );
        assert_eq!(told(&uri("https://127.0.0.1/"), &settings), "");
    }

    #[test]
    fn a_proxy_that_cannot_be_read_is_not_shown() {
        let settings = Settings { proxy: Some("gopher://user:hunter22@proxy".into()), ..Settings::default() };
        let uri: Uri = "https://example.com/".parse().expect("a URL");
        let reason = to(&uri, &settings).expect_err("no proxy");
        assert!(reason.contains("HTTPS_PROXY") && !reason.contains("hunter22"), "{reason}");
    }
}
