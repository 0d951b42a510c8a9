"""`run.py observer`: what the observer costs while nothing is wrong, as the share of req/s that is left with it; `--no-reflex`
goes without. It may cost 0.5 %."""

from . import pairs, servers

# Servers that have one.
CAPABLE = ("ferricorn",)


def run(names, rig, rounds):
    """With and without."""

    def once(name, variant):
        return pairs.full_load(servers.WSGI[name], [] if variant == "with" else ["--no-reflex"], rig)

    return pairs.run("observer", names, rig, rounds, once)


def report(result, markdown):
    return pairs.report("The observer, raw WSGI", result["observer"], markdown)
