//! The server's web page in a browser.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::talk;

/// What opens the address of a page, with the words before it.
const OPENER: &[&str] = if cfg!(windows) {
    &["rundll32", "url.dll,FileProtocolHandler"]
} else if cfg!(target_os = "macos") {
    &["open"]
} else {
    &["xdg-open"]
};

/// Asks the system to show the page of a server at `address`.
pub fn open(address: &SocketAddr) {
    let url = format!("http://{}", at(address));
    let mut opener = Command::new(OPENER[0]);
    opener.args(&OPENER[1..]).arg(&url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match opener.spawn() {
        // Waited for, or it would stay in the table of processes.
        Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
        Err(error) => talk::warning(&format!("{url}: no browser could be opened ({}: {error})", OPENER[0])),
    }
}

/// A browser cannot go to "all addresses of this machine".
fn at(address: &SocketAddr) -> SocketAddr {
    let mut address = *address;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}
