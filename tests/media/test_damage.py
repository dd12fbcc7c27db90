"""Some of the damaged files of `tests.media.damage`, which reads more of them when it is called."""

from tests.media.damage import outcomes


def test_damaged_videos_are_played_in_part_or_refused_in_one_sentence() -> None:
    got = list(outcomes(60, seed=1))
    assert [outcome for outcome in got if outcome.kind == "failed"] == []
    assert {outcome.kind for outcome in got} == {"played", "refused"}
    assert len(got) == 60
