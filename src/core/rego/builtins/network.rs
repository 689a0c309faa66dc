//! Addresses and queries, as texts: nothing here opens a socket.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use regorus::Value;

use super::{Fault, fault, room, string};

/// Most addresses that a network is expanded to.
const MAX_EXPANDED: u128 = 65_536;

/// A network: the bits of its first address, how many of them count, and of how many.
#[derive(Clone, Copy)]
struct Network {
    bits: u128,
    prefix: u32,
    width: u32,
}

impl Network {
    fn parse(function: &str, text: &str) -> Result<Self, Fault> {
        let invalid = || Fault(format!("{function}: invalid CIDR address: {text}"));
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let plain = !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u32 = if plain { prefix.parse().map_err(|_| invalid())? } else { return Err(invalid()) };
        let whole = Self::of(address);
        if prefix > whole.width {
            return Err(invalid());
        }
        let network = Self { prefix, ..whole };
        Ok(Self { bits: network.bits & !network.rest(), ..network })
    }

    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self { bits: u128::from(u32::from(address)), prefix: 32, width: 32 },
            IpAddr::V6(address) => Self { bits: u128::from(address), prefix: 128, width: 128 },
        }
    }

    /// The bits that do not count.
    fn rest(self) -> u128 {
        1_u128.checked_shl(self.width - self.prefix).map_or(u128::MAX, |bit| bit - 1)
    }

    fn contains(self, other: Self) -> bool {
        self.width == other.width && self.prefix <= other.prefix && other.bits & !self.rest() == self.bits
    }

    fn address(self, bits: u128) -> Option<IpAddr> {
        Some(match self.width {
            32 => IpAddr::V4(Ipv4Addr::from(u32::try_from(bits).ok()?)),
            _ => IpAddr::V6(Ipv6Addr::from(bits)),
        })
    }
}

pub(super) fn contains(arguments: &[Value]) -> Result<Value, Fault> {
    let function = "net.cidr_contains";
    let network = Network::parse(function, string(function, arguments, 0)?)?;
    let other = string(function, arguments, 1)?;
    let other = match other.parse::<IpAddr>() {
        Ok(address) => Network::of(address),
        Err(_) => Network::parse(function, other)?,
    };
    Ok(Value::Bool(network.contains(other)))
}

pub(super) fn intersects(arguments: &[Value]) -> Result<Value, Fault> {
    let function = "net.cidr_intersects";
    let first = Network::parse(function, string(function, arguments, 0)?)?;
    let second = Network::parse(function, string(function, arguments, 1)?)?;
    Ok(Value::Bool(first.contains(second) || second.contains(first)))
}

pub(super) fn is_valid(arguments: &[Value]) -> Result<Value, Fault> {
    let text = matches!(arguments, [Value::String(text)] if Network::parse("", text).is_ok());
    Ok(Value::Bool(text))
}

pub(super) fn expand(arguments: &[Value]) -> Result<Value, Fault> {
    let function = "net.cidr_expand";
    let network = Network::parse(function, string(function, arguments, 0)?)?;
    if network.rest() >= MAX_EXPANDED {
        return fault(format!("{function}: more than {MAX_EXPANDED} addresses"));
    }
    let addresses = (0..=network.rest()).filter_map(|host| network.address(network.bits | host));
    let set: std::collections::BTreeSet<Value> = addresses.map(|address| Value::from(address.to_string())).collect();
    Ok(Value::from(set))
}

pub(super) fn query_encode(arguments: &[Value]) -> Result<Value, Fault> {
    Ok(Value::from(encoded(string("urlquery.encode", arguments, 0)?)))
}

pub(super) fn query_decode(arguments: &[Value]) -> Result<Value, Fault> {
    let text = string("urlquery.decode", arguments, 0)?;
    decoded(text).map(Value::from).ok_or_else(|| Fault(format!("urlquery.decode: invalid URL escape in {text}")))
}

pub(super) fn query_encode_object(arguments: &[Value]) -> Result<Value, Fault> {
    let invalid = || Fault("urlquery.encode_object: values must be strings, or arrays or sets of strings".to_owned());
    let Some(Value::Object(members)) = arguments.first() else {
        return fault("urlquery.encode_object: operand 1 must be object");
    };
    let mut pairs = Vec::new();
    for (key, value) in members.iter_sorted() {
        let values: Vec<&Value> = match value {
            Value::Array(values) => values.iter().collect(),
            Value::Set(values) => values.iter().collect(),
            other => vec![other],
        };
        for value in values {
            let [key, value] = [key, value].map(|part| part.as_string().map(|text| encoded(text)));
            pairs.push(format!("{}={}", key.map_err(|_| invalid())?, value.map_err(|_| invalid())?));
            room(pairs.len() as u64 * 64)?;
        }
    }
    Ok(Value::from(pairs.join("&")))
}

pub(super) fn query_decode_object(arguments: &[Value]) -> Result<Value, Fault> {
    let text = string("urlquery.decode_object", arguments, 0)?;
    let invalid = || Fault(format!("urlquery.decode_object: invalid query {text}"));
    let mut members: BTreeMap<Value, Vec<Value>> = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        if pair.contains(';') {
            return Err(invalid());
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let [key, value] = [key, value].map(|part| decoded(part).ok_or_else(invalid));
        members.entry(Value::from(key?)).or_default().push(Value::from(value?));
    }
    Ok(Value::from(members.into_iter().map(|(key, values)| (key, Value::from(values))).collect::<BTreeMap<_, _>>()))
}

/// Go's url.QueryEscape.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                *hex::decode(digits).ok()?.first()?
            }
            other => other,
        });
    }
    // Go keeps bytes that are no text; a value here is always text.
    Some(String::from_utf8_lossy(&out).into_owned())
}
