"""Looking again: a decided verdict stays, looks stop when all is decided, and none begins that takes too long."""

from dataclasses import dataclass

import pytest

from decoupled_wd.study.claims.choice import Choice
from decoupled_wd.study.claims.exchange import Exchange
from decoupled_wd.study.claims.generalization import Generalization
from decoupled_wd.study.claims.interaction import Interaction
from decoupled_wd.study.claims.verdicts import (
    FAILS,
    HOLDS,
    MISSING,
    SAME,
    UNDECIDED,
    Finding,
    Verdict,
)
from decoupled_wd.study.experiment import Experiment
from decoupled_wd.study.looks import look
from decoupled_wd.study.profiles import PROFILES
from decoupled_wd.study.statistics import Estimate

NAN = float("nan")
INTERVALS = {
    HOLDS: (2.0, 1.0, 3.0),
    FAILS: (-2.0, -3.0, -1.0),
    SAME: (0.0, -0.2, 0.2),
    UNDECIDED: (0.0, -1.0, 1.0),
    MISSING: (NAN, NAN, NAN),
}


@dataclass(frozen=True)
class Sized:
    """A design that has looks; the study below finds for it what it is told."""

    looks: tuple[int, ...]


@dataclass(frozen=True)
class Sharing(Experiment):
    """An experiment that shares what it is told to."""

    shares: str = ""


def experiment(name, looks=(4, 8, 16), seconds=10.0, again=1.0, shares="", claim="ii"):
    return Sharing(claim, name, "mlp", Sized(looks), seconds, again, shares)


class Study:
    """A fake study with a fake clock: what each look at each experiment finds, and how long it takes."""

    def __init__(self, finds, takes=None):
        self.finds, self.takes, self.now, self.asked = finds, takes or {}, 0.0, []

    def clock(self):
        return self.now

    def __call__(self, experiment, number):
        self.asked.append((experiment.dataset, number))
        self.now += self.takes.get(experiment.dataset, 10.0)
        verdicts = [
            Verdict(f"statement {i}", "toy", "points", estimate(word, number), ">", 0.0, 0.5, 3)
            for i, word in enumerate(self.finds[experiment.dataset][number])
        ]
        return Finding(verdicts, {"drawn at": number}, [{"look": number}])


def estimate(word, number):
    # an interval may be given as such
    return Estimate(*INTERVALS.get(word, word), 1.0, seeds=8 * (number + 1))


def looked(finds, *experiments, takes=None, **options):
    """Who was asked, and what was found."""
    study = Study(finds, takes)
    experiments = experiments or [experiment(name) for name in finds]
    found = look(experiments, study, clock=study.clock, **options)
    return study.asked, found


@pytest.mark.parametrize("word", [HOLDS, FAILS, SAME])
def test_looks_stop_when_everything_is_decided(word):
    asked, ((_, finding),) = looked({"a": [[word, UNDECIDED], [UNDECIDED, word], [HOLDS, HOLDS]]})
    assert asked == [("a", 0), ("a", 1)]
    assert [verdict.verdict for verdict in finding.verdicts] == [word, word]


def test_the_first_verdict_that_decides_stays_with_its_interval():
    """Whatever later looks say; and what is undecided has the last interval."""
    finds = {
        "a": [[UNDECIDED, HOLDS, UNDECIDED], [FAILS, FAILS, UNDECIDED], [HOLDS, SAME, UNDECIDED]]
    }
    asked, ((_, finding),) = looked(finds)
    assert asked == [("a", 0), ("a", 1), ("a", 2)]
    seeds = [(verdict.verdict, verdict.estimate.seeds) for verdict in finding.verdicts]
    assert seeds == [(FAILS, 16), (HOLDS, 8), (UNDECIDED, 24)]


def test_pictures_and_tables_are_of_the_last_look_and_seconds_of_all():
    _, ((_, finding),) = looked({"a": [[UNDECIDED], [UNDECIDED], [HOLDS]]}, takes={"a": 7.0})
    assert finding.drawings == {"drawn at": 2}
    assert finding.table == [{"look": 2}]
    assert finding.seconds == 21.0


def test_what_was_not_measured_is_looked_at_again():
    asked, ((_, finding),) = looked({"a": [[MISSING], [HOLDS], []]})
    assert asked == [("a", 0), ("a", 1)]
    assert finding.verdicts[0].verdict == HOLDS


