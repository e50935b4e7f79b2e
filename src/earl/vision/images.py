"""Image files opened as RGB, and the two rules by which they are resized.

Whatever comes in (phone photographs lying on their side, cut-outs with alpha, palettes, CMYK,
16 bits a channel, colours in a profile of their own) goes on as `PIL.Image` in mode RGB, sRGB.
No torch here.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from earl.errors import ImageError
from earl.files import check_ends, files_below
from earl.records import Grid, SizeRule

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | Array"
"""A path, the bytes of an image file, a PIL image, or an array (see `open_image`)."""

SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".gif",
    ".avif",
)  # looked for in folders
CELL = 8  # pixels per image code, each way
MAX_ASPECT = 5.0  # longer side over shorter side; the release's own limit
MAX_PIXELS = 100_000_000  # decoding more takes gigabytes
MAX_BYTES = 512 * 2**20  # of an image file
_USUAL = ("JPEG", "PNG", "GIF", "BMP", "PPM")
_RARER = ("WEBP", "TIFF", "MPO", "AVIF", "JPEG2000", "ICO", "TGA")
_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
_PROFILED_MODES = ("RGB", "RGBA", "L", "LA", "P", "PA", "CMYK")  # 8 bits a channel
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # a profile's colour space -> the mode of its pixels


def open_image(source: ImageSource) -> Image.Image:
    """Read an image as a person sees it: upright, opaque (alpha over white), sRGB, 8 bits.

    An embedded colour profile (ICC) is applied, and is not kept; a broken one, one that does not fit
    the pixels, or one of an image with more than 8 bits is ignored.

    Only raster formats are opened (PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, AVIF, JPEG 2000, ICO, TGA),
    whatever a file is called: others can start programs, as PostScript does.

    Args:
        source: a path, the bytes of an image file, or a PIL image (which is not changed). Of an
            animation the first frame is taken. Also a numpy array (H, W), (H, W, 1), (H, W, 3) or
            (H, W, 4), or a torch tensor (C, H, W): uint8 in [0, 255], or float in [0, 1].

    Returns:
        PIL.Image.Image in mode RGB, fully decoded.

    Raises:
        ImageError: missing, not an image, damaged or cut short, empty, over 100 megapixels or 512 MiB.
    """
    if isinstance(source, Image.Image):
        return _convert(source, "the image")
    if hasattr(source, "__array__"):
        return _convert(_from_array(source), "the array")
    return open_file(*read_source(source))


def open_file(name: str, data: bytes) -> Image.Image:
    """The same of an image file's bytes, under a name for the errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own limits and sentences are below
        try:
            image = open_raster(data)
        except Image.DecompressionBombError as error:
            raise ImageError(
                f"{name} has far too many pixels (limit {MAX_PIXELS:,}); scale it down"
            ) from error
        except UnidentifiedImageError as error:
            raise ImageError(f"{name} is not an image that can be read; give a PNG, JPEG or WebP") from error
        except Exception as error:  # decoders fail in many ways, and all mean the same to a user
            raise ImageError(f"{name} is damaged or cut short ({error}); give an intact image") from error
        return _convert(image, name)


def open_raster(data: bytes) -> Image.Image:
    """An image file's bytes as Pillow opens them, if they are of a raster format; not decoded yet.

    Raises:
        PIL.UnidentifiedImageError, and whatever else Pillow raises for damaged files.
    """
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _silence_libtiff()
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X" and len(data) > 20 and data[20] & 2:
        # Of an animation: with alpha, so that what its first frame does not cover is clear, not black.
        data = data[:20] + bytes([data[20] | 16]) + data[21:]
    try:
        return Image.open(io.BytesIO(data), formats=_USUAL)
    except UnidentifiedImageError:
        Image.init()
        return Image.open(io.BytesIO(data), formats=[name for name in _RARER if name in Image.OPEN])


def image_files(folder: Path) -> list[Path]:
    """Image files of a folder and below it, in order; links are followed, hidden names left out."""
    return [path for path in files_below(folder) if path.suffix.lower() in SUFFIXES]


@cache
def _silence_libtiff() -> None:
    """libtiff writes what it thinks of a damaged file to the terminal; we say it in one sentence."""
    import ctypes

    home = Path(Image.__file__).parent
    for path in (*home.parent.glob("pillow.libs/libtiff*"), *home.glob(".dylibs/libtiff*")):
        try:
            library = ctypes.CDLL(str(path))
            for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
                setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
                setter(None)
        except (OSError, AttributeError):  # another build of Pillow: then its words are seen
            continue


