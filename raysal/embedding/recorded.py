"""What a pool records of its source and its encoder: their names, fields and fingerprints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from raysal.config import Named
from raysal.embedding import ENCODERS
from raysal.embedding.base import Encoder
from raysal.embedding.devices import on_device
from raysal.embedding.precomputed import Precomputed
from raysal.embedding.stretch import Stretch
from raysal.errors import EncoderError, FingerprintMismatch
from raysal.pool import Manifest
from raysal.pool.layout import MANIFEST
from raysal.registry import Registry
from raysal.sources import SOURCES
from raysal.sources.base import UNLESS_DEFAULT, Source, VectorSource
from raysal.types import Metric


def encoder_for_source(encoder: Encoder, source: Source, device: str = "cpu") -> Encoder:
    """Fill in the fields of an encoder that the source and the job decide.

    Args:
        encoder: as the user asked for it.
        source: `precomputed` takes its length of a vector from it.
        device: replaces the encoder's own device unless it is "cpu".

    Returns:
        The encoder, or a changed copy of it.

    Raises:
        EncoderError: the encoder takes another kind of item than the source gives, or the source has no vector.
    """
    if encoder.modality != source.modality:
        raise EncoderError(
            encoder_fields(encoder)[0],
            f"takes {encoder.modality}s, the source gives {source.modality}s",
            "choose another encoder",
        )
    if isinstance(encoder, Precomputed) and encoder.dim == 0 and isinstance(source, VectorSource):
        dim = source.vector_dim()
        if dim == 0:
            raise EncoderError("precomputed", "the source has no vector of length 1 or more", "check the column")
        return dataclasses.replace(encoder, dim=dim)
    return encoder if device == "cpu" else on_device(encoder, device)


def manifest_for(
    source: Source,
    encoder: Encoder,
    dim: int,
    items: int,
    chunks: int,
    rows: int,
    metric: Metric,
    scale: float = 1.0,
    measures: tuple[str, ...] = (),
) -> Manifest:
    """The manifest of the pool that a source and an encoder make.

    Args:
        source: where the items come from.
        encoder: what makes their vectors.
        dim: length of a vector.
        items: items in the source's listing.
        chunks: chunks they are cut into.
        rows: items of a chunk.
        metric: what "near" means in the pool.
        scale: of the vectors.
        measures: names of what is measured of each item.

    Returns:
        The manifest; equal arguments give an equal one.
    """
    return Manifest(
        dim=dim,
        modality=source.modality,
        items=items,
        chunks=chunks,
        chunk_rows=rows,
        encoder=encoder_record(encoder),
        source=source_record(source),
        metric=metric,
        scale=scale,
        measures=measures,
    )


def encoder_record(encoder: Encoder) -> dict[str, Any]:
    """What a manifest says of an encoder."""
    name, fields = encoder_fields(encoder)
    record: dict[str, Any] = {
        "name": name,
        "config": fields,
        "fingerprint": encoder.fingerprint(),
        "preprocessing": dict(encoder.preprocessing()),
    }
    if isinstance(encoder, Precomputed) and not encoder.origin:
        record["space"] = "data"
    return record


def source_record(source: Source) -> dict[str, Any]:
    """What a manifest says of a source as it is now."""
    name, fields = source_fields(source)
    return {"name": name, "config": fields, "fingerprint": source.fingerprint()}


def encoder_fields(encoder: Encoder) -> tuple[str, dict[str, Any]]:
    """(name, recorded fields) of an encoder; its `arg` is in the name, after a colon."""
    name, fields = _name(encoder, ENCODERS), _fields(encoder)
    arg = fields.pop("arg", None)
    return f"{name}:{arg}" if arg else name, fields


def later_fields(part: Encoder | Source) -> dict[str, Any]:
    """{field: its default, as it would be recorded} of the fields of a part that are recorded where they differ."""
    fields = dataclasses.fields(part)  # type: ignore[arg-type]
    return {one.name: _recorded(one.default) for one in fields if one.metadata.get("record") == UNLESS_DEFAULT}


def source_fields(source: Source) -> tuple[str, dict[str, Any]]:
    """(name, recorded fields) of a source."""
    return _name(source, SOURCES), _fields(source)


def check_encoder(pool: Path, encoder: Encoder) -> None:
    """Refuse a pool that was begun by another encoder, where their names or fields differ.

    Args:
        pool: the pool directory, begun or not.
        encoder: what makes its vectors now.

    Raises:
        FingerprintMismatch: they differ; the error names the field.
        Damaged: the pool's manifest was altered.
    """
    if not (pool / MANIFEST).exists():
        return
    begun = Manifest.read(pool).encoder
    if begun["fingerprint"] != encoder.fingerprint():
        name, fields = encoder_fields(encoder)
        check_fields(pool, "encoder", begun, name, fields, "embed into another directory", later_fields(encoder))


def check_fields(
    pool: Path,
    what: str,
    recorded: Mapping[str, Any],
    name: str,
    config: Mapping[str, Any],
    fix: str,
    later: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Refuse a source or an encoder that is not the recorded one.

    Args:
        pool: the pool directory, for the error.
        what: "source" or "encoder".
        recorded: what the pool's manifest says of it.
        name: its name now.
        config: its fields now.
        fix: what an error says to do.
        later: the fields that are recorded where they do not have their default, with that; see `later_fields`.

    Raises:
        FingerprintMismatch: the name or a field differs; the error names it, and both values.
    """
    if name != recorded["name"]:
        raise FingerprintMismatch(pool, f"the {what}", str(recorded["name"]), name, fix)
    begun, now = ({**later, **fields} for fields in (recorded.get("config", {}), config))
    for field, value in json.loads(json.dumps(now)).items():  # the manifest holds tuples as lists
        if field in begun and (before := json.loads(json.dumps(begun[field]))) != value:
            raise FingerprintMismatch(pool, f"the {what}'s {field}", _text(before), _text(value), fix)


