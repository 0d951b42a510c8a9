# Everything a developer types. `make` alone explains itself.
# Needs cargo, python3 (CPython 3.10 or newer) and make; the rest is fetched into folders of this repository.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The Python that everything is built for and tested with.
PYTHON ?= python3
# What `make serve` serves, with which options, and the virtual environment that Ferricorn is installed into.
APP ?= ferricorn.demo:app
ARGS ?=
VENV ?= .venv
# Where the tests' Python packages live, and options for pytest, e.g. `make test-python PYTEST_ARGS="-k signals"`.
TEST_VENV ?= .test-venv
PYTEST_ARGS ?=
# Debian's CPython: others are built with other options, and measuring would measure those.
BENCH_PYTHON ?= /usr/bin/python3
# Where `make autobahn` finds its suite, and the echo server that it tests.
WSTEST ?= wstest
URL ?=

MATURIN := maturin>=1.16,<2
# Links several times faster; by wrapping the linker it leaves cargo's fingerprints as they are without it.
MOLD := $(shell mold -run true 2>/dev/null && echo mold -run)
TEST_STEPS := fmt clippy rust tidy docs fuzz python

# Intermediate to make, but not to be deleted.
.PRECIOUS: %/bin/pip %/bin/maturin
.PHONY: help serve test test-system test-env bench faults reflexbench reflexbench-smoke autobahn fmt clean $(TEST_STEPS:%=test-%)

help:
	@echo 'Ferricorn: a drop-in replacement for Gunicorn, written in Rust.'
	@echo
	@echo '  make serve                     build it and serve the demo application'
	@echo '  make serve APP=pkg.mod:app     serve yours; more options: ARGS="-w 2 --bind :9000"'
	@echo '  make serve VENV=path APP=...   install into a virtual environment that has your packages'
	@echo '  make test                      install what the tests need and run all of them'
	@echo '  make test-STEP                 one step: $(TEST_STEPS)'
	@echo '  make bench                     measure against other servers on this machine; ARGS="--help" tells more'
	@echo '  make faults                    what each way to go wrong costs, beside other servers; ARGS="--help" tells more'
	@echo '  make reflexbench               does the observer name the right cause? ARGS="--list" and "--help" tell more'
	@echo '  make autobahn URL=ws://...     the WebSocket conformance tests against an echo server; without URL, the example'
	@echo '  make fmt                       format the Rust code'
	@echo '  make clean                     remove what was built and fetched'
	@echo
	@echo 'PYTHON=python3.12 chooses the interpreter. CONTRIBUTING.md tells the rest.'

# --- serve ---------------------------------------------------------------------------------------------------------

serve: $(VENV)/bin/maturin
	@echo 'Building Ferricorn (the first time takes some minutes)'
	@VIRTUAL_ENV='$(abspath $(VENV))' $(MOLD) '$(VENV)/bin/maturin' develop --release
	@case ' $(ARGS) $(GUNICORN_CMD_ARGS)' in \
	  *' -b'*|*' --bind'*) echo 'Serving $(APP); the address stands in the line "Listening at"' ;; \
	  *) echo "Serving $(APP) at http://127.0.0.1:$${PORT:-8000}/ (Ctrl-C stops it)" ;; \
	esac
	@exec '$(VENV)/bin/ferricorn' $(ARGS) '$(APP)'

# An interrupted attempt, or a tool that leaves pip out, makes a folder without it: that is completed, not replaced.
%/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) or sys.implementation.name != "cpython")' || { \
	  echo 'make: $(PYTHON) is missing or is not CPython 3.10 or newer.'; \
	  echo '      Name one: make $(MAKECMDGOALS) PYTHON=/usr/bin/python3.12'; exit 1; }
	@if [ -x '$*/bin/python' ]; then '$*/bin/python' -m ensurepip --default-pip >/dev/null; \
	 else $(PYTHON) -m venv '$*'; fi || { \
	  echo 'make: $(PYTHON) cannot make a virtual environment with pip in $*.'; \
	  echo '      On Debian and Ubuntu: apt-get install python3-venv'; exit 1; }

%/bin/maturin: %/bin/pip
	@'$*/bin/python' -m pip install --quiet --disable-pip-version-check '$(MATURIN)'

# --- test ----------------------------------------------------------------------------------------------------------

# Every step runs even if an earlier one failed: one run shows all there is to fix.
test: test-system test-env
	@passed= failed=; start=$$SECONDS; \
	for step in $(TEST_STEPS); do \
	  echo; echo "== $$step"; \
	  if $(MAKE) test-$$step; then passed="$$passed $$step"; else failed="$$failed $$step"; fi; \
	done; \
	echo; echo "== make test took $$((SECONDS - start)) s"; \
	echo "passed:$${passed:- none}"; \
	if [ -n "$$failed" ]; then echo "FAILED:$$failed (again alone: make test-STEP)"; exit 1; fi; \
	echo 'all tests passed'

