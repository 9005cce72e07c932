//! The shell with a person: a line editor on one side, the connection on the other, and neither waits for the other.
//!
//! The editor blocks, so it has a thread of its own. It asks for the next line only when it is told to, because a
//! process that ends while a line is being edited leaves the terminal in raw mode.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor, ExternalPrinter};
use shardcast_client::link::{LinkError, LinkReceiver, LinkSender};
use tokio::sync::mpsc;

use crate::cli::Failure;
use crate::cli::client::close;
use crate::config::client::ClientSettings;

use super::line::{HELP, Line};
use super::render::render;

const PROMPT: &str = "> ";
const HISTORY_LINES_MAX: usize = 1000;

/// Runs until the person leaves or the connection ends.
pub(super) async fn run(
    settings: &ClientSettings,
    sender: LinkSender,
    mut receiver: LinkReceiver,
    history: Option<PathBuf>,
) -> Result<(), Failure> {
    let config = Config::builder()
        .max_history_size(HISTORY_LINES_MAX)
        .map_err(unusable)?
        .auto_add_history(true)
        .build();
    let mut editor = Editor::with_config(config).map_err(unusable)?;
    // None on a terminal that cannot move its cursor (`TERM=dumb`): there the editor reads plain lines.
    let mut printer = editor.create_external_printer().ok();
    let (entered, mut lines) = mpsc::channel(1);
    let (proceed, proceeds) = mpsc::channel(1);
    let editing = thread::spawn(move || edit(editor, history.as_deref(), &entered, proceeds));

    let mut say = |line: String| match &mut printer {
        Some(printer) => printer.print(line + "\n").map_err(unusable),
        None => writeln!(io::stdout(), "{line}").map_err(Failure::Output),
    };
    say("connected; help lists the commands".to_owned())?;
    let mut sent = 0_u64;
    let ended = loop {
        tokio::select! {
            line = lines.recv() => {
                let request_id = (sent + 1).to_string();
                match line.map(|line| Line::parse(&line, &request_id)) {
                    None | Some(Ok(Line::Quit)) => break Ok(()),
                    Some(Ok(Line::Nothing)) => {}
                    Some(Ok(Line::Help)) => say(HELP.to_owned())?,
                    Some(Ok(Line::Send(command))) => {
                        sent += 1;
                        sender.send(command).await?;
                    }
                    Some(Ok(Line::Call(call))) => match call.answer(settings).await {
                        Ok(lines) => lines.into_iter().try_for_each(&mut say)?,
                        Err(failure) => say(format!("error: {failure}"))?,
                    },
                    Some(Err(error)) => say(format!("error: {error}"))?,
                }
                proceed.send(()).await.map_err(|_| LinkError::Gone)?;
            }
            text = receiver.next() => match text {
                Ok(text) => render(&text).map_or(Ok(()), &mut say)?,
                Err(error) => {
                    say(format!("{error}; press Enter to leave"))?;
                    lines.recv().await;
                    break Err(error.into());
                }
            },
        }
    };
    drop(proceed);
    close(sender, receiver).await;
    // It has nothing left but to save its history; what could have failed in there has been said.
    editing.join().unwrap_or_default();
    ended
}

/// Hands over one line at a time, and ends at the end of the input or when nobody wants another.
fn edit(
    mut editor: Editor<(), FileHistory>,
    history: Option<&Path>,
    entered: &mpsc::Sender<String>,
    mut proceed: mpsc::Receiver<()>,
) {
    // A history that cannot be read or written is no reason to not have a shell.
    if let Some(history) = history {
        editor.load_history(history).unwrap_or_default();
    }
    loop {
        match editor.readline(PROMPT) {
            Ok(line) => {
                if entered.blocking_send(line).is_err() || proceed.blocking_recv().is_none() {
                    break;
                }
            }
            // Ctrl-C gives up a line, as in other shells; Ctrl-D leaves.
            Err(ReadlineError::Interrupted) => {}
            Err(_) => break,
        }
    }
    if let Some(history) = history {
        save(&mut editor, history).unwrap_or_default();
    }
}

fn save(editor: &mut Editor<(), FileHistory>, history: &Path) -> rustyline::Result<()> {
    if let Some(directory) = history.parent() {
        std::fs::create_dir_all(directory)?;
    }
    editor.save_history(history)
}

fn unusable(error: ReadlineError) -> Failure {
    Failure::Output(io::Error::other(error))
}
