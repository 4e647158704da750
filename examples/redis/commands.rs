//! The commands, with the error messages of Redis.

use crate::resp::{Reply, number};
use crate::store::{NO_INTEGER, Store};

/// The settings that `redis-benchmark` asks for. This server saves nothing.
const SETTINGS: [(&str, &str); 2] = [("save", ""), ("appendonly", "no")];

/// The most bytes of an unknown command that an error repeats.
const MAX_REPEATED: usize = 64;

pub(crate) fn run(command: &[u8], args: &[Vec<u8>], store: &Store) -> Reply {
    match (&command.to_ascii_uppercase()[..], args) {
        (b"PING", []) => Reply::Simple("PONG"),
        (b"PING", [message]) => Reply::Bulk(message[..].into()),
        (b"GET", [key]) => store.get(key).map_or(Reply::Null, Reply::Bulk),
        (b"SET", [key, value]) => match store.set(key, value) {
            Ok(()) => Reply::Simple("OK"),
            Err(error) => Reply::Error(error.to_owned()),
        },
        // The options of SET, such as EX, are not part of this subset.
        (b"SET", [_, _, _, ..]) => Reply::Error("ERR syntax error".to_owned()),
        (b"INCR", [key]) => add(store, key, Some(1)),
        // Python's client sends this for INCR.
        (b"INCRBY", [key, amount]) => add(store, key, number(amount)),
        // `redis-cli` asks for the list of commands, to complete what its user types.
        (b"COMMAND", _) => Reply::Array(Vec::new()),
        (b"CONFIG", [get, names @ ..]) if get.eq_ignore_ascii_case(b"GET") => config(names),
        (b"HELLO", []) => hello(),
        (b"HELLO", [version]) if version == b"2" => hello(),
        (b"HELLO", _) => Reply::Error("NOPROTO unsupported protocol version".to_owned()),
        (b"PING" | b"GET" | b"SET" | b"INCR" | b"INCRBY", _) => {
            let name = command.to_ascii_lowercase();
            let name = name.escape_ascii();
            Reply::Error(format!(
                "ERR wrong number of arguments for '{name}' command"
            ))
        }
        _ => {
            // Escape the name, because a line break in an error would end the error.
            let name = command[..command.len().min(MAX_REPEATED)].escape_ascii();
            Reply::Error(format!("ERR unknown command '{name}'"))
        }
    }
}

fn add(store: &Store, key: &[u8], amount: Option<i64>) -> Reply {
    match amount
        .ok_or(NO_INTEGER)
        .and_then(|amount| store.add(key, amount))
    {
        Ok(sum) => Reply::Integer(sum),
        Err(error) => Reply::Error(error.to_owned()),
    }
}

/// Answers `CONFIG GET` with the names and values of those settings in `names` that are known.
fn config(names: &[Vec<u8>]) -> Reply {
    let asked = |name: &str| {
        names
            .iter()
            .any(|n| n.eq_ignore_ascii_case(name.as_bytes()))
    };
    let known = SETTINGS.iter().filter(|(name, _)| asked(name));
    Reply::Array(
        known
            .flat_map(|(name, value)| [text(name), text(value)])
            .collect(),
    )
}

/// Answers `HELLO`, by which a client asks for a version of the protocol. This server has version 2.
fn hello() -> Reply {
    Reply::Array(vec![
        text("server"),
        text("redis"),
        text("proto"),
        Reply::Integer(2),
    ])
}

fn text(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().into())
}
