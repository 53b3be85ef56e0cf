"""Configs written before fields of strategies were renamed are understood as before."""

from __future__ import annotations

import dataclasses

import pytest

from raysal.config import choice
from raysal.former_names import HasFormerNames
from raysal.strategies import SELECTORS

FORMER = {
    "alfa_mix": {"limit": "max_candidates"},
    "bait": {"backward": "oversample"},
    "batch_bald": {"limit": "max_candidates"},
    "clue": {"limit": "max_candidates"},
    "drop_query": {"limit": "max_candidates"},
    "max_herding": {"limit": "max_candidates", "ground": "max_represented"},
    "probcover": {"limit": "max_candidates", "sample": "purity_sample"},
    "typiclust": {"sample": "max_candidates"},
    "u_herding": {"limit": "max_candidates", "ground": "max_represented"},
}
"""Names that were in use, by strategy: they are never given to other fields, and never taken away."""


@pytest.mark.parametrize(
    ("name", "former", "field"), [(n, *pair) for n, names in FORMER.items() for pair in names.items()]
)
def test_a_former_name_says_the_same_as_the_new_one(name, former, field):
    given, renamed = (choice({"name": name, key: 123}).build("select", SELECTORS) for key in (former, field))
    assert given == renamed
    assert getattr(given, field) == 123


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_a_former_name_belongs_to_a_field_and_is_none_itself(name):
    cls = SELECTORS[name]
    fields = {field.name for field in dataclasses.fields(cls)}
    former = cls.FORMER if isinstance(cls, HasFormerNames) else {}
    assert set(former.values()) <= fields
    assert not set(former) & fields
    assert former.items() >= FORMER.get(name, {}).items()


@pytest.mark.parametrize(("backward", "oversample"), [(True, 2.0), (False, 1.0)])
def test_bait_that_said_whether_it_prunes_says_how_much_it_picks(backward, oversample):
    selector = choice({"name": "bait", "backward": backward}).build("select", SELECTORS)
    assert selector == SELECTORS["bait"](oversample=oversample)
