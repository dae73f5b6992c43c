from __future__ import annotations

from baton.router.connectors.merge import merge_answers, merge_usage, place_event


def test_choices_are_numbered_and_the_rest_is_the_first_answers() -> None:
    answers = [
        {"id": "a", "created": 1, "choices": [{"index": 0, "text": "x"}], "usage": None},
        {"id": "b", "created": 2, "choices": [{"index": 0, "text": "y"}], "usage": None},
    ]

    merged = merge_answers(answers, is_first=[True, False])

    assert merged == {
        "id": "a",
        "created": 1,
        "choices": [{"index": 0, "text": "x"}, {"index": 1, "text": "y"}],
        "usage": None,
    }


def test_usage_counts_a_prompt_once_and_all_that_was_generated() -> None:
    one = {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": None},
    }

    merged = merge_usage([one, one, one], is_first=[True, False, True])

    assert merged == {
        "prompt_tokens": 20,
        "completion_tokens": 9,
        "total_tokens": 29,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 6, "audio_tokens": None},
    }


def test_usage_that_nobody_told_is_none() -> None:
    assert merge_usage([None, None], is_first=[True, True]) is None


def test_events_of_a_part_are_events_of_the_whole() -> None:
    head = {"id": "a", "created": 1}
    event = {"id": "b", "created": 2, "model": "m", "choices": [{"index": 0, "delta": {}}]}

    assert place_event(event, head, index=3) == {
        "id": "a",
        "created": 1,
        "model": "m",
        "choices": [{"index": 3, "delta": {}}],
    }
