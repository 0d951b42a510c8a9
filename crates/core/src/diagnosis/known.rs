//! What calls of well-known Python code mean: a table of files and functions of the standard library and of packages that are
//! in wide use. Paths are compared at their end, so that it does not matter where they are installed. Not for: what an
//! application's own code does.

use crate::evidence::{Frame, Service};

/// What a call is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Speaks HTTP to another service.
    Http,
    /// Speaks to a database, a cache or a broker.
    Driver(Service),
    /// Waits for a free connection of a pool.
    Pool,
    /// Waits for a condition, a queue or a lock: the machinery of other waits.
    Machinery,
    /// Tries again what has failed.
    Retry,
    /// Begins TLS.
    Tls,
    /// Looks up a name.
    Dns,
    /// Waits for a process.
    Subprocess,
    /// Waits for what another thread makes.
    Result,
    /// Sleeps.
    Sleep,
    /// Makes objects of rows.
    Rows,
    /// Runs a regular expression.
    Regex,
    /// Turns an event loop.
    Loop,
}

/// End of the file's path, functions (none for all), meaning. The first line that fits counts.
const KNOWN: &[(&str, &[&str], Call)] = &[
    ("sqlalchemy/pool/impl.py", &["_do_get"], Call::Pool),
    ("psycopg_pool/pool.py", &["getconn", "_getconn_unchecked", "_getconn_with_check_loop"], Call::Pool),
    (
        "psycopg_pool/pool_async.py",
        &["getconn", "_getconn_unchecked", "_getconn_with_check_loop"],
        Call::Pool,
    ),
    ("asyncpg/pool.py", &["_acquire", "_acquire_impl"], Call::Pool),
    ("redis/connection.py", &["get_connection"], Call::Pool),
    ("redis/asyncio/connection.py", &["get_connection"], Call::Pool),
    ("urllib3/connectionpool.py", &["_get_conn"], Call::Pool),
    ("httpcore/_sync/connection_pool.py", &["wait_for_connection"], Call::Pool),
    ("httpcore/_async/connection_pool.py", &["wait_for_connection"], Call::Pool),
    ("dbutils/pooled_db.py", &["connection", "_wait_lock"], Call::Pool),
    ("pymongo/pool.py", &["checkout", "_get_conn", "_get_socket"], Call::Pool),
    ("pymongo/synchronous/pool.py", &["checkout", "_get_conn"], Call::Pool),
    ("psycopg_pool/_acompat.py", &[], Call::Machinery),
    ("psycopg_pool/pool.py", &["wait"], Call::Machinery),
    ("psycopg_pool/pool_async.py", &["wait"], Call::Machinery),
    ("sqlalchemy/util/queue.py", &[], Call::Machinery),
    ("sqlalchemy/util/concurrency.py", &[], Call::Machinery),
    ("sqlalchemy/util/_concurrency_py3k.py", &[], Call::Machinery),
    ("/threading.py", &["wait", "wait_for", "acquire", "__enter__", "_acquire_restore"], Call::Machinery),
    ("/threading.py", &["join", "_wait_for_tstate_lock"], Call::Result),
    ("httpcore/_synchronization.py", &[], Call::Machinery),
    ("asyncio/locks.py", &[], Call::Machinery),
    ("asyncio/queues.py", &[], Call::Machinery),
    ("asyncio/timeouts.py", &[], Call::Machinery),
    ("/contextlib.py", &[], Call::Machinery),
    ("asyncio/tasks.py", &["wait_for", "_wait", "wait", "shield"], Call::Machinery),
    ("urllib3/util/retry.py", &["sleep", "_sleep_backoff", "sleep_for_retry", "increment"], Call::Retry),
    ("tenacity/nap.py", &[], Call::Retry),
    ("tenacity/__init__.py", &["__call__", "wrapped_f", "sleep"], Call::Retry),
    ("tenacity/asyncio/__init__.py", &["__call__", "async_wrapped", "_portable_async_sleep"], Call::Retry),
    ("backoff/_sync.py", &["retry"], Call::Retry),
    ("backoff/_async.py", &["retry"], Call::Retry),
    ("/retrying.py", &["call", "wrapped_f"], Call::Retry),
    ("retry/api.py", &["__retry_internal"], Call::Retry),
    ("redis/retry.py", &["call_with_retry"], Call::Retry),
    ("kombu/utils/functional.py", &["retry_over_time"], Call::Retry),
    ("/ssl.py", &["do_handshake"], Call::Tls),
    ("anyio/streams/tls.py", &["wrap"], Call::Tls),
    ("httpcore/_backends/sync.py", &["start_tls"], Call::Tls),
    ("httpcore/_backends/anyio.py", &["start_tls"], Call::Tls),
    ("httpcore/_backends/auto.py", &["start_tls"], Call::Tls),
    ("asyncio/base_events.py", &["start_tls", "_create_connection_transport"], Call::Tls),
    ("/socket.py", &["getaddrinfo"], Call::Dns),
    ("asyncio/base_events.py", &["getaddrinfo", "_ensure_resolved"], Call::Dns),
    ("anyio/_core/_sockets.py", &["getaddrinfo"], Call::Dns),
    ("gevent/resolver/thread.py", &[], Call::Dns),
    ("/subprocess.py", &[], Call::Subprocess),
    ("asyncio/subprocess.py", &[], Call::Subprocess),
    ("gevent/subprocess.py", &[], Call::Subprocess),
    ("multiprocessing/popen_fork.py", &[], Call::Subprocess),
    ("multiprocessing/process.py", &["join"], Call::Subprocess),
    ("/queue.py", &["get", "put", "join"], Call::Result),
    ("concurrent/futures/_base.py", &["result", "wait", "exception", "as_completed"], Call::Result),
    ("concurrent/futures/thread.py", &["shutdown"], Call::Result),
    ("multiprocessing/pool.py", &["get", "wait"], Call::Result),
    ("celery/result.py", &["get", "join", "join_native", "wait_for_pending"], Call::Result),
    ("anyio/to_thread.py", &["run_sync"], Call::Result),
    ("anyio/_backends/_asyncio.py", &["run_sync_in_worker_thread"], Call::Result),
    ("starlette/concurrency.py", &["run_in_threadpool"], Call::Result),
    ("asyncio/threads.py", &["to_thread"], Call::Result),
    ("asgiref/sync.py", &["__call__"], Call::Result),
    ("asyncio/tasks.py", &["sleep"], Call::Sleep),
    ("anyio/_core/_eventloop.py", &["sleep", "sleep_until", "sleep_forever"], Call::Sleep),
    ("anyio/_backends/_asyncio.py", &["sleep"], Call::Sleep),
    ("gevent/hub.py", &["sleep"], Call::Sleep),
    ("sqlalchemy/orm/loading.py", &[], Call::Rows),
    ("sqlalchemy/orm/strategies.py", &["load_collection_from_subq", "_load_for_path"], Call::Rows),
    (
        "sqlalchemy/engine/result.py",
        &[
            "all",
            "fetchall",
            "fetchmany",
            "_allrows",
            "allrows",
            "manyrows",
            "_raw_all_rows",
            "iterrows",
            "chunks",
        ],
        Call::Rows,
    ),
    ("sqlalchemy/engine/cursor.py", &["fetchall", "fetchmany", "fetchone", "_fetchall_impl"], Call::Rows),
    ("sqlalchemy/engine/_py_row.py", &[], Call::Rows),
    ("django/db/models/query.py", &["__iter__", "_fetch_all", "_iterator"], Call::Rows),
    (
        "django/db/models/sql/compiler.py",
        &["results_iter", "cursor_iter", "apply_converters", "has_results", "composite_fields_to_tuples"],
        Call::Rows,
    ),
    ("django/db/models/base.py", &["from_db", "__init__"], Call::Rows),
    ("django/db/utils.py", &["inner"], Call::Machinery),
    ("psycopg/cursor.py", &["fetchall", "fetchmany", "fetchone", "__iter__"], Call::Rows),
    ("psycopg/cursor_async.py", &["fetchall", "fetchmany", "fetchone", "__aiter__"], Call::Rows),
    ("psycopg/_py_transformer.py", &[], Call::Rows),
    ("pymysql/cursors.py", &["fetchall", "_do_get_result", "fetchmany"], Call::Rows),
    ("pymysql/connections.py", &["_read_rowdata_packet", "_read_row_from_packet"], Call::Rows),
    ("/re.py", &["match", "search", "sub", "subn", "fullmatch", "findall", "finditer", "split"], Call::Regex),
    (
        "re/__init__.py",
        &["match", "search", "sub", "subn", "fullmatch", "findall", "finditer", "split"],
        Call::Regex,
    ),
    ("regex/regex.py", &[], Call::Regex),
    ("regex/_main.py", &[], Call::Regex),
    ("asyncio/base_events.py", &["_run_once", "run_forever", "run_until_complete"], Call::Loop),
    ("asyncio/events.py", &["_run"], Call::Loop),
    ("asyncio/runners.py", &[], Call::Loop),
    ("/selectors.py", &["select"], Call::Loop),
    ("gevent/hub.py", &["run", "switch"], Call::Loop),
    ("/psycopg/", &[], Call::Driver(Service::Postgres)),
    ("/psycopg2/", &[], Call::Driver(Service::Postgres)),
    ("/psycogreen/", &[], Call::Driver(Service::Postgres)),
    ("/asyncpg/", &[], Call::Driver(Service::Postgres)),
    ("/aiopg/", &[], Call::Driver(Service::Postgres)),
    ("django/db/backends/postgresql/", &[], Call::Driver(Service::Postgres)),
    ("sqlalchemy/dialects/postgresql/", &[], Call::Driver(Service::Postgres)),
    ("/pymysql/", &[], Call::Driver(Service::Mysql)),
    ("/MySQLdb/", &[], Call::Driver(Service::Mysql)),
    ("/aiomysql/", &[], Call::Driver(Service::Mysql)),
    ("/asyncmy/", &[], Call::Driver(Service::Mysql)),
    ("mysql/connector/", &[], Call::Driver(Service::Mysql)),
    ("/redis/", &[], Call::Driver(Service::Redis)),
    ("/pymemcache/", &[], Call::Driver(Service::Memcached)),
    ("/pylibmc/", &[], Call::Driver(Service::Memcached)),
    ("/amqp/", &[], Call::Driver(Service::Amqp)),
    ("/pika/", &[], Call::Driver(Service::Amqp)),
    ("/kombu/", &[], Call::Driver(Service::Amqp)),
    ("/pymongo/", &[], Call::Driver(Service::Mongo)),
    ("/requests/", &[], Call::Http),
    ("/urllib3/", &[], Call::Http),
    ("/http/client.py", &[], Call::Http),
    ("/urllib/request.py", &[], Call::Http),
    ("/httpx/", &[], Call::Http),
    ("/httpcore/", &[], Call::Http),
    ("/aiohttp/", &[], Call::Http),
    ("/botocore/", &[], Call::Http),
    ("/grpc/", &[], Call::Http),
    ("/smtplib.py", &[], Call::Http),
];

