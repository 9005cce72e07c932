//! The screen of `shardcast top`.
//!
//! One task looks at the broker, one thread reads keys, and this draws when either has something: a
//! broker that is slow to answer does not make the keys slow.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Sparkline};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::super::Failure;
use super::list::List;
use super::look::Look;
use super::table::Since;
use super::{By, View, Wanted};
use crate::config::client::ClientSettings;

/// Looks whose rates are drawn: more than a screen is wide.
const HISTORY_MAX: usize = 512;

/// From so many lines on there is room for a plot.
const PLOT_FROM_HEIGHT: u16 = 18;

const KEYS: &str =
    "q quit  Tab topics/connections  s S sort  r reverse  / find  p pause  ↑↓ scroll";

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Focus {
    view: View,
    by: By,
    is_paused: bool,
}

#[derive(Debug)]
struct Screen {
    url: String,
    interval: Duration,
    focus: Focus,
    /// Only what has it in its first column; and whether it is being typed.
    filter: String,
    is_typing: bool,
    list: List,
    before: Option<Look>,
    now: Look,
    delivered: VecDeque<u64>,
    /// Why there was no answer to the last look.
    trouble: Option<String>,
}

/// Whether a key was the last.
#[derive(Debug, PartialEq, Eq)]
enum Pressed {
    Quit,
    Go,
}

/// Follows the broker on the terminal, until `q` or Ctrl-C. The first look must succeed; later ones are
/// tried again.
pub(super) async fn follow(settings: &ClientSettings, wanted: Wanted) -> Result<(), Failure> {
    let focus = Focus {
        view: wanted.view,
        by: wanted.by,
        is_paused: false,
    };
    let now = Look::take(settings, focus.view, focus.by).await?;
    let mut screen = Screen::new(settings.url.clone(), wanted.interval, focus, now);
    let (focused, focus_of) = watch::channel(focus);
    let (looks, mut looked) = mpsc::channel(1);
    let looking = look_on(settings.clone(), wanted.interval, focus_of, looks);
    let looking = tokio::spawn(looking);
    let mut keys = keys();
    let mut ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut terminal = ratatui::try_init()?;
    let restores = Restores;
    let done = async {
        loop {
            terminal.draw(|frame| screen.draw(frame))?;
            tokio::select! {
                look = looked.recv() => match look {
                    Some(look) => screen.take(look),
                    None => return Ok(()),
                },
                key = keys.recv() => match key {
                    Some(key) if screen.press(&key) == Pressed::Go => {
                        focused.send_if_modified(|focus| {
                            std::mem::replace(focus, screen.focus) != screen.focus
                        });
                    }
                    _ => return Ok(()),
                },
                _ = ended.recv() => return Ok(()),
            }
        }
    };
    let done = done.await;
    looking.abort();
    drop(restores);
    done
}

/// Gives the terminal back as it was, also where whoever follows is interrupted from outside.
struct Restores;

impl Drop for Restores {
    fn drop(&mut self) {
        ratatui::try_restore().ok();
    }
}

/// Looks at the broker again and again, and at once when something else is wanted than has been looked at, as `focus`
/// is now.
fn look_on(
    settings: ClientSettings,
    interval: Duration,
    mut focus: watch::Receiver<Focus>,
    looks: mpsc::Sender<Result<Look, Failure>>,
) -> impl Future<Output = ()> {
    let asks = |focus: &Focus| (focus.view, focus.view.of_broker(focus.by));
    let mut asked = asks(&focus.borrow());
    async move {
        let mut pace = tokio::time::interval(interval);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pace.tick().await;
        loop {
            let now = *focus.borrow_and_update();
            if asks(&now) == asked {
                tokio::select! {
                    _ = pace.tick(), if !now.is_paused => {}
                    changed = focus.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                }
            }
            let wanted = *focus.borrow();
            asked = asks(&wanted);
            let look = Look::take(&settings, wanted.view, wanted.by).await;
            if looks.send(look).await.is_err() {
                return;
            }
        }
    }
}

