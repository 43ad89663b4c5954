//! Requests, where they lead, and who may be sent a token.

use std::io::Read;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{HeaderMap, Uri};

use super::again::{Failed, Tries, Watch};
use super::error::PullError;
use super::tls;
use super::token::Token;

/// Redirections of one request.
const REDIRECTS: usize = 8;
/// Until a host is reached, and until something comes from it.
const CONNECT: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(30);

/// Asks for things.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    /// Why there is no encryption.
    no_tls: Option<&'static str>,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub url: &'a str,
    /// Goes to the host of `url` alone, and only encrypted or on this machine.
    pub token: Option<&'a Token>,
    pub accept: &'a str,
    /// The first bytes that are not wanted.
    pub from: u64,
    /// The variable that names a mirror.
    pub mirror: &'static str,
}

/// What came.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Box<dyn Read + Send>,
}

/// Why there is no answer.
pub(super) enum NoAnswer {
    Never(PullError),
    Now(Failed),
}

impl From<PullError> for NoAnswer {
    fn from(error: PullError) -> NoAnswer {
        NoAnswer::Never(error)
    }
}

impl Client {
    pub fn new() -> Result<Client, PullError> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_resolve(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("quipu/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity");
        let tls = tls::config()?;
        let no_tls = tls.as_ref().err().copied();
        if let Ok(tls) = tls {
            config = config.tls_config(tls);
        }
        Ok(Client { agent: config.build().into(), no_tls })
    }

    /// Asks, and follows where the answer leads. A busy server or a broken line is a failure for now.
    pub fn get(&self, ask: Ask<'_>) -> Result<Answer, NoAnswer> {
        let first = address(ask.url)?;
        let mut url = first.clone();
        for _ in 0..REDIRECTS {
            let secure = url.scheme_str() == Some("https");
            if let Some(why) = self.no_tls.filter(|_| secure) {
                return Err(PullError::NoTls { url: url.to_string(), why, mirror: ask.mirror }.into());
            }
            let mut request = self.agent.get(url.clone()).header("Accept", ask.accept);
            if let Some(token) = ask.token.filter(|_| same_origin(&first, &url) && (secure || is_here(&url))) {
                request = request.header("Authorization", token.header());
            }
            if ask.from > 0 {
                request = request.header("Range", format!("bytes={}-", ask.from));
            }
            let failed = |error: ureq::Error| match said(&error) {
                why if is_tls(&error) => NoAnswer::Never(PullError::Tls { url: url.to_string(), why }),
                why => NoAnswer::Now(Failed { why, after: None }),
            };
            let (parts, body) = request.call().map_err(failed)?.into_parts();
            let status = parts.status.as_u16();
            if matches!(status, 408 | 425 | 429) || status >= 500 {
                let after = parts.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                let why = format!("{} answered with the status {status}", host(&url));
                return Err(NoAnswer::Now(Failed { why, after: after.map(Duration::from_secs) }));
            }
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { status, headers: parts.headers, body: Box::new(body.into_reader()) });
            }
            let location = parts.headers.get("location").and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| leads(&url, location));
            let next = next.ok_or_else(|| PullError::Redirects { url: ask.url.into() })?;
            if secure && next.scheme_str() != Some("https") {
                return Err(PullError::Downgrade { url: ask.url.into(), to: next.to_string() }.into());
            }
            url = next;
        }
        Err(PullError::Redirects { url: ask.url.into() }.into())
    }

    /// The whole answer, of at most `most` bytes; asked for as often as it takes.
    pub fn read(&self, ask: Ask<'_>, most: u64, watch: &mut Watch<'_>) -> Result<(u16, Vec<u8>), PullError> {
        let mut tries = Tries::default();
        loop {
            watch.check()?;
            let answer = self.get(ask).and_then(|answer| {
                let mut bytes = Vec::new();
                let read = answer.body.take(most + 1).read_to_end(&mut bytes);
                read.map_err(|error| NoAnswer::Now(Failed { why: error.to_string(), after: None }))?;
                Ok((answer.status, bytes))
            });
            match answer {
                Ok((_, bytes)) if bytes.len() as u64 > most => {
                    let reason = format!("it is longer than {most} bytes");
                    return Err(PullError::Answer { url: ask.url.into(), expected: "such a server", reason });
                }
                Ok(answer) => return Ok(answer),
                Err(NoAnswer::Never(error)) => return Err(error),
                Err(NoAnswer::Now(failed)) => tries.again(ask.url, failed, watch)?,
            }
        }
    }
}

/// The host of an address, with its port.
pub(super) fn host(url: &Uri) -> String {
    url.authority().map(|authority| authority.as_str().to_string()).unwrap_or_default()
}

/// An address with a scheme and a host.
pub(super) fn address(url: &str) -> Result<Uri, PullError> {
    let bad = || PullError::Address { url: url.into() };
    let uri: Uri = url.parse().map_err(|_| bad())?;
    // Nothing that belongs to somebody is to be shown in messages.
    let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    if known && plain { Ok(uri) } else { Err(bad()) }
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    a.scheme() == b.scheme() && a.authority().is_some() && a.authority() == b.authority()
}

/// Whether a host is this machine.
pub(super) fn is_here(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Where `location` leads from `url`.
fn leads(url: &Uri, location: &str) -> Option<Uri> {
    if location.contains("://") {
        return address(location).ok();
    }
    let (scheme, authority) = (url.scheme_str()?, url.authority()?);
    let absolute = match location.strip_prefix("//") {
        Some(rest) => format!("{scheme}://{rest}"),
        None if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        None => {
            let directory = url.path().rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{scheme}://{authority}{directory}/{location}")
        }
    };
    address(&absolute).ok()
}

/// What went wrong, in one line.
fn said(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "there is no such host, or no network".into(),
        ureq::Error::Timeout(_) => "there was no answer in time".into(),
        error => error.to_string(),
    }
}

/// Whether encryption failed, which another try does not mend.
fn is_tls(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_on() {
        let from: Uri = "https://a.example:8443/b/c?d".parse().unwrap();
        for (location, expected) in [
            ("https://x.example/y", Some("https://x.example/y")),
            ("//x.example/y", Some("https://x.example/y")),
            ("/y?z", Some("https://a.example:8443/y?z")),
            ("y", Some("https://a.example:8443/b/y")),
            ("ftp://x.example/", None),
            ("http://user:secret@x.example/", None),
        ] {
            assert_eq!(leads(&from, location).map(|uri| uri.to_string()).as_deref(), expected, "{location}");
        }
        assert!(!same_origin(&from, &"https://a.example/b".parse().unwrap()));
        assert!(!same_origin(&from, &"http://a.example:8443/b".parse().unwrap()));
        for (url, here) in [("http://127.0.0.1:1/", true), ("http://[::1]:1/", true), ("http://10.0.0.1/", false)] {
            assert_eq!(is_here(&url.parse().unwrap()), here, "{url}");
        }
    }
}
