"""What a call waits for before it is made: its engine awake, and a slot of its expert."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from experts.errors import ExpertBusyError
from gateway.execution.traffic import Terms, Traffic


def place(
    traffic: Traffic, terms: Terms, expert_id: str, left_s: Callable[[], float]
) -> AbstractAsyncContextManager[None]:
    """A place for one call, for as long as the context is open.

    Args:
        traffic: Who has places.
        terms: Of the request; a call that is aside waits for nothing, and wakes nobody.
        expert_id: Who is to be called.
        left_s: Seconds until the request's deadline.

    Raises:
        ExpertBusyError: On entering, when there is no place in time, or at once for a call aside.
        ExpertOutOfServiceError: On entering, when its engine is not coming back soon.
    """
    slot = _slot(traffic, terms, expert_id, left_s)
    return (
        _awake(traffic, terms, expert_id, left_s, slot) if expert_id in traffic.residents else slot
    )


@asynccontextmanager
async def _awake(
    traffic: Traffic,
    terms: Terms,
    expert_id: str,
    left_s: Callable[[], float],
    slot: AbstractAsyncContextManager[None],
) -> AsyncIterator[None]:
    residents = traffic.residents
    if terms.recall is None:
        engine = await residents.enter(expert_id, left_s())
    elif (awake := residents.try_enter(expert_id)) is not None:
        engine = awake
    else:
        raise ExpertBusyError(expert_id, "it is not awake")
    try:
        async with slot:
            yield
    finally:
        residents.leave(engine)


@asynccontextmanager
async def _slot(
    traffic: Traffic, terms: Terms, expert_id: str, left_s: Callable[[], float]
) -> AsyncIterator[None]:
    slots, recall = traffic.slots, terms.recall
    if recall is not None:
        if not slots.borrow(expert_id, recall):
            raise ExpertBusyError(expert_id, "no slot is free")
        try:
            yield
        finally:
            slots.hand_back(expert_id, recall)
        return
    if not slots.try_acquire(expert_id):
        try:
            with anyio.fail_after(left_s()):
                await slots.acquire(expert_id, terms.who)
        except TimeoutError as error:
            raise ExpertBusyError(expert_id, "no slot came free in time") from error
    try:
        yield
    finally:
        slots.release(expert_id)
