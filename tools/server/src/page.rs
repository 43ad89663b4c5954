//! The web page at `/`: three files in the binary, written by hand. It is a client like any other: it has no rights of
//! its own, and asks the user for the key if the server wants one.

use hyper::Method;
use hyper::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};

use crate::http::reply::{self, Reply};

const HTML: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
/// One script, of parts that build on those before them.
const SCRIPT: &str = concat!(
    include_str!("page/dom.js"),
    include_str!("page/markdown.js"),
    include_str!("page/store.js"),
    include_str!("page/client.js"),
    include_str!("page/tools.js"),
    include_str!("page/message.js"),
    include_str!("page/conversation.js"),
    include_str!("page/sidebar.js"),
    include_str!("page/settings.js"),
    include_str!("page/live.js"),
    include_str!("page/start.js"),
);

/// What a browser lets the page do: its own script and style, and calls to this server. Text becomes nodes, never HTML:
/// a browser with Trusted Types would stop that, too.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// The file at `path`, if it is one of the page's. Clients that ask `/` for no HTML are none of its readers.
pub fn find(method: &Method, path: &str, headers: &HeaderMap) -> Option<Reply> {
    if method != Method::GET && method != Method::HEAD {
        return None;
    }
    let (kind, text) = match path {
        "/" if wants_html(headers) => ("text/html; charset=utf-8", HTML),
        "/page.css" => ("text/css; charset=utf-8", STYLE),
        "/page.js" => ("text/javascript; charset=utf-8", SCRIPT),
        _ => return None,
    };
    let mut reply = reply::whole(200, kind, text);
    let fixed: [(HeaderName, &'static str); 7] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // A newer server has a newer page.
        (CACHE_CONTROL, "no-cache"),
        (VARY, "Accept"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(reply)
}

/// Browsers name the type when they open a page; programs take anything.
fn wants_html(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/html")))
}
