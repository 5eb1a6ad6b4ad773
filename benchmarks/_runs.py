"""What scripts share whose runs take hours, are killed, and are resumed.

Each writes into a folder of its own: its settings, so that no other run is taken for
this one, and tables whose rows are written whole or not at all.
"""

import json
import math
from argparse import ArgumentTypeError
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from _report import write_text
from filelock import FileLock, Timeout

from skdistill.utils._differences import describe_difference
from skdistill.utils._files import check_writable

SETTINGS = "settings.json"


def whole(least=1):
    """Return a type of argparse: a whole number of at least so much."""

    def number(text):
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise ArgumentTypeError(f"expected a whole number from {least}; got {text}")
        return value

    return number


def positive(text):
    """Return a finite number above 0; a type of argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise ArgumentTypeError(f"expected a number above 0; got {text}")
    return value


@contextmanager
def own_folder(folder, parameter):
    """Make the folder of a run, and keep other processes out of it meanwhile."""
    try:
        check_writable(folder, parameter)
    except OSError as error:
        raise SystemExit(str(error)) from None
    lock = FileLock(folder / "running.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise SystemExit(f"{parameter}: another run writes to {folder}") from None
    try:
        yield
    finally:
        lock.release()


def check_settings(folder, settings, parameter="--out", name=SETTINGS):
    """Refuse a folder whose results were made with other settings."""
    stored = _stored(folder, name)
    differences = [
        describe_difference(key, stored[key], value)
        for key, value in _plain(settings).items()
        if key in stored and stored[key] != value
    ]
    if differences:
        raise SystemExit(
            f"{folder} holds a run with other settings ({'; '.join(differences)}); "
            f"give another folder as {parameter}, or delete this one"
        )


def store_settings(folder, settings, parameter="--out", name=SETTINGS):
    """Write the settings of a run, or refuse its folder, before the first result."""
    check_settings(folder, settings, parameter, name)
    known = _stored(folder, name) | _plain(settings)
    write_text(Path(folder) / name, json.dumps(known, indent=1) + "\n")


def _stored(folder, name):
    path = Path(folder) / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _plain(settings):
    """Return settings as JSON has them, for the comparison."""
    return json.loads(json.dumps(settings, default=str))


def read_rows(path, **options):
    """Return the rows of a table as dicts, none where it is not there."""
    if not path.exists():
        return []
    return pd.read_csv(path, **options).to_dict("records")


def write_rows(path, rows):
    """Write a table, of which a reader never meets half."""
    write_text(path, pd.DataFrame(rows).to_csv(index=False))