/// Returns what a call is there for, if it is known.
pub(super) fn call(frame: &Frame) -> Option<Call> {
    // Qualified from CPython 3.11 on: `QueuePool._do_get`.
    let function = frame.function.rsplit('.').next().unwrap_or_default();
    let fits = |end: &str| match end.ends_with('/') {
        true => frame.file.contains(end),
        false => frame.file.ends_with(end),
    };
    let row = KNOWN
        .iter()
        .find(|(end, functions, _)| fits(end) && (functions.is_empty() || functions.contains(&function)));
    row.map(|(.., call)| *call)
}

/// Tells whether an application's own code is at work on this stack.
pub(super) fn has_application(frames: &[Frame]) -> bool {
    frames.iter().any(Frame::is_application)
}

/// The calls inside the application's innermost own one: what it has called.
pub(super) fn called(frames: &[Frame]) -> &[Frame] {
    let at = frames.iter().position(Frame::is_application).unwrap_or(frames.len());
    &frames[..at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_wherever_they_are_installed() {
        let of = |file: &str, function: &str| {
            call(&Frame { file: file.into(), function: function.into(), ..Frame::default() })
        };
        let site = "/srv/venv/lib/python3.12/site-packages";
        let table = [
            (format!("{site}/sqlalchemy/pool/impl.py"), "QueuePool._do_get", Some(Call::Pool)),
            (format!("{site}/sqlalchemy/pool/base.py"), "connect", None),
            (
                format!("{site}/psycopg/connection.py"),
                "Connection.wait",
                Some(Call::Driver(Service::Postgres)),
            ),
            (format!("{site}/psycopg_pool/pool.py"), "ConnectionPool.getconn", Some(Call::Pool)),
            ("/usr/lib/python3.11/socket.py".into(), "SocketIO.readinto", None),
            ("/usr/lib/python3.11/socket.py".into(), "getaddrinfo", Some(Call::Dns)),
            ("/usr/lib/python3.11/re/__init__.py".into(), "match", Some(Call::Regex)),
            ("/usr/lib/python3.10/re.py".into(), "search", Some(Call::Regex)),
            ("/srv/shop/re.py".into(), "price", None),
            ("/srv/shop/views.py".into(), "report", None),
        ];
        for (file, function, expected) in table {
            assert_eq!(of(&file, function), expected, "{file} {function}");
        }
    }
}
