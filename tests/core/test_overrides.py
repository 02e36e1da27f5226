"""An override is acted on once, if it is valid, in time and for this run; each is recorded with its outcome."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.overrides import EXAMPLES, Heard, both, hear, read_override
from controller.core.status import OverrideRecord
from tests.core.builders import NOW

VERBS = ("hold", "rollback", "retry", "approve", "done", "advance", "reschedule", "ack")


def heard(
    annotations: Mapping[str, str],
    records: tuple[OverrideRecord, ...] = (),
    run: int = 1,
    now: float = NOW,
    refusals: Mapping[str, str] | None = None,
) -> Heard:
    """What is heard, with nothing refused unless said; ``refusals`` are by verb."""
    return hear(annotations, records, run, now, lambda said: (refusals or {}).get(said.verb, ""))


def outcomes(said: Heard) -> list[tuple[str, str]]:
    """Verb and outcome of all that is kept."""
    return [(record.verb, record.outcome) for record in said.records]


def test_text_is_the_reason() -> None:
    override = read_override("hold", "  lunch \n")
    assert (override.reason, override.fault, override.words) == ("lunch", "", ": lunch")


def test_json_says_who_why_and_until_when() -> None:
    override = read_override("hold", '{"reason": "load test", "by": "jo", "until": "2023-11-15T00:00:00Z", "id": "7"}')
    assert override.words == " by jo: load test"
    assert override.until == 1_700_006_400.0
    assert override.fault == ""


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("{", "it is not JSON"),
        ('{"reason":' + "[" * 4000, "it is not JSON"),
        ('{"why": "x"}', "'why' is no field of it; write reason, by, until or id"),
        ('{"reason": 7}', "reason is not text; write it in quotes"),
        ('{"until": null}', "until is not text; write it in quotes"),
        ('{"until": "tomorrow"}', "until: 'tomorrow' is not an instant; write an instant with its offset"),
        ('{"until": "2025-11-01T14:00:00"}', "has no offset from UTC"),
        ('{"until": "0001-01-01T00:00:00+14:00"}', "is out of range"),
        ('{"until": "9999-12-31T23:59:59-14:00"}', "is out of range"),
        ('{"by": "a", "by": "b"}', "'by' is written twice; write it once"),
        ('{"reason": "a", "by": "b", "re\\u0061son": "c"}', "'reason' is written twice"),
        ("x" * 4097, "it is 4,097 characters long; write at most 4,096"),
        ("{" + "x" * 262_144, "it is 262,145 characters long"),
    ],
    ids=lambda value: value[:24],
)
def test_a_malformed_value_is_refused_with_words_and_changes_nothing(value: str, fault: str) -> None:
    for verb in ("hold", "rollback", "retry"):
        said = heard({verb: value})
        assert (said.hold, said.acted) == (None, {})
        assert outcomes(said) == [(verb, "refused")]
        assert fault in said.records[0].message
        assert len(said.records[0].message) < 300


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("{", "it is not JSON"),
        ('{"of": "ramp"}', "'of' is no field of it; write value, reason, by, until or id"),
        ('{"value": 7}', "value is not text; write it in quotes"),
        ('{"value": "ramp/gate", "until": "soon"}', "until: 'soon' is not an instant"),
        ("", "it names nothing; write "),
        ("  ", "it names nothing; write "),
        ('{"value": " ", "by": "jo"}', "it names nothing; write "),
        ("x" * 262_144, "it is 262,144 characters long; write at most 4,096"),
    ],
    ids=lambda value: value[:24],
)
@pytest.mark.parametrize("verb", ["approve", "done", "advance", "reschedule"])
def test_a_malformed_value_of_a_verb_that_names_something_is_refused_with_words(
    verb: str, value: str, fault: str
) -> None:
    said = heard({verb: value})
    assert (said.acted, outcomes(said)) == ({}, [(verb, "refused")])
    assert fault in said.records[0].message
    if fault.endswith("write "):
        assert said.records[0].message.endswith(EXAMPLES[verb])


@pytest.mark.parametrize("verb", ["approve", "done", "advance", "reschedule"])
def test_text_of_a_verb_that_names_something_is_what_it_is_about(verb: str) -> None:
    override = read_override(verb, " ramp/gate \n")
    assert (override.value, override.reason, override.fault) == ("ramp/gate", "", "")
    written = read_override(verb, '{"value": "ramp/gate", "reason": "looks good", "by": "jo"}')
    assert (written.value, written.words) == ("ramp/gate", " by jo: looks good")


@pytest.mark.parametrize("verb", ["hold", "rollback", "retry"])
def test_a_verb_of_the_whole_launch_names_nothing(verb: str) -> None:
    assert read_override(verb, '{"value": "ramp"}').fault == "'value' is no field of it; write reason, by, until or id"


def test_half_a_surrogate_pair_can_be_stored() -> None:
    override = read_override("hold", '{"reason": "\\ud800", "by": "\\udfff"}')
    assert (override.words.encode(), override.fault) == (b" by ?: ?", "")
    assert read_override("hold", "\udc80").digest


def test_an_empty_value_is_good() -> None:
    said = heard({"rollback": ""})
    assert said.rollback is not None
    assert said.rollback.words == ""


def test_a_rollback_is_acted_on_once_per_value_and_run() -> None:
    first = heard({"rollback": "bad"})
    assert first.rollback is not None
    again = heard({"rollback": "bad"}, first.records)
    assert (again.rollback, again.news, again.records) == (None, (), first.records)
    other = heard({"rollback": "worse"}, first.records)
    assert other.rollback is not None
    next_run = heard({"rollback": "bad"}, first.records, run=2)
    assert next_run.rollback is not None
    assert next_run.records[-1].run == 2
    assert heard({"rollback": "bad"}, next_run.records, run=2).rollback is None


def test_the_same_value_may_be_given_again_once_it_was_seen_absent() -> None:
    first = heard({"retry": "again"})
    gone = heard({}, first.records, now=NOW + 10)
    assert [record.present for record in gone.records] == [False]
    assert gone.news == gone.records
    assert heard({}, gone.records).news == ()
    assert heard({"retry": "again"}, gone.records).retry is not None


def test_a_retry_that_stays_is_not_acted_on_in_a_later_run() -> None:
    first = heard({"retry": "again"})
    assert heard({"retry": "again"}, first.records, run=2).retry is None


def test_a_hold_lasts_as_long_as_its_annotation_in_any_run() -> None:
    first = heard({"hold": "lunch"})
    assert first.hold is not None
    still = heard({"hold": "lunch"}, first.records, run=2, now=NOW + 9999)
    assert still.hold is not None
    assert still.news == ()
    assert heard({}, still.records).hold is None


def test_a_hold_lapses_at_its_time_and_is_recorded_as_expired() -> None:
    value = '{"reason": "lunch", "until": "2023-11-14T22:14:00Z"}'  # forty seconds after NOW
    first = heard({"hold": value})
    assert first.hold is not None
    before = heard({"hold": value}, first.records, now=NOW + 39.999)
    assert before.hold is not None
    lapsed = heard({"hold": value}, before.records, now=NOW + 40)
    assert lapsed.hold is None
    assert outcomes(lapsed) == [("hold", "expired")]
    assert lapsed.records[0].message == "it lapsed at 2023-11-14T22:14:00.000Z"
    assert heard({"hold": value}, lapsed.records, now=NOW + 50).news == ()


def test_what_lapsed_before_it_was_seen_is_never_acted_on() -> None:
    said = heard({"rollback": '{"until": "2023-11-14T22:13:20Z"}'})
    assert (said.rollback, outcomes(said)) == (None, [("rollback", "expired")])


def test_what_does_not_fit_where_the_launch_stands_is_refused_with_why() -> None:
    said = heard({"retry": "now"}, refusals={"retry": "nothing is held"})
    assert (said.retry, said.records[0].outcome, said.records[0].message) == (None, "refused", "nothing is held")
    assert heard({"retry": "now"}, said.records).retry is None


@pytest.mark.parametrize("verb", ["approve", "done", "advance", "reschedule"])
def test_each_verb_is_acted_on_once_and_recorded_with_what_it_was_about_and_who_said_it(verb: str) -> None:
    said = heard({verb: '{"value": "ramp/gate", "reason": "seen", "by": "jo"}'})
    assert said.acted[verb].value == "ramp/gate"
    (record,) = said.records
    assert (record.outcome, record.message, record.by, record.at) == ("accepted", "ramp/gate: seen", "jo", NOW)
    again = heard({verb: '{"value": "ramp/gate", "reason": "seen", "by": "jo"}'}, said.records)
    assert (again.acted, again.news) == ({}, ())


def test_several_verbs_are_heard_in_one_tick() -> None:
    said = heard({"hold": "lunch", "done": "ramp/a", "approve": "ramp/gate"}, refusals={"approve": "not asked for"})
    assert (said.hold is not None, list(said.acted)) == (True, ["done"])
    assert outcomes(said) == [("hold", "accepted"), ("approve", "refused"), ("done", "accepted")]


def test_two_hearings_of_different_verbs_are_one() -> None:
    annotations = {"hold": "lunch", "done": "ramp/a", "approve": "ramp/gate"}
    first = hear(annotations, (), 1, NOW, lambda _: "", ("hold", "done"))
    second = hear(annotations, first.records, 1, NOW, lambda _: "", ("approve",))
    whole = both(first, second)
    assert (whole.hold, list(whole.acted)) == (first.hold, ["done", "approve"])
    assert [record.verb for record in whole.records] == ["hold", "done", "approve"]
    assert len(whole.news) == 3
    again = both(hear(annotations, whole.records, 1, NOW, lambda _: "", ("hold", "done")), second)
    assert again.hold is not None
    assert heard(annotations, whole.records).news == ()


def test_a_hearing_leaves_the_records_of_other_verbs_alone() -> None:
    first = heard({"approve": "ramp/gate"})
    said = hear({}, first.records, 1, NOW, lambda _: "", ("hold", "done"))
    assert (said.records, said.news) == (first.records, ())


def test_annotations_of_no_verb_are_left_alone() -> None:
    assert outcomes(heard({"ack": "x", "epoch": "1-2"})) == [("ack", "accepted")]


def test_the_records_stay_few_and_those_of_present_annotations_stay() -> None:
    records = heard({"hold": "first"}).records
    for number in range(40):
        records = heard({"hold": "first", "retry": str(number)}, records, now=NOW + number).records
    assert len(records) <= 13
    assert [record.value for record in records if record.verb == "hold"] == [read_override("hold", "first").digest]
    assert records[-1].present


@settings(max_examples=12, deadline=None)
@given(
    rounds=st.lists(
        st.dictionaries(st.sampled_from(VERBS), st.one_of(st.sampled_from(["a", "{}", "{"]), st.text(max_size=12))),
        max_size=6,
    )
)
def test_nothing_that_people_write_breaks_it_and_no_round_repeats_the_last(rounds: list[dict[str, str]]) -> None:
    records: tuple[OverrideRecord, ...] = ()
    for written in rounds:
        said = heard(written, records)
        again = heard(written, said.records)
        assert (again.news, again.acted, again.records) == ((), {}, said.records)
        assert again.hold == said.hold
        records = said.records
