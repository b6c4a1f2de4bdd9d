//! What the commands share: the chosen repository, its password, the output.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use super::args::{Filter, Global};
use super::failure::Failure;
use super::output::Output;
use crate::backend::{Backend, CachedBackend, LocalBackend};
use crate::config::file::Configuration;
use crate::config::password::PasswordSource;
use crate::config::{self, Flags, RepositoryChoice};
use crate::durable::{Disk, OsDisk};
use crate::error::{Error, ExitCode, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, go_on};
use crate::repository::index::Shelf;
use crate::repository::lock::{Access, Lock};
use crate::repository::{Repository, Services};
use crate::restore::Request;
use crate::restore::in_place::Registry;
use crate::units::{Shown, quoted};

/// One run of one command.
pub struct Session {
    global: Global,
    pub output: Arc<Output>,
    pub services: Services,
    pub disk: Arc<dyn Disk>,
    /// The shop whose snapshots are meant, if one is.
    shop: Option<String>,
    configuration: OnceLock<Option<Arc<Configuration>>>,
    choice: OnceLock<RepositoryChoice>,
}

impl Session {
    pub fn new(global: Global, shop: Option<String>, output: Arc<Output>) -> Self {
        let mut services = Services::system();
        services.patience = global.retry_lock.unwrap_or_default();
        Self {
            global,
            output,
            services,
            disk: Arc::new(OsDisk),
            shop,
            configuration: OnceLock::new(),
            choice: OnceLock::new(),
        }
    }

    /// The output as what a verb wants to be watched by.
    pub fn monitor(&self) -> Arc<dyn Monitor> {
        Arc::clone(&self.output) as Arc<dyn Monitor>
    }

    pub const fn may_ask(&self) -> bool {
        !self.global.no_input
    }

    /// The configuration, if there is one; read once.
    pub fn configuration(&self) -> Result<Option<Arc<Configuration>>> {
        if let Some(configuration) = self.configuration.get() {
            return Ok(configuration.clone());
        }
        let loaded = config::file::load(self.global.config.as_deref(), &config::environment)?;
        let loaded = loaded.map(Arc::new);
        Ok(self.configuration.get_or_init(|| loaded).clone())
    }

    /// Whether there is a configuration with shops.
    pub fn knows_shops(&self) -> Result<bool> {
        let configuration = self.configuration()?;
        Ok(configuration.is_some_and(|configuration| !configuration.shops.is_empty()))
    }

    /// Where `-c` says that the configuration is.
    pub fn named_configuration(&self) -> Option<&Path> {
        self.global.config.as_deref()
    }

    /// Which repository, and where its password comes from.
    pub fn choice(&self) -> Result<RepositoryChoice> {
        if let Some(choice) = self.choice.get() {
            return Ok(choice.clone());
        }
        let choice = self.choose(self.shop.as_deref())?;
        Ok(self.choice.get_or_init(|| choice).clone())
    }

    /// The same where no configuration has a say: there is none yet.
    pub fn choice_without_configuration(&self) -> Result<RepositoryChoice> {
        config::choose(&self.flags(), None, &config::environment, &|| Ok(None))
    }

    /// Works on this repository from now on, if on none yet: then every summary names it.
    pub fn keep(&self, choice: &RepositoryChoice) {
        self.choice.get_or_init(|| choice.clone());
    }

    /// The repository of one of several shops.
    pub fn choice_of(&self, shop: &str) -> Result<RepositoryChoice> {
        self.choose(Some(shop))
    }

    fn flags(&self) -> Flags {
        Flags {
            repository: self.global.repo.clone(),
            password_file: self.global.password_file.clone(),
            password_command: self.global.password_command.clone(),
        }
    }

    fn choose(&self, shop: Option<&str>) -> Result<RepositoryChoice> {
        config::choose(&self.flags(), shop, &config::environment, &|| {
            self.configuration()
        })
    }

    /// Whether `-r` overrides the repositories of shops.
    pub const fn is_overridden(&self) -> bool {
        self.global.repo.is_some()
    }

    pub fn backend(&self, path: &Path) -> Arc<dyn Backend> {
        Arc::new(LocalBackend::new(
            path.to_owned(),
            Arc::clone(&self.disk),
            Arc::clone(&self.services.rng),
        ))
    }

