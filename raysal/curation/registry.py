"""The steps of curation by name. To add one: a file with a class as `base` describes it, a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import Registry

if TYPE_CHECKING:
    from raysal.curation.base import Step

STEPS: Registry[type[Step]] = Registry(
    {
        "balance": "raysal.curation.steps.balance:Balance",
        "check": "raysal.curation.steps.check:Check",
        "core": "raysal.curation.steps.core:Core",
        "exact": "raysal.curation.steps.exact:Exact",
        "filter": "raysal.curation.steps.filter:Filter",
        "near": "raysal.curation.steps.near:Near",
    }
)
