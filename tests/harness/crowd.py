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


class Visitors:
    """Visitors that ask for the same page again and again."""

    def __init__(self, server, path, count):
        self.server, self.path, self.going, self.answers = server, path, True, []
        self.threads = [threading.Thread(target=self._visit, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _visit(self):
        while self.going:
            try:
                self.answers.append(self.server.get(self.path, timeout=30).status)
            except Exception:  # Its worker has gone.
                self.answers.append(0)
            if self.answers[-1] == 503:
                # Refused at once: no reason to come in thousands.
                time.sleep(0.1)

    def leave(self):
        """Returns the status of each answer, 0 where there was none."""
        self.going = False
        for thread in self.threads:
            thread.join(30)
        return self.answers
