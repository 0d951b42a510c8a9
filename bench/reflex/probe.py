"""What the kernel shows of processes, read from /proc by the benchmark itself: proof that a fault is what it claims to be.

Deliberately not the product's own reading of the same: that is what is under test."""

import os
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

# Of x86-64 and of aarch64: those that faults wait in.
_CALLS = {
    "x86_64": {
        0: "read", 1: "write", 7: "poll", 42: "connect", 44: "sendto", 45: "recvfrom", 47: "recvmsg", 61: "wait4", 73: "flock",
        74: "fsync", 202: "futex", 230: "clock_nanosleep", 232: "epoll_wait", 247: "waitid", 257: "openat", 270: "pselect6",
        271: "ppoll", 281: "epoll_pwait", 46: "sendmsg", 23: "select", 20: "writev", 72: "fcntl", 299: "recvmmsg",
    },
    "aarch64": {
        63: "read", 64: "write", 73: "ppoll", 203: "connect", 206: "sendto", 207: "recvfrom", 212: "recvmsg", 260: "wait4",
        32: "flock", 82: "fsync", 98: "futex", 115: "clock_nanosleep", 22: "epoll_pwait", 95: "waitid", 56: "openat",
        72: "pselect6", 211: "sendmsg", 66: "writev", 25: "fcntl",
    },
}
_STATES = {1: "established", 2: "syn-sent", 6: "time-wait", 8: "close-wait", 10: "listen"}
_WITH_DESCRIPTOR = {"read", "write", "connect", "sendto", "recvfrom", "recvmsg", "sendmsg", "flock", "fsync", "fcntl", "writev"}


@dataclass
class Socket:
    """A socket of a process."""

    local: int
    peer: int
    state: str
    kind: str = "tcp"


@dataclass
class Thread:
    """A thread, at one moment."""

    pid: int
    tid: int
    state: str
    call: str
    wchan: str
    cpu_s: float
    # How long the call waits at most, ms; -1 for ever; None where it has no such argument.
    patience_ms: int | None = None
    # The socket it waits for, as far as that can be told, or the file's path.
    socket: Socket | None = None
    path: str = ""
    sockets: list = field(default_factory=list)

    def __str__(self):
        where = f" {self.socket.state} :{self.socket.peer}" if self.socket else f" {self.path}" if self.path else ""
        patience = "" if self.patience_ms is None else f"({self.patience_ms})"
        return f"{self.state} {self.call or 'running'}{patience}{where} ({self.wchan})"


def threads(pids):
    """All threads of these processes."""
    found = []
    for pid in pids:
        sockets = sockets_of(pid)
        try:
            tids = [int(tid) for tid in os.listdir(f"/proc/{pid}/task")]
        except OSError:
            continue
        for tid in tids:
            if thread := _thread(pid, tid, sockets):
                found.append(thread)
    return found


def _thread(pid, tid, sockets):
    task = Path(f"/proc/{pid}/task/{tid}")
    try:
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        call, wchan = (task / "syscall").read_text().split(), (task / "wchan").read_text()
    except OSError:
        return None
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    thread = Thread(pid, tid, fields[0], "", wchan, cpu, sockets=list(sockets.values()))
    if call[0] in ("running", "-1"):
        return thread
    thread.call = _CALLS.get(os.uname().machine, {}).get(int(call[0]), call[0])
    arguments = [int(part, 16) for part in call[1:5]]
    if thread.call in ("poll", "epoll_wait", "epoll_pwait"):
        word = arguments[2 if thread.call == "poll" else 3] & 0xFFFFFFFF
        thread.patience_ms = word - (1 << 32) if word >> 31 else word
    descriptor = _descriptor(pid, thread.call, arguments)
    if descriptor is not None:
        thread.socket = sockets.get(descriptor)
        try:
            thread.path = "" if thread.socket else os.readlink(f"/proc/{pid}/fd/{descriptor}")
        except OSError:
            pass
    return thread


def _descriptor(pid, call, arguments):
    if call in _WITH_DESCRIPTOR:
        return arguments[0] & 0xFFFFFFFF
    if call in ("poll", "ppoll") and 0 < arguments[1] < 100:
        # The first of those polled.
        try:
            with open(f"/proc/{pid}/mem", "rb") as memory:
                memory.seek(arguments[0])
                return struct.unpack("<i", memory.read(4))[0]
        except OSError:
            return None
    return None


def sockets_of(pid):
    """The TCP and UDP sockets of a process by descriptor."""
    tables = {}
    for kind in ("tcp", "udp"):
        try:
            lines = Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            parts = line.split()
            local, peer = (int(part.split(":")[1], 16) for part in parts[1:3])
            tables[parts[9]] = Socket(local, peer, _STATES.get(int(parts[3], 16), parts[3]), kind)
    found = {}
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            match = re.fullmatch(r"socket:\[(\d+)\]", _link(f"/proc/{pid}/fd/{name}"))
            if match and match[1] in tables:
                found[int(name)] = tables[match[1]]
    except OSError:
        pass
    return found


def _link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []

