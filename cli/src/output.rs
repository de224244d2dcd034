//! Everything the commands print: tables and JSON on stdout, progress and errors on stderr.
//!
//! Stdout is the answer and nothing else, so that `sluice ... --json | jq` works. Stderr is the story: moving lines
//! when a person watches, plain lines when it goes to a file.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Where a command's answer and its story go.
#[derive(Debug)]
pub struct Output {
    json: bool,
    /// For whoever does the work to say how far it is.
    pub reporter: Reporter,
}

impl Output {
    /// For a command line; `json` chooses the form of the answer.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { json, reporter: Reporter::for_stderr() }
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
        self.line(serde_json::to_string_pretty(value)?);
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
            table.add_row(row);
        }
        self.line(table.to_string());
    }

    /// Prints one line of the answer.
    pub fn line(&self, text: impl AsRef<str>) {
        self.reporter.suspend(|| print(std::io::stdout().lock(), text.as_ref()));
    }

    /// Prints an error with its causes.
    pub fn error(&self, error: &anyhow::Error) {
        self.reporter.suspend(|| print(std::io::stderr().lock(), &format!("error: {error:#}")));
    }
}

/// A text that somebody else has chosen, fit for a terminal and for one line.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ").trim_end().to_owned()
}

/// A message as a terminal can show it: a line for each segment, and what would command the terminal spelt out.
pub(crate) fn for_people(message: &[u8]) -> String {
    let mut text = String::with_capacity(message.len());
    for character in String::from_utf8_lossy(message).trim_end().chars() {
        match character {
            '\r' | '\n' => text.push('\n'),
            control if control.is_control() => text.extend(control.escape_default()),
            other => text.push(other),
        }
    }
    text
}

/// Unlike `println!`, does not end the work when whoever read along has gone (`sluice deploy | head`).
fn print(mut stream: impl Write, line: &str) {
    let _ = writeln!(stream, "{line}");
}

/// Shows progress: moving lines on a terminal, plain lines elsewhere, nothing at all for a test.
#[derive(Debug, Clone, Default)]
pub struct Reporter {
    bars: Option<MultiProgress>,
    lines: bool,
    brief: bool,
}

impl Reporter {
    /// Says nothing. This is the default, for tests.
    #[must_use]
    pub fn silent() -> Self {
        Self::default()
    }

    /// For a person or a log file, whichever stderr is.
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
            bar.set_prefix(what.clone().into_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Step { reporter: self.clone(), what, bar, began: Instant::now(), ended: false }
    }

    /// Begins work on many things; whoever does it sets and counts them. Only a terminal shows it.
    #[must_use]
    pub fn progress(&self, what: impl Into<Cow<'static, str>>) -> ProgressBar {
        let Some(bars) = &self.bars else { return ProgressBar::hidden() };
        let bar = bars.add(ProgressBar::no_length());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar:.cyan/dim} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        bar
    }

    /// Says one thing that stays on the screen.
    pub fn say(&self, text: impl AsRef<str>) {
        if self.lines || self.bars.is_some() {
            self.suspend(|| print(std::io::stderr().lock(), text.as_ref()));
        }
    }

    fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }
}

/// A piece of work under way. Dropped before [`Step::done`], it counts as broken off.
#[derive(Debug)]
pub struct Step {
    reporter: Reporter,
    what: Cow<'static, str>,
    bar: Option<ProgressBar>,
    began: Instant,
    ended: bool,
}

impl Step {
    /// Shows what the work is at just now; only a terminal does.
    pub fn at(&self, detail: impl Into<Cow<'static, str>>) {
        if let Some(bar) = &self.bar {
            bar.set_message(detail);
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
    use super::for_people;

    #[test]
    fn a_message_does_not_command_the_terminal() {
        assert_eq!(for_people(b"MSH|^~\\&|A\rPID|1\x1b[2J|\xc3\xa9\r"), "MSH|^~\\&|A\nPID|1\\u{1b}[2J|é");
    }
}
