"""An opened TIFF into one that Pillow decodes as a viewer would, or into the reason why it cannot."""

from __future__ import annotations

from typing import IO, Any

from deepterms.optional import require

with require("pillow", "features"):
    import PIL
    from PIL import ImageFile, ImagePalette, TiffImagePlugin

__all__ = ["UnsupportedTiff", "describe_layout", "prepare_tiff"]

_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 254, 256, 257, 258, 259, 262, 277
_PLANAR, _COLOUR_MAP, _SUB_IFDS, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBSAMPLING = 284, 320, 330, 338, 339, 530
_DNG_VERSION = 0xC612
_MIN_IS_WHITE, _YCBCR = 0, 6
_PHOTOMETRICS = ("grey, 0 is white", "grey", "RGB", "palette", "mask", "CMYK", "YCbCr", "", "CIELab", "ICC Lab")
_NATIVE_ORDER = {"F;32BF": "F;32NF", "I;16BS": "I;16NS", "I;32BS": "I;32NS"}  # how Pillow names byte orders
_SAMPLE_FORMATS = {1: "unsigned integer", 2: "signed integer", 3: "floating-point"}


class UnsupportedTiff(Exception):
    """The message names what is not supported."""


def prepare_tiff(image: ImageFile.ImageFile) -> None:
    """Correct how Pillow is about to decode a TIFF, before its pixels are loaded.

    Raises:
        UnsupportedTiff: Pillow would decode something other than the picture.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2
    has_larger_version = int(tags.get(_SUBFILE_TYPE, 0)) & 1 and (_SUB_IFDS in tags or tags.next)
    if _DNG_VERSION in tags or has_larger_version:
        raise UnsupportedTiff(
            "its first page is only a small preview, as in the raw files of cameras; export it as JPEG or TIFF"
        )
    formats, bits = tags.get(_SAMPLE_FORMAT, (1,)), tags.get(_BITS, (1,))
    if set(formats) == {2} and set(bits) == {8}:
        raise UnsupportedTiff("TIFF with signed 8-bit samples is not supported; convert it to unsigned ones")
    if image.mode == "F" and tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE:  # programs disagree on what it shows
        raise UnsupportedTiff("TIFF with floating-point samples where 0 is white is not supported; invert it")
    if image.mode in ("P", "PA"):
        _correct_palette(image, tags[_COLOUR_MAP])
    _choose_decoder(image, bits)


def _correct_palette(image: TiffImagePlugin.TiffImageFile, colours: tuple[int, ...]) -> None:
    """Read a palette of 8-bit values, which some programs write and libtiff accepts; the standard demands 16 bits."""
    if colours and max(colours) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(colours))


def _choose_decoder(image: TiffImagePlugin.TiffImageFile, bits: tuple[int, ...]) -> None:
    """Decode with libtiff where Pillow's own decoder fails, and read what libtiff returns in the right byte order.

    Pillow's decoder of uncompressed strips reads separate 16-bit or premultiplied channels, and subsampled YCbCr, as
    noise. From libtiff, which returns samples in the byte order of the machine, Pillow reads signed integers and floats
    in that of the file.
    """
    tags = image.tag_v2
    mode, arguments = image.mode, image.tile[0][3]
    if image.use_load_libtiff:
        if not isinstance(arguments, tuple) or arguments[0] not in _NATIVE_ORDER:
            return
        arguments = (_NATIVE_ORDER[arguments[0]], *arguments[1:])
    elif tags.get(_PHOTOMETRIC) == _YCBCR and len(bits) > 1 and tuple(tags.get(_SUBSAMPLING, (2, 2))) != (1, 1):
        mode, arguments = "RGB", _libtiff_arguments("RGBX", tags.offset)
    elif tags.get(_PLANAR, 1) == 2 and len(bits) > 1 and (max(bits) > 8 or 1 in tags.get(_EXTRA_SAMPLES, ())):
        rawmode = mode.replace("RGBA", "RGBa") if 1 in tags.get(_EXTRA_SAMPLES, ()) else mode
        arguments = _libtiff_arguments(rawmode + (";16N" if max(bits) > 8 else ""), tags.offset)
    else:
        return
    image._mode, image.use_load_libtiff = mode, True
    tile: Any = ("libtiff", (0, 0, tags[_WIDTH], tags[_HEIGHT]), 0, arguments)
    image.tile = [ImageFile._Tile(*tile) if hasattr(ImageFile, "_Tile") else tile]  # a plain tuple before Pillow 11


def _libtiff_arguments(rawmode: str, offset: int | None) -> tuple[Any, ...]:
    """Build the arguments of the decoder; Pillow before 13 also passes the name of the compression."""
    return (rawmode, *(["raw"] if int(PIL.__version__.split(".")[0]) < 13 else []), False, offset)


def describe_layout(file: IO[bytes]) -> str:
    """Describe how a TIFF that Pillow cannot open stores its pixels, as in "3 x 32-bit floating-point samples, RGB"."""
    file.seek(0)
    header = file.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(header + (file.read(8) if header[2] == 43 else b""))
    file.seek(tags.next)
    tags.load(file)
    bits = tags.get(_BITS, (1,))
    kind = _SAMPLE_FORMATS.get(tags.get(_SAMPLE_FORMAT, (1,))[0], "complex")
    number = int(tags.get(_PHOTOMETRIC, 0))
    colours = _PHOTOMETRICS[number] if number < len(_PHOTOMETRICS) else f"photometric {number}"
    samples = tags.get(_SAMPLES, len(bits))
    return f"{samples} x {max(bits)}-bit {kind} samples, {colours}, compression {tags.get(_COMPRESSION, 1)}"
