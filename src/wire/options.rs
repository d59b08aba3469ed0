//! The startup parameter `options`: switches for the server's command line, and the settings among them.
//!
//! Source: [libpq, options](https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS): white space
//! separates arguments, a backslash takes the next character as it is. What the switches are is told by the page of
//! [postgres](https://www.postgresql.org/docs/current/app-postgres.html); the two that set a parameter are `-c name=value` and
//! `--name=value`.

use std::ops::Range;

/// Switches of the server that take an argument.
const WITH_ARGUMENT: &[u8] = b"BCDcdfhkNprStvW-";

/// A parameter that is set by a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The name as the server reads it: in small letters, with underscores in the place of dashes.
    pub name: Vec<u8>,
    /// The value; `None` if there is no equals sign.
    pub value: Option<Vec<u8>>,
    /// Where it stands in the text, with all that belongs to it.
    pub span: Range<usize>,
}

/// One argument, and where each of its bytes comes from.
struct Argument {
    bytes: Vec<u8>,
    at: Vec<usize>,
    end: usize,
}

/// The parameters that a text sets, in its order.
pub fn switches(text: &[u8]) -> Vec<Switch> {
    let arguments = arguments(text);
    let mut found = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let letters = argument.bytes.iter().enumerate().skip(1);
        let is_switch = argument.bytes.first() == Some(&b'-');
        let with = letters.clone().find(|(_, letter)| is_switch && WITH_ARGUMENT.contains(letter));
        let Some((at, &letter)) = with else { continue };
        let inside = &argument.bytes[at + 1..];
        let (value, end) = match inside.is_empty() {
            false => (inside, argument.end),
            true => match rest.next() {
                Some(next) => (next.bytes.as_slice(), next.end),
                None => continue,
            },
        };
        if matches!(letter, b'c' | b'-') {
            // Behind other letters in one argument it goes without its dash.
            let first = if at == 1 { 0 } else { at };
            found.push(switch(value, argument.at[first]..end));
        }
    }
    found
}

/// The text without these spans, which stand in its order; `None` if nothing is left of it.
pub fn without(text: &[u8], spans: impl IntoIterator<Item = Range<usize>>) -> Option<Vec<u8>> {
    let (mut left, mut at) = (Vec::new(), 0);
    for span in spans {
        left.extend_from_slice(&text[at..span.start]);
        at = span.end;
    }
    left.extend_from_slice(&text[at..]);
    (!left.iter().copied().all(is_space)).then_some(left)
}

fn switch(assignment: &[u8], span: Range<usize>) -> Switch {
    let equals = assignment.iter().position(|byte| *byte == b'=');
    let (name, value) = match equals {
        Some(at) => (&assignment[..at], Some(assignment[at + 1..].to_vec())),
        None => (assignment, None),
    };
    let folded = |byte: &u8| if *byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
    Switch { name: name.iter().map(folded).collect(), value, span }
}

fn arguments(text: &[u8]) -> Vec<Argument> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].iter().take_while(|byte| is_space(**byte)).count();
        if at == text.len() {
            return found;
        }
        let mut argument = Argument { bytes: Vec::new(), at: Vec::new(), end: at };
        while at < text.len() && !is_space(text[at]) {
            argument.at.push(at);
            if text[at] == b'\\' && at + 1 < text.len() {
                at += 1;
            }
            argument.bytes.push(text[at]);
            at += 1;
        }
        argument.end = at;
        found.push(argument);
    }
}

/// White space as C has it, the vertical tab included.
const fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with values, and what is left without them.
    fn read(text: &str) -> (Vec<(String, Option<String>)>, Option<String>) {
        let utf8 = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let found = switches(text.as_bytes());
        let left = without(text.as_bytes(), found.iter().map(|switch| switch.span.clone()));
        (found.into_iter().map(|s| (utf8(s.name), s.value.map(utf8))).collect(), left.map(utf8))
    }

    fn one(name: &str, value: &str) -> Vec<(String, Option<String>)> {
        vec![(name.to_owned(), Some(value.to_owned()))]
    }

    #[test]
    fn a_parameter_is_set_in_four_ways() {
        for text in
            ["-c a.b=off", "-ca.b=off", "--a.b=off", "  -c\ta.b=off \n", "--A.B=off", "-c a\\.b=o\\ff"]
        {
            assert_eq!(read(text), (one("a.b", "off"), None), "{text}");
        }
        assert_eq!(read("--search-path=x").0, one("search_path", "x"));
    }

    #[test]
    fn what_is_left_is_as_it_was() {
        assert_eq!(read("-F -c a=1  -e"), (one("a", "1"), Some("-F   -e".into())));
        assert_eq!(read("-Fc a=1 -e"), (one("a", "1"), Some("-F -e".into())));
        assert_eq!(read("-d \\  -c a=1 x\\ y"), (one("a", "1"), Some("-d \\   x\\ y".into())));
    }

    #[test]
    fn spaces_and_backslashes_may_be_escaped() {
        assert_eq!(read("-c a=x\\ y\\\\z"), (one("a", "x y\\z"), None));
        assert_eq!(read("-c a=x\\"), (one("a", "x\\"), None));
    }

    #[test]
    fn the_argument_of_another_switch_sets_nothing() {
        for text in ["-d -ca=1", "-S --a=1", "-r c -h -c", "a=1 b=2", "-", "-c", "", "\\"] {
            assert_eq!(read(text).0, [], "{text}");
        }
        assert_eq!(read("-c b=-ca=1").0, one("b", "-ca=1"));
        assert_eq!(read("--a").0, [("a".to_owned(), None)]);
    }
}
