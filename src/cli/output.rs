//! Results on stdout, everything else on stderr; with `--json` one object a line on stdout.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use super::args::Global;
use super::color::{self, Colors, When};
use super::failure::Failure;
use super::json::powerless;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Progress, Step};
use crate::units::{ByteSize, OneLine, Plain, Span, counted};

/// Without a terminal, a line at most this often.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// How often the terminal shows that something goes on.
const TICK: Duration = Duration::from_millis(250);
/// With `--json`, a status at most this often.
const STATUS_EVERY: Duration = Duration::from_millis(500);

/// Where everything goes that a command says.
#[derive(Debug)]
pub struct Output {
    manner: Manner,
    command: String,
    begun: Instant,
    signal: Arc<AtomicUsize>,
    bar: ProgressBar,
    state: Mutex<State>,
    bytes: AtomicU64,
    files: AtomicU64,
    incomplete: AtomicU64,
    unwritten: Mutex<Option<std::io::Error>>,
}

/// How it is spoken.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "flags as they are typed")]
pub struct Manner {
    json: bool,
    quiet: bool,
    verbose: bool,
    colors: Colors,
}

impl Manner {
    /// As the flags say.
    pub fn of(global: &Global) -> Self {
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            colors: Colors::new(global.color),
        }
    }

    /// As words seem to say that could not be understood.
    pub fn of_words(words: &[OsString]) -> Self {
        Self {
            json: words.iter().any(|word| word == "--json"),
            quiet: false,
            verbose: false,
            colors: Colors::new(When::of(words)),
        }
    }
}

#[derive(Debug)]
struct State {
    step: Step,
    step_begun: Instant,
    /// The step that was named last.
    named: Option<Step>,
    total: Option<u64>,
    last_line: Instant,
    /// Whether only results or questions are to come, and no progress.
    ended: bool,
}