def test_rounds_go_across_experiments_before_anything_is_looked_at_again():
    finds = {
        "a": [[UNDECIDED], [HOLDS]],
        "b": [[HOLDS]],
        "c": [[UNDECIDED], [UNDECIDED], [UNDECIDED]],
    }
    asked, found = looked(finds)
    assert asked == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1), ("c", 2)]
    assert [each.dataset for each, _ in found] == ["a", "b", "c"]


def test_each_experiment_has_as_many_looks_as_it_says():
    finds = {"a": [[UNDECIDED]], "b": [[UNDECIDED]] * 3}
    asked, _ = looked(finds, experiment("a", looks=(2,)), experiment("b"))
    assert asked == [("a", 0), ("b", 0), ("b", 1), ("b", 2)]


NEVER = [[UNDECIDED]] * 3


def test_at_first_the_profile_says_how_long_it_takes():
    """What does not fit into what is left of the time is left out; what is shorter and comes later is not."""
    expected = {"a": 60.0, "b": 600.0, "c": 30.0, "d": 20.0, "e": 10.0}
    plan = [experiment(name, seconds=seconds) for name, seconds in expected.items()]
    finds = {name: [[HOLDS]] for name in expected}
    asked, found = looked(finds, *plan, takes=expected, seconds=100.0)
    assert asked == [("a", 0), ("c", 0), ("e", 0)]
    assert [each.dataset for each, _ in found] == ["a", "c", "e"]


@pytest.mark.parametrize(
    ("seconds", "looks"), [(19.9, 1), (20.0, 2), (39.9, 2), (40.0, 3), (1e9, 3)]
)
def test_a_look_is_expected_to_take_as_long_for_each_seed_as_the_last(seconds, looks):
    """10 s for the first 4 seeds: 10 s for the next 4, and 20 s for the last 8."""
    takes = iter([10.0, 10.0, 20.0])

    class Faithful(Study):
        def __call__(self, experiment, number):
            self.takes = {"a": next(takes)}
            return super().__call__(experiment, number)

    study = Faithful({"a": NEVER})
    look([experiment("a", seconds=1.0)], study, seconds=seconds, clock=study.clock)
    assert study.asked == [("a", number) for number in range(looks)]


def test_its_own_last_look_counts_more_than_the_profile():
    """It said 1 s and took 50, so the next is expected to take as long."""
    asked, _ = looked({"a": NEVER}, experiment("a", seconds=1.0), takes={"a": 50.0}, seconds=99.0)
    assert asked == [("a", 0)]
    asked, _ = looked({"a": NEVER}, experiment("a", seconds=1.0), takes={"a": 50.0}, seconds=100.0)
    assert asked == [("a", 0), ("a", 1)]


def test_a_look_that_does_not_fit_is_left_out():
    """And so is a third look, however short: it would train the seeds of the second, too."""
    sizes = experiment("a", looks=(4, 16, 17))
    asked, ((_, finding),) = looked({"a": NEVER}, sizes, takes={"a": 10.0}, seconds=15.0)
    assert asked == [("a", 0)]
    assert finding.verdicts[0].verdict == UNDECIDED


def test_a_pilot_is_not_expected_again():
    """Of 10 s half were the pilot's, so that a second look takes 5 and the third twice as long as the second."""
    sizes, takes = experiment("a", again=0.5), {"a": 10.0}
    assert [len(looked({"a": NEVER}, sizes, takes=takes, seconds=s)[0]) for s in (14.9, 15.0)] == [1, 2]  # fmt: skip
    assert [len(looked({"a": NEVER}, sizes, takes=takes, seconds=s)[0]) for s in (39.9, 40.0)] == [2, 3]  # fmt: skip


FAR, NEAR = (0.1, -2.0, 2.2), (1.0, -0.2, 2.2)
"""Both undecided; the one clears its bound with sixteen times as many seeds, the other with a few more."""


def test_what_is_nearest_to_a_decision_for_its_time_comes_next():
    def order(takes=None, **found):
        asked, _ = looked({name: [each] * 2 for name, each in found.items()},
                          *(experiment(name, looks=(4, 8)) for name in found), takes=takes)  # fmt: skip
        return "".join(name for name, number in asked if number == 1)

    assert order(a=[FAR], b=[NEAR]) == "ba"
    assert order(a=[NEAR], b=[FAR]) == "ab"
    # two statements are worth twice as much time as one
    assert order(a=[NEAR], b=[NEAR, NEAR]) == "ba"
    assert order(a=[NEAR], b=[NEAR], takes={"a": 30.0}) == "ba"
    assert order(a=[NEAR], b=[NEAR, NEAR], takes={"b": 30.0}) == "ab"
    # one that is sure to be decided is worth as much as its share of what is expected
    assert order(a=[FAR, FAR], b=[NEAR]) == "ba"


