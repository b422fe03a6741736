"""The options of a new key's fields, as `create` and `ensure` have them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from attrs import frozen
from cyclopts import Parameter

from openrouter_keys._base.masking import scrub
from openrouter_keys._base.unset import UNSET, OptionalNullable
from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.secrets.sources import read_secret
from openrouter_keys.cli.values import Byok, Creator, Expiry, File, Limit, Reset, Workspace
from openrouter_keys.models import External


@Parameter(name="*")
@frozen(kw_only=True)
class KeyFields:
    """What is asked for of a new key, but its name."""

    limit: Limit = UNSET
    limit_reset: Reset = UNSET
    expires_at: Expiry = UNSET
    include_byok_in_limit: Byok = None
    creator_user_id: Creator = None
    workspace_id: Workspace = None
    external_user: Annotated[
        str | None,
        Parameter(metavar="USER", help="For partners: your name for the key's end user."),
    ] = None
    external_api_key_file: Annotated[
        File | None, Parameter(help="For partners: a file with your own key for that user.")
    ] = None

    def expiry(self) -> OptionalNullable[datetime]:
        """Return when the key expires; a duration counts from now.

        Raises:
            UsageError: it is over.
        """
        return future_of(self.expires_at)

    def arguments(self) -> dict[str, Any]:
        """Return them as the library's arguments.

        Raises:
            UsageError: the expiry is over, or a file cannot be read.
        """
        return {
            "limit": self.limit,
            "limit_reset": self.limit_reset,
            "expires_at": self.expiry(),
            "include_byok_in_limit": self.include_byok_in_limit,
            "creator_user_id": UNSET if self.creator_user_id is None else self.creator_user_id,
            "workspace_id": self.workspace_id,
            "external": self._external(),
        }

    def _external(self) -> External | None:
        if self.external_user is None:
            if self.external_api_key_file is not None:
                raise UsageError("--external-api-key-file goes with --external-user")
            return None
        file = self.external_api_key_file
        return External(
            user=self.external_user, api_key=None if file is None else read_secret(file)
        )


def future_of(expiry: OptionalNullable[datetime | timedelta]) -> OptionalNullable[datetime]:
    """Return the time of `--expires-at`; a duration counts from now.

    Raises:
        UsageError: it is over.
    """
    now = datetime.now(UTC)
    if isinstance(expiry, timedelta):
        return now + expiry
    if isinstance(expiry, datetime) and expiry <= now:
        raise UsageError(f"--expires-at: {expiry:%Y-%m-%d %H:%M} UTC is over")
    return expiry


def refuse_secret_name(name: str) -> None:
    """Refuse a name that is a secret.

    Raises:
        UsageError: it is one.
    """
    if scrub(name) != name:
        raise UsageError("the name is a secret, and names are shown: give another, replace the key")
