//! Places in a schema.

use serde_json::Value as Json;

/// A JSON pointer (RFC 6901), not yet a fragment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pointer(String);

impl Pointer {
    /// The place of a member, or of an element.
    pub fn at(&self, key: &str) -> Pointer {
        Pointer(format!("{}/{}", self.0, key.replace('~', "~0").replace('/', "~1")))
    }

    /// The place of element `i`.
    pub fn index(&self, i: usize) -> Pointer {
        Pointer(format!("{}/{i}", self.0))
    }

    /// As a fragment, for messages.
    pub fn shown(&self) -> String {
        format!("#{}", self.0)
    }

    /// What stands there.
    pub fn find<'a>(&self, root: &'a Json) -> Option<&'a Json> {
        root.pointer(&self.0)
    }

    /// The place that the fragment of a `$ref` names, without its `#`; none if it is no pointer.
    pub fn of_fragment(fragment: &str) -> Option<Pointer> {
        let decoded = decode(fragment)?;
        (decoded.is_empty() || decoded.starts_with('/')).then_some(Pointer(decoded))
    }

    /// All places on the way to it, itself included, the root not.
    pub fn way(&self) -> impl Iterator<Item = Pointer> + '_ {
        let ends =
            self.0.match_indices('/').skip(1).map(|(at, _)| at).chain((!self.0.is_empty()).then_some(self.0.len()));
        ends.map(|end| Pointer(self.0[..end].to_string()))
    }
}

/// Percent-decoding.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(if byte == b'%' { (digit()? * 16 + digit()?) as u8 } else { byte });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way() {
        let shown: Vec<String> = Pointer::default().at("a").index(3).at("b/~").way().map(|p| p.shown()).collect();
        assert_eq!(shown, ["#/a", "#/a/3", "#/a/3/b~1~0"]);
        assert_eq!(Pointer::default().way().count(), 0);
        assert_eq!(Pointer::of_fragment("/a%25b"), Some(Pointer("/a%b".into())));
        assert_eq!(Pointer::of_fragment("anchor").or(Pointer::of_fragment("/%4")), None);
    }
}
