//! Which variables of which library functions are looked at when a stack is read from outside, and how each is shown: one
//! table. Nothing else is read: a variable may hold a password as well as a timeout, so what is not on the list stays where
//! it is. Variables of the application's own code are never on it.
//!
//! Not for: reading memory (`reflex`), and not for what a value means ([`crate::diagnosis`]).

use crate::evidence::Frame;
use crate::{record, sql};
use std::collections::BTreeMap;

/// Most bytes of a shown value, statements aside.
const SHOWN_MAX: usize = 128;

/// A variable that may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// How the path of the file ends; every file of a library if empty.
    pub file: &'static str,
    /// The function with its class; every function if empty.
    pub function: &'static str,
    /// The variable.
    pub name: &'static str,
    /// How it is shown.
    pub show: Show,
}

/// How a variable is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// A number, a truth value, or None; nothing else.
    Number,
    /// A word: a method, a command.
    Word,
    /// An address without credentials and query.
    Url,
    /// A host, or a pair of host and port.
    Host,
    /// A statement without its values.
    Sql,
    /// The program of a command; its arguments are not read.
    Program,
    /// The name of a function, also of one within a `functools.partial`.
    Function,
    /// A WSGI environment: `REQUEST_METHOD`, `PATH`, `QUERY` (names alone), `REMOTE_ADDR`, `REMOTE_PORT`.
    Environ,
    /// An ASGI scope: the same.
    Scope,
}

impl Show {
    /// Returns the entries of a dictionary that are read; of one without this, nothing is.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Environ => {
                &["REQUEST_METHOD", "RAW_URI", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "REMOTE_PORT"]
            }
            Self::Scope => &["type", "method", "path", "query_string", "client"],
            _ => &[],
        }
    }
}

/// A Python object, as far as it is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// None.
    None,
    /// A truth value.
    Bool(bool),
    /// A number that fits.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A string, or bytes; cut.
    Text(String),
    /// A tuple or list; cut.
    List(Vec<Value>),
    /// The entries of a dictionary that were asked for.
    Entries(Vec<(String, Value)>),
    /// A function, by its name.
    Function(String),
    /// Anything else: the name of its type.
    Object(String),
}

const fn of(file: &'static str, function: &'static str, name: &'static str, show: Show) -> Local {
    Local { file, function, name, show }
}

