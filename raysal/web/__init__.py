"""The page of a run: `raysal serve RUN`. docs/serve.md says what it does; `app` has its paths, `desk` its rules.

It needs the extra `serve` (starlette and uvicorn), which is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import names_on_use

if TYPE_CHECKING:
    from raysal.web.app import make_app
    from raysal.web.desk import Desk
    from raysal.web.server import serve

__all__ = ["Desk", "make_app", "serve"]

__getattr__ = names_on_use(
    __name__, {"Desk": "raysal.web.desk", "make_app": "raysal.web.app", "serve": "raysal.web.server"}
)
