//! The module map, kept: imports point down only, and what has one home is named nowhere else.
//!
//! Reads the sources as text, so it sees every feature and target at once. Comments and string
//! literals do not count: prose may speak of anything.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The layers from the bottom up. Modules of one layer may use each other; a module that is not
/// here does not belong anywhere yet, and that is an error.
const LAYERS: [&[&str]; 6] = [
    &["sync", "clock", "error", "cancel", "escape"],
    &["limit", "retry"],
    &["pool"],
    &["api", "sim"],
    &["jsonl"],
    &["cli", "main"],
];

/// What the engine has no word for: it runs any blocking job.
const NOT_IN_THE_ENGINE: [&str; 3] = ["http", "json", "model"];

#[test]
fn imports_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let exports = exports(&fs::read_to_string(root.join("lib.rs")).unwrap());
    let mut found = String::new();
    let mut files = 0;
    visit(&root, &mut |path| {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        let name = name.replace('\\', "/");
        files += 1;
        for violation in check(&name, &fs::read_to_string(path).unwrap(), &exports) {
            writeln!(found, "src/{violation}").unwrap();
        }
    });
    assert!(files > 10, "only {files} files found");
    assert!(found.is_empty(), "\n{found}");
}

fn visit(folder: &Path, file: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, file);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            file(&path);
        }
    }
}

/// Every breach of the rules in one file, as `file:line: what`.
fn check(file: &str, source: &str, exports: &HashMap<String, String>) -> Vec<String> {
    let tokens = tokens(source);
    let own = file.trim_end_matches(".rs");
    let own = own.trim_end_matches("/mod");
    let top = own.split('/').next().unwrap();
    let mut breaches = Vec::new();
    let mut breach = |line: usize, what: String| breaches.push(format!("{file}:{line}: {what}"));

    for (at, token) in tokens.iter().enumerate() {
        let before = |back: usize| at.checked_sub(back).map_or("", |i| tokens[i].text);
        match token.text {
            "unsafe" => breach(token.line, "unsafe".to_owned()),
            "parking_lot" if file != "sync.rs" => {
                breach(token.line, "parking_lot has its home in sync.rs".to_owned());
            }
            "ureq_proto" if !file.starts_with("api/transport/") => {
                breach(
                    token.line,
                    "ureq_proto has its home in api/transport".to_owned(),
                );
            }
            "sleep" if !matches!(before(1), "." | "fn") => {
                let what = "waiting goes through clock.rs, never thread::sleep";
                breach(token.line, what.to_owned());
            }
            name if top == "pool" => {
                // The unit a cost is counted in, and the lock checker's entry.
                let allowed = name == "model_tokens" || (before(1) == "::" && before(2) == "loom");
                for word in words(name) {
                    if !allowed && NOT_IN_THE_ENGINE.contains(&word.as_str()) {
                        breach(token.line, format!("the engine does not say {word}"));
                    }
                }
            }
            _ => {}
        }
    }

    // The crate's root and the guide see everything: they hold no logic.
    if matches!(top, "lib" | "_guide") {
        return breaches;
    }
    let Some(level) = layer(top) else {
        breaches.push(format!("{file}:1: {top} has no place in the map"));
        return breaches;
    };
    for (line, name) in from_the_root(&tokens, own.split('/').count()) {
        let target = exports.get(name).map_or(name, String::as_str);
        let what = match layer(target) {
            Some(other) if other > level => format!("{top} uses {target}, which is above it"),
            // It keeps accounts of its own, so that it can catch the gate cheating; a rate is but
            // a value.
            Some(_) if top == "sim" && target == "limit" && name != "Rate" => {
                "sim uses limit".to_owned()
            }
            Some(_) => continue,
            None => format!("{target} has no place in the map"),
        };
        breaches.push(format!("{file}:{line}: {what}"));
    }
    breaches
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The names a file takes from the crate's root, by `crate::` or by enough `super::`.
///
/// `depth` is how many modules deep the file is.
fn from_the_root<'a>(tokens: &[Token<'a>], depth: usize) -> Vec<(usize, &'a str)> {
    let mut names = Vec::new();
    let mut braces = 0;
    // The brace depths of the inline modules around.
    let mut inline: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let next = |ahead: usize| tokens.get(at + ahead).map_or("", |token| token.text);
        match token.text {
            "{" => braces += 1,
            "}" => {
                if inline.last() == Some(&braces) {
                    inline.pop();
                }
                braces = braces.saturating_sub(1);
            }
            "mod" if next(2) == "{" => {
                braces += 1;
                inline.push(braces);
                at += 2;
            }
            "crate" if next(1) == "::" => {
                at += 2;
                at += heads(&tokens[at..], &mut names);
                continue;
            }
            "super" if next(1) == "::" => {
                let mut supers = 1;
                at += 2;
                while tokens.get(at).is_some_and(|token| token.text == "super") {
                    supers += 1;
                    at += 2;
                }
                if supers >= depth + inline.len() {
                    at += heads(&tokens[at..], &mut names);
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    names
}

/// The first names of a path or of each path in a `{group}`, and how many tokens that took.
fn heads<'a>(tokens: &[Token<'a>], names: &mut Vec<(usize, &'a str)>) -> usize {
    let Some(first) = tokens.first() else {
        return 0;
    };
    if first.text != "{" {
        names.push((first.line, first.text));
        return 1;
    }
    let mut depth = 0;
    let mut expected = true;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "{" => depth += 1,
            "}" if depth == 1 => return at + 1,
            "}" => depth -= 1,
            "," if depth == 1 => expected = true,
            name if expected => {
                names.push((token.line, name));
                expected = false;
            }
            _ => {}
        }
    }
    tokens.len()
}

