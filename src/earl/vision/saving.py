"""Image files as bytes, with their provenance: which model, seed and instruction made them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngInfo


@dataclass(frozen=True, slots=True)
class Provenance:
    """Origin of an image: model, seed, instruction.

    Attributes:
        model: as it was named. Of an absolute path the last part alone is stored.
        seed: gives the image again.
        instructions: what was asked for, the whole chain. Their hash alone is stored, because the words may
            be private: SHA-256 of them in UTF-8, joined by line feeds.
    """

    model: str
    seed: int
    instructions: Sequence[str]

    def fields(self) -> dict[str, str]:
        """`Software` and `Description`, the latter one JSON object."""
        import earl

        model = Path(self.model).name if Path(self.model).is_absolute() else self.model
        words = "\n".join(self.instructions).encode("utf-8", "surrogatepass")
        made = {"model": model, "seed": self.seed, "instruction_sha256": hashlib.sha256(words).hexdigest()}
        return {"Software": f"edited by EARL {earl.__version__}", "Description": json.dumps(made)}


def encode_image(
    image: Image.Image, kind: str, *, quality: int = 95, provenance: Provenance | None = None
) -> bytes:
    """An image as the bytes of a file.

    Args:
        kind: as Pillow calls it: PNG, JPEG, WEBP, BMP, TIFF.
        quality: 0-100, of JPEG and WebP.
        provenance: stored as PNG text, or as EXIF of JPEG, WebP and TIFF; BMP has no place for it.
    """
    options: dict[str, Any] = {} if kind == "PNG" else {"quality": quality}
    if provenance is not None and kind == "PNG":
        options["pnginfo"] = PngInfo()
        for name, text in provenance.fields().items():
            options["pnginfo"].add_text(name, text)
    elif provenance is not None:
        fields = provenance.fields()
        options["exif"] = exif = Image.Exif()
        exif[Base.Software], exif[Base.ImageDescription] = fields["Software"], fields["Description"]
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
