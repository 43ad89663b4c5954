//! Python's `str.format`.

use super::access;
use super::args::Arguments;
use super::error::{Error, Result, fail};
use super::layout::padded;
use super::numbers;
use super::percent::ascii;
use super::print::{float, repr, to_text};
use super::text::{TEMPLATE, Text};
use super::value::{Dict, Value};

/// Where fields find their values.
enum Source<'v> {
    Arguments(&'v Arguments),
    Mapping(&'v Dict),
}

/// A format being filled in.
struct Fields<'v> {
    source: Source<'v>,
    /// The number of the next `{}`.
    next: usize,
    numbered: bool,
}

pub(super) fn format(text: &Text, args: &Arguments) -> Result<Text> {
    Fields { source: Source::Arguments(args), next: 0, numbered: false }.fill(text, 2)
}

pub(super) fn format_map(text: &Text, mapping: &Dict) -> Result<Text> {
    Fields { source: Source::Mapping(mapping), next: 0, numbered: false }.fill(text, 2)
}

impl Fields<'_> {
    /// `levels`: a format may have fields in the specification of a field, and no deeper.
    fn fill(&mut self, format: &Text, levels: usize) -> Result<Text> {
        if levels == 0 {
            return fail!("max string recursion exceeded");
        }
        let s = format.as_str();
        let mut out = Text::default();
        let mut at = 0;
        while let Some(found) = s[at..].find(['{', '}']) {
            let start = at + found;
            out.push_part(format, at..start)?;
            let brace = s.as_bytes()[start];
            if s.as_bytes().get(start + 1) == Some(&brace) {
                out.push_part(format, start..start + 1)?;
                at = start + 2;
                continue;
            }
            if brace == b'}' {
                return fail!("single '}}' encountered in format string");
            }
            let (mut depth, mut end) = (1, start + 1);
            while depth > 0 {
                match s.as_bytes().get(end) {
                    Some(b'{') => depth += 1,
                    Some(b'}') => depth -= 1,
                    Some(_) => {}
                    None => return fail!("expected '}}' before end of string"),
                }
                end += 1;
            }
            let field = self.field(format, start + 1..end - 1, levels)?;
            out.push_text(&field)?;
            at = end;
        }
        out.push_part(format, at..s.len())?;
        Ok(out)
    }

    /// `name!conversion:specification`
    fn field(&mut self, format: &Text, range: std::ops::Range<usize>, levels: usize) -> Result<Text> {
        let field = &format.as_str()[range.clone()];
        // A bracket may hold a colon.
        let mut in_brackets = false;
        let cut = field.char_indices().find(|(_, c)| {
            in_brackets = (*c == '[' || in_brackets) && *c != ']';
            !in_brackets && (*c == ':' || *c == '!')
        });
        let (name, rest) = field.split_at(cut.map_or(field.len(), |(at, _)| at));
        let mut value = self.value(name)?;
        let mut rest_at = range.start + name.len();
        if let Some(conversion) = rest.strip_prefix('!') {
            let Some(c) = conversion.chars().next() else { return fail!("unmatched '{{' in format spec") };
            let mut text = Text::default();
            match c {
                's' => text = to_text(&value)?,
                'r' => repr(&mut text, &value, 0)?,
                'a' => {
                    repr(&mut text, &value, 0)?;
                    text = ascii(&text)?;
                }
                other => return fail!("unknown conversion specifier {other}"),
            }
            value = text.into();
            rest_at += 1 + c.len_utf8();
        }
        let mut specification = format.part(rest_at..range.end)?;
        match specification.as_str().strip_prefix(':') {
            Some(_) => specification = self.fill(&specification.part(1..specification.len())?, levels - 1)?,
            None if specification.len() > 0 => return fail!("expected ':' after conversion specifier"),
            None => {}
        }
        formatted(&value, specification.as_str())
    }

    /// The value of a field: `0`, `name`, `name.attribute`, `name[index]`.
    fn value(&mut self, name: &str) -> Result<Value> {
        let first = name.split(['.', '[']).next().unwrap_or("");
        let mut rest = &name[first.len()..];
        let mut value = if first.is_empty() || first.bytes().all(|b| b.is_ascii_digit()) {
            let Source::Arguments(args) = &self.source else {
                return fail!("format string contains positional fields");
            };
            let index = if first.is_empty() {
                if self.numbered {
                    return fail!("cannot switch from manual field specification to automatic field numbering");
                }
                self.next += 1;
                self.next - 1
            } else {
                if self.next > 0 {
                    return fail!("cannot switch from automatic field numbering to manual field specification");
                }
                self.numbered = true;
                first.parse().unwrap_or(usize::MAX)
            };
            let found = args.positional.get(index).cloned();
            found.ok_or_else(|| Error::new(format!("replacement index {first} out of range for positional args")))?
        } else {
            let found = match &self.source {
                Source::Arguments(args) => {
                    args.named.iter().find(|(n, _)| &**n == first).map(|(_, value)| value.clone())
                }
                Source::Mapping(mapping) => mapping.get_str(first).cloned(),
            };
            found.ok_or_else(|| Error::new(format!("no argument '{first}' for the format")))?
        };
        while !rest.is_empty() {
            if let Some(attribute) = rest.strip_prefix('.') {
                let name = attribute.split(['.', '[']).next().unwrap_or("");
                value = access::attribute(&value, name)?;
                rest = &attribute[name.len()..];
            } else {
                let Some((key, after)) = rest[1..].split_once(']') else {
                    return fail!("missing ']' in format string");
                };
                let key = match key.parse::<u32>() {
                    Ok(index) => Value::Int(index.into()),
                    Err(_) => Value::string(key)?,
                };
                value = access::item(&value, &key)?;
                rest = after;
            }
        }
        Ok(value)
    }
}

