"""Many requests at the same moment, each on a connection of its own."""

import threading
import time


def together(target, paths, seconds=20.0):
    """Sends a request for each path at once; returns the responses in that order, and how long each took."""
    answers = [None] * len(paths)

    def one(number, path):
        begun = time.monotonic()
        answers[number] = target.get(path, timeout=seconds), time.monotonic() - begun

    threads = [threading.Thread(target=one, args=each, daemon=True) for each in enumerate(paths)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 5)
    assert all(answers), "not all were answered"
    return [response for response, _ in answers], [took for _, took in answers]
