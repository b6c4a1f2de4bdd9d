//! Key files: the master key, wrapped by a key that scrypt derives from a password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::crypto::Key;
use crate::error::{Error, Result};
use crate::rng::{self, Rng};
use crate::secret::Secret;

/// A key file has about 500 bytes; anything much longer is none.
pub const MAX_FILE: u64 = 64 * 1024;
/// Bytes of salt: exactly so many, or restic refuses the key.
const SALT: usize = 64;
/// Most memory that a key file may ask scrypt to take, in bytes, all its passes together: four times restic's default
/// for one.
const MAX_MEMORY: u64 = 256 * 1024 * 1024;
/// Most work (`N·r·p`) that it may ask for: about 11 s.
const MAX_WORK: u64 = 1 << 25;

/// How much a derivation costs: scrypt's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Work and memory factor, a power of two.
    #[serde(rename = "N")]
    pub n: u64,
    /// Block size.
    pub r: u32,
    /// Passes.
    pub p: u32,
}

impl Cost {
    /// What new keys cost: twice 32 MiB, and about 0.08 s on two cores; never below restic's own minimum.
    pub const DEFAULT: Self = Self {
        n: 32768,
        r: 8,
        p: 2,
    };
    /// What restic's own keys take at least. A key below it is easier to guess than it need be.
    pub const LEAST: Self = Self {
        n: 32768,
        r: 8,
        p: 1,
    };
    /// For tests that make many repositories: next to nothing. Never for a real password.
    pub const CHEAP: Self = Self { n: 256, r: 1, p: 1 };

    /// Whether a guess takes less memory than with [`Cost::LEAST`].
    #[must_use]
    pub const fn is_weak(self) -> bool {
        let least = Self::LEAST.n * Self::LEAST.r as u64;
        self.n.saturating_mul(self.r as u64) < least
    }

    /// What a derivation takes, in `N·r·p`; none if it is more than is granted.
    #[must_use]
    pub fn work(self) -> Option<u64> {
        self.parameters().ok()?;
        Some(self.n * u64::from(self.r) * u64::from(self.p))
    }

    /// Checks the limits before any memory is taken.
    fn parameters(self) -> std::result::Result<scrypt::Params, String> {
        let (n, r, p) = (self.n, u64::from(self.r), u64::from(self.p));
        let memory = n.checked_mul(128).and_then(|bytes| bytes.checked_mul(r));
        let work = n.checked_mul(r).and_then(|work| work.checked_mul(p));
        if memory.is_none_or(|bytes| bytes > MAX_MEMORY) || work.is_none_or(|work| work > MAX_WORK)
        {
            return Err(format!(
                "it asks scrypt for N={n}, r={r}, p={p}, more than this program grants"
            ));
        }
        if !n.is_power_of_two() || n < 2 {
            return Err(format!("scrypt's N={n} is no power of two"));
        }
        let log_n = u8::try_from(n.trailing_zeros()).unwrap_or(u8::MAX);
        scrypt::Params::new(log_n, self.r, self.p).map_err(|cause| cause.to_string())
    }

    /// Derives the key that wraps the master key.
    fn derive(self, password: &Secret, salt: &[u8]) -> std::result::Result<Key, String> {
        let mut bytes = Zeroizing::new([0; 64]);
        let parameters = self.parameters()?;
        // scrypt's passes know nothing of each other. Threads of its own, and no more than there is memory granted for.
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads())
            .build()
            .map_err(|cause| cause.to_string())?;
        threads
            .install(|| scrypt::scrypt(password.expose(), salt, &parameters, bytes.as_mut()))
            .map_err(|cause| cause.to_string())?;
        Ok(Key::from_bytes(&bytes))
    }

    /// How many passes are done at once: each takes memory of its own.
    fn threads(self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let fit = MAX_MEMORY / (128 * self.n * u64::from(self.r)).max(1);
        let passes = u64::from(self.p).min(fit).max(1);
        usize::try_from(passes).unwrap_or(cores).min(cores)
    }
}

/// A key file as stored: plain JSON, named by the SHA-256 of its bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    #[serde(default)]
    username: String,
    #[serde(default)]
    hostname: String,
    kdf: String,
    #[serde(flatten)]
    cost: Cost,
    salt: String,
    data: String,
}

/// What a key file says about itself, to anybody who can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Who made it; empty in keys of ours.
    pub user: String,
    /// Where; empty in keys of ours.
    pub host: String,
    /// What a guess at its password costs.
    pub cost: Cost,
}

/// Why a key file did not give the master key.
#[derive(Debug, PartialEq, Eq)]
pub enum KeyFailure {
    /// The password is not this key's.
    WrongPassword,
    /// The file cannot be used, whatever the password.
    Unusable(String),
}

impl KeyFile {
    /// Wraps `master` under `password`. User and host names are left out: key files are not
    /// encrypted, and nobody needs to read them there.
    ///
    /// # Errors
    /// As [`Rng::fill`]; [`Error::Usage`] for a cost beyond the limits.
    pub fn wrap(
        master: &Key,
        password: &Secret,
        cost: Cost,
        created: Timestamp,
        rng: &dyn Rng,
    ) -> Result<Self> {
        let salt: [u8; SALT] = rng::array(rng)?;
        let key = cost
            .derive(password, &salt)
            .map_err(|finding| Error::Usage {
                finding,
                next: "choose a cost within the limits".into(),
            })?;
        let plain = Zeroizing::new(serde_json::to_vec(master).unwrap_or_default());
        Ok(Self {
            created: Some(created),
            username: String::new(),
            hostname: String::new(),
            kdf: "scrypt".into(),
            cost,
            salt: STANDARD.encode(salt),
            data: STANDARD.encode(key.seal(&plain, rng)?),
        })
    }

