//! The example `redis`, with the clients of Redis.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{TIMEOUT, available, connect, example, exchange, finish, read_to_end, skip};

/// The example as a process. It ends when the test ends.
struct Redis {
    addr: SocketAddr,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Redis {
    fn start() -> Self {
        Self::spawn(example("redis").arg("127.0.0.1:0"))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let addr = line.trim_end().strip_prefix("listening at ");
        let addr = addr.unwrap().parse().unwrap();
        Self {
            addr,
            child,
            stdout,
        }
    }

    fn signal(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Waits until the server ends. Checks that it served `connections`, and returns its standard error.
    fn ends_after(mut self, connections: usize) -> String {
        assert!(finish(&mut self.child).success());
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        assert_eq!(stdout, format!("stopped after {connections} connections\n"));
        let errors = self.child.stderr.as_mut().unwrap();
        errors.read_to_string(&mut stderr).unwrap();
        stderr
    }

    /// Stops the server. Checks that it served `connections`, and that nothing panicked.
    fn stops_after(self, connections: usize) {
        self.signal();
        assert_eq!(self.ends_after(connections), "");
    }

    /// Runs `redis-cli` with these arguments, and returns what it prints.
    fn cli(&self, args: &[&str]) -> String {
        let port = self.addr.port().to_string();
        let mut command = patient("redis-cli");
        let output = command.args(["-p", &port]).args(args).output().unwrap();
        text(&output)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // If the test passed, the server has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a command that is killed after a while, so that a hang is a failure.
fn patient(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg(TIMEOUT.as_secs().to_string()).arg(program);
    command
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(both).unwrap()
}

/// Returns a request, encoded as clients encode it.
fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend(format!("${}\r\n", word.len()).bytes());
        request.extend([word, &b"\r\n"[..]].concat());
    }
    request
}

#[test]
fn redis_cli_gets_sets_and_counts() {
    if !available(&["redis-cli"]) {
        return;
    }
    let redis = Redis::start();
    for (args, shown) in [
        (&["PING"][..], "PONG\n"),
        (&["ping", "hello"], "hello\n"),
        (&["GET", "n"], "\n"),
        (&["SET", "n", "41"], "OK\n"),
        (&["INCR", "n"], "42\n"),
        (&["GET", "n"], "42\n"),
        (&["INCR", "new"], "1\n"),
        (&["INCRBY", "new", "-3"], "-2\n"),
        (
            &["INCRBY", "new", "x"],
            "ERR value is not an integer or out of range\n\n",
        ),
        (&["SET", "word", "two words"], "OK\n"),
        (&["GET", "word"], "two words\n"),
        (
            &["INCR", "word"],
            "ERR value is not an integer or out of range\n\n",
        ),
        (&["SET", "top", "9223372036854775807"], "OK\n"),
        (
            &["INCR", "top"],
            "ERR increment or decrement would overflow\n\n",
        ),
        (
            &["GET"],
            "ERR wrong number of arguments for 'get' command\n\n",
        ),
        (&["SET", "n", "1", "EX", "9"], "ERR syntax error\n\n"),
        (
            &["FLUSH\r\nALL"],
            "ERR unknown command 'FLUSH\\r\\nALL'\n\n",
        ),
        (&["CONFIG", "GET", "save"], "save\n\n"),
        (&["COMMAND", "DOCS"], "\n"),
        (&["HELLO"], "server\nredis\nproto\n2\n"),
        (&["HELLO", "3"], "NOPROTO unsupported protocol version\n\n"),
    ] {
        assert_eq!(redis.cli(args), shown, "{args:?}");
    }
    // With `-3`, `redis-cli` asks for version 3 of the protocol, gets an error, and goes on.
    let shown = redis.cli(&["-3", "GET", "n"]);
    assert!(shown.contains("NOPROTO") && shown.contains("42\n"));
    redis.stops_after(22);
}

#[test]
fn pythons_client_pipelines_binary_values_and_counts_at_once() {
    // Debian's package is for Debian's Python, which need not be the first in `PATH`.
    let python = "/usr/bin/python3";
    let run = |args: &[&str]| patient(python).args(args).output();
    if !run(&["-c", "import redis"]).is_ok_and(|output| output.status.success()) {
        return skip("no redis in Debian's Python (python3-redis)");
    }
    let redis = Redis::start();
    let program = r"
import redis, sys, threading
client = redis.Redis(port=int(sys.argv[1]))
assert client.ping()
everything = bytes(range(256)) * 1000
assert client.set(b'\0\r\n', everything) and client.get(b'\0\r\n') == everything
assert client.set('empty', '') and client.get('empty') == b''
assert client.get('nothing') is None
def count():
    pipeline = client.pipeline(transaction=False)
    for _ in range(1000):
        pipeline.incr('n')
    replies = pipeline.execute()
    assert replies == sorted(set(replies)) and len(replies) == 1000
threads = [threading.Thread(target=count) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert client.get('n') == b'8000'
try:
    client.set('n', 1, ex=9)
except redis.ResponseError as error:
    print(error)
";
    let output = run(&["-c", program, &redis.addr.port().to_string()]).unwrap();
    assert_eq!(text(&output), "syntax error\n");
}

#[test]
fn the_benchmark_prints_a_rate_for_each_server_and_command() {
    if !available(&["redis-server", "redis-benchmark"]) {
        return;
    }
    let output = example("redis")
        .args(["bench", "--quick"])
        .output()
        .unwrap();
    let table = text(&output);
    assert!(output.status.success(), "{table}");
    // The table has a header, a rule, and a row for each of 4 loads and 3 commands.
    assert_eq!(table.lines().count(), 2 + 4 * 3, "{table}");
    for row in table.lines().skip(2) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        for rate in &cells[4..7] {
            assert!(rate.parse::<u64>().unwrap() > 0, "{row}");
        }
    }
}

#[test]
fn redis_benchmark_gets_the_configuration_that_it_asks_for() {
    if !available(&["redis-benchmark"]) {
        return;
    }
    let redis = Redis::start();
    let port = redis.addr.port().to_string();
    let output = patient("redis-benchmark")
        .args(["-p", &port, "-n", "1000", "-t", "ping,get,set,incr"])
        .output()
        .unwrap();
    let report = text(&output);
    assert!(output.status.success(), "{report}");
    assert!(!report.contains("WARNING"), "{report}");
    assert!(
        report.contains("host configuration \"save\": \n"),
        "{report}"
    );
}

#[test]
fn malformed_and_oversized_requests_get_an_error_and_the_end() {
    let redis = Redis::start();
    let too_long = vec![b'x'; 2 << 20];
    let inline = b"x ".repeat(1025);
    for (sent, what) in [
        (&b"*x\r\n"[..], "invalid multibulk length"),
        (b"*1025\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
        (b"*1\r\n\r\n", "expected '$', got '\\r'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$1048577\r\n", "invalid bulk length"),
        (b"*1\r\n$18446744073709551615\r\n", "invalid bulk length"),
        (
            b"*1\r\n$4\r\nPINGPING\r\n",
            "expected CRLF after a bulk string",
        ),
        (&[&inline[..], b"\r\n"].concat(), "too big inline request"),
        (&too_long, "too big request"),
    ] {
        // The server ignores the input after the malformed request, and the client still gets the error.
        let sent = [b"*1\r\n$4\r\nPING\r\n", sent, b"PING\r\n", &too_long].concat();
        let replies = String::from_utf8(exchange(redis.addr, &sent)).unwrap();
        assert_eq!(replies, format!("+PONG\r\n-ERR Protocol error: {what}\r\n"));
    }
    redis.stops_after(11);
}

#[test]
fn no_reply_waits_for_the_rest_of_the_next_request() {
    let redis = Redis::start();
    let mut client = connect(redis.addr);
    let ping = request(&[b"PING"]);
    let mut sent: Vec<u8> = ping[..1].into();
    client.write_all(&sent).unwrap();
    for _ in 0..100 {
        // Each write has the rest of one request and the beginning of the next.
        sent = [&ping[1..], &ping[..1]].concat();
        client.write_all(&sent).unwrap();
        let mut reply = [0; 7];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"+PONG\r\n");
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&client).unwrap(), b"");
    redis.stops_after(1);
}

#[test]
fn replies_to_requests_that_arrive_together_leave_in_one_write() {
    if !available(&["strace"]) {
        return;
    }
    let redis = Redis::spawn(
        Command::new("strace")
            // With `-D`, the example is a child of this test, and the tracer is not.
            .args(["-D", "-f", "-qq", "-e", "trace=sendto", "-e", "signal=none"])
            .arg(example("redis").get_program())
            .arg("127.0.0.1:0"),
    );
    let pipelined = request(&[b"INCR", b"n"]).repeat(100);
    let replies = exchange(redis.addr, &pipelined);
    assert!(replies.ends_with(b":100\r\n"));
    redis.signal();
    let calls = redis.ends_after(1);
    let writes = calls.matches(r#"":1\r\n:2\r\n"#).count();
    assert_eq!(
        (writes, calls.matches("sendto(").count()),
        (1, 1),
        "{calls}"
    );
}

#[test]
fn a_full_store_refuses_more_and_serves_what_it_has() {
    let redis = Redis::start();
    let client = connect(redis.addr);
    let mut replies = BufReader::new(&client);
    let mut reply = |request: Vec<u8>| {
        (&client).write_all(&request).unwrap();
        let mut line = String::new();
        replies.read_line(&mut line).unwrap();
        line
    };
    let value = vec![b'x'; 1_000_000];
    let set = |key: u32, value: &[u8]| request(&[b"SET", key.to_string().as_bytes(), value]);
    let stored = (0..1000).take_while(|key| match &*reply(set(*key, &value)) {
        "+OK\r\n" => true,
        error => {
            assert!(error.starts_with("-OOM "), "{error}");
            false
        }
    });
    // 67 of the values fit into 64 MiB.
    let stored = u32::try_from(stored.count()).unwrap();
    assert_eq!(stored, 67);
    // Replacing a value frees the memory of the old value.
    assert_eq!(reply(set(0, &value)), "+OK\r\n");
    assert_eq!(reply(set(0, b"41")), "+OK\r\n");
    assert_eq!(reply(request(&[b"INCR", b"0"])), ":42\r\n");
    assert_eq!(reply(set(stored, &value)), "+OK\r\n");
    client.shutdown(Shutdown::Both).unwrap();
    redis.stops_after(1);
}

#[test]
fn no_input_ends_the_server_or_makes_a_thread_panic() {
    let redis = Redis::start();
    let mut random = fastrand::Rng::with_seed(2);
    let parts: [&[u8]; 16] = [
        b"*", b"$", b"\r\n", b"\r\n", b"\r", b"\n", b"-1", b"0", b"1", b"3", b"4", b"PING", b"GET",
        b"INCR", b"\xff\0", b" ",
    ];
    for _ in 0..500 {
        let sent: Vec<_> = (0..random.usize(..40))
            .flat_map(|_| parts[random.usize(..parts.len())])
            .copied()
            .collect();
        let replies = exchange(redis.addr, &sent);
        assert!(replies.is_empty() || replies.ends_with(b"\r\n"), "{sent:?}");
    }
    assert_eq!(exchange(redis.addr, b"PING\r\n"), b"+PONG\r\n");
    redis.stops_after(501);
}

#[test]
fn a_stop_answers_what_has_arrived_and_ends_idle_clients() {
    let redis = Redis::start();
    let idle = connect(redis.addr);
    (&idle).write_all(b"PING\r\nPI").unwrap();
    let mut reply = [0; 7];
    (&idle).read_exact(&mut reply).unwrap();
    let busy = connect(redis.addr);
    (&busy).write_all(&b"PING\r\n".repeat(1000)).unwrap();
    (&busy).read_exact(&mut reply).unwrap();
    redis.signal();
    assert_eq!(read_to_end(&idle).unwrap(), b"");
    assert_eq!(read_to_end(&busy).unwrap(), b"+PONG\r\n".repeat(999));
    drop((idle, busy));
    assert_eq!(redis.ends_after(2), "");
}

#[test]
fn bare_threads_answer_the_same() {
    let redis = Redis::spawn(example("redis").args(["bare", "127.0.0.1:0"]));
    let requests = [request(&[b"SET", b"n", b"41"]), request(&[b"INCR", b"n"])];
    assert_eq!(exchange(redis.addr, &requests.concat()), b"+OK\r\n:42\r\n");
    assert_eq!(exchange(redis.addr, b"GET n\r\n"), b"$2\r\n42\r\n");
}
