//! Room for connections: each request in flight is an open file.
//!
//! Systems give a process 1,024 of them to begin with and allow it many more, so the tool asks for
//! what it needs. Where even the most allowed is too little, it goes on with fewer at once and says
//! so: failing row by row with "too many open files" helps nobody.

/// What else a run has open: standard streams, the files, the listener, a host name look-up.
const OTHERS: u64 = 20;

/// How many requests can be in flight at once, of `wanted`, each with so many `sockets` in this
/// process; raises the limit where that helps.
pub(crate) fn make_room(wanted: u32, sockets: u64) -> u32 {
    let needed = u64::from(wanted) * sockets + OTHERS;
    // What cannot be found out may be enough.
    let allowed = ::rlimit::increase_nofile_limit(needed).unwrap_or(u64::MAX);
    wanted.min(fitting(allowed, sockets))
}

fn fitting(allowed: u64, sockets: u64) -> u32 {
    let fitting = allowed.saturating_sub(OTHERS) / sockets;
    u32::try_from(fitting).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_fits_and_no_more() {
        for (wanted, sockets) in [(1, 1), (20, 1), (4_000, 1), (1_000, 2)] {
            let enough = u64::from(wanted) * sockets + OTHERS;
            assert_eq!(fitting(enough, sockets), wanted);
            assert!(fitting(enough - 1, sockets) < wanted || wanted == 1);
        }
        assert_eq!(fitting(0, 2), 1);
        assert_eq!(fitting(u64::MAX, 1), u32::MAX);
    }
}
