//! The web page: what it is sent with, and what it must not contain. What it does is tested in a browser
//! (`tests/page`).

use quipu_server::keys::Keys;

use crate::client::Response;
use crate::server::{Running, shared};

const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");

/// All files, as a browser gets them.
fn files() -> [(&'static str, Response); 3] {
    ["/", "/page.css", "/page.js"].map(|path| (path, shared().send("GET", path, &[HTML], b"")))
}

#[test]
fn three_files_below_100_kb() {
    let files = files();
    let types = ["text/html; charset=utf-8", "text/css; charset=utf-8", "text/javascript; charset=utf-8"];
    for ((path, file), kind) in files.iter().zip(types) {
        assert_eq!((file.status, file.header("content-type")), (200, Some(kind)), "{path}");
        let head = shared().send("HEAD", path, &[HTML], b"");
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-length"), Some(file.body.len().to_string().as_str()), "{path}");
    }
    let bytes: usize = files.iter().map(|(_, file)| file.body.len()).sum();
    assert!((10_000..100_000).contains(&bytes), "{bytes} bytes");
}

/// The policy permits its own script and style, calls to this server, and nothing else.
#[test]
fn the_policy_is_strict() {
    for (path, file) in files() {
        let policy = file.header("content-security-policy").expect("a policy");
        let directives: Vec<&str> = policy.split(';').map(str::trim).collect();
        for wanted in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(directives.contains(&wanted), "{path}: {wanted}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(file.header("referrer-policy"), Some("no-referrer"));
    }
}

/// Text of a model, a file or a server becomes text nodes: nothing in the page makes HTML or a program of it.
#[test]
fn nothing_becomes_html_or_a_program() {
    for (path, file) in files() {
        let text = file.text();
        for never in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
            "createContextualFragment",
            "srcdoc",
            "javascript:",
            "setTimeout(\"",
        ] {
            assert!(!text.contains(never), "{path} has {never}");
        }
        let elsewhere = text.match_indices("http").filter(|(at, _)| {
            let rest = &text[*at..];
            (rest.starts_with("http://") || rest.starts_with("https://"))
                && !rest.starts_with("http://www.w3.org/2000/svg")
        });
        assert_eq!(elsewhere.count(), 0, "{path} names another site");
    }
    let [(_, html), ..] = files();
    let html = html.text();
    for tag in html.split('<').skip(1).map(|tag| tag.split('>').next().unwrap()) {
        let attributes = tag.split_ascii_whitespace().skip(1);
        for attribute in attributes {
            assert!(!attribute.starts_with("on") && !attribute.starts_with("style="), "<{tag}>");
        }
        assert!(!tag.starts_with("style") && (!tag.starts_with("script") || tag.contains("src=")), "<{tag}>");
    }
}

/// Every element that the script asks for by its name is there, once.
#[test]
fn the_script_finds_its_elements() {
    let [(_, html), _, (_, script)] = files();
    let names: Vec<&str> = script.text().split("$(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(names.len() > 40);
    for name in names {
        assert_eq!(html.text().matches(&format!(" id=\"{name}\"")).count(), 1, "{name}");
    }
}

#[test]
fn it_is_public_but_its_callers_are_looked_at() {
    let server = Running::with(|options| options.keys = Keys::of_lines("a-key"));
    for path in ["/", "/page.css", "/page.js"] {
        assert_eq!(server.send("GET", path, &[HTML], b"").status, 200, "{path}");
        assert_eq!(server.send("GET", path, &[HTML, ("Host", "evil.example")], b"").status, 403, "{path}");
        assert_eq!(server.send("GET", path, &[HTML, ("Origin", "http://evil.example")], b"").status, 403, "{path}");
        assert_ne!(server.send("POST", path, &[HTML], b"{}").status, 200, "{path}");
    }
}

/// Programs that ask `/` whether somebody is there do not get the page.
#[test]
fn only_browsers_get_the_page() {
    for accept in [&[("Accept", "*/*")][..], &[("Accept", "application/json")], &[]] {
        let response = shared().send("GET", "/", accept, b"");
        assert!(!response.text().contains("<html"), "{accept:?}");
    }
}