/// All of them.
pub const TABLE: &[Local] = &[
    // The request.
    of("", "", "environ", Show::Environ),
    of("", "", "scope", Show::Scope),
    // Gunicorn's own: half of `timeout`, where its settings are not to be seen.
    of("/gunicorn/workers/sync.py", "SyncWorker.run_for_one", "timeout", Show::Number),
    of("/gunicorn/workers/sync.py", "SyncWorker.run_for_multiple", "timeout", Show::Number),
    // HTTP clients.
    of("/requests/sessions.py", "Session.request", "timeout", Show::Number),
    of("/requests/sessions.py", "Session.request", "method", Show::Word),
    of("/requests/sessions.py", "Session.request", "url", Show::Url),
    of("/requests/adapters.py", "HTTPAdapter.send", "timeout", Show::Number),
    of("/requests/adapters.py", "HTTPAdapter.send", "url", Show::Url),
    of("/urllib3/connectionpool.py", "HTTPConnectionPool.urlopen", "method", Show::Word),
    of("/urllib3/connectionpool.py", "HTTPConnectionPool.urlopen", "url", Show::Url),
    of("/urllib3/connectionpool.py", "HTTPConnectionPool.urlopen", "pool_timeout", Show::Number),
    of("/urllib3/connectionpool.py", "HTTPConnectionPool._make_request", "read_timeout", Show::Number),
    of("/urllib3/connectionpool.py", "HTTPConnectionPool._get_conn", "timeout", Show::Number),
    of("/urllib3/util/connection.py", "create_connection", "timeout", Show::Number),
    of("/urllib3/util/connection.py", "create_connection", "address", Show::Host),
    of("/urllib3/util/retry.py", "Retry._sleep_backoff", "backoff", Show::Number),
    of("/urllib3/util/retry.py", "Retry.sleep_for_retry", "retry_after", Show::Number),
    of("/httpx/_client.py", "Client.request", "method", Show::Word),
    of("/httpx/_client.py", "Client.request", "url", Show::Url),
    of("/httpx/_client.py", "Client.request", "timeout", Show::Number),
    of("/httpcore/_backends/sync.py", "SyncStream.read", "timeout", Show::Number),
    of("/httpcore/_backends/sync.py", "SyncStream.write", "timeout", Show::Number),
    of("/httpcore/_backends/sync.py", "SyncStream.start_tls", "timeout", Show::Number),
    of("/httpcore/_backends/sync.py", "SyncBackend.connect_tcp", "timeout", Show::Number),
    of("/httpcore/_backends/sync.py", "SyncBackend.connect_tcp", "host", Show::Host),
    of("/httpx/_client.py", "AsyncClient.request", "method", Show::Word),
    of("/httpx/_client.py", "AsyncClient.request", "url", Show::Url),
    of("/httpx/_client.py", "AsyncClient.request", "timeout", Show::Number),
    of("/httpcore/_backends/anyio.py", "AnyIOStream.read", "timeout", Show::Number),
    of("/httpcore/_backends/anyio.py", "AnyIOStream.write", "timeout", Show::Number),
    of("/httpcore/_backends/anyio.py", "AnyIOStream.start_tls", "timeout", Show::Number),
    of("/httpcore/_backends/anyio.py", "AnyIOBackend.connect_tcp", "timeout", Show::Number),
    of("/httpcore/_backends/anyio.py", "AnyIOBackend.connect_tcp", "host", Show::Host),
    of("/httpcore/_async/http11.py", "AsyncHTTP11Connection._receive_event", "timeout", Show::Number),
    of(
        "/httpcore/_async/connection_pool.py",
        "AsyncPoolRequest.wait_for_connection",
        "timeout",
        Show::Number,
    ),
    of("/httpcore/_sync/connection.py", "HTTPConnection._connect", "timeout", Show::Number),
    of("/httpcore/_sync/http11.py", "HTTP11Connection._receive_event", "timeout", Show::Number),
    of("/httpcore/_sync/connection_pool.py", "PoolRequest.wait_for_connection", "timeout", Show::Number),
    of("/urllib/request.py", "urlopen", "url", Show::Url),
    of("/urllib/request.py", "urlopen", "timeout", Show::Number),
    of("/http/client.py", "HTTPConnection.request", "method", Show::Word),
    of("/http/client.py", "HTTPConnection.request", "url", Show::Url),
    of("/socket.py", "create_connection", "timeout", Show::Number),
    of("/socket.py", "create_connection", "address", Show::Host),
    of("/socket.py", "getaddrinfo", "host", Show::Host),
    of("/ssl.py", "SSLSocket.do_handshake", "timeout", Show::Number),
    of("/tenacity/nap.py", "sleep", "seconds", Show::Number),
    of("/backoff/_sync.py", "retry_exception.<locals>.retry", "seconds", Show::Number),
    // Databases.
    of("/psycopg/cursor.py", "Cursor.execute", "query", Show::Sql),
    of("/psycopg/cursor.py", "Cursor.executemany", "query", Show::Sql),
    of("/psycopg/connection.py", "Connection.execute", "query", Show::Sql),
    of("/psycopg/connection.py", "Connection.wait", "interval", Show::Number),
    of("/psycopg/cursor_async.py", "AsyncCursor.execute", "query", Show::Sql),
    of("/psycopg/connection_async.py", "AsyncConnection.execute", "query", Show::Sql),
    of("/psycopg/connection_async.py", "AsyncConnection.wait", "interval", Show::Number),
    of("/psycopg/client_cursor.py", "ClientCursor.execute", "query", Show::Sql),
    of("/sqlalchemy/engine/base.py", "Connection._exec_single_context", "str_statement", Show::Sql),
    of("/sqlalchemy/engine/base.py", "Connection._execute_context", "statement", Show::Sql),
    of("/sqlalchemy/engine/default.py", "DefaultDialect.do_execute", "statement", Show::Sql),
    of("/sqlalchemy/engine/default.py", "DefaultDialect.do_executemany", "statement", Show::Sql),
    of("/django/db/backends/utils.py", "CursorWrapper.execute", "sql", Show::Sql),
    of("/django/db/backends/utils.py", "CursorWrapper._execute", "sql", Show::Sql),
    of("/django/db/backends/utils.py", "CursorDebugWrapper.execute", "sql", Show::Sql),
    of("/asyncpg/connection.py", "Connection.execute", "query", Show::Sql),
    of("/asyncpg/connection.py", "Connection.fetch", "query", Show::Sql),
    of("/asyncpg/connection.py", "Connection.fetchrow", "query", Show::Sql),
    of("/asyncpg/connection.py", "Connection.fetchval", "query", Show::Sql),
    of("/pymysql/cursors.py", "Cursor.execute", "query", Show::Sql),
    of("/pymysql/cursors.py", "Cursor._query", "q", Show::Sql),
    of("/pymysql/connections.py", "Connection.query", "sql", Show::Sql),
    of("/MySQLdb/cursors.py", "BaseCursor.execute", "query", Show::Sql),
    of("/MySQLdb/cursors.py", "BaseCursor._query", "q", Show::Sql),
    of("/mysql/connector/cursor.py", "MySQLCursor.execute", "operation", Show::Sql),
    of("/redis/client.py", "Redis.execute_command", "command_name", Show::Word),
    of("/redis/client.py", "Redis._execute_command", "command_name", Show::Word),
    of("/redis/asyncio/client.py", "Redis.execute_command", "command_name", Show::Word),
    of("/redis/asyncio/connection.py", "AbstractConnection.read_response", "timeout", Show::Number),
    of("/redis/connection.py", "BlockingConnectionPool.get_connection", "command_name", Show::Word),
    of("/redis/connection.py", "AbstractConnection.read_response", "timeout", Show::Number),
    // Pools of connections.
    of("/sqlalchemy/pool/impl.py", "QueuePool._do_get", "wait", Show::Number),
    of("/sqlalchemy/util/queue.py", "Queue.get", "timeout", Show::Number),
    of("/psycopg_pool/pool.py", "ConnectionPool.getconn", "timeout", Show::Number),
    of("/psycopg_pool/pool.py", "ConnectionPool.connection", "timeout", Show::Number),
    of("/psycopg_pool/pool.py", "WaitingClient.wait", "timeout", Show::Number),
    of("/sqlalchemy/util/queue.py", "AsyncAdaptedQueue.get", "timeout", Show::Number),
    of("/psycopg_pool/pool_async.py", "AsyncConnectionPool.getconn", "timeout", Show::Number),
    of("/psycopg_pool/pool_async.py", "AsyncConnectionPool.connection", "timeout", Show::Number),
    of("/psycopg_pool/pool_async.py", "WaitingClient.wait", "timeout", Show::Number),
    of("/asyncpg/pool.py", "Pool._acquire", "timeout", Show::Number),
    // Threads, futures, queues.
    of("/anyio/_backends/_asyncio.py", "AsyncIOBackend.run_sync_in_worker_thread", "func", Show::Function),
    of("/asyncio/tasks.py", "sleep", "delay", Show::Number),
    of("/asyncio/tasks.py", "wait_for", "timeout", Show::Number),
    of("/asyncio/tasks.py", "wait", "timeout", Show::Number),
    of("/queue.py", "Queue.get", "timeout", Show::Number),
    of("/queue.py", "Queue.get", "block", Show::Number),
    of("/queue.py", "Queue.put", "timeout", Show::Number),
    of("/threading.py", "Condition.wait", "timeout", Show::Number),
    of("/threading.py", "Event.wait", "timeout", Show::Number),
    of("/threading.py", "Barrier.wait", "timeout", Show::Number),
    of("/threading.py", "Semaphore.acquire", "timeout", Show::Number),
    of("/threading.py", "Thread.join", "timeout", Show::Number),
    of("/concurrent/futures/_base.py", "Future.result", "timeout", Show::Number),
    of("/concurrent/futures/_base.py", "wait", "timeout", Show::Number),
    of("/multiprocessing/pool.py", "ApplyResult.get", "timeout", Show::Number),
    of("/celery/result.py", "AsyncResult.get", "timeout", Show::Number),
    // Processes.
    of("/subprocess.py", "Popen.wait", "timeout", Show::Number),
    of("/subprocess.py", "Popen._wait", "timeout", Show::Number),
    of("/subprocess.py", "Popen.communicate", "timeout", Show::Number),
    of("/subprocess.py", "run", "timeout", Show::Number),
    of("/subprocess.py", "run", "popenargs", Show::Program),
    of("/subprocess.py", "call", "popenargs", Show::Program),
    of("/subprocess.py", "Popen._execute_child", "args", Show::Program),
    // Retries.
    of("/celery/app/task.py", "Task.retry", "countdown", Show::Number),
];