    /// Where copies of index and snapshots of a repository are kept, if anywhere.
    fn cache_of(&self, choice: &RepositoryChoice) -> Result<Option<(PathBuf, Arc<dyn Backend>)>> {
        if self.global.cache_dir.is_none() {
            return Ok(None);
        }
        let folder = self.cache_folder_of(choice)?;
        Ok(folder.map(|folder| (folder.clone(), self.backend(&folder))))
    }

    /// The folders of whatever is kept on this machine of any repository, in use now or not: no backup holds them.
    pub fn own_folders(&self) -> Result<Vec<PathBuf>> {
        let caches = config::cache_folder(&config::environment);
        let named = self.global.cache_dir.as_deref().map(config::absolute);
        let named: Vec<PathBuf> = (named.transpose()?.into_iter())
            .chain(caches)
            .chain(Self::memories())
            .collect();
        // By each name that it may be met under.
        let real = named
            .iter()
            .filter_map(|folder| std::fs::canonicalize(folder).ok());
        Ok(real.chain(named.clone()).collect())
    }

    /// The folder of whatever is kept of a repository on this machine, if anything may be.
    pub fn cache_folder_of(&self, choice: &RepositoryChoice) -> Result<Option<PathBuf>> {
        let folder = match &self.global.cache_dir {
            _ if self.global.no_cache => None,
            Some(folder) => Some(config::absolute(folder)?),
            None => config::cache_folder(&config::environment),
        };
        Ok(folder.map(|folder| folder.join(self.own_name(choice))))
    }

    /// What a repository's own folder is called wherever something is kept of several. What is in it is named by its own
    /// hash, or sealed.
    fn own_name(&self, choice: &RepositoryChoice) -> String {
        let location = self.backend(&choice.path).location();
        Id::of(location.as_bytes()).short()
    }

    /// Where a table of the index is kept, in the folder of a repository.
    pub fn shelf(&self, folder: &Path) -> Shelf {
        Shelf::new(Arc::clone(&self.disk), folder.join("table"))
    }

    /// Where this machine keeps what it has seen of databases that went into the repository, if anywhere.
    pub fn memory_of(&self, choice: &RepositoryChoice) -> Option<PathBuf> {
        let memories = Self::memories().filter(|_| !self.global.no_cache)?;
        Some(memories.join(self.own_name(choice)))
    }

    /// The same of all repositories.
    fn memories() -> Option<PathBuf> {
        let states = config::state_folder(&config::environment)?;
        Some(states.join("databases"))
    }

    /// Where this machine's restores in place are remembered.
    pub fn registry() -> Option<Registry> {
        let folder = config::state_folder(&config::environment)?;
        Some(Registry::new(folder))
    }

    /// Asks whoever sits at the terminal; `None` if nobody does.
    pub fn ask(&self, question: &str) -> Result<Option<String>> {
        use std::io::{BufRead, IsTerminal};
        let stdin = std::io::stdin();
        if !self.may_ask() || !stdin.is_terminal() {
            return Ok(None);
        }
        self.output.question(question);
        self.wait_for(&stdin)?;
        let mut answer = String::new();
        let read = stdin.lock().read_line(&mut answer);
        if answer.trim().is_empty() {
            // Ctrl-C ends a line too; give its signal the time to arrive.
            self.services.clock.sleep(Duration::from_millis(50));
            go_on(self.output.as_ref())?;
        }
        Ok(read.ok().map(|_| answer.trim().to_owned()))
    }

