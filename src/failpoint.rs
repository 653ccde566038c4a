//! Named points of the program at which a test stops it, to end it from outside exactly there (`tests/proof`).
//!
//! `ALLCLEAR_TEST_FAILPOINT=armed:3` freezes the whole process when it passes `armed` for the third time;
//! `panic@rendering:1` panics there instead, from that time on; `panic@rendering=ann@example.net:1` when the mail is
//! hers. Only in builds with debug assertions: a release has none.

/// The points, in the order a mail meets them.
pub const POINTS: &[&str] = &[
    "accepted",
    "planning",
    "planned",
    "titling",
    "composing",
    "arming",
    "armed",
    "rendering",
    "looked",
    "asked_for_data",
    "mid_body",
    "body_written",
    "answered",
    "recording",
    "recorded",
    "recovering",
    "recovered",
    "sweeping",
    "swept",
    "correcting",
    "reaping",
    "reaped",
    "spilled",
];

/// Passes a point. Most passes cost one look at a static.
#[inline]
pub fn pass(point: &'static str) {
    debug_assert!(POINTS.contains(&point), "{point} is no point");
    #[cfg(all(debug_assertions, unix))]
    armed::pass(point, None);
}

/// Passes a point with a mail to somebody.
#[inline]
pub fn pass_with(point: &'static str, to: &str) {
    debug_assert!(POINTS.contains(&point), "{point} is no point");
    #[cfg(all(debug_assertions, unix))]
    armed::pass(point, Some(to));
    #[cfg(not(all(debug_assertions, unix)))]
    let _ = to;
}

/// Whether the next pass of this point is the one that stops the program.
#[inline]
#[must_use]
pub fn is_next(point: &'static str) -> bool {
    debug_assert!(POINTS.contains(&point), "{point} is no point");
    #[cfg(all(debug_assertions, unix))]
    return armed::is_next(point);
    #[cfg(not(all(debug_assertions, unix)))]
    false
}

#[cfg(all(debug_assertions, unix))]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        point: String,
        to: Option<String>,
        panics: bool,
        at: u64,
        passed: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var("ALLCLEAR_TEST_FAILPOINT").ok()?;
        let panics = text.starts_with("panic@");
        let (point, at) = text.trim_start_matches("panic@").rsplit_once(':')?;
        let (point, to) = point.split_once('=').map_or((point, None), |(point, to)| (point, Some(to.to_owned())));
        Some(Armed { point: point.to_owned(), to, panics, at: at.parse().ok()?, passed: AtomicU64::new(0) })
    });

    pub fn pass(point: &str, to: Option<&str>) {
        let meant = |armed: &&Armed| armed.point == point && (armed.to.is_none() || armed.to.as_deref() == to);
        let Some(armed) = ARMED.as_ref().filter(meant) else { return };
        let passed = armed.passed.fetch_add(1, Ordering::SeqCst) + 1;
        match armed.panics {
            true => assert!(passed < armed.at, "told to panic at {point}"),
            false if passed == armed.at => {
                tracing::warn!("frozen at {point}");
                // Every thread stops here and now; whoever armed the point sees it and decides what follows.
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
                // The stop reaches the threads one by one: this one goes no further meanwhile.
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            false => {}
        }
    }

    pub fn is_next(point: &str) -> bool {
        ARMED.as_ref().is_some_and(|a| a.point == point && a.passed.load(Ordering::SeqCst) + 1 == a.at)
    }
}
