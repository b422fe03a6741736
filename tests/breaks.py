"""Deliberate breaks of the package, each with the test that must notice it.

`python -m tests.breaks [--only WORD]` makes one break after another in a copy of the package, and
runs its test there. A break that no test notices is a promise that nothing keeps.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
_PYTEST: Final = (
    *(sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"),
    *("--hypothesis-profile=few", "-m", ""),
)


class Break(NamedTuple):
    """One break.

    Attributes:
        file: what is broken, below `openrouter_keys/`.
        text: what is there exactly once, and is replaced.
        replacement: what replaces it.
        test: what must fail then, below `tests/`.
    """

    file: str
    text: str
    replacement: str
    test: str

    @property
    def is_stale(self) -> bool:
        """Whether the text is not there exactly once, or its test is gone."""
        file, _, name = self.test.partition("::")
        places = (ROOT / "openrouter_keys" / self.file, ROOT / "tests" / file)
        if not all(place.is_file() for place in places):
            return True
        code, tests = (place.read_text(encoding="utf-8") for place in places)
        return code.count(self.text) != 1 or f"def {name}(" not in tests


def run(folder: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run tests in a copy, which Python imports in place of the installed package."""
    paths = [f"tests/{test}" for test in dict.fromkeys(tests)]
    ours = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": ""}
    return subprocess.run(
        [*_PYTEST, *paths], cwd=folder, env=os.environ | ours, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def verdict(each: Break, whole: Path) -> str:
    """Return what a break leads to: red, as it must be, or in capitals what is wrong."""
    if each.is_stale:
        return "STALE"
    with tempfile.TemporaryDirectory() as folder:
        # With the bytecode of all that stays as it is: to compile takes longer than most tests.
        copy = shutil.copytree(whole, Path(folder) / "copy")
        file = copy / "openrouter_keys" / each.file
        code = file.read_text(encoding="utf-8")
        file.write_text(code.replace(each.text, each.replacement), encoding="utf-8")
        done = run(copy, [each.test])
    # A test that cannot even be collected proves nothing.
    return {0: "GREEN", 1: "red"}.get(done.returncode, f"ERROR {done.returncode}")


def main() -> int:
    """Make the breaks, print a line for each, and return 1 if one is not noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.breaks", description=main.__doc__)
    parser.add_argument("--only", metavar="WORD", default="", help="those that have this word")
    word = parser.parse_args().only
    chosen = [each for each in BREAKS if any(word in part for part in each)]
    tests = [each.test for each in chosen if not each.is_stale]
    if not tests:
        parser.error(f"there is nothing to run for {word!r}")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        whole = Path(folder)
        for name in ("openrouter_keys", "tests", "docs"):
            shutil.copytree(ROOT / name, whole / name)
        shutil.copy2(ROOT / "pyproject.toml", whole)
        sound = run(whole, tests)
        if sound.returncode:
            sys.stdout.write(f"{sound.stdout}{sound.stderr}\nThe tests fail without a break.\n")
            return 1
        verdicts = [pool.submit(verdict, each, whole) for each in chosen]
        for each, found in zip(chosen, verdicts, strict=True):
            sys.stdout.write(f"{found.result():8}{each.file}: {each.test}\n")
            sys.stdout.flush()
    return int(any(found.result() != "red" for found in verdicts))


BREAKS: Final[Sequence[Break]] = (
    Break(
        "_base/masking.py",
        'return f"{head}...{secret[-_TAIL:]}"',
        "return secret",
        "_base/test_masking.py::test_no_secret_shows_whole",
    ),
    Break(
        "_base/masking.py",
        "return _STEERING.sub(lambda found: repr(found.group())[1:-1], text)",
        "return text",
        "promises/test_hostile_texts.py::test_what_a_service_says_is_shown_escaped",
    ),
    Break(
        "_base/tracebacks.py",
        "one.__traceback__ = _kept(one.__traceback__, partial(_stays, of_user=of_user))",
        "pass",
        "_base/test_tracebacks.py::test_whoever_leaves_a_call_takes_no_secret_along",
    ),
    Break(
        "_base/tracebacks.py",
        "one.__traceback__ = _kept(one.__traceback__, stays)",
        "pass",
        "promises/test_mistaken_arguments.py"
        "::test_no_frame_of_ours_holds_a_secret_in_the_wrong_place",
    ),
    Break(
        "_base/made_keys.py",
        "return (self._server_url, hash) in _MEMORY",
        "return False",
        "_base/test_made_keys.py::test_a_key_that_was_just_made_is_never_deleted",
    ),
    Break(
        "_base/made_keys.py",
        "return self.hash == self.secret_hash",
        "return True",
        "_base/test_made_keys.py::test_a_cancelled_create_deletes_no_key_that_its_answer_merely_claims",
    ),
    Break(
        "_base/pickling.py",
        "raise TypeError(message)",
        "return (object, ())",
        "promises/test_pickling.py::test_nothing_that_holds_the_key_is_pickled",
    ),
    Break(
        "_base/pickling.py",
        "vars(error).update(facts)",
        "pass",
        "promises/test_pickling.py::test_an_error_keeps_its_facts_on_its_way",
    ),
    Break(
        "_base/clock_skew.py",
        "if not stamps:",
        "if True:",
        "_reconcile/test_clocks.py::test_stamps_show_how_far_a_key_may_be_off",
    ),
    Break(
        "_base/scrubbing.py",
        "found = [each for each in secrets if len(each) >= LEAST and each in shown]",
        "found = []",
        "promises/test_repeated_secrets.py::test_no_answer_shows_the_management_key",
    ),
    Break(
        "_inputs/checks.py",
        'refuse(argument, "must hold no credentials: give the key as api_key")',
        "pass",
        "_inputs/test_checks.py::test_credentials_in_a_base_url_are_refused_and_not_shown",
    ),
    Break(
        "_inputs/checks.py",
        "if not isinstance(value, str) or _CONTROL.search(value):",
        "if not isinstance(value, str):",
        "_inputs/test_checks.py::test_a_header_that_could_not_be_sent_or_smuggles_another_is_refused",
    ),
    Break(
        "_inputs/options.py",
        "if name.lower() in _NOT_YOURS:",
        "if name in _NOT_YOURS:",
        "_inputs/test_options.py::test_a_header_that_is_made_here_is_refused_without_showing_its_value",
    ),
    Break(
        "_inputs/retry_config.py",
        "return longest * chance / 1000",
        "return longest / 1000",
        "_protocol/test_retries.py::test_the_wait_is_drawn_between_nothing_and_a_growing_most",
    ),
    Break(
        "_inputs/proxies.py",
        'if proxy_bypass(host) or proxy_bypass(f"{host}:{port}"):',
        "if False:",
        "_inputs/test_proxies.py::test_a_request_goes_past_the_proxy",
    ),
    Break(
        "converter.py",
        "except (TypeError, ValueError):",
        "except ValueError:",
        "test_converter.py::test_a_text_of_a_subclass_is_written_as_a_text",
    ),
    Break(
        "converter.py",
        'raise ValueError("a number beyond all bounds")',
        "pass",
        "test_converter.py::test_a_number_beyond_all_bounds_is_no_json",
    ),
    Break(
        "_base/strict_converter.py",
        "extra = {name: item for name, item in value.items() if name not in self._names}",
        "extra = {}",
        "test_converter.py::test_unknown_fields_are_kept_at_every_level",
    ),
    Break(
        "_inputs/credentials.py",
        "if self._kept()[0] == refused:",
        "if False:",
        "_inputs/test_credentials.py::test_a_refused_key_is_asked_for_once_more",
    ),
    Break(
        "_records/plain.py",
        "if name not in secret}",
        "}",
        "_records/test_record.py::test_a_new_keys_secret_is_there_only_by_name",
    ),
    Break(
        "_records/tables.py",
        "return escape(escaped(str(value)))",
        "return escaped(str(value))",
        "_records/test_tables.py::test_a_table_shows_a_text_as_it_is",
    ),
    Break(
        "models.py",
        "key: str = field(repr=mask)",
        "key: str",
        "test_models.py::test_a_secret_is_masked_wherever_a_record_shows",
    ),
    Break(
        "models.py",
        "raise TypeError(message)",
        "return (object, ())",
        "test_models.py::test_a_secret_is_never_pickled",
    ),
    Break(
        "errors.py",
        'f"{message}; the created key {mask(key)} is in `error.key`"',
        'f"{message}; the created key {key} is in `error.key`"',
        "test_errors.py::test_an_unreadable_key_holds_its_secret_and_shows_only_its_mask",
    ),
    Break(
        "operations.py",
        "        Effect.CREATE,\n",
        "        Effect.UPDATE,\n",
        "promises/test_matrix.py::test_a_create_makes_one_key_at_most",
    ),
    Break(
        "operations.py",
        "if canonical(found) != canonical(hash):",
        "if False:",
        "promises/test_another_key.py::test_another_keys_record_is_an_error_that_says_so",
    ),
    Break(
        "operations.py",
        "raise type(error)(",
        "return DeleteKeysResponse(deleted=True, http=answer.http)\n        raise type(error)(",
        "test_operations.py::test_a_delete_succeeds_by_nothing_less",
    ),
    Break(
        "operations.py",
        'asked["external"] = {"user": request.external.user}',
        "pass",
        "promises/test_secrets.py::test_no_error_and_no_log_shows_a_secret",
    ),
    Break(
        "_transport/turns.py",
        "if not turn.cancel() and not turn.cancelled():",
        "if False:",
        "_transport/test_turns.py::test_who_leaves_while_waiting_takes_no_turn_along",
    ),
    Break(
        "_transport/whole_request.py",
        "if len(content) > _SHORT:",
        "if False:",
        "_transport/test_whole_request.py::test_a_server_may_answer_before_it_has_read_a_long_body",
    ),
    Break(
        "_transport/whole_request.py",
        "except (AttributeError, TypeError):",
        "except LookupError:",
        "_transport/test_whole_request.py"
        "::test_with_an_aiohttp_of_other_names_a_create_is_sent_as_aiohttp_sends_it",
    ),
    Break(
        "_base/making.py",
        "record.__class__ = cls",
        "pass",
        "_base/test_making.py::test_a_made_record_is_as_any_other",
    ),
    Break(
        "_transport/observing.py",
        'self._report("on_event", error)',
        "raise",
        "test_events.py::test_what_listens_breaks_no_call",
    ),
    Break(
        "_transport/attempts.py",
        "self._observing.pass_on(event, logging.WARNING, text, seconds)",
        "self._observing.pass_on(event, logging.INFO, text, seconds)",
        "test_events.py::test_a_long_pause_of_the_client_is_a_warning",
    ),
    Break(
        "_transport/call.py",
        "scrub(operation.path, call.api_key, *operation.secrets)",
        "operation.path",
        "test_events.py::test_no_event_shows_a_secret",
    ),
    Break(
        "otel.py",
        "span.set_status(StatusCode.ERROR)  # its text quotes the service",
        "span.record_exception(error)",
        "test_otel.py::test_no_span_and_no_metric_shows_a_secret",
    ),
    Break(
        "testing/__init__.py",
        "SimpleNamespace(output_size=0)",
        "None",
        "test_testing.py::test_aioresponses_is_mended_once_and_again",
    ),
    Break(
        "testing/plugin.py",
        "request.node.obj = closing",
        "pass",
        "test_testing.py::test_the_fixtures_work_with_every_plugin",
    ),
    Break(
        "api_keys.py",
        'if on_unknown == "raise":',
        "if True:",
        "_reconcile/test_single.py::test_a_lost_create_is_settled_and_made_anew",
    ),
    Break(
        "client.py",
        "warn_unencrypted(base_url)",
        "pass",
        "test_client.py::test_a_key_that_goes_out_unencrypted_is_warned_of_once",
    ),
    Break(
        "sync.py",
        "create = blocking(AsyncAPIKeys.create, dropped=take_back)",
        "create = blocking(AsyncAPIKeys.create)",
        "test_sync.py::test_a_created_key_that_ctrl_c_keeps_from_its_caller_is_deleted",
    ),
    Break(
        "_protocol/retries.py",
        "Outcome.NO_ANSWER: (3, 1, 2, 3),",
        "Outcome.NO_ANSWER: (3, 2, 2, 3),",
        "promises/test_matrix.py::test_a_create_makes_one_key_at_most",
    ),
    Break(
        "_protocol/retries.py",
        "return wait if wait <= RETRY_AFTER_CAP and",
        "return wait if",
        "_protocol/test_retries.py::test_a_wait_beyond_the_cap_is_raised",
    ),
    Break(
        "_protocol/retries.py",
        "cost = 5",
        "cost = 1",
        "_protocol/test_retries.py::test_a_full_quota_pays_for_a_hundred_retries",
    ),
    Break(
        "_protocol/quota.py",
        "if name is None:",
        "if True:",
        "promises/test_quota.py::test_a_change_beyond_the_quota_is_sent_once",
    ),
    Break(
        "_protocol/quota.py",
        "if now >= self._asks_again:",
        "if False:",
        "promises/test_quota.py::test_a_quota_that_was_raised_is_noticed_within_a_minute",
    ),
    Break(
        "_protocol/paging.py",
        "if self._barren > MOST_BARREN:",
        "if False:",
        "_protocol/test_paging.py::test_a_walk_says_where_a_service_does_not_let_it_be_completed",
    ),
    Break(
        "_protocol/paging.py",
        "return self.offset == 0 or len(fresh) < len(hashes) or self._overlap == 0",
        "return True",
        "_protocol/test_paging.py::test_a_key_that_stays_comes_exactly_once_whatever_others_make_and_delete",
    ),
    Break(
        "_protocol/paging.py",
        "len(fresh) < len(hashes) or self._overlap == 0",
        "True",
        "_transport/test_pages.py::test_a_key_that_stays_comes_exactly_once_however_early_pages_are_requested",
    ),
    Break(
        "_transport/pages.py",
        "if isinstance(outcome, Ok) and pager.fits(outcome.value.data):",
        "if isinstance(outcome, Ok):",
        "_transport/test_pages.py::test_a_page_that_came_too_early_is_no_sign_of_a_service_that_slips",
    ),
    Break(
        "_transport/pages.py",
        "        self._slow_down(outcome)\n",
        "",
        "_transport/test_pages.py::test_a_walk_that_is_asked_to_slow_down_ends_page_by_page",
    ),
    Break(
        "_transport/pages.py",
        "        self._drop()\n        cancelled: ",
        "        cancelled: ",
        "_transport/test_pages.py::test_a_caller_that_stops_leaves_no_task_and_no_request",
    ),
    Break(
        "_reconcile/listing.py",
        "        self.clock.learn(page.http)  # at once: the walk may get to this page later\n",
        "",
        "_reconcile/test_clocks.py::test_the_clock_learns_from_a_page_when_it_comes",
    ),
    Break(
        "_protocol/salvage.py",
        "or _REDACTED.search(value) is not None",
        "",
        "_protocol/test_salvage.py::test_a_made_up_secret_is_taken_or_the_error_says_how_one_must_look",
    ),
    Break(
        "_protocol/salvage.py",
        "return hashed or",
        "return",
        "_protocol/test_salvage.py::test_a_redacted_text_is_no_secret",
    ),
    Break(
        "_protocol/answers.py",
        'return type(code) is int and code == 404 and isinstance(detail.get("message"), str)',
        "return True",
        "_protocol/test_answers.py::test_only_the_apis_own_404_says_that_there_is_no_such_key",
    ),
    Break(
        "_protocol/answers.py",
        "text = scrub(text, *secrets)",
        "pass",
        "_protocol/test_answers.py::test_a_refusal_never_shows_a_secret",
    ),
    Break(
        "_protocol/drift.py",
        "_CHANGED = timedelta(seconds=120)",
        "_CHANGED = timedelta(days=999)",
        "_protocol/test_drift.py::test_a_key_is_not_as_it_was_asked_for",
    ),
    Break(
        "_transport/wire.py",
        "allow_redirects=False,",
        "allow_redirects=True,",
        "_transport/test_transport.py::test_redirects_are_not_followed",
    ),
    Break(
        "_transport/wire.py",
        "not self._left and request.response is None",
        "request.response is None",
        "_transport/test_transport.py::test_a_middleware_that_repeats_cannot_make_a_create_look_unsent",
    ),
    Break(
        "_transport/wire.py",
        "most = left = bodies.MOST_OF_ERROR",
        "pass",
        "_transport/test_bodies.py::test_an_error_keeps_little_of_a_body",
    ),
    Break(
        "_transport/attempts.py",
        "call.rate_limited += what is Outcome.RATE_LIMITED",
        "pass",
        "_transport/test_transport.py::test_429s_use_up_no_other_attempts",
    ),
    Break(
        "_transport/attempts.py",
        "self._pause(call, what, error.retry_after)",
        "pass",
        "promises/test_matrix.py::test_retry_after_pauses_every_call_of_the_client",
    ),
    Break(
        "_transport/deletion.py",
        "await _look_again(perform, hash, missing)",
        "pass",
        "_transport/test_deletion.py::test_a_404_that_a_second_look_does_not_confirm_is_none",
    ),
    Break(
        "_transport/bodies.py",
        "for name in reversed(named):",
        "for name in named[:1]:",
        "_transport/test_bodies.py::test_a_packed_answer_is_read_as_others_read_it",
    ),
    Break(
        "ensuring/ensure.py",
        'if names and (self._settings.on_change == "refuse" or fixed):',
        "if names and fixed:",
        "ensuring/test_ensure.py::test_other_spec_that_is_refused",
    ),
    Break(
        "ensuring/ensure.py",
        'raise ResponseValidationError(f"{entry.reason}: {_AGAIN}")',
        "pass",
        "ensuring/test_ensure.py::test_not_as_asked_for",
    ),
    Break(
        "adoption/adopt.py",
        "elif len(keys) > 1:",
        "elif len(keys) > 9:",
        "adoption/test_adopt.py::test_the_one_key_of_each_name_is_adopted",
    ),
    Break(
        "ensuring/ensure.py",
        "return isinstance(shown, str) and name not in disagreements(self._spec.request(), data)",
        "return True",
        "adoption/test_adopt.py::test_what_the_record_shows_need_not_have_been_asked_for",
    ),
    Break(
        "adoption/plans.py",
        "differing = {*disagreements(asked.request(), key)}",
        "differing = set[str]()",
        "adoption/test_adopt.py::test_a_spec_is_compared_with_the_key",
    ),
    Break(
        "journal/adoptions.py",
        "return _SUSPECT.format(unsettled[name])",
        "pass",
        "adoption/test_adopt.py::test_each_refusal",
    ),
    Break(
        "sweeping/sweep.py",
        "problem = self._settings.refusal(key, self._clock.now())",
        "problem = None",
        "sweeping/test_sweep.py::test_what_happens_between_the_list_and_the_deed_counts",
    ),
    Break(
        "sweeping/sweep.py",
        "elif hash in doubtful:",
        "elif not hash:",
        "sweeping/test_sweep.py::test_a_key_that_a_create_may_have_made_is_told",
    ),
    Break(
        "sweeping/known.py",
        "found |= await journal.among(frozenset(keys))",
        "found = await journal.among(frozenset(keys))",
        "sweeping/test_sweep.py::test_every_journal_counts",
    ),
    Break(
        "applying/changing.py",
        "        if not await context.journal.want_all(found, step.plan, fields, replanned):\n",
        "        if not fields:\n",
        "applying/test_stops.py::test_an_update_that_may_still_land",
    ),
    Break(
        "applying/compare.py",
        "if (why := self._unseen.get(str(known.hash))) is None:",
        "if (why := self._unseen.get(str(known.hash))) is None or why:",
        "applying/test_plan.py::test_all_keys_are_gone_or_it_is_another_account",
    ),
    Break(
        "applying/compare.py",
        "        if pruned <= most:\n",
        "        if pruned:\n",
        "applying/test_max_prune.py::test_no_specs_at_all",
    ),
    Break(
        "cli/apply/command.py",
        "        if second and (self.yes or not can_ask()):\n",
        "        if second and not self.yes and not can_ask():\n",
        "cli/test_apply.py::test_a_new_journal_makes_no_second_keys",
    ),
    Break(
        "cli/apply/command.py",
        '        confirm(f"{work}, though {second}" if second else work, yes=self.yes)\n',
        "",
        "cli/test_apply.py::test_refusals",
    ),
    Break(
        "cli/apply/view.py",
        "{_OPTIONS[change.needs]}: {change.why}",
        "{change.needs}: {change.why}",
        "cli/test_apply.py::test_the_plan",
    ),
    Break(
        "journal/entries.py",
        "    if not connection.execute(_ABSORB, values).rowcount:\n        return False\n",
        "    return False\n",
        "applying/test_replace.py::test_a_key_is_replaced_again_and_again",
    ),
    Break(
        "applying/known.py",
        "        if ref not in rotations\n",
        "",
        "applying/test_replace.py::test_keys_that_rotate_alone_knows_are_never_pruned",
    ),
    Break(
        "lease.py",
        "wrong = dict.fromkeys(mismatches(asked, key))",
        "wrong = dict[str, None]()",
        "test_lease.py::test_a_key_that_would_not_end_as_asked_is_deleted_at_once",
    ),
    Break(
        "lease.py",
        "        self._transport.at_close.add(self._end_at_close)\n",
        "",
        "test_lease.py::test_ctrl_c_at_any_moment_of_a_blocking_lease_leaves_no_key",
    ),
    Break(
        "lease.py",
        "self._over = came + (expires_at - created.data.created_at)",
        "self._over = at + (expires_at - now)",
        "test_lease.py::test_a_lease_has_ended_only_when_the_service_has_ended_its_key",
    ),
    Break(
        "lease.py",
        "return -_INEXACT - slept <= off <= _INEXACT",
        "return True",
        "test_lease.py::test_a_wrong_date_of_the_service_leases_nothing",
    ),
    Break(
        "lease.py",
        "return _date_of(http) or now, at",
        "return now, at",
        "test_lease.py::test_the_expiry_counts_by_the_services_clock",
    ),
    Break(
        "lease.py",
        "if not MadeKey.of(key.hash, created.key).proven:",
        "if False:",
        "test_lease.py::test_a_key_whose_hash_is_not_its_own_is_not_deleted_by_it",
    ),
    Break(
        "lease.py",
        "            exc.add_note(left)\n",
        "            raise RuntimeError(left) from exc\n",
        "test_lease.py::test_a_deletion_that_is_not_confirmed_is_told_and_hides_nothing",
    ),
    Break(
        "lease.py",
        "left = await self._transport.see_through(self._end_soon(lease))\n        if",
        "left = await self._end(lease, self._perform)\n        if",
        "test_lease.py::test_a_lease_that_is_cancelled_anywhere_leaves_no_key",
    ),
    Break(
        "_transport/transport.py",
        "call.abandoned = True",
        "pass",
        "_transport/test_transport.py::test_a_cancelled_create_that_fails_is_not_repeated",
    ),
    Break(
        "_transport/transport.py",
        "return made\n            self.made.add(made)",
        "pass\n            self.made.add(made)",
        "promises/test_copied_answers.py::test_a_copy_leaves_the_outcome_of_its_create_unknown",
    ),
    Break(
        "_transport/deadlines.py",
        "and self._task.uncancel() <= self._cancelling",
        "",
        "_transport/test_deadlines.py::test_somebody_elses_cancellation_goes_on",
    ),
    Break(
        "_reconcile/matching.py",
        "covers[place].has(key.created_at) and _agrees(request, key)",
        "covers[place].has(key.created_at)",
        "_reconcile/test_reconcile.py::test_a_key_that_is_not_provably_ours_is_told_and_never_deleted",
    ),
    Break(
        "_reconcile/matching.py",
        "moved(self.until, skew.high)",
        "moved(self.until, timedelta(days=1))",
        "_reconcile/test_clocks.py::test_a_key_made_by_hand_after_a_create_ended_is_never_deleted",
    ),
    Break(
        "_reconcile/listing.py",
        'return "one look alone proves nothing"',
        "return None",
        "_reconcile/test_listing.py::test_a_single_create_is_settled_by_looks_that_agree",
    ),
    Break(
        "_reconcile/listing.py",
        "if walk.passed and listed:",
        "if True:",
        "_reconcile/test_listing.py::test_a_single_create_is_settled_by_looks_that_agree",
    ),
    Break(
        "_reconcile/listing.py",
        "if is_cached(page.http.headers):",
        "if False:",
        "_reconcile/test_caches.py::test_nothing_is_concluded_from_a_list_that_a_cache_answered",
    ),
    Break(
        "_reconcile/single.py",
        "wait = self.quiet_period - max(min(self._passed(ended)), 0)",
        "wait = 0.0",
        "_reconcile/test_single.py::test_nothing_is_looked_for_before_the_quiet_period_is_over",
    ),
    Break(
        "_reconcile/reconcile.py",
        "[key for key in keys if not await _is_known(transport, key, knows)]",
        "[*keys]",
        "_reconcile/test_reconcile.py::test_a_key_that_is_known_is_not_even_told",
    ),
    Break(
        "_reconcile/reconcile.py",
        "all_known = await transport.made.all_settled()",
        "all_known = True",
        "_base/test_made_keys.py::test_a_create_that_ends_while_the_list_is_read_is_waited_for",
    ),
    Break(
        "_reconcile/absence.py",
        "return {hash: _LISTED for hash in hashes if canonical(hash) in keys}",
        "return {}",
        "_reconcile/test_absence.py::test_no_old_key_counts_as_retired_while_it_may_be_there",
    ),
    Break(
        "_blocking/loop_thread.py",
        "self._drop(result)",
        "pass",
        "_blocking/test_facade.py::test_a_result_that_comes_after_ctrl_c_is_undone_before_closing",
    ),
    Break(
        "_blocking/loop_thread.py",
        "while self._tasks:",
        "while False:",
        "_blocking/test_facade.py::test_a_result_that_comes_after_ctrl_c_is_undone_before_closing",
    ),
    Break(
        "_blocking/facade.py",
        "given.arguments[name] = caller.here(given.arguments[name])",
        "pass",
        "_blocking/test_caller_thread.py::test_callbacks_and_iterables_run_in_the_callers_thread",
    ),
    Break(
        "journal/copies.py",
        "if commits < noted[1]:",
        "if False:",
        "journal/test_copies.py::test_an_outdated_copy_is_refused_however_often_and_nothing_is_sent",
    ),
    Break(
        "journal/copies.py",
        "elif not closed and",
        "elif False and",
        "journal/test_copies.py::test_an_outdated_copy_is_refused_however_often_and_nothing_is_sent",
    ),
    Break(
        "journal/sqlite.py",
        'connection.execute("PRAGMA synchronous = FULL")',
        'connection.execute("PRAGMA synchronous = OFF")',
        "journal/test_journal.py::test_a_commit_is_on_the_disk_when_it_is_told",
    ),
    Break(
        "journal/sqlite.py",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA wal_checkpoint(PASSIVE)",
        "journal/test_purge.py::test_another_programs_look_keeps_it_from_being_purged_and_is_told",
    ),
    Break(
        "journal/files.py",
        "os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600",
        "os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o644",
        "journal/test_files.py::test_all_its_files_are_private_whatever_the_umask",
    ),
    Break(
        "journal/files.py",
        "if stat.S_IMODE(found.st_mode) & 0o077:",
        "if False:",
        "journal/test_files.py::test_a_file_that_others_could_read_is_refused",
    ),
    Break(
        "journal/files.py",
        "raise JournalInUseError(path, _holder(path, lock))\n    if shared:",
        "pass\n    if shared:",
        "journal/test_files.py::test_what_needs_the_journal_alone_gets_the_process_that_has_it",
    ),
    Break(
        "journal/folders.py",
        "elif found.st_mode & stat.S_ISVTX or not _others_may_write(found):",
        "elif True:",
        "journal/test_places.py::test_a_folder_in_which_others_could_replace_it_is_refused",
    ),
    Break(
        "journal/writer.py",
        "_commit(store, [job])",
        "job.error = error",
        "journal/test_crashes.py::test_a_secret_is_kept_though_the_others_of_its_group_have_no_room",
    ),
    Break(
        "journal/postgresql_store.py",
        "if self._is_in_doubt and self._came_through():",
        "if False:",
        "journal/test_lost_servers.py"
        "::test_what_was_committed_is_not_done_again_and_what_was_not_is",
    ),
    Break(
        "journal/postgresql_store.py",
        "for run in self._runs - self._begun:",
        "for run in set[int]():",
        "journal/test_lost_servers.py::test_the_locks_of_runs_are_taken_again",
    ),
    Break(
        "journal/postgresql_store.py",
        "for run in begun if came_through else ():",
        "for run in ():",
        "journal/test_lost_servers.py::test_a_run_that_begins_or_ends_then_lives_once",
    ),
    Break(
        "journal/postgresql_store.py",
        "if commits not in (self._commits, self._commits + 1):",
        "if False:",
        "journal/test_lost_servers.py"
        "::test_a_number_of_commits_that_went_back_stops_the_run_for_good",
    ),
    Break(
        "journal/postgresql_store.py",
        "session.execute(_TERMINATE, (old.pid, old.begun))",
        "pass",
        "journal/test_lost_servers.py"
        "::test_a_network_that_is_cut_in_a_transaction_leaves_no_lock_behind",
    ),
    Break(
        "journal/sessions.py",
        "SET synchronous_commit = on; ",
        "",
        "journal/test_postgresql.py::test_a_commit_is_durable_whatever_the_role_has_set",
    ),
    Break(
        "journal/postgresql.py",
        'session.run("VACUUM (FULL) keys")',
        'session.run("VACUUM keys")',
        "journal/test_postgresql.py::test_a_purge_leaves_no_byte_in_the_table",
    ),
    Break(
        "journal/servers.py",
        "escaped(scrub(",
        "escaped(str(",
        "journal/test_postgresql.py::test_a_servers_text_is_shown_without_the_password",
    ),
    Break(
        "journal/transitions.py",
        '"written_off": "written_off + 1"',
        '"written_off": "written_off"',
        "journal/test_journal.py::test_a_doubt_that_is_written_off_is_remembered_until_it_is_cleared",
    ),
    Break(
        "provisioning/reconciler.py",
        "for sent, ended, is_dated in self._exchanges(entry):",
        "for sent, ended, is_dated in self._exchanges(entry)[-1:]:",
        "provisioning/test_reconciler.py::test_each_create_without_an_answer_has_a_window_of_its_own",
    ),
    Break(
        "journal/specs.py",
        'plain["external"] = {"user": external.user, "api_key_sha256": hashed}',
        "pass",
        "journal/test_specs.py::test_the_plan_holds_a_hash_in_place_of_the_partners_key",
    ),
    Break(
        "journal/encryption.py",
        "return lambda secret: pyrage.encrypt(secret, recipients)",
        "return lambda secret: secret",
        "journal/test_encryption.py::test_a_journal_keeps_secrets_that_only_the_identity_opens",
    ),
    Break(
        "journal/journal.py",
        "if not self._secrets.stored:",
        "if False:",
        "journal/test_journal.py::test_secrets_that_are_not_to_be_stored_are_never_written",
    ),
    Break(
        "provisioning/creator.py",
        "elif (known := await self._journal.intend(spec, at)) is not None:",
        "elif known := None:",
        "provisioning/test_full_disk.py::test_nothing_is_sent_without_a_durable_intent_and_no_secret_is_lost",
    ),
    Break(
        "provisioning/delivery.py",
        "await self._journal.acknowledge(spec.ref)",
        "pass",
        "provisioning/test_resume.py::test_what_is_settled_is_neither_created_again_nor_asked_about",
    ),
    Break(
        "provisioning/delivery.py",
        "if data is None or wrong:",
        "if data is None:",
        "provisioning/test_mismatches.py::test_a_key_that_is_not_as_asked_for_is_disabled_told_and_not_handed_over",
    ),
    Break(
        "provisioning/circuit_breaker.py",
        "return self._unanswered >= OUTAGE or self._is_too_long",
        "return False",
        "provisioning/test_parts.py::test_the_breaker_opens_after_so_many_failures_in_a_row",
    ),
    Break(
        "provisioning/creator.py",
        "if self._is_held_back or steady() - written > _STALE:",
        "if self._is_held_back:",
        "provisioning/test_cancel.py::test_an_intent_that_has_waited_long_is_written_anew_before_its_create_is_sent",
    ),
    Break(
        "provisioning/creator.py",
        "return self._stop.paused or self._limiter.is_paused",
        "return self._limiter.is_paused",
        "provisioning/test_cancel.py::test_an_intent_that_was_written_ahead_is_taken_back_unsent",
    ),
    Break(
        "provisioning/rate_limiter.py",
        "self._opens = max(self._opens, now + retry_after * (1 + self._random() / 20))",
        "pass",
        "provisioning/test_rate_limiter.py::test_retry_after_is_a_pause_for_everyone_also_for_those_who_wait_already",
    ),
    Break(
        "provisioning/rate_limiter.py",
        "return not self._is_led and self.in_flight < self.concurrency + more",
        "return not self._is_led",
        "provisioning/test_rate_limiter.py::test_no_more_turns_at_once_than_the_concurrency",
    ),
    Break(
        "provisioning/rate.py",
        "self.now = min(self._grown(passed), self._ceiling)",
        "self.now = self._grown(passed)",
        "provisioning/test_rate_limiter.py::test_no_history_takes_the_rate_past_its_ceiling_or_below_its_floor",
    ),
    Break(
        "provisioning/reconciler.py",
        "self._given_up_at(entry) + 2 * self._quiet",
        "self._given_up_at(entry) + self._quiet",
        "provisioning/test_reconciler.py::test_a_create_is_forgotten_two_quiet_periods_after_it_was_given_up",
    ),
    Break(
        "provisioning/account.py",
        "raise AccountChangedError(home",
        "_ = (home",
        "provisioning/test_account.py::test_another_accounts_key_sends_no_create_and_forgets_no_doubt",
    ),
    Break(
        "provisioning/creator.py",
        "if not self._account.is_proven:",
        "if False:",
        "provisioning/test_accounts.py::test_an_account_that_lists_nothing_gets_no_key",
    ),
    Break(
        "ensuring/ensure.py",
        "if entry.state is State.FAILED and entry.hash is not None:",
        "if False:",
        "ensuring/test_ensure.py::test_a_key_that_was_rejected_is_kept_whatever_is_asked_for_then",
    ),
    Break(
        "applying/planning.py",
        "if comparison.creates or comparison.pruning:",
        "if False:",
        "provisioning/test_accounts.py::test_an_account_that_lists_nothing_gets_no_key",
    ),
    Break(
        "provisioning/delivery.py",
        "if abroad is not None:",
        "if False:",
        "provisioning/test_accounts.py::test_a_key_that_another_account_makes_in_a_run_is_deleted_there",
    ),
    Break(
        "journal/facts.py",
        'for order in ("ASC", "DESC"):',
        'for order in ("DESC", "ASC"):',
        "provisioning/test_accounts.py::test_the_first_proven_key_shows_the_home",
    ),
    Break(
        "provisioning/run.py",
        "if most is not None and self._counters.refused > most:",
        "if False:",
        "provisioning/test_stops.py::test_more_refusals_than_the_caller_bears_stop_the_run",
    ),
    Break(
        "provisioning/spec_source.py",
        "if self._taken > self._most:",
        "if False:",
        "provisioning/test_allowance.py::test_the_spec_that_goes_beyond_is_told",
    ),
    Break(
        "provisioning/verdicts.py",
        "if error.maybe_applied:",
        "if False:",
        "provisioning/test_parts.py::test_each_error_of_a_create_has_one_verdict",
    ),
    Break(
        "rotation/retirement.py",
        "await self._lower(twin, lowered(entry, old, twin))",
        "pass",
        "rotation/test_budget.py::test_what_the_old_key_spends_during_the_grace_is_taken_off_the_twins_limit",
    ),
    Break(
        "rotation/retirement.py",
        "old = await self._change(entry.hash, UpdateKeysRequest(disabled=True))",
        "old = (await self._perform(get(entry.hash))).data",
        "rotation/test_rotation.py::test_an_old_key_is_disabled_before_it_is_deleted",
    ),
    Break(
        "rotation/retirement.py",
        "if made is None or not made.proven:",
        "if made is None:",
        "promises/test_another_key.py::test_nothing_is_retired_or_lowered_by_a_twins_hash_that_is_not_proven",
    ),
    Break(
        "rotation/retirement.py",
        "if answer.data.disabled:",
        "if False:",
        "rotation/test_changes.py::test_an_old_key_is_not_retired_while_its_twin_does_not_work",
    ),
    Break(
        "rotation/retirement.py",
        "return self._after - passed",
        "return 0.0",
        "rotation/test_rotation.py::test_a_call_waits_until_the_old_keys_are_due",
    ),
    Break(
        "rotation/replacement.py",
        "else min(key.limit_remaining, reckoned)",
        "else key.limit_remaining",
        "rotation/test_budget.py::test_a_twin_never_gets_more_than_is_left_of_the_limit_whatever_is_told",
    ),
    Break(
        "rotation/settings.py",
        'return self.budget if self.limit is UNSET else "full"',
        "return self.budget",
        "rotation/test_terms.py::test_a_replacement_has_what_is_given",
    ),
    Break(
        "rotation/replacement.py",
        "return max(shown, 0.0)",
        "return key.limit",
        "rotation/test_budget.py::test_a_twins_limit_is_what_the_budget_leaves",
    ),
    Break(
        "cli/app.py",
        "return _failed(_misused(error, arguments), USAGE)",
        "return _failed(_misused(error, arguments), FAILED)",
        "cli/test_main.py::test_a_wrong_command_line_is_a_usage_error_told_in_one_line",
    ),
    Break(
        "cli/exit_codes.py",
        "return IN_DOUBT if in_doubt else SOME_FAILED",
        "return SOME_FAILED",
        "cli/test_provision.py::test_what_is_left_in_doubt_exits_with_5",
    ),
    Break(
        "cli/exit_codes.py",
        "if isinstance(error, UnauthorizedResponseError | ForbiddenResponseError):",
        "if False:",
        "cli/test_keys.py::test_no_key_a_wrong_one_and_one_that_may_not_end_with_4",
    ),
    Break(
        "cli/terminal/csv_cells.py",
        'return cell if _NUMBER.fullmatch(cell) else _RISKY.sub("\'", cell)',
        "return cell",
        "cli/test_csv.py::test_no_cell_is_a_formula",
    ),
    Break(
        "cli/terminal/text.py",
        'return character.encode("unicode_escape", "replace").decode()',
        "return character",
        "cli/test_hostile.py::test_no_hostile_text_is_left_as_it_is",
    ),
    Break(
        "cli/terminal/messages.py",
        "printable(scrub(without_passwords(text)))",
        "text",
        "cli/test_hostile.py::test_no_error_steers_a_terminal",
    ),
    Break(
        "cli/terminal/prompts.py",
        'if answer.strip().lower() not in ("y", "yes"):',
        "if False:",
        "cli/test_terminal.py::test_delete_asks_and_takes_only_a_yes",
    ),
    Break(
        "cli/secrets/sinks.py",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644",
        "cli/test_keys.py::test_a_secret_file_is_new_and_private",
    ),
    Break(
        "cli/secrets/programs.py",
        "if name not in _OURS",
        "if True",
        "cli/test_keys.py::test_a_program_gets_the_secret_on_its_standard_input_and_no_management_key",
    ),
    Break(
        "cli/secrets/destination.py",
        "if not (self.hands_over or sys.stdout.isatty()):",
        "if False:",
        "cli/test_keys.py::test_no_secret_goes_into_a_pipe_unasked_and_no_key_is_made",
    ),
    Break(
        "cli/secrets/formats.py",
        "if _PLAIN.fullmatch(key):",
        "if True:",
        "cli/test_files.py::test_a_shell_that_reads_an_env_file_runs_nothing",
    ),
    Break(
        "cli/options/journal.py",
        "if looks_like_url(place.given) and place.file is not None:",
        "if False:",
        "cli/test_journal_url.py::test_what_is_neither_a_file_nor_a_postgresql_url_is_refused",
    ),
    Break(
        "cli/journal/command.py",
        "sum(counts[state] for state in DOUBTFUL) - under_way",
        "sum(counts[state] for state in DOUBTFUL)",
        "cli/test_journal.py::test_a_journal_is_looked_at_beside_runs_whose_creates_are_in_no_doubt",
    ),
    Break(
        "cli/adopt/command.py",
        "there = not dry_run or is_begun(place.given)",
        "there = True",
        "cli/test_adopt.py::test_to_look_makes_no_journal",
    ),
    Break(
        "cli/adopt/command.py",
        "return SOME_FAILED if report.adopted or report.existing else FAILED",
        "return DONE",
        "cli/test_adopt.py::test_the_keys_of_a_files_names_are_adopted",
    ),
    Break(
        "cli/sweep/command.py",
        "confirm(_question(found, delete=delete), yes=yes)",
        "pass",
        "cli/test_sweep.py::test_it_asks",
    ),
    Break(
        "cli/sweep/command.py",
        """        if dry_run:
            return False
""",
        "",
        "cli/test_sweep.py::test_it_asks",
    ),
    Break(
        "cli/ensure/request.py",
        "        if self.lasts:\n            spec = evolve",
        "        if False:\n            spec = evolve",
        "cli/test_ensure.py::test_an_expired_key_is_given_and_is_a_failure",
    ),
    Break(
        "cli/ensure/request.py",
        "return spec if self.is_named or not isinstance(name, str) else evolve(spec, name=name)",
        "return spec",
        "cli/test_ensure.py::test_a_name_that_is_left_out_renames_no_key",
    ),
    Break(
        "cli/ensure/command.py",
        "        await _hand_over(made, request, sink)",
        "        pass",
        "cli/test_ensure.py::test_a_secret_that_was_not_taken_is_handed_over_by_the_same_command",
    ),
    Break(
        "cli/ensure/release.py",
        'confirm(f"delete {keys(len(known))} for good ({_named(known)})", yes=yes)',
        "pass",
        "cli/test_ensure.py::test_a_release_asks_and_deletes_nothing_without_an_answer",
    ),
    Break(
        "cli/keys/create.py",
        "done = await attempt(self._api_keys.delete(made.hash))",
        "return None",
        "cli/test_keys.py::test_a_key_whose_secret_nobody_took_is_deleted_again",
    ),
    Break(
        "cli/terminal/interrupts.py",
        "if number == signal.SIGINT and _is_in_the_foreground():",
        "if False:",
        "cli/test_lease.py::test_only_what_no_terminal_sends_to_both_is_handed_on",
    ),
    Break(
        "cli/terminal/interrupts.py",
        "before = signal.setitimer(signal.ITIMER_REAL, _GLANCE, _GLANCE)",
        "before = signal.getitimer(signal.ITIMER_REAL)",
        "cli/test_terminal.py::test_a_signal_just_before_the_read_that_waits_ends_a_question",
    ),
    Break(
        "cli/keys/lease.py",
        "to(lambda number: _send(process, number))",
        "pass",
        "cli/test_lease.py::test_a_signal_goes_to_the_program_and_its_end_ends_the_key",
    ),
    Break(
        "cli/keys/hashes.py",
        "if each.text.startswith(_PREFIX):",
        "if False:",
        "cli/test_keys.py::test_a_secret_on_the_command_line_is_refused_and_not_repeated",
    ),
    Break(
        "cli/keys/hashes.py",
        "if len(found) < 2:",
        "if found:",
        "cli/test_keys.py::test_a_beginning_of_several_hashes_is_refused",
    ),
    Break(
        "cli/keys/given.py",
        "if cell and not _hash_in(cell):",
        "if False:",
        "cli/test_names.py::test_a_list_of_keys_is_read_as_it_comes",
    ),
    Break(
        "cli/keys/many.py",
        "return FAILED if failed == len(targets) else SOME_FAILED",
        "return FAILED",
        "cli/test_keys.py::test_a_delete_that_only_some_keys_took_ends_with_3",
    ),
    Break(
        "cli/keys/update.py",
        "if len(targets) == 1 and not of.is_given:",
        "if len(targets) == 1:",
        "cli/test_many.py::test_a_pattern_asks_for_one_key_too",
    ),
    Break(
        "cli/keys/delete.py",
        "target.failed = target.failed and target.outcome != _NOT_FOUND",
        "target.failed = False",
        "cli/test_many.py::test_missing_ok_excuses_nothing_else",
    ),
    Break(
        "cli/specs/file.py",
        "return bool(stat.S_IMODE(os.fstat(self._file.fileno()).st_mode) & 0o077)",
        "return False",
        "cli/test_spec_file.py::test_a_file_that_others_can_read_holds_no_external_key",
    ),
    Break(
        "cli/specs/file.py",
        "self._add_twins(problems, errors)",
        "pass",
        "cli/test_spec_file.py::test_a_ref_that_two_rows_have_is_refused",
    ),
    Break(
        "cli/specs/file.py",
        "known = self._expiries.get(spec.ref) if read.lasts else None",
        "known = None",
        "cli/test_spec_problems.py::test_a_key_keeps_the_expiry_that_its_duration_gave_it",
    ),
    Break(
        "cli/specs/csv_rows.py",
        "has_thousands=delimiter == _SEMICOLON",
        "has_thousands=False",
        "cli/test_spec_problems.py::test_a_point_that_may_stand_between_thousands_is_never_guessed",
    ),
    Break(
        "cli/specs/documents.py",
        'if name in _NAMES else "a field is there twice"',
        "",
        "cli/test_spec_attacks.py::test_no_value_of_a_file_is_told",
    ),
    Break(
        "cli/journal/export.py",
        "key = _secret(entry, unseal) if _is_as_asked(entry) else None",
        "key = _secret(entry, unseal)",
        "journal/test_rows.py::test_a_key_that_is_not_as_asked_for_is_not_exported",
    ),
    Break(
        "cli/journal/export.py",
        "to.refuse_pipe()",
        "pass",
        "cli/test_journal.py::test_secrets_go_into_a_pipe_only_when_asked_for",
    ),
    Break(
        "cli/journal/command.py",
        "return IN_DOUBT if doubts else DONE",
        "return DONE",
        "cli/test_journal.py::test_the_status_of_a_journal_in_doubt_exits_with_5",
    ),
    Break(
        "cli/options/connection.py",
        "raise CommandError(message, AUTHENTICATION)",
        "raise CommandError(message)",
        "cli/test_keys.py::test_no_key_a_wrong_one_and_one_that_may_not_end_with_4",
    ),
    Break(
        "cli/options/selection.py",
        "include_disabled=disabled or self.all,",
        "include_disabled=True,",
        "cli/test_keys.py::test_list_leaves_disabled_and_expired_keys_out_until_they_are_asked_for",
    ),
    Break(
        "cli/secrets/sinks.py",
        "mode: int = 0o600",
        "mode: int = 0o644",
        "cli/test_rescue.py::test_the_secrets_of_a_lost_journal_are_in_a_private_file_beside_it",
    ),
    Break(
        "cli/runs/outcome.py",
        "if self.is_doubtful:",
        "if False:",
        "cli/test_provision.py::test_a_service_that_goes_away_leaves_doubts_and_exits_with_5",
    ),
    Break(
        "cli/runs/options.py",
        "if totals.total <= bound:",
        "if True:",
        "cli/test_provision.py::test_a_total_beyond_the_bound_is_refused_before_anything_is_sent",
    ),
    Break(
        "cli/runs/results.py",
        'del line["key"]',
        "pass",
        "cli/test_provision.py::test_lines_on_standard_output_have_secrets_only_if_asked_for",
    ),
    Break(
        "cli/provision/command.py",
        "if bounds.no_store_secrets and not to.hands_over:",
        "if False:",
        "cli/test_provision.py::test_what_makes_no_sense_is_refused_before_anything_is_sent",
    ),
    Break(
        "cli/provision/command.py",
        "if plan:",
        "if False:",
        "cli/test_provision_plan.py::test_a_plan_sums_limits_up_and_creates_nothing",
    ),
    Break(
        "cli/provision/plan_view.py",
        "return DONE if plan.first_changed is None else FAILED",
        "return DONE",
        "cli/test_provision_plan.py::test_a_row_that_changed_is_told_and_exits_with_1",
    ),
    Break(
        "cli/rotate/command.py",
        "if finish and status:",
        "if False:",
        "cli/test_rotate.py::test_what_makes_no_sense_is_refused_before_anything_is_sent",
    ),
    Break(
        "cli/rotate/retire.py",
        'confirm(f"delete {_named(due)} for good, {where}", yes=request.yes)',
        "pass",
        "cli/test_rotate.py::test_finish_shows_what_it_would_delete_and_deletes_nothing_without_a_yes",
    ),
    Break(
        "cli/rotate/view.py",
        "in_doubt=report.in_doubt or unproven)",
        "in_doubt=False)",
        "cli/test_rotate.py::test_what_is_in_doubt_ends_with_5",
    ),
    Break(
        "cli/usage/page_file.py",
        "os.chmod(new, mode)",
        "pass",
        "cli/test_files.py::test_a_page_has_the_mode_of_what_it_replaces",
    ),
    Break(
        "cli/usage/command.py",
        "return _alarm(spendings) if fail_near else DONE",
        "return DONE",
        "cli/test_usage.py::test_fail_near_is_an_alarm_for_working_keys",
    ),
    Break(
        "cli/usage/spending.py",
        "name=scrub(key.name),",
        "name=key.name,",
        "cli/test_odd_records.py::test_no_record_puts_a_secret_into_a_pipe",
    ),
    Break(
        "cli/usage/page.py",
        "return escape(printable(text))",
        "return text",
        "cli/test_usage_page.py::test_foreign_text_is_shown_as_the_text_that_it_is",
    ),
    Break(
        "cli/demo/transcript.py",
        "return FAILED if self.failed else 0",
        "return 0",
        "cli/test_demo.py::test_a_check_that_fails_is_told_and_is_the_exit_code",
    ),
    Break(
        "cli/demo/command.py",
        "for workspace_id in named - account.workspaces.keys():",
        "for workspace_id in ():",
        "cli/test_demo.py::test_a_workspace_that_a_row_names_is_made_and_listed",
    ),
    Break(
        "emulator/app.py",
        'return host == "localhost" or ip_address(host).is_loopback',
        "return True",
        "emulator/test_app.py::test_an_address_that_others_reach_must_be_allowed_in_so_many_words",
    ),
    Break(
        "emulator/exchange.py",
        "if manages:",
        "if True:",
        "emulator/test_bounds.py::test_nothing_of_a_body_is_kept_without_the_management_key",
    ),
    Break(
        "emulator/ledger.py",
        "while held > book.ledger_bytes and dropped < len(requests):",
        "while False:",
        "emulator/test_bounds.py::test_the_ledger_drops_the_oldest_until_the_rest_fits",
    ),
    Break(
        "emulator/serving.py",
        "if len(self.connections) > self._bounds.connections:",
        "if False:",
        "emulator/test_bounds.py::test_the_connection_that_is_idle_for_longest_makes_room",
    ),
    Break(
        "emulator/schedule.py",
        "if len(lengths) > _MOST or sum(lengths) > most_bytes:",
        "if False:",
        "emulator/test_bounds.py::test_too_many_faults_are_refused_and_none_is_changed",
    ),
    Break(
        "emulator/guard.py",
        'foreign = origin is not None and origin.partition("://")[2] != named',
        "foreign = False",
        "emulator/test_page.py::test_what_another_site_may_be_behind_is_turned_away",
    ),
    Break(
        "emulator/control.py",
        "emulator.account.require_management(bearer(secret))",
        "pass",
        "emulator/test_control.py::test_only_the_management_key_controls",
    ),
    Break(
        "emulator/store.py",
        "path.chmod(0o600)",
        "path.chmod(0o644)",
        "emulator/test_store.py::test_nobody_else_may_read_the_file",
    ),
    Break(
        "emulator/faults.py",
        'return fault is None or fault.phase == "after" or fault.kind in {"late", "slow"}',
        "return True",
        "emulator/test_faults.py::test_a_fault_spoils_the_answer_and_applies_the_request_only_in_its_after_phase",
    ),
)


if __name__ == "__main__":
    sys.exit(main())
