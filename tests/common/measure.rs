//! The program under the eyes of the kernel: peak memory, time, and an end in any case.

use std::process::Command;
use std::time::{Duration, Instant};

use super::program::Run;
use super::tools::find;

/// A run, and what it took.
pub struct Measured {
    pub run: Run,
    /// The peak of resident memory, in bytes, as the kernel counts it.
    pub peak: u64,
    pub time: Duration,
}

/// Runs a command. After `patience` it is killed, and its code is -9; whoever dies of a signal has
/// that signal's negative number.
pub fn measured(command: &Command, patience: Duration) -> Measured {
    // Whatever fails, others work on this machine too: no process of ours gets 4 GiB.
    const MEASURE: &str = "import resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
child = subprocess.Popen(sys.argv[2:])
try: child.wait(float(sys.argv[1]))
except subprocess.TimeoutExpired: child.kill(); child.wait()
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(peak, child.returncode, file=sys.stderr)";
    let python = find("python3").expect("python3 is on every machine that runs these tests");
    let mut measured = Command::new(python);
    measured
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(std::process::Stdio::null())
        .args(["-I", "-S", "-c", MEASURE, &patience.as_secs().to_string()])
        .arg(command.get_program())
        .args(command.get_args());
    let begun = Instant::now();
    let mut run = Run::of(&mut measured);
    let time = begun.elapsed();
    let (said, last) = match run.stderr.trim_end().rsplit_once('\n') {
        Some((said, last)) => (format!("{said}\n"), last),
        None => (String::new(), run.stderr.trim_end()),
    };
    let (peak, code) = last.split_once(' ').expect("two numbers");
    let peak = peak.parse::<u64>().unwrap() << 10;
    run.code = code.parse().unwrap();
    run.stderr = said;
    Measured { run, peak, time }
}
