//! `demo`: the main job on a small shop, with the very commands that one would type.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Done;
use super::failure::StepFailed;
use super::session::Session;
use crate::durable::scratch::Scratch;
use crate::durable::{Folder, remove_tree};
use crate::error::{Error, ExitCode};
use crate::monitor::go_on;
use crate::source::sqlite::sample::{self, Seller};
use crate::units::quoted;

/// Orders before the first backup.
const ORDERS: u32 = 20_000;
/// Pictures of the shop.
const PICTURES: u32 = 12;
/// The repository, its password and its damaged copy, beside the shop.
const REPOSITORY: &str = "backup";
const PASSWORD: &str = "shop.pass";
const DAMAGED: &str = "damaged-copy";

pub fn run(session: &Session) -> Result<Done> {
    let scratch = Scratch::create(
        session.disk.as_ref(),
        &Session::scratch_folder(),
        "demo",
        session.services.rng.as_ref(),
    )?;
    let demo = Demo {
        session,
        path: scratch.path(),
        folder: scratch.folder(),
    };
    demo.play()?;
    Ok(Done {
        code: ExitCode::Done,
        fields: json!({}),
    })
}

struct Demo<'a> {
    session: &'a Session,
    path: PathBuf,
    folder: &'a dyn Folder,
}

impl Demo<'_> {
    fn play(&self) -> Result<()> {
        self.say("A shop: one SQLite database, and pictures of what it sells.");
        self.make_shop()?;
        let (shop, database) = (self.path.join("shop"), self.path.join("shop/shop.db"));
        let (shop_word, from) = (
            shop.display().to_string(),
            format!("latest:{}", shop.display()),
        );
        self.tillsafe(REPOSITORY, &["init"], ExitCode::Done)?;

        self.say("Somebody buys all the time, also while the backup runs.");
        let seller = Seller::begin(&database);
        self.wait_for_sales(&seller)?;
        let before = seller.acknowledged();
        self.tillsafe(REPOSITORY, &["backup", &shop_word], ExitCode::Done)?;
        let after = seller.acknowledged();
        self.say(&format!(
            "{} orders came in while it ran. Is the repository whole?",
            after - before
        ));
        self.tillsafe(REPOSITORY, &["check", "--read-data"], ExitCode::Done)?;
        let last = seller.end().context("selling")?;

        self.say("Disaster: the shop's folder is deleted.");
        remove_tree(self.folder, Path::new("shop")).map_err(Error::file("removing", &shop))?;
        self.tillsafe(
            REPOSITORY,
            &["restore", &from, "--target", &shop_word],
            ExitCode::Done,
        )?;
        let (orders, newest) = sample::count(&database).context("counting what came back")?;
        ensure!(
            before <= newest && newest <= after && orders == newest,
            "{orders} orders up to no. {newest} came back; no. {before} was sold before the backup began, no. {after} when it ended"
        );
        self.say(&format!(
            "Open again, with {orders} orders and no gap. Every order up to no. {before}, sold before the backup began, is there;\nno. {} to {last} came after the snapshot: that is what the age of the last backup costs.\n\nThe same proof without touching the shop, as a cron job would ask for it:",
            newest + 1
        ));
        self.tillsafe(REPOSITORY, &["verify"], ExitCode::Done)?;

        self.say("One flipped bit in a copy of the repository, as an old disk makes it:");
        self.copy_with_a_flipped_bit()?;
        let found = self.tillsafe(DAMAGED, &["check", "--read-data"], ExitCode::Damage)?;
        ensure!(
            found.contains("damaged: data/"),
            "the check did not name the damaged pack"
        );
        self.say("Found and named; exit code 4 would have told cron.");
        self.tell_what_to_type();
        Ok(())
    }

    fn wait_for_sales(&self, seller: &Seller) -> Result<()> {
        let pause = std::time::Duration::from_millis(5);
        while seller.acknowledged() == 0 {
            go_on(self.session.output.as_ref())?;
            self.session.services.clock.sleep(pause);
        }
        Ok(())
    }

    fn make_shop(&self) -> Result<()> {
        let create = |path: &str| {
            self.folder
                .create_folder(Path::new(path), 0o755)
                .map_err(Error::file("creating", self.path.join(path)))
        };
        create("shop")?;
        create("shop/pictures")?;
        sample::create(&self.path.join("shop/shop.db"), ORDERS)?;
        for number in 0..PICTURES {
            self.write(
                &format!("shop/pictures/pot-{number:02}.bmp"),
                &picture(number),
            )?;
        }
        Ok(())
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.folder
            .create_file(Path::new(path), 0o644)
            .and_then(|file| file.write_all_at(bytes, 0))
            .map_err(Error::file("writing", self.path.join(path)))?;
        Ok(())
    }

    /// Runs a command of ours on a repository and shows both; returns what it said.
    fn tillsafe(&self, repository: &str, words: &[&str], expected: ExitCode) -> Result<String> {
        go_on(self.session.output.as_ref())?;
        let typed: Vec<String> = words.iter().map(quoted).collect();
        let shown = format!("tillsafe -r {repository} -p {PASSWORD} {}", typed.join(" "));
        let program = std::env::current_exe().context("finding this program's own file")?;
        // One pipe for both, so that the lines come in the order in which they were written.
        let (mut reader, writer) = std::io::pipe().context("making a pipe")?;
        let mut command = Command::new(program);
        command
            .current_dir(&self.path)
            .args(["-r", repository, "-p", PASSWORD])
            .args(words)
            .stdout(writer.try_clone().context("making a pipe")?)
            .stderr(writer);
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {shown}"))?;
        // Our own ends of the pipe, or it would never end.
        drop(command);
        let mut text = String::new();
        reader
            .read_to_string(&mut text)
            .with_context(|| format!("reading what {shown} says"))?;
        let status = child
            .wait()
            .with_context(|| format!("waiting for {shown}"))?;
        go_on(self.session.output.as_ref())?;
        let code = status.code().and_then(ExitCode::of_number);
        let code = code.with_context(|| format!("{shown} ended with {status}"))?;
        let output = &self.session.output;
        self.object(json!({"command": shown, "exit_code": code.number(), "output": text}));
        let lines = text.lines().map(|line| format!("\n  {line}"));
        let screen = format!("\n$ {shown}{}", lines.collect::<String>());
        if code != expected {
            output.line(screen);
            return Err(StepFailed {
                command: shown,
                code,
            }
            .into());
        }
        output.good_news(screen);
        Ok(text)
    }

    /// Copies the repository, and flips one bit in the middle of its largest pack.
    fn copy_with_a_flipped_bit(&self) -> Result<()> {
        let (from, to) = (Path::new(REPOSITORY), Path::new(DAMAGED));
        let mut largest = (0, PathBuf::new());
        self.copy(from, to, &mut largest)
            .and_then(|()| {
                let file = self.folder.open_file(&largest.1, true)?;
                let mut byte = [0];
                file.read_exact_at(&mut byte, largest.0 / 2)?;
                file.write_all_at(&[byte[0] ^ 1], largest.0 / 2)
            })
            .map_err(Error::file("copying", self.path.join(REPOSITORY)))?;
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path, largest: &mut (u64, PathBuf)) -> std::io::Result<()> {
        self.folder.create_folder(to, 0o700)?;
        for listed in self.folder.list(from)? {
            let (source, copy) = (from.join(&listed.name), to.join(&listed.name));
            if listed.kind == crate::durable::ListedKind::Folder {
                self.copy(&source, &copy, largest)?;
                continue;
            }
            let mut bytes =
                vec![0; usize::try_from(listed.size_bytes).map_err(std::io::Error::other)?];
            self.folder
                .open_file(&source, false)?
                .read_exact_at(&mut bytes, 0)?;
            self.folder
                .create_file(&copy, 0o600)?
                .write_all_at(&bytes, 0)?;
            if from.starts_with(Path::new(REPOSITORY).join("data")) && listed.size_bytes > largest.0
            {
                *largest = (listed.size_bytes, copy);
            }
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        self.session.output.good_news(format!("\n{text}"));
        self.object(json!({"text": text}));
    }

    fn object(&self, fields: Value) {
        self.session.output.object("step", fields);
    }

    fn tell_what_to_type(&self) {
        self.say(
            "For a shop of your own (the first line makes the repository and a password; keep a copy of the password elsewhere):\n\n  \
             tillsafe -r /media/backup/shop -p /root/shop.pass init\n  \
             tillsafe -r /media/backup/shop -p /root/shop.pass backup /srv/shop\n  \
             tillsafe -r /media/backup/shop -p /root/shop.pass verify\n  \
             tillsafe -r /media/backup/shop -p /root/shop.pass restore latest:/srv/shop --target /srv/shop-restored\n\n\
             docs/start.md goes through them, with a line for cron.",
        );
    }
}

/// A picture (BMP, 160 × 120): a glaze that runs from one colour into another, with its grain.
fn picture(number: u32) -> Vec<u8> {
    const WIDTH: u32 = 160;
    const HEIGHT: u32 = 120;
    let bytes = WIDTH * HEIGHT * 3;
    let mut picture = b"BM".to_vec();
    for field in [
        54 + bytes,
        0,
        54,
        40,
        WIDTH,
        HEIGHT,
        1 | (24 << 16),
        0,
        bytes,
        2835,
        2835,
        0,
        0,
    ] {
        picture.extend(field.to_le_bytes());
    }
    let mut grain = number.wrapping_add(1).wrapping_mul(0x9E37_79B9);
    for row in 0..HEIGHT {
        for column in 0..WIDTH {
            grain = grain.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let run = (row * 255 / HEIGHT + grain % 24 + number * 17) % 256;
            for tone in [run, (run / 2 + column / 2) % 256, 255 - run] {
                picture.push(u8::try_from(tone).unwrap_or(u8::MAX));
            }
        }
    }
    picture
}
