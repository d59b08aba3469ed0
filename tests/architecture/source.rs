//! A source file as its tokens tell it: the paths that it names, the macros it calls, its functions with their lengths.
//! What is compiled only for tests is left out.

use std::str::FromStr;

use proc_macro2::{Delimiter, LineColumn, TokenStream, TokenTree};

/// What one file is about, without its tests.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Where in the crate the file is, such as `["replay", "engine"]`.
    pub(crate) module: Vec<String>,
    /// Attributes of the file as a whole, such as `forbid(unsafe_code)`.
    pub(crate) attributes: Vec<String>,
    /// Every path of two names or more, and every one that is imported.
    pub(crate) paths: Vec<Path>,
    /// The names of macros that are called.
    pub(crate) macros: Vec<Name>,
    /// The names of methods that are called without arguments.
    pub(crate) methods: Vec<Name>,
    /// The functions.
    pub(crate) functions: Vec<Function>,
}

/// A path in full: one that begins with `crate`, `self` or `super` begins with `crate` here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) line: usize,
    pub(crate) names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) line: usize,
    pub(crate) name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// Lines from its `fn` to its closing brace.
    pub(crate) lines: usize,
}

impl Source {
    /// Reads the file `path`, relative to the folder of the crate's sources.
    pub(crate) fn read(path: &str, text: &str) -> Self {
        let stem = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let root = matches!(stem, "lib" | "main");
        let module = stem.split('/').filter(|_| !root).map(str::to_owned).collect();
        let tokens = TokenStream::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut source = Self { module, ..Self::default() };
        let module = source.module.clone();
        source.walk(&tokens.into_iter().collect::<Vec<_>>(), &module);
        source
    }

    /// Goes through one level of tokens, and into every group.
    fn walk(&mut self, tokens: &[TokenTree], module: &[String]) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let rest = &tokens[at..];
            at += match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => self.attribute(rest),
                TokenTree::Punct(punct) if punct.as_char() == '.' => self.method(rest),
                TokenTree::Ident(ident) if ident == "use" => self.import(rest, module),
                TokenTree::Ident(ident) if ident == "fn" => self.function(rest),
                TokenTree::Ident(ident) if ident == "mod" => self.inner_module(rest, module),
                TokenTree::Ident(_) => self.path(rest, module),
                TokenTree::Group(group) => {
                    self.walk(&group.stream().into_iter().collect::<Vec<_>>(), module);
                    1
                }
                _ => 1,
            };
        }
    }

    /// An attribute, and with `#[cfg(test)]` the item behind it. Each of these returns the number of tokens used.
    fn attribute(&mut self, tokens: &[TokenTree]) -> usize {
        match tokens {
            [_, TokenTree::Punct(bang), TokenTree::Group(group), ..] if bang.as_char() == '!' => {
                self.attributes.push(without_blanks(&group.stream()));
                3
            }
            [_, TokenTree::Group(group), ..] if without_blanks(&group.stream()) == "cfg(test)" => {
                let is_end = |token: &TokenTree| match token {
                    TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                    TokenTree::Punct(punct) => punct.as_char() == ';',
                    _ => false,
                };
                tokens.iter().position(is_end).map_or(tokens.len(), |end| end + 1)
            }
            [_, TokenTree::Group(_), ..] => 2,
            _ => 1,
        }
    }

    fn method(&mut self, tokens: &[TokenTree]) -> usize {
        match tokens {
            [_, TokenTree::Ident(name), TokenTree::Group(arguments), ..] if arguments.stream().is_empty() => {
                self.methods.push(Name { line: start(&tokens[1]).line, name: name.to_string() });
                3
            }
            [_, TokenTree::Ident(_), ..] => 2,
            _ => 1,
        }
    }

    fn import(&mut self, tokens: &[TokenTree], module: &[String]) -> usize {
        let end = tokens.iter().position(|token| is_punct(token, ';')).unwrap_or(tokens.len());
        let mut found = Vec::new();
        import_tree(&tokens[1..end], &[], &mut found);
        let line = start(&tokens[0]).line;
        self.paths.extend(found.into_iter().map(|names| Path { line, names: absolute(names, module) }));
        end
    }

    /// A function; its body is walked with what follows.
    fn function(&mut self, tokens: &[TokenTree]) -> usize {
        let Some(TokenTree::Ident(name)) = tokens.get(1) else { return 1 };
        let is_body = |token: &&TokenTree| match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            other => is_punct(other, ';'),
        };
        let line = start(&tokens[0]).line;
        let end = tokens.iter().find(is_body).map_or(line, |body| body.span().end().line);
        self.functions.push(Function { name: name.to_string(), line, lines: end - line + 1 });
        2
    }

    fn inner_module(&mut self, tokens: &[TokenTree], module: &[String]) -> usize {
        match tokens {
            [_, TokenTree::Ident(name), TokenTree::Group(body), ..] => {
                let inner = [module, &[name.to_string()]].concat();
                self.walk(&body.stream().into_iter().collect::<Vec<_>>(), &inner);
                3
            }
            _ => 2,
        }
    }

    /// A path, or the call of a macro.
    fn path(&mut self, tokens: &[TokenTree], module: &[String]) -> usize {
        let mut names = Vec::new();
        let mut used = 0;
        while let Some(TokenTree::Ident(name)) = tokens.get(used) {
            names.push(name.to_string());
            used += 1;
            let separated =
                tokens.get(used..used + 2).is_some_and(|next| next.iter().all(|t| is_punct(t, ':')));
            if !separated || !matches!(tokens.get(used + 2), Some(TokenTree::Ident(_))) {
                break;
            }
            used += 2;
        }
        let line = start(&tokens[0]).line;
        if let Some([TokenTree::Punct(bang), TokenTree::Group(_)]) = tokens.get(used..used + 2)
            && bang.as_char() == '!'
        {
            self.macros.extend(names.last().map(|name| Name { line, name: name.clone() }));
        }
        if names.len() > 1 {
            self.paths.push(Path { line, names: absolute(names, module) });
        }
        used
    }
}

/// The paths of `a::{b, c::d as e}`.
fn import_tree(tokens: &[TokenTree], prefix: &[String], found: &mut Vec<Vec<String>>) {
    for tree in tokens.split(|token| is_punct(token, ',')).filter(|tree| !tree.is_empty()) {
        let mut names = prefix.to_vec();
        for token in tree {
            match token {
                TokenTree::Ident(name) if name == "as" => break,
                TokenTree::Ident(name) => names.push(name.to_string()),
                TokenTree::Group(group) => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    import_tree(&inner, &names, found);
                }
                _ => {}
            }
        }
        if !matches!(tree.last(), Some(TokenTree::Group(_))) {
            found.push(names);
        }
    }
}

/// The path from the root of the crate, where it is one of the crate's own.
fn absolute(names: Vec<String>, module: &[String]) -> Vec<String> {
    let supers = names.iter().take_while(|name| *name == "super").count();
    let own = usize::from(names.first().is_some_and(|name| name == "self"));
    if supers + own == 0 {
        return names;
    }
    let base = &module[..module.len().saturating_sub(supers)];
    [&["crate".to_owned()], base, &names[supers + own..]].concat()
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn start(token: &TokenTree) -> LineColumn {
    token.span().start()
}

fn without_blanks(tokens: &TokenStream) -> String {
    tokens.to_string().replace(' ', "")
}