/// Where the names that `lib.rs` re-exports come from: `pub use limit::{Cost, Rate};`.
fn exports(lib: &str) -> HashMap<String, String> {
    let tokens = tokens(lib);
    let mut exports = HashMap::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.text != "use" {
            continue;
        }
        let statement = tokens[at + 1..]
            .iter()
            .take_while(|token| token.text != ";");
        let mut path = statement
            .map(|token| token.text)
            .skip_while(|text| matches!(*text, "crate" | "self" | "::"));
        let Some(module) = path.next() else {
            continue;
        };
        for name in path.filter(|text| text.starts_with(char::is_alphabetic)) {
            exports.insert(name.to_owned(), module.to_owned());
        }
    }
    exports
}

/// `HttpError` and `http_error` are both `http`, `error`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for symbol in name.chars() {
        if symbol == '_' || symbol.is_uppercase() {
            words.push(String::new());
        }
        if symbol != '_' {
            words.last_mut().unwrap().extend(symbol.to_lowercase());
        }
    }
    words
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// Names, `::` and single symbols; comments, literals of text and lifetimes are left out.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let name = rest
            .find(|symbol: char| !symbol.is_alphanumeric() && symbol != '_')
            .unwrap_or(rest.len());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = text_literal(rest) {
            length
        } else {
            let length = match rest {
                _ if name > 0 => name,
                _ if rest.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            if !first.is_whitespace() {
                let text = &rest[..length];
                tokens.push(Token { text, line });
            }
            length
        };
        let (read, unread) = rest.split_at(length);
        line += read.matches('\n').count();
        rest = unread;
    }
    tokens
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    for (at, _) in rest.char_indices() {
        if rest[at..].starts_with("/*") {
            depth += 1;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            if depth == 0 {
                return at + 2;
            }
        }
    }
    rest.len()
}

/// The length of the string, character or lifetime that `rest` begins with.
fn text_literal(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix).unwrap_or_default();
        let raw = prefix.ends_with('r');
        after.starts_with('"')
            || (raw && after.trim_start_matches('#').starts_with('"') && after.starts_with('#'))
            || (!raw && *prefix != "c" && after.starts_with('\''))
    })?;
    let after = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = after.len() - after.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let open = prefix.len() + hashes + 1;
        let close = rest[open..].find(&end).map(|at| open + at + end.len());
        return Some(close.unwrap_or(rest.len()));
    }
    let quote = after.chars().next()?;
    let mut symbols = after.char_indices().skip(1);
    if quote == '\'' && !after[1..].starts_with('\\') {
        // 'x' is a character, 'x without a second quote a lifetime.
        let (at, symbol) = symbols.next()?;
        let end = at + symbol.len_utf8();
        let closed = after[end..].starts_with('\'');
        return Some(prefix.len() + if closed { end + 1 } else { 1 });
    }
    while let Some((at, symbol)) = symbols.next() {
        if symbol == '\\' {
            symbols.next();
        } else if symbol == quote {
            return Some(prefix.len() + at + 1);
        }
    }
    Some(rest.len())
}

