//! What a file says about modules: those that it declares, and the paths that it writes.

use crate::lexer::{Source, Token};

/// A path in a file. `crate`, `self` and `super` are segments like others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathUse {
    /// The modules within the file around it, the outermost first.
    pub scope: Vec<String>,
    /// The path's segments.
    pub segments: Vec<String>,
    /// The name that a `use` binds it to; `None` for a path in code, and for `*` and `_`.
    pub binds: Option<String>,
    /// Whether the last segment may be a module. In code it is a function, a type, a constant, a macro.
    pub may_be_module: bool,
    /// The line, counted from 1.
    pub line: usize,
}

/// A module that a file declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// The modules within the file around it, the outermost first.
    pub scope: Vec<String>,
    /// Its name.
    pub name: String,
    /// Whether its items stand in the same file.
    pub inline: bool,
}

/// Everything that a file says about modules, but for what is compiled for its unit tests alone.
#[derive(Debug, Default)]
pub struct Items {
    /// Its modules.
    pub declarations: Vec<Declaration>,
    /// Its paths.
    pub paths: Vec<PathUse>,
}

struct Parser<'a> {
    tokens: &'a [(Token, usize)],
    at: usize,
    /// For each open brace the module that it opened, if it was one.
    braces: Vec<Option<String>>,
    items: Items,
}

