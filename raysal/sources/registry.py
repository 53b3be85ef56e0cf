"""The sources by name. To add one, write its class as `base` says and add a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import Registry

if TYPE_CHECKING:
    from raysal.sources.base import Source

SOURCES: Registry[type[Source]] = Registry(
    {
        "array": "raysal.sources.array:Array",
        "boxes": "raysal.sources.boxes:Boxes",
        "cutouts": "raysal.sources.cutouts:Cutouts",
        "digits": "raysal.sources.digits:Digits",
        "fashion_mnist": "raysal.sources.fashion_mnist:FashionMnist",
        "fits": "raysal.sources.fits:Fits",
        "folder": "raysal.sources.folder:Folder",
        "hf": "raysal.sources.hf:SavedDataset",
        "lance": "raysal.sources.lance_table:LanceTable",
        "memory": "raysal.sources.memory:Memory",
        "npy": "raysal.sources.npy:Npy",
        "pages": "raysal.sources.pages:Pages",
        "sounds": "raysal.sources.sounds:Sounds",
        "table": "raysal.sources.table:Table",
        "text": "raysal.sources.text:Text",
        "webdataset": "raysal.sources.webdataset:WebDataset",
    }
)
