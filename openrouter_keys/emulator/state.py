"""An account of the service, as plain attributes to read and change. No HTTP, no JSON text."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random, SystemRandom
from typing import Final, Literal

from attrs import Factory, define, field

from openrouter_keys.emulator.bodies import changes, creation
from openrouter_keys.emulator.listing import Asked, Listing
from openrouter_keys.emulator.refusals import JSON, Refusal
from openrouter_keys.emulator.stored import Budget, StoredKey, Workspace, hash_of, masked
from openrouter_keys.emulator.times import Ahead, utc_now

MANAGEMENT_KEY: Final = "sk-or-mgmt-emulator-" + "e2" * 24
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 1, 1, tzinfo=UTC)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
DEFAULT_WORKSPACE: Final = "e2e2e2e2-0000-4000-8000-000000000001"


def _default_workspaces() -> dict[str, Workspace]:
    return {DEFAULT_WORKSPACE: Workspace(DEFAULT_WORKSPACE, "Default")}


@define(eq=False, kw_only=True)
class Account:
    """What the service knows of one customer.

    Args:
        management_key: the key that the ``/keys`` operations require.
        keys: the keys by hash, in the order of their creation.
        workspaces: the workspaces by id.
        default_workspace: the id of the workspace for requests that name none.
        members: the ids that ``creator_user_id`` may be. None: any.
        budgets: shown by ``GET /key`` besides the key's own limit; nothing here spends them.
        organization_id: shown by ``GET /key``. None: a personal account.
        inference_key_status: the status for an inference key on ``/keys``; both are documented.
        hidden_fields: fields that answers leave out, as an older service would.
        extra_fields: fields that answers add, as a newer service would.
        clock: the service's time, aware; `advance` and `set_time` replace it by one ahead.
        random: makes the secrets; a seeded one makes the same secrets again.
    """

    management_key: str = field(default=MANAGEMENT_KEY, repr=False)
    keys: dict[str, StoredKey] = Factory(dict[str, StoredKey])
    workspaces: dict[str, Workspace] = Factory(_default_workspaces)
    default_workspace: str = DEFAULT_WORKSPACE
    members: set[str] | None = None
    budgets: list[Budget] = Factory(list[Budget])
    organization_id: str | None = None
    inference_key_status: Literal[401, 403] = 401
    hidden_fields: set[str] = Factory(set[str])
    extra_fields: dict[str, JSON] = Factory(dict[str, JSON])
    clock: Callable[[], datetime] = utc_now
    random: Random = Factory(SystemRandom)
    _newest: datetime = field(init=False, default=_NEVER)
    _listing: Listing | None = field(init=False, default=None)

    def create(self, body: object) -> StoredKey:
        """Make a key from the fields of a create body.

        Raises:
            Refusal: 400, a field is missing, wrong, or names an unknown workspace or member.
        """
        attributes = creation(body)
        self._check_member(attributes.get("creator_user_id"))
        # The documents have no 404 for create, unlike list and update.
        self._check_workspace(attributes.get("workspace_id"), status=400)
        self._newest = max(self._newest, self.clock())
        return self._put({**attributes, "created_at": self._newest})

    def get(self, hash: str) -> StoredKey:
        """Return the key with this hash, its spending up to date.

        Raises:
            Refusal: 404, there is none.
        """
        key = self.keys.get(hash)
        if key is None:
            raise Refusal(404, "Resource not found")
        key.bring_up_to(self.clock())
        return key

    def update(self, hash: str, body: object) -> StoredKey:
        """Change a key by the fields of an update body.

        Raises:
            Refusal: 400, a field is wrong or all are missing; 404, no such key or workspace.
        """
        attributes = changes(body)
        key = self.get(hash)
        self._check_workspace(attributes.get("workspace_id"), status=404)
        for name, value in attributes.items():
            setattr(key, name, value)
        key.updated_at = self.clock()
        return key

    def delete(self, hash: str) -> None:
        """Remove a key for good.

        Raises:
            Refusal: 404, there is none.
        """
        self.get(hash)
        del self.keys[hash]

    def list(
        self,
        *,
        include_disabled: bool = False,
        include_expired: bool = False,
        offset: int = 0,
        workspace_id: str | None = None,
        page_size: int = 100,
    ) -> Sequence[StoredKey]:
        """Return one page of a workspace's keys, newest first.

        Raises:
            Refusal: 404, no such workspace.
        """
        self._check_workspace(workspace_id, status=404)
        asked = Asked(
            workspace_id=workspace_id or self.default_workspace,
            include_disabled=include_disabled,
            include_expired=include_expired,
        )
        # A copy first: a test may change the account from another thread.
        now, keys, listing = self.clock(), [*self.keys.values()], self._listing
        if listing is None or not listing.goes_on(asked, keys, now):
            listing = self._listing = Listing(asked, keys, now)
        page = listing.page(offset, page_size, now)
        for key in page:
            key.bring_up_to(now)
        return page

    def current(self, secret: str) -> StoredKey:
        """Return the key of a secret; the management key has a record too, but is not in ``keys``.

        Raises:
            Refusal: 401, no live key has this secret.
        """
        if secret == self.management_key:
            return self._fresh(self.management_key)
        now = self.clock()
        for key in [*self.keys.values()]:
            if key.secret == secret and not key.disabled and not key.expired(now):
                key.bring_up_to(now)
                return key
        raise Refusal(401, "User not found.")

    def require_management(self, secret: str) -> None:
        """Refuse all but the management key.

        Raises:
            Refusal: 401 or 403, as ``inference_key_status`` says, for another live key; else 401.
        """
        if secret == self.management_key:
            return
        self.current(secret)
        if self.inference_key_status == 403:
            raise Refusal(403, "Only management keys can perform this operation")
        raise Refusal(401, "Invalid management key")

    def add(self, name: str = "key", *, hash: str | None = None, **attributes: object) -> StoredKey:
        """Add a key without checks.

        Args:
            name: its name.
            hash: any text. None: the SHA-256 of the secret, as in the service.
            attributes: of the `StoredKey`; without ``secret``, a new secret is made.
        """
        named = {"name": name} if hash is None else {"name": name, "hash": hash}
        return self._put({**attributes, **named})

    def spend(self, hash: str, usd: float, *, byok: bool = False) -> None:
        """Use a key now.

        Args:
            hash: the key's.
            usd: the amount, in US dollars.
            byok: whether the user pays the model's provider directly ("bring your own key").
        """
        self.get(hash).spend(usd, self.clock(), byok=byok)

    @property
    def ahead(self) -> timedelta:
        """How far the service's time is ahead of its clock."""
        return self.clock.by if isinstance(self.clock, Ahead) else timedelta()

    @ahead.setter
    def ahead(self, by: timedelta) -> None:
        clock = self.clock.clock if isinstance(self.clock, Ahead) else self.clock
        # Periods of the last calendar year would end after it.
        if by and not _EPOCH <= clock() + by < _END:
            raise ValueError("the time must be from 1970 to 9998")
        self.clock = Ahead(clock, by) if by else clock

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> None:
        """Advance the service's time; negative amounts turn it back.

        Raises:
            ValueError: the time would be before 1970 or after 9998.
            OverflowError: a `datetime` cannot hold the time.
        """
        self.ahead += timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)

    def set_time(self, now: datetime) -> None:
        """Set the service's time, which then advances with the clock.

        Args:
            now: aware.

        Raises:
            ValueError: it is before 1970 or after 9998.
        """
        self.ahead += now - self.clock()

    def clear(self) -> None:
        """Remove every key, and reset advanced time; the rest of the account stays."""
        self.keys.clear()
        self._listing = None
        self.ahead, self._newest = timedelta(), _NEVER

    def new_secret(self) -> str:
        """Return a secret that looks like the service's and is visibly not one."""
        return f"sk-or-v1-e2e2e2e2{self.random.getrandbits(224):056x}"

    def _check_workspace(self, workspace_id: object, status: int) -> None:
        if workspace_id is not None and workspace_id not in self.workspaces:
            raise Refusal(status, "Workspace not found")

    def _check_member(self, user_id: object) -> None:
        if user_id is not None and self.members is not None and user_id not in self.members:
            raise Refusal(400, "creator_user_id: not a member of the organization")

    def _put(self, attributes: Mapping[str, object]) -> StoredKey:
        key = self._fresh(str(attributes.get("secret") or self.new_secret()))
        for name, value in attributes.items():
            setattr(key, name, value)
        self.keys[key.hash] = key
        return key

    def _fresh(self, secret: str) -> StoredKey:
        now = self.clock()
        return StoredKey(
            hash=hash_of(secret),
            name="key",
            secret=secret,
            label=masked(secret),
            workspace_id=self.default_workspace,
            created_at=now,
            counted_at=now,
        )
