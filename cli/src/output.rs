//! Everything the commands print: tables and JSON on stdout, progress and errors on stderr.
//!
//! Stdout is the answer and nothing else, so that `sluice ... --json | jq` works. Stderr is the story: moving lines
//! when a person watches, plain lines when it goes to a file. Nothing that is printed here commands a terminal:
//! `printable` is the filter.

mod printable;

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::error::ExitCode;

#[cfg(test)]
pub(crate) use printable::tests::ACTING;
pub(crate) use printable::{for_people, json_text, one_line, printable};

/// Where a command prints its answer and its progress.
#[derive(Debug)]
pub struct Output {
    json: bool,
    /// Why some of the answer could not be written.
    unwritten: OnceLock<io::Error>,
    /// Takes the progress of the work.
    pub reporter: Reporter,
}

impl Output {
    /// The output of a command line; `json` chooses the form of the answer.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { json, unwritten: OnceLock::new(), reporter: Reporter::for_stderr() }
    }

    /// The same without the progress: only errors and the answer.
    #[must_use]
    pub fn quiet(self) -> Self {
        Self { reporter: Reporter::silent(), ..self }
    }

    /// Whether the answer is for a program.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the answer for a program.
    ///
    /// # Errors
    /// When `value` has no JSON form.
    pub fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(json_text(&serde_json::to_string_pretty(value)?));
        Ok(())
    }

    /// Prints the answer for a program, or a part of it, on one line.
    ///
    /// # Errors
    /// When `value` has no JSON form.
    pub fn json_line(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(json_text(&serde_json::to_string(value)?));
        Ok(())
    }

    /// Prints a table for people.
    pub fn table<const N: usize>(&self, header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        if !std::io::stdout().is_terminal() {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        table.set_header(header);
        for row in rows {
            // Make it printable here too, so that the columns are as wide as the shown text.
            table.add_row(row.map(|cell| printable(&cell).into_owned()));
        }
        self.line(table.to_string());
    }

    /// Prints a table that is no wider than the terminal, or than 80 columns where there is none: cells of the columns with these
    /// indices are cut for it.
    pub fn narrow_table<const N: usize>(&self, header: [&str; N], rows: impl IntoIterator<Item = [String; N]>, cut: &[usize]) {
        let rows: Vec<[String; N]> = rows.into_iter().map(|row| row.map(|cell| printable(&cell).into_owned())).collect();
        let width = Table::new().width().map_or(COLUMNS, usize::from);
        let widths = widths(&header, &rows, cut, width);
        let fit = |row: [String; N]| {
            let mut widths = widths.into_iter();
            row.map(|cell| shortened(&cell, widths.next().unwrap_or(width)))
        };
        self.table(header, rows.into_iter().map(fit));
    }

    /// Prints lines of the answer in which some texts stand out. Control characters in a text do not act on the terminal.
    pub fn painted(&self, lines: impl IntoIterator<Item = Line>) {
        let color = has_color();
        self.reporter.suspend(|| {
            let mut stdout = std::io::stdout().lock();
            self.note(lines.into_iter().try_for_each(|line| writeln!(stdout, "{}", line.shown(color))));
        });
    }

    /// Clears the terminal for the next picture of something that changes. Elsewhere the pictures follow each other.
    pub fn clear(&self) {
        if std::io::stdout().is_terminal() {
            let _ = write!(std::io::stdout().lock(), "\x1b[H\x1b[2J");
        }
    }

    /// Prints one line of the answer.
    pub fn line(&self, text: impl AsRef<str>) {
        self.reporter.suspend(|| self.note(print(std::io::stdout().lock(), text.as_ref())));
    }

    /// Prints bytes of the answer as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        self.reporter.suspend(|| self.note(std::io::stdout().lock().write_all(bytes)));
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// When some of it could not be written: the disk is full, for instance. That whoever read along has gone (`sluice list | head`) is no
    /// error.
    pub fn finish(&self) -> anyhow::Result<()> {
        self.note(std::io::stdout().flush());
        match self.unwritten.get() {
            Some(error) => Err(anyhow!("writing to stdout: {error}")),
            None => Ok(()),
        }
    }

    fn note(&self, written: io::Result<()>) {
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            // The first error tells more than those that follow from it.
            let _ = self.unwritten.set(error);
        }
    }

    /// Prints an error with its causes: a sentence, or for a program an object with the exit code that the command ends with.
    pub fn error(&self, error: &anyhow::Error) {
        let text = if self.json { error_json(&format!("{error:#}"), ExitCode::of(error)) } else { format!("error: {error:#}") };
        // There is no other place to say it.
        let _ = self.reporter.suspend(|| print(std::io::stderr().lock(), &text));
    }
}

