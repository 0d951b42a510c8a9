"""Invoices, labels, numbers, uploads: everything that uses files and other programs."""

import fcntl
import os
import subprocess

from shop import settings


def _render():
    # The template is replaced now and then; whoever reads or writes it takes the lock.
    template = settings.DATA / "invoice.txt"
    return ["flock", str(settings.DATA / "template.lock"), "cat", str(template)]


def invoice(order):
    path = settings.DATA / f"invoice-{order}-{os.getpid()}"
    with open(path, "w") as out:
        subprocess.run(_render(), stdout=out, check=True)
    return path.read_text().format(order=order)


def label(order):
    with subprocess.Popen(_render(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, _ = process.communicate(b"")
    return out.decode().format(order=order)


def archive(order):
    return os.system(" ".join(_render()) + " > /dev/null")


def next_number(name):
    """Numbers without gaps, for all processes of this host."""
    with open(settings.DATA / name, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        number = int(file.read() or 0) + 1
        file.seek(0)
        file.truncate()
        file.write(str(number))
    return number


def print_label(order):
    """The label printer takes its jobs from a pipe."""
    with open(settings.DATA / "printer", "w") as printer:
        printer.write(f"order {order}\n")


def save_upload(name, content):
    path = settings.UPLOADS / name
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return len(content)
