//! Headers given by `-H`, variables that hold secrets, and the command line without any.

use std::env;
use std::ffi::OsString;

use http::HeaderName;

use crate::Result;
use crate::api::is_secret;
use crate::error::config;

/// The names and values of headers as typed.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config), which never shows a value: it may be a secret.
pub(crate) fn read(typed: &[String]) -> Result<Vec<(String, String)>> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for header in typed {
        let (name, value) = read_one(header)?;
        if headers
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(&name))
        {
            return Err(config(format!(
                "--header {name} is given twice: put both values into one, with a comma between them"
            )));
        }
        headers.push((name, value));
    }
    Ok(headers)
}

/// `Name: value`, `Name: @VAR` or `Name: @@literal`.
fn read_one(typed: &str) -> Result<(String, String)> {
    let (name, value) = typed
        .split_once(':')
        .map(|(name, value)| (name.trim(), value.trim()))
        .filter(|(name, _)| HeaderName::try_from(*name).is_ok())
        .ok_or_else(|| config(
                "--header without a colon, or with a name that no header can have: give 'Name: value' or \
                 'Name: @VARIABLE'",
            ))?;
    let value = match value.strip_prefix('@') {
        Some(literal) if literal.starts_with('@') => literal,
        Some(name_of_variable) => {
            let flag = format!("--header '{name}: @{}'", variable_shown(name_of_variable));
            let value = variable(name_of_variable, &flag)?;
            return match value.trim() {
                "" => Err(config(format!("{flag}: the variable is empty"))),
                value => Ok((name.to_owned(), value.to_owned())),
            };
        }
        None => value,
    };
    if is_secret(name) {
        return Err(config(format!(
            "--header: {name} may hold a secret, and other users of this machine can read a command \
             line. Put the value into an environment variable, VAR, and give '{name}: @VAR'"
        )));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// A variable's name for a message. It may be the secret itself, typed where its variable's name
/// belongs.
pub(crate) fn variable_shown(name: &str) -> &str {
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let is_name = name.len() <= 64 && name.bytes().all(fits);
    if is_name { name } else { "NAME" }
}

/// What a variable holds. `flag` says where it was named.
///
/// # Errors
/// [`ErrorKind::Config`] if there is none, or if it is not text.
pub(crate) fn variable(name: &str, flag: &str) -> Result<String> {
    // A name with one of these is none, and asking for it would panic on some systems.
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(config(format!("{flag}: no variable can have this name")));
    }
    env::var(name).map_err(|error| {
        config(match error {
            env::VarError::NotPresent => format!("{flag}: this environment variable is not set"),
            env::VarError::NotUnicode(_) => format!("{flag}: the variable is not text"),
        })
    })
}

/// The words of a command line without the values of its headers and without passwords in URLs. The
/// names of variables stay, so that the command can be run again.
pub(crate) fn without_secrets(
    words: impl Iterator<Item = OsString>,
    headers: &[String],
) -> Vec<String> {
    let shown = |word: OsString| {
        let word = word.to_string_lossy();
        // A header is a word of its own, or stands behind its flag.
        let in_word = headers.iter().filter(|header| word.ends_with(*header));
        match in_word.max_by_key(|header| header.len()) {
            Some(header) => word.replace(header, &header_shown(header)),
            None => url_shown(&word),
        }
    };
    words.map(shown).collect()
}

fn header_shown(header: &str) -> String {
    match header.split_once(':') {
        Some((name, value)) => match value.trim().strip_prefix('@') {
            Some(variable) if variable_shown(variable) == variable => header.to_owned(),
            _ => format!("{name}: …"),
        },
        None => "…".to_owned(),
    }
}

/// A URL without its password, and without what its query says under the name of a secret.
fn url_shown(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let (place, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => authority.to_owned(),
    };
    // That of a shared limit says where it is kept.
    let is_store = scheme.ends_with("redis") || scheme.ends_with("rediss");
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) && !is_store => format!("{name}=…"),
        _ => pair.to_owned(),
    });
    format!(
        "{scheme}://{authority}{path}{}",
        pairs.collect::<Vec<_>>().join("&")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_literal_or_a_variables_and_a_secret_is_never_literal() {
        for (typed, name, value) in [
            ("X-Team: blue", "X-Team", "blue"),
            ("X-Team:blue: and green", "X-Team", "blue: and green"),
            ("X-Team: @@home", "X-Team", "@home"),
            ("X-Team: a@b", "X-Team", "a@b"),
            ("X-Team:", "X-Team", ""),
        ] {
            assert_eq!(
                read_one(typed).unwrap(),
                (name.to_owned(), value.to_owned())
            );
        }
        for name in [
            "authorization",
            "Proxy-Authorization",
            "X-API-KEY",
            "api-key",
            "Cookie",
            "x-auth-token",
            "Client-Secret",
            "Ocp-Apim-Subscription-Key",
        ] {
            for value in ["hunter2", "@@hunter2"] {
                let told = read_one(&format!("{name}: {value}"))
                    .unwrap_err()
                    .to_string();
                assert!(told.contains(name) && told.contains("@VAR"), "{told}");
                assert!(!told.contains("hunter2"), "{told}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_and_not_shown() {
        for typed in [
            "",
            ":",
            ": hunter2",
            "hunter2",
            "X Team: hunter2",
            "Bearer hunter2:",
            "X-Team: @hunter2-is-no-variable",
            "X-Team: @",
            "X-Team: @hunter2=1",
        ] {
            let told = read_one(typed).expect_err(typed).to_string();
            assert!(
                told.contains("--header") && !told.contains("hunter2"),
                "{told}"
            );
        }
    }

    #[test]
    fn the_command_is_shown_without_its_secrets() {
        let headers = [
            "X-A: s3cret",
            "X-A:s3cret",
            "X-A: @@s3cret",
            "X-A: @s3cret",
            "X-A: @MY_VAR",
            "A: s3cret",
            "B: C: X-A: s3cret",
        ]
        .map(str::to_owned);
        let shown = |line: &str| {
            let words = line.split('|').map(OsString::from);
            without_secrets(words, &headers).join("|")
        };
        for (typed, expected) in [
            ("run|-H|X-A: s3cret|p", "run|-H|X-A: …|p"),
            ("run|-HX-A: s3cret|p", "run|-HX-A: …|p"),
            ("run|-H=X-A: s3cret", "run|-H=X-A: …"),
            ("run|-qH|X-A: s3cret|p", "run|-qH|X-A: …|p"),
            ("run|--header|X-A:s3cret", "run|--header|X-A: …"),
            ("run|--header=X-A: @@s3cret", "run|--header=X-A: …"),
            ("run|-H|X-A: @s3cret", "run|-H|X-A: …"),
            ("run|-H|X-A: @MY_VAR|-c|5", "run|-H|X-A: @MY_VAR|-c|5"),
            ("run|-HB: C: X-A: s3cret|p", "run|-HB: …|p"),
            (
                "run|--base-url|https://u:s3cret@h/v1",
                "run|--base-url|https://…@h/v1",
            ),
            (
                "run|--base-url=https://s3cret@h",
                "run|--base-url=https://…@h",
            ),
            (
                "run|https://h/v1?api-version=1&api_key=s3cret",
                "run|https://h/v1?api-version=1&api_key=…",
            ),
            (
                "run|--shared-limit=redis://u:s3cret@h/0?key=k",
                "run|--shared-limit=redis://…@h/0?key=k",
            ),
            ("run|-c|5|-o|a:b@c", "run|-c|5|-o|a:b@c"),
        ] {
            assert_eq!(shown(typed), expected);
        }
    }
}
