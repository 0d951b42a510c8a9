"""Hosts that share a network, on one machine: network namespaces of Linux, at the ports of a switch.

They have no names, and what is in them reaches nothing else. They are gone with the last descriptor and process, however a test has ended.
Not for: hosts that differ by their folders alone.
"""

import contextlib
import ctypes
import os
import signal
import subprocess

from harness.server import wait_until

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def refusal():
    """Why there can be no such hosts here; empty if there can."""
    links = "ip link add switch type bridge && ip link add port type veth peer name eth0"
    done = subprocess.run(["unshare", "--net", "sh", "-c", links], capture_output=True, text=True)
    return f"needs the right to make network namespaces, bridges and veths: {done.stderr.strip()}" if done.returncode else ""


def _checked(result):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _here():
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


class Host:
    """A network namespace."""

    def __init__(self, address):
        self.address = address
        before = _here()
        _checked(LIBC.unshare(CLONE_NEWNET))
        self.space = _here()
        _checked(LIBC.setns(before, CLONE_NEWNET))
        os.close(before)
        # As every process in it can tell.
        self.identity = os.readlink(f"/proc/self/fd/{self.space}")
        self.ip("link", "set", "lo", "up")

    @contextlib.contextmanager
    def inside(self):
        """What this thread connects and starts meanwhile, it does on this host."""
        before = _here()
        _checked(LIBC.setns(self.space, CLONE_NEWNET))
        try:
            yield self
        finally:
            _checked(LIBC.setns(before, CLONE_NEWNET))
            os.close(before)

    def ip(self, *words):
        with self.inside():
            subprocess.run(["ip", *words], check=True)

    def processes(self):
        """Pids of all processes that run here, but for the test's own."""
        found = []
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            with contextlib.suppress(OSError):
                if pid != os.getpid() and os.readlink(f"/proc/{pid}/ns/net") == self.identity:
                    found.append(pid)
        return found

    def kill(self):
        """Ends all of them at once, and those that they start meanwhile."""

        def none_left():
            pids = self.processes()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids

        wait_until(none_left, what="every process of the host has ended")


class Network:
    """``net["name"]`` is a host at a port of ``net.switch``, which is a host, too: from there all others are reached."""

    def __init__(self, *names):
        self.switch = Host("10.219.0.1")
        self.switch.ip("link", "add", "switch", "type", "bridge")
        self.switch.ip("address", "add", f"{self.switch.address}/24", "dev", "switch")
        self.switch.ip("link", "set", "switch", "up")
        self.hosts = {name: Host(f"10.219.0.{number}") for number, name in enumerate(names, 2)}
        for name, host in self.hosts.items():
            host.ip("link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", f"/proc/{os.getpid()}/fd/{self.switch.space}")
            host.ip("address", "add", f"{host.address}/24", "dev", "eth0")
            host.ip("link", "set", "eth0", "up")
            self.switch.ip("link", "set", name, "master", "switch")
            self.mend(name)

    def __getitem__(self, name):
        return self.hosts[name]

    def cut(self, name):
        """As if the cable were pulled: nobody is told that connections have ended."""
        self.switch.ip("link", "set", name, "down")

    def mend(self, name):
        self.switch.ip("link", "set", name, "up")

    def lose(self, name):
        """A host with all that runs there, without a word to others."""
        self.cut(name)
        self.hosts[name].kill()

    def close(self):
        for host in self.hosts.values():
            host.kill()
        for host in (self.switch, *self.hosts.values()):
            os.close(host.space)
