from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from baton.kube.lines import LineSplitter


@given(data=st.binary(max_size=200).map(lambda data: data.replace(b"\x00", b"\n")), cuts=st.lists(st.integers(1, 20)))
def test_lines_are_the_same_wherever_the_stream_is_cut(data: bytes, cuts: list[int]) -> None:
    splitter = LineSplitter()
    lines, rest = [], data
    for cut in cuts:
        lines += splitter.feed(rest[:cut])
        rest = rest[cut:]
    lines += splitter.feed(rest + b"\n")
    assert lines == [line for line in data.split(b"\n") if line]


def test_a_line_without_its_end_is_not_a_line_yet() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"a\nb") == [b"a"]
    assert splitter.feed(b"c") == []
    assert splitter.feed(b"\n\n") == [b"bc"]