impl Local {
    /// Tells whether it is one of a function's. Before CPython 3.11 functions are known without their classes.
    fn is_of(&self, frame: &Frame) -> bool {
        let named = |function: &str| {
            function == frame.function
                || !frame.function.contains('.')
                    && function.rsplit('.').next().is_some_and(|last| last == frame.function)
        };
        frame.file.ends_with(self.file) && (self.function.is_empty() || named(self.function))
    }
}

/// Finds a function's variables that may be looked at.
pub fn of_frame(frame: &Frame) -> impl Iterator<Item = &'static Local> {
    // Only a library's. What is neither (code that was compiled from a text) may be anybody's.
    let may = !frame.is_application() && !frame.file.starts_with('<');
    TABLE.iter().filter(move |local| may && local.is_of(frame))
}

/// Returns what is shown of a variable: mostly one value under its name; nothing for what is no such thing.
pub fn shown(local: &Local, value: &Value) -> BTreeMap<String, String> {
    let one = |text: Option<String>| text.map(|text| (local.name.to_owned(), text)).into_iter().collect();
    match local.show {
        Show::Number => one(number(value)),
        Show::Word => one(text(value).filter(|word| is_word(word)).map(str::to_owned)),
        Show::Url => one(text(value).map(url)),
        Show::Host => one(host(value)),
        Show::Sql => one(text(value).map(sql::normalized_of_any)),
        Show::Program => one(program(value)),
        Show::Function => one(function(value)),
        Show::Environ => environ(value),
        Show::Scope => scope(value),
    }
}

