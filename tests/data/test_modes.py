"""Every mode that Pillow opens, in the formats that have it: shown as a viewer would, or refused by name."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sklearn.datasets import load_sample_images

from nni_autoformer import ConfigError
from nni_autoformer.data import open_data
from nni_autoformer.data.opening import open_image, orientation_of, to_mode

PIXELS = load_sample_images().images[0][100:124, 200:232]
"""A piece of a photograph, 24 x 32."""

PHOTO = Image.fromarray(PIXELS)
GREY = np.asarray(PHOTO.convert("L"))
DEEP = GREY.astype(np.uint16) * 256 + 77


def written(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(content, mode="RGB"):
    with open_image(io.BytesIO(content)) as image:
        return np.asarray(to_mode(image, mode))


def netpbm(head, pixels):
    return head.encode() + pixels.astype(">u2").tobytes()


SIXTEEN_BITS = {
    "png": written(Image.fromarray(DEEP), "PNG"),
    "tiff": written(Image.fromarray(DEEP), "TIFF"),
    "tiff, packed": written(Image.fromarray(DEEP), "TIFF", compression="tiff_lzw"),
    "tiff, big endian": written(Image.frombytes("I;16B", (32, 24), DEEP.astype(">u2").tobytes()), "TIFF"),
    "jpeg 2000": written(Image.fromarray(DEEP), "JPEG2000"),
    "pgm": netpbm("P5\n32 24\n65535\n", DEEP),
    "pgm, text": f"P2\n32 24\n65535\n{' '.join(map(str, DEEP.ravel()))}".encode(),
}


@pytest.mark.parametrize("kind", SIXTEEN_BITS)
def test_sixteen_bits_of_grey_keep_their_upper_eight(kind):
    assert np.array_equal(read(SIXTEEN_BITS[kind], "L"), GREY)
    assert np.array_equal(read(SIXTEEN_BITS[kind]), np.stack([GREY] * 3, -1))


def tiff(bits, photometric, data):
    """A TIFF file of one strip, in Intel's byte order."""
    tags = [(256, 3, 32), (257, 3, 24), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 134)]
    tags += [(277, 3, 1), (278, 3, 24), (279, 4, len(data)), (339, 3, 1)]
    entries = b"".join(
        tag.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + (1).to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for tag, kind, value in tags
    )
    start = b"II*\0" + (8).to_bytes(4, "little") + len(tags).to_bytes(2, "little") + entries + bytes(4)
    assert len(start) == 134
    return start + data


def test_white_as_zero_in_sixteen_bits_is_turned_over():
    assert np.array_equal(read(tiff(16, 0, (65535 - DEEP).astype("<u2").tobytes()), "L"), GREY)
    assert np.array_equal(read(tiff(8, 0, (255 - GREY).tobytes()), "L"), GREY)


def test_twelve_bits_are_twelve_bits():
    deep = GREY.astype(int) * 16 + 5
    even, odd = deep[:, ::2], deep[:, 1::2]
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], -1).astype(np.uint8)
    assert np.array_equal(read(tiff(12, 1, packed.tobytes()), "L"), GREY)


def test_a_pgm_of_twelve_bits_is_scaled():
    difference = read(netpbm("P5\n32 24\n4095\n", DEEP >> 4), "L").astype(int) - GREY
    assert abs(difference).max() <= 1


def test_sixteen_bits_of_colour_keep_their_upper_eight():
    deep = PIXELS.astype(np.uint16) * 256 + 99
    assert abs(read(netpbm("P6\n32 24\n65535\n", deep)).astype(int) - PIXELS).max() <= 1