# What pip cannot install. Touches the system only as root, on Debian, and only for what is missing.
test-system:
	@PATH="$$PATH:/usr/sbin"; missing=; \
	for each in $(SYSTEM); do \
	  [ -n "$$(command -v "$${each%%:*}" || ls /usr/lib/postgresql/*/bin/"$${each%%:*}" 2>/dev/null)" ] || missing="$$missing $${each##*:}"; \
	done; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	$(PYTHON) -c '$(HAS_LIBPYTHON)' 2>/dev/null || missing="$$missing python3-dev"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing$$missing"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	else \
	  echo "make: the tests need$$missing. Install it with the system's package manager, then run this again."; exit 1; \
	fi

# Programs that the tests start, each with Debian's package.
SYSTEM := nats-server:nats-server nginx:nginx openssl:openssl ip:iproute2 postgres:postgresql pgbouncer:pgbouncer mariadbd:mariadb-server \
  rabbitmq-server:rabbitmq-server redis-server:redis-server prometheus:prometheus promtool:prometheus prometheus-alertmanager:prometheus-alertmanager

# The library that Rust tests link: it comes with the headers, not with the interpreter.
HAS_LIBPYTHON := import os, sys, sysconfig as s; \
  sys.exit(not os.path.exists(os.path.join(s.get_config_var("LIBDIR"), s.get_config_var("LDLIBRARY"))))

test-env: $(TEST_VENV)/.installed

$(TEST_VENV)/.installed: tests/requirements.txt $(TEST_VENV)/bin/maturin
	@'$(TEST_VENV)/bin/python' -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch '$@'

# One interpreter for every cargo step, or each would build the Python crates anew.
export_python = export PYO3_PYTHON='$(abspath $(TEST_VENV))/bin/python'; \
  export LD_LIBRARY_PATH="$$('$(TEST_VENV)/bin/python' -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}"

test-fmt:
	cargo fmt --all --check

test-clippy: test-env
	@$(export_python); set -x; cargo clippy --workspace --all-targets --quiet -- --deny warnings

test-rust: test-env
	@$(export_python); set -x; $(MOLD) cargo test --workspace --no-run --quiet && \
	if cargo nextest --version >/dev/null 2>&1; then \
	  cargo nextest run --workspace --no-fail-fast --status-level fail --final-status-level slow; \
	else \
	  cargo test --workspace --no-fail-fast --quiet; \
	fi
	cargo test --manifest-path bench/wsecho/Cargo.toml --quiet

test-tidy:
	cargo xtask tidy

test-docs:
	cargo xtask docs --check

test-fuzz:
	$(MOLD) cargo test --manifest-path fuzz/Cargo.toml --quiet

test-python: test-env
	@set -x; VIRTUAL_ENV='$(abspath $(TEST_VENV))' $(MOLD) '$(TEST_VENV)/bin/maturin' develop --quiet
	@# Files that cannot be collected are nobody's failure where several run them: they are found before.
	@found=$$('$(TEST_VENV)/bin/python' -m pytest --collect-only -qq $(PYTEST_ARGS) 2>&1) || { echo "$$found" | tail -40; exit 1; }
	@# Much is about time, and three at a time are in each other's way: what fails so is run once more, alone, and has to pass.
	set -x; '$(TEST_VENV)/bin/python' -m pytest -n 3 $(PYTEST_ARGS) || \
	  '$(TEST_VENV)/bin/python' -m pytest --last-failed --last-failed-no-failures none $(PYTEST_ARGS)

# --- the rest ------------------------------------------------------------------------------------------------------

bench:
	$(BENCH_PYTHON) bench/run.py $(ARGS)

faults:
	$(BENCH_PYTHON) bench/run.py faults $(ARGS)

reflexbench:
	$(BENCH_PYTHON) bench/run.py reflex $(ARGS)

# Each cause once, with the extension that the tests are run with: at most ten minutes.
reflexbench-smoke: test-env
	@set -x; VIRTUAL_ENV='$(abspath $(TEST_VENV))' $(MOLD) '$(TEST_VENV)/bin/maturin' develop --quiet
	'$(TEST_VENV)/bin/python' bench/run.py reflex --smoke --targets --lanes 2 --build none --env '$(TEST_VENV)' $(ARGS)

# The suite needs Python 2.7: CONTRIBUTING.md tells how to get it.
autobahn:
	@if [ -n '$(URL)' ]; then exec $(PYTHON) tests/websocket/autobahn.py '$(URL)' --wstest '$(WSTEST)' $(ARGS); fi; \
	$(MOLD) cargo build --release --quiet -p ferricorn-worker --example websocket_echo || exit; \
	cargo run --release --quiet -p ferricorn-worker --example websocket_echo 9001 & server=$$!; \
	trap 'kill '$$server EXIT; \
	$(PYTHON) tests/websocket/autobahn.py ws://127.0.0.1:9001 --wstest '$(WSTEST)' $(ARGS)

fmt:
	cargo fmt --all

clean:
	cargo clean
	rm -rf .venv .test-venv bench/.venv* fuzz/target