def target_size(width: int, height: int, area: int, rule: SizeRule = "snap") -> tuple[int, int]:
    """The size at which an image of `width` x `height` pixels is tokenised.

    The size of `area` pixels with the image's own aspect ratio: its sides rounded to multiples of 8
    ("snap"), or to whole pixels ("release": `int(round(side * sqrt(area / (width * height))))`).

    Args:
        width, height: pixels, at least 1.
        area: pixels², at least 64.
        rule: the model's own, "snap" or "release".

    Returns:
        (width, height) in pixels, each at least 8. The grid is `grid_of` it.

    Raises:
        ImageError: an empty image, an area under one cell, and with "snap" an aspect ratio past 5:1.

    Source: the release's training data (arXiv 2508.01119); 4:3 gives 27 x 37 cells at 65,536 px².
    """
    if width < 1 or height < 1:
        raise ImageError(f"an image of {width}x{height} pixels is empty; give one with pixels")
    if area < CELL * CELL:
        raise ImageError(f"an area of {area} px² is below one cell of {CELL}x{CELL} pixels; give 64 or more")
    scale = math.sqrt(area / (width * height))
    if rule == "release":
        sides = round(width * scale), round(height * scale)
        if min(sides) >= CELL:
            return sides
        raise ImageError(f"an image of {width}x{height} pixels leaves less than one cell across; crop it")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"an image of {width}x{height} pixels is more than {MAX_ASPECT:g} times as long as wide; crop it"
        )
    return _to_cells(width * scale), _to_cells(height * scale)


def square_side(area: int) -> int:
    """px, side of the square of about this area that cells fill."""
    return round(math.sqrt(area) / CELL) * CELL


def grid_of(size: tuple[int, int]) -> Grid:
    """The grid of an image of (width, height) pixels: whole cells only, as the encoder makes them."""
    return Grid(size[1] // CELL, size[0] // CELL)


def resize_to(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Bicubic with antialiasing, as the release; the image itself where it has the size already."""
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def resize_pair(
    source: Image.Image, target: Image.Image, area: int, rule: SizeRule = "snap"
) -> tuple[Image.Image, Image.Image]:
    """Source and target of an edit, resized so that they have equal grids.

    Both at the size that the source gets; with "release" the target keeps its own where its grid is the same.

    Raises:
        ImageError: as `target_size`, of the source.
    """
    size = target_size(*source.size, area, rule)
    own = size
    if rule == "release":
        own = target_size(*target.size, area, rule)
        own = own if grid_of(own) == grid_of(size) else size
    return resize_to(source, size), resize_to(target, own)


def _to_cells(side: float) -> int:
    return max(1, math.floor(side / CELL + 0.5)) * CELL


def read_source(source: ImageSource) -> tuple[str, bytes]:
    """A name for messages, and the file's bytes."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, data = "the image", bytes(source)
    elif isinstance(source, (str, os.PathLike)):
        name = str(source).encode("utf-8", "backslashreplace").decode()
        try:
            path = Path(source).expanduser()
            check_ends(path, error=ImageError)
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except ImageError:
            raise
        except FileNotFoundError as error:
            raise ImageError(f"there is no image at {name}; check the path") from error
        except IsADirectoryError as error:
            raise ImageError(f"{name} is a folder; give the path of one image") from error
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: no such user
            why = getattr(error, "strerror", None) or error
            raise ImageError(
                f"{name[:200]} cannot be read ({why}); check the path and its permissions"
            ) from error
    else:
        raise ImageError(f"expected a path, bytes or a PIL image, got {type(source).__name__}")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} has more than {MAX_BYTES:,} bytes; give a smaller image")
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); give an intact image")
    return name, data


class Array(Protocol):
    """Anything that numpy can read: an array, or a torch tensor on the CPU."""

    def __array__(self, dtype: Any = None) -> NDArray[Any]: ...


def _from_array(source: Any) -> Image.Image:
    """A PIL image of an array or tensor. Raises ImageError for other shapes, types or ranges."""
    is_tensor = type(source).__module__.partition(".")[0] == "torch"
    values = np.asarray(source.detach().cpu().float() if is_tensor and source.is_floating_point() else source)
    if is_tensor and values.ndim == 3:
        values = values.transpose(1, 2, 0)
    if (
        values.ndim not in (2, 3)
        or 0 in values.shape
        or (values.ndim == 3 and values.shape[2] not in (1, 3, 4))
    ):
        raise ImageError(
            f"an array of shape {values.shape} is no image; expected (height, width, 3), of a tensor "
            "(3, height, width)"
        )
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise ImageError("a float array has values outside [0, 1]; scale it, or give uint8 in [0, 255]")
        values = np.rint(values * 255).astype(np.uint8)
    if values.dtype != np.uint8:
        raise ImageError(f"an array of {values.dtype} is no image; expected uint8, or float in [0, 1]")
    return Image.fromarray(values[..., 0] if values.shape[2:] == (1,) else values)


