"""Whether the benchmark judges incidents as it says: made-up incidents, known answers."""

import pytest

from reflex import score


def incident(cause, stuck=1, **more):
    found = {
        "cause": cause, "confidence": 0.9, "state": "open", "noted_at": 103.0, "opened_at": 104.0, "diagnosed_at": 105.0,
        "last_at": 110.0, "requests_stuck": stuck, "requests_lost": 0, "source": "outside", "causes": [],
    }
    return found | more


def row(label, incidents, accepted=None, **more):
    found = {
        "cell": f"{label}/x flask gunicorn 1", "fault": f"{label}/x", "label": label, "incidents": incidents,
        "injected_at": 100.0,
        "accepted": [label] if accepted is None else accepted, "wrong_behind": [], "kills": True, "deadline_at": 107.0,
        "host": "gunicorn", "framework": "flask", "held_out": False, "decoy": "deploy", "seconds": 20.0,
        "visits": {"calm": {"all": 50, "lost": 0}, "fault": {"all": 100, "lost": 30}},
    }
    return found | more


def test_the_first_incident_is_the_one_that_weighs_most():
    little, much = incident("db.lock", stuck=2, confidence=0.99), incident("pool.exhausted", stuck=9, confidence=0.5)
    assert score.ranked(row("db.lock", [little, much])) == [much, little]
    assert score.judge(row("pool.exhausted", [little, much]))["right"]
    assert not score.judge(row("db.lock", [little, much]))["right"]


def test_lost_requests_weigh_as_much_as_stuck_ones():
    lost = incident("db.lock", stuck=0, requests_lost=5)
    assert score.ranked(row("db.lock", [incident("cpu.bound", stuck=4), lost]))[0] is lost


def test_what_people_are_shown_unasked_comes_before_a_note():
    note = incident("cpu.bound", stuck=50, state="note", opened_at=None, confidence=0.99)
    opened = incident("db.lock", confidence=0.6)
    assert score.ranked(row("db.lock", [note, opened]))[0] is opened


def test_what_ended_before_the_injection_does_not_count():
    old = incident("cpu.bound", stuck=50, noted_at=90.0, last_at=95.0, opened_at=None, state="note")
    verdict = score.judge(row("db.lock", [old, incident("db.lock")]))
    assert verdict["right"] and verdict["false"] == []


def test_an_incident_from_before_that_goes_on_counts_but_its_time_does_not():
    early = incident("config.timeout_too_low", noted_at=80.0, opened_at=101.0)
    verdict = score.judge(row("config.timeout_too_low", [early]))
    assert verdict["right"] and verdict["detect_s"] is None


@pytest.mark.parametrize("because, accepted, wrong_behind, right", [
    (None, ["pool.exhausted"], [], True),
    ({"cause": "db.slow_query", "text": ""}, ["pool.exhausted"], ["pool.leak"], True),
    ({"cause": "db.slow_query", "text": ""}, ["db.slow_query"], [], True),
    ({"cause": "pool.leak", "text": ""}, ["pool.exhausted"], ["pool.leak"], False),
    ({"cause": "pool.leak", "text": ""}, ["pool.leak"], [], True),
    ({"cause": "db.lock", "text": ""}, ["cpu.bound"], [], False),
])
def test_what_is_behind_the_cause_is_named_too(because, accepted, wrong_behind, right):
    found = incident("pool.exhausted", because=because)
    assert score.is_right(found, accepted, wrong_behind) is right


def test_the_cause_alone_is_counted_beside():
    found = incident("subprocess", because={"cause": "external.no_timeout", "text": ""})
    verdict = score.judge(row("external.no_timeout", [found]))
    assert (verdict["right"], verdict["right_alone"]) == (True, False)


def test_remarks_count_where_they_are_the_label_and_other_causes_do_not():
    blocked = incident("external.no_timeout", also=["worker_class.blocking_in_loop"])
    assert score.judge(row("worker_class.blocking_in_loop", [blocked]))["right"]
    assert score.judge(row("external.no_timeout", [blocked]))["right"]
    assert not score.is_right(incident("cpu.bound", also=["db.lock"]), ["db.lock"])


def test_three_candidates_are_of_the_first_incident_then_of_the_others():
    first = incident("unknown", stuck=9, causes=[
        {"cause": "cpu.bound", "confidence": 0.3}, {"cause": "infinite_loop", "confidence": 0.4},
        {"cause": "unknown", "confidence": 0.5}, {"cause": "cpu.regex", "confidence": 0.1},
    ])
    found = score.candidates([first, incident("deadlock")])
    assert found == ["unknown", "infinite_loop", "cpu.bound", "cpu.regex", "deadlock"]
    assert score.judge(row("cpu.bound", [first]))["right_of_three"]
    assert not score.judge(row("cpu.regex", [first]))["right_of_three"]
    assert score.candidates([]) == []


def test_unknown_is_an_abstention_unless_it_is_the_answer():
    assert score.judge(row("db.lock", [incident("unknown")]))["abstained"]
    assert score.judge(row("db.lock", []))["abstained"]
    verdict = score.judge(row("unknown", [incident("unknown")]))
    assert verdict["right"] and not verdict["abstained"]
    assert not score.judge(row("db.lock", [incident("cpu.bound")]))["abstained"]


@pytest.mark.parametrize("cause, diagnosed_at, kills, in_time", [
    ("db.lock", 107.0, True, True),
    ("db.lock", 107.1, True, False),
    ("db.lock", None, True, False),
    # In time, and wrong.
    ("cpu.bound", 103.0, True, False),
    ("db.lock", 120.0, False, None),
])
def test_diagnosed_before_the_kill(cause, diagnosed_at, kills, in_time):
    verdict = score.judge(row("db.lock", [incident(cause, diagnosed_at=diagnosed_at)], kills=kills))
    assert verdict["in_time"] is in_time


