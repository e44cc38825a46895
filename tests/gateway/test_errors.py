from __future__ import annotations

import inspect

import pytest

import experts.errors
import gateway.errors
import routers.errors
from experts.errors import (
    ExpertCallError,
    ExpertRateLimitedError,
    ExpertRejectedError,
    ExpertTimeoutError,
    ExpertUnavailableError,
)
from experts.taxonomy import HANDLING
from gateway.errors import STATUS, AllExpertsFailedError, ApiError, api_error

CLASSES = [
    member
    for module in (experts.errors, routers.errors, gateway.errors)
    for _, member in inspect.getmembers(module, inspect.isclass)
    if issubclass(member, Exception) and member.__module__ == module.__name__
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_of_ours_has_a_status_of_its_own(kind: type[Exception]) -> None:
    in_table = issubclass(kind, ExpertCallError) and kind.kind in HANDLING
    assert in_table or kind in STATUS or kind in (ApiError, AllExpertsFailedError)


def test_each_kind_of_failed_call_is_one_class() -> None:
    kinds = [kind.kind for kind in CLASSES if issubclass(kind, ExpertCallError)]
    assert sorted(kinds) == sorted(HANDLING)


def test_an_error_that_is_not_ours_says_nothing_of_its_cause() -> None:
    failure = api_error(KeyError("password"))
    assert failure.status == 500
    assert "password" not in failure.message


def test_when_all_failed_the_last_status_and_every_cause_are_given() -> None:
    causes = (ExpertUnavailableError("a", "refused"), ExpertTimeoutError("b", "slow"))
    failure = api_error(AllExpertsFailedError(causes, "dec-1"))
    assert failure.status == 504
    assert "a: refused" in failure.message
    assert "b: slow" in failure.message
    assert failure.headers["x-pointsman-decision-id"] == "dec-1"


def test_a_rate_limit_says_when_to_come_back() -> None:
    cause = ExpertRateLimitedError("a", "busy", retry_after_s=2.6)
    failure = api_error(AllExpertsFailedError((cause,), "dec-1"))
    assert (failure.status, failure.headers["retry-after"]) == (429, "3")


def test_a_providers_own_code_reaches_the_client() -> None:
    error = ExpertUnavailableError("a", "x", code="engine_overloaded")
    assert api_error(error).body()["error"]["code"] == "engine_overloaded"


def test_the_field_at_fault_reaches_the_client_from_whoever_failed_last() -> None:
    cause = ExpertRejectedError("a", "top_p: too high", param="top_p").within("chain")
    assert api_error(cause).param == "top_p"
    causes = (ExpertTimeoutError("b", "slow"), cause)
    assert api_error(AllExpertsFailedError(causes, "dec-1")).param == "top_p"
