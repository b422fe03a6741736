"""Faults as data, and the choice of the one that strikes. No sockets."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from random import Random
from typing import Final, Literal, TypeAlias, get_args

from attrs import Factory, evolve, field, frozen, validators

from openrouter_keys.emulator.answers import Answer, error_answer, html_answer
from openrouter_keys.emulator.bounds import Validator, integer, number, texts

OperationName: TypeAlias = Literal["list", "create", "get", "update", "delete", "current", "*"]
Phase: TypeAlias = Literal["before", "after"]
Kind: TypeAlias = Literal[
    "status",
    "closed",
    "reset",
    "stalled",
    "stalled_body",
    "cut",
    "reset_body",
    "garbage",
    "not_json",
    "empty",
    "body",
    "late",
    "slow",
]

_count: Final[Validator] = validators.optional(integer(1))


@frozen(eq=False)
class Fault:
    """A fault of the service or the network in one request.

    The kinds: ``status`` answers ``status``; ``closed`` and ``reset`` end the connection without
    an answer; ``stalled`` never answers; ``stalled_body``, ``cut`` and ``reset_body`` send a
    ``portion`` of the answer's body and then nothing, an orderly end, a reset; ``garbage`` is not
    HTTP; ``not_json``, ``empty`` and ``body`` have the right status and HTML, no body, ``body``;
    ``late`` closes the connection and applies the request ``delay`` seconds after the client has
    disconnected; ``slow`` sends the right answer after ``delay`` seconds.

    Args:
        operation: the operation that it strikes; ``*``: any.
        kind: what goes wrong.
        phase: whether the request is applied ("after") or not ("before"). ``late`` and ``slow``
            apply it in any case; ``slow`` waits before or after that.
        times: how many requests it strikes. None: any number.
        skip: how many matching requests pass first.
        probability: of striking a request that matches, 0 to 1; one that passes does not count.
        status: of the answer, for ``status``. A success keeps the true body unless given ``body``.
        headers: of the answer; they add to the usual ones or replace them.
        body: of the answer, for ``status``, ``not_json`` and ``body``. None: the usual one.
        delay: seconds, for ``late`` and ``slow``.
        portion: how much of the body arrives, 0 to 1, for the kinds that break off inside it.

    Raises:
        ValueError: an argument has the wrong type, or is out of its range.
        TypeError: ``body`` is not bytes.
    """

    operation: OperationName = field(default="*", validator=validators.in_(get_args(OperationName)))
    kind: Kind = field(default="status", validator=validators.in_(get_args(Kind)))
    phase: Phase = field(default="before", validator=validators.in_(get_args(Phase)), kw_only=True)
    times: int | None = field(default=1, validator=_count, kw_only=True)
    skip: int = field(default=0, validator=integer(0), kw_only=True)
    probability: float = field(default=1.0, validator=number(0, 1), kw_only=True)
    status: int = field(default=500, validator=integer(200, 599), kw_only=True)
    headers: Mapping[str, str] = field(
        default=Factory(dict[str, str]), validator=texts, kw_only=True
    )
    body: bytes | None = field(
        default=None, validator=validators.optional(validators.instance_of(bytes)), kw_only=True
    )
    delay: float = field(default=0.05, validator=number(0), kw_only=True)
    portion: float = field(default=0.5, validator=number(0, 1), kw_only=True)


def strike(faults: list[Fault], operation: str, random: Random) -> Fault | None:
    """Return the first fault that strikes a request, used up by one; others count it as passed."""
    struck = None
    for fault in [fault for fault in faults if fault.operation in {operation, "*"}]:
        if fault.skip > 0:
            faults[faults.index(fault)] = evolve(fault, skip=fault.skip - 1)
        elif struck is None and random.random() < fault.probability:
            struck = fault
    if struck is not None:
        _use_up(faults, struck)
    return struck


def _use_up(faults: list[Fault], fault: Fault) -> None:
    place = faults.index(fault)
    if fault.times is not None and fault.times > 1:
        faults[place] = evolve(fault, times=fault.times - 1)
    elif fault.times is not None:
        del faults[place]


def applies(fault: Fault | None) -> bool:
    """Return whether a struck request is applied all the same, now or later."""
    return fault is None or fault.phase == "after" or fault.kind in {"late", "slow"}


def spoiled(fault: Fault, answer: Answer) -> Answer:
    """Return the answer with the fault in it, if it changes more than the delivery."""
    spoil = _SPOILS.get(fault.kind)
    return (answer if spoil is None else spoil(fault, answer)).with_headers(fault.headers)


def _status(fault: Fault, answer: Answer) -> Answer:
    if fault.body is None and HTTPStatus.OK <= fault.status < HTTPStatus.MULTIPLE_CHOICES:
        return evolve(answer, status=fault.status)
    return error_answer(fault.status, fault.body)


def _not_json(fault: Fault, answer: Answer) -> Answer:
    html = html_answer(answer.status, "One moment, please")
    return html if fault.body is None else evolve(html, body=fault.body)


def _empty(_fault: Fault, answer: Answer) -> Answer:
    return evolve(answer, body=b"")


def _body(fault: Fault, answer: Answer) -> Answer:
    return evolve(answer, body=fault.body or b"")


_SPOILS: Final[dict[str, Callable[[Fault, Answer], Answer]]] = {
    "status": _status,
    "not_json": _not_json,
    "empty": _empty,
    "body": _body,
}
