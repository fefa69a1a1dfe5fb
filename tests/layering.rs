//! The module map, kept: imports point down only, no two files need each other, and what has one
//! home is named nowhere else.
//!
//! Reads the sources as text, so it sees every feature and target at once. Comments and string
//! literals do not count: prose may speak of anything.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The layers from the bottom up. Modules of one layer may use each other; a module that is not
/// here does not belong anywhere yet, and that is an error.
const LAYERS: [&[&str]; 9] = [
    &[
        "sync", "clock", "binding", "classes", "error", "cancel", "escape", "opaque", "settings",
    ],
    &["limit", "retry", "shared"],
    &["pool"],
    &["api", "sim"],
    &["rows"],
    &["jsonl"],
    &["plan", "bar"],
    &["report"],
    &["cli", "main"],
];

/// What the engine has no word for: it runs any blocking job.
const NOT_IN_THE_ENGINE: [&str; 3] = ["http", "json", "model"];

#[test]
fn imports_point_down() {
    let sources = sources();
    let exports = exports(&sources["lib.rs"]);
    let mut found = String::new();
    for (file, source) in &sources {
        for breach in check(file, source, &exports) {
            writeln!(found, "src/{breach}").unwrap();
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn no_files_need_each_other() {
    let found = circles_of(&sources());
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn the_map_names_every_file_and_no_other() {
    let sources = sources();
    let page = &sources["_guide/architecture.rs"];
    let mut wrong = String::new();
    for file in sources.keys() {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        let stem = name.trim_end_matches(".rs");
        let is_test = ["tests", "trial", "interleavings"]
            .iter()
            .any(|end| stem.ends_with(end));
        if is_test || folder.starts_with("_guide") || ["mod", "lib"].contains(&stem) {
            continue;
        }
        let head = sources.get(&format!("{folder}/mod.rs"));
        let is_named = |text: &String| {
            let forms = [
                format!("`{stem}`"),
                format!("`mod@{stem}`"),
                format!("]({stem})"),
                format!("](mod@{stem})"),
            ];
            forms.iter().any(|form| text.contains(form))
        };
        if !page.contains(name) && !is_named(page) && !head.is_some_and(is_named) {
            writeln!(wrong, "src/{file}: neither on the page nor in its mod.rs").unwrap();
        }
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_/.".contains(c);
    for named in page
        .split(|c| !is_part(c))
        .filter(|word| word.strip_suffix(".rs").is_some())
    {
        let is_there = |file: &String| *file == named || file.ends_with(&format!("/{named}"));
        // The page names tests of the whole crate, too.
        if !named.starts_with("tests/") && !sources.keys().any(is_there) {
            writeln!(wrong, "the page names {named}, which is not there").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Every file of `src` by its path below it, written with `/`.
fn sources() -> BTreeMap<String, String> {
    fn visit(root: &Path, folder: &Path, sources: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(root, &path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                let source = fs::read_to_string(&path).unwrap();
                sources.insert(name.replace('\\', "/"), source);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    visit(&root, &root, &mut sources);
    assert!(sources.len() > 10, "only {} files found", sources.len());
    sources
}

/// Every breach of the rules in one file, as `file:line: what`.
fn check(file: &str, source: &str, exports: &HashMap<String, String>) -> Vec<String> {
    let tokens = tokens(source);
    let own = module(file);
    let top = own[0];
    let mut breaches = Vec::new();
    let mut breach = |line: usize, what: String| breaches.push(format!("{file}:{line}: {what}"));

    for (at, token) in tokens.iter().enumerate() {
        let before = |back: usize| at.checked_sub(back).map_or("", |i| tokens[i].text);
        match token.text {
            "unsafe" => breach(token.line, "unsafe".to_owned()),
            "parking_lot" if file != "sync.rs" => {
                breach(token.line, "parking_lot has its home in sync.rs".to_owned());
            }
            // It says which cryptography the `redis` crate is to use.
            "rustls" if file == "shared/redis.rs" => {}
            name @ ("ureq" | "rustls") if !file.starts_with("api/transport/") => {
                breach(token.line, format!("{name} has its home in api/transport"));
            }
            "ureq_proto" => breach(token.line, "ureq_proto is ureq's business".to_owned()),
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
    for Named { line, path, .. } in names(&tokens, &own) {
        let Some(&name) = path.first() else {
            continue;
        };
        let target = exports.get(name).map_or(name, String::as_str);
        let what = match layer(target) {
            Some(other) if other > level => format!("{top} uses {target}, which is above it"),
            // It keeps accounts of its own, so that it can catch the limiter cheating; a rate is but
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

/// The module that a file is, as the path from the crate's root. A folder's `mod.rs` is the folder.
fn module(file: &str) -> Vec<&str> {
    let own = file.trim_end_matches(".rs");
    own.trim_end_matches("/mod").split('/').collect()
}

/// A file that another one names, and where.
type Use<'a> = (&'a str, &'a str, usize);

/// Every circle, with the lines that make it.
fn circles_of(sources: &BTreeMap<String, String>) -> String {
    let uses = uses(sources);
    let mut found = String::new();
    for circle in circles(&uses) {
        let files = circle.iter().copied().collect::<Vec<_>>().join(", ");
        writeln!(found, "these files need each other: {files}").unwrap();
        for (from, to, line) in &uses {
            if circle.contains(from) && circle.contains(to) {
                writeln!(found, "    src/{from}:{line}: names {to}").unwrap();
            }
        }
    }
    found
}

/// Which files name which, by `use` or by a path. Test modules do not count. Neither does what a
/// `mod.rs` names below it (a list of what is there), or what a file names of the `mod.rs` above it
/// (which only hands on what others define).
fn uses(sources: &BTreeMap<String, String>) -> Vec<Use<'_>> {
    let is_root = |file: &str| matches!(module(file)[0], "lib" | "main" | "_guide");
    let modules: HashMap<Vec<&str>, &str> = sources
        .keys()
        .filter(|file| !is_root(file))
        .map(|file| (module(file), file.as_str()))
        .collect();
    let lists = |list: &str, file: &str| {
        list.strip_suffix("mod.rs")
            .is_some_and(|folder| file.starts_with(folder))
    };
    let mut uses = Vec::new();
    for (own, &file) in &modules {
        for name in names(&tokens(&sources[file]), own) {
            let target = (1..=name.path.len())
                .rev()
                .find_map(|length| modules.get(&name.path[..length]));
            let Some(&target) = target else {
                continue;
            };
            let list = lists(file, target) || lists(target, file);
            if target != file && !name.in_test && !list {
                uses.push((file, target, name.line));
            }
        }
    }
    uses.sort_unstable();
    uses.dedup();
    uses
}

/// The largest sets of files in which each can be reached from each other.
fn circles<'a>(uses: &[Use<'a>]) -> BTreeSet<BTreeSet<&'a str>> {
    let mut named: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to, _) in uses {
        named.entry(from).or_default().push(to);
    }
    let reached = |from: &'a str| {
        let mut reached = BTreeSet::new();
        let mut new = vec![from];
        while let Some(file) = new.pop() {
            let others = named.get(file).into_iter().flatten();
            new.extend(others.filter(|other| reached.insert(**other)));
        }
        reached
    };
    let reached: BTreeMap<&str, _> = named.keys().map(|file| (*file, reached(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, others) in &reached {
        let back = |other: &&&str| reached.get(**other).is_some_and(|r| r.contains(file));
        let circle: BTreeSet<&str> = others.iter().filter(back).copied().collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles
}

/// A path that begins with `crate`, `self` or `super`, as the path from the crate's root.
struct Named<'a> {
    line: usize,
    path: Vec<&'a str>,
    in_test: bool,
}

/// Everything that the file of module `own` names in its crate, by `use` or by a path.
fn names<'a>(tokens: &[Token<'a>], own: &[&'a str]) -> Vec<Named<'a>> {
    const TEST: [&[&str]; 2] = [&["cfg", "(", "test"], &["cfg", "(", "all", "(", "test"]];
    let mut names = Vec::new();
    let mut braces = 0;
    // The modules around, each with the depth of its braces and whether it is for tests only.
    let mut inline: Vec<(&str, usize, bool)> = Vec::new();
    // The attributes of what comes next say that it is for tests only.
    let mut test_only = false;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let next = |ahead: usize| tokens.get(at + ahead).map_or("", |token| token.text);
        match token.text {
            "cfg" => {
                test_only |= TEST.iter().any(|test| {
                    let found = tokens[at..].iter().map(|token| token.text);
                    found.take(test.len()).eq(test.iter().copied())
                });
            }
            "mod" if next(2) == "{" => {
                braces += 1;
                inline.push((next(1), braces, test_only));
                test_only = false;
                at += 2;
            }
            "{" => {
                braces += 1;
                test_only = false;
            }
            "}" => {
                if inline.last().is_some_and(|(_, depth, _)| *depth == braces) {
                    inline.pop();
                }
                braces = braces.saturating_sub(1);
            }
            ";" => test_only = false,
            root @ ("crate" | "self" | "super") if next(1) == "::" => {
                let mut path = Vec::new();
                if root == "crate" {
                    at += 2;
                } else {
                    path.extend(own.iter().chain(inline.iter().map(|(name, ..)| name)));
                }
                let in_test = test_only || inline.iter().any(|(.., test)| *test);
                at = ends(tokens, at, path, &mut |line, path| {
                    names.push(Named {
                        line,
                        path,
                        in_test,
                    });
                });
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    names
}

/// Follows the path that goes on at `at`, or each path of a `{group}` there, to its end; gives where
/// that is.
fn ends<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    mut path: Vec<&'a str>,
    found: &mut impl FnMut(usize, Vec<&'a str>),
) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    while text(at) != "{" {
        let Some(token) = tokens.get(at) else {
            return at;
        };
        match token.text {
            "self" => {}
            "super" => drop(path.pop()),
            name => path.push(name),
        }
        at += 1;
        if text(at) != "::" || text(at + 1) == "<" {
            found(token.line, path);
            return at;
        }
        at += 1;
    }
    at += 1;
    while !matches!(text(at), "}" | "") {
        at = ends(tokens, at, path.clone(), &mut *found);
        // `as name`, and the comma.
        while !matches!(text(at), "}" | "," | "") {
            at += 1;
        }
        at += usize::from(text(at) == ",");
    }
    at + 1
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
        let length = if first.is_whitespace() {
            rest.len() - rest.trim_start().len()
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = text_literal(rest) {
            length
        } else {
            let name = rest.find(|symbol: char| !symbol.is_alphanumeric() && symbol != '_');
            let length = match name.unwrap_or(rest.len()) {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                name => name,
            };
            let text = &rest[..length];
            tokens.push(Token { text, line });
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
    if !rest.starts_with(['b', 'c', 'r', '"', '\'']) {
        return None;
    }
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
            ("pool/worker.rs", "use ureq::Agent;", "ureq has its home"),
            ("api/client.rs", "use rustls::ClientConfig;", "rustls has"),
            ("api/transport/tcp.rs", "use ureq_proto::http;", "ureq's"),
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
                "// crate::pool and unsafe\n/* /* crate::api */ ureq */",
            ),
            (
                "limit/mod.rs",
                "const S: &str = \"\\\"crate::pool\"; const R: &[u8] = br#\"\"crate::api\"#;",
            ),
            ("sync.rs", "use parking_lot::Mutex;"),
            ("api/transport/agents.rs", "use ureq::Agent;"),
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

    /// The circles between files of these names and sources.
    fn circle(files: &[(&str, &str)]) -> String {
        let owned = |(name, source): &(&str, &str)| ((*name).to_owned(), (*source).to_owned());
        circles_of(&files.iter().map(owned).collect())
    }

    #[test]
    fn every_circle_between_files_is_found() {
        for (one, other) in [
            ("use super::y::Y;", "use crate::a::x::X;"),
            ("use super::{z, y::{self, Y}};", "use super::x;"),
            ("fn f() { super::y::f() }", "type X = crate::a::x::X<u8>;"),
            ("mod inner { use super::super::y; }", "use super::x::*;"),
            (
                "use super::{x as own, y};",
                "const X: u8 = super::x::f::<u8>();",
            ),
            (
                "#[cfg(not(test))] mod inner { use crate::a::y; }",
                "use super::x;",
            ),
            ("#[cfg(test)] mod tests { } use super::y;", "use super::x;"),
            ("#[cfg(test)] mod tests; use super::y;", "use super::x;"),
        ] {
            let found = circle(&[("a/mod.rs", ""), ("a/x.rs", one), ("a/y.rs", other)]);
            let expected = "these files need each other: a/x.rs, a/y.rs\n    src/a/x.rs:1: names a/y.rs\n    \
                src/a/y.rs:1: names a/x.rs\n";
            assert_eq!(found, expected, "{one} {other}");
        }
        let round = [
            ("a/x.rs", "use crate::b::X;"),
            ("b/mod.rs", "use crate::c::X;"),
            ("c.rs", "use crate::a::x::X;"),
            ("d.rs", "use crate::c;"),
        ];
        let found = circle(&round);
        assert!(
            found.starts_with("these files need each other: a/x.rs, b/mod.rs, c.rs\n"),
            "{found}"
        );
    }

    #[test]
    fn what_is_no_circle_passes() {
        for (one, other) in [
            ("use super::y;", ""),
            ("use super::y;", "// use super::x;"),
            ("use super::y;", "use other::x; use super::X;"),
            ("use super::y;", "use self::x::X; mod x {}"),
            (
                "use super::y;",
                "#[cfg(test)] mod tests { use super::super::x; }",
            ),
            (
                "use super::y;",
                "#[cfg(all(test, feature = \"sim\"))] #[path = \"t\"] mod tests { fn f() { crate::a::x::f() } }",
            ),
            (
                "use super::{y, Y, helper};",
                "use crate::a::{Z, self, helper};",
            ),
        ] {
            let files = "pub use x::X; use self::y::Y; fn helper(y: self::x::X) {}";
            let found = circle(&[("a/mod.rs", files), ("a/x.rs", one), ("a/y.rs", other)]);
            assert_eq!(found, "", "{one} {other}");
        }
        // The crate's root knows everybody, and anybody may name what it re-exports.
        let root = [
            ("lib.rs", "pub use a::X; use crate::a;"),
            ("a.rs", "use crate::Y;"),
        ];
        assert_eq!(circle(&root), "");
    }

    #[test]
    fn a_breach_names_its_line() {
        let found = breaches("clock.rs", "\n/* two\nlines */\nuse crate::pool;");
        assert_eq!(found, ["clock.rs:4: clock uses pool, which is above it"]);
    }
}
