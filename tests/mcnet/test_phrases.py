"""Texts for people: the names that are offered in place of one that is not known."""

import pytest

from mcnet.phrases import offered


@pytest.mark.parametrize(
    ("got", "said"),
    [
        ("woman1", "man_1, woman_1, Calm; did you mean woman_1?"),
        ("MAN_1", "man_1, woman_1, Calm; did you mean man_1?"),
        ("calmly", "man_1, woman_1, Calm; did you mean Calm?"),
        ("nobody", "man_1, woman_1, Calm"),
        ("", "man_1, woman_1, Calm"),
    ],
)
def test_the_nearest_name_is_proposed(got: str, said: str) -> None:
    assert offered(["man_1", "woman_1", "Calm"], got) == said


def test_where_there_is_no_name_none_is_offered() -> None:
    assert offered([], "anything") == ""


def test_names_are_said_as_the_caller_says_them() -> None:
    assert offered(["a1", "Anna"], "ana", "a1 (Anna)") == "a1 (Anna); did you mean Anna?"
