"""The shop's visitors: an open-loop client in a process of its own. Sends on schedule, whether or not answers came.

`python -m reflex.load PLAN` reads a plan (JSON) and takes commands as lines of JSON from stdin until one says `stop`. Every
request becomes a line of the plan's `output`. Not for: measuring how fast a server is (`openloop`)."""

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from .children import ended, started

# Given up by whoever sits before the screen.
PATIENCE = 20
# Requests of one flow that are on their way at once; more are not sent, and noted as such.
MOST = 120


class Visitors:
    """What a cell has of the process: starts it, tells it, reads what came of it."""

    def __init__(self, port, flows, folder, seed):
        self._output = Path(folder, "visits.jsonl")
        plan = {"port": port, "flows": flows, "seed": seed, "output": str(self._output)}
        path = Path(folder, "visits.json")
        path.write_text(json.dumps(plan))
        self._command = [sys.executable, "-m", "reflex.load", path]
        self._log = Path(folder, "visits.log")

    def __enter__(self):
        bench = Path(__file__).resolve().parent.parent
        self._process = started(self._command, self._log, stdin=subprocess.PIPE, text=True, cwd=bench)
        return self

    def tell(self, **command):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()

    def change(self, flow, **what):
        """Another rate, other paths or other bodies of a flow, from now on."""
        self.tell(change=flow, **what)

    def burst(self, requests):
        """Requests that are sent at once; each as `{"flow", "method", "path", "body"}`."""
        self.tell(burst=requests)

    def stop(self):
        """Every request that was begun."""
        self.tell(stop=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        return [json.loads(line) for line in self._output.read_text().splitlines()]

    def __exit__(self, *_):
        ended(self._process)


class _Client:
    def __init__(self, plan):
        self._port = plan["port"]
        self._flows = {flow["flow"]: flow for flow in plan["flows"]}
        self._random = random.Random(plan["seed"])
        self._output = open(plan["output"], "w")
        self._running = {}
        self._tasks = set()

    async def run(self):
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        flows = [asyncio.ensure_future(self._flow(name)) for name in self._flows]
        listening = asyncio.ensure_future(self._listen(reader, stopped))
        await stopped.wait()
        for task in [*flows, listening, *self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._output.close()

    async def _listen(self, reader, stopped):
        while line := await reader.readline():
            command = json.loads(line)
            if "change" in command:
                self._flows[command.pop("change")].update(command)
            for request in command.get("burst", ()):
                self._begin(request)
            if "stop" in command:
                break
        stopped.set()

    async def _flow(self, name):
        next_at = time.monotonic()
        while True:
            flow = self._flows[name]
            if not flow["rate"]:
                await asyncio.sleep(0.05)
                next_at = time.monotonic()
                continue
            # Even over time, and yet never in step with anything.
            next_at += self._random.uniform(0.5, 1.5) / flow["rate"]
            await asyncio.sleep(max(0, next_at - time.monotonic()))
            bodies = flow.get("bodies") or [""]
            self._begin({**flow, "path": self._random.choice(flow["paths"]), "body": self._random.choice(bodies)})

    def _begin(self, request):
        name = request["flow"]
        if self._running.get(name, 0) >= MOST:
            return
        self._running[name] = self._running.get(name, 0) + 1
        task = asyncio.ensure_future(self._visit(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _visit(self, request):
        begun, at = time.monotonic(), time.time()
        try:
            status, error = await asyncio.wait_for(self._ask(request), PATIENCE), None
        except (OSError, ValueError, EOFError, asyncio.TimeoutError) as failure:
            status, error = None, type(failure).__name__
        except asyncio.CancelledError:
            status, error = None, "unanswered"
        self._running[request["flow"]] -= 1
        took = round(time.monotonic() - begun, 4)
        line = {"flow": request["flow"], "path": request["path"], "at": at, "took": took, "status": status, "error": error}
        self._output.write(json.dumps(line) + "\n")
        self._output.flush()

    async def _ask(self, request):
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            body = request.get("body", "").encode()
            head = f"{request.get('method', 'GET')} {request['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            if body:
                head += f"Content-Type: {request['type']}\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}\r\n".encode() + body)
            status, length = (await reader.readline()).split(), None
            while (line := await reader.readline()).strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line[15:])
            got = 0
            while piece := await reader.read(65536):
                got += len(piece)
            # Nothing at all, or less than was promised.
            if len(status) < 2 or length is not None and got < length:
                raise EOFError
            return int(status[1])
        finally:
            writer.close()


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        asyncio.run(_Client(json.load(file)).run())
