"""Runs a server that has no command line: `embedded.py bjoern|fastwsgi MODULE:APP PORT`."""

import importlib
import os
import sys


def main(server, app, port):
    sys.path[0] = os.getcwd()
    module, _, name = app.partition(":")
    application = getattr(importlib.import_module(module), name)
    if server == "bjoern":
        import bjoern

        bjoern.run(application, "127.0.0.1", int(port))
    elif server == "fastwsgi":
        import fastwsgi

        fastwsgi.run(wsgi_app=application, host="127.0.0.1", port=int(port), loglevel=0)
    else:
        sys.exit(f"unknown server {server!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
