"""What an application can say about the job at hand: a request whose client was answered 202 and does not wait.

Works where ``ferricorn.deadline`` does. In a request that is no job, and under another server, nothing happens.
"""

from ferricorn.timeouts import REQUEST


def progress(share: float, note: str = "") -> bool:
    """Tells the client how far the job is: from 0 to 1, and what it is at (200 letters at most). Never waits.

    Returns whether the request at hand is a job.
    """
    from ferricorn import _native

    return (REQUEST.get() or _native).progress(share, note)