/// `[[fill]align][sign][z][#][0][width][grouping][.precision][type]`
struct Specification {
    fill: String,
    align: Option<char>,
    sign: Option<char>,
    alternative: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    form: Option<char>,
}

impl Specification {
    fn parse(text: &str) -> Result<Specification> {
        let is_align = |c: &char| "<>=^".contains(*c);
        let mut rest = text;
        let mut chars = text.chars();
        let (first, second) = (chars.next(), chars.next());
        let (mut fill, mut align) = (" ".to_string(), None);
        if let (Some(first), Some(second)) = (first, second.filter(is_align)) {
            (fill, align) = (first.to_string(), Some(second));
            rest = &rest[first.len_utf8() + 1..];
        } else if let Some(first) = first.filter(is_align) {
            align = Some(first);
            rest = &rest[1..];
        }
        let mut take = |set: &str| {
            let found = rest.chars().next().filter(|c| set.contains(*c));
            rest = &rest[found.map_or(0, char::len_utf8)..];
            found
        };
        let sign = take("+- ");
        let alternative = take("#").is_some();
        let zero = take("0").is_some();
        let number = |take: &mut dyn FnMut(&str) -> Option<char>| {
            let mut number: Option<usize> = None;
            while let Some(c) = take("0123456789") {
                let digit = c as usize - '0' as usize;
                number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit));
            }
            number
        };
        let width = number(&mut take).unwrap_or(0);
        let grouping = take(",_");
        let precision = match take(".") {
            Some(_) => match number(&mut take) {
                Some(precision) => Some(precision),
                None => return fail!("format specifier missing precision"),
            },
            None => None,
        };
        let form = take("bcdeEfFgGnosxX%");
        if !rest.is_empty() {
            return fail!("invalid format specifier '{text}'");
        }
        Ok(Specification { fill, align, sign, alternative, zero, width, grouping, precision, form })
    }
}

