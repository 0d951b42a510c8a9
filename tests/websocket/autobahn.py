"""Runs the Autobahn test suite against a WebSocket echo server and judges its report: `make autobahn URL=ws://...`.

The suite (`wstest`) needs Python 2.7, so it is no part of `make test`. What it asks is in `fuzzingclient.json`.
"""

import argparse
import collections
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.parse

SPEC = pathlib.Path(__file__).with_name("fuzzingclient.json")
# A server may notice a wrong byte at the end of its frame instead of at once, and may choose how to close.
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
START_MAX_S = 10


def wait_for(url):
    address = urllib.parse.urlsplit(url)
    deadline = time.monotonic() + START_MAX_S
    while True:
        try:
            socket.create_connection((address.hostname, address.port or 80), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"no server at {url} after {START_MAX_S} s: {error}")
            time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="where the echo server listens")
    parser.add_argument("--wstest", default="wstest", help="the suite's command")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/autobahn"), help="folder for reports")
    parser.add_argument("--cases", nargs="+", help='instead of all, e.g. "12.*"')
    arguments = parser.parse_args()
    spec = json.loads(SPEC.read_text())
    agent = spec["servers"][0]["agent"]
    spec["servers"][0]["url"] = arguments.url
    spec["cases"] = arguments.cases or spec["cases"]
    spec["outdir"] = str(arguments.out.resolve())
    arguments.out.mkdir(parents=True, exist_ok=True)
    # A report of before would speak for a run that failed.
    index = arguments.out / "index.json"
    index.unlink(missing_ok=True)
    written = arguments.out / "fuzzingclient.json"
    written.write_text(json.dumps(spec, indent=3))
    wait_for(arguments.url)
    with (arguments.out / "wstest.log").open("w") as log:
        subprocess.run(
            [arguments.wstest, "--mode", "fuzzingclient", "--spec", written.resolve()],
            stdout=log, stderr=subprocess.STDOUT, check=True,
        )
    results = json.loads(index.read_text())[agent]
    bad = {case: result for case, result in results.items() if not {result["behavior"], result["behaviorClose"]} <= GOOD}
    for case, result in sorted(bad.items()):
        print(f"{case}: {result['behavior']}, close {result['behaviorClose']}: {arguments.out / result['reportfile']}")
    counts = collections.Counter(result["behavior"] for result in results.values())
    print(", ".join(f"{count} {behavior}" for behavior, count in counts.most_common()) or "no cases ran")
    sys.exit(bool(bad) or not results)


if __name__ == "__main__":
    main()
