"""An ASGI application that uses asyncio and anyio as frameworks do. Each path answers ``ok``, or what was wrong."""

import asyncio
import contextvars
import os
import signal
import sys
import threading
import time

import anyio
import anyio.from_thread
import anyio.to_thread
import sniffio
from asgi_paths import Paths, query, read, reply

VARIABLE = contextvars.ContextVar("variable", default="unset")
LOOPS = set()


class Checks(Paths):
    """Looks at the task before anything else runs in it."""

    async def __call__(self, scope, receive, send):
        task = asyncio.current_task()
        if scope["type"] == "http":
            assert isinstance(task, asyncio.Task), task
            assert task in asyncio.all_tasks()
            assert sniffio.current_async_library() == "asyncio"
        await super().__call__(scope, receive, send)


app = Checks()


def check(function):
    """Serves a check: what it returns is the answer."""

    async def endpoint(scope, receive, send):
        await reply(send, await function() or "ok")

    app[function.__name__] = endpoint
    return function


@check
async def current_task():
    task = asyncio.current_task()
    await asyncio.sleep(0)
    assert asyncio.current_task() is task
    assert not task.done() and not task.cancelled() and task.get_name()
    assert task.get_coro() is not None and task.get_stack()
    assert asyncio.get_running_loop() is asyncio.get_event_loop() is task.get_loop()
    assert threading.current_thread() is threading.main_thread()
    LOOPS.add(id(asyncio.get_running_loop()))
    assert len(LOOPS) == 1


@check
async def task_can_be_cancelled_by_the_application():
    task = asyncio.current_task()
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        getattr(task, "uncancel", int)()
        return "ok"
    return "not cancelled"


@check
async def child_tasks():
    async def child(number):
        await asyncio.sleep(0.001 * number)
        return number

    tasks = [asyncio.create_task(child(number), name=f"child {number}") for number in range(5)]
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]
    done, pending = await asyncio.wait([asyncio.create_task(child(number)) for number in (0, 50)], timeout=0.02)
    assert (len(done), len(pending)) == (1, 1)
    for task in pending:
        task.cancel()
    assert [await result for result in asyncio.as_completed([child(2), child(1)])] == [1, 2]


@check
async def timeouts():
    begun = time.monotonic()
    try:
        await asyncio.wait_for(asyncio.sleep(5), 0.05)
        return "no timeout"
    except asyncio.TimeoutError:
        pass
    if sys.version_info >= (3, 11):
        try:
            async with asyncio.timeout(0.05):
                await asyncio.sleep(5)
            return "no timeout"
        except TimeoutError:
            pass
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
    assert 0.09 < time.monotonic() - begun < 1.0


@check
async def timers():
    """In order, and neither early nor much too late."""
    loop, seen, begun = asyncio.get_running_loop(), [], time.monotonic()
    event = asyncio.Event()
    for delay in (0.03, 0.01, 0.02):
        loop.call_later(delay, seen.append, delay)
    loop.call_at(loop.time() + 0.04, event.set)
    loop.call_soon(seen.append, "soon")
    loop.call_later(0.001, seen.append, "cancelled").cancel()
    await event.wait()
    assert seen == ["soon", 0.01, 0.02, 0.03], seen
    assert 0.035 < time.monotonic() - begun < 0.5


@check
async def threads():
    loop, here = asyncio.get_running_loop(), threading.get_ident()
    VARIABLE.set("for the thread")
    assert await loop.run_in_executor(None, threading.get_ident) != here
    assert await asyncio.to_thread(VARIABLE.get) == "for the thread"
    event = asyncio.Event()
    threading.Thread(target=loop.call_soon_threadsafe, args=(event.set,)).start()
    await asyncio.wait_for(event.wait(), 2)
    future = await loop.run_in_executor(None, lambda: asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "back"), loop))
    assert await asyncio.wrap_future(future) == "back"


@check
async def subprocesses():
    code = "import sys; print(sys.stdin.read().upper()); sys.exit(7)"

    async def run(text):
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, "-Ic", code, stdin=pipe, stdout=pipe)
        output, _ = await process.communicate(text)
        return output.strip(), process.returncode

    assert await asyncio.gather(run(b"one"), run(b"two")) == [(b"ONE", 7), (b"TWO", 7)]
    process = await asyncio.create_subprocess_shell("exec sleep 5")
    process.terminate()
    assert await process.wait() == -signal.SIGTERM


