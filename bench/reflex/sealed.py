"""Runs a command that may not look into the memory of others, nor at their system calls: as Yama has it on Ubuntu and Fedora for
processes of one user, and as many containers have it.

`python3 sealed.py COMMAND ...`. The calls fail with EPERM; so do `mem` and `syscall` below /proc, which `sealed.c` sees to. The other
files there stay as they are."""

import ctypes
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
# ptrace, process_vm_readv, process_vm_writev, pidfd_getfd.
_CALLS = {"x86_64": (101, 310, 311, 438), "aarch64": (117, 270, 271, 438)}


def seal():
    calls = _CALLS[os.uname().machine]
    # Classic BPF over `struct seccomp_data`: the number of the call is its first word.
    program = [struct.pack("HBBI", _LOAD, 0, 0, 0)]
    for left, call in zip(range(len(calls), 0, -1), calls):
        program.append(struct.pack("HBBI", _EQUAL, left, 0, call))
    program += [struct.pack("HBBI", _RETURN, 0, 0, value) for value in (_ALLOW, _REFUSE)]
    code = ctypes.create_string_buffer(b"".join(program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _FILTER, head, 0, 0):
        raise OSError(ctypes.get_errno(), "no system call filter")


def library():
    """The path of the compiled `sealed.c`."""
    source = Path(__file__).with_suffix(".c")
    made = Path(tempfile.gettempdir()) / f"ferricorn-sealed-{os.geteuid()}-{source.stat().st_mtime_ns}.so"
    if not made.exists():
        fresh = made.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", fresh, source], check=True)
        fresh.rename(made)
    return made


if __name__ == "__main__":
    os.environ["LD_PRELOAD"] = str(library())
    seal()
    os.execvp(sys.argv[1], sys.argv[1:])