class Shared(Study):
    """Two claims on one data set, of which the first that is asked trains for both."""

    def __init__(self, finds, takes):
        super().__init__(finds)
        self.each, self.trained = takes, set()

    def __call__(self, experiment, number):
        self.takes = {experiment.dataset: 1.0 if number in self.trained else self.each}
        self.trained.add(number)
        return super().__call__(experiment, number)


def together(first, second, seconds):
    """Who was looked at again: the one that trained at the first look, or the other."""
    finds = {"a": [[first, second]] * 3}

    class Told(Shared):
        def __call__(self, experiment, number):
            finding = super().__call__(experiment, number)
            place = ("ii", "iii").index(experiment.claim)
            self.asked[-1] = (experiment.claim, number)
            return finding._replace(verdicts=finding.verdicts[place : place + 1])

    study = Told(finds, 50.0)
    plan = [experiment("a", (4, 8), 1.0, shares="x", claim=claim) for claim in ("ii", "iii")]
    look(plan, study, seconds=seconds, clock=study.clock)
    return [claim for claim, number in study.asked if number == 1]


def test_those_that_share_what_they_train_are_looked_at_together():
    """They took 50 and 1 s, so that either look takes 51, whichever of them trains."""
    assert together(NEAR, FAR, seconds=101.9) == []
    assert together(NEAR, FAR, seconds=102.0) == ["ii", "iii"]
    # where the one that trained at first is decided, the other trains
    assert together(HOLDS, NEAR, seconds=101.9) == []
    assert together(HOLDS, NEAR, seconds=102.0) == ["iii"]
    assert together(NEAR, HOLDS, seconds=102.0) == ["ii"]


def test_a_valley_that_is_open_may_close_with_more_seeds():
    """It comes before what many seeds would be needed for, as if only chance had opened it."""
    # Student's half-width is 3 with an error of 1 and eight seeds
    near_but_open = (20.0, -float("inf"), 30.0)
    finds = {"a": [[FAR]] * 3, "b": [[near_but_open]] * 3}
    asked, _ = looked(finds, *(experiment(name) for name in finds), seconds=30.0)
    assert asked[2:] == [("b", 1)]


def test_only_on_one_task_do_they_share():
    finds = {"a": [[NEAR]] * 2, "b": [[FAR]] * 2}
    plan = [experiment(name, looks=(4, 8), shares="x") for name in finds]
    asked, _ = looked(finds, *plan, seconds=30.0)
    assert asked == [("a", 0), ("b", 0), ("a", 1)]


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_tell_what_is_trained_once(profile):
    groups = {}
    for each in PROFILES[profile]:
        if each.shares:
            found = groups.setdefault((each.dataset, each.network, each.shares), [])
            found.append(type(each.design))
    ridges, searches = [Interaction, Generalization], [Choice, Choice, Exchange]
    assert groups
    assert all(each in (ridges, searches) for each in groups.values())
    # none is left alone that could share
    apart = [each for each in PROFILES[profile] if not each.shares]
    assert not any(isinstance(each.design, (Generalization, Exchange)) for each in apart)


def test_the_statements_of_all_that_share_count_for_their_time():
    """Four statements in 20 s are worth more than one in 10."""
    finds = {"a": [[NEAR]] * 2, "b": [[NEAR, NEAR]] * 2}
    plan = [
        experiment("a", looks=(4, 8)),
        *(experiment("b", looks=(4, 8), shares="x", claim=claim) for claim in ("ii", "iii")),
    ]
    asked, _ = looked(finds, *plan)
    assert asked == [("a", 0), ("b", 0), ("b", 0), ("b", 1), ("b", 1), ("a", 1)]


def test_too_little_time_for_anything_is_an_error_that_says_how_much_it_takes():
    study = Study({"a": NEVER, "b": NEVER})
    plan = [experiment("a", seconds=300.0), experiment("b", seconds=90.0)]
    words = "--minutes 1 is too short for any experiment: the shortest takes 1.5; pass more"
    with pytest.raises(ValueError, match=words):
        look(plan, study, seconds=60.0, clock=study.clock)
    assert not study.asked


def test_without_a_limit_there_is_none():
    asked, _ = looked({"a": NEVER}, experiment("a", seconds=1e9), takes={"a": 1e12})
    assert len(asked) == 3