impl Output {
    /// Speaks for `command`; `signal` is where a signal's number arrives.
    pub fn new(manner: Manner, command: &str, signal: Arc<AtomicUsize>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let is_shown = !manner.json && !manner.quiet && !color::is_dumb();
        if is_shown && std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
        }
        let now = Instant::now();
        Self {
            manner,
            command: command.to_owned(),
            begun: now,
            signal,
            bar,
            state: Mutex::new(State {
                step: Step::Opening,
                step_begun: now,
                named: None,
                total: None,
                last_line: now,
                ended: false,
            }),
            bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
            incomplete: AtomicU64::new(0),
            unwritten: Mutex::default(),
        }
    }

    /// Whether something was told that makes the result incomplete.
    pub fn is_incomplete(&self) -> bool {
        self.incomplete.load(Ordering::Relaxed) > 0
    }

    /// A line of the result, for people.
    pub fn line(&self, text: impl std::fmt::Display) {
        if !self.manner.json {
            self.write_stdout(&text.to_string());
        }
    }

    /// Whether it speaks to programs.
    pub const fn is_json(&self) -> bool {
        self.manner.json
    }

    /// Whether stdout is a terminal.
    pub fn is_terminal() -> bool {
        std::io::stdout().is_terminal()
    }

    /// Bytes of the result as they are; `false` if their reader has gone away (`| head`).
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn bytes(&self, bytes: &[u8]) -> Result<bool> {
        let written = self.bar.suspend(|| {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        });
        match written {
            Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            other => other
                .map(|()| true)
                .map_err(Error::file("writing", "the standard output")),
        }
    }

    /// A line of the result that says only that all went well.
    pub fn good_news(&self, text: impl std::fmt::Display) {
        if !self.manner.quiet {
            self.line(text);
        }
    }

    /// An object of the result, for programs.
    pub fn object(&self, message_type: &str, mut fields: Value) {
        if !self.manner.json {
            return;
        }
        let mut object = Map::new();
        object.insert("message_type".to_owned(), message_type.into());
        if let Some(fields) = fields.as_object_mut() {
            object.append(fields);
        }
        self.write_stdout(&Value::Object(object).to_string());
    }

    /// The last object: always there, whatever happened.
    pub fn summary(&self, exit_code: u8, fields: &Value) {
        let mut summary = json!({
            "command": self.command,
            "exit_code": exit_code,
            "duration_seconds": self.begun.elapsed().as_secs_f64(),
        });
        if let (Some(summary), Some(fields)) = (summary.as_object_mut(), fields.as_object()) {
            summary.extend(fields.clone());
        }
        self.object("summary", summary);
    }

    /// What ended the command, with what is safe and what to do next.
    pub fn failure(&self, failure: &Failure) {
        let Failure { text, advice, code } = failure;
        if self.manner.json {
            self.object(
                "error",
                json!({"error": text, "safe": advice.safe, "next": advice.next, "exit_code": code.number()}),
            );
        } else {
            self.failure_on_stderr(failure);
        }
    }

    /// The same for people, also where stdout is for programs and cannot be written.
    pub fn failure_on_stderr(&self, failure: &Failure) {
        let Failure { text, advice, .. } = failure;
        self.write_stderr(&format!(
            "error: {}\n  safe: {}\n  next: {}",
            OneLine(text),
            OneLine(&advice.safe),
            continued(&advice.next)
        ));
    }

    /// Why something of the result could not be written, if so.
    pub fn unwritten(&self) -> Option<std::io::Error> {
        self.unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Whether more was asked for than what everybody wants to see.
    pub const fn is_verbose(&self) -> bool {
        self.manner.verbose
    }

    /// A line for people that is no result.
    pub fn note(&self, text: &str) {
        if !self.manner.json && !self.manner.quiet {
            self.write_stderr(text);
        }
    }

    /// A question to whoever sits at the terminal; the answer comes on the same line. The progress goes
    /// on with the next step.
    pub fn question(&self, text: &str) {
        self.finish();
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{}", Plain(text)).and_then(|()| stderr.flush());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the progress display.
    pub fn finish(&self) {
        self.state().ended = true;
        self.bar.finish_and_clear();
    }

    /// Tells the progress from time to time even if nothing is told to us: making a large restore durable
    /// is one long call. Until the output is gone.
    pub fn keep_telling(self: &Arc<Self>) {
        let output = Arc::downgrade(self);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(TICK);
                let Some(output) = output.upgrade() else {
                    return;
                };
                output.tell_progress();
            }
        });
    }

    /// What people read passes here and in `write_stderr`, whoever wrote it: nothing in it has power over a
    /// terminal but our own colour.
    fn write_stdout(&self, text: &str) {
        let text = if self.manner.json {
            // What programs read has no colour, whatever is asked for.
            powerless(text).into_owned()
        } else {
            color::painted(&Plain(text).to_string(), self.manner.colors.stdout).into_owned()
        };
        self.bar.suspend(|| {
            match writeln!(std::io::stdout().lock(), "{text}") {
                // A reader that has gone away (`| head`) is no failure of ours.
                Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
                    let mut unwritten = self
                        .unwritten
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    unwritten.get_or_insert(cause);
                }
                _ => {}
            }
        });
    }

    fn write_stderr(&self, text: &str) {
        let text = Plain(text).to_string();
        let text = color::painted(&text, self.manner.colors.stderr);
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        });
    }

    fn tell_progress(&self) {
        // Held until it is told, so that nothing of it comes after the end.
        let mut state = self.state();
        if state.ended {
            return;
        }
        let (bytes, files) = (
            self.bytes.load(Ordering::Relaxed),
            self.files.load(Ordering::Relaxed),
        );
        let done = Progress { bytes, files };
        let seconds = state.step_begun.elapsed().as_secs_f64();
        let (step, total) = (state.step, state.total);
        if !self.bar.is_hidden() {
            self.bar.set_message(told(step, total, done, seconds));
        }
        let every = if self.manner.json {
            STATUS_EVERY
        } else {
            LINE_EVERY
        };
        if state.last_line.elapsed() < every || self.manner.quiet {
            return;
        }
        state.last_line = Instant::now();
        if self.manner.json {
            self.object(
                "status",
                json!({"step": step, "bytes_done": bytes, "bytes_total": total, "files_done": files, "step_seconds": seconds}),
            );
        } else if self.bar.is_hidden() {
            self.write_stderr(&told(step, total, done, seconds));
        }
    }
}

