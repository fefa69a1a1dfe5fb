//! Where requests go: the provider, its address and the key, or the simulated provider.
//!
//! A key is never shown, not even where it was typed in the wrong place.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{args, headers};
use crate::api::check_base_url;
use crate::error::config;
use crate::sim::SimServer;
use crate::{ApiKey, Client, ClientBuilder, Error, ErrorKind, Result};

/// Larger than any key.
const LONGEST_KEY_FILE: u64 = 64 << 10;

/// A client to be built, and the simulated provider if that answers.
pub(crate) type Server = (ClientBuilder, Option<SimServer>);

/// The simulated provider. No key and no address from the environment is used.
///
/// # Errors
/// [`ErrorKind::Config`] for a SPEC that makes no sense, [`ErrorKind::Io`] if it cannot start.
pub(crate) fn simulated(spec: &str) -> Result<Server> {
    let started = spec.parse().and_then(SimServer::start);
    let simulator = started.map_err(|error| match error.kind() {
        ErrorKind::Config => error.behind("--simulate"),
        _ => error,
    })?;
    let builder = Client::builder().base_url(simulator.base_url()).no_auth();
    Ok((builder, Some(simulator)))
}

/// The provider, its address and the key.
///
/// # Errors
/// [`ErrorKind::Config`], naming the flag, variable or file.
pub(crate) fn real(args: &args::Server) -> Result<Server> {
    let provider = args.api.provider.unwrap_or_default();
    let mut builder = Client::builder();
    let check = |url: &str, from| {
        check_base_url(url, args.allow_insecure_http).map_err(|error| error.behind(from))
    };
    let mut asks = String::new();
    if let Some(url) = &args.base_url {
        check(url, "--base-url")?;
        builder = builder.base_url(url);
        asks.clone_from(url);
    } else if let Some((variable, url)) = provider.base_url_from_env() {
        check(&url, variable)?;
        asks = url;
    } else if provider.default_base_url().is_none() {
        return Err(config(
            "--base-url is missing: Azure has another one for each customer, so give yours",
        ));
    }
    if args.no_auth {
        builder = builder.no_auth();
    } else if let Some(name) = &args.api_key_env {
        builder = builder.api_key(key_in_variable(name)?);
    } else if let Some(path) = &args.api_key_file {
        builder = builder.api_key(key_in_file(path)?);
    } else if provider.key_from_env()?.is_none() {
        let variable = provider.key_variable();
        return Err(config(format!(
            "no API key: set {variable}, name another variable with --api-key-env or a file with \
             --api-key-file, or give --no-auth for a server that needs none"
        )));
    }
    if args.allow_insecure_http {
        builder = builder.allow_insecure_http();
    }
    for (name, value) in headers::read(&args.headers)? {
        builder = builder.header(name, value);
    }
    // The variable is for all programs, so it matters only where this one uses TLS.
    let proxies = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let speaks = |url: &str, scheme| url.trim_start().to_ascii_lowercase().starts_with(scheme);
    let uses_tls = !speaks(&asks, "http:")
        || proxies
            .iter()
            .any(|name| env::var(name).is_ok_and(|url| speaks(&url, "https:")));
    let from_environment = env::var_os("SSL_CERT_FILE").filter(|path| uses_tls && !path.is_empty());
    let ca_file = args.ca_file.clone().or(from_environment.map(PathBuf::from));
    let builder = with(builder, ca_file, ClientBuilder::ca_file);
    let (certificate, key) = (args.client_cert.as_ref(), args.client_key.as_ref());
    let builder = with(builder, certificate, ClientBuilder::client_cert);
    let builder = with(builder, key, ClientBuilder::client_key);
    Ok((builder.from_env(provider), None))
}

/// `builder` with a setting, if that was given.
pub(crate) fn with<B, T>(builder: B, given: Option<T>, set: impl FnOnce(B, T) -> B) -> B {
    match given {
        Some(value) => set(builder, value),
        None => builder,
    }
}

/// The same error, and where the file that it is about was named if no flag did.
pub(crate) fn with_variable(args: &args::Server, error: Error) -> Error {
    if args.ca_file.is_none() && error.message().starts_with("the CA file") {
        return error.with_more("the variable SSL_CERT_FILE names it");
    }
    error
}

fn key_in_variable(name: &str) -> Result<String> {
    let flag = format!("--api-key-env {}", headers::variable_shown(name));
    checked_key(headers::variable(name, &flag)?, &flag)
}

fn key_in_file(path: &Path) -> Result<String> {
    let flag = format!("--api-key-file {path:?}");
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_KEY_FILE).read_to_end(&mut text))
        .map_err(|error| config(format!("{flag} cannot be read: {error}")).with_source(error))?;
    let text = String::from_utf8(text).map_err(|_| config(format!("{flag} is not text")))?;
    checked_key(text, &flag)
}

fn checked_key(text: String, flag: &str) -> Result<String> {
    ApiKey::new(&text).map_err(|error| error.behind(flag))?;
    Ok(text)
}