/// Python's `format(value, specification)`.
fn formatted(value: &Value, specification: &str) -> Result<Text> {
    if specification.is_empty() {
        return to_text(value);
    }
    let spec = Specification::parse(specification)?;
    let wrong = |form: char| fail!("unknown format code '{form}' for object of type '{}'", value.type_name());
    let (sign, body, is_number) = match value {
        Value::Str(text) => {
            if let Some(form) = spec.form.filter(|form| *form != 's') {
                return wrong(form);
            }
            if spec.sign.is_some() || spec.alternative || spec.align == Some('=') || spec.grouping.is_some() {
                return fail!("a sign, '#', ',' or '=' is not allowed in a string's format specifier");
            }
            let end = spec.precision.and_then(|p| text.as_str().char_indices().nth(p)).map_or(text.len(), |(at, _)| at);
            (String::new(), text.part(0..end)?, false)
        }
        Value::Int(_) | Value::Bool(_) | Value::Float(_) => {
            let (sign, digits) = number(value, &spec)?;
            (sign, Text::new(&digits, TEMPLATE)?, true)
        }
        other => return fail!("unsupported format string passed to {}.__format__", other.type_name()),
    };
    let align = spec.align.unwrap_or(if is_number { if spec.zero { '=' } else { '>' } } else { '<' });
    let fill = if spec.zero && spec.align.is_none() { "0" } else { &spec.fill };
    let width = sign.chars().count() + body.as_str().chars().count();
    let missing = spec.width.saturating_sub(width) as i128;
    let mut text = Text::new(&sign, TEMPLATE)?;
    if align == '=' {
        text.push_text(&padded(&body, fill, missing, 0)?)?;
        return Ok(text);
    }
    text.push_text(&body)?;
    match align {
        '<' => padded(&text, fill, 0, missing),
        '^' => padded(&text, fill, missing / 2, missing - missing / 2),
        _ => padded(&text, fill, missing, 0),
    }
}

/// The sign, with a prefix perhaps, and the digits of a number.
fn number(value: &Value, spec: &Specification) -> Result<(String, String)> {
    if let (Some(i), None | Some('b' | 'c' | 'd' | 'n' | 'o' | 'x' | 'X')) = (value.as_int(), spec.form) {
        if spec.precision.is_some() {
            return fail!("precision not allowed in integer format specifier");
        }
        if spec.form == Some('c') {
            let c = u32::try_from(i).ok().and_then(char::from_u32);
            return c
                .map(|c| (String::new(), c.to_string()))
                .ok_or_else(|| Error::new("%c arg not in range(0x110000)"));
        }
        let (digits, prefix) = numbers::integer(i, spec.form.unwrap_or('d'));
        let prefix = if spec.alternative { prefix } else { "" };
        let every = if matches!(spec.form, Some('b' | 'o' | 'x' | 'X')) { 4 } else { 3 };
        return Ok((format!("{}{prefix}", numbers::sign(i < 0, spec.sign)), grouped(&digits, spec.grouping, every)));
    }
    let Some(f) = value.as_f64() else { return fail!("not a number") };
    let negative = f.is_sign_negative() && !f.is_nan();
    let sign = numbers::sign(negative, spec.sign).to_string();
    let usual = numbers::precision(spec.precision)?;
    let digits = match (spec.form, spec.precision) {
        (Some('%'), _) => numbers::float(f * 100.0, 'f', usual, spec.alternative) + "%",
        (None, None) => float(f.abs()),
        // As `g`, but with a digit after the point.
        (None, Some(precision)) => {
            let text = numbers::float(f, 'g', precision, spec.alternative);
            if text.contains(['.', 'e', 'n', 'i']) { text } else { text + ".0" }
        }
        (Some('n'), _) => numbers::float(f, 'g', usual, spec.alternative),
        (Some(form @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G')), _) => numbers::float(f, form, usual, spec.alternative),
        (Some(form), _) => return fail!("unknown format code '{form}' for object of type 'float'"),
    };
    let whole = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    Ok((sign, grouped(&digits[..whole], spec.grouping, 3) + &digits[whole..]))
}

fn grouped(digits: &str, separator: Option<char>, every: usize) -> String {
    let Some(separator) = separator else { return digits.into() };
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(every) {
            out.push(separator);
        }
        out.push(c);
    }
    out
}
