//! Places where tests kill or freeze the process, to see that whoever comes next goes on.
//!
//! Only builds with debug assertions have them. `TEST_CRASH_AT` names the place; `TEST_CRASH_ONCE` a file that the
//! first process to come there makes, so that the others live. With `TEST_CRASH_BY=STOP` it is frozen instead of killed.

/// Kills or freezes this process at once, if a test asked for it at this place.
#[macro_export]
#[doc(hidden)]
macro_rules! crash_point {
    ($place:literal) => {
        #[cfg(debug_assertions)]
        $crate::crash::here($place);
    };
}

#[cfg(debug_assertions)]
pub(crate) fn here(place: &str) {
    use rustix::process::Signal;

    if std::env::var("TEST_CRASH_AT").is_ok_and(|at| at == place) {
        let first = std::env::var("TEST_CRASH_ONCE")
            .is_ok_and(|once| std::fs::File::options().write(true).create_new(true).open(once).is_ok());
        if first {
            let freeze = std::env::var("TEST_CRASH_BY").is_ok_and(|by| by == "STOP");
            let signal = if freeze { Signal::STOP } else { Signal::KILL };
            // To this very thread: one to the process may stop another thread first, while this one runs on.
            let _ = signal_hook::low_level::raise(signal.as_raw());
        }
    }
}