PLAIN = {
    "jpeg, cmyk": (PHOTO.convert("CMYK"), "JPEG", {"quality": 100}),
    "tiff, cmyk": (PHOTO.convert("CMYK"), "TIFF", {}),
    "tiff, ycbcr": (PHOTO.convert("YCbCr"), "TIFF", {}),
    "png, palette": (PHOTO.quantize(255), "PNG", {}),
    "gif, palette": (PHOTO.quantize(255), "GIF", {}),
    "png, one bit": (PHOTO.convert("1"), "PNG", {}),
    "bmp, one bit": (PHOTO.convert("1"), "BMP", {}),
    "webp": (PHOTO, "WEBP", {"lossless": True}),
    "avif": (PHOTO, "AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    "pnm": (PHOTO, "PPM", {}),
}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_plain_modes_are_as_pillow_has_them(kind, mode):
    image, form, options = PLAIN[kind]
    expected = np.asarray(image.convert("RGB").convert(mode)).astype(int)
    difference = abs(read(written(image, form, **options), mode) - expected)
    assert np.quantile(difference, 0.9) <= 3 and difference.mean() < 2


ALPHA = np.zeros((24, 32), np.uint8)
ALPHA[:, 8:16], ALPHA[:, 16:] = 128, 255


def shown_on_white(pixels):
    share = ALPHA[..., None] / 255
    return pixels.reshape(24, 32, -1) * share + 255 * (1 - share)


def transparent_palette():
    image = PHOTO.quantize(200)
    image.info.pop("transparency", None)
    index = np.asarray(image)
    levels = bytes(np.random.default_rng(0).integers(0, 256, 200).tolist())
    colours = np.array(image.getpalette()).reshape(-1, 3)[index]
    share = np.frombuffer(levels, np.uint8)[index][..., None] / 255
    return written(image, "PNG", transparency=levels), colours * share + 255 * (1 - share)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_transparent_pixels_are_shown_on_white(form):
    image = PHOTO.copy()
    image.putalpha(Image.fromarray(ALPHA))
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    assert abs(read(written(image, form, **options)) - shown_on_white(PIXELS)).max() <= 1


def test_grey_with_alpha_and_palettes_with_alpha_too():
    image = Image.merge("LA", (PHOTO.convert("L"), Image.fromarray(ALPHA)))
    for form in ("PNG", "TIFF"):
        assert abs(read(written(image, form), "L") - shown_on_white(GREY)[..., 0]).max() <= 1
    content, expected = transparent_palette()
    assert abs(read(content) - expected).max() <= 1
    assert abs(read(content, "L") - expected @ [0.299, 0.587, 0.114]).max() <= 2


def test_a_transparent_colour_is_white_and_an_opaque_image_is_as_it_was():
    colour = tuple(int(value) for value in PIXELS[3, 4])
    expected = np.where((PIXELS - colour == 0).all(-1, keepdims=True), 255, PIXELS)
    assert np.array_equal(read(written(PHOTO, "PNG", transparency=colour)), expected)
    grey = np.where(np.equal(GREY, GREY[3, 4]), 255, GREY)
    assert np.array_equal(
        read(written(Image.fromarray(GREY), "PNG", transparency=int(GREY[3, 4])), "L"), grey
    )
    key = int(DEEP[3, 4])
    assert np.array_equal(read(written(Image.fromarray(DEEP), "PNG", transparency=key), "L"), grey)
    assert np.array_equal(read(written(PHOTO.convert("RGBA"), "PNG")), PIXELS)


REFUSED = {
    "mode is F: floating-point": written(Image.fromarray(GREY.astype(np.float32)), "TIFF"),
    "mode is I: whole numbers of 32 bits": written(Image.fromarray(GREY.astype(np.int32)), "TIFF"),
    "mode is LAB": written(Image.new("LAB", (8, 8), (100, 20, 30)), "TIFF"),
    "mode is F: ": b"Pf\n2 2\n-1.0\n" + np.ones(4, "<f4").tobytes(),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_has_no_agreed_meaning_is_refused_by_name(image_folder, words):
    (image_folder / "train" / "six" / "03.png").write_bytes(REFUSED[words])
    source = open_data("folder", image_folder).train
    position = source.identifiers.index("train/six/03.png")
    with pytest.raises(
        ConfigError, match=rf"train/six/03.png: the file cannot be read as an image \(its {words}"
    ):
        source.load(position)


def turned(orientation):
    """The photograph as a camera stores it that was held in one of eight ways."""
    undo = {
        1: lambda pixels: pixels,
        2: np.fliplr,
        3: lambda pixels: np.rot90(pixels, 2),
        4: np.flipud,
        5: lambda pixels: pixels.swapaxes(0, 1),
        6: lambda pixels: np.rot90(pixels, 1),
        7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
        8: lambda pixels: np.rot90(pixels, -1),
    }
    return Image.fromarray(np.ascontiguousarray(undo[orientation](PIXELS)))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    content = written(turned(orientation), form, exif=exif, **lossless.get(form, {}))
    found = read(content)
    assert found.shape == PIXELS.shape
    assert abs(found.astype(int) - PIXELS).mean() < {"JPEG": 3, "AVIF": 8}.get(form, 0.1)
    with open_image(io.BytesIO(content)) as image:
        assert orientation_of(image) == orientation


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0", b""]
)
def test_a_damaged_orientation_is_none(exif):
    assert read(written(PHOTO, "JPEG", exif=exif)).shape == PIXELS.shape


def test_the_first_of_several_frames_counts():
    frames = [turned(number) for number in (1, 3)]
    for form, options in (("GIF", {}), ("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        content = written(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert abs(read(content).astype(int) - PIXELS).mean() < 8
    with open_image(io.BytesIO(content)) as image:
        assert image.is_animated


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    "content",
    [POSTSCRIPT, b"\xc5\xd0\xd3\xc6" + bytes(28) + POSTSCRIPT, b"\0\0\1\0" + bytes(60), b"no image", b""],
    ids=["postscript", "dos postscript", "icon", "text", "empty"],
)
def test_other_formats_are_not_even_tried(image_folder, monkeypatch, content):
    def ghostscript(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.check_call", ghostscript)
    monkeypatch.setattr("subprocess.run", ghostscript)
    monkeypatch.setattr("subprocess.Popen", ghostscript)
    (image_folder / "train" / "one" / "00.png").write_bytes(content)
    with pytest.raises(ConfigError, match=r"one/00.png: .*its content is none of JPEG, PNG, GIF,"):
        open_data("folder", image_folder).train.load(0)


def bomb(kind):
    if kind == "png":
        content = bytearray(written(Image.new("L", (8, 8)), "PNG"))
        content[16:24] = (60_000).to_bytes(4, "big") * 2
        import zlib

        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
        return bytes(content)
    content = bytearray(written(Image.new("P", (8, 8)), "GIF"))
    content[6:10] = b"\xff\xff\xff\xff"
    return bytes(content)


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_a_decompression_bomb_is_a_sentence(image_folder, kind):
    (image_folder / "train" / "one" / "00.png").write_bytes(bomb(kind))
    with pytest.raises(ConfigError, match=r"one/00.png: .*DecompressionBombError"):
        open_data("folder", image_folder).train.load(0)


def test_text_of_a_png_may_turn_it():
    """An XMP packet says how the camera was held, where EXIF says nothing."""
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>')
    assert np.array_equal(read(written(turned(3), "PNG", pnginfo=info)), PIXELS)
