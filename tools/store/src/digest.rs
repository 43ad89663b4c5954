//! Names of files that are what is in them.

use std::io::{self, Read};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// What the bytes of a file must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256, in 64 hexadecimal digits: of ollama's blobs, and of the Hub's large files.
    Sha256(String),
    /// How git names a file, in 40: of the Hub's small files.
    Git(String),
}

impl Digest {
    /// By what a blob is called: the digits alone (the Hub) or behind `sha256-` (ollama).
    pub fn of_name(name: &str) -> Option<Digest> {
        let digits = name.strip_prefix("sha256-").unwrap_or(name);
        let hex = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match digits.len() {
            64 if hex => Some(Digest::Sha256(digits.into())),
            40 if hex && digits == name => Some(Digest::Git(digits.into())),
            _ => None,
        }
    }

    /// The digits.
    pub fn digits(&self) -> &str {
        match self {
            Digest::Sha256(digits) | Digest::Git(digits) => digits,
        }
    }

    /// Takes the `bytes` bytes of a file.
    pub fn hasher(&self, bytes: u64) -> Hasher {
        match self {
            Digest::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Digest::Git(_) => Hasher::Git(Sha1::new_with_prefix(format!("blob {bytes}\0"))),
        }
    }
}

/// Works a digest out.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// git's.
    Git(Sha1),
}

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Git(hasher) => hasher.update(bytes),
        }
    }

    /// Takes everything that `from` has, and says how far it is.
    ///
    /// # Errors
    /// Those of `from`.
    pub fn read(&mut self, mut from: impl Read, progress: &mut dyn FnMut(u64)) -> io::Result<u64> {
        let (mut buffer, mut done) = (vec![0; 1 << 20], 0);
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(done),
                Ok(n) => {
                    self.update(&buffer[..n]);
                    done += n as u64;
                    progress(done);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether what it took comes to `digest`.
    pub fn is(self, digest: &Digest) -> bool {
        self.digits() == digest.digits()
    }

    /// What it took comes to, in hexadecimal digits.
    pub fn digits(self) -> String {
        let bytes = match self {
            Hasher::Sha256(hasher) => hasher.finalize().to_vec(),
            Hasher::Git(hasher) => hasher.finalize().to_vec(),
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first from FIPS 180-4's examples, the second is what `git hash-object` says of it.
    #[test]
    fn published_vectors() {
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (name, text) in [(sha256, "abc"), ("3b18e512dba79e4c8300dd08aeb37f8e728b8dad", "hello world\n")] {
            let digest = Digest::of_name(name).unwrap();
            let mut hasher = digest.hasher(text.len() as u64);
            hasher.read(text.as_bytes(), &mut |_| {}).unwrap();
            assert!(hasher.is(&digest), "{text}");
        }
        assert_eq!(Digest::of_name(&format!("sha256-{sha256}")), Digest::of_name(sha256));
        for name in ["", "abc", &sha256.to_uppercase(), &format!("sha256-{}", &sha256[..40]), "../../etc/passwd"] {
            assert_eq!(Digest::of_name(name), None, "{name}");
        }
    }
}
