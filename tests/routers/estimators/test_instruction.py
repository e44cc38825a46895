"""Instruction matching: cards where the task is known, outcomes elsewhere (A4 of the methods)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.encoders.instructions import ExtractiveInstructor, template_key
from routers.encoders.lexical import HashingEncoder
from routers.errors import RoutingError, TableError
from routers.estimators.described import describe
from routers.estimators.instruction import InstructionEstimator
from routers.estimators.link import Link
from routers.estimators.observed import Observed, observed
from routers.features import Featurizer
from routers.fitting.fit import fit_router
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable

CARDS = {
    "law": "Decide which verdict the court reaches under this statute.",
    "maths": "Solve the equation and show every step.",
    "words": "Translate the sentence into French.",
}
EXPERTS = tuple(sorted(CARDS))
ROWS = 300


def table_of(prompts: list[str], score_NA: Floats, experts: tuple[str, ...]) -> OutcomeTable:
    ids = tuple(f"q{i:04d}" for i in range(len(prompts)))
    nothing_NA = np.full(score_NA.shape, np.nan)
    return OutcomeTable(
        ids,
        tuple(prompts),
        (None,) * len(ids),
        ids,
        experts,
        score_NA,
        nothing_NA,
        nothing_NA,
        nothing_NA,
        nothing_NA,
        np.ones(score_NA.shape),
    )


def features_of(prompts: list[str]) -> FeatureBatch:
    return Featurizer(HashingEncoder(64)).transform(prompts)


def a_world(rng: np.random.Generator) -> OutcomeTable:
    """Each expert is right nine times in ten on what its card says, four times elsewhere."""
    home_N = rng.integers(3, size=ROWS)
    words = rng.integers(10**6, size=(ROWS, 3)).astype(str)
    prompts = [f"{CARDS[EXPERTS[home]]}\n{' '.join(words[row])}" for row, home in enumerate(home_N)]
    right_NA = np.where(home_N[:, None] == np.arange(3), 0.9, 0.4)
    return table_of(prompts, (rng.random((ROWS, 3)) < right_NA).astype(np.float64), EXPERTS)


@pytest.fixture(scope="module")
def fitted() -> InstructionEstimator:
    world = a_world(np.random.default_rng(0))
    unfitted = InstructionEstimator(CARDS, encoder="tfidf")
    return unfitted.fit(features_of(list(world.prompts)), world, np.random.default_rng(1))


class Noise:
    """A local estimator that is sure of nonsense."""

    name = "knn"

    def __init__(self, quality_A: tuple[float, ...]) -> None:
        self.quality_A = np.array(quality_A)

    def predict(self, features: FeatureBatch) -> Estimates:
        quality_NA = np.tile(self.quality_A, (len(features), 1))
        return Estimates(EXPERTS, quality_NA, quality_NA * 0 + 0.1, quality_NA, quality_NA)


def with_local(fitted: InstructionEstimator, quality_A: tuple[float, ...]) -> InstructionEstimator:
    noisy = fitted.instructed(ExtractiveInstructor())
    noisy._local = Noise(quality_A)  # type: ignore[assignment]
    return noisy


@pytest.mark.parametrize("home", EXPERTS)
@pytest.mark.parametrize("noise", [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)], ids=str)
def test_an_instruction_that_a_card_holds_goes_to_its_expert_whatever_the_local_noise(
    fitted: InstructionEstimator, home: str, noise: tuple[float, ...]
) -> None:
    prompt = f"{CARDS[home]}\n- something never seen before"
    quality_A = with_local(fitted, noise).predict(features_of([prompt])).quality_NA[0]
    assert EXPERTS[int(np.argmax(quality_A))] == home


def test_a_request_far_from_every_card_falls_back_to_the_local_estimate(
    fitted: InstructionEstimator,
) -> None:
    far = features_of(["Who painted the ceiling of that chapel?"])
    quality_A = with_local(fitted, (0.2, 0.7, 0.4)).predict(far).quality_NA[0]
    np.testing.assert_allclose(quality_A, [0.2, 0.7, 0.4], atol=1e-3)


def no_probes(expert: str) -> tuple[FeatureBatch, OutcomeTable]:
    return features_of([]), table_of([], np.zeros((0, 1)), (expert,))


def test_admission_by_description_changes_the_newcomers_column_alone(
    fitted: InstructionEstimator,
) -> None:
    asked = features_of([CARDS["law"], CARDS["words"], "Sort these numbers."])
    before = fitted.predict(asked).quality_NA
    more = fitted.add_expert("lingo", *no_probes("lingo"), description=CARDS["words"])
    after = more.predict(asked)
    assert after.experts == ("law", "lingo", "maths", "words")
    np.testing.assert_array_equal(after.quality_NA[:, [0, 2, 3]], before)
    lingo_N = after.quality_NA[:, 1]
    assert lingo_N[1] > 0.8
    assert lingo_N[1] > lingo_N[0] + 0.2
    assert fitted.predict(asked).experts == EXPERTS
    gone = more.remove_expert("lingo")
    np.testing.assert_array_equal(gone.predict(asked).quality_NA, before)


def test_probes_move_the_newcomer_off_its_card(fitted: InstructionEstimator) -> None:
    prompts = [f"{CARDS['words']}\n{i}" for i in range(60)]
    probes = table_of(prompts, np.zeros((60, 1)), ("lingo",))
    boast = fitted.add_expert("lingo", *no_probes("lingo"), description=CARDS["words"])
    tried = fitted.add_expert("lingo", features_of(prompts), probes, description=CARDS["words"])
    asked = features_of([CARDS["words"]])
    said, shown = (each.predict(asked) for each in (boast, tried))
    assert shown.quality_NA[0, 1] < said.quality_NA[0, 1] - 0.5
    assert shown.stderr_NA[0, 1] < said.stderr_NA[0, 1]


def test_a_newcomer_of_whom_nothing_is_known_stays_unknown(fitted: InstructionEstimator) -> None:
    more = fitted.add_expert("mute", *no_probes("mute"))
    assert np.isnan(more.predict(features_of([CARDS["law"]])).quality_NA[0, 2])


def test_an_expert_is_added_once_and_only_a_known_one_removed(
    fitted: InstructionEstimator,
) -> None:
    with pytest.raises(TableError, match="'law' is known already"):
        fitted.add_expert("law", *no_probes("law"))
    with pytest.raises(TableError, match="must be outcomes of it alone"):
        fitted.add_expert("new", *no_probes("other"))
    with pytest.raises(RoutingError, match="no expert 'new' to remove"):
        fitted.remove_expert("new")


def test_an_admitted_expert_is_still_there_after_a_round_trip(
    fitted: InstructionEstimator,
) -> None:
    more = fitted.add_expert("lingo", *no_probes("lingo"), description=CARDS["words"])
    asked = features_of([CARDS["words"], "Anything else?"])
    again = InstructionEstimator.from_state(more.state())
    np.testing.assert_array_equal(again.predict(asked).quality_NA, more.predict(asked).quality_NA)


def test_descriptions_reach_the_estimator_through_a_router() -> None:
    world = a_world(np.random.default_rng(0))
    plain, told = (
        fit_router("r", "instruction+hashing", world, seed=0, descriptions=descriptions)
        for descriptions in (None, CARDS)
    )
    assert plain.version != told.version


def test_an_instructor_from_outside_is_asked(fitted: InstructionEstimator) -> None:
    class French:
        def instruction(self, text: str) -> str:
            return CARDS["words"]

    asked = features_of(["Bonjour, le monde!"])
    quality_A = fitted.instructed(French()).predict(asked).quality_NA[0]
    assert EXPERTS[int(np.argmax(quality_A))] == "words"


@pytest.mark.parametrize(
    ("text", "instruction"),
    [
        ("Summarise this passage.\n\nIt rained. We left.", "Summarise this passage."),
        ("Question: Who won?\nA. Ann\nB. Ben\nAnswer:", "Who won?"),
        ("It rained. We left. Where did we go? (Nobody knows.)", "Where did we go?"),
        ("It rained. We left.", "It rained."),
        (
            "You are a clerk.\nMiss A: tea\nWhat does she want?",
            "You are a clerk. What does she want?",
        ),
        ("\u8c01\u8d62\u4e86\uff1f\u6211\u4e0d\u77e5\u9053\u3002", "\u8c01\u8d62\u4e86\uff1f"),
        ("", ""),
    ],
    ids=["imperative", "choice", "question", "nothing", "both", "chinese", "empty"],
)
def test_the_instruction_is_what_asks(text: str, instruction: str) -> None:
    assert ExtractiveInstructor().instruction(text) == instruction


def test_prompts_of_one_template_share_a_key() -> None:
    one, other = (f'Translate "{word}" within {n} words.' for word, n in [("a", 3), ("b c", 40)])
    assert template_key(one) == template_key(other)
    assert template_key(one) != template_key(one.replace("Translate", "Explain"))


def test_experts_without_a_card_are_described_by_what_they_lead_at() -> None:
    rng = np.random.default_rng(2)
    tasks = tuple(rng.choice(["law_cases", "sums"], 200).tolist())
    at_law_N = np.array([task == "law_cases" for task in tasks])
    score_NA = np.column_stack([at_law_N, ~at_law_N, np.zeros(200)]).astype(np.float64)
    outcomes = Observed(score_NA, np.array([1.0, 1.0, 0.0]) * np.ones((200, 3)), score_NA.mean(0))
    instructions = ["judge the plea" if at_law else "add both numbers" for at_law in at_law_N]
    made = describe(instructions, tasks, outcomes)
    assert made == ("law cases, judge plea the", "sums, add both numbers", "")


def test_the_link_finds_the_slope_that_was_planted_and_never_falls() -> None:
    rng = np.random.default_rng(3)
    alike_NA = rng.random((20_000, 2))
    table = table_of(["x"] * 20_000, np.zeros((20_000, 2)), ("a", "b"))
    features = features_of(["x"]).take(np.zeros(20_000, dtype=np.intp))
    for slope, found in ((2.0, 2.0), (-2.0, 0.0)):
        right_NA = rng.random((20_000, 2)) < 1 / (1 + np.exp(1 - slope * alike_NA))
        outcomes = observed(features, replace(table, score_NA=right_NA.astype(np.float64)))
        link = Link.fit(alike_NA, outcomes)
        assert link.slope == pytest.approx(found, abs=0.15)
        assert link.quality(alike_NA).mean() == pytest.approx(right_NA.mean(), abs=0.01)