    /// Waits for a line, or for a signal: a read would go on after one.
    fn wait_for(&self, stdin: &std::io::Stdin) -> Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        /// How often we look whether a signal has come.
        const LOOK: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 200_000_000,
        };
        loop {
            go_on(self.output.as_ref())?;
            match poll(&mut [PollFd::new(stdin, PollFlags::IN)], Some(&LOOK)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                // Whatever is wrong with it, reading it will say.
                _ => return Ok(()),
            }
        }
    }

    /// Opens the chosen repository.
    pub fn open(&self) -> Result<Repository> {
        self.open_chosen(&self.choice()?)
    }

    /// Opens one of several repositories.
    pub fn open_chosen(&self, choice: &RepositoryChoice) -> Result<Repository> {
        let cache = self.cache_of(choice)?;
        let repository = self.open_through(choice, cache.map(|(_, cache)| cache))?;
        if let Some(folder) = self.cache_folder_of(choice)? {
            repository.keep_table_on(self.shelf(&folder));
        }
        Ok(repository)
    }

    /// The same without the cache: for who asks how the repository itself stands.
    pub fn open_itself(&self) -> Result<Repository> {
        self.open_through(&self.choice()?, None)
    }

    fn open_through(
        &self,
        choice: &RepositoryChoice,
        cache: Option<Arc<dyn Backend>>,
    ) -> Result<Repository> {
        let given = &choice.password;
        let password = given.read(self.may_ask(), self.output.as_ref())?;
        // Whoever or whatever gives the password may take long; a signal may have come meanwhile.
        go_on(self.output.as_ref())?;
        self.output.step(crate::monitor::Step::Opening, None);
        let storage = self.backend(&choice.path);
        let backend = match cache {
            Some(cache) => Arc::new(CachedBackend::new(storage, cache)),
            None => storage,
        };
        let opened = Repository::open(
            backend,
            self.services.clone(),
            &password,
            self.output.as_ref(),
        );
        // Only here is it known whose password it was.
        opened.map_err(|cause| match cause {
            Error::WrongPassword {
                location,
                tried,
                left,
                ..
            } => Error::WrongPassword {
                whose: given.words(),
                location,
                tried,
                left,
            },
            other => other,
        })
    }

    /// A lock for a command that only reads: taken if it can be, else it is said and we go on. A
    /// repository on read-only media with a dead host's lock in it must still restore.
    pub fn lock_if_possible(&self, repository: &Repository) -> Option<Lock> {
        if repository.config().is_err() {
            // It was told when we opened it, and nobody else can write there either.
            return None;
        }
        let tell = |output: &Output, cause: &Error| {
            output.problem(Problem {
                item: "lock".to_owned(),
                finding: format!("{cause}; reading goes on without one"),
                incomplete: false,
            });
        };
        let output = Arc::clone(&self.output);
        let locked = if self.services.patience.is_zero() {
            Lock::take_to_read(repository, move |cause| tell(&output, cause))
        } else {
            repository.lock(Access::Shared, self.output.as_ref())
        };
        locked.inspect_err(|cause| tell(&self.output, cause)).ok()
    }

    /// Commands in an advice, written so that they can be typed: with the repository and the password
    /// that this run was given as flags.
    pub fn typed(&self, advice: &str) -> String {
        self.typed_for(self.choice.get(), advice)
    }

    /// The same about one of several repositories.
    pub fn typed_for(&self, choice: Option<&RepositoryChoice>, advice: &str) -> String {
        let config = self
            .global
            .config
            .as_ref()
            .map_or(String::new(), |file| format!(" -c {}", quoted(file)));
        let Global {
            repo: Some(repo),
            password_file,
            password_command,
            ..
        } = &self.global
        else {
            let name = choice.and_then(|choice| choice.name.as_ref());
            let flags = match name.filter(|_| self.has_several_repositories()) {
                Some(name) => format!("{config} -r {name}"),
                None => config,
            };
            return advice.replace("`tillsafe ", &format!("`tillsafe{flags} "));
        };
        let repo = quoted(repo);
        let (ours, theirs) = match (password_file, password_command) {
            (Some(file), _) => {
                let file = quoted(file);
                (format!(" -p {file}"), format!(" --password-file {file}"))
            }
            (None, Some(command)) => {
                let flag = format!(" --password-command {}", quoted(command));
                (flag.clone(), flag)
            }
            (None, None) => (String::new(), String::new()),
        };
        advice
            .replace("`tillsafe ", &format!("`tillsafe{config} -r {repo}{ours} "))
            .replace("`restic ", &format!("`restic -r {repo}{theirs} "))
    }

    /// The flags that open the repository with another password file.
    pub fn flags_with(&self, password_file: &Path) -> Result<String> {
        let choice = self.choice()?;
        let (repository, file) = (quoted(&choice.path), quoted(password_file));
        Ok(format!("-r {repository} -p {file}"))
    }

    /// The flags that mean this configuration, repository and password from any folder and without this
    /// environment; none if the password comes from that, or from somebody who types it: cron has neither.
    pub fn lasting_flags(&self, choice: Option<&RepositoryChoice>) -> Result<Option<String>> {
        let file = match &self.global.config {
            Some(file) => Some(config::absolute(file)?),
            None => match config::environment("TILLSAFE_CONFIG") {
                Some(file) => Some(config::absolute(Path::new(&file))?),
                None => None,
            },
        };
        let mut words = Vec::new();
        if let Some(file) = file {
            words.push(format!("-c {}", quoted(&file)));
        }
        let Some(choice) = choice else {
            return Ok(Some(words.join(" ")));
        };
        words.push(format!("-r {}", quoted(&choice.path)));
        words.push(match &choice.password {
            PasswordSource::File(file) => {
                let file = config::absolute(file)?;
                format!("-p {}", quoted(&file))
            }
            PasswordSource::Command(command) => {
                format!("--password-command {}", quoted(command))
            }
            PasswordSource::Program(words) => {
                let words: Vec<String> = words.iter().map(quoted).collect();
                format!("--password-command {}", quoted(words.join(" ")))
            }
            PasswordSource::Value { .. } | PasswordSource::Terminal { .. } => return Ok(None),
        });
        Ok(Some(words.join(" ")))
    }

    fn has_several_repositories(&self) -> bool {
        let configuration = self.configuration.get().and_then(Option::as_ref);
        configuration.is_some_and(|configuration| configuration.repositories.len() > 1)
    }

    /// Tells a failure, with commands that can be typed; returns its exit code.
    pub fn fail(&self, error: anyhow::Error) -> ExitCode {
        self.fail_at(self.choice.get(), error)
    }

    /// The same for one of several repositories.
    pub fn fail_at(&self, choice: Option<&RepositoryChoice>, error: anyhow::Error) -> ExitCode {
        let mut failure = Failure::from(error);
        failure.advice.next = self.typed_for(choice, &failure.advice.next);
        self.output.failure(&failure);
        failure.code
    }

    /// Field of every summary that could name a repository.
    pub fn repository_field(&self) -> Value {
        self.choice.get().map_or_else(
            || json!({}),
            |choice| json!({"repository": crate::units::shown(&choice.path)}),
        )
    }

    /// Where spools and scratch copies go.
    pub fn scratch_folder() -> PathBuf {
        config::scratch_folder(&config::environment)
    }
}