/// An error as programs read it: `{"error": "...", "exitCode": 1}`.
pub(crate) fn error_json(sentence: &str, code: ExitCode) -> String {
    json_text(&serde_json::json!({ "error": sentence, "exitCode": code as u8 }).to_string()).into_owned()
}

/// The width that is assumed without a terminal.
const COLUMNS: usize = 80;

/// No column is cut to less.
const NARROWEST: usize = 6;

/// The widths of the columns of a table that fits into `width`, as far as cutting the columns `cut` can do that.
fn widths<const N: usize>(header: &[&str; N], rows: &[[String; N]], cut: &[usize], width: usize) -> [usize; N] {
    let characters = |text: &str| text.chars().count();
    let mut widths = header.map(characters);
    for row in rows {
        for (most, cell) in widths.iter_mut().zip(row) {
            *most = characters(cell).max(*most);
        }
    }
    // A border left of each column and at the end, and a blank on both sides of a cell.
    while widths.iter().sum::<usize>() + 3 * N + 1 > width {
        let widest = cut.iter().filter_map(|&index| Some((*widths.get(index)?, index))).max_by_key(|(width, _)| *width);
        let Some((_, index)) = widest.filter(|(width, _)| *width > NARROWEST) else { break };
        if let Some(widest) = widths.get_mut(index) {
            *widest -= 1;
        }
    }
    widths
}

/// A text of at most this many characters; one that was cut ends with `…`.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// How a text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Not at all.
    Plain,
    /// A title.
    Heading,
    /// The name of a value.
    Name,
    /// A place, or a remark.
    Dim,
}

/// A line of texts, each in a style.
#[derive(Debug, Clone, Default)]
pub struct Line(Vec<(Style, String)>);

impl Line {
    /// Adds a text.
    #[must_use]
    pub fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    fn shown(&self, color: bool) -> String {
        let text = |(style, text): &(Style, String)| {
            let text = printable(text).replace('\n', "⏎");
            let code = match style {
                Style::Heading => "1;36",
                Style::Name => "32",
                Style::Dim => "2",
                Style::Plain => return text,
            };
            if color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text }
        };
        self.0.iter().map(text).collect::<String>().trim_end().to_owned()
    }
}

/// Whether stdout is a terminal of somebody who wants colors (<https://no-color.org>).
fn has_color() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !unwanted
}

/// Prints a line, with nothing in it that acts on a terminal. Unlike `println!`, does not panic when the reader has closed the
/// pipe (`sluice deploy | head`).
fn print(mut stream: impl Write, line: &str) -> io::Result<()> {
    writeln!(stream, "{}", printable(line))
}

/// Whether an error means that the reader of the output has closed the pipe, whether rows or JSON were written.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is = |kind: io::ErrorKind| kind == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|it| is(it.kind()))
            || cause.downcast_ref::<serde_json::Error>().is_some_and(|it| it.io_error_kind().is_some_and(is))
            || cause
                .downcast_ref::<csv::Error>()
                .is_some_and(|it| matches!(it.kind(), csv::ErrorKind::Io(error) if is(error.kind())))
    })
}

/// Shows progress: moving lines on a terminal, plain lines elsewhere, nothing at all for a test.
#[derive(Debug, Clone, Default)]
pub struct Reporter {
    bars: Option<MultiProgress>,
    lines: bool,
    brief: bool,
}

impl Reporter {
    /// Reports nothing; for tests.
    #[must_use]
    pub fn silent() -> Self {
        Self::default()
    }