def _convert(image: Image.Image, name: str) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name} has {width}x{height} pixels (limit {MAX_PIXELS:,}); scale it down")
    if width < 1 or height < 1:
        raise ImageError(f"{name} is empty ({width}x{height} pixels); give one with pixels")
    try:
        tiles = list(getattr(image, "tile", ()))
        deep = any("16" in str(tile) for tile in tiles)
        image.load()
        if image.format == "GIF" and tiles and tiles[0][1] != (0, 0, *image.size):
            image = _only(image, tiles[0][1])
        if deep:
            _narrow_transparency(image)
        flat = _flatten(_to_srgb(upright(image)))
    except ImageError as error:
        raise ImageError(f"{name} {error}") from error
    except Exception as error:  # decoders fail in many ways, and all mean the same to a user
        raise ImageError(f"{name} is damaged or cut short ({error}); give an intact image") from error
    flat.info.pop("icc_profile", None)  # it has been applied; twice would be wrong
    return flat


def _only(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """An image that is clear outside of a box, as the canvas that a GIF's first frame does not cover."""
    clear = Image.new("RGBA", image.size)
    clear.paste(image.convert("RGBA").crop(box), box)
    return clear


def _to_srgb(image: Image.Image) -> Image.Image:
    """Colours as the embedded profile means them; the image itself where there is none that is of use."""
    data = image.info.get("icc_profile")
    if not data or image.mode not in _PROFILED_MODES:
        return image
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if ImageCms.getProfileDescription(profile).strip().startswith("sRGB"):
            return image  # exactly as it is: a conversion would round
        solid, alpha = _apart(image)
        space = _SPACES[profile.profile.xcolor_space.strip()]
        if solid.mode == "L" and space == "RGB":
            solid = solid.convert("RGB")
        if solid.mode != space:
            return image
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(solid, profile, target, outputMode="RGB")
    except Exception:  # the many ways in which a profile can be broken
        return image
    assert converted is not None, "only a conversion in place gives nothing"
    if alpha is not None:
        converted.putalpha(alpha)
    converted.info.pop("transparency", None)
    return converted


def _apart(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours (L, RGB or CMYK), and the alpha channel where there is one."""
    clear = image.mode in _ALPHA_MODES or "transparency" in image.info
    if clear and image.mode not in ("L", "LA"):
        image = image.convert("RGBA")
        return image.convert("RGB"), image.getchannel("A")
    if clear:
        image = image.convert("LA")
        return image.convert("L"), image.getchannel("A")
    return (image.convert("RGB"), None) if image.mode == "P" else (image, None)


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says. Damaged EXIF says nothing, and the pixels are still good."""
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # the many ways in which metadata can be broken
        return image
    return ImageOps.exif_transpose(image) if orientation in range(2, 9) else image


def _narrow_transparency(image: Image.Image) -> None:
    """The transparent colour of 16-bit RGB, in the 8 bits that Pillow keeps of each channel."""
    colour = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(colour, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in colour)


def _flatten(image: Image.Image) -> Image.Image:
    """Any mode to RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if image.mode == "F" or image.mode.startswith("I"):
        levels_HW, clear = np.asarray(image), image.info.get("transparency")
        grey = _from_wide(levels_HW)
        if isinstance(clear, int):
            grey.paste(255, mask=Image.fromarray(levels_HW == clear))
        return grey.convert("RGB")
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        image = image.convert("LA") if image.mode == "La" else image
        pixels = image.convert("RGBA")
        white = Image.new("RGBA", pixels.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, pixels).convert("RGB")
    return image.convert("RGB")


def _from_wide(values_HW: np.ndarray) -> Image.Image:
    """Grey of more than 8 bits to 8: by the format's range where it has one, else by what is there.

    Unsigned 16-bit spans 0-65535. Signed 32-bit and float have no range of their own: up to 1 (float
    only), 255 or 65535 is taken as the peak, whichever first holds all values. Floats may be above it
    by a quarter, as resampling makes them, and are cut; those that are not finite do not count.

    Raises:
        ImageError: no value is finite.
    """
    peak = 65535.0
    if values_HW.dtype.kind == "f":
        finite = values_HW[np.isfinite(values_HW)]
        if not finite.size:
            raise ImageError("holds no pixel with a value; give an intact image")
        highest = float(finite.max())
        peak = next((limit for limit in (1.0, 255.0, 65535.0) if highest <= 1.25 * limit), highest)
    elif values_HW.dtype.itemsize > 2 and int(values_HW.max()) <= 255:
        peak = 255.0
    grey = np.nan_to_num(values_HW.astype(np.float64)) * (255.0 / peak)
    return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8), mode="L")
