//! `format`: strings as RFCs have them, a little stricter where readers of them differ.

/// The regular expression of a format, anchored nowhere. None for one that is not enforced.
///
/// Years have four digits without a leading zero, and February its 29th day only in leap years. No second is the 60th:
/// readers of dates stumble on it. Addresses have no parts that only few programs take (quoted names, `[IPv6:…]`).
pub fn find(name: &str) -> Option<String> {
    const TIME: &str =
        r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
    const OCTET: &str = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    Some(match name {
        "date" => date(),
        "time" => TIME.into(),
        "date-time" => format!("{}[Tt]{TIME}", date()),
        "duration" => duration(),
        "uuid" => "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}".into(),
        "ipv4" => format!(r"{OCTET}(?:\.{OCTET}){{3}}"),
        "ipv6" => ipv6(),
        // Names of up to four labels are never too long. What begins with `xn--` would have to be decoded to be
        // checked; no two hyphens stand third and fourth in any other label.
        "hostname" => hostname(),
        "email" => {
            let atom = r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,20}";
            format!(r"{atom}(?:\.{atom}){{0,2}}@{}", hostname())
        }
        "uri" => {
            let part = r"(?:[a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2})";
            let host = format!("{OCTET}(?:\\.{OCTET}){{3}}|{}", hostname());
            format!(
                r"[a-zA-Z][a-zA-Z0-9+.-]*:(?://(?:{host})(?::[0-9]{{1,4}})?(?:/{part}*)*|/?{part}+(?:/{part}*)*)(?:\?(?:{part}|[/?])*)?(?:#(?:{part}|[/?])*)?"
            )
        }
        _ => return None,
    })
}

fn date() -> String {
    let leap = "(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)";
    format!(
        "(?:[1-9][0-9]{{3}}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|\
         02-(?:0[1-9]|1[0-9]|2[0-8]))|{leap}-02-29)"
    )
}

/// RFC 3339, appendix A: units follow each other without gaps.
fn duration() -> String {
    let n = "[0-9]{1,9}";
    let time = format!("T(?:{n}H(?:{n}M(?:{n}S)?)?|{n}M(?:{n}S)?|{n}S)");
    let date = format!("(?:{n}Y(?:{n}M(?:{n}D)?)?|{n}M(?:{n}D)?|{n}D)");
    format!("P(?:{date}(?:{time})?|{time}|{n}W)")
}

fn ipv6() -> String {
    let h = "[0-9a-fA-F]{1,4}";
    let mut forms =
        vec![format!("(?:{h}:){{7}}{h}"), format!("(?:{h}:){{1,7}}:"), format!(":(?::{h}){{1,7}}"), "::".into()];
    // `before` groups, the gap, and as many behind it as there is room for.
    forms.extend((1..=6).map(|before| format!("(?:{h}:){{{before}}}(?::{h}){{1,{}}}", 7 - before)));
    format!("(?:{})", forms.join("|"))
}

fn hostname() -> String {
    // The third and fourth letter are not both hyphens.
    let tame =
        "[a-zA-Z0-9](?:[a-zA-Z0-9]|-[a-zA-Z0-9])?|[a-zA-Z0-9][a-zA-Z0-9-][a-zA-Z0-9](?:[a-zA-Z0-9-]{0,40}[a-zA-Z0-9])?";
    format!(r"(?:{tame})(?:\.(?:{tame})){{0,3}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_a_regular_expression() {
        for name in ["date", "time", "date-time", "duration", "uuid", "ipv4", "ipv6", "hostname", "email", "uri"] {
            assert!(find(name).is_some_and(|regex| !regex.contains('^') || name == "email"), "{name}");
        }
        assert_eq!(find("regex"), None);
    }
}