    /// What it says about itself.
    ///
    /// # Errors
    /// Why no password can open it.
    pub fn facts(&self) -> std::result::Result<KeyFacts, String> {
        self.salt()?;
        self.cost.parameters()?;
        Ok(KeyFacts {
            created: self.created,
            user: self.username.clone(),
            host: self.hostname.clone(),
            cost: self.cost,
        })
    }

    /// The salt of a derivation that is known.
    fn salt(&self) -> std::result::Result<Vec<u8>, String> {
        if self.kdf != "scrypt" {
            return Err(format!("it names an unknown derivation {:?}", self.kdf));
        }
        let salt = decode(&self.salt)?;
        if salt.len() != SALT {
            return Err(format!("its salt has {} bytes, not 64", salt.len()));
        }
        Ok(salt)
    }

    /// What a derivation takes.
    #[must_use]
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// Gives the master key back.
    ///
    /// # Errors
    /// [`KeyFailure`]: whether the password or the file is at fault.
    pub fn unwrap_with(&self, password: &Secret) -> std::result::Result<Key, KeyFailure> {
        let unusable = KeyFailure::Unusable;
        let salt = self.salt().map_err(unusable)?;
        let key = self.cost.derive(password, &salt).map_err(unusable)?;
        let sealed = decode(&self.data).map_err(unusable)?;
        let plain = Zeroizing::new(key.open(&sealed).map_err(|_| KeyFailure::WrongPassword)?);
        let master: Key = serde_json::from_slice(&plain)
            .map_err(|cause| unusable(format!("its master key cannot be read ({cause})")))?;
        if master.is_sound() {
            Ok(master)
        } else {
            Err(unusable("its master key holds a part of zeroes".into()))
        }
    }
}

fn decode(text: &str) -> std::result::Result<Vec<u8>, String> {
    STANDARD
        .decode(text)
        .map_err(|_| "it holds broken base64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SystemRng;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn derivation_is_that_of_the_format() {
        let salt: Vec<u8> = (0..64).collect();
        for (p, expected) in [
            (
                1,
                "4e0067645ae728f75d7cf38dda53c55a5505fd3e54ebe674f95f827b2d466c4fc3afbea64fd4b42356223d5260f14cd969d13f5ed2ef590f080ec0e7a1c784fa",
            ),
            (
                3,
                "eff35c48a0a71779ab9237d4d6303b1972f1de9cd5ed301e2e73eb6a3dd0171c4ba8334f35f8c6400fb7fef8e32966073348ebf4089826b1e65ab90427bbe932",
            ),
        ] {
            let key = Cost { n: 128, r: 1, p }
                .derive(&secret("geheim"), &salt)
                .unwrap();
            let expected: Vec<u8> = expected
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            let expected = Key::from_bytes(&expected.try_into().unwrap());
            assert_eq!(
                serde_json::to_string(&key).unwrap(),
                serde_json::to_string(&expected).unwrap()
            );
        }
    }

    #[test]
    fn all_passes_at_once_take_no_more_memory_than_is_granted() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let passes = |n, p| Cost { n, r: 8, p }.threads();
        assert_eq!(passes(1 << 15, 2), 2.min(cores));
        assert_eq!(passes(1 << 15, 1), 1);
        assert_eq!(passes(1 << 17, 8), 2.min(cores));
        assert_eq!(passes(1 << 18, 4), 1);
    }

    #[test]
    fn only_its_password_opens_a_key() {
        let master = Key::random(&SystemRng).unwrap();
        let file = KeyFile::wrap(
            &master,
            &secret("mara"),
            Cost::CHEAP,
            Timestamp::UNIX_EPOCH,
            &SystemRng,
        )
        .unwrap();
        let file: KeyFile = serde_json::from_slice(&serde_json::to_vec(&file).unwrap()).unwrap();
        let opened = file.unwrap_with(&secret("mara")).unwrap();
        assert_eq!(
            serde_json::to_string(&opened).unwrap(),
            serde_json::to_string(&master).unwrap()
        );
        assert_eq!(
            file.unwrap_with(&secret("Mara")).unwrap_err(),
            KeyFailure::WrongPassword
        );
    }

    #[test]
    fn a_hostile_key_file_gets_no_memory() {
        for cost in [
            Cost {
                n: 1 << 40,
                r: 8,
                p: 1,
            },
            Cost {
                n: 1 << 18,
                r: 8,
                p: 64,
            },
            Cost {
                n: 2,
                r: u32::MAX,
                p: u32::MAX,
            },
            Cost {
                n: u64::MAX,
                r: 1,
                p: 1,
            },
            Cost {
                n: 1000,
                r: 8,
                p: 1,
            },
            Cost { n: 1, r: 8, p: 1 },
            Cost {
                n: 1024,
                r: 0,
                p: 1,
            },
        ] {
            assert!(cost.parameters().is_err(), "{cost:?}");
        }
        for cost in [(32768, 8, 20), (65536, 8, 1), (131_072, 8, 1), (128, 1, 1)] {
            let (n, r, p) = cost;
            assert!(Cost { n, r, p }.parameters().is_ok(), "{cost:?}");
        }
    }
}