@check
async def signals():
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR2, event.set)
    os.kill(os.getpid(), signal.SIGUSR2)
    await asyncio.wait_for(event.wait(), 2)
    loop.remove_signal_handler(signal.SIGUSR2)


@check
async def streams():
    """The loop serves other sockets beside the server's."""

    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\n")
    assert await reader.read() == b"LINE\n"
    writer.close()
    server.close()
    await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)


@check
async def readers_and_writers():
    read, write = os.pipe()
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(read, event.set)
    loop.add_writer(write, os.write, write, b"x")
    await asyncio.wait_for(event.wait(), 2)
    loop.remove_writer(write), loop.remove_reader(read)
    os.close(read), os.close(write)


@check
async def exception_handler():
    loop, seen = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda loop, context: seen.append(type(context["exception"])))
    try:
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.01)
    finally:
        loop.set_exception_handler(None)
    assert seen == [ZeroDivisionError], seen


@check
async def locks():
    lock, queue, semaphore = asyncio.Lock(), asyncio.Queue(1), asyncio.Semaphore(2)

    async def produce():
        for number in range(5):
            async with lock, semaphore:
                await queue.put(number)

    task = asyncio.create_task(produce())
    assert [await queue.get() for _ in range(5)] == [0, 1, 2, 3, 4]
    await task


@check
async def async_generators():
    closed = []

    async def numbers():
        try:
            for number in range(10):
                yield number
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    async for number in numbers():
        if number == 2:
            break
    for _ in range(3):
        await asyncio.sleep(0)
    assert closed == [True]


# anyio


@check
async def anyio_groups():
    seen = []

    async def child(number, *, task_status=anyio.TASK_STATUS_IGNORED):
        task_status.started(number)
        await anyio.sleep(0.001)
        seen.append(number)

    async with anyio.create_task_group() as group:
        assert await group.start(child, 1) == 1
        group.start_soon(child, 2)
    assert sorted(seen) == [1, 2]
    assert anyio.get_current_task().id == id(asyncio.current_task())


@check
async def anyio_scopes():
    with anyio.move_on_after(0.02) as scope:
        await anyio.sleep(5)
    assert scope.cancelled_caught
    try:
        with anyio.fail_after(0.02):
            await anyio.sleep(5)
        return "no timeout"
    except TimeoutError:
        pass
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0)


@check
async def anyio_threads():
    assert await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(asyncio.sleep, 0, "back")) == "back"
    first, second = anyio.create_memory_object_stream(1)
    await first.send("item")
    assert await second.receive() == "item"
    first.close(), second.close()
    process = await anyio.run_process([sys.executable, "-Ic", "print('out')"])
    assert process.stdout == b"out\n"


# context variables


@app.path
async def variable(scope, receive, send):
    """Sets it, sleeps, reads it again; also from a child task and a thread."""
    before = VARIABLE.get()
    VARIABLE.set(query(scope))
    await read(receive)
    await asyncio.sleep(0.02)

    async def child():
        seen = VARIABLE.get()
        VARIABLE.set("child's own")
        return seen

    inside = await asyncio.create_task(child())
    await reply(send, [before, VARIABLE.get(), inside, await asyncio.to_thread(VARIABLE.get)])


@app.path
async def token(scope, receive, send):
    """A token of set() is valid across receive() and send(): all is one context."""
    mark = VARIABLE.set("inside")
    body = await read(receive)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    VARIABLE.reset(mark)
    await send({"type": "http.response.body", "body": VARIABLE.get().encode()})


@app.path
async def loop(scope, receive, send):
    await reply(send, type(asyncio.get_running_loop()).__module__.partition(".")[0].encode())


@app.path
async def blocks(scope, receive, send):
    """Blocks the loop for so long."""
    time.sleep(float(query(scope)))
    await reply(send, b"blocked")


@app.path
async def hello(scope, receive, send):
    await reply(send, b"hello")
