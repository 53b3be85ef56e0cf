"""One cell of `benchmarks.suite` in this process: `python -P -m benchmarks.suite_cell FUNCTION SETTING` prints JSON.

FUNCTION is module:function and SETTING the JSON of a `Setting`. It imports nothing that is not needed to begin: what a
command takes is counted from this process (`suite_rows_commands.command`), which has to stay small.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from benchmarks.suite_rows import CannotMeasure, Setting


def setting_of(text: str) -> Setting:
    given = json.loads(text)
    peers = given["peers_python"]
    return Setting(
        shared=Path(given["shared"]),
        own=Path(given["own"]),
        size=given["size"],
        peers_python=Path(peers) if peers else None,
    )


def main() -> None:
    module, _, name = sys.argv[1].partition(":")
    spec = find_spec("raysal")
    about = {"raysal": spec.origin if spec else None, "load": round(os.getloadavg()[0], 2)}
    try:
        numbers = getattr(import_module(module), name)(setting_of(sys.argv[2]))
    except CannotMeasure as error:
        print(json.dumps({**about, "reason": str(error)}))
    except Exception as error:
        import traceback

        traceback.print_exc()
        text = str(error).splitlines()
        print(json.dumps({**about, "reason": f"{type(error).__name__}: {text[0] if text else ''}"[:200]}))
    else:
        print(json.dumps({**about, "numbers": numbers}))


if __name__ == "__main__":
    main()