    /// Reports on stderr, to a person or to a log file.
    #[must_use]
    pub fn for_stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self { bars: Some(MultiProgress::with_draw_target(ProgressDrawTarget::stderr())), lines: false, brief: false }
        } else {
            Self { bars: None, lines: true, brief: false }
        }
    }

    /// The same without the details of each piece of work.
    #[must_use]
    pub fn brief(&self) -> Self {
        Self { brief: true, ..self.clone() }
    }

    /// Begins a piece of work that takes a while.
    #[must_use]
    pub fn step(&self, what: impl Into<Cow<'static, str>>) -> Step {
        let what = what.into();
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {prefix} {wide_msg:.dim}") {
                bar.set_style(style);
            }
            bar.set_prefix(printable(&what).into_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Step { reporter: self.clone(), what, bar, began: Instant::now(), ended: false }
    }

    /// Begins work on many things; the caller sets and counts them. Only a terminal shows it.
    #[must_use]
    pub fn progress(&self, what: impl Into<Cow<'static, str>>) -> ProgressBar {
        let Some(bars) = &self.bars else { return ProgressBar::hidden() };
        let bar = bars.add(ProgressBar::no_length());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar:.cyan/dim} {pos}/{len} {eta} {msg:.dim}") {
            bar.set_style(style);
        }
        let what: Cow<'static, str> = what.into();
        bar.set_prefix(printable(&what).into_owned());
        bar
    }

    /// Says one thing to a program: a line of JSON, which the terminal's filter does not change.
    pub fn say_json(&self, line: &str) {
        self.say(json_text(line));
    }

    /// Says one thing that stays on the screen.
    pub fn say(&self, text: impl AsRef<str>) {
        if self.lines || self.bars.is_some() {
            let _ = self.suspend(|| print(std::io::stderr().lock(), text.as_ref()));
        }
    }

    fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }
}

/// A piece of work under way. Dropped before [`Step::done`], it counts as interrupted.
#[derive(Debug)]
pub struct Step {
    reporter: Reporter,
    what: Cow<'static, str>,
    bar: Option<ProgressBar>,
    began: Instant,
    ended: bool,
}

impl Step {
    /// Shows the current detail of the work; only on a terminal.
    pub fn at(&self, detail: impl Into<Cow<'static, str>>) {
        if let Some(bar) = &self.bar {
            let detail: Cow<'static, str> = detail.into();
            bar.set_message(printable(&detail).into_owned());
        }
    }

    /// Says one thing about the work that stays on the screen.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.reporter.brief {
            self.reporter.say(format!("  {}", text.as_ref()));
        }
    }

    /// Ends the work with a word on its outcome.
    pub fn done(mut self, outcome: impl AsRef<str>) {
        self.ended = true;
        let outcome = outcome.as_ref();
        let separator = if outcome.is_empty() { "" } else { ": " };
        let seconds = self.began.elapsed().as_secs_f32();
        self.clear();
        self.reporter.say(format!("✓ {}{separator}{outcome} ({seconds:.1} s)", self.what));
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.clear();
            self.reporter.say(format!("✗ {}", self.what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_by_cutting_the_columns_that_may_be_cut() {
        let row = ["21:00:01".to_owned(), "x".repeat(100), "y".repeat(30)];
        let found = widths(&["received", "control id", "status"], &[row], &[1, 2], 80);
        assert_eq!((found.iter().sum::<usize>() + 10, found[0]), (80, 8));
        assert!(found[1] == 31 && found[2] == 31 || found[1] + found[2] == 62, "{found:?}");
        let fixed = widths(&["a"], &[["x".repeat(100)]], &[], 80);
        assert_eq!(fixed, [100]);
        assert_eq!((shortened("Müller", 6).as_str(), shortened("Müller", 4).as_str()), ("Müller", "Mül…"));
    }

    #[test]
    fn a_styled_text_cannot_control_the_terminal() {
        let line = Line::default().with(Style::Heading, "PID\u{1b}[2J").with(Style::Plain, " a\nb ");
        assert_eq!(line.shown(false), "PID\\u{1b}[2J a⏎b");
        assert_eq!(line.shown(true), "\u{1b}[1;36mPID\\u{1b}[2J\u{1b}[0m a⏎b");
    }

    #[test]
    fn a_broken_pipe_is_known_wherever_it_happens() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&broken().into()));
        assert!(is_broken_pipe(&anyhow::Error::new(serde_json::Error::io(broken())).context("writing")));
        assert!(is_broken_pipe(&anyhow::Error::new(csv::Error::from(broken()))));
        assert!(!is_broken_pipe(&io::Error::other("full").into()));
    }

    #[test]
    fn an_error_for_programs_has_the_exit_code() {
        let json: serde_json::Value = serde_json::from_str(&error_json("no\u{9b}", ExitCode::Usage)).unwrap();
        assert_eq!(json, serde_json::json!({ "error": "no\u{9b}", "exitCode": 2 }));
    }
}
