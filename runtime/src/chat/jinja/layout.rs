//! Methods of Python's `str` that put spaces around a text.

use super::args::{Arguments, int, string, wanted};
use super::error::{Result, fail};
use super::text::Text;
use super::value::Value;

pub(super) fn call(text: &Text, name: &str, args: Arguments) -> Result<Text> {
    if name == "expandtabs" {
        let [size] = args.bind(name, ["tabsize"])?;
        return expand_tabs(text, size.as_ref().map_or(Ok(8), int)?);
    }
    let [width, fill] = args.bind(name, ["width", "fillchar"])?;
    if name == "zfill" && fill.is_some() {
        return fail!("zfill() takes exactly one argument");
    }
    let width = int(&wanted(width, name)?)?;
    if name == "zfill" {
        let sign = usize::from(text.as_str().starts_with(['+', '-']));
        let mut out = text.part(0..sign)?;
        out.push_repeated("0", width.saturating_sub(text.as_str().chars().count() as i128))?;
        out.push_part(text, sign..text.len())?;
        return Ok(out);
    }
    let fill = fill.map_or_else(|| Value::string(" "), Ok)?;
    let fill = string(&fill)?.as_str();
    if fill.chars().count() != 1 {
        return fail!("the fill character must be exactly one character long");
    }
    let missing = width.saturating_sub(text.as_str().chars().count() as i128).max(0);
    let left = match name {
        "ljust" => 0,
        "rjust" => missing,
        // Python's rule for what is left over.
        _ => missing / 2 + (missing & width & 1),
    };
    padded(text, fill, left, missing - left)
}

/// `text` with so many of `fill` on either side.
pub(super) fn padded(text: &Text, fill: &str, left: i128, right: i128) -> Result<Text> {
    let mut out = Text::default();
    out.push_repeated(fill, left)?;
    out.push_text(text)?;
    out.push_repeated(fill, right)?;
    Ok(out)
}

fn expand_tabs(text: &Text, size: i128) -> Result<Text> {
    let mut out = Text::default();
    let mut column = 0;
    for (_, c, origin) in text.chars() {
        match c {
            '\t' if size > 0 => {
                let spaces = size - column % size;
                out.push_repeated(" ", spaces)?;
                column += spaces;
            }
            '\t' => {}
            '\n' | '\r' => {
                out.push(c, origin)?;
                column = 0;
            }
            c => {
                out.push(c, origin)?;
                column += 1;
            }
        }
    }
    Ok(out)
}
