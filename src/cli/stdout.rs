//! Whether there is a standard output at all.

/// Whether standard output was closed when the program began.
///
/// Rust's start-up puts `/dev/null` in the place of a closed standard stream, open for reading and
/// writing, so that no file gets its number by accident; answers written there are paid for and
/// gone, and every write succeeds. A shell's `> /dev/null` is open for writing only, and is no
/// mistake.
#[cfg(unix)]
pub(crate) fn is_closed() -> bool {
    use rustix::fs::{OFlags, fcntl_getfl, fstat, stat};

    let stdout = std::io::stdout();
    let Ok(flags) = fcntl_getfl(&stdout) else {
        return true;
    };
    let is_null = match (fstat(&stdout), stat("/dev/null")) {
        (Ok(stdout), Ok(null)) => (stdout.st_dev, stdout.st_ino) == (null.st_dev, null.st_ino),
        _ => false,
    };
    is_null && flags & OFlags::RWMODE == OFlags::RDWR
}

#[cfg(not(unix))]
pub(crate) fn is_closed() -> bool {
    false
}
