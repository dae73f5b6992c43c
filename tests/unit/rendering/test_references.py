from __future__ import annotations

import shlex

from baton.rendering.references import names_in, quote, substitute


def test_references_become_variables_and_the_rest_is_quoted() -> None:
    assert quote("$(POD_IP)") == '"${POD_IP}"'
    assert quote('{"id": "$(engine_id)"}') == """'{"id": "'"${engine_id}"'"}'"""


def test_text_without_references_is_one_shell_word() -> None:
    for text in ("", "plain", "it's", "$(rm -rf /)", "$POD_IP", "two words", "a\nb"):
        assert shlex.split(quote(text)) == [text]


def test_a_variable_that_may_be_unset_is_empty_then() -> None:
    assert quote("a:$(LD_PRELOAD)") == 'a:"${LD_PRELOAD-}"'


def test_known_values_are_put_in_and_others_stay() -> None:
    assert substitute("$(rank)/$(POD_IP)/$(other)", {"rank": "3"}) == "3/$(POD_IP)/$(other)"


def test_names_are_found_once() -> None:
    assert names_in(["$(rank) $(rank)", "$(port)", "$(nothing)"]) == {"rank", "port"}