fn text(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn number(value: &Value) -> Option<String> {
    match value {
        Value::None => Some("None".to_owned()),
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        Value::Int(number) => Some(number.to_string()),
        // Python writes `5.0`.
        Value::Float(number) => Some(format!("{number:?}")),
        // A pair of timeouts, as requests takes it.
        Value::List(items) if items.len() == 2 => {
            Some(format!("({}, {})", number(items.first()?)?, number(items.get(1)?)?))
        }
        _ => None,
    }
}

fn is_word(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b' ' | b'.' | b'-');
    !text.is_empty() && text.len() <= 32 && text.bytes().all(fits)
}

/// Returns an address without credentials, query and fragment.
fn url(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let whole = match text.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let host = rest[..end].rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{}", &rest[end..])
        }
        // A path.
        None if text.starts_with('/') => text.to_owned(),
        None => text.rsplit('@').next().unwrap_or_default().to_owned(),
    };
    cut(&whole, SHOWN_MAX).to_owned()
}

fn host(value: &Value) -> Option<String> {
    let name = |value: &Value| {
        let name = text(value)?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'_');
        (!name.is_empty() && name.len() <= SHOWN_MAX && name.bytes().all(fits)).then(|| name.to_owned())
    };
    match value {
        Value::List(items) => {
            let (host, port) = (name(items.first()?)?, items.get(1).and_then(number)?);
            Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
        }
        other => name(other),
    }
}

/// Returns the program of a command: the first of a list, the first word of a line.
fn program(value: &Value) -> Option<String> {
    match value {
        Value::List(items) => program(items.first()?),
        Value::Text(line) => {
            // `PASSWORD=... command`
            let word = line.split_ascii_whitespace().find(|word| !word.contains('='))?;
            Some(cut(word, SHOWN_MAX).to_owned())
        }
        _ => None,
    }
}

fn function(value: &Value) -> Option<String> {
    let Value::Function(name) = value else { return None };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (!name.is_empty() && name.len() <= SHOWN_MAX && name.bytes().all(fits)).then(|| name.clone())
}

fn entry<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Entries(entries) = value else { return None };
    entries.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn environ(value: &Value) -> BTreeMap<String, String> {
    let get = |name: &str| entry(value, name).and_then(text);
    let target = get("RAW_URI").filter(|uri| !uri.is_empty());
    let path = target.map(path_of).or(get("PATH_INFO"));
    let query = target.and_then(|uri| uri.split_once('?')).map(|(_, query)| query).or(get("QUERY_STRING"));
    request(get("REQUEST_METHOD"), path, query, get("REMOTE_ADDR"), get("REMOTE_PORT").map(str::to_owned))
}

