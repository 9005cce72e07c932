//! What a broker cannot do without: if it ends, in whatever way, the process ends.
//!
//! A core that is gone takes its topics along, and one without its clock or an acceptor that is
//! gone leaves a broker that only looks alive. Better to end, and to be started again.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::logs;

/// Runs `body` on a thread of its own. The process ends with 1 when it returns or panics.
pub(super) fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.clone());
    thread.spawn(move || {
        catch_unwind(AssertUnwindSafe(body)).ok();
        end(&name);
    })?;
    Ok(())
}

/// Ends the process because `part` has.
pub(super) fn end(part: &str) -> ! {
    // Not even a log that panics keeps the process from ending.
    let told = catch_unwind(|| tracing::error!(part, "has failed; ending the process"));
    drop(told);
    logs::end(1)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const CHILD: &str = "SHARDCAST_TEST_ESSENTIAL";

    /// Not a test of its own: what the test below runs as another process.
    #[test]
    fn child() {
        let Some(how) = crate::config::process_env(CHILD) else {
            return;
        };
        logs::init(&crate::config::Config::default());
        spawn("core-0".to_owned(), move || {
            assert!(how != "panic", "on purpose");
        })
        .expect("a thread");
        std::thread::park();
    }

    #[test]
    fn the_process_ends_with_its_part_though_nothing_can_be_logged() {
        for how in ["panic", "return"] {
            for stderr in ["/dev/full", "/dev/null"] {
                let file = std::fs::File::options().write(true).open(stderr);
                let status = Command::new(std::env::current_exe().expect("this test"))
                    .args(["--exact", "server::essential::tests::child"])
                    .env(CHILD, how)
                    .stdout(Stdio::null())
                    .stderr(file.expect("a device of every Linux"))
                    .status()
                    .expect("it can be run again");
                assert_eq!(status.code(), Some(1), "{how} with {stderr}");
            }
        }
    }
}