def places_of(source: Source) -> set[str]:
    """The recorded fields of a source that say where it is."""
    fields = dataclasses.fields(source)  # type: ignore[arg-type]
    return {field.name for field in fields if "Path" in str(field.type) and field.metadata.get("record", True)}


def recorded_places(config: Mapping[str, Any]) -> set[str]:
    """The paths and URLs that a source lists, of its recorded fields. To those of a pool, others may be added."""
    return {config.get("path", ""), *config.get("also", ())}


def with_absolute_paths(source: Source) -> Source:
    """The source with absolute paths: workers of a cluster have another working directory."""
    values = {field.name: getattr(source, field.name) for field in dataclasses.fields(source)}  # type: ignore[arg-type]
    paths = {name: path for name, value in values.items() if (path := _absolute(value)) is not value}
    if not paths:
        return source
    changed: Source = dataclasses.replace(source, **paths)  # type: ignore[type-var]
    return changed


def _absolute(value: Any) -> Any:
    """A path, or several, as absolute ones; anything else as it is."""
    if isinstance(value, tuple) and any(isinstance(one, Path) for one in value):
        return tuple(_absolute(one) for one in value)
    return value.absolute() if isinstance(value, Path) else value


def _name(part: object, registry: Registry[Any]) -> str:
    """The registered name of a part, or the name of its class."""
    return registry.name_of(part) or type(part).__name__


def _recorded(value: Any) -> Any:
    """A value of a field as a manifest holds it; a part inside by its name and its own fields."""
    if isinstance(value, Named):
        name, fields = encoder_fields(value.part)
        return {"name": name, **fields}
    if isinstance(value, tuple):
        return tuple(map(_recorded, value))
    if isinstance(value, Stretch):
        return value.record()
    return str(value) if isinstance(value, Path) else value


def _fields(part: Any) -> dict[str, Any]:
    """The recorded constructor fields of a part, as JSON-able values; later ones only where they were given."""
    return {
        field.name: _recorded(getattr(part, field.name))
        for field in dataclasses.fields(part)
        if (record := field.metadata.get("record", True))
        and not (record == UNLESS_DEFAULT and getattr(part, field.name) == field.default)
    }


def _text(value: Any) -> str:
    """A recorded value for people."""
    if isinstance(value, dict):
        return " ".join(
            [str(value.get("name", "")), *(f"{k}={_text(v)}" for k, v in sorted(value.items()) if k != "name")]
        )
    return "none" if value in (None, "", []) else str(value)