fn scope(value: &Value) -> BTreeMap<String, String> {
    let get = |name: &str| entry(value, name).and_then(text);
    if !matches!(get("type"), Some("http" | "websocket")) {
        return BTreeMap::new();
    }
    let (address, port) = match entry(value, "client") {
        Some(Value::List(pair)) => (pair.first().and_then(text), pair.get(1).and_then(number)),
        _ => (None, None),
    };
    let method = get("method").or(Some("GET"));
    request(method, get("path"), get("query_string"), address, port)
}

fn request(
    method: Option<&str>,
    path: Option<&str>,
    query: Option<&str>,
    address: Option<&str>,
    port: Option<String>,
) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::new();
    // Something else may have the same name.
    let (Some(method), Some(path)) = (method.filter(|method| is_word(method)), path) else { return shown };
    shown.insert("REQUEST_METHOD".to_owned(), method.to_owned());
    shown.insert("PATH".to_owned(), cut(path, SHOWN_MAX).to_owned());
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        shown.insert("QUERY".to_owned(), cut(&record::redacted(query), SHOWN_MAX).to_owned());
    }
    if let Some(address) = address.filter(|address| !address.is_empty() && address.len() <= 64) {
        shown.insert("REMOTE_ADDR".to_owned(), address.to_owned());
    }
    let is_port =
        |port: &String| !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    if let Some(port) = port.filter(is_port) {
        shown.insert("REMOTE_PORT".to_owned(), port);
    }
    shown
}

