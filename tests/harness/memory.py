"""A control group with little memory, of either version. Not for what happens to who needs more."""

import contextlib
import os
import time
from pathlib import Path

ROOTS = [(Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")]
PATIENCE = 20


class Group:
    """A control group that is there."""

    def __init__(self, folder):
        self.processes = folder / "cgroup.procs"

    @property
    def prefix(self):
        """What makes a command run in it."""
        return ["sh", "-c", f'echo $$ > {self.processes} && exec "$@"', "sh"]

    def take_in(self, pids):
        """Moves processes into it; their children are born there."""
        for pid in pids:
            # Who has ended needs no memory.
            with contextlib.suppress(ProcessLookupError):
                self.processes.write_text(str(pid))

    def empty(self):
        """Moves who is left out of it."""
        outside = Group(self.processes.parents[1])
        end = time.monotonic() + PATIENCE
        while pids := self.processes.read_text().split():
            assert time.monotonic() < end, f"the control group does not get empty: {pids}"
            outside.take_in(pids)
            time.sleep(0.02)


@contextlib.contextmanager
def memory_limit(megabytes):
    """A control group with so much memory at most; none where that cannot be had."""
    root, limit = next(each for each in ROOTS if each[0].exists())
    folder = root / f"ferricorn-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / limit).write_text(str(megabytes << 20))
    except OSError:
        if folder.exists():
            folder.rmdir()
        yield None
        return
    group = Group(folder)
    try:
        yield group
    finally:
        group.empty()
        folder.rmdir()
