"""What the benchmark promises about its cells, asked of the command itself."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TEN_MINUTES = 600


def listed(*options):
    command = [sys.executable, REPOSITORY / "bench" / "run.py", "reflex", "--list", "--json", *options]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout)


@pytest.fixture(scope="module")
def cells():
    return listed()


@pytest.fixture(scope="module")
def codes():
    """The causes that the product can name, but for the one that needs a reload of our own server: tests/act causes that."""
    text = (REPOSITORY / "crates" / "core" / "src" / "diagnosis" / "cause.rs").read_text()
    return set(re.findall(r'^    [A-Z]\w+ "([a-z_.]+)"', text, re.MULTILINE)) - {"deploy.regression"} | {"unknown"}


def test_every_cause_is_caused(cells, codes):
    assert {cell["label"] for cell in cells} - {""} == codes


def test_the_subset_has_every_cause_and_takes_at_most_ten_minutes(codes):
    chosen = listed("--smoke")
    assert {cell["label"] for cell in chosen} - {""} == codes
    alone = sum(cell["seconds"] for cell in chosen if cell["alone"])
    assert alone + sum(cell["seconds"] for cell in chosen if not cell["alone"]) / 2 < TEN_MINUTES
    assert len({(cell["framework"], cell["host"]) for cell in chosen}) == 6
    assert not any(cell["held_out"] for cell in chosen)


def test_cells_have_names_of_their_own(cells):
    names = [cell["cell"] for cell in cells]
    assert len(set(names)) == len(names)


def test_no_page_gives_its_fault_away(cells):
    telling = set("slow lock locked sleep leak regex loop pool timeout deadlock hang stuck fault block".split())
    for cell in cells:
        for path in cell["paths"]:
            assert not telling & set(re.split(r"[^a-z]+", path.lower())), path


def test_the_product_knows_nothing_of_the_benchmark():
    names = re.compile(r"shop_(flask|django|fastapi)|reflexbench|shop\.(partners|catalogue|warehouse|papers|services)")
    files = [*REPOSITORY.glob("crates/*/src/**/*.rs"), *REPOSITORY.glob("python/**/*.py")]
    assert files
    assert [str(path) for path in files if names.search(path.read_text())] == []


def test_filters_are_combined(cells):
    chosen = listed("--fault", "db.*,control/export", "--framework", "django", "--host", "gunicorn", "--variant", "held-out")
    assert chosen and {(cell["framework"], cell["host"], cell["held_out"]) for cell in chosen} == {("django", "gunicorn", True)}
    assert all(cell["fault"].startswith("db.") for cell in chosen)
    seeds = listed("--fault", "control/nothing", "--host", "gunicorn", "--seed", "5", "--seeds", "2")
    assert [cell["seed"] for cell in seeds] == [5, 5, 5, 6, 6, 6]


def test_where_the_database_cannot_be_asked_less_is_expected():
    expected = {
        grade: listed("--fault", "db.lock/sqlalchemy", "--framework", "flask", "--host", "gunicorn", "--grade", grade)
        for grade in "AC"
    }
    expected = {grade: cells[0]["accepted"] for grade, cells in expected.items()}
    assert expected == {"A": ["db.lock"], "C": ["db.lock", "db.query_or_lock"]}