/// Progress in a person's words: the same on a terminal, which cuts it to its width, and in a log.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "two digits are shown"
)]
fn told(step: Step, total: Option<u64>, done: Progress, seconds: f64) -> String {
    let mut parts = Vec::new();
    if done.bytes == 0 && seconds >= 2.0 {
        parts.push(Span(Duration::from_secs_f64(seconds)).to_string());
    }
    if done.bytes > 0 {
        let total = total.map_or(String::new(), |total| format!(" of {}", ByteSize(total)));
        parts.push(format!("{}{total}", ByteSize(done.bytes)));
    }
    // Before a second has gone by, a rate says little.
    if done.bytes > 0 && seconds >= 1.0 {
        let rate = done.bytes as f64 / seconds;
        if let Some(left) = total.and_then(|total| total.checked_sub(done.bytes)) {
            let left = Duration::from_secs_f64(left as f64 / rate);
            parts.push(format!("{} left", Span(left)));
        }
        parts.push(format!("{}/s", ByteSize(rate as u64)));
    }
    if done.files > 0 {
        parts.push(counted(done.files, "file"));
    }
    if parts.is_empty() {
        step.words().to_owned()
    } else {
        format!("{}: {}", step.words(), parts.join(", "))
    }
}

/// A text of several lines as the last part of a message: those after the first stand below it, so that none
/// can be taken for a line of its own.
fn continued(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| text + "\n    " + line.trim_start())
}

impl Monitor for Output {
    fn step(&self, step: Step, bytes: Option<u64>) {
        self.bytes.store(0, Ordering::Relaxed);
        self.files.store(0, Ordering::Relaxed);
        let mut state = self.state();
        let named = state.named.replace(step);
        state.step = step;
        state.step_begun = Instant::now();
        state.total = bytes;
        if std::mem::replace(&mut state.ended, false) {
            self.bar.reset();
            self.bar.enable_steady_tick(TICK);
        }
        drop(state);
        if self.manner.verbose && !self.manner.json && named != Some(step) {
            self.write_stderr(step.words());
        }
        self.bar.set_message(step.words());
        self.bar.tick();
    }

    fn progress(&self, progress: Progress) {
        self.bytes.fetch_add(progress.bytes, Ordering::Relaxed);
        self.files.fetch_add(progress.files, Ordering::Relaxed);
        self.tell_progress();
    }

    fn problem(&self, problem: Problem) {
        if problem.incomplete {
            self.incomplete.fetch_add(1, Ordering::Relaxed);
        }
        if self.manner.json {
            let kind = if problem.incomplete {
                "error"
            } else {
                "warning"
            };
            self.object(kind, json!({"item": problem.item, kind: problem.finding}));
        } else {
            self.write_stderr(&format!(
                "warning: {}: {}",
                OneLine(&problem.item),
                OneLine(&problem.finding)
            ));
        }
    }

    fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }
}

/// How long the command has taken, for its last line.
impl Output {
    /// The time since the command began.
    pub fn elapsed(&self) -> Span {
        Span(self.begun.elapsed())
    }
}

/// A path as an object's fields.
pub fn path_fields(path: &Path) -> Value {
    let mut object = json!({"path": path.to_string_lossy()});
    // A path that is not UTF-8 is shown as well as it can be, and given exactly beside it.
    if path.to_str().is_none() {
        object["path_base64"] = base64::engine::general_purpose::STANDARD
            .encode(path.as_os_str().as_bytes())
            .into();
    }
    object
}