/// Splits `SNAPSHOT[:PATH]`; the path is absolute in the snapshot.
pub fn snapshot_and_path(words: &OsStr, filter: &Filter) -> Result<(Request, PathBuf)> {
    let bytes = words.as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':');
    let (snapshot, path) = colon.map_or((bytes, &b"/"[..]), |at| (&bytes[..at], &bytes[at + 1..]));
    let usage = |finding: &str, next: &str| {
        Err(Error::Usage {
            finding: match bytes {
                [] => format!("an empty word {finding}"),
                _ => format!("{} {finding}", Shown(bytes)),
            },
            next: next.to_owned(),
        })
    };
    if snapshot.contains(&b'/') {
        return usage(
            "is a path, not a snapshot",
            &format!("did you mean {} ?", quoted(latest_of(bytes))),
        );
    }
    let path: PathBuf = Path::new("/")
        .join(OsStr::from_bytes(path))
        .components()
        .collect();
    let (Ok(snapshot), false) = (std::str::from_utf8(snapshot), snapshot.is_empty()) else {
        return usage(
            "is no SNAPSHOT[:PATH]",
            "give the first digits of an id or `latest`, then perhaps a colon and a path: latest:/srv/shop",
        );
    };
    if path.components().any(|part| part == Component::ParentDir) {
        return usage(
            "has `..` in its path",
            "write the path as it stands in the snapshot; `tillsafe ls` shows it",
        );
    }
    let request = Request {
        within: path.clone(),
        ..request(snapshot, filter)
    };
    Ok((request, path))
}

pub fn request(snapshot: &str, filter: &Filter) -> Request {
    Request {
        snapshot: snapshot.to_owned(),
        shop: filter.shop.clone(),
        host: filter.host.clone(),
        paths: filter.path.clone(),
        tag: filter.tag.clone(),
        ..Request::default()
    }
}

/// The words that name a path in the last snapshot.
fn latest_of(path: &[u8]) -> OsString {
    let mut words = OsString::from("latest:");
    words.push(OsStr::from_bytes(path));
    words
}
