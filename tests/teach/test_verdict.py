"""What `check` says of answers in any form, and how a notebook shows it."""

import pytest

import packetwalk as pw
from packetwalk.network import Network
from packetwalk.teach.verdict import NO_ANSWER, Verdict, exercises, lines, number, text

NET = Network("empty")


def refuses(net: Network, answer: object) -> Verdict:
    raise ValueError(f"{answer!r} was not expected")


def judge(net: Network, answer: object) -> Verdict:
    return number(answer, 7, "Yes.", known={6: "One short."}, otherwise="Count again.")


check = exercises(judge, refuses)


@pytest.mark.parametrize(
    ("answer", "right", "why"),
    [
        (7, True, "Yes."),
        (6, False, "One short."),
        (99, False, "Count again."),
        (True, False, "A whole number was expected, not True."),
        ("7", False, "A whole number was expected, not '7'."),
        (..., False, NO_ANSWER),
        ({"a": 1, "b": ...}, False, NO_ANSWER),
    ],
)
def test_an_answer_is_judged_whatever_it_is(answer: object, right: bool, why: str) -> None:
    verdict = check(1, NET, answer)
    assert (bool(verdict), verdict.why) == (right, why)
    assert repr(verdict) == f"{'Right' if right else 'Not yet'}. {why}"


def test_an_error_on_the_way_is_a_verdict() -> None:
    assert check(2, NET, "x") == Verdict(False, "'x' was not expected")
    walks = exercises(lambda net, answer: Verdict(pw.walk(net, "a", "b").delivered, ""))
    assert "no room 'b'" in check_why(walks(1, NET, 1))


def check_why(verdict: Verdict) -> str:
    assert not verdict
    return verdict.why


def test_an_exercise_that_is_not_there() -> None:
    assert "only 1 to 2" in check_why(check(3, NET, 7))


def test_a_verdict_is_shown_in_colour_and_escaped() -> None:
    shown = Verdict(False, "<script>alert(1)</script>")._repr_html_()
    assert "Not yet" in shown and "<script>" not in shown and "&lt;script&gt;" in shown


def test_lines_are_one_or_several() -> None:
    assert lines(" a  b ", "A line") == ["a b"] and lines(["a", "b"], "A line") == ["a", "b"]
    for wrong in (3, "", ["a", 3], None):
        with pytest.raises(ValueError, match="A line was expected"):
            lines(wrong, "A line")
    assert text("a\n b", "A word") == "a b"
