"""Every setting of Gunicorn exists here, with its flags, default, type and section; and nothing but ours beside."""

from __future__ import annotations

import inspect
import os

import pytest
from settings_table import rows

# Gunicorn reads them once, when it is imported.
for variable in ("PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"):
    os.environ.pop(variable, None)

config = pytest.importorskip("gunicorn.config")

KNOWN = {setting.name: setting for setting in config.KNOWN_SETTINGS}

# Gunicorn's validators, and the kinds they make here.
KINDS = {
    "validate_string": {"str", "path"},
    "validate_pos_int": {"int"},
    "validate_http2_stream_limit": {"int"},
    "validate_http2_window_size": {"int"},
    "validate_http2_frame_size": {"int"},
    "validate_bool": {"bool"},
    "validate_list_string": {"list"},
    "validate_list_of_files_or_patterns": {"files"},
    "validate_string_to_list": {"comma list"},
    "validate_string_to_addr_list": {"networks"},
    "validate_dict": {"dict"},
    "validate_class": {"class"},
    "validate_user": {"user"},
    "validate_group": {"group"},
    "validate_chdir": {"directory"},
    "validate_statsd_address": {"address"},
    "validate_ssl_version": {"anything"},
    "validate_http_protocols": {"protocols"},
    "validate_reload_engine": {"choice"},
    "validate_header_map_behaviour": {"choice"},
    "validate_proxy_protocol": {"choice"},
    "validate_http2_cleartext": {"choice"},
    "validate_asgi_loop": {"choice"},
    "validate_asgi_lifespan": {"choice"},
    "validate_http_parser": {"choice"},
    "validate_post_request": {"hook"},
    "_validate_callable": {"hook"},
}

# Their default depends on the process, so that the table has none.
OF_THE_PROCESS = {"chdir", "user", "group", "control_socket"}


def test_names() -> None:
    ours = {name for name, row in rows().items() if row["origin"] == "gunicorn"}
    assert ours == set(KNOWN)
    own = {row["section"] for name, row in rows().items() if name not in ours}
    assert own == {"Ferricorn"}


@pytest.mark.parametrize("name", KNOWN)
def test_flags(name: str) -> None:
    assert rows()[name]["flags"] == (KNOWN[name].cli or [])


@pytest.mark.parametrize("name", KNOWN)
def test_action(name: str) -> None:
    row, action = rows()[name], KNOWN[name].action or "store"
    # Without a flag, the action of argparse says nothing.
    assert not row["flags"] or row["action"] == action


@pytest.mark.parametrize("name", KNOWN)
def test_section(name: str) -> None:
    assert rows()[name]["section"] == KNOWN[name].section


@pytest.mark.parametrize("name", KNOWN)
def test_metavar(name: str) -> None:
    assert rows()[name]["metavar"] == KNOWN[name].meta


@pytest.mark.parametrize("name", KNOWN)
def test_kind(name: str) -> None:
    assert rows()[name]["kind"] in KINDS[KNOWN[name].validator.__name__]


@pytest.mark.parametrize("name", KNOWN)
def test_default(name: str) -> None:
    row, known = rows()[name], KNOWN[name]
    if row["kind"] == "hook":
        assert row["default_note"] == known.default.__qualname__
        return
    if name in OF_THE_PROCESS:
        assert row["default"] is None and row["default_note"]
        return
    assert row["default"] == known().get()


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if callable(known.default)])
def test_parameters_of_hooks(name: str) -> None:
    assert len(rows()[name]["parameters"]) == len(inspect.signature(KNOWN[name].default).parameters)


@pytest.mark.parametrize("name", [name for name, row in rows().items() if row["choices"] and name in KNOWN])
def test_choices(name: str) -> None:
    for choice in rows()[name]["choices"]:
        assert KNOWN[name].validator(choice) == choice
