//! Who may ask: the names by which the server is called, the pages that call it, the keys.
//!
//! A web page that a user visits can make the browser call a server on the user's own machine. Its own name can lead
//! there (DNS rebinding), so that it may read what comes back: then `Host` has that name. Or it calls from outside:
//! then `Origin` has its own. Both are looked at on every address and for every path and method, before anything else.

use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN};

use crate::error::ApiError;
use crate::keys::Keys;

/// Who may ask.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Keys; any of them opens.
    pub keys: Keys,
    /// Names that are allowed besides loopback's and the address that was called.
    pub hosts: Vec<String>,
    /// Origins that are allowed besides the server's own.
    pub origins: Vec<String>,
}

/// Where a request came in.
#[derive(Clone, Copy, Debug)]
pub enum Arrival {
    /// At this address of ours.
    Tcp(IpAddr),
    /// At a socket in the file system, which no web page reaches; where there are such sockets.
    #[cfg_attr(not(unix), expect(dead_code))]
    Unix,
}

impl Guard {
    /// Whether the request may be answered at all.
    ///
    /// # Errors
    /// 403.
    pub fn check_caller(&self, arrival: Arrival, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let Arrival::Tcp(address) = arrival else { return Ok(()) };
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok());
        let named = host.is_some_and(|host| self.is_ours(host, address)) && hosts.next().is_none();
        let asked = uri.authority().is_none_or(|authority| self.is_ours(authority.as_str(), address));
        if !named || !asked {
            return Err(ApiError::forbidden(
                "this server is not called by that name (the header `Host`); its own address, localhost and the names \
                 that it was started with are allowed",
            ));
        }
        for origin in headers.get_all(ORIGIN) {
            let same = |origin: &str| {
                let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
                own.is_some() && own == host
            };
            if !origin.to_str().is_ok_and(|origin| same(origin) || self.is_allowed(origin)) {
                return Err(ApiError::forbidden("web pages of other origins may not call this server"));
            }
        }
        Ok(())
    }

    /// Whether `authority`, a name with or without a port, is ours on this address.
    fn is_ours(&self, authority: &str, address: IpAddr) -> bool {
        let name = match authority.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => authority,
        };
        if let Ok(called) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return called.is_loopback() || called.to_canonical() == address.to_canonical();
        }
        let name = name.trim_end_matches('.');
        name.eq_ignore_ascii_case("localhost") || self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }

    fn is_allowed(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed == origin)
    }

    /// The origin that may read the answer, if it is one of those that were allowed by name. A page of our own needs no
    /// permission.
    pub fn reader(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        headers.get(ORIGIN).filter(|origin| origin.to_str().is_ok_and(|origin| self.is_allowed(origin))).cloned()
    }

    /// Whether the request has a key, if one is needed.
    ///
    /// # Errors
    /// 401.
    pub fn check_key(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let bearer = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).and_then(|value| {
            let (scheme, key) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
        });
        let given = bearer.or_else(|| headers.get("x-api-key").map(HeaderValue::as_bytes));
        if given.is_some_and(|key| self.keys.contain(key)) { Ok(()) } else { Err(ApiError::unauthorized()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard { keys: Keys::default(), hosts: vec!["pi.local".into()], origins: vec!["https://chat.example".into()] }
    }

    fn check(address: &str, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        origin.map(|origin| headers.insert(ORIGIN, origin.parse().unwrap()));
        guard().check_caller(Arrival::Tcp(address.parse().unwrap()), &Uri::from_static("/x"), &headers).is_ok()
    }

    #[test]
    fn only_our_own_names() {
        for host in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "127.9.9.9", "pi.local", "Pi.local.:80"]
        {
            assert!(check("127.0.0.1", host, None), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.168.1.7",
            "",
            "pi.local.evil",
            "0.0.0.0:8080",
            "127.0.0.1.nip.io",
        ] {
            assert!(!check("127.0.0.1", host, None), "{host}");
        }
        assert!(check("192.168.1.7", "192.168.1.7:8080", None) && check("::ffff:192.168.1.7", "192.168.1.7", None));
        assert!(!check("192.168.1.7", "evil.example", None));
    }

    #[test]
    fn only_our_own_pages() {
        assert!(check("127.0.0.1", "localhost:8080", Some("http://localhost:8080")));
        assert!(check("127.0.0.1", "localhost:8080", Some("https://chat.example")));
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost:9",
            "file://",
            "localhost:8080",
            "https://chat.example.evil",
        ] {
            assert!(!check("127.0.0.1", "localhost:8080", Some(origin)), "{origin}");
        }
    }
}
