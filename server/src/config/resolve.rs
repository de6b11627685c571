//! From flags, environment and file to a checked [`Config`]. Driven by the command line; must not
//! know the settings themselves, which are in the table.

use std::fmt;
use std::path::{Path, PathBuf};

use super::kinds::SettingValue;
use super::{Config, Flags, SETTINGS};

/// Where a value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The flag of this name.
    Flag(String),
    /// The environment variable of this name.
    Environment(&'static str),
    /// The key of the config file at this path.
    File(PathBuf),
    /// The table of settings.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(flag) => write!(f, "flag {flag}"),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Default => f.write_str("default"),
        }
    }
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that its setting cannot have.
    #[error("`{key}` is {value:?} ({origin}); it must be {expected}")]
    InvalidValue {
        /// The setting.
        key: &'static str,
        /// What was found.
        value: String,
        /// Where it was found.
        origin: Source,
        /// What is right.
        expected: &'static str,
    },
    /// The file has a key that is no setting.
    #[error("{}: `{key}` is no setting; the settings are {known}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// What was found.
        key: String,
        /// What there is.
        known: String,
    },
    /// The file cannot be read.
    #[error("cannot read the config file {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the config file {} is not valid TOML: {error}", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// What the parser says, with the line.
        error: Box<toml::de::Error>,
    },
}

/// The file's settings as text.
pub(super) struct FileValues {
    path: PathBuf,
    table: toml::Table,
}

/// All the places a value may come from.
pub(super) struct Values<'a> {
    flags: &'a Flags,
    environment: &'a dyn Fn(&str) -> Option<String>,
    file: Option<FileValues>,
}

impl Values<'_> {
    pub(super) fn get<T: SettingValue>(&self, key: &'static str) -> Result<T, ConfigError> {
        let (value, origin) = self.find(key);
        T::read(value.trim()).ok_or(ConfigError::InvalidValue {
            key,
            value,
            origin,
            expected: T::EXPECTED,
        })
    }

    fn find(&self, key: &str) -> (String, Source) {
        let setting = SETTINGS
            .iter()
            .find(|setting| setting.key == key)
            .expect("keys come from the same table as the settings");
        if let Some(value) = self.flags.get(key) {
            return (value.to_owned(), Source::Flag(setting.flag()));
        }
        if let Some(value) = (self.environment)(setting.env) {
            return (value, Source::Environment(setting.env));
        }
        if let Some((path, value)) = self.file.as_ref().and_then(|file| file.get(key)) {
            return (value, Source::File(path));
        }
        (setting.default.to_owned(), Source::Default)
    }
}

impl FileValues {
    fn parse(path: PathBuf, text: &str) -> Result<FileValues, ConfigError> {
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => return Err(ConfigError::NotToml { path, error: Box::new(error) }),
        };
        let is_setting = |key: &str| SETTINGS.iter().any(|setting| setting.key == key);
        if let Some(key) = table.keys().find(|key| !is_setting(key)) {
            let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
            return Err(ConfigError::UnknownKey {
                path,
                key: key.clone(),
                known: known.join(", "),
            });
        }
        Ok(FileValues { path, table })
    }

    fn get(&self, key: &str) -> Option<(PathBuf, String)> {
        let value = self.table.get(key)?;
        // Other types than text are shown as they are written: 1000, true, ["a"].
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        Some((self.path.clone(), text))
    }
}

impl Config {
    /// The settings of this process: its flags, its environment, and the file they name.
    pub fn load(flags: &Flags) -> Result<Config, ConfigError> {
        let environment = |name: &str| std::env::var(name).ok();
        let path =
            flags.config.clone().or_else(|| environment("TIDEMARK_CONFIG").map(PathBuf::from));
        let file = path.map(|path| read(&path).map(|text| (path, text))).transpose()?;
        Config::resolve(flags, environment, file)
    }

    /// The settings from flags, an environment, and a file's path and text.
    pub fn resolve(
        flags: &Flags,
        environment: impl Fn(&str) -> Option<String>,
        file: Option<(PathBuf, String)>,
    ) -> Result<Config, ConfigError> {
        let file = file.map(|(path, text)| FileValues::parse(path, &text)).transpose()?;
        Config::from_values(&Values { flags, environment: &environment, file })
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file(text: &str) -> Option<(PathBuf, String)> {
        Some(("tidemark.toml".into(), text.to_owned()))
    }

    fn flags(project: Option<&str>) -> Flags {
        Flags { project: project.map(ToOwned::to_owned), ..Flags::default() }
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
        let environment = |name: &str| (name == "TIDEMARK_PROJECT").then(|| "env".to_owned());
        let text = "project = \"file\"\ntargets = 7";
        let resolved = |flags, with_env: bool, text: &str| {
            let env = move |name: &str| with_env.then(|| environment(name)).flatten();
            Config::resolve(&flags, env, file(text)).unwrap()
        };
        assert_eq!(resolved(flags(Some("flag")), true, text).project, "flag");
        assert_eq!(resolved(flags(None), true, text).project, "env");
        assert_eq!(resolved(flags(None), false, text).project, "file");
        assert_eq!(resolved(flags(None), false, text).targets, 7);
        assert_eq!(resolved(flags(None), false, "").project, "default");
    }

    #[test]
    fn errors_name_the_key_the_value_and_what_is_right() {
        let error =
            |flags, text| Config::resolve(&flags, |_| None, file(text)).unwrap_err().to_string();
        assert_eq!(
            error(flags(Some("a b")), ""),
            "`project` is \"a b\" (flag --project); \
             it must be a name of 1 to 63 letters, digits, `-` and `_`"
        );
        assert_eq!(
            error(flags(None), "targets = -1"),
            "`targets` is \"-1\" (file tidemark.toml); \
             it must be a whole number from 1 to 4294967295"
        );
        let unknown = error(flags(None), "tragets = 1");
        assert!(
            unknown
                .starts_with("tidemark.toml: `tragets` is no setting; the settings are listen, ")
        );
        assert!(error(flags(None), "= 1").contains("is not valid TOML"));
    }
}