/// Keys, and that the size has changed, as they come. The thread ends with the process.
fn keys() -> mpsc::Receiver<Event> {
    let (keys, pressed) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read()
            && keys.blocking_send(event).is_ok()
        {}
    });
    pressed
}

impl Screen {
    fn new(url: String, interval: Duration, focus: Focus, now: Look) -> Self {
        Self {
            url,
            interval,
            focus,
            filter: String::new(),
            is_typing: false,
            list: List::default(),
            before: None,
            now,
            delivered: VecDeque::new(),
            trouble: None,
        }
    }

    fn take(&mut self, look: Result<Look, Failure>) {
        match look {
            Err(failure) => self.trouble = Some(failure.to_string()),
            Ok(look) => {
                self.trouble = None;
                self.list.forget();
                let before = std::mem::replace(&mut self.now, look);
                let rate = Since::new(Some(&before), &self.now).delivered();
                self.before = Some(before);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the height of a bar"
                )]
                self.delivered.push_back(rate.unwrap_or_default() as u64);
                if self.delivered.len() > HISTORY_MAX {
                    self.delivered.pop_front();
                }
            }
        }
    }

    fn press(&mut self, event: &Event) -> Pressed {
        let Event::Key(key) = event else {
            return Pressed::Go;
        };
        if key.kind == KeyEventKind::Release {
            return Pressed::Go;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Pressed::Quit;
        }
        if self.is_typing {
            self.type_filter(key.code);
            return Pressed::Go;
        }
        let columns = self.focus.view.columns().len();
        let by = &mut self.focus.by;
        match key.code {
            KeyCode::Char('q') => return Pressed::Quit,
            KeyCode::Esc if self.filter.is_empty() => return Pressed::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Tab | KeyCode::BackTab => {
                self.focus.view = match self.focus.view {
                    View::Topics => View::Connections,
                    View::Connections => View::Topics,
                };
                self.focus.by = self.focus.view.by_default();
                self.filter.clear();
                self.list.select(0);
            }
            KeyCode::Char('s') | KeyCode::Right => by.column = (by.column + 1) % columns,
            KeyCode::Char('S') | KeyCode::Left => {
                by.column = (by.column + columns - 1) % columns;
            }
            KeyCode::Char('r') => by.is_reversed = !by.is_reversed,
            KeyCode::Char('p' | ' ') => self.focus.is_paused = !self.focus.is_paused,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Down | KeyCode::Char('j') => self.list.move_by(1),
            KeyCode::Up | KeyCode::Char('k') => self.list.move_by(-1),
            KeyCode::PageDown => self.list.move_by(10),
            KeyCode::PageUp => self.list.move_by(-10),
            KeyCode::Home => self.list.select(0),
            KeyCode::End => self.list.select(usize::MAX),
            _ => {}
        }
        Pressed::Go
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        self.list.select(0);
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let plot = if area.height >= PLOT_FROM_HEIGHT {
            3
        } else {
            0
        };
        let parts = [
            Constraint::Length(1),
            Constraint::Length(3),
            Constraint::Length(plot),
            Constraint::Fill(1),
            Constraint::Length(1),
        ];
        let [title, totals, plot, table, foot] = Layout::vertical(parts).areas(area);
        frame.render_widget(self.title(), title);
        let since = Since::new(self.before.as_ref(), &self.now);
        let lines = since.totals().map(Line::from).to_vec();
        frame.render_widget(Paragraph::new(lines), totals);
        let newest = self.delivered.iter().rev().take(plot.width.into());
        let bars: Vec<_> = newest.copied().collect();
        let bars = Sparkline::default().data(bars.into_iter().rev());
        frame.render_widget(bars.style(Style::new().cyan()), plot);
        let Focus { view, by, .. } = self.focus;
        self.list.update(&since, view, by, &self.filter);
        self.list.draw(frame, table, view, by);
        frame.render_widget(self.foot(), foot);
    }

    fn title(&self) -> Line<'static> {
        let Focus {
            view,
            by,
            is_paused,
        } = self.focus;
        let what = match self.now.chosen(view, by) {
            None => view.name().to_owned(),
            Some(chosen) => format!("{}, {chosen}", view.name()),
        };
        // In front: a long address leaves no room for what stands behind it.
        let pace = if is_paused {
            "PAUSED".to_owned()
        } else {
            format!("every {} s", self.interval.as_secs())
        };
        Line::from(format!("{pace}: {what} at {}", self.url)).bold()
    }

    fn foot(&self) -> Line<'static> {
        if self.is_typing {
            return Line::from(format!("/{}_   Enter keeps it, Esc shows all", self.filter));
        }
        if let Some(trouble) = &self.trouble {
            return Line::from(format!("no answer, trying again: {trouble}")).red();
        }
        if self.filter.is_empty() {
            return Line::from(KEYS).dim();
        }
        Line::from(format!("only with '{}': Esc shows all", self.filter))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyEvent;
    use shardcast_client::tls::Trust;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::look::Meters;
    use super::*;

    fn look(stats: &str, connections: &str) -> Look {
        Look {
            at: Instant::now(),
            stats: serde_json::from_str(stats).expect("stats"),
            connections: serde_json::from_str(connections).expect("connections"),
            meters: Meters::default(),
        }
    }

    fn screen() -> Screen {
        let focus = Focus {
            view: View::Topics,
            by: View::Topics.by_default(),
            is_paused: false,
        };
        let stats = r#"{"topics":{"orders":{"subscribers":3,"messages":12345,"seq":12345},
            "a.name.that.is.much.longer.than.there.is.room.for":{"dropped":7}},
            "totals":{"connections":4,"subscribers":3}}"#;
        let connections = r#"[{"client_id":"slow","lag":{"events":100,"age_ms":2500},"dropped":42,
            "address":"127.0.0.1:1234","transport":"ws","id":"1-1"}]"#;
        let url = "ws://127.0.0.1:8080/ws".to_owned();
        Screen::new(url, Duration::from_secs(2), focus, look(stats, connections))
    }

    fn press(screen: &mut Screen, keys: &str) {
        for key in keys.chars() {
            let code = match key {
                '\t' => KeyCode::Tab,
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                key => KeyCode::Char(key),
            };
            let event = Event::Key(KeyEvent::new(code, KeyModifiers::NONE));
            assert_eq!(screen.press(&event), Pressed::Go, "{key:?}");
        }
    }

    fn drawn(screen: &mut Screen, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| screen.draw(frame)).expect("drawn");
        let buffer = terminal.backend().buffer();
        let line = |y: u16| -> String { (0..width).map(|x| buffer[(x, y)].symbol()).collect() };
        (0..height).map(|y| line(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn topics_and_connections_fit_on_a_small_screen_and_a_smaller_one() {
        let mut screen = screen();
        let lines = drawn(&mut screen, 80, 24);
        assert_eq!(lines[0], "every 2 s: topics at ws://127.0.0.1:8080/ws");
        let header = lines.iter().find(|line| line.starts_with("TOPIC"));
        let header = header.expect("a header");
        assert!(
            header.contains("MSG/S▼") && header.ends_with("SEQ"),
            "{header}"
        );
        let orders = lines.iter().find(|line| line.starts_with("orders "));
        assert!(orders.expect("a topic").ends_with("12.3k"), "{lines:#?}");
        assert!(lines[23].starts_with("q quit") && lines[23].ends_with("scroll"));

        press(&mut screen, "\t");
        let lines = drawn(&mut screen, 80, 24);
        let slow = lines.iter().find(|line| line.starts_with("slow "));
        assert!(slow.is_some_and(|line| line.contains(" 42 ")), "{lines:#?}");
        for (width, height) in [(40, 10), (10, 3), (1, 1)] {
            drawn(&mut screen, width, height);
        }
    }

    #[test]
    fn keys_sort_find_and_pause() {
        let mut screen = screen();
        let names = |screen: &mut Screen| {
            let lines = drawn(screen, 80, 12).into_iter();
            let rows = lines.skip_while(|line| !line.starts_with("TOPIC")).skip(1);
            let rows =
                rows.filter(|line| line.starts_with(['a', 'o']) && !line.starts_with("only"));
            rows.map(|line| line[..1].to_owned()).collect::<String>()
        };
        assert_eq!(names(&mut screen), "ao");
        press(&mut screen, "ssss");
        assert_eq!(
            screen.focus.view.columns()[screen.focus.by.column],
            "MESSAGES"
        );
        assert_eq!(names(&mut screen), "oa");
        press(&mut screen, "r");
        assert_eq!(names(&mut screen), "ao");
        press(&mut screen, "/ord\n");
        assert_eq!(names(&mut screen), "o");
        press(&mut screen, "\u{1b}");
        assert_eq!(names(&mut screen), "ao");
        press(&mut screen, "p");
        screen.url = format!("wss://{}.example:8443/ws", "broker".repeat(20));
        assert!(drawn(&mut screen, 80, 12)[0].starts_with("PAUSED: topics at wss"));
        let quit = Event::Key(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE));
        assert_eq!(screen.press(&quit), Pressed::Quit);
    }

    /// Answers each call with as much as any asks for, once it may, and says what was called.
    async fn stub(mut may: watch::Receiver<bool>, called: mpsc::UnboundedSender<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let length = socket.read(&mut head).await.expect("a call");
                let head = String::from_utf8_lossy(&head[..length]);
                let path = head.split(' ').nth(1).expect("a path");
                called.send(path.to_owned()).ok();
                may.wait_for(|may| *may).await.ok();
                let body = r#"{"topics":{},"totals":{},"connections":[]}"#;
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                socket.write_all(answer.as_bytes()).await.ok();
            }
        });
        url
    }

    #[tokio::test]
    async fn what_is_wanted_while_the_broker_is_asked_is_asked_for_behind_that() {
        let whole = ask_for_two();
        let whole = tokio::time::timeout(Duration::from_secs(30), whole).await;
        whole.expect("both were asked for");
    }

    async fn ask_for_two() {
        let (go, may) = watch::channel(false);
        let (called, mut calls) = mpsc::unbounded_channel();
        let settings = ClientSettings {
            url: stub(may, called).await,
            client_id: None,
            api_key: None,
            trust: Trust::default(),
            silence_max: Duration::from_secs(90),
        };
        let focus = |view: View, sort: &str| Focus {
            view,
            by: view.by(Some(sort)).expect("a column"),
            is_paused: false,
        };
        let (focuses, wanted) = watch::channel(focus(View::Connections, "lag"));
        let (looks, mut looked) = mpsc::channel(1);
        // No look comes by itself.
        let looking = tokio::spawn(look_on(settings, Duration::from_hours(1), wanted, looks));
        focuses.send_replace(focus(View::Connections, "dropped"));
        assert_eq!(calls.recv().await.as_deref(), Some("/stats"));
        focuses.send_replace(focus(View::Connections, "since"));
        go.send_replace(true);
        for sort in ["dropped", "age"] {
            let path = format!("/connections?sort={sort}&limit=200");
            while calls.recv().await.expect("another call") != path {}
            let look = looked.recv().await.expect("a look");
            look.expect("an answer");
        }
        looking.abort();
    }

    #[test]
    fn a_broker_that_does_not_answer_is_said_and_tried_again() {
        let mut screen = screen();
        screen.take(Err(Failure::NoAnswer(3)));
        let lines = drawn(&mut screen, 80, 12);
        assert!(
            lines[11].contains("no answer from the server"),
            "{lines:#?}"
        );
        screen.take(Ok(look(r#"{"topics":{},"totals":{}}"#, "[]")));
        assert!(drawn(&mut screen, 80, 12)[11].starts_with("q quit"));
    }
}