/// The checker itself: it sees what is there, and only that.
mod checker {
    use super::*;

    fn breaches(file: &str, source: &str) -> Vec<String> {
        let lib = "mod pool;\npub use pool::{Pool, Results as Done};\npub use limit::limiter::{Limiter, Rate};";
        check(file, source, &exports(lib))
    }

    #[test]
    fn every_kind_of_breach_is_found() {
        for (file, source, expected) in [
            ("limit/rate.rs", "use crate::pool::Pool;", "uses pool"),
            ("limit/rate.rs", "use crate::Pool;", "uses pool"),
            ("limit/rate.rs", "use crate::Done;", "uses pool"),
            ("limit/rate.rs", "use super::super::api;", "uses api"),
            ("limit/mod.rs", "use super::jsonl;", "uses jsonl"),
            ("clock.rs", "use super::limit;", "uses limit"),
            (
                "limit/mod.rs",
                "use crate::{sync, error::{Error, api}, jsonl::run};",
                "uses jsonl",
            ),
            (
                "limit/mod.rs",
                "fn f() -> crate::api::Key { 'a' }",
                "uses api",
            ),
            (
                "limit/mod.rs",
                "mod tests { use super::super::pool; }",
                "uses pool",
            ),
            ("api/client.rs", "use crate::cli::args;", "uses cli"),
            ("sim/model.rs", "use crate::Limiter;", "sim uses limit"),
            ("odd.rs", "", "no place"),
            ("clock.rs", "use crate::odd;", "no place"),
            ("clock.rs", "use parking_lot::Mutex;", "parking_lot"),
            ("pool/worker.rs", "use ureq_proto::client;", "ureq_proto"),
            ("clock.rs", "std::thread::sleep(d)", "sleep"),
            ("clock.rs", "use std::thread::{self, sleep};", "sleep"),
            ("clock.rs", "unsafe { }", "unsafe"),
            ("lib.rs", "unsafe { }", "unsafe"),
            ("pool/worker.rs", "struct HttpJob;", "does not say http"),
            ("pool/worker.rs", "let json_body = 1;", "does not say json"),
            ("pool/worker.rs", "fn f(model: u8) {}", "does not say model"),
            (
                "clock.rs",
                "const C: char = '\"'; use crate::pool;",
                "uses pool",
            ),
            (
                "clock.rs",
                "const C: &str = r#\"\"\"#; use crate::pool;",
                "uses pool",
            ),
            (
                "clock.rs",
                "fn f<'a>(x: &'a str) { crate::pool::f() }",
                "uses pool",
            ),
        ] {
            let found = breaches(file, source);
            let one = matches!(&found[..], [one] if one.contains(expected));
            assert!(one, "{file}: {source}: {found:?}");
        }
    }

    #[test]
    fn what_is_allowed_passes() {
        for (file, source) in [
            (
                "pool/worker.rs",
                "use crate::{limit::Rate, clock, Rate, retry::{a, b}};",
            ),
            (
                "pool/worker.rs",
                "use super::order; use super::super::limit;",
            ),
            ("pool/mod.rs", "cost.model_tokens(); loom::model(|| {});"),
            (
                "limit/rate.rs",
                "mod tests { use super::*; use super::super::bucket; }",
            ),
            ("limit/rate.rs", "mod tests { } use super::bucket;"),
            (
                "limit/mod.rs",
                "// crate::pool and unsafe\n/* /* crate::api */ ureq_proto */",
            ),
            (
                "limit/mod.rs",
                "const S: &str = \"\\\"crate::pool\"; const R: &[u8] = br#\"\"crate::api\"#;",
            ),
            ("sync.rs", "use parking_lot::Mutex;"),
            ("api/transport/request.rs", "use ureq_proto::http;"),
            (
                "clock.rs",
                "impl C { fn sleep(&self) { self.clock.sleep() } }",
            ),
            ("lib.rs", "mod jsonl; pub use api::Client;"),
            ("main.rs", "use crate::cli::args;"),
        ] {
            let found = breaches(file, source);
            assert!(found.is_empty(), "{file}: {source}: {found:?}");
        }
    }

    #[test]
    fn a_breach_names_its_line() {
        let found = breaches("clock.rs", "\n/* two\nlines */\nuse crate::pool;");
        assert_eq!(found, ["clock.rs:4: clock uses pool, which is above it"]);
    }
}