impl Parser<'_> {
    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(token, _)| token)
    }

    fn ident(&self, ahead: usize) -> Option<&str> {
        if let Some(Token::Ident(name)) = self.peek(ahead) { Some(name) } else { None }
    }

    fn is_punct(&self, ahead: usize, c: char) -> bool {
        self.peek(ahead) == Some(&Token::Punct(c))
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |(_, line)| *line)
    }

    fn scope(&self) -> Vec<String> {
        self.braces.iter().flatten().cloned().collect()
    }

    /// Whether the attribute that begins here is `#[cfg(test)]` or `#[cfg(all(test, …))]`.
    fn is_cfg_test(&self) -> bool {
        let all = usize::from(self.ident(4) == Some("all")) * 2;
        self.is_punct(0, '#')
            && self.is_punct(1, '[')
            && self.ident(2) == Some("cfg")
            && self.is_punct(3, '(')
            && self.ident(4 + all) == Some("test")
    }

    /// Skips what stands in brackets of any kind, from the opening one on.
    fn skip_group(&mut self) {
        let mut depth = 0;
        while let Some(token) = self.peek(0) {
            match token {
                Token::Punct('(' | '[' | '{') => depth += 1,
                Token::Punct(')' | ']' | '}') => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    /// Skips an item with its attributes: up to its `;` or through its braces.
    fn skip_item(&mut self) {
        while let Some(token) = self.peek(0) {
            match token {
                Token::Punct('{') => return self.skip_group(),
                Token::Punct('(' | '[') => self.skip_group(),
                Token::Punct('}' | ')' | ']') => return,
                Token::Punct(';') => {
                    self.at += 1;
                    return;
                }
                _ => self.at += 1,
            }
        }
    }

    /// The tree of a `use`, from behind `prefix` on: up to the `,`, `}` or `;` that ends it.
    fn use_tree(&mut self, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        let line = self.line();
        let found = |segments: Vec<String>, binds: Option<String>, scope| PathUse {
            scope,
            segments,
            binds,
            may_be_module: true,
            line,
        };
        loop {
            match self.peek(0).cloned() {
                Some(Token::Ident(name)) => {
                    // `{self}` is the module itself.
                    if name != "self" || segments.is_empty() {
                        segments.push(name);
                    }
                    self.at += 1;
                    if self.ident(0) == Some("as") {
                        let alias = self.ident(1).filter(|alias| *alias != "_").map(str::to_string);
                        self.at += 2;
                        let path = found(segments, alias, self.scope());
                        return self.items.paths.push(path);
                    }
                    if self.peek(0) != Some(&Token::PathSeparator) {
                        let name = segments.last().cloned();
                        let path = found(segments, name, self.scope());
                        return self.items.paths.push(path);
                    }
                }
                Some(Token::PathSeparator) => self.at += 1,
                Some(Token::Punct('*')) => {
                    self.at += 1;
                    let path = found(segments, None, self.scope());
                    return self.items.paths.push(path);
                }
                Some(Token::Punct('{')) => {
                    self.at += 1;
                    while !self.is_punct(0, '}') && self.peek(0).is_some() {
                        self.use_tree(&segments);
                        if self.is_punct(0, ',') {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                // `$crate` in a macro.
                Some(Token::Punct('$')) => self.at += 1,
                // Nothing that a `use` may hold: what follows is read as code.
                _ => {
                    self.at += usize::from(self.is_punct(0, ';'));
                    return;
                }
            }
        }
    }

    /// A path in code.
    fn code_path(&mut self) {
        let visibility = self.at >= 2 && self.tokens[self.at - 1].0 == Token::Ident("in".into());
        let visibility = visibility && self.tokens[self.at - 2].0 == Token::Punct('(');
        let inside = self.at > 0 && matches!(self.tokens[self.at - 1].0, Token::Punct('.') | Token::PathSeparator);
        let (line, mut segments) = (self.line(), Vec::new());
        while let Some(Token::Ident(name)) = self.peek(0) {
            segments.push(name.clone());
            self.at += 1;
            if self.peek(0) != Some(&Token::PathSeparator) || !matches!(self.peek(1), Some(Token::Ident(_))) {
                break;
            }
            self.at += 1;
        }
        if segments.len() > 1 && !visibility && !inside {
            let scope = self.scope();
            self.items.paths.push(PathUse { scope, segments, binds: None, may_be_module: false, line });
        }
    }

    /// A `mod`. In a macro its name may be a `$name`.
    fn declaration(&mut self) {
        let in_macro = usize::from(self.is_punct(1, '$'));
        let name = self.ident(1 + in_macro).map(str::to_string);
        self.at += 1 + in_macro;
        let Some(name) = name else { return };
        let inline = self.is_punct(1, '{');
        if inline || self.is_punct(1, ';') {
            let scope = self.scope();
            self.items.declarations.push(Declaration { scope, name: name.clone(), inline });
        }
        self.at += 1;
        if inline {
            self.braces.push(Some(name));
            self.at += 1;
        }
    }

    fn run(mut self) -> Items {
        while let Some(token) = self.peek(0) {
            match token {
                Token::Punct('#') if self.is_cfg_test() => {
                    self.at += 1;
                    self.skip_group();
                    self.skip_item();
                }
                Token::Punct('{') => {
                    self.braces.push(None);
                    self.at += 1;
                }
                Token::Punct('}') => {
                    self.braces.pop();
                    self.at += 1;
                }
                Token::Ident(word) if word == "mod" => self.declaration(),
                // Not the `use<'a>` of a type.
                Token::Ident(word) if word == "use" && !self.is_punct(1, '<') => {
                    self.at += 1;
                    self.use_tree(&[]);
                }
                Token::Ident(_) => self.code_path(),
                _ => self.at += 1,
            }
        }
        self.items
    }
}

/// What the file says whose tokens these are.
pub fn items(source: &Source) -> Items {
    Parser { tokens: &source.tokens, at: 0, braces: Vec::new(), items: Items::default() }.run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::lex;

    fn paths(text: &str) -> Vec<String> {
        items(&lex(text)).paths.iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn the_trees_of_use() {
        let text =
            "use a::{self, b::{c as d, *}, e}; pub(crate) use super::f; use ::g::h; fn x() -> impl T + use<'a> {}";
        assert_eq!(paths(text), ["a", "a::b::c", "a::b", "a::e", "super::f", "g::h"]);
        let bound: Vec<_> = items(&lex(text)).paths.into_iter().map(|path| path.binds).collect();
        assert_eq!(bound, ["a", "d", "", "e", "f", "h"].map(|name| Some(name.to_string()).filter(|n| !n.is_empty())));
    }

    #[test]
    fn paths_in_code_but_not_in_visibilities_and_methods() {
        let text = "pub(in crate::a) fn b(c: crate::d::E) { super::f::<G>(x.h::<u8>(), i::J { k }); $crate::l!() }";
        assert_eq!(paths(text), ["crate::d::E", "super::f", "i::J", "crate::l"]);
    }

    #[test]
    fn modules_and_their_scopes() {
        let items =
            items(&lex("mod a; mod b { mod c; use super::a::D; } #[cfg(test)] #[x] mod tests { use e::f; } use g::h;"));
        let declared: Vec<_> =
            items.declarations.iter().map(|d| (d.scope.join("::"), d.name.as_str(), d.inline)).collect();
        assert_eq!(declared, [("".into(), "a", false), ("".into(), "b", true), ("b".into(), "c", false)]);
        let used: Vec<_> = items.paths.iter().map(|p| (p.scope.join("::"), p.segments.join("::"))).collect();
        assert_eq!(used, [("b".into(), "super::a::D".into()), (String::new(), "g::h".to_string())]);
    }
}
