//! Questions to the person at the terminal.

use std::io::{self, IsTerminal as _, Write as _};

use tokio::task::spawn_blocking;

use super::failure::Failure;

/// Whether somebody is there who could see a question and answer it; what to do otherwise.
pub(super) fn can_answer(instead: &str) -> Result<(), Failure> {
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        Ok(())
    } else {
        Err(Failure::Usage(format!("nobody is at a terminal to be asked: {instead}")))
    }
}

/// Asks, and goes on with a yes alone.
pub(super) async fn confirm(question: &str) -> Result<(), Failure> {
    let _ = write!(io::stderr(), "{question} [y/N] ");
    // Not awaited by the runtime's end: Ctrl-C must get through while nobody types.
    let answer = spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await.ok().and_then(Result::ok).unwrap_or_default();
    if !answer.ends_with('\n') {
        note!("");
    }
    if is_yes(&answer) { Ok(()) } else { Err(Failure::Declined) }
}

fn is_yes(answer: &str) -> bool {
    let answer = answer.trim();
    answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes")
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    #[test]
    fn nothing_but_yes_is_yes() {
        for (answer, yes) in
            [("y\n", true), (" YES \n", true), ("\n", false), ("", false), ("n\n", false), ("yy\n", false)]
        {
            assert_eq!(is_yes(answer), yes, "{answer:?}");
        }
    }
}
