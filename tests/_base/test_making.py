"""Records made without their frozen `__init__`: the same records, as frozen as the others."""

from datetime import UTC, datetime

import attrs
import pytest
from attrs.exceptions import FrozenInstanceError

from openrouter_keys._base.making import maker
from openrouter_keys.models import CreateKeysResponse, HTTPMeta, ListResponse
from tests.records import key

SECRET = "sk-or-v1-" + "4d" * 32
META = HTTPMeta(status=201, headers={"Date": "now"}, attempts=2, elapsed=0.5, body_seconds=0.1)


@pytest.mark.parametrize(
    "record",
    [
        key(),
        attrs.evolve(key(), extra={"new": 1}, expires_at=datetime.now(UTC)),
        META,
        CreateKeysResponse(data=key(), key=SECRET, http=META),
        ListResponse(data=[key()], http=META),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_made_record_is_as_any_other(record: "attrs.AttrsInstance") -> None:
    names = [field.name for field in reversed(attrs.fields(type(record)))]
    made = maker(type(record), names)(*(getattr(record, name) for name in names))
    assert type(made) is type(record)
    assert (made, repr(made)) == (record, repr(record))
    assert attrs.asdict(made, recurse=False) == attrs.asdict(record, recurse=False)
    assert not hasattr(made, "__dict__")
    with pytest.raises(FrozenInstanceError):
        setattr(made, names[0], None)
    with pytest.raises(FrozenInstanceError):
        delattr(made, names[0])


def test_all_fields_are_asked_for() -> None:
    with pytest.raises(TypeError):
        maker(HTTPMeta, ["status", "headers"])(200)