def test_times_count_from_the_injection():
    verdict = score.judge(row("db.lock", [incident("cpu.bound", noted_at=102.0), incident("db.lock", stuck=5, noted_at=103.5)]))
    assert (verdict["detect_s"], verdict["diagnose_s"]) == (2.0, 5.0)
    just_before = score.judge(row("db.lock", [incident("db.lock", noted_at=99.8)]))
    assert just_before["detect_s"] == 0.0
    assert score.judge(row("db.lock", []))["detect_s"] is None


def test_controls_may_leave_notes_and_nothing_more():
    note = incident("db.slow_query", state="note", opened_at=None)
    assert score.judge(row("", [note]))["false"] == []
    assert score.judge(row("", [note, incident("cpu.bound")]))["false"] == ["cpu.bound"]
    # One that is over was raised all the same.
    assert score.judge(row("", [incident("cpu.bound", state="closed")]))["false"] == ["cpu.bound"]


def test_what_is_raised_before_the_injection_is_false():
    early = incident("cpu.bound", noted_at=91.0, opened_at=92.0, last_at=93.0)
    assert score.judge(row("db.lock", [early, incident("db.lock")]))["false"] == ["cpu.bound"]


def test_a_row_without_facts_is_not_judged():
    failed = row("db.lock", [])
    del failed["incidents"]
    failed["error"] = "it did not start"
    assert score.judge(failed) is None
    found = score.summary([failed, row("db.lock", [incident("db.lock")])])
    assert (found["errors"], found["measured"], found["top1"]["of"]) == (1, 1, 1)


@pytest.mark.parametrize("right, of, low, high", [
    # Of tables of the Wilson score interval, 95 %.
    (9, 10, 0.5958, 0.9821),
    (0, 10, 0.0, 0.2775),
    (10, 10, 0.7225, 1.0),
    (50, 100, 0.4038, 0.5962),
])
def test_wilson(right, of, low, high):
    assert score.wilson(right, of) == pytest.approx((low, high), abs=1e-4)


def test_nothing_has_no_interval():
    assert score.wilson(0, 0) is None
    assert score.share([], "right") == {"right": 0, "of": 0, "share": None, "interval": None}


def test_percentiles_are_values_that_were_seen():
    assert [score.percentile([5, 1, 4, 2, 3], percent) for percent in (50, 90, 100)] == [3, 5, 5]
    assert score.percentile([7], 50) == 7
    assert score.percentile([], 50) is None


def test_calibration():
    rows = [row("db.lock", [incident("db.lock", confidence=0.9)]) for _ in range(3)]
    rows.append(row("db.lock", [incident("cpu.bound", confidence=0.9)]))
    rows += [row("db.lock", [incident("cpu.bound", confidence=0.2)]), row("db.lock", [incident("unknown", confidence=0.95)])]
    found = score.calibration([score.judge(one) for one in rows])
    # Four of five say 0.9 and three are right; the fifth says 0.2 and is wrong; who does not know has no say.
    assert found["ece"] == pytest.approx(0.8 * 0.15 + 0.2 * 0.2)
    assert [(one["from"], one["n"]) for one in found["bins"]] == [(0.2, 1), (0.9, 4)]
    assert score.calibration([])["ece"] is None


def test_certainty_belongs_into_the_last_bin():
    found = score.calibration([score.judge(row("db.lock", [incident("db.lock", confidence=1.0)]))])
    assert [one["from"] for one in found["bins"]] == [0.9]


def test_the_confusion_matrix_has_every_answer():
    rows = [row("db.lock", [incident("db.lock")]), row("db.lock", [incident("cpu.bound")]), row("cpu.bound", [])]
    assert score.summary(rows)["confusion"] == {"db.lock": {"db.lock": 1, "cpu.bound": 1}, "cpu.bound": {score.NONE: 1}}


def test_targets_depend_on_host_and_grade():
    def of(host, right, label="db.lock"):
        return row(label, [incident("db.lock" if right else "cpu.bound")], host=host)

    rows = [of("gunicorn", n < 9) for n in range(10)] + [of("ferricorn", n < 9) for n in range(10)]
    met = {what: is_met for what, _, _, is_met in score.targets(rows, "A")}
    assert met == {
        "gunicorn: right cause first": True, "gunicorn: diagnosed before the kill": False,
        "ferricorn: right cause first": False, "ferricorn: diagnosed before the kill": False,
    }
    assert all(is_met for *_, is_met in score.targets(rows, "C"))
    raised = score.targets([row("", [incident("cpu.bound")])], "A")
    assert raised == [("gunicorn: incidents on controls", 1, 0, False)]


def test_few_cells_miss_a_target_only_where_that_is_no_chance():
    def met(misses, few):
        rows = [row("db.lock", [incident("cpu.bound" if n < misses else "db.lock")], host="ferricorn") for n in range(16)]
        return score.targets(rows, "A", few)[0][3]

    assert [met(misses, few=True) for misses in range(6)] == [True, True, True, True, False, False]
    assert [met(misses, few=False) for misses in range(2)] == [True, False]
    raised = score.targets([row("", [incident("cpu.bound")])], "A", few=True)
    assert raised == [("gunicorn: incidents on controls", 1, 0, False)]


def test_groups_tell_held_out_variants_apart():
    rows = [row("db.lock", [incident("db.lock")]), row("db.lock", [incident("cpu.bound")], held_out=True), row("", [])]
    parts = score.groups(rows)["gunicorn"]
    assert (parts["dev"]["top1"]["share"], parts["held-out"]["top1"]["share"]) == (1.0, 0.0)
    assert parts["all"]["controls"] == {"cells": 1, "raised": 0}
