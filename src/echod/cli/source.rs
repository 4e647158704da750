//! Reads the settings: from the command line, otherwise from the environment.

use std::collections::HashMap;
use std::env;

use clap::builder::{Resettable, ValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, Error, FromArgMatches, Parser};

use super::Cli;
use crate::logging::Format;

/// The settings that were given, each with the flag or the variable that gave it.
#[derive(Debug, Default)]
pub(crate) struct Given(HashMap<String, String>);

impl Given {
    fn new(command: &Command, matches: &ArgMatches) -> Self {
        let source = |arg: &Arg| {
            let name = match matches.value_source(arg.get_id().as_str())? {
                ValueSource::CommandLine => format!("--{}", arg.get_long()?),
                ValueSource::EnvVariable => variable(arg)?,
                _ => return None,
            };
            Some((arg.get_id().to_string(), name))
        };
        Self(command.get_arguments().filter_map(source).collect())
    }

    /// Returns the flag or the variable that gave a setting, by the setting's name in [`Cli`].
    pub(crate) fn name(&self, setting: &str) -> Option<&str> {
        self.0.get(setting).map(String::as_str)
    }
}

impl Cli {
    /// Reads the command line and the environment of this process.
    ///
    /// An empty variable counts as unset. A subcommand ignores the environment, because `echod probe` may
    /// run in the daemon's environment.
    ///
    /// # Errors
    ///
    /// The command line or a variable is wrong, or asks for the help or the version.
    pub(crate) fn read() -> Result<Self, Error> {
        let command = if is_subcommand() {
            Self::command().mut_args(without_variable)
        } else {
            Self::command().mut_args(without_empty_variable)
        };
        match command.clone().try_get_matches() {
            Ok(matches) => {
                let mut cli = Self::from_arg_matches(&matches)?;
                cli.given = Given::new(&command, &matches);
                Ok(cli)
            }
            Err(error) if error.use_stderr() => Err(name_variable(error)),
            // Parse again with all variables, because the help shows each.
            Err(_) => <Self as Parser>::try_parse(),
        }
    }
}

/// Makes an error name the variable instead of the flag, if the wrong value came from the variable.
fn name_variable(mut error: Error) -> Error {
    let mut command = Cli::command();
    let is_flag = command.clone().mut_args(without_variable);
    if is_flag.try_get_matches().is_err() {
        return error;
    }
    // Only a built command can display its arguments.
    command.build();
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let arg = command.get_arguments().find(|arg| arg.to_string() == *flag);
    if let Some(variable) = arg.and_then(variable) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    error
}

/// Returns the requested log format, even if other settings are wrong.
pub(crate) fn log_format() -> Format {
    let lenient = |arg: Arg| match (arg.get_id().as_str(), arg.get_action()) {
        ("log_format", _) => without_empty_variable(arg),
        (_, ArgAction::Set | ArgAction::Append) => {
            without_variable(arg).value_parser(ValueParser::os_string())
        }
        _ => without_variable(arg),
    };
    let command = Cli::command().mut_args(lenient).ignore_errors(true);
    command
        .try_get_matches()
        .ok()
        .and_then(|matches| matches.get_one("log_format").copied())
        .unwrap_or(Format::Text)
}

/// Returns whether the first argument is a subcommand. No flag may stand before a subcommand.
pub(crate) fn is_subcommand() -> bool {
    let first = env::args_os().nth(1);
    first.is_some_and(|first| Cli::command().find_subcommand(first).is_some())
}

fn variable(arg: &Arg) -> Option<String> {
    Some(arg.get_env()?.to_string_lossy().into_owned())
}

fn without_empty_variable(arg: Arg) -> Arg {
    let is_empty = |name| env::var_os(name).is_some_and(|value| value.is_empty());
    if arg.get_env().is_some_and(is_empty) {
        without_variable(arg)
    } else {
        arg
    }
}

fn without_variable(arg: Arg) -> Arg {
    arg.env(Resettable::Reset)
}