/// Returns the path of a request's target: `/a?b`, `http://host/a?b`, `*`.
pub fn path_of(target: &str) -> &str {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    let Some((_, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) else {
        return target;
    };
    rest.find('/').map_or("/", |at| &rest[at..])
}

/// Cuts a text at a number of bytes, between characters.
pub fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(file: &str, function: &str) -> Frame {
        Frame { file: file.into(), function: function.into(), ..Frame::default() }
    }

    fn show(show: Show, value: &Value) -> String {
        let shown = shown(&of("", "", "it", show), value);
        shown.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    fn entries(pairs: &[(&str, Value)]) -> Value {
        Value::Entries(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    }

    #[test]
    fn a_variable_belongs_to_one_function_of_one_library() {
        const LIBRARY: &str = "/venv/lib/python3.12/site-packages";
        let names = |file: &str, function: &str| -> Vec<&str> {
            of_frame(&frame(file, function)).map(|local| local.name).collect()
        };
        let adapter = format!("{LIBRARY}/requests/adapters.py");
        assert_eq!(names(&adapter, "HTTPAdapter.send"), ["environ", "scope", "timeout", "url"]);
        assert_eq!(names(&adapter, "send"), ["environ", "scope", "timeout", "url"], "CPython 3.10");
        assert_eq!(names(&adapter, "HTTPAdapter.close"), ["environ", "scope"]);
        assert_eq!(names("/srv/requests/adapters.py", "HTTPAdapter.send"), [""; 0], "the application's own");
        assert_eq!(names("/srv/app.py", "login"), [""; 0]);
        assert_eq!(names("<string>", "login"), [""; 0]);
    }

    #[test]
    fn each_is_shown_without_what_is_secret() {
        let text = |text: &str| Value::Text(text.to_owned());
        let table = [
            (Show::Number, Value::None, "it=None"),
            (Show::Number, Value::Float(5.0), "it=5.0"),
            (Show::Number, Value::Bool(true), "it=True"),
            (Show::Number, Value::List(vec![Value::Int(3), Value::None]), "it=(3, None)"),
            (Show::Number, text("secret"), ""),
            (Show::Number, Value::Object("Timeout".into()), ""),
            (Show::Word, text("HGETALL"), "it=HGETALL"),
            (Show::Word, text("a=b"), ""),
            (Show::Url, text("https://me:pw@host:8/p/q?token=1#x"), "it=https://host:8/p/q"),
            (Show::Url, text("postgresql://u:p%40@h/db"), "it=postgresql://h/db"),
            (Show::Url, text("/slow?x=1"), "it=/slow"),
            (Show::Url, text("http://a@b@host"), "it=http://host"),
            (Show::Host, Value::List(vec![text("db.local"), Value::Int(5432)]), "it=db.local:5432"),
            (Show::Host, Value::List(vec![text("::1"), Value::Int(53)]), "it=[::1]:53"),
            (Show::Host, text("api.example.com"), "it=api.example.com"),
            (Show::Sql, text("select 'x'"), "it=select $1"),
            (Show::Function, Value::Function("read_rates".into()), "it=read_rates"),
            (Show::Function, Value::Function("<lambda>".into()), ""),
            (Show::Function, text("read_rates"), ""),
            (
                Show::Program,
                Value::List(vec![Value::List(vec![text("pg_dump"), text("--password=x")])]),
                "it=pg_dump",
            ),
            (Show::Program, text("PGPASSWORD=x psql -c y"), "it=psql"),
            (Show::Environ, Value::None, ""),
        ];
        for (how, value, expected) in table {
            assert_eq!(show(how, &value), expected, "{how:?} {value:?}");
        }
    }

    #[test]
    fn a_request_is_shown_by_method_and_path() {
        let text = |text: &str| Value::Text(text.to_owned());
        let environ = entries(&[
            ("REQUEST_METHOD", text("POST")),
            ("RAW_URI", text("/reports/7?token=s3cret&x")),
            ("REMOTE_ADDR", text("10.0.0.7")),
            ("REMOTE_PORT", text("40000")),
        ]);
        assert_eq!(
            show(Show::Environ, &environ),
            "PATH=/reports/7 QUERY=token=*&* REMOTE_ADDR=10.0.0.7 REMOTE_PORT=40000 REQUEST_METHOD=POST"
        );
        let scope = entries(&[
            ("type", text("http")),
            ("method", text("GET")),
            ("path", text("/a")),
            ("query_string", text("k=v")),
            ("client", Value::List(vec![text("::1"), Value::Int(5)])),
        ]);
        assert_eq!(
            show(Show::Scope, &scope),
            "PATH=/a QUERY=k=* REMOTE_ADDR=::1 REMOTE_PORT=5 REQUEST_METHOD=GET"
        );
        assert_eq!(show(Show::Scope, &entries(&[("type", text("lifespan"))])), "");
        assert_eq!(
            show(Show::Environ, &entries(&[("REQUEST_METHOD", text("a b=c")), ("PATH_INFO", text("/"))])),
            ""
        );
        let unix = entries(&[
            ("REQUEST_METHOD", text("GET")),
            ("RAW_URI", text("http://h/x")),
            ("REMOTE_ADDR", text("")),
            ("REMOTE_PORT", text("None")),
        ]);
        assert_eq!(show(Show::Environ, &unix), "PATH=/x REQUEST_METHOD=GET");
    }

    #[test]
    fn the_table_is_of_libraries_and_names_each_once() {
        let mut seen = std::collections::BTreeSet::new();
        for local in TABLE {
            assert!(
                local.file.is_empty() || local.file.starts_with('/') && local.file.ends_with(".py"),
                "{local:?}"
            );
            assert!(seen.insert((local.file, local.function, local.name)), "{local:?} stands twice");
            // Without a file, only entries of a dictionary that are named are read.
            assert!(!local.file.is_empty() || !local.show.keys().is_empty(), "{local:?}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::None),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_map(Value::Float),
            "\\PC{0,300}".prop_map(Value::Text),
            "[a-z]{1,9}".prop_map(Value::Object),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            let keys =
                prop::sample::select(vec!["REQUEST_METHOD", "RAW_URI", "type", "client", "path", "method"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::vec((keys.prop_map(str::to_owned), inner), 0..6).prop_map(Value::Entries),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_shown_short_or_not_at_all(value in values()) {
            for local in TABLE {
                for text in shown(local, &value).values() {
                    prop_assert!(text.len() <= sql::TEXT_MAX + 4);
                    prop_assert!(local.show == Show::Sql || text.len() <= SHOWN_MAX + 24, "{}", text);
                }
            }
        }

        #[test]
        fn no_query_and_no_credentials_are_shown(url in "(https?://)?([a-z]{1,5}:SECRET[a-z@:]{0,9}@)[a-z.]{1,9}(/[a-z]{0,5}){0,3}(\\?SECRET.{0,20})?") {
            let text = show(Show::Url, &Value::Text(url.clone()));
            prop_assert!(!text.contains("SECRET"), "{} -> {}", url, text);
        }
    }
}
